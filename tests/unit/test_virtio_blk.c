/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk as a driver sees it: configuration, requests, framing, batches. */
#include <errno.h>

#include "blk_driver.h"

/* --- configuration --- */

BlkTest(config)
{
	cr_expect_eq(virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG, 8), DISK_SECTORS);
	cr_expect_eq(rd(&bt.drv, R_CONFIG), DISK_SECTORS);
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 8), 1u << 20, "size_max");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 12), 254, "seg_max");
	cr_expect_eq(rd(&bt.drv, R_CONFIG + 20), 512, "blk_size");
	cr_expect_eq(virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG + 24, 1), 3, "4096 = 512 << 3");
	cr_expect_eq(rd(&bt.drv, R_DEVICE_ID), 2);
	cr_expect_eq(vdriver_offered(&bt.drv), F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_SIZE_MAX |
						   F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY |
						   F_WCE | F_DISCARD | F_ZEROES);
	blk_remake(true, F_VERSION_1, 64);
	cr_expect_eq(vdriver_offered(&bt.drv), F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_SIZE_MAX |
						   F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY |
						   F_RO);
	bt.plain = true;
	blk_remake(false, F_VERSION_1, 64);
	cr_expect_eq(vdriver_offered(&bt.drv) & (F_WCE | F_DISCARD | F_ZEROES), F_WCE);
}

/* §5.2.5.2, and what belongs to features that are not offered. */
BlkTest(config_padding_is_zero)
{
	uint8_t *bytes = ring_at(&bt.drv.ring, DATA);

	for (unsigned i = 0; i < 96; i++)
		bytes[i] = (uint8_t)virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG + i, 1);
	cr_expect_eq(bytes[33], 0, "unused0");
	cr_expect_eq(bytes[57] | bytes[58] | bytes[59], 0, "unused1");
	for (unsigned i = 34; i < 96; i++)
		cr_expect(bytes[i] == 0 || (i >= 36 && i < 57), "byte %u", i);
	bt.plain = true;
	blk_remake(false, BLK_FEATURES, 64);
	for (unsigned i = 33; i < 96; i++)
		cr_expect_eq(virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG + i, 1), 0, "byte %u",
			     i);
	blk_remake(true, BLK_FEATURES, 64);
	for (unsigned i = 32; i < 96; i++)
		cr_expect_eq(virtio_mmio_io_ops.read(bt.drv.mmio, R_CONFIG + i, 1), 0, "byte %u",
			     i);
}

BlkTest(long_ids_are_refused)
{
	struct virtio_blk_options opt = {.backend = &bt.disk.block, .id = "123456789012345678901"};
	struct virtio_blk *other;
	struct err err = {0};

	cr_expect_eq(virtio_blk_new(&opt, &other, &err), -EINVAL);
	cr_expect(strstr(err.text, "123456789012345678901") != NULL);
}

/* --- requests --- */

BlkTest(read)
{
	struct virtio_blk_counters c;

	cr_expect_eq(blk_simple(T_IN, 3, 1024, true), 1025);
	cr_expect_eq(blk_status(), OK);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA), bt.disk.data + 3 * 512, 1024);
	blk_count(&c);
	cr_expect_eq(c.requests, 1);
	cr_expect_eq(c.read_bytes, 1024);
	cr_expect_eq(c.errors, 0);
}

BlkTest(write)
{
	struct virtio_blk_counters c;

	memset(ring_at(&bt.drv.ring, DATA), 0x5a, 1024);
	cr_expect_eq(blk_simple(T_OUT, 126, 1024, false), 1);
	cr_expect_eq(blk_status(), OK);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA), bt.disk.data + 126 * 512, 1024);
	cr_expect_eq(bt.disk.flushes, 0, "a write-back cache");
	blk_count(&c);
	cr_expect_eq(c.written_bytes, 1024);
}

BlkTest(flush)
{
	struct virtio_blk_counters c;

	cr_expect_eq(blk_simple(T_FLUSH, 0, 0, false), 1);
	cr_expect_eq(blk_status(), OK);
	cr_expect_eq(bt.disk.flushes, 1);
	blk_count(&c);
	cr_expect_eq(c.flushes, 1);
}

/* §5.2.6.2: without VIRTIO_BLK_F_FLUSH a completed write is a stable one. */
BlkTest(write_through)
{
	blk_remake(false, F_VERSION_1, 64);
	blk_simple(T_OUT, 0, 512, false);
	cr_expect_eq(blk_status(), OK);
	cr_expect_eq(bt.disk.flushes, 1);
	blk_simple(T_IN, 0, 512, true);
	cr_expect_eq(bt.disk.flushes, 1);
}

