/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk as a driver sees it, over a disk in memory that can be told to fail.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "minivm/virtio_blk.h"
#include "vdriver.h"

#define DISK_SECTORS 128u
#define DISK_BYTES   (DISK_SECTORS * 512u)

#define T_IN	 0u
#define T_OUT	 1u
#define T_FLUSH	 4u
#define T_GET_ID 8u

#define OK     0
#define IOERR  1
#define UNSUPP 2

#define F_SIZE_MAX   (1ull << 1)
#define F_SEG_MAX    (1ull << 2)
#define F_RO	     (1ull << 5)
#define F_BLK_SIZE   (1ull << 6)
#define F_FLUSH	     (1ull << 9)
#define F_TOPOLOGY   (1ull << 10)
#define BLK_FEATURES (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_SEG_MAX | F_FLUSH)

/* --- the disk --- */

struct memory_disk {
	struct block block;
	uint8_t data[DISK_BYTES];
	_Atomic int fail; /* -errno for every operation */
	_Atomic unsigned reads, writes, flushes;
	_Atomic bool closed;
};

static struct memory_disk disk;

static int disk_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct memory_disk *d = (struct memory_disk *)b;

	d->reads++;
	for (unsigned i = 0; d->fail == 0 && i < n; i++) {
		memcpy(iov[i].iov_base, d->data + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return d->fail;
}

static int disk_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct memory_disk *d = (struct memory_disk *)b;

	d->writes++;
	for (unsigned i = 0; d->fail == 0 && i < n; i++) {
		memcpy(d->data + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return d->fail;
}

static int disk_flush(struct block *b)
{
	struct memory_disk *d = (struct memory_disk *)b;

	d->flushes++;
	return d->fail;
}

static void disk_close(struct block *b)
{
	((struct memory_disk *)b)->closed = true;
}

static const struct block_ops disk_ops = {
    .name = "memory",
    .readv = disk_readv,
    .writev = disk_writev,
    .flush = disk_flush,
    .close = disk_close,
};

/* --- the driver --- */

static struct vdriver drv;
static struct virtio_blk *blk;

/* Where the parts of requests lie. */
#define HDR    RING_BUFFERS
#define STATUS (RING_BUFFERS + 0x100)
#define DATA   (RING_BUFFERS + 0x1000)

static void make(bool readonly, uint64_t features, uint16_t queue_size)
{
	struct virtio_blk_options opt = {.backend = &disk.block, .id = "disk-7"};
	struct err err = {0};

	memset(&disk, 0, sizeof(disk));
	disk.block = (struct block){
	    .ops = &disk_ops,
	    .size = DISK_BYTES,
	    .readonly = readonly,
	    .physical_block = 4096,
	};
	for (unsigned i = 0; i < DISK_BYTES; i++)
		disk.data[i] = (uint8_t)(i / 512 + i);
	opt.log = &drv.log;
	cr_assert_eq(virtio_blk_new(&opt, &blk, &err), 0, "%s", err.text);
	vdriver_init(&drv, &virtio_blk_ops, blk, queue_size);
	vdriver_start(&drv, features);
}

static void setup(void)
{
	make(false, BLK_FEATURES, 64);
}

static void teardown(void)
{
	vdriver_fini(&drv);
	cr_assert(disk.closed);
}

#define BlkTest(name, ...) Test(virtio_blk, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static void remake(bool readonly, uint64_t features, uint16_t queue_size)
{
	teardown();
	make(readonly, features, queue_size);
}

static void header(uint32_t type, uint64_t sector)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} h = {type, 0, sector};

	memcpy(ring_at(&drv.ring, HDR), &h, sizeof(h));
	*(uint8_t *)ring_at(&drv.ring, STATUS) = 0xee;
}

static int status(void)
{
	return *(uint8_t *)ring_at(&drv.ring, STATUS);
}

/* Offers head 0, kicks, waits. Returns the used length. */
static uint32_t submit(void)
{
	uint32_t id = 0, len = 0;

	ring_used_event(&drv.ring, drv.ring.used_seen);
	ring_offer(&drv.ring, 0);
	wr(&drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_used(&drv, &id, &len), "not completed");
	cr_assert_eq(id, 0);
	return len;
}

