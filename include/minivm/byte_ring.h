/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in a ring of fixed size; one thread. */
#ifndef MINIVM_BYTE_RING_H
#define MINIVM_BYTE_RING_H

#include <stddef.h>
#include <stdint.h>

struct byte_ring {
	uint8_t *buf;
	size_t capacity; /* 0: no ring; it takes nothing */
	size_t head;
	size_t count;
};

/*
 * 0 or -ENOMEM. The memory is touched as far as it is used: a ring that becomes empty begins at its
 * start again. Ended with byte_ring_free(), which a zeroed ring needs not but stands.
 */
int byte_ring_init(struct byte_ring *r, size_t capacity);
void byte_ring_free(struct byte_ring *r);

static inline size_t byte_ring_room(const struct byte_ring *r)
{
	return r->capacity - r->count;
}

/* Puts in as much of `len` bytes as there is room for; returns how much. */
size_t byte_ring_put(struct byte_ring *r, const void *bytes, size_t len);
/* The oldest bytes in one piece, which may be fewer than there are. *len 0: the ring is empty. */
const uint8_t *byte_ring_front(const struct byte_ring *r, size_t *len);
/* Takes away the `len` oldest; at most `count`. */
void byte_ring_drop(struct byte_ring *r, size_t len);

#endif
