/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between scattered and plain memory. The lengths were checked by vq_pop(). */
#include "minivm/iov.h"

#include <stdint.h>
#include <string.h>

void iov_gather(void *dst, const struct iovec *iov, size_t len)
{
	uint8_t *p = dst;

	for (; len > 0; iov++) {
		size_t part = iov->iov_len < len ? iov->iov_len : len;

		memcpy(p, iov->iov_base, part);
		p += part;
		len -= part;
	}
}

void iov_scatter(const struct iovec *iov, const void *src, size_t len)
{
	const uint8_t *p = src;

	for (; len > 0; iov++) {
		size_t part = iov->iov_len < len ? iov->iov_len : len;

		memcpy(iov->iov_base, p, part);
		p += part;
		len -= part;
	}
}

unsigned iov_cut(struct iovec *out, const struct iovec *iov, size_t off, size_t len)
{
	unsigned n = 0;

	for (; len > 0; iov++) {
		size_t part;

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		part = iov->iov_len - off;
		if (part > len)
			part = len;
		out[n].iov_base = (uint8_t *)iov->iov_base + off;
		out[n].iov_len = part;
		n++;
		off = 0;
		len -= part;
	}
	return n;
}
