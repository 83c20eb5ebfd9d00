/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng (VIRTIO 1.2 §5.4) from ring 3: bytes that look random, drivers that lie, and a rate
 * that holds. Words: rate=N, the bytes a second that minivm was told (--rng rate=N).
 */
#include "rt.h"
#include "time.h"
#include "vring.h"

#define RNG_DEVICE_ID 4
#define QUEUE	      64
#define WAIT_MS	      5000
#define MMIO_HOLE     0xc0000000ull

static struct vdev dev;
static struct vring q;
static uint8_t *buf; /* 512 KiB */

static bool start(uint64_t features)
{
	if (!vdev_negotiate(&dev, features))
		return false;
	vring_clear(&q);
	if (!vring_enable(&q))
		return false;
	vdev_add_status(&dev, VSTATUS_DRIVER_OK);
	return vdev_status(&dev) == 15;
}

static bool open_rng(uint64_t features)
{
	if (!vdev_find(RNG_DEVICE_ID, 0, &dev) || !vdev_negotiate(&dev, features))
		return false;
	vring_alloc(&q, &dev, 0, QUEUE);
	buf = dma_alloc(512 << 10, 4096);
	return start(features);
}

#define OPEN(features) EXPECT(open_rng(features))
#define ALL	       (VF_INDIRECT_DESC | VF_EVENT_IDX)

/* Bytes that the device says it put at `at`; ~0: no answer, or a wrong one. */
static uint32_t request(void *at, uint32_t len)
{
	const struct vseg seg = {(uint64_t)at, len, true};
	int head = vring_chain(&q, &seg, 1);
	uint32_t id = ~0u, used = ~0u;

	if (head < 0)
		return ~0u;
	vring_offer(&q, (uint16_t)head);
	vring_kick(&q);
	if (!vring_take_wait(&q, WAIT_MS, &id, &used) || id != (uint32_t)head)
		return ~0u;
	vring_free(&q, (uint16_t)head);
	return used;
}

/* After a reset it gives bytes again. */
static bool alive(void)
{
	uint32_t used;

	if (!start(ALL))
		return false;
	used = request(buf, 16);
	return used >= 1 && used <= 16;
}

/* --- bytes --- */

static void identity(void)
{
	OPEN(ALL);
	EXPECT_EQ(vdev_offered(&dev), VF_VERSION_1 | ALL);
	EXPECT_EQ(vreg(&dev, VREG_CONFIG), 0);
	vreg_set(&dev, VREG_QUEUE_SEL, 1);
	EXPECT_EQ(vreg(&dev, VREG_QUEUE_NUM_MAX), 0);
}

static void reads_differ(void)
{
	unsigned set = 0, same = 0;

	OPEN(ALL);
	memset(buf, 0, 256);
	EXPECT_EQ(request(buf, 64), 64);
	EXPECT_EQ(request(buf + 128, 64), 64);
	for (unsigned i = 0; i < 64; i++) {
		set += buf[i] != 0;
		same += buf[i] == buf[128 + i];
	}
	EXPECT(set > 32);
	EXPECT(same < 16);
	for (unsigned i = 64; i < 128; i++)
		EXPECT_EQ(buf[i] | buf[128 + i], 0); /* and no byte more */
}

/* Each value comes up in 16 KiB, but for one run in 10^25, and none far too often. */
static void all_values(void)
{
	static unsigned count[256];
	unsigned got = 0;

	OPEN(ALL);
	memset(count, 0, sizeof(count));
	while (got < 16384) {
		uint32_t used = request(buf, 4096);

		EXPECT(used >= 1 && used <= 4096);
		for (uint32_t i = 0; i < used; i++)
			count[buf[i]]++;
		got += used;
	}
	for (unsigned i = 0; i < 256; i++)
		EXPECT(count[i] > 0 && count[i] < 4 * got / 256);
}

/* More than the device gives at a time: some of it, from the start, and the rest untouched. */
static void large_request(void)
{
	uint32_t used;

	OPEN(ALL);
	memset(buf, 0x5a, 512 << 10);
	used = request(buf, 256 << 10);
	EXPECT(used >= 1 && used <= 256 << 10);
	for (unsigned i = used; i < 512 << 10; i++)
		EXPECT_EQ(buf[i], 0x5a);
}

