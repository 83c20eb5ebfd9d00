/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that lie in several buffers, as a virtqueue gives them (struct vq_chain). */
#ifndef MINIVM_IOV_H
#define MINIVM_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* Copies the first `len` bytes of the buffers, which hold that many; entries may be empty. */
void iov_gather(void *dst, const struct iovec *iov, size_t len);
/* Copies `len` bytes to the beginning of the buffers, which have that much room. */
void iov_scatter(const struct iovec *iov, const void *src, size_t len);

/*
 * Bytes [off, off + len) of the buffers, which hold them, as a list of its own without empty
 * entries. Returns its length, at most that of the list that it is cut from.
 */
unsigned iov_cut(struct iovec *out, const struct iovec *iov, size_t off, size_t len);

#endif
