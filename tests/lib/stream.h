/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What run.c and proc.c share: a program's output as it grows, and the clock.
 */
#ifndef TEST_STREAM_H
#define TEST_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_MAX (4u << 20) /* kept of each stream; what comes behind is read and dropped */

struct stream {
	int fd;	    /* non-blocking; -1: closed */
	char *data; /* NUL-terminated; the owner frees it */
	size_t len;
	size_t cap;
};

void stream_add(struct stream *s, const char *data, size_t len);
/* Takes what is there. False when there is nothing more for now; closes fd at the end. */
bool stream_read(struct stream *s);

/* Closes *fd unless it is -1, and makes it that. */
void close_fd(int *fd);

uint64_t now_ms(void); /* CLOCK_MONOTONIC */

#endif
