/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of a virtio-balloon device, and the statistics that it tells. */
#ifndef TESTS_BALLOON_DRIVER_H
#define TESTS_BALLOON_DRIVER_H

#include "minivm/virtio_balloon.h"
#include "vdriver.h"

#define F_STATS	     (1ull << 1)
#define STATS	     2
#define DATA	     RING_BUFFERS /* lists and statistics */
#define STAT_BYTES   10u	  /* §5.5.6.3: a tag and a value, packed */
#define DRIVER_RINGS 5

static struct vdriver drv;
static struct virtio_balloon *balloon;
static struct ring ring[DRIVER_RINGS];

static inline void make(uint64_t target, uint64_t stats_ns)
{
	struct virtio_balloon_options opt = {
	    .mem = &drv.ring.mem, .target = target, .stats_ns = stats_ns};
	struct err err = {0};

	cr_assert_eq(loop_new(&opt.loop, &err), 0);
	cr_assert_eq(virtio_balloon_new(&opt, &balloon, &err), 0);
	vdriver_init_on(&drv, &virtio_balloon_ops, balloon, 16, opt.loop);
}

static inline void start(uint64_t features)
{
	cr_assert(vdriver_negotiate(&drv, features));
	for (unsigned q = 0; q < DRIVER_RINGS; q++)
		vdriver_queue(&drv, q, 16, &ring[q]);
	vdriver_go(&drv);
	cr_assert_eq(rd(&drv, R_STATUS), 15);
}

static inline void kick(unsigned q)
{
	wr(&drv, R_QUEUE_NOTIFY, q);
	vdriver_settle(&drv);
}

static inline void put_stat(unsigned i, uint16_t tag, uint64_t value)
{
	uint8_t *p = (uint8_t *)ring_at(&drv.ring, DATA) + i * STAT_BYTES;

	memcpy(p, &tag, sizeof(tag));
	memcpy(p + sizeof(tag), &value, sizeof(value));
}

/* The first n that were put, in the queue's one buffer. */
static inline void tell_stats(unsigned n)
{
	ring_set(&ring[STATS], 0, DATA, n * STAT_BYTES, 0, 0);
	ring_offer(&ring[STATS], 0);
	kick(STATS);
}

#endif
