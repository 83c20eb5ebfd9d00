/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk by an honest driver in ring 3: what every guest needs to be right. Data, framing,
 * indirect tables, notification suppression both ways, index wrap, reset in mid-flight, two
 * processors on one queue. Disks and their content: disks.h.
 */
#include "apic.h"
#include "disks.h"
#include "pattern.h"
#include "rt.h"
#include "smp.h"
#include "time.h"
#include "trap.h"
#include "vblk.h"

#define QUEUE	 128
#define BIG	 (256u * SECTOR)
#define WAIT_MS	 VBLK_TIMEOUT_MS
#define VEC_DISK VEC_FIRST_IRQ

static struct vblk blk;
static uint8_t buf[BIG + 64] __attribute__((aligned(4096)));

#define OPEN(features) EXPECT(vblk_open(&blk, DISK_MAIN, features, QUEUE))
#define EXPECT_PATTERN(at, seed, sector, count)                                                    \
	EXPECT_EQ(pattern_check(at, seed, sector, count), count)

static void configuration(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT_EQ(blk.capacity, MAIN_SECTORS);
	EXPECT(blk.seg_max >= 16);
	EXPECT(blk.seg_max <= 254); /* header and status need their two places in the queue */
	EXPECT_EQ(vreg(&blk.dev, VREG_CONFIG + VBLK_C_BLK_SIZE), 512);
}

static void read_one(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned s = 0; s < 16; s++) {
		memset(buf, 0, SECTOR + 8);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, s * 61, buf, SECTOR), VBLK_S_OK);
		EXPECT_PATTERN(buf, MAIN_SEED, s * 61, 1);
		EXPECT_EQ(buf[SECTOR], 0); /* and no byte more */
	}
}

static void read_big(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned s = 0; s < MAIN_WRITTEN; s += 256) {
		memset(buf, 0, BIG);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, s, buf, BIG), VBLK_S_OK);
		EXPECT_PATTERN(buf, MAIN_SEED, s, 256);
	}
}

static void read_last_sector(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, MAIN_SECTORS - 1, buf, SECTOR), VBLK_S_OK);
	EXPECT_PATTERN(buf, MAIN_SEED, MAIN_SECTORS - 1, 1);
}

/* The host compares this range when we are done. */
static void write_range(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned s = MAIN_WRITTEN; s < MAIN_WRITTEN + WRITTEN_COUNT; s += 256) {
		pattern_fill(buf, WRITTEN_SEED, s, 256);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, s, buf, BIG), VBLK_S_OK);
	}
	EXPECT_EQ(vblk_io(&blk, VBLK_T_FLUSH, 0, NULL, 0), VBLK_S_OK);
	for (unsigned s = MAIN_WRITTEN; s < MAIN_WRITTEN + WRITTEN_COUNT; s += 256) {
		memset(buf, 0, BIG);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, s, buf, BIG), VBLK_S_OK);
		EXPECT_PATTERN(buf, WRITTEN_SEED, s, 256);
	}
}

/* Used length: what the device wrote, the status byte included (§2.7.8.2). */
static void used_lengths(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg data = {(uint64_t)buf, 8 * SECTOR, false};

	OPEN(VBLK_F_ALL);
	vblk_prepare(r, VBLK_T_IN, 0, &data, 1);
	EXPECT_EQ(vblk_submit_wait(&blk, r, 3), VBLK_S_OK);
	EXPECT_EQ(r->used_len, 8 * SECTOR + 1);
	vblk_prepare(r, VBLK_T_OUT, MAIN_SCRATCH, &data, 1);
	EXPECT_EQ(vblk_submit_wait(&blk, r, 3), VBLK_S_OK);
	EXPECT_EQ(r->used_len, 1);
}

static void flush(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT(blk.offered & VBLK_F_FLUSH);
	for (unsigned i = 0; i < 5; i++)
		EXPECT_EQ(vblk_io(&blk, VBLK_T_FLUSH, 0, NULL, 0), VBLK_S_OK);
}

