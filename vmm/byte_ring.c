/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of bytes (minivm/byte_ring.h). */
#include "minivm/byte_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int byte_ring_init(struct byte_ring *r, size_t capacity)
{
	*r = (struct byte_ring){.buf = malloc(capacity), .capacity = capacity};
	if (r->buf)
		return 0;
	r->capacity = 0;
	return -ENOMEM;
}

void byte_ring_free(struct byte_ring *r)
{
	free(r->buf);
	*r = (struct byte_ring){0};
}

size_t byte_ring_put(struct byte_ring *r, const void *bytes, size_t len)
{
	const uint8_t *from = bytes;
	size_t room = byte_ring_room(r);
	size_t done = 0;

	if (len > room)
		len = room;
	while (done < len) {
		size_t at = (r->head + r->count) % r->capacity;
		size_t part = r->capacity - at;

		if (part > len - done)
			part = len - done;
		memcpy(r->buf + at, from + done, part);
		r->count += part;
		done += part;
	}
	return len;
}

const uint8_t *byte_ring_front(const struct byte_ring *r, size_t *len)
{
	size_t part = r->capacity - r->head;

	*len = part < r->count ? part : r->count;
	return r->buf + r->head;
}

void byte_ring_drop(struct byte_ring *r, size_t len)
{
	r->count -= len;
	r->head = r->count == 0 ? 0 : (r->head + len) % r->capacity;
}
