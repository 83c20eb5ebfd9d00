/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the back ends share: file transfers that finish, and image locks.
 */
#ifndef MINIVM_BLOCK_IO_H
#define MINIVM_BLOCK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A place in a list of buffers. */
struct block_cursor {
	const struct iovec *iov;
	unsigned n;  /* buffers left, the current one included */
	size_t skip; /* bytes of the current one that are done */
};

uint64_t block_iov_bytes(const struct iovec *iov, unsigned n);

/*
 * The next `len` bytes as a list of at most BLOCK_IOV_MAX buffers, the cursor stays. Returns the
 * number of buffers; *out_len is less than len only if they did not fit.
 */
unsigned block_cursor_peek(const struct block_cursor *c, size_t len, struct iovec *out,
			   size_t *out_len);
void block_cursor_advance(struct block_cursor *c, size_t len);

/*
 * Transfer `len` bytes between the cursor's buffers and the file at `off`, and advance. Interrupted
 * and short transfers are continued. 0 or -errno; -EIO for a read behind the end of the file.
 */
int block_io_read(int fd, struct block_cursor *c, size_t len, uint64_t off);
int block_io_write(int fd, struct block_cursor *c, size_t len, uint64_t off);

/*
 * [off, off + len), len not 0, becomes a hole: zeroes that take no space. -EOPNOTSUPP: there are
 * none here, and nothing was done; or -errno.
 */
int block_io_punch(int fd, uint64_t off, uint64_t len);
/* The range reads as zeroes: a hole if `unmap`, else with its space; written if need be. */
int block_io_zero(int fd, uint64_t off, uint64_t len, bool unmap);

/*
 * Locks the whole file for as long as the open file description lives: shared or exclusive, never
 * waiting. 0 or -errno, -EAGAIN if another one holds it.
 */
int block_io_lock(int fd, bool exclusive);

#endif