static void get_id(void)
{
	static const char want[20] = DISK_ID;

	OPEN(VBLK_F_ALL);
	memset(buf, 0xff, 32);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_GET_ID, 0, buf, 20), VBLK_S_OK);
	EXPECT_EQ(memcmp(buf, want, strlen(want) + 1), 0);
	EXPECT_EQ(buf[20], 0xff);
}

/* Segments of odd sizes at odd addresses: only their sum is a multiple of the sector. */
static unsigned odd_segments(struct vseg *seg, uint32_t total)
{
	static const uint16_t sizes[] = {1, 511, 3, 1000, 9, 512, 77, 2048};
	uint64_t at = (uint64_t)buf + 1;
	unsigned n = 0;

	while (total) {
		uint32_t len = sizes[n % ARRAY_SIZE(sizes)];

		if (len > total)
			len = total;
		seg[n++] = (struct vseg){at, len, false};
		at += len;
		total -= len;
	}
	return n;
}

static void multi_segment(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg seg[32];
	unsigned n = odd_segments(seg, 24 * SECTOR);

	OPEN(VBLK_F_ALL);
	EXPECT(n <= blk.seg_max);
	pattern_fill(buf + 1, 7, MAIN_SCRATCH, 24);
	vblk_prepare(r, VBLK_T_OUT, MAIN_SCRATCH, seg, n);
	EXPECT_EQ(vblk_submit_wait(&blk, r, n + 2), VBLK_S_OK);
	memset(buf, 0, 26 * SECTOR);
	vblk_prepare(r, VBLK_T_IN, MAIN_SCRATCH, seg, n);
	EXPECT_EQ(vblk_submit_wait(&blk, r, n + 2), VBLK_S_OK);
	EXPECT_PATTERN(buf + 1, 7, MAIN_SCRATCH, 24);
	EXPECT_EQ(buf[0] | buf[24 * SECTOR + 1], 0);
}

static void seg_max_segments(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg seg[VBLK_SEGS_MAX - 2];
	unsigned n;

	OPEN(VBLK_F_ALL);
	n = blk.seg_max < QUEUE - 2 ? blk.seg_max : QUEUE - 2;
	for (unsigned i = 0; i < n; i++)
		seg[i] = (struct vseg){(uint64_t)buf + (n - 1 - i) * SECTOR, SECTOR, false};
	vblk_prepare(r, VBLK_T_IN, 5, seg, n);
	EXPECT_EQ(vblk_submit_wait(&blk, r, n + 2), VBLK_S_OK);
	for (unsigned i = 0; i < n; i++)
		EXPECT_PATTERN(buf + (n - 1 - i) * SECTOR, MAIN_SEED, 5 + i, 1);
}

/* --- indirect tables --- */

static void indirect(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg seg[VBLK_SEGS_MAX - 2];
	unsigned n;

	OPEN(VBLK_F_ALL);
	n = blk.seg_max < ARRAY_SIZE(seg) ? blk.seg_max : ARRAY_SIZE(seg);
	r->table = dma_alloc(16 * VBLK_SEGS_MAX, 16);
	for (unsigned i = 0; i < n; i++)
		seg[i] = (struct vseg){(uint64_t)buf + i * SECTOR, SECTOR, false};
	for (unsigned k = 1; k <= n; k += 21) {
		memset(buf, 0, BIG);
		vblk_prepare(r, VBLK_T_IN, k, seg, k);
		EXPECT_EQ(vblk_submit_wait(&blk, r, k + 2), VBLK_S_OK);
		EXPECT_EQ(r->used_len, k * SECTOR + 1);
		EXPECT_PATTERN(buf, MAIN_SEED, k, k);
	}
}

