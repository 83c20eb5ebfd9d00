/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio block device (VIRTIO 1.2 §5.2) over a block back end.
 */
#ifndef MINIVM_VIRTIO_BLK_H
#define MINIVM_VIRTIO_BLK_H

#include <stdint.h>

#include "minivm/block.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/virtio.h"

#define VIRTIO_BLK_ID_MAX 20 /* bytes of GET_ID's answer; a shorter id is padded with NUL */

struct virtio_blk_options {
	struct block
	    *backend;	/* its `readonly` is what the guest gets, and what the host enforces */
	const char *id; /* copied; at most VIRTIO_BLK_ID_MAX bytes */
	const struct log *log;
};

struct virtio_blk;

extern const struct virtio_ops virtio_blk_ops;

/*
 * Takes over `backend` if it returns 0; virtio_blk_ops.destroy closes it. The back end is used on
 * the device's loop only. -ENOMEM, -EINVAL (id too long).
 */
int virtio_blk_new(const struct virtio_blk_options *opt, struct virtio_blk **out, struct err *err);

/* The back end, for a machine that is being saved: the device is paused. */
struct block *virtio_blk_backend(const struct virtio_blk *blk);

struct virtio_blk_counters {
	uint64_t requests; /* completed with a status byte, errors included */
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t flushes; /* asked for by the driver */
	uint64_t errors;  /* status IOERR, UNSUPP, or no room for a status */
};

/* Any thread, any time. Kicks, interrupts and malformed chains: virtio_counters(). */
void virtio_blk_counters(const struct virtio_blk *blk, struct virtio_blk_counters *out);

#endif