/* Header, one data buffer (none if len is 0), status. */
static uint32_t simple(uint32_t type, uint64_t sector, uint32_t len, bool from_device)
{
	header(type, sector);
	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, len ? 1 : 2);
	ring_set(&drv.ring, 1, DATA, len, D_NEXT | (from_device ? D_WRITE : 0), 2);
	ring_set(&drv.ring, 2, STATUS, 1, D_WRITE, 0);
	return submit();
}

static void count(struct virtio_blk_counters *c)
{
	virtio_blk_counters(blk, c);
}

/* --- configuration --- */

BlkTest(config)
{
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG, 8), DISK_SECTORS);
	cr_expect_eq(rd(&drv, R_CONFIG), DISK_SECTORS);
	cr_expect_eq(rd(&drv, R_CONFIG + 8), 1u << 20, "size_max");
	cr_expect_eq(rd(&drv, R_CONFIG + 12), 254, "seg_max");
	cr_expect_eq(rd(&drv, R_CONFIG + 20), 512, "blk_size");
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 24, 1), 3, "4096 = 512 << 3");
	cr_expect_eq(rd(&drv, R_DEVICE_ID), 2);
	cr_expect_eq(vdriver_offered(&drv), F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_SIZE_MAX |
						F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY);
	remake(true, F_VERSION_1, 64);
	cr_expect_eq(vdriver_offered(&drv) & F_RO, F_RO);
}

/* §5.2.5.2, and what belongs to features that are not offered. */
BlkTest(config_padding_is_zero)
{
	uint8_t *bytes = ring_at(&drv.ring, DATA);

	for (unsigned i = 0; i < 60; i++)
		bytes[i] = (uint8_t)virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + i, 1);
	cr_expect_eq(bytes[33], 0, "unused0");
	cr_expect_eq(bytes[57] | bytes[58] | bytes[59], 0, "unused1");
	for (unsigned i = 32; i < 60; i++)
		cr_expect_eq(bytes[i], 0, "byte %u", i);
}

BlkTest(long_ids_are_refused)
{
	struct virtio_blk_options opt = {.backend = &disk.block, .id = "123456789012345678901"};
	struct virtio_blk *other;
	struct err err = {0};

	cr_expect_eq(virtio_blk_new(&opt, &other, &err), -EINVAL);
	cr_expect(strstr(err.text, "123456789012345678901") != NULL);
}

/* --- requests --- */

BlkTest(read)
{
	struct virtio_blk_counters c;

	cr_expect_eq(simple(T_IN, 3, 1024, true), 1025);
	cr_expect_eq(status(), OK);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), disk.data + 3 * 512, 1024);
	count(&c);
	cr_expect_eq(c.requests, 1);
	cr_expect_eq(c.read_bytes, 1024);
	cr_expect_eq(c.errors, 0);
}

BlkTest(write)
{
	struct virtio_blk_counters c;

	memset(ring_at(&drv.ring, DATA), 0x5a, 1024);
	cr_expect_eq(simple(T_OUT, 126, 1024, false), 1);
	cr_expect_eq(status(), OK);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), disk.data + 126 * 512, 1024);
	cr_expect_eq(disk.flushes, 0, "a write-back cache");
	count(&c);
	cr_expect_eq(c.written_bytes, 1024);
}

BlkTest(flush)
{
	struct virtio_blk_counters c;

	cr_expect_eq(simple(T_FLUSH, 0, 0, false), 1);
	cr_expect_eq(status(), OK);
	cr_expect_eq(disk.flushes, 1);
	count(&c);
	cr_expect_eq(c.flushes, 1);
}

/* §5.2.6.2: without VIRTIO_BLK_F_FLUSH a completed write is a stable one. */
BlkTest(write_through)
{
	remake(false, F_VERSION_1, 64);
	simple(T_OUT, 0, 512, false);
	cr_expect_eq(status(), OK);
	cr_expect_eq(disk.flushes, 1);
	simple(T_IN, 0, 512, true);
	cr_expect_eq(disk.flushes, 1);
}

