/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "blk_driver.h"

struct blk_test bt;

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

/* What was there is gone for good, so that it shows which bytes were discarded. */
static int disk_discard(struct block *b, uint64_t off, uint64_t len)
{
	struct memory_disk *d = (struct memory_disk *)b;

	d->discards++;
	if (d->fail == 0)
		memset(d->data + off, 0xdd, len);
	return d->fail;
}

static int disk_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	struct memory_disk *d = (struct memory_disk *)b;

	d->zeroes++;
	d->unmap = unmap;
	if (d->fail == 0)
		memset(d->data + off, 0, len);
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
    .discard = disk_discard,
    .zero = disk_zero,
    .close = disk_close,
};

static const struct block_ops plain_ops = {
    .name = "memory, plain",
    .readv = disk_readv,
    .writev = disk_writev,
    .flush = disk_flush,
    .close = disk_close,
};

void blk_make(bool readonly, uint64_t features, uint16_t queue_size)
{
	struct virtio_blk_options opt = {.backend = &bt.disk.block, .id = "disk-7"};
	struct err err = {0};

	memset(&bt.disk, 0, sizeof(bt.disk));
	bt.disk.block = (struct block){
	    .ops = bt.plain ? &plain_ops : &disk_ops,
	    .size = DISK_BYTES,
	    .readonly = readonly,
	    .physical_block = 4096,
	};
	for (unsigned i = 0; i < DISK_BYTES; i++)
		bt.disk.data[i] = (uint8_t)(i / 512 + i);
	opt.log = &bt.drv.log;
	cr_assert_eq(virtio_blk_new(&opt, &bt.blk, &err), 0, "%s", err.text);
	vdriver_init(&bt.drv, &virtio_blk_ops, bt.blk, queue_size);
	vdriver_start(&bt.drv, features);
}

void blk_setup(void)
{
	blk_make(false, BLK_FEATURES, 64);
}

void blk_teardown(void)
{
	vdriver_fini(&bt.drv);
	cr_assert(bt.disk.closed);
}

void blk_remake(bool readonly, uint64_t features, uint16_t queue_size)
{
	blk_teardown();
	blk_make(readonly, features, queue_size);
}

void blk_header(uint32_t type, uint64_t sector)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} h = {type, 0, sector};

	memcpy(ring_at(&bt.drv.ring, HDR), &h, sizeof(h));
	*(uint8_t *)ring_at(&bt.drv.ring, STATUS) = 0xee;
}

int blk_status(void)
{
	return *(uint8_t *)ring_at(&bt.drv.ring, STATUS);
}

uint32_t blk_submit(void)
{
	uint32_t id = 0, len = 0;

	ring_used_event(&bt.drv.ring, bt.drv.ring.used_seen);
	ring_offer(&bt.drv.ring, 0);
	wr(&bt.drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_used(&bt.drv, &id, &len), "not completed");
	cr_assert_eq(id, 0);
	return len;
}

uint32_t blk_simple(uint32_t type, uint64_t sector, uint32_t len, bool from_device)
{
	blk_header(type, sector);
	ring_set(&bt.drv.ring, 0, HDR, 16, D_NEXT, len ? 1 : 2);
	ring_set(&bt.drv.ring, 1, DATA, len, D_NEXT | (from_device ? D_WRITE : 0), 2);
	ring_set(&bt.drv.ring, 2, STATUS, 1, D_WRITE, 0);
	return blk_submit();
}

void blk_count(struct virtio_blk_counters *c)
{
	virtio_blk_counters(bt.blk, c);
}

int blk_ranges(uint32_t type, const struct blk_range *range, unsigned n)
{
	memcpy(ring_at(&bt.drv.ring, DATA), range, n * sizeof(*range));
	blk_simple(type, 0, n * (uint32_t)sizeof(*range), false);
	return blk_status();
}
