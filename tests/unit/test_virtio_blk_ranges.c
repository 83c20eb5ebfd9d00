/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk as a driver sees it: discard, write zeroes, and the cache that it may turn off. */
#include <errno.h>
#include <unistd.h>

#include "blk_driver.h"

#define RANGE_FEATURES (BLK_FEATURES | F_DISCARD | F_ZEROES)
#define UNMAP	       1u

static void setup(void)
{
	blk_make(false, RANGE_FEATURES, 64);
}

#define RangeTest(name) Test(virtio_blk, name, .init = setup, .fini = blk_teardown)

/* Sectors [from, to) are full of `fill`, the others as they were made. */
static void expect_disk(unsigned from, unsigned to, uint8_t fill)
{
	for (unsigned i = 0; i < DISK_BYTES; i++) {
		bool inside = i / 512 >= from && i / 512 < to;

		cr_assert_eq(bt.disk.data[i], inside ? fill : (uint8_t)(i / 512 + i), "byte %u", i);
	}
}

static void expect_untouched(void)
{
	expect_disk(0, 0, 0);
	cr_expect_eq(bt.disk.discards + bt.disk.zeroes + bt.disk.flushes, 0);
}

RangeTest(limits)
{
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 36), 1u << 21, "max_discard_sectors");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 40), 16, "max_discard_seg");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 44), 8, "discard_sector_alignment");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 48), 1u << 17, "max_write_zeroes_sectors");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 52), 1, "max_write_zeroes_seg");
	cr_expect_eq(virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG + 56, 1), 1, "may_unmap");
}

RangeTest(discard)
{
	static const struct blk_range range[] = {{8, 3, 0}, {5, 3, 0}, {11, 1, 0}, {90, 0, 0}};

	cr_expect_eq(blk_ranges(T_DISCARD, range, 4), OK);
	expect_disk(5, 12, 0xdd);
	cr_expect_eq(bt.disk.discards, 3, "none of nothing");
	cr_expect_eq(bt.disk.flushes, 0);
}

RangeTest(write_zeroes)
{
	static const struct blk_range keep = {100, 28, 0}, give = {96, 8, UNMAP};

	cr_expect_eq(blk_ranges(T_ZEROES, &keep, 1), OK);
	cr_expect_eq(bt.disk.unmap, false);
	expect_disk(100, 128, 0);
	cr_expect_eq(blk_ranges(T_ZEROES, &give, 1), OK);
	cr_expect_eq(bt.disk.unmap, true);
	expect_disk(96, 128, 0);
}

/* §5.2.6.2 */
RangeTest(flags_that_are_not_known)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		const struct blk_range range[] = {{0, 1, 0}, {1, 1, 1u << bit}};

		cr_expect_eq(blk_ranges(T_DISCARD, range, 2), UNSUPP, "bit %u", bit);
		if (bit > 0)
			cr_expect_eq(blk_ranges(T_ZEROES, &range[1], 1), UNSUPP, "bit %u", bit);
	}
	expect_untouched();
}

/* One bad range, and nothing is done. */
RangeTest(ranges_that_are_not_there)
{
	static const struct blk_range bad[] = {
	    {128, 1, 0},
	    {127, 2, 0},
	    {0, 129, 0},
	    {129, 0, 0},
	    {UINT64_MAX, 1, 0},
	    {UINT64_MAX / 512 + 1, 1, 0},
	    {UINT64_MAX, UINT32_MAX, 0},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct blk_range range[] = {{0, 1, 0}, bad[i]};

		cr_expect_eq(blk_ranges(T_DISCARD, range, 2), IOERR, "case %u", i);
		cr_expect_eq(blk_ranges(T_ZEROES, &bad[i], 1), IOERR, "case %u", i);
	}
	expect_untouched();
}

