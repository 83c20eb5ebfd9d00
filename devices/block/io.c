/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File transfers that finish, and image locks.
 *
 * preadv(2) and pwritev(2) may be interrupted, and may stop early (a signal, a full disk, the limit
 * of 2 GiB a call): both loops go on from where the kernel stopped until everything is there or an
 * error says why not.
 *
 * Locks are open-file-description locks (F_OFD_SETLK): they belong to the descriptor, not to the
 * process, so another part of the process that opens and closes the file does not drop them, and
 * they end with the process however it ends.
 *
 * Zeroes. What a file system or block device can do by itself differs, and so does how it says
 * that it cannot; the last resort is to write them.
 *
 * System calls: preadv, pwritev, fallocate, fcntl.
 */
#include "io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "minivm/block.h"

uint64_t block_iov_bytes(const struct iovec *iov, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

unsigned block_cursor_peek(const struct block_cursor *c, size_t len, struct iovec *out,
			   size_t *out_len)
{
	size_t skip = c->skip;
	unsigned n = 0;

	*out_len = 0;
	for (unsigned i = 0; i < c->n && n < BLOCK_IOV_MAX && *out_len < len; i++) {
		size_t part = c->iov[i].iov_len - skip;

		if (part > len - *out_len)
			part = len - *out_len;
		if (part > 0) {
			out[n].iov_base = (uint8_t *)c->iov[i].iov_base + skip;
			out[n].iov_len = part;
			n++;
		}
		*out_len += part;
		skip = 0;
	}
	return n;
}

void block_cursor_advance(struct block_cursor *c, size_t len)
{
	while (len > 0) {
		size_t part;

		assert(c->n > 0);
		part = c->iov->iov_len - c->skip;

		if (len < part) {
			c->skip += len;
			return;
		}
		len -= part;
		c->iov++;
		c->n--;
		c->skip = 0;
	}
}

typedef ssize_t transfer_fn(int fd, const struct iovec *iov, int n, off_t off);

static int transfer(transfer_fn *fn, int fd, struct block_cursor *c, size_t len, uint64_t off)
{
	struct iovec iov[BLOCK_IOV_MAX];

	while (len > 0) {
		size_t bytes;
		unsigned n = block_cursor_peek(c, len, iov, &bytes);
		ssize_t ret = fn(fd, iov, (int)n, (off_t)off);

		if (ret < 0 && errno == EINTR)
			continue;
		if (ret < 0)
			return -errno;
		if (ret == 0)
			return -EIO; /* the file has become shorter */
		block_cursor_advance(c, (size_t)ret);
		len -= (size_t)ret;
		off += (uint64_t)ret;
	}
	return 0;
}

int block_io_read(int fd, struct block_cursor *c, size_t len, uint64_t off)
{
	return transfer(preadv, fd, c, len, off);
}

int block_io_write(int fd, struct block_cursor *c, size_t len, uint64_t off)
{
	return transfer(pwritev, fd, c, len, off);
}

/* -EOPNOTSUPP also for a block device whose blocks are larger than the range's alignment. */
static int allocate(int fd, int mode, uint64_t off, uint64_t len)
{
	int ret;

	do
		ret = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	while (ret < 0 && errno == EINTR);
	if (ret == 0)
		return 0;
	return errno == EINVAL || errno == ENODEV || errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int block_io_punch(int fd, uint64_t off, uint64_t len)
{
	return allocate(fd, FALLOC_FL_PUNCH_HOLE, off, len);
}

static int write_zeroes(int fd, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[4096];
	struct iovec iov[BLOCK_IOV_MAX];
	int ret = 0;

	/* pwritev() does not write to them. */
	for (unsigned i = 0; i < BLOCK_IOV_MAX; i++)
		iov[i] = (struct iovec){(void *)(uintptr_t)zeroes, sizeof(zeroes)};
	while (ret == 0 && len > 0) {
		struct block_cursor c = {.iov = iov, .n = BLOCK_IOV_MAX};
		size_t part = len < sizeof(zeroes) * BLOCK_IOV_MAX ? (size_t)len
								   : sizeof(zeroes) * BLOCK_IOV_MAX;

		ret = block_io_write(fd, &c, part, off);
		off += part;
		len -= part;
	}
	return ret;
}

int block_io_zero(int fd, uint64_t off, uint64_t len, bool unmap)
{
	int ret = unmap ? block_io_punch(fd, off, len) : -EOPNOTSUPP;

	if (ret == -EOPNOTSUPP)
		ret = allocate(fd, FALLOC_FL_ZERO_RANGE, off, len);
	return ret == -EOPNOTSUPP ? write_zeroes(fd, off, len) : ret;
}

int block_io_lock(int fd, bool exclusive)
{
	struct flock lock = {
	    .l_type = exclusive ? F_WRLCK : F_RDLCK,
	    .l_whence = SEEK_SET, /* 0 to the end, however far that moves */
	};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}
