/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest for fuzzers of virtio devices: its memory, the registers, rings
 * and descriptors of its making, out of the fuzzer's input. Single-threaded: nobody runs the loop,
 * so loop_call() runs on this thread, and a kick is a call of notify.
 */
#ifndef FUZZ_VIRTIO_GUEST_H
#define FUZZ_VIRTIO_GUEST_H

#include <string.h>

#include <linux/virtio_mmio.h>

#include "minivm/virtio_mmio.h"
#include "input.h"

#define RAM   0x4000u
#define DESC  0x000u
#define AVAIL 0x200u
#define USED  0x300u
#define TABLE 0x400u
#define SIZE  16u

struct guest {
	struct guest_mem mem;
	struct loop *loop;
	struct log log;
	struct virtio *virtio;
	struct virtio_mmio *mmio;
};

static uint8_t ram[RAM] __attribute__((aligned(4096)));

/* --- its life --- */

/* Memory, log and loop; the device is made with them, then guest_plug() takes it over. */
static inline void guest_make(struct guest *g)
{
	struct err err;

	memset(g, 0, sizeof(*g));
	memset(ram, 0, sizeof(ram));
	g->mem.count = 1;
	g->mem.region[0] = (struct guest_region){.gpa = GPA(0), .len = RAM, .host = ram};
	g->log = (struct log){.fd = -1, .level = LOG_LEVEL_ERROR};
	require(loop_new(&g->loop, &err) == 0);
}

static inline void guest_plug(struct guest *g, const struct virtio_ops *ops, void *dev)
{
	const struct virtio_env env = {.mem = &g->mem, .loop = g->loop, .log = &g->log};
	const struct irq_line irq = {.fd = -1};
	struct err err;

	require(virtio_new(ops, dev, &env, &g->virtio, &err) == 0);
	require(virtio_mmio_new(g->virtio, &irq, &g->mmio, &err) == 0);
}

static inline void guest_end(struct guest *g)
{
	virtio_mmio_io_ops.destroy(g->mmio);
	loop_free(g->loop);
}

/* --- registers --- */

static inline void wr(struct guest *g, uint64_t off, uint64_t value)
{
	virtio_mmio_io_ops.write(g->mmio, off, 4, value);
}

/* A start with ring features 0 to 3 and feature bits 0 to 31; `wrong` spoils one step or another.
 */
static inline void start(struct guest *g, uint8_t ring_features, uint32_t features, uint8_t wrong)
{
	wr(g, VIRTIO_MMIO_STATUS, wrong & 1 ? 2 : 0);
	wr(g, VIRTIO_MMIO_STATUS, wrong & 2 ? 0 : 3);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, wrong & 4 ? 2 : 1);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES, wrong & 8 ? 0xff : 1);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(ring_features & 3) << 28 | features);
	wr(g, VIRTIO_MMIO_STATUS, wrong & 16 ? 15 : 11);
	wr(g, VIRTIO_MMIO_QUEUE_SEL, wrong >> 7);
	wr(g, VIRTIO_MMIO_QUEUE_NUM, wrong & 32 ? ring_features : SIZE);
	wr(g, VIRTIO_MMIO_QUEUE_DESC_LOW, DESC);
	wr(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL);
	wr(g, VIRTIO_MMIO_QUEUE_USED_LOW, wrong & 64 ? 0x3ffc : USED);
	wr(g, VIRTIO_MMIO_QUEUE_READY, 1);
	wr(g, VIRTIO_MMIO_STATUS, 15);
	(void)virtio_mmio_io_ops.read(g->mmio, VIRTIO_MMIO_STATUS, 4);
}

static inline void any_access(struct guest *g, struct input *in)
{
	unsigned how = next(in);
	unsigned len = 1u << how % 4;
	uint64_t off = (next(in) | (how & 0x80) << 1) & ~(how & 0x40 ? 0u : 3u);
	uint64_t value = 0;

	if (how & 0x20)
		len = 4;
	if (off + len > VIRTIO_MMIO_LEN)
		return;
	if (how & 0x10) {
		for (unsigned i = 0; i < len; i++)
			value = value << 8 | next(in);
		virtio_mmio_io_ops.write(g->mmio, off, len, value);
	} else {
		(void)virtio_mmio_io_ops.read(g->mmio, off, len);
	}
}

/* --- memory --- */

static inline void put_descriptor(unsigned at, uint64_t addr, uint32_t len, unsigned flags,
				  unsigned to)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {addr, len, (uint16_t)flags, (uint16_t)to};

	memcpy(ram + at, &d, sizeof(d));
}

static inline void scribble(struct input *in, unsigned count)
{
	unsigned at = (next(in) << 8 | next(in)) % RAM;

	for (; count > 0 && at < RAM; count--)
		ram[at++] = next(in);
}

/* --- several queues, a page of memory each --- */

#define QUEUE_MEM(q) ((q)*0x1000u)

/* The first n; features out of what is offered. */
static inline void start_queues(struct guest *g, unsigned n, uint32_t features)
{
	wr(g, VIRTIO_MMIO_STATUS, 0);
	wr(g, VIRTIO_MMIO_STATUS, 3);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(g, VIRTIO_MMIO_DRIVER_FEATURES, features & virtio_device_features(g->virtio, 0));
	wr(g, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < n; q++) {
		wr(g, VIRTIO_MMIO_QUEUE_SEL, q);
		wr(g, VIRTIO_MMIO_QUEUE_NUM, SIZE);
		wr(g, VIRTIO_MMIO_QUEUE_DESC_LOW, QUEUE_MEM(q) + DESC);
		wr(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, QUEUE_MEM(q) + AVAIL);
		wr(g, VIRTIO_MMIO_QUEUE_USED_LOW, QUEUE_MEM(q) + USED);
		wr(g, VIRTIO_MMIO_QUEUE_READY, 1);
		memset(ram + QUEUE_MEM(q) + AVAIL, 0, TABLE - AVAIL);
	}
	wr(g, VIRTIO_MMIO_STATUS, 15);
}

static inline void offer_in(unsigned q, uint16_t head)
{
	uint16_t idx;

	memcpy(&idx, ram + QUEUE_MEM(q) + AVAIL + 2, sizeof(idx));
	memcpy(ram + QUEUE_MEM(q) + AVAIL + 4 + 2 * (idx % SIZE), &head, sizeof(head));
	idx++;
	memcpy(ram + QUEUE_MEM(q) + AVAIL + 2, &idx, sizeof(idx));
}

/* A ring of its own in its first page. */
static inline void offer(uint16_t head)
{
	offer_in(0, head);
}

/* After a reset of a device with n queues no byte of memory changes, whatever is kicked. */
static inline void reset_and_kick(struct guest *g, const struct virtio_ops *ops, void *dev,
				  unsigned n)
{
	static uint8_t before[RAM];

	wr(g, VIRTIO_MMIO_STATUS, 0);
	memcpy(before, ram, sizeof(ram));
	for (unsigned q = 0; q < n; q++)
		ops->notify(dev, q);
	require(memcmp(before, ram, sizeof(ram)) == 0);
}

#endif