RangeTest(more_than_the_limits)
{
	struct blk_range range[17] = {{0}};

	/* The disk would be large enough. */
	bt.disk.block.size = 1ull << 40;
	cr_expect_eq(blk_ranges(T_DISCARD, range, 16), OK, "of no sectors");
	cr_expect_eq(blk_ranges(T_DISCARD, range, 17), IOERR);
	cr_expect_eq(blk_ranges(T_ZEROES, range, 2), IOERR);
	range[0].sectors = (1u << 21) + 1;
	cr_expect_eq(blk_ranges(T_DISCARD, range, 1), IOERR);
	range[0].sectors = (1u << 17) + 1;
	cr_expect_eq(blk_ranges(T_ZEROES, range, 1), IOERR);
	expect_untouched();
}

RangeTest(odd_lengths)
{
	static const uint32_t lens[] = {0, 1, 15, 17, 255, 257, 4096};
	static const struct blk_range range = {0, 1, 0};

	memset(ring_at(&bt.drv.ring, DATA), 0, 4096);
	memcpy(ring_at(&bt.drv.ring, DATA), &range, sizeof(range));
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		blk_simple(T_DISCARD, 0, lens[i], false);
		cr_expect_eq(blk_status(), IOERR, "%u bytes", lens[i]);
		blk_simple(T_ZEROES, 0, lens[i], false);
		cr_expect_eq(blk_status(), IOERR, "%u bytes", lens[i]);
	}
	expect_untouched();
}

/* Cut anywhere (§2.7.4.1), behind the header in its descriptor. */
RangeTest(ranges_in_pieces)
{
	static const struct blk_range range[] = {{3, 1, 0}, {4, 2, 0}};
	uint8_t *p = ring_at(&bt.drv.ring, DATA);

	blk_header(T_DISCARD, 0);
	memcpy(p, (uint8_t *)ring_at(&bt.drv.ring, HDR) + 10, 6);
	memcpy(p + 6, range, sizeof(range));
	ring_set(&bt.drv.ring, 0, HDR, 10, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, DATA, 6 + 5, D_NEXT, 2);
	ring_set(&bt.drv.ring, 2, DATA + 11, 27, D_NEXT, 3);
	ring_set(&bt.drv.ring, 3, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 1);
	cr_expect_eq(blk_status(), OK);
	expect_disk(3, 6, 0xdd);
}

RangeTest(what_was_not_negotiated)
{
	static const struct blk_range range = {0, 1, 0};

	blk_remake(false, BLK_FEATURES, 64);
	cr_expect_eq(blk_ranges(T_DISCARD, &range, 1), UNSUPP);
	cr_expect_eq(blk_ranges(T_ZEROES, &range, 1), UNSUPP);
	expect_untouched();
}

/* A read-only disk offers neither, and takes neither. */
RangeTest(a_disk_that_is_read_only)
{
	static const struct blk_range range = {0, 1, UNMAP};

	blk_remake(true, BLK_FEATURES, 64);
	cr_expect_eq(blk_ranges(T_DISCARD, &range, 1), UNSUPP);
	cr_expect_eq(blk_ranges(T_ZEROES, &range, 1), UNSUPP);
	expect_untouched();
}

RangeTest(errors_of_the_host)
{
	static const struct blk_range range = {0, 1, 0};

	bt.disk.fail = -ENOSPC;
	cr_expect_eq(blk_ranges(T_DISCARD, &range, 1), IOERR);
	cr_expect_eq(blk_ranges(T_ZEROES, &range, 1), IOERR);
}

/* --- the cache, §5.2.5, §5.2.6.2 --- */

#define WRITEBACK (R_CONFIG + 32)

static unsigned writeback(void)
{
	return (unsigned)virtio_mmio_io_ops.read(bt.drv.mmio, WRITEBACK, 1);
}

static void set_writeback(unsigned value)
{
	virtio_mmio_io_ops.write(bt.drv.mmio, WRITEBACK, 1, value);
}

/* Flushes that a write, and zeroes, bring about by themselves. */
static unsigned flushes_of_a_write(void)
{
	unsigned before = bt.disk.flushes;

	blk_simple(T_OUT, 0, 512, false);
	cr_assert_eq(blk_status(), OK);
	return bt.disk.flushes - before;
}

