/* SPDX-License-Identifier: Apache-2.0 */
/* What tests read from the other end of a pipe, socket or terminal. */
#ifndef TEST_PIPES_H
#define TEST_PIPES_H

#include <poll.h>
#include <unistd.h>

/* As much as there is room for, until nothing has come for `ms` or the end: how much it was. */
static inline size_t pipe_read(int fd, char *buf, size_t len, int ms)
{
	size_t n = 0;

	while (n < len) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (poll(&pfd, 1, ms) != 1)
			break;
		got = read(fd, buf + n, len - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	return n;
}

/* Line ends in what is there now, of a pipe that does not block. */
static inline unsigned pipe_lines(int fd)
{
	char text[4096];
	ssize_t n = read(fd, text, sizeof(text));
	unsigned lines = 0;

	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	return lines;
}

#endif