BlkTest(get_id)
{
	char expect[20] = "disk-7";

	memset(ring_at(&bt.drv.ring, DATA), 0xff, 64);
	cr_expect_eq(blk_simple(T_GET_ID, 0, 20, true), 21);
	cr_expect_eq(blk_status(), OK);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA), expect, 20);
	cr_expect_eq(blk_simple(T_GET_ID, 0, 4, true), 5);
	cr_expect_eq(blk_status(), OK);
	memset(ring_at(&bt.drv.ring, DATA), 0xff, 64);
	cr_expect_eq(blk_simple(T_GET_ID, 0, 64, true), 20, "no more than the id was written");
	cr_expect_eq(blk_status(), OK);
	cr_expect_eq(*(uint8_t *)ring_at(&bt.drv.ring, DATA + 20), 0xff);
}

BlkTest(unsupported_types)
{
	const uint32_t types[] = {2, 3, 5, 11, 13, 14, 0x80000000, 0x80000001, 0xffffffff};
	struct virtio_blk_counters c;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		cr_expect_eq(blk_simple(types[i], 0, 512, false), 1);
		cr_expect_eq(blk_status(), UNSUPP, "type %#x", types[i]);
	}
	cr_expect_eq(bt.disk.reads + bt.disk.writes + bt.disk.flushes, 0);
	blk_count(&c);
	cr_expect_eq(c.errors, sizeof(types) / sizeof(types[0]));
}

BlkTest(out_of_range)
{
	const struct {
		uint64_t sector;
		uint32_t len;
		int status;
	} cases[] = {
	    {127, 512, OK},
	    {126, 1024, OK},
	    {127, 1024, IOERR},
	    {128, 512, IOERR},
	    {129, 512, IOERR},
	    {UINT64_MAX, 512, IOERR},
	    {UINT64_MAX / 512, 512, IOERR},
	    {UINT64_MAX / 512 + 1, 512, IOERR}, /* the byte offset would wrap to 0 */
	    {0, 513, IOERR},
	    {0, 511, IOERR},
	    {0, 1, IOERR},
	    {0, 0, OK},
	    {128, 0, OK},
	    {129, 0, IOERR},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		blk_simple(T_IN, cases[i].sector, cases[i].len, true);
		cr_expect_eq(blk_status(), cases[i].status, "read, case %zu: %d", i, blk_status());
		blk_simple(T_OUT, cases[i].sector, cases[i].len, false);
		cr_expect_eq(blk_status(), cases[i].status, "write, case %zu: %d", i, blk_status());
	}
	cr_expect_eq(bt.disk.reads, 2);
	cr_expect_eq(bt.disk.writes, 2);
}

/* More than size_max * seg_max: the disk would be large enough, the driver's patience is not. */
BlkTest(too_long)
{
	bt.disk.block.size = 1ull << 40;
	blk_header(T_IN, 0);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	for (uint16_t i = 1; i < 255; i++)
		ring_desc_at(&bt.drv.ring, RING_TABLES, i, DATA,
			     i == 1 ? (1u << 20) + 512 : 1u << 20, D_NEXT | D_WRITE,
			     (uint16_t)(i + 1));
	ring_desc_at(&bt.drv.ring, RING_TABLES, 255, STATUS, 1, D_WRITE, 0);
	ring_set(&bt.drv.ring, 0, RING_TABLES, 256 * 16, D_INDIRECT, 0);
	cr_expect_eq(blk_submit(), 0);
	cr_expect_eq(blk_status(), IOERR);
	cr_expect_eq(bt.disk.reads, 0);
}

BlkTest(read_only)
{
	blk_remake(true, BLK_FEATURES, 64);
	cr_expect_eq(blk_simple(T_OUT, 0, 512, false), 1);
	cr_expect_eq(blk_status(), IOERR);
	cr_expect_eq(bt.disk.writes, 0);
	blk_simple(T_IN, 0, 512, true);
	cr_expect_eq(blk_status(), OK);
	blk_simple(T_FLUSH, 0, 0, false);
	cr_expect_eq(blk_status(), OK);
}

/* §2.7.5.1: what the driver has for reading is not written to, whatever the request asks for. */
BlkTest(readable_buffers_stay_as_they_are)
{
	const uint32_t types[] = {T_OUT, T_IN, T_GET_ID, T_FLUSH};
	const uint8_t *data = ring_at(&bt.drv.ring, DATA);

	memset(ring_at(&bt.drv.ring, DATA), 0x5a, 512);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		cr_expect_eq(blk_simple(types[i], 3, 512, false), 1);
		for (unsigned k = 0; k < 512; k++)
			cr_assert_eq(data[k], 0x5a, "type %u", types[i]);
	}
}

