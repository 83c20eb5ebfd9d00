/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-mmio driver for unit tests (VIRTIO 1.2 §3.1, §4.2): it reaches the device through
 * io_ops as a vCPU would, while a thread of its own runs the device's loop.
 */
#ifndef TESTS_VDRIVER_H
#define TESTS_VDRIVER_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "minivm/virtio_mmio.h"
#include "vring.h"

#define R_MAGIC		  0x000
#define R_VERSION	  0x004
#define R_DEVICE_ID	  0x008
#define R_VENDOR_ID	  0x00c
#define R_DEVICE_FEATURES 0x010
#define R_DEVICE_SEL	  0x014
#define R_DRIVER_FEATURES 0x020
#define R_DRIVER_SEL	  0x024
#define R_QUEUE_SEL	  0x030
#define R_QUEUE_NUM_MAX	  0x034
#define R_QUEUE_NUM	  0x038
#define R_QUEUE_READY	  0x044
#define R_QUEUE_NOTIFY	  0x050
#define R_ISR		  0x060
#define R_ISR_ACK	  0x064
#define R_STATUS	  0x070
#define R_QUEUE_DESC	  0x080
#define R_QUEUE_DRIVER	  0x090
#define R_QUEUE_DEVICE	  0x0a0
#define R_SHM_LEN	  0x0b0
#define R_SHM_BASE	  0x0b8
#define R_GENERATION	  0x0fc
#define R_CONFIG	  0x100

#define S_ACKNOWLEDGE 1u
#define S_DRIVER      2u
#define S_DRIVER_OK   4u
#define S_FEATURES_OK 8u
#define S_NEEDS_RESET 64u
#define S_FAILED      128u

#define F_VERSION_1 (1ull << 32)
#define F_EVENT_IDX (1ull << 29)
#define F_INDIRECT  (1ull << 28)

/* For what must come, on a host that may be busy. */
#define PATIENCE_MS 10000

struct vdriver {
	struct ring ring; /* queue 0 */
	struct loop *loop;
	pthread_t thread;
	struct irq_line irq;
	struct log log;
	struct virtio *virtio;
	struct virtio_mmio *mmio;
};

static inline void *vdriver_loop_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static inline void vdriver_awake(void *opaque)
{
	__atomic_store_n((bool *)opaque, true, __ATOMIC_RELEASE);
}

/*
 * Starts the loop's thread and waits until it runs the loop: before that, loop_call() would do the
 * work on the caller's thread and vdriver_settle() would wait for nothing.
 */
static inline void vdriver_run(struct vdriver *d)
{
	bool awake = false;
	struct loop_work work = {.fn = vdriver_awake, .opaque = &awake};

	loop_post(d->loop, &work);
	cr_assert_eq(pthread_create(&d->thread, NULL, vdriver_loop_thread, d->loop), 0);
	while (!__atomic_load_n(&awake, __ATOMIC_ACQUIRE))
		sched_yield();
}

/* Takes device and loop over. The device's log lines go to /dev/null. */
static inline void vdriver_init_on(struct vdriver *d, const struct virtio_ops *ops, void *dev,
				   uint16_t queue_size, struct loop *loop)
{
	struct virtio_env env;
	struct err err = {0};

	memset(d, 0, sizeof(*d));
	ring_init(&d->ring, queue_size);
	d->log =
	    (struct log){.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .level = LOG_LEVEL_DEBUG};
	d->loop = loop;
	cr_assert_eq(irq_line_open(&d->irq, 5, &err), 0, "%s", err.text);
	env = (struct virtio_env){.mem = &d->ring.mem, .loop = d->loop, .log = &d->log};
	cr_assert_eq(virtio_new(ops, dev, &env, &d->virtio, &err), 0, "%s", err.text);
	cr_assert_eq(virtio_mmio_new(d->virtio, &d->irq, &d->mmio, &err), 0, "%s", err.text);
	vdriver_run(d);
}

/* The same with a loop of its own. */
static inline void vdriver_init(struct vdriver *d, const struct virtio_ops *ops, void *dev,
				uint16_t queue_size)
{
	struct loop *loop;
	struct err err = {0};

	cr_assert_eq(loop_new(&loop, &err), 0, "%s", err.text);
	vdriver_init_on(d, ops, dev, queue_size, loop);
}

static inline void vdriver_fini(struct vdriver *d)
{
	loop_quit(d->loop);
	pthread_join(d->thread, NULL);
	virtio_mmio_io_ops.destroy(d->mmio);
	loop_free(d->loop);
	irq_line_close(&d->irq);
	close(d->log.fd);
	ring_fini(&d->ring);
}

static inline uint32_t rd(struct vdriver *d, uint64_t off)
{
	return (uint32_t)virtio_mmio_io_ops.read(d->mmio, off, 4);
}

static inline void wr(struct vdriver *d, uint64_t off, uint64_t value)
{
	virtio_mmio_io_ops.write(d->mmio, off, 4, value);
}

