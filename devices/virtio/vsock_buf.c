/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a connection that the host has not taken yet. The ring is mapped when the first byte
 * comes and unmapped when the last one went, so a connection that flows costs nothing and memory
 * goes back to the host at once, whatever the allocator thinks.
 *
 * System calls: mmap, munmap.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vsock_internal.h"

static void append(struct vsock_buf *b, const uint8_t *src, uint32_t len)
{
	uint32_t tail = (b->head + b->len) % b->size;
	uint32_t part = len < b->size - tail ? len : b->size - tail;

	memcpy(b->mem + tail, src, part);
	memcpy(b->mem, src + part, len - part);
	b->len += len;
}

int vsock_buf_put(struct vsock_buf *b, uint32_t size, const struct iovec *iov, unsigned n,
		  size_t skip)
{
	if (!b->mem) {
		void *mem =
		    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mem == MAP_FAILED)
			return -ENOMEM;
		*b = (struct vsock_buf){.mem = mem, .size = size};
	}
	for (unsigned i = 0; i < n; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		append(b, (const uint8_t *)iov[i].iov_base + skip, (uint32_t)(len - skip));
		skip = 0;
	}
	return 0;
}

unsigned vsock_buf_peek(const struct vsock_buf *b, struct iovec iov[2])
{
	uint32_t part = b->len < b->size - b->head ? b->len : b->size - b->head;

	if (b->len == 0)
		return 0;
	iov[0] = (struct iovec){b->mem + b->head, part};
	iov[1] = (struct iovec){b->mem, b->len - part};
	return part < b->len ? 2 : 1;
}

void vsock_buf_take(struct vsock_buf *b, uint32_t len)
{
	b->head = (b->head + len) % b->size;
	b->len -= len;
	if (b->len == 0)
		vsock_buf_drop(b);
}

void vsock_buf_drop(struct vsock_buf *b)
{
	if (b->mem)
		munmap(b->mem, b->size);
	*b = (struct vsock_buf){0};
}