RangeTest(writeback_is_the_drivers)
{
	static const struct blk_range range = {0, 1, 0};

	blk_remake(false, RANGE_FEATURES | F_WCE, 64);
	cr_expect_eq(writeback(), 1, "there is a cache");
	cr_expect_eq(flushes_of_a_write(), 0);
	set_writeback(0);
	cr_expect_eq(writeback(), 0);
	cr_expect_eq(flushes_of_a_write(), 1);
	cr_expect_eq(blk_ranges(T_ZEROES, &range, 1), OK);
	cr_expect_eq(bt.disk.flushes, 2);
	set_writeback(1);
	cr_expect_eq(flushes_of_a_write(), 0);
	/* As a whole, and nothing beside it. */
	virtio_mmio_io_ops.write(bt.drv.mmio, WRITEBACK, 4, 0);
	virtio_mmio_io_ops.write(bt.drv.mmio, R_CONFIG, 1, 0);
	cr_expect_eq(writeback(), 1);
	cr_expect_eq(rd(&bt.drv, R_CONFIG), DISK_SECTORS);
	set_writeback(0);
	wr(&bt.drv, R_STATUS, 0);
	cr_expect_eq(writeback(), 1, "after a reset");
	vdriver_start(&bt.drv, RANGE_FEATURES | F_WCE);
	cr_expect_eq(flushes_of_a_write(), 0);
}

RangeTest(writeback_without_the_feature)
{
	set_writeback(0);
	cr_expect_eq(writeback(), 1);
	cr_expect_eq(flushes_of_a_write(), 0);
}

/* Before DRIVER_OK, too; and without FLUSH it starts with 0, and every write is stable. */
RangeTest(writeback_without_flush)
{
	cr_assert(vdriver_negotiate(&bt.drv, F_VERSION_1 | F_WCE));
	cr_expect_eq(writeback(), 0);
	set_writeback(1);
	cr_expect_eq(writeback(), 1);
	vdriver_start(&bt.drv, F_VERSION_1 | F_WCE);
	cr_expect_eq(writeback(), 0);
	cr_expect_eq(flushes_of_a_write(), 1);
	set_writeback(1);
	cr_expect_eq(flushes_of_a_write(), 1, "for it cannot ask for it");
	/* What was set before DRIVER_OK stands. */
	cr_assert(vdriver_negotiate(&bt.drv, BLK_FEATURES | F_WCE));
	set_writeback(0);
	vdriver_go(&bt.drv);
	cr_expect_eq(writeback(), 0);
}

/* More of them than one turn of the loop carries out: all are, and other requests behind them. */
RangeTest(many_discards_at_once)
{
	static const struct blk_range range = {1, 1, 0};
	struct virtio_counters before, after;
	uint32_t id, len;

	blk_header(T_DISCARD, 0);
	for (unsigned i = 0; i < 16; i++)
		memcpy((uint8_t *)ring_at(&bt.drv.ring, DATA) + i * 16, &range, 16);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 1, DATA, 256, D_NEXT, 2);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 2, STATUS, 1, D_WRITE, 0);
	virtio_counters(bt.drv.virtio, &before);
	for (uint16_t i = 0; i < 64; i++) {
		ring_set(&bt.drv.ring, i, RING_TABLES, 48, D_INDIRECT, 0);
		ring_offer(&bt.drv.ring, i);
	}
	wr(&bt.drv, R_QUEUE_NOTIFY, 0);
	/* By looking: the driver asked for one interrupt, and there are several batches. */
	for (unsigned i = 0, tries = 0; i < 64 && tries < 5000;) {
		if (ring_take(&bt.drv.ring, &id, &len))
			i++;
		else if (usleep(1000) == 0)
			tries++;
	}
	vdriver_settle(&bt.drv);
	virtio_counters(bt.drv.virtio, &after);
	cr_expect_eq(bt.disk.discards, 64 * 16);
	cr_expect_geq(after.kicks - before.kicks, 64, "a turn each");
}