/* A queue that holds one descriptor only, by indirect tables. */
static void indirect_small_queue(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg data = {(uint64_t)buf, SECTOR, false};

	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL, 1));
	r->table = dma_alloc(16 * 3, 16);
	for (unsigned i = 0; i < 20; i++) {
		vblk_prepare(r, VBLK_T_IN, i, &data, 1);
		EXPECT_EQ(vblk_submit_wait(&blk, r, 3), VBLK_S_OK);
		EXPECT_PATTERN(buf, MAIN_SEED, i, 1);
	}
}

/* --- many requests at once --- */

#define MANY (QUEUE / 4)

static struct vblk_req *requests[QUEUE];

static void alloc_requests(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		requests[i] = vblk_req_alloc();
}

/* Offers a one-sector read for each request. */
static bool offer_reads(unsigned n, uint64_t sector)
{
	for (unsigned i = 0; i < n; i++) {
		struct vseg data = {(uint64_t)buf + i * SECTOR, SECTOR, false};

		vblk_prepare(requests[i], VBLK_T_IN, sector + i, &data, 1);
		if (!vblk_offer(&blk, requests[i], 3))
			return false;
	}
	return true;
}

/* Takes n answers, in any order; frees their descriptors. */
static bool collect(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t id, len;

		if (!vring_take_wait(&blk.q, WAIT_MS, &id, &len))
			return false;
		vring_free(&blk.q, (uint16_t)id);
	}
	return true;
}

static void batch(void)
{
	OPEN(VBLK_F_ALL);
	alloc_requests(MANY);
	for (unsigned round = 0; round < 10; round++) {
		memset(buf, 0, MANY * SECTOR);
		EXPECT(offer_reads(MANY, 10 * round));
		vring_kick(&blk.q);
		EXPECT(collect(MANY));
		for (unsigned i = 0; i < MANY; i++)
			EXPECT_EQ(requests[i]->status, VBLK_S_OK);
		EXPECT_PATTERN(buf, MAIN_SEED, 10 * round, MANY);
	}
	EXPECT_EQ(blk.q.free_count, QUEUE);
}

/*
 * 16-bit indices run over. An unsupported type costs no I/O, and all requests are the same one, in
 * one indirect table: as many as the queue has places go out at once.
 */
static void index_wrap(void)
{
	struct vblk_req *r = vblk_req_alloc();
	uint32_t id, len;

	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL, 256));
	r->table = dma_alloc(16 * 2, 16);
	vblk_prepare(r, 0x7777, 0, NULL, 0);
	for (unsigned i = 0; i < 256; i++)
		EXPECT_EQ(vring_chain_indirect(&blk.q, r->seg, 2, r->table), i);
	for (unsigned round = 0; round < 256 + 3; round++) {
		for (uint16_t i = 0; i < 256; i++)
			vring_offer(&blk.q, i);
		vring_kick(&blk.q);
		for (unsigned i = 0; i < 256; i++) {
			EXPECT(vring_take_wait(&blk.q, WAIT_MS, &id, &len));
			EXPECT(id < 256);
			EXPECT_EQ(len, 1);
		}
	}
	EXPECT_EQ(r->status, VBLK_S_UNSUPP);
	for (uint16_t i = 0; i < 256; i++)
		vring_free(&blk.q, i);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 3, buf, SECTOR), VBLK_S_OK);
	EXPECT_PATTERN(buf, MAIN_SEED, 3, 1);
}

/* --- notifications --- */

#define NEVER_MS 20 /* for an interrupt that must not come */

/* The status bit follows the used index: it may take its time, or never come. */
static bool interrupt_within(unsigned ms)
{
	uint64_t end = deadline_ms(ms);

	while (!(vreg(&blk.dev, VREG_INTERRUPT_STATUS) & 1)) {
		if (expired(end))
			return false;
	}
	return true;
}

static void no_interrupt_flag(void)
{
	OPEN(VBLK_F_ALL & ~VF_EVENT_IDX);
	blk.q.avail->flags = VRING_NO_INTERRUPT;
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT(!interrupt_within(NEVER_MS));
	blk.q.avail->flags = 0;
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT(interrupt_within(WAIT_MS));
}

