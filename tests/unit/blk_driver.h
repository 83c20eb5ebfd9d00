/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk as a driver sees it, over a disk in memory that can be told to fail.
 */
#ifndef TESTS_BLK_DRIVER_H
#define TESTS_BLK_DRIVER_H

#include <stdatomic.h>

#include "minivm/virtio_blk.h"
#include "vdriver.h"

#define DISK_SECTORS 128u
#define DISK_BYTES   (DISK_SECTORS * 512u)

#define T_IN	  0u
#define T_OUT	  1u
#define T_FLUSH	  4u
#define T_GET_ID  8u
#define T_DISCARD 11u
#define T_ZEROES  13u

#define OK     0
#define IOERR  1
#define UNSUPP 2

#define F_SIZE_MAX   (1ull << 1)
#define F_SEG_MAX    (1ull << 2)
#define F_RO	     (1ull << 5)
#define F_BLK_SIZE   (1ull << 6)
#define F_FLUSH	     (1ull << 9)
#define F_TOPOLOGY   (1ull << 10)
#define F_WCE	     (1ull << 11)
#define F_DISCARD    (1ull << 13)
#define F_ZEROES     (1ull << 14)
#define BLK_FEATURES (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_SEG_MAX | F_FLUSH)

/* --- the disk --- */

struct memory_disk {
	struct block block;
	uint8_t data[DISK_BYTES];
	_Atomic int fail; /* -errno for every operation */
	_Atomic unsigned reads, writes, flushes, discards, zeroes;
	_Atomic bool unmap; /* of the last zero */
	_Atomic bool closed;
};

/* --- the driver --- */

struct blk_test {
	struct memory_disk disk;
	struct vdriver drv;
	struct virtio_blk *blk;
	bool plain; /* disks that are made cannot discard, nor zero */
};

extern struct blk_test bt;

/* Where the parts of requests lie. */
#define HDR    RING_BUFFERS
#define STATUS (RING_BUFFERS + 0x100)
#define DATA   (RING_BUFFERS + 0x1000)

void blk_make(bool readonly, uint64_t features, uint16_t queue_size);
void blk_setup(void);
void blk_teardown(void);

#define BlkTest(name, ...)                                                                         \
	Test(virtio_blk, name, .init = blk_setup, .fini = blk_teardown, ##__VA_ARGS__)

void blk_remake(bool readonly, uint64_t features, uint16_t queue_size);
void blk_header(uint32_t type, uint64_t sector);
int blk_status(void);

/* Offers head 0, kicks, waits. Returns the used length. */
uint32_t blk_submit(void);

/* Header, one data buffer (none if len is 0), status. */
uint32_t blk_simple(uint32_t type, uint64_t sector, uint32_t len, bool from_device);

/* §5.2.6, of discard and write zeroes. */
struct blk_range {
	uint64_t sector;
	uint32_t sectors;
	uint32_t flags;
};

/* A request with n of them; its status. */
int blk_ranges(uint32_t type, const struct blk_range *range, unsigned n);
void blk_count(struct virtio_blk_counters *c);

#endif