static void scattered(void)
{
	struct vseg seg[20];
	struct vdesc *table = dma_alloc(16 * ARRAY_SIZE(seg), 16);
	uint32_t id, used;
	unsigned set = 0;
	int head;

	OPEN(ALL);
	memset(buf, 0, 4096);
	for (unsigned i = 0; i < ARRAY_SIZE(seg); i++)
		seg[i] = (struct vseg){(uint64_t)buf + 128 * i + i, i == 7 ? 0 : 8, true};
	head = vring_chain_indirect(&q, seg, ARRAY_SIZE(seg), table);
	EXPECT(head >= 0);
	vring_offer(&q, (uint16_t)head);
	vring_kick(&q);
	EXPECT(vring_take_wait(&q, WAIT_MS, &id, &used));
	EXPECT_EQ(used, 8 * (ARRAY_SIZE(seg) - 1));
	for (unsigned i = 0; i < ARRAY_SIZE(seg); i++) {
		for (unsigned k = 0; k < 128; k++) {
			bool inside = k >= i && k < i + (i == 7 ? 0 : 8);

			set += buf[128 * i + k] != 0;
			EXPECT(inside || buf[128 * i + k] == 0);
		}
	}
	EXPECT(set > 19 * 8 / 2);
}

static void full_ring(uint64_t features)
{
	bool seen[QUEUE] = {false};

	OPEN(features);
	for (unsigned round = 0; round < 3; round++) {
		memset(seen, 0, sizeof(seen));
		for (uint16_t i = 0; i < QUEUE; i++) {
			q.desc[i].addr = (uint64_t)buf + 4096u * i;
			q.desc[i].len = 4096;
			q.desc[i].flags = VDESC_WRITE;
			vring_offer(&q, i);
		}
		vring_kick(&q);
		for (unsigned i = 0; i < QUEUE; i++) {
			uint32_t id, used;

			EXPECT(vring_take_wait(&q, WAIT_MS, &id, &used));
			EXPECT(id < QUEUE && !seen[id]);
			EXPECT(used >= 1 && used <= 4096);
			seen[id] = true;
		}
	}
}

static void full_ring_event_idx(void)
{
	full_ring(ALL);
}

static void full_ring_flags(void)
{
	full_ring(0);
}

/* --- drivers that lie --- */

static void put(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	q.desc[i].addr = addr;
	q.desc[i].len = len;
	q.desc[i].flags = flags;
	q.desc[i].next = next;
}

/* Descriptor 0 comes back, with nothing in it. */
static void rejected(void)
{
	uint32_t id, used;

	vring_offer(&q, 0);
	vring_kick_always(&q);
	EXPECT(vring_take_wait(&q, WAIT_MS, &id, &used));
	EXPECT_EQ(id, 0);
	EXPECT_EQ(used, 0);
	EXPECT(alive());
}