BlkTest(host_errors)
{
	struct virtio_blk_counters c;

	bt.disk.fail = -EIO;
	cr_expect_eq(blk_simple(T_IN, 0, 512, true), 0, "nothing was written from the start on");
	cr_expect_eq(blk_status(), IOERR);
	bt.disk.fail = -ENOSPC;
	cr_expect_eq(blk_simple(T_OUT, 0, 512, false), 1);
	cr_expect_eq(blk_status(), IOERR);
	blk_simple(T_FLUSH, 0, 0, false);
	cr_expect_eq(blk_status(), IOERR);
	bt.disk.fail = 0;
	blk_simple(T_IN, 0, 512, true);
	cr_expect_eq(blk_status(), OK);
	blk_count(&c);
	cr_expect_eq(c.requests, 4);
	cr_expect_eq(c.errors, 3);
	cr_expect_eq(c.read_bytes, 512);
	cr_expect_eq(c.written_bytes, 0);
}

BlkTest(host_error_in_write_through)
{
	blk_remake(false, F_VERSION_1, 64);
	bt.disk.fail = -EIO;
	blk_simple(T_OUT, 0, 512, false);
	cr_expect_eq(blk_status(), IOERR);
}

/* --- framing, §2.7.4.1 --- */

BlkTest(many_segments)
{
	blk_remake(false, BLK_FEATURES, 128);
	blk_header(T_IN, 0);
	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, 1);
	for (uint16_t i = 1; i <= 120; i++)
		ring_set(&bt.drv.ring, i, DATA + i * 600u, 512, D_NEXT | D_WRITE,
			 (uint16_t)(i + 1));
	ring_set(&bt.drv.ring, 121, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 120 * 512 + 1);
	cr_expect_eq(blk_status(), OK);
	for (unsigned i = 1; i <= 120; i++)
		cr_assert_arr_eq(ring_at(&bt.drv.ring, DATA + i * 600u),
				 bt.disk.data + (i - 1) * 512, 512);
	cr_expect_eq(bt.disk.reads, 1);
}

BlkTest(indirect)
{
	blk_header(T_IN, 7);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 1, DATA, 100, D_NEXT | D_WRITE, 2);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 2, DATA + 0x800, 412, D_NEXT | D_WRITE, 3);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 3, STATUS, 1, D_WRITE, 0);
	ring_set(&bt.drv.ring, 0, RING_TABLES, 64, D_INDIRECT, 0);
	cr_expect_eq(blk_submit(), 513);
	cr_expect_eq(blk_status(), OK);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA), bt.disk.data + 7 * 512, 100);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA + 0x800), bt.disk.data + 7 * 512 + 100, 412);
}

BlkTest(header_in_pieces_with_data)
{
	uint8_t *p = ring_at(&bt.drv.ring, DATA);

	blk_header(T_OUT, 9);
	memcpy(p, (uint8_t *)ring_at(&bt.drv.ring, HDR) + 10, 6);
	memset(p + 6, 0x77, 512);
	ring_set(&bt.drv.ring, 0, HDR, 3, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, HDR + 3, 7, D_NEXT, 2);
	ring_set(&bt.drv.ring, 2, HDR, 0, D_NEXT, 3);
	ring_set(&bt.drv.ring, 3, DATA, 6 + 512, D_NEXT, 4); /* end of the header, then data */
	ring_set(&bt.drv.ring, 4, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 1);
	cr_expect_eq(blk_status(), OK);
	cr_expect_arr_eq(bt.disk.data + 9 * 512, p + 6, 512);
}

BlkTest(status_behind_the_data)
{
	blk_header(T_IN, 1);
	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, DATA, 513, D_WRITE | D_NEXT, 2);
	ring_set(&bt.drv.ring, 2, DATA + 0x1000, 0, D_WRITE, 0);
	memset(ring_at(&bt.drv.ring, DATA), 0xff, 514);
	cr_expect_eq(blk_submit(), 513);
	cr_expect_arr_eq(ring_at(&bt.drv.ring, DATA), bt.disk.data + 512, 512);
	cr_expect_eq(*(uint8_t *)ring_at(&bt.drv.ring, DATA + 512), OK);
	cr_expect_eq(*(uint8_t *)ring_at(&bt.drv.ring, DATA + 513), 0xff);
}

BlkTest(write_with_room_before_the_status)
{
	blk_header(T_OUT, 1);
	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, DATA, 512, D_NEXT, 2);
	ring_set(&bt.drv.ring, 2, DATA + 0x1000, 10, D_WRITE | D_NEXT, 3);
	ring_set(&bt.drv.ring, 3, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 0, "the ten bytes were not written");
	cr_expect_eq(blk_status(), OK);
}