BlkTest(get_id)
{
	char expect[20] = "disk-7";

	memset(ring_at(&drv.ring, DATA), 0xff, 64);
	cr_expect_eq(simple(T_GET_ID, 0, 20, true), 21);
	cr_expect_eq(status(), OK);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), expect, 20);
	cr_expect_eq(simple(T_GET_ID, 0, 4, true), 5);
	cr_expect_eq(status(), OK);
	memset(ring_at(&drv.ring, DATA), 0xff, 64);
	cr_expect_eq(simple(T_GET_ID, 0, 64, true), 20, "no more than the id was written");
	cr_expect_eq(status(), OK);
	cr_expect_eq(*(uint8_t *)ring_at(&drv.ring, DATA + 20), 0xff);
}

BlkTest(unsupported_types)
{
	const uint32_t types[] = {2, 3, 5, 11, 13, 14, 0x80000000, 0x80000001, 0xffffffff};
	struct virtio_blk_counters c;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		cr_expect_eq(simple(types[i], 0, 512, false), 1);
		cr_expect_eq(status(), UNSUPP, "type %#x", types[i]);
	}
	cr_expect_eq(disk.reads + disk.writes + disk.flushes, 0);
	count(&c);
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
		simple(T_IN, cases[i].sector, cases[i].len, true);
		cr_expect_eq(status(), cases[i].status, "read, case %zu: %d", i, status());
		simple(T_OUT, cases[i].sector, cases[i].len, false);
		cr_expect_eq(status(), cases[i].status, "write, case %zu: %d", i, status());
	}
	cr_expect_eq(disk.reads, 2);
	cr_expect_eq(disk.writes, 2);
}

/* More than size_max * seg_max: the disk would be large enough, the driver's patience is not. */
BlkTest(too_long)
{
	disk.block.size = 1ull << 40;
	header(T_IN, 0);
	ring_desc_at(&drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	for (uint16_t i = 1; i < 255; i++)
		ring_desc_at(&drv.ring, RING_TABLES, i, DATA, i == 1 ? (1u << 20) + 512 : 1u << 20,
			     D_NEXT | D_WRITE, (uint16_t)(i + 1));
	ring_desc_at(&drv.ring, RING_TABLES, 255, STATUS, 1, D_WRITE, 0);
	ring_set(&drv.ring, 0, RING_TABLES, 256 * 16, D_INDIRECT, 0);
	cr_expect_eq(submit(), 0);
	cr_expect_eq(status(), IOERR);
	cr_expect_eq(disk.reads, 0);
}

BlkTest(read_only)
{
	remake(true, BLK_FEATURES, 64);
	cr_expect_eq(simple(T_OUT, 0, 512, false), 1);
	cr_expect_eq(status(), IOERR);
	cr_expect_eq(disk.writes, 0);
	simple(T_IN, 0, 512, true);
	cr_expect_eq(status(), OK);
	simple(T_FLUSH, 0, 0, false);
	cr_expect_eq(status(), OK);
}

/* §2.7.5.1: what the driver has for reading is not written to, whatever the request asks for. */
BlkTest(readable_buffers_stay_as_they_are)
{
	const uint32_t types[] = {T_OUT, T_IN, T_GET_ID, T_FLUSH};
	const uint8_t *data = ring_at(&drv.ring, DATA);

	memset(ring_at(&drv.ring, DATA), 0x5a, 512);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		cr_expect_eq(simple(types[i], 3, 512, false), 1);
		for (unsigned k = 0; k < 512; k++)
			cr_assert_eq(data[k], 0x5a, "type %u", types[i]);
	}
}

BlkTest(host_errors)
{
	struct virtio_blk_counters c;

	disk.fail = -EIO;
	cr_expect_eq(simple(T_IN, 0, 512, true), 0, "nothing was written from the start on");
	cr_expect_eq(status(), IOERR);
	disk.fail = -ENOSPC;
	cr_expect_eq(simple(T_OUT, 0, 512, false), 1);
	cr_expect_eq(status(), IOERR);
	simple(T_FLUSH, 0, 0, false);
	cr_expect_eq(status(), IOERR);
	disk.fail = 0;
	simple(T_IN, 0, 512, true);
	cr_expect_eq(status(), OK);
	count(&c);
	cr_expect_eq(c.requests, 4);
	cr_expect_eq(c.errors, 3);
	cr_expect_eq(c.read_bytes, 512);
	cr_expect_eq(c.written_bytes, 0);
}