struct bad_chain {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static void bad_chains(void)
{
	OPEN(ALL);
	const struct bad_chain bad[] = {
	    {(uint64_t)buf, 64, VDESC_WRITE | VDESC_NEXT, 0},	   /* a loop */
	    {(uint64_t)buf, 64, VDESC_WRITE | VDESC_NEXT, QUEUE},  /* out of the table */
	    {(uint64_t)buf, 64, VDESC_WRITE | VDESC_NEXT, 0xffff}, /* far out */
	    {(uint64_t)buf, 64, 0, 0},				   /* nothing to write to */
	    {(uint64_t)buf, 0, VDESC_WRITE, 0},			   /* no room */
	    {MMIO_HOLE, 64, VDESC_WRITE, 0},
	    {dev.base, 64, VDESC_WRITE, 0},
	    {~0ull - 15, 64, VDESC_WRITE, 0},
	    {(uint64_t)buf, 0xffffffff, VDESC_WRITE, 0},
	    {boot_info.ram_end - 8, 16, VDESC_WRITE, 0},
	    {(uint64_t)buf, 15, VDESC_INDIRECT, 0}, /* half a table */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put(0, bad[i].addr, bad[i].len, bad[i].flags, bad[i].next);
		rejected();
		EXPECT_OK_SO_FAR();
	}
}

static void bad_rings(void)
{
	static const uint16_t idx[] = {QUEUE + 1, 0x8000, 0xffff};

	OPEN(ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(idx); i++) {
		uint64_t end = deadline_ms(WAIT_MS);

		q.avail->idx = idx[i];
		vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
		while (!(vdev_status(&dev) & VSTATUS_NEEDS_RESET) && !expired(end))
			cpu_pause();
		EXPECT(vdev_status(&dev) & VSTATUS_NEEDS_RESET);
		EXPECT(alive());
	}
}

/* After Status reads 0 nothing is written any more (§2.4.1). */
static void reset_in_flight(void)
{
	OPEN(ALL);
	for (unsigned round = 0; round < 20; round++) {
		uint16_t used;

		EXPECT(start(ALL));
		for (uint16_t i = 0; i < QUEUE; i++) {
			put(i, (uint64_t)buf + 4096u * i, 4096, VDESC_WRITE, 0);
			vring_offer(&q, i);
		}
		vring_kick_always(&q);
		delay_us(10 * round);
		EXPECT(vdev_reset(&dev));
		used = q.used->idx;
		memset(buf, 0x55, 4096 * QUEUE);
		delay_us(1000);
		EXPECT_EQ(q.used->idx, used);
		for (unsigned i = 0; i < 4096 * QUEUE; i++)
			EXPECT_EQ(buf[i], 0x55);
	}
	EXPECT(alive());
}

/* --- the rate --- */

/* Takes `bytes` in all. False: an answer was wrong. */
static bool take(uint64_t bytes)
{
	while (bytes > 0) {
		uint32_t want = bytes < 4096 ? (uint32_t)bytes : 4096;
		uint32_t used = request(buf, want);

		if (used == 0 || used > want)
			return false;
		bytes -= used;
	}
	return true;
}

/* One second's worth may be there at the start, everything else takes its time. */
static void rate_holds(void)
{
	uint64_t rate = cmdline_number("rate", 0), us, start_at;

	if (rate == 0)
		SKIP("no rate");
	OPEN(ALL);
	start_at = rdtsc();
	EXPECT(take(rate + rate / 2));
	us = tsc_to_us(rdtsc() - start_at);
	print("# rng: %lu bytes at %lu a second took %lu us\n", rate + rate / 2, rate, us);
	EXPECT(us >= 490000);
	EXPECT(us < 5000000);
}

/* A request that waits for the rate is not answered after a reset. */
static void reset_while_waiting(void)
{
	uint64_t rate = cmdline_number("rate", 0);

	if (rate == 0)
		SKIP("no rate");
	OPEN(ALL);
	EXPECT(take(rate + 1));
	memset(buf, 0x55, 4096 * QUEUE);
	for (uint16_t i = 0; i < QUEUE; i++) {
		put(i, (uint64_t)buf + 4096u * i, 4096, VDESC_WRITE, 0);
		vring_offer(&q, i);
	}
	vring_kick_always(&q);
	EXPECT(vdev_reset(&dev));
	memset(buf, 0x55, 4096 * QUEUE);
	delay_us(100000);
	for (unsigned i = 0; i < 4096 * QUEUE; i++)
		EXPECT_EQ(buf[i], 0x55);
	EXPECT(alive());
}

static const struct test_case cases[] = {
    {"identity", identity, 3},
    {"reads_differ", reads_differ, 3},
    {"all_values", all_values, 3},
    {"large_request", large_request, 3},
    {"scattered", scattered, 3},
    {"full_ring_event_idx", full_ring_event_idx, 3},
    {"full_ring_flags", full_ring_flags, 3},
    {"bad_chains", bad_chains, 3},
    {"bad_rings", bad_rings, 3},
    {"reset_in_flight", reset_in_flight, 3},
    {"rate_holds", rate_holds, 3},
    {"reset_while_waiting", reset_while_waiting, 3},
};

int payload_main(void)
{
	return run_cases("rng", cases, ARRAY_SIZE(cases));
}