/*
 * used_event (§2.7.7.2): an interrupt when this entry is used, and at no other. The very first
 * answer may interrupt in any case: the device has nothing to compare with yet.
 */
static void event_idx_interrupts(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT(blk.dev.features & VF_EVENT_IDX);
	*vring_used_event(&blk.q) = 4;
	for (unsigned i = 0; i < 10; i++) {
		bool expected = i == 0 || i == 4;

		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, i, buf, SECTOR), VBLK_S_OK);
		EXPECT_EQ(interrupt_within(expected ? WAIT_MS : NEVER_MS) && i > 0, i == 4);
		vreg_set(&blk.dev, VREG_INTERRUPT_ACK, 1);
	}
	/* NO_INTERRUPT means nothing once EVENT_IDX is there */
	blk.q.avail->flags = VRING_NO_INTERRUPT;
	*vring_used_event(&blk.q) = blk.q.used_seen;
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT(interrupt_within(WAIT_MS));
}

/* A batch that runs over used_event interrupts as well. */
static void event_idx_batch(void)
{
	OPEN(VBLK_F_ALL);
	alloc_requests(MANY);
	*vring_used_event(&blk.q) = MANY / 2;
	EXPECT(offer_reads(MANY, 0));
	vring_kick(&blk.q);
	EXPECT(collect(MANY));
	EXPECT(interrupt_within(WAIT_MS));
	vreg_set(&blk.dev, VREG_INTERRUPT_ACK, 1);
	EXPECT(offer_reads(MANY, 0)); /* used_event lies behind now */
	vring_kick(&blk.q);
	EXPECT(collect(MANY));
	EXPECT(!interrupt_within(NEVER_MS));
}

/* The device asks for a kick before it goes idle: none is lost however the two interleave. */
static void no_lost_kick(void)
{
	OPEN(VBLK_F_ALL);
	alloc_requests(1);
	for (unsigned i = 0; i < 300; i++) {
		vblk_prepare(requests[0], 0x7777, 0, NULL, 0);
		EXPECT(vblk_offer(&blk, requests[0], 2));
		vring_kick(&blk.q);
		EXPECT(collect(1));
	}
	EXPECT(blk.q.kicks <= 300);
	print("# blk: %lu kicks for 300 requests, one at a time\n", blk.q.kicks);
}

static void superfluous_kicks(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 500; i++)
		vring_kick_always(&blk.q);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT_EQ(blk.q.used_seen, 1);
}

/* --- reset --- */

/* After Status reads 0 the device touches neither rings nor buffers (§2.4.1). */
static void reset_in_flight(void)
{
	OPEN(VBLK_F_ALL);
	alloc_requests(MANY);
	for (unsigned round = 0; round < 30; round++) {
		uint16_t used;

		EXPECT(offer_reads(MANY, MAIN_SCRATCH));
		vring_kick_always(&blk.q);
		delay_us(round * 20);
		EXPECT(vdev_reset(&blk.dev));
		used = blk.q.used->idx;
		memset(buf, 0x55, MANY * SECTOR);
		delay_us(2000);
		EXPECT_EQ(blk.q.used->idx, used);
		for (unsigned i = 0; i < MANY * SECTOR; i++)
			EXPECT_EQ(buf[i], 0x55);
		blk.dev.features = VBLK_F_ALL;
		EXPECT(vblk_alive(&blk));
		EXPECT(vblk_restart(&blk));
	}
}

/* --- the overlay --- */