BlkTest(host_error_in_write_through)
{
	remake(false, F_VERSION_1, 64);
	disk.fail = -EIO;
	simple(T_OUT, 0, 512, false);
	cr_expect_eq(status(), IOERR);
}

/* --- framing, §2.7.4.2 --- */

BlkTest(many_segments)
{
	remake(false, BLK_FEATURES, 128);
	header(T_IN, 0);
	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, 1);
	for (uint16_t i = 1; i <= 120; i++)
		ring_set(&drv.ring, i, DATA + i * 600u, 512, D_NEXT | D_WRITE, (uint16_t)(i + 1));
	ring_set(&drv.ring, 121, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(submit(), 120 * 512 + 1);
	cr_expect_eq(status(), OK);
	for (unsigned i = 1; i <= 120; i++)
		cr_assert_arr_eq(ring_at(&drv.ring, DATA + i * 600u), disk.data + (i - 1) * 512,
				 512);
	cr_expect_eq(disk.reads, 1);
}

BlkTest(indirect)
{
	header(T_IN, 7);
	ring_desc_at(&drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	ring_desc_at(&drv.ring, RING_TABLES, 1, DATA, 100, D_NEXT | D_WRITE, 2);
	ring_desc_at(&drv.ring, RING_TABLES, 2, DATA + 0x800, 412, D_NEXT | D_WRITE, 3);
	ring_desc_at(&drv.ring, RING_TABLES, 3, STATUS, 1, D_WRITE, 0);
	ring_set(&drv.ring, 0, RING_TABLES, 64, D_INDIRECT, 0);
	cr_expect_eq(submit(), 513);
	cr_expect_eq(status(), OK);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), disk.data + 7 * 512, 100);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA + 0x800), disk.data + 7 * 512 + 100, 412);
}

BlkTest(header_in_pieces_with_data)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	header(T_OUT, 9);
	memcpy(p, (uint8_t *)ring_at(&drv.ring, HDR) + 10, 6);
	memset(p + 6, 0x77, 512);
	ring_set(&drv.ring, 0, HDR, 3, D_NEXT, 1);
	ring_set(&drv.ring, 1, HDR + 3, 7, D_NEXT, 2);
	ring_set(&drv.ring, 2, HDR, 0, D_NEXT, 3);
	ring_set(&drv.ring, 3, DATA, 6 + 512, D_NEXT, 4); /* end of the header, then data */
	ring_set(&drv.ring, 4, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(submit(), 1);
	cr_expect_eq(status(), OK);
	cr_expect_arr_eq(disk.data + 9 * 512, p + 6, 512);
}

BlkTest(status_behind_the_data)
{
	header(T_IN, 1);
	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&drv.ring, 1, DATA, 513, D_WRITE | D_NEXT, 2);
	ring_set(&drv.ring, 2, DATA + 0x1000, 0, D_WRITE, 0);
	memset(ring_at(&drv.ring, DATA), 0xff, 514);
	cr_expect_eq(submit(), 513);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), disk.data + 512, 512);
	cr_expect_eq(*(uint8_t *)ring_at(&drv.ring, DATA + 512), OK);
	cr_expect_eq(*(uint8_t *)ring_at(&drv.ring, DATA + 513), 0xff);
}

BlkTest(write_with_room_before_the_status)
{
	header(T_OUT, 1);
	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&drv.ring, 1, DATA, 512, D_NEXT, 2);
	ring_set(&drv.ring, 2, DATA + 0x1000, 10, D_WRITE | D_NEXT, 3);
	ring_set(&drv.ring, 3, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(submit(), 0, "the ten bytes were not written");
	cr_expect_eq(status(), OK);
}

