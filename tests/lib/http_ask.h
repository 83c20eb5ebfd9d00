/* SPDX-License-Identifier: Apache-2.0 */
/* One request to a control socket, on a connection of its own, and the whole answer as text. */
#ifndef TEST_HTTP_ASK_H
#define TEST_HTTP_ASK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* False: nobody listens there. No answer within `seconds`: "". */
static inline bool http_ask(const char *path, const char *method, const char *target,
			    const char *body, unsigned seconds, char *answer, size_t size)
{
	const struct timeval tv = {.tv_sec = seconds};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t have = 0;
	bool there;
	ssize_t n;

	answer[0] = '\0';
	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	there = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
	if (there) {
		dprintf(fd, "%s %s HTTP/1.1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
			method, target, strlen(body), body);
		while ((n = recv(fd, answer + have, size - 1 - have, 0)) > 0)
			have += (size_t)n;
		answer[have] = '\0';
	}
	close(fd);
	return there;
}

#endif
