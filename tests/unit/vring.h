/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a split virtqueue for unit tests, over a piece of fake guest memory: written
 * after VIRTIO 1.2 §2.7, without any of the code under test.
 */
#ifndef TESTS_VRING_H
#define TESTS_VRING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "minivm/memory.h"
#include "minivm/virtqueue.h"

#define RING_RAM     (4u << 20)
#define RING_DESC    0x1000u
#define RING_AVAIL   0x3000u
#define RING_USED    0x4000u
#define RING_TABLES  0x10000u /* for indirect tables */
#define RING_BUFFERS 0x100000u

#define D_NEXT	   1u
#define D_WRITE	   2u
#define D_INDIRECT 4u

struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct ring {
	struct guest_mem mem;
	uint16_t size;
	uint16_t avail_idx; /* what the driver has published */
	uint16_t used_seen;
};

static inline void ring_init(struct ring *r, uint16_t size)
{
	memset(r, 0, sizeof(*r));
	r->mem.count = 1;
	r->mem.region[0].len = RING_RAM;
	r->mem.region[0].host =
	    mmap(NULL, RING_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r->size = size;
}

static inline void ring_fini(struct ring *r)
{
	munmap(r->mem.region[0].host, RING_RAM);
}

static inline void *ring_at(struct ring *r, uint64_t gpa)
{
	return r->mem.region[0].host + gpa;
}

static inline uint16_t *ring_u16(struct ring *r, uint64_t gpa)
{
	return ring_at(r, gpa);
}

static inline struct vq_layout ring_layout(const struct ring *r)
{
	return (struct vq_layout){
	    .size = r->size,
	    .desc = GPA(RING_DESC),
	    .avail = GPA(RING_AVAIL),
	    .used = GPA(RING_USED),
	};
}

static inline void ring_desc_at(struct ring *r, uint64_t table, unsigned i, uint64_t addr,
				uint32_t len, unsigned flags, uint16_t next)
{
	struct ring_desc d = {.addr = addr, .len = len, .flags = (uint16_t)flags, .next = next};

	memcpy((uint8_t *)ring_at(r, table) + i * sizeof(d), &d, sizeof(d));
}

static inline void ring_set(struct ring *r, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
			    uint16_t next)
{
	ring_desc_at(r, RING_DESC, i, addr, len, flags, next);
}

/* Publishes a head; the release pairs with the device's acquire of the index. */
static inline void ring_offer(struct ring *r, uint16_t head)
{
	__atomic_store_n(ring_u16(r, RING_AVAIL + 4 + 2u * (r->avail_idx % r->size)), head,
			 __ATOMIC_RELAXED);
	r->avail_idx++;
	__atomic_store_n(ring_u16(r, RING_AVAIL + 2), r->avail_idx, __ATOMIC_RELEASE);
}

static inline void ring_avail_flags(struct ring *r, uint16_t flags)
{
	__atomic_store_n(ring_u16(r, RING_AVAIL), flags, __ATOMIC_RELAXED);
}

static inline void ring_used_event(struct ring *r, uint16_t event)
{
	__atomic_store_n(ring_u16(r, RING_AVAIL + 4 + 2u * r->size), event, __ATOMIC_RELAXED);
}

static inline uint16_t ring_used_flags(struct ring *r)
{
	return __atomic_load_n(ring_u16(r, RING_USED), __ATOMIC_RELAXED);
}

static inline uint16_t ring_avail_event(struct ring *r)
{
	return __atomic_load_n(ring_u16(r, RING_USED + 4 + 8u * r->size), __ATOMIC_RELAXED);
}

static inline uint16_t ring_used_idx(struct ring *r)
{
	return __atomic_load_n(ring_u16(r, RING_USED + 2), __ATOMIC_ACQUIRE);
}

/* The next used entry, if there is one. */
static inline bool ring_take(struct ring *r, uint32_t *id, uint32_t *len)
{
	uint32_t *e;

	if (ring_used_idx(r) == r->used_seen)
		return false;
	e = ring_at(r, RING_USED + 4 + 8u * (r->used_seen % r->size));
	*id = __atomic_load_n(&e[0], __ATOMIC_RELAXED);
	*len = __atomic_load_n(&e[1], __ATOMIC_RELAXED);
	r->used_seen++;
	return true;
}

#endif
