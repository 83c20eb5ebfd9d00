/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several queues for vdriver.h: each is a ring like vdriver's own, in an area of guest memory of
 * its own, with a buffer for each of its descriptors.
 */
#ifndef TESTS_VQUEUES_H
#define TESTS_VQUEUES_H

#include "vdriver.h"

#define VQUEUES_MAX	  8u
#define VQUEUE_AREA	  0x40000u /* of guest memory, for each queue */
#define VQUEUE_BUFFER	  0x20000u /* in it */
#define VQUEUE_BUFFER_LEN 0x1000u

struct vqueues {
	struct vdriver *drv;
	struct ring ring[VQUEUES_MAX];
};

static inline uint64_t vqueue_buffer(unsigned q, unsigned i)
{
	return (uint64_t)q * VQUEUE_AREA + VQUEUE_BUFFER + i * VQUEUE_BUFFER_LEN;
}

static inline void *vqueue_buffer_at(struct vqueues *v, unsigned q, unsigned i)
{
	return ring_at(&v->drv->ring, vqueue_buffer(q, i));
}

/* The whole of §3.1.1 with queues 0 to `queues` - 1. */
static inline void vqueues_start(struct vqueues *v, struct vdriver *drv, uint64_t features,
				 unsigned queues)
{
	v->drv = drv;
	cr_assert(vdriver_negotiate(drv, features));
	for (unsigned q = 0; q < queues; q++) {
		uint64_t area = (uint64_t)q * VQUEUE_AREA;
		struct ring *r = &v->ring[q];
		struct vq_layout l;

		*r = drv->ring;
		r->mem.region[0].host += area;
		r->avail_idx = r->used_seen = 0;
		memset(ring_at(r, 0), 0, VQUEUE_BUFFER);
		l = ring_layout(r);
		l.desc.v += area;
		l.avail.v += area;
		l.used.v += area;
		vdriver_layout(drv, q, &l);
		wr(drv, R_QUEUE_READY, 1);
	}
	vdriver_go(drv);
}

static inline uint64_t vqueues_kicks(const struct vqueues *v)
{
	struct virtio_counters count;

	virtio_counters(v->drv->virtio, &count);
	return count.kicks;
}

/* A kick, served when this returns. */
static inline void vqueue_kick(struct vqueues *v, unsigned q)
{
	uint64_t before = vqueues_kicks(v);

	wr(v->drv, R_QUEUE_NOTIFY, q);
	for (unsigned i = 0; vqueues_kicks(v) == before && i < PATIENCE_MS; i++)
		usleep(1000);
	cr_assert_neq(vqueues_kicks(v), before, "queue %u: the kick was not noticed", q);
	loop_call(v->drv->loop, vdriver_nothing, NULL);
}

/* Buffer i as a chain of one descriptor, i; no kick. */
static inline void vqueue_offer(struct vqueues *v, unsigned q, unsigned i, uint32_t len,
				bool writable)
{
	ring_set(&v->ring[q], i, vqueue_buffer(q, i), len, writable ? D_WRITE : 0, 0);
	ring_offer(&v->ring[q], (uint16_t)i);
}

/* How many chains have come back since the last call. */
static inline unsigned vqueue_used(struct vqueues *v, unsigned q)
{
	uint32_t id, len;
	unsigned n = 0;

	while (ring_take(&v->ring[q], &id, &len))
		n++;
	return n;
}

#endif