BlkTest(chains_too_short)
{
	struct virtio_blk_counters c;

	/* No writable byte: no status, but it comes back. */
	header(T_IN, 0);
	ring_set(&drv.ring, 0, HDR, 16, 0, 0);
	cr_expect_eq(submit(), 0);
	/* No header. */
	ring_set(&drv.ring, 0, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(submit(), 1);
	cr_expect_eq(status(), IOERR);
	/* Half a header. */
	header(T_IN, 0);
	ring_set(&drv.ring, 0, HDR, 15, D_NEXT, 1);
	ring_set(&drv.ring, 1, STATUS, 1, D_WRITE, 0);
	cr_expect_eq(submit(), 1);
	cr_expect_eq(status(), IOERR);
	/* A header and an empty writable buffer. */
	header(T_IN, 0);
	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, 1);
	ring_set(&drv.ring, 1, STATUS, 0, D_WRITE, 0);
	cr_expect_eq(submit(), 0);
	/* Nothing at all. */
	ring_set(&drv.ring, 0, HDR, 0, 0, 0);
	cr_expect_eq(submit(), 0);
	count(&c);
	cr_expect_eq(c.errors, 5);
	cr_expect_eq(c.requests, 2);
	cr_expect_eq(disk.reads, 0);
}

BlkTest(malformed_chain_comes_back)
{
	struct virtio_counters c;

	ring_set(&drv.ring, 0, HDR, 16, D_NEXT, 0);
	cr_expect_eq(submit(), 0);
	virtio_counters(drv.virtio, &c);
	cr_expect_eq(c.malformed, 1);
	simple(T_IN, 0, 512, true);
	cr_expect_eq(status(), OK);
}

BlkTest(broken_ring)
{
	__atomic_store_n(ring_u16(&drv.ring, RING_AVAIL + 2), 1000, __ATOMIC_RELEASE);
	wr(&drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_interrupt(&drv, 5000));
	cr_expect_eq(rd(&drv, R_STATUS) & S_NEEDS_RESET, S_NEEDS_RESET);
	vdriver_start(&drv, BLK_FEATURES);
	simple(T_IN, 0, 512, true);
	cr_expect_eq(status(), OK);
}

/* --- batches --- */

/* One kick for a full ring, more than one turn of the loop: everything is served, one by one. */
static void full_ring(uint64_t features)
{
	struct virtio_counters c;
	uint32_t id = 0, len = 0;

	remake(false, features, 256);
	header(T_IN, 5);
	ring_desc_at(&drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
	ring_desc_at(&drv.ring, RING_TABLES, 1, DATA, 512, D_NEXT | D_WRITE, 2);
	ring_desc_at(&drv.ring, RING_TABLES, 2, STATUS, 1, D_WRITE, 0);
	ring_used_event(&drv.ring, 255);
	for (uint16_t i = 0; i < 256; i++) {
		ring_set(&drv.ring, i, RING_TABLES, 48, D_INDIRECT, 0);
		ring_offer(&drv.ring, i);
	}
	wr(&drv, R_QUEUE_NOTIFY, 0);
	for (unsigned i = 0; i < 256; i++) {
		cr_assert(vdriver_used(&drv, &id, &len));
		cr_expect_eq(id, i);
		cr_expect_eq(len, 513);
	}
	vdriver_settle(&drv);
	virtio_counters(drv.virtio, &c);
	cr_expect_eq(disk.reads, 256);
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

		remake(false, BLK_FEATURES, 256);
		header(T_OUT, 0);
		ring_desc_at(&drv.ring, RING_TABLES, 0, HDR, 16, D_NEXT, 1);
		ring_desc_at(&drv.ring, RING_TABLES, 1, DATA, 4096, D_NEXT, 2);
		ring_desc_at(&drv.ring, RING_TABLES, 2, STATUS, 1, D_WRITE, 0);
		for (uint16_t i = 0; i < 256; i++) {
			ring_set(&drv.ring, i, RING_TABLES, 48, D_INDIRECT, 0);
			ring_offer(&drv.ring, i);
		}
		wr(&drv, R_QUEUE_NOTIFY, 0);
		wr(&drv, R_STATUS, 0);
		before = disk.writes;
		vdriver_settle(&drv);
		cr_assert_eq(disk.writes, before, "the disk was written to after a reset");
	}
}