static void overlay(void)
{
	EXPECT(vblk_open(&blk, DISK_OVERLAY, VBLK_F_ALL, QUEUE));
	EXPECT_EQ(blk.capacity, OVERLAY_SECTORS);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, BIG), VBLK_S_OK);
	EXPECT_PATTERN(buf, OVERLAY_SEED, 0, OVERLAY_SECTORS);
	for (unsigned s = 1; s < OVERLAY_SECTORS; s += 7) {
		pattern_fill(buf, OVERLAY_WRITTEN_SEED, s, 1);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, s, buf, SECTOR), VBLK_S_OK);
	}
	EXPECT_EQ(vblk_io(&blk, VBLK_T_FLUSH, 0, NULL, 0), VBLK_S_OK);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, BIG), VBLK_S_OK);
	for (unsigned s = 0; s < OVERLAY_SECTORS; s++)
		EXPECT_PATTERN(buf + s * SECTOR, s % 7 == 1 ? OVERLAY_WRITTEN_SEED : OVERLAY_SEED,
			       s, 1);
}

/* --- ranges without data, and the cache --- */

#define OPEN_RANGES(disk)                                                                          \
	do {                                                                                       \
		EXPECT(vblk_open(&blk, disk, VBLK_F_ALL | VBLK_F_RANGES, QUEUE));                  \
		if ((blk.offered & VBLK_F_RANGES) != VBLK_F_RANGES)                                \
			SKIP("another VMM's choice");                                              \
	} while (0)

static int range_io(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct vblk_range range = {sector, sectors, flags};

	return vblk_io(&blk, type, 0, &range, sizeof(range));
}

static bool all_zero(const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

/* Sectors [from, from + n) of 256 that begin at `base` are zeroes, the others pattern `seed`. */
static void expect_zeroes(uint64_t base, unsigned seed, unsigned from, unsigned n)
{
	memset(buf, 0xff, BIG);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, base, buf, BIG), VBLK_S_OK);
	EXPECT_PATTERN(buf, seed, base, from);
	EXPECT(all_zero(buf + from * SECTOR, n * SECTOR));
	EXPECT_PATTERN(buf + (from + n) * SECTOR, seed, base + from + n, 256 - from - n);
}

static void fill_scratch(void)
{
	pattern_fill(buf, WRITTEN_SEED, MAIN_SCRATCH, 256);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, MAIN_SCRATCH, buf, BIG), VBLK_S_OK);
}

static void write_zeroes(void)
{
	OPEN_RANGES(DISK_MAIN);
	for (uint32_t flags = 0; flags <= VBLK_RANGE_UNMAP; flags++) {
		fill_scratch();
		EXPECT_EQ(range_io(VBLK_T_WRITE_ZEROES, MAIN_SCRATCH + 3, 100, flags), VBLK_S_OK);
		expect_zeroes(MAIN_SCRATCH, WRITTEN_SEED, 3, 100);
	}
	EXPECT_EQ(vblk_io(&blk, VBLK_T_FLUSH, 0, NULL, 0), VBLK_S_OK);
	expect_zeroes(MAIN_SCRATCH, WRITTEN_SEED, 3, 100);
}

/* What is discarded may be anything; what is beside it stays. */
static void discard(void)
{
	OPEN_RANGES(DISK_MAIN);
	EXPECT(vreg(&blk.dev, VREG_CONFIG + VBLK_C_MAX_DISCARD_SECTORS) >= 256);
	EXPECT(vreg(&blk.dev, VREG_CONFIG + VBLK_C_MAX_DISCARD_SEG) >= 1);
	fill_scratch();
	EXPECT_EQ(range_io(VBLK_T_DISCARD, MAIN_SCRATCH + 9, 200, 0), VBLK_S_OK);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, MAIN_SCRATCH, buf, BIG), VBLK_S_OK);
	EXPECT_PATTERN(buf, WRITTEN_SEED, MAIN_SCRATCH, 9);
	EXPECT_PATTERN(buf + 209 * SECTOR, WRITTEN_SEED, MAIN_SCRATCH + 209, 256 - 209);
	/* And it can be written again. */
	fill_scratch();
	expect_zeroes(MAIN_SCRATCH, WRITTEN_SEED, 256, 0);
}

