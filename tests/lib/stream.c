/* SPDX-License-Identifier: Apache-2.0 */
/* A program's output as it grows, and the clock. */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void stream_add(struct stream *s, const char *data, size_t len)
{
	if (s->len + len > STREAM_MAX)
		len = STREAM_MAX - s->len;
	if (s->len + len + 1 > s->cap) {
		size_t cap = (s->len + len + 1) * 2;
		char *grown = realloc(s->data, cap);

		if (!grown)
			return;
		s->data = grown;
		s->cap = cap;
	}
	memcpy(s->data + s->len, data, len);
	s->len += len;
	s->data[s->len] = '\0';
}

bool stream_read(struct stream *s)
{
	char buf[8192];
	ssize_t n;

	if (s->fd < 0)
		return false;
	n = read(s->fd, buf, sizeof(buf));
	if (n > 0) {
		stream_add(s, buf, (size_t)n);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(&s->fd);
	return false;
}
