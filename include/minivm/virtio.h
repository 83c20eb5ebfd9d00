/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is, whatever bus it sits on. A device module fills a const virtio_ops and
 * works on started queues; the state that the driver sees (status, features, queue configuration,
 * interrupt status) is kept by devices/virtio/virtio.c for every transport; a transport (mmio.c)
 * only decodes registers.
 *
 * Threads: registers are touched by vCPU threads, under the virtio object's lock. activate, notify
 * and reset run on the device's loop, one at a time; the transport waits for activate and reset.
 */
#ifndef MINIVM_VIRTIO_H
#define MINIVM_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/loop.h"
#include "minivm/log.h"
#include "minivm/memory.h"
#include "minivm/virtqueue.h"

#define VIRTIO_QUEUES_MAX 4

struct virtio; /* the device as the driver sees it; devices/virtio/virtio.c */

struct virtio_ops {
	const char *name;        /* "virtio-blk" */
	const char *guest_kconfig; /* "CONFIG_VIRTIO_BLK", for hints */
	uint32_t device_id;      /* VIRTIO 1.2 §5 */
	unsigned queues;
	uint16_t queue_size_max;
	uint32_t config_len;     /* bytes of device configuration space */

	/* Device feature bits to offer; the core adds VERSION_1, INDIRECT_DESC, EVENT_IDX. */
	uint64_t (*features)(void *dev);
	/* off + len <= config_len. config_write may be NULL: writes are dropped. */
	void (*config_read)(void *dev, uint32_t off, unsigned len, void *out);
	void (*config_write)(void *dev, uint32_t off, unsigned len, const void *in);
	/* DRIVER_OK: queues are started, `features` is what was negotiated. */
	void (*activate)(void *dev, struct virtio *virtio, uint64_t features);
	/* The driver kicked `queue`; spurious calls happen. Bounded work, then return. */
	void (*notify)(void *dev, unsigned queue);
	/* Stop: nothing of this device touches guest memory after it returned. */
	void (*reset)(void *dev);
	void (*destroy)(void *dev);
};

/* --- for device modules, on the device's loop --- */

struct virtqueue *virtio_queue(struct virtio *virtio, unsigned index);
/* Used buffers of `queue`: signals the driver if it wants to know. */
void virtio_signal_queue(struct virtio *virtio, unsigned queue);
/* Configuration changed (§2.5). Any thread. */
void virtio_signal_config(struct virtio *virtio);
/* The ring or the device is beyond repair: DEVICE_NEEDS_RESET (§2.1.1). */
void virtio_needs_reset(struct virtio *virtio);

#endif