/* Before it is written to anywhere: the base shows through beside the zeroes. */
static void overlay_zeroes(void)
{
	OPEN_RANGES(DISK_OVERLAY);
	EXPECT_EQ(range_io(VBLK_T_WRITE_ZEROES, 5, 40, VBLK_RANGE_UNMAP), VBLK_S_OK);
	expect_zeroes(0, OVERLAY_SEED, 5, 40);
	EXPECT_EQ(range_io(VBLK_T_DISCARD, 8, 8, 0), VBLK_S_OK);
	expect_zeroes(0, OVERLAY_SEED, 5, 40);
	/* For those who come after us. */
	pattern_fill(buf, OVERLAY_SEED, 5, 40);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, 5, buf, 40 * SECTOR), VBLK_S_OK);
	expect_zeroes(0, OVERLAY_SEED, 256, 0);
}

static void writeback(void)
{
	volatile uint8_t *field;

	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL | VBLK_F_CONFIG_WCE, QUEUE));
	if (!(blk.offered & VBLK_F_CONFIG_WCE))
		SKIP("another VMM's choice");
	field = (volatile uint8_t *)(blk.dev.base + VREG_CONFIG + VBLK_C_WRITEBACK);
	EXPECT_EQ(*field, 1);
	*field = 0;
	EXPECT_EQ(*field, 0);
	fill_scratch();
	expect_zeroes(MAIN_SCRATCH, WRITTEN_SEED, 256, 0);
	*field = 1;
	EXPECT_EQ(*field, 1);
	*field = 0;
	EXPECT(vblk_restart(&blk));
	EXPECT_EQ(*field, 1);
	/* Without FLUSH there is no cache to begin with (§5.2.5.2). */
	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_CONFIG_WCE, QUEUE));
	EXPECT_EQ(*field, 0);
	fill_scratch();
}

/* --- interrupts, and two processors on one queue --- */

static volatile unsigned irqs;

static bool disk_irq(struct trap_frame *frame)
{
	(void)frame;
	vreg_set(&blk.dev, VREG_INTERRUPT_ACK, vreg(&blk.dev, VREG_INTERRUPT_STATUS));
	irqs++;
	lapic_eoi();
	return true;
}

static void irq_begin(void)
{
	irqs = 0;
	trap_handle(VEC_DISK, disk_irq);
	ioapic_route(blk.dev.gsi, VEC_DISK, lapic_id(), 0);
}

/* The way of every ordinary driver: each request interrupts, EVENT_IDX re-armed each time. */
static void interrupt_driven(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg data = {(uint64_t)buf, SECTOR, false};
	uint32_t id, len;

	OPEN(VBLK_F_ALL);
	irq_begin();
	irq_enable();
	for (unsigned i = 0; i < 50; i++) {
		uint64_t end = deadline_ms(WAIT_MS);

		*vring_used_event(&blk.q) = blk.q.used_seen;
		vblk_prepare(r, VBLK_T_IN, i, &data, 1);
		EXPECT(vblk_offer(&blk, r, 3));
		vring_kick(&blk.q);
		while (irqs == i && !expired(end))
			cpu_pause();
		EXPECT_EQ(irqs, i + 1);
		EXPECT(vring_take(&blk.q, &id, &len));
		vring_free(&blk.q, (uint16_t)id);
		EXPECT_EQ(r->status, VBLK_S_OK);
	}
	irq_disable();
	ioapic_mask(blk.dev.gsi);
}

#define SHARE 400

static struct {
	struct spinlock lock;
	struct smp_barrier start;
	uint8_t data[2][SECTOR];
	uint8_t owner[QUEUE]; /* by head: whose request it is */
	volatile unsigned done[2];
	volatile bool bad;
} shared;

/* Takes one answer under the lock, whoever's it is. */
static void reap_shared(void)
{
	uint32_t id, len;

	spin_lock(&shared.lock);
	if (vring_take(&blk.q, &id, &len)) {
		vring_free(&blk.q, (uint16_t)id);
		shared.done[shared.owner[id]]++;
	}
	spin_unlock(&shared.lock);
}

