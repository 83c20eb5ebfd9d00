/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that was handed to us (standard input or output) used without blocking, whatever it
 * is, and without changing how it behaves for the other processes that share it.
 */
#ifndef MINIVM_HOSTFD_H
#define MINIVM_HOSTFD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "minivm/err.h"

struct hostfd {
	int fd; /* our own, to be watched; -1 = none */
	bool socket;
	size_t bound; /* not 0: poll before each transfer, and move at most this much */
};

/* `fd` stays the caller's. -errno if it is not open. */
int hostfd_open(struct hostfd *h, int fd, bool output, struct err *err);
void hostfd_close(struct hostfd *h); /* once more, or with fd -1, is fine */

/* Like read(2) and write(2), but -errno; -EAGAIN where they would block. SIGPIPE must be ignored.
 */
ssize_t hostfd_read(const struct hostfd *h, void *buf, size_t len);
ssize_t hostfd_write(const struct hostfd *h, const void *buf, size_t len);

#endif
