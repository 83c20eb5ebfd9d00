/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk driver (VIRTIO 1.2 §5.2) with one request queue, for tests. */
#ifndef GUEST_VBLK_H
#define GUEST_VBLK_H

#include <stdbool.h>
#include <stdint.h>

#include "vring.h"

#define VBLK_DEVICE_ID 2
#define SECTOR	       512u

enum {
	VBLK_T_IN = 0,
	VBLK_T_OUT = 1,
	VBLK_T_FLUSH = 4,
	VBLK_T_GET_ID = 8,
	VBLK_T_DISCARD = 11,
	VBLK_T_WRITE_ZEROES = 13,
	VBLK_S_OK = 0,
	VBLK_S_IOERR = 1,
	VBLK_S_UNSUPP = 2,
	VBLK_S_UNTOUCHED = 0xee, /* what the driver puts there before */
};

#define VBLK_F_SIZE_MAX	    (1ull << 1)
#define VBLK_F_SEG_MAX	    (1ull << 2)
#define VBLK_F_RO	    (1ull << 5)
#define VBLK_F_BLK_SIZE	    (1ull << 6)
#define VBLK_F_FLUSH	    (1ull << 9)
#define VBLK_F_TOPOLOGY	    (1ull << 10)
#define VBLK_F_CONFIG_WCE   (1ull << 11)
#define VBLK_F_DISCARD	    (1ull << 13)
#define VBLK_F_WRITE_ZEROES (1ull << 14)
/* What only its own tests take. */
#define VBLK_F_RANGES (VBLK_F_DISCARD | VBLK_F_WRITE_ZEROES)
#define VBLK_F_ALL                                                                                 \
	(VBLK_F_SIZE_MAX | VBLK_F_SEG_MAX | VBLK_F_RO | VBLK_F_BLK_SIZE | VBLK_F_FLUSH |           \
	 VBLK_F_TOPOLOGY | VF_INDIRECT_DESC | VF_EVENT_IDX)

enum { /* configuration space, §5.2.4 */
       VBLK_C_CAPACITY = 0,
       VBLK_C_SIZE_MAX = 8,
       VBLK_C_SEG_MAX = 12,
       VBLK_C_BLK_SIZE = 20,
       VBLK_C_WRITEBACK = 32, /* one byte */
       VBLK_C_MAX_DISCARD_SECTORS = 36,
       VBLK_C_MAX_DISCARD_SEG = 40,
       VBLK_C_MAX_WRITE_ZEROES_SECTORS = 48,
       VBLK_C_MAX_WRITE_ZEROES_SEG = 52,
};

/* The data of discard and write zeroes, §5.2.6. */
struct vblk_range {
	uint64_t sector;
	uint32_t sectors;
	uint32_t flags;
};
#define VBLK_RANGE_UNMAP 1u

struct vblk_hdr {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

/* One request: header, status, and room for the segment list. */
#define VBLK_SEGS_MAX 130
struct vblk_req {
	struct vblk_hdr hdr;
	volatile uint8_t status;
	struct vseg seg[VBLK_SEGS_MAX];
	struct vdesc *table; /* indirect table, or NULL */
	int head;
	uint32_t used_len;
};

struct vblk {
	struct vdev dev;
	struct vring q;
	uint64_t capacity; /* sectors */
	uint64_t offered;
	uint32_t seg_max; /* 0: not given */
};

/* The n-th disk, negotiated and running with a queue of `size`. False, with a line printed. */
bool vblk_open(struct vblk *b, unsigned n, uint64_t features, uint16_t size);
/* Reset and start again, with the features and queue of before. */
bool vblk_restart(struct vblk *b);

struct vblk_req *vblk_req_alloc(void);
/*
 * Fills header and segments: header, n data segments, status. For IN and GET_ID the data is written
 * by the device. The caller may edit r->seg before it submits.
 */
void vblk_prepare(struct vblk_req *r, uint32_t type, uint64_t sector, const struct vseg *data,
		  unsigned n);
/* Puts the first n segments into the ring (n = data segments + 2 for a whole request). */
bool vblk_offer(struct vblk *b, struct vblk_req *r, unsigned n);

/*
 * The common case, synchronously: one buffer. The status byte, or -1: not answered in time or
 * answered wrongly (a line says how).
 */
int vblk_io(struct vblk *b, uint32_t type, uint64_t sector, void *buf, uint32_t len);
int vblk_submit_wait(struct vblk *b, struct vblk_req *r, unsigned n);

/* Is the device usable: after a reset it reads sector 0. */
bool vblk_alive(struct vblk *b);

#define VBLK_TIMEOUT_MS 5000

#endif