static long share_queue(void *arg)
{
	unsigned me = (unsigned)(uint64_t)arg;
	struct vblk_req *r = requests[me];
	struct vseg data = {(uint64_t)shared.data[me], SECTOR, false};

	smp_barrier_wait(&shared.start, 2, WAIT_MS);
	for (unsigned i = 0; i < SHARE && !shared.bad; i++) {
		uint64_t end = deadline_ms(WAIT_MS), sector = (me * 400 + i) % MAIN_WRITTEN;

		vblk_prepare(r, VBLK_T_IN, sector, &data, 1);
		spin_lock(&shared.lock);
		if (!vblk_offer(&blk, r, 3))
			shared.bad = true;
		shared.owner[r->head] = (uint8_t)me;
		*vring_used_event(&blk.q) = blk.q.used_seen;
		vring_kick(&blk.q);
		spin_unlock(&shared.lock);
		while (shared.done[me] == i && !expired(end))
			reap_shared();
		if (r->status != VBLK_S_OK ||
		    pattern_check(shared.data[me], MAIN_SEED, sector, 1) != 1)
			shared.bad = true;
	}
	return 0;
}

static void share_queue_cpu1(void *arg)
{
	run_user(share_queue, arg);
}

/* Processor 1 polls, processor 0 takes the interrupts on top. */
static void two_processors(void)
{
	uint64_t end;

	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	EXPECT(smp_start_all(2) == 2);
	OPEN(VBLK_F_ALL);
	alloc_requests(2);
	irq_begin();
	irq_enable();
	smp_run(1, share_queue_cpu1, (void *)1);
	run_user(share_queue, (void *)0);
	end = deadline_ms(WAIT_MS);
	EXPECT(smp_wait(1, 10000));
	/* KVM raises an IOAPIC pin from a work queue, which two polling processors can hold up. */
	while (!irqs && !expired(end))
		cpu_pause();
	irq_disable();
	ioapic_mask(blk.dev.gsi);
	EXPECT(!shared.bad);
	EXPECT_EQ(shared.done[0], SHARE);
	EXPECT_EQ(shared.done[1], SHARE);
	EXPECT_EQ(blk.q.free_count, QUEUE);
	EXPECT(irqs > 0);
	print("# blk: %u interrupts for %u requests of two processors\n", irqs, 2 * SHARE);
}

static const struct test_case cases[] = {
    {"configuration", configuration, 3},
    {"read_one", read_one, 3},
    {"read_big", read_big, 3},
    {"read_last_sector", read_last_sector, 3},
    {"write_range", write_range, 3},
    {"used_lengths", used_lengths, 3},
    {"flush", flush, 3},
    {"get_id", get_id, 3},
    {"multi_segment", multi_segment, 3},
    {"seg_max_segments", seg_max_segments, 3},
    {"indirect", indirect, 3},
    {"indirect_small_queue", indirect_small_queue, 3},
    {"batch", batch, 3},
    {"index_wrap", index_wrap, 3},
    {"no_interrupt_flag", no_interrupt_flag, 3},
    {"event_idx_interrupts", event_idx_interrupts, 3},
    {"event_idx_batch", event_idx_batch, 3},
    {"no_lost_kick", no_lost_kick, 3},
    {"superfluous_kicks", superfluous_kicks, 3},
    {"reset_in_flight", reset_in_flight, 3},
    {"write_zeroes", write_zeroes, 3},
    {"discard", discard, 3},
    {"overlay_zeroes", overlay_zeroes, 3},
    {"writeback", writeback, 3},
    {"overlay", overlay, 3},
    {"interrupt_driven", interrupt_driven, 0},
    {"two_processors", two_processors, 0},
};

int payload_main(void)
{
	return run_cases("blk", cases, ARRAY_SIZE(cases));
}