BlkTest(chains_too_short)
{
	struct virtio_blk_counters c;

	/* No writable byte: no status, but it comes back. */
	blk_header(T_IN, 0);
	ring_set(&bt.drv.ring, 0, HDR, 16, 0, 0);
	cr_expect_eq(blk_submit(), 0);
	/* No header. */
	ring_set(&bt.drv.ring, 0, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 1);
	cr_expect_eq(blk_status(), IOERR);
	/* Half a header. */
	blk_header(T_IN, 0);
	ring_set(&bt.drv.ring, 0, HDR, 15, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 1);
	cr_expect_eq(blk_status(), IOERR);
	/* A header and an empty writable buffer. */
	blk_header(T_IN, 0);
	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&bt.drv.ring, 1, STATUS, 0, D_WRITE, 0);
	cr_expect_eq(blk_submit(), 0);
	/* Nothing at all. */
	ring_set(&bt.drv.ring, 0, HDR, 0, 0, 0);
	cr_expect_eq(blk_submit(), 0);
	blk_count(&c);
	cr_expect_eq(c.errors, 5);
	cr_expect_eq(c.requests, 2);
	cr_expect_eq(bt.disk.reads, 0);
}

BlkTest(malformed_chain_comes_back)
{
	struct virtio_counters c;

	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, 0);
	cr_expect_eq(blk_submit(), 0);
	virtio_counters(bt.drv.virtio, &c);
	cr_expect_eq(c.malformed, 1);
	blk_simple(T_IN, 0, 512, true);
	cr_expect_eq(blk_status(), OK);
}

BlkTest(broken_ring)
{
	__atomic_store_n(ring_u16(&bt.drv.ring, RING_AVAIL + 2), 1000, __ATOMIC_RELEASE);
	wr(&bt.drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_interrupt(&bt.drv, 5000));
	cr_expect_eq(rd(&bt.drv, R_STATUS) & S_NEEDS_RESET, S_NEEDS_RESET);
	vdriver_start(&bt.drv, BLK_FEATURES);
	blk_simple(T_IN, 0, 512, true);
	cr_expect_eq(blk_status(), OK);
}

/* --- batches --- */

/* One kick for a full ring, more than one turn of the loop: everything is served, one by one. */
static void full_ring(uint64_t features)
{
	struct virtio_counters c;
	uint32_t id = 0, len = 0;

	blk_remake(false, features, 256);
	blk_header(T_IN, 5);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 1, DATA, 512, D_NEXT | D_WRITE, 2);
	ring_desc_at(&bt.drv.ring, RING_TABLES, 2, STATUS, 1, D_WRITE, 0);
	ring_used_event(&bt.drv.ring, 255);
	for (uint16_t i = 0; i < 256; i++) {
		ring_set(&bt.drv.ring, i, RING_TABLES, 48, D_INDIRECT, 0);
		ring_offer(&bt.drv.ring, i);
	}
	wr(&bt.drv, R_QUEUE_NOTIFY, 0);
	for (unsigned i = 0; i < 256; i++) {
		cr_assert(vdriver_used(&bt.drv, &id, &len));
		cr_expect_eq(id, i);
		cr_expect_eq(len, 513);
	}
	vdriver_settle(&bt.drv);
	virtio_counters(bt.drv.virtio, &c);
	cr_expect_eq(bt.disk.reads, 256);
	if (features & F_EVENT_IDX)
		cr_expect_eq(c.interrupts, 1, "%u interrupts", (unsigned)c.interrupts);
	else
		cr_expect(c.interrupts < 16, "%u interrupts", (unsigned)c.interrupts);
}

BlkTest(full_ring_event_idx)
{
	full_ring(BLK_FEATURES);
}

BlkTest(full_ring_flags)
{
	full_ring(BLK_FEATURES & ~F_EVENT_IDX);
}

BlkTest(reset_in_the_middle, .timeout = 60)
{
	for (unsigned round = 0; round < 100; round++) {
		unsigned before;

		blk_remake(false, BLK_FEATURES, 256);
		blk_header(T_OUT, 0);
		ring_desc_at(&bt.drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
		ring_desc_at(&bt.drv.ring, RING_TABLES, 1, DATA, 4096, D_NEXT, 2);
		ring_desc_at(&bt.drv.ring, RING_TABLES, 2, STATUS, 1, D_WRITE, 0);
		for (uint16_t i = 0; i < 256; i++) {
			ring_set(&bt.drv.ring, i, RING_TABLES, 48, D_INDIRECT, 0);
			ring_offer(&bt.drv.ring, i);
		}
		wr(&bt.drv, R_QUEUE_NOTIFY, 0);
		wr(&bt.drv, R_STATUS, 0);
		before = bt.disk.writes;
		vdriver_settle(&bt.drv);
		cr_assert_eq(bt.disk.writes, before, "the disk was written to after a reset");
	}
}