static inline uint64_t vdriver_offered(struct vdriver *d)
{
	uint64_t features;

	wr(d, R_DEVICE_SEL, 1);
	features = (uint64_t)rd(d, R_DEVICE_FEATURES) << 32;
	wr(d, R_DEVICE_SEL, 0);
	return features | rd(d, R_DEVICE_FEATURES);
}

/* Status up to FEATURES_OK; false if the device refused it. */
static inline bool vdriver_negotiate(struct vdriver *d, uint64_t features)
{
	wr(d, R_STATUS, 0);
	wr(d, R_STATUS, S_ACKNOWLEDGE);
	wr(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
	wr(d, R_DRIVER_SEL, 0);
	wr(d, R_DRIVER_FEATURES, (uint32_t)features);
	wr(d, R_DRIVER_SEL, 1);
	wr(d, R_DRIVER_FEATURES, features >> 32);
	wr(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
	return (rd(d, R_STATUS) & S_FEATURES_OK) != 0;
}

static inline void vdriver_layout(struct vdriver *d, unsigned queue, const struct vq_layout *l)
{
	wr(d, R_QUEUE_SEL, queue);
	wr(d, R_QUEUE_NUM, l->size);
	wr(d, R_QUEUE_DESC, (uint32_t)l->desc.v);
	wr(d, R_QUEUE_DESC + 4, l->desc.v >> 32);
	wr(d, R_QUEUE_DRIVER, (uint32_t)l->avail.v);
	wr(d, R_QUEUE_DRIVER + 4, l->avail.v >> 32);
	wr(d, R_QUEUE_DEVICE, (uint32_t)l->used.v);
	wr(d, R_QUEUE_DEVICE + 4, l->used.v >> 32);
}

/*
 * Queue q of several, empty, before vdriver_go(): its ring lies q * VDRIVER_RING_STRIDE into
 * memory, and `r` sees memory from there. Addresses in descriptors count from the beginning all the
 * same.
 */
#define VDRIVER_RING_STRIDE 0x40000u
static inline void vdriver_queue(struct vdriver *d, unsigned q, uint16_t size, struct ring *r)
{
	struct vq_layout l;

	*r = d->ring;
	r->size = size;
	r->avail_idx = r->used_seen = 0;
	r->mem.region[0].host += q * VDRIVER_RING_STRIDE;
	r->mem.region[0].len -= q * VDRIVER_RING_STRIDE;
	memset(ring_at(r, RING_AVAIL), 0, 0x1000);
	memset(ring_at(r, RING_USED), 0, 0x1000);
	l = ring_layout(r);
	l.desc.v += q * VDRIVER_RING_STRIDE;
	l.avail.v += q * VDRIVER_RING_STRIDE;
	l.used.v += q * VDRIVER_RING_STRIDE;
	vdriver_layout(d, q, &l);
	wr(d, R_QUEUE_READY, 1);
}

static inline void vdriver_go(struct vdriver *d)
{
	wr(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

/* The whole of §3.1.1 with queue 0. */
static inline void vdriver_start(struct vdriver *d, uint64_t features)
{
	struct vq_layout l = ring_layout(&d->ring);

	cr_assert(vdriver_negotiate(d, features));
	/* An empty ring, as after a reset. */
	memset(ring_at(&d->ring, RING_AVAIL), 0, 0x1000);
	memset(ring_at(&d->ring, RING_USED), 0, 0x1000);
	d->ring.avail_idx = 0;
	d->ring.used_seen = 0;
	vdriver_layout(d, 0, &l);
	wr(d, R_QUEUE_READY, 1);
	cr_assert_eq(rd(d, R_QUEUE_READY), 1);
	vdriver_go(d);
	cr_assert_eq(rd(d, R_STATUS), S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

/* An interrupt within ms: takes it off the line. */
static inline bool vdriver_interrupt(struct vdriver *d, int ms)
{
	struct pollfd p = {.fd = d->irq.fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, ms) == 1 && read(d->irq.fd, &n, sizeof(n)) == sizeof(n);
}

/* The next used element, waiting for interrupts as a driver does. */
static inline bool vdriver_used(struct vdriver *d, uint32_t *id, uint32_t *len)
{
	while (!ring_take(&d->ring, id, len)) {
		if (!vdriver_interrupt(d, PATIENCE_MS))
			return false;
		wr(d, R_ISR_ACK, rd(d, R_ISR));
	}
	return true;
}

/* Runs on the loop's thread after everything that is queued there now. */
static inline void vdriver_nothing(void *opaque)
{
	(void)opaque;
}

/* Twice: what a kick that was written before this started has been served after it. */
static inline void vdriver_settle(struct vdriver *d)
{
	loop_call(d->loop, vdriver_nothing, NULL);
	loop_call(d->loop, vdriver_nothing, NULL);
}

#endif
