/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mmio devices from the driver's side (VIRTIO 1.2 §4.2), with every register in reach: for
 * drivers that keep the rules and for those that do not. Works in ring 0 and ring 3.
 */
#ifndef GUEST_VDEV_H
#define GUEST_VDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "x86.h"

#define VDEVS_MAX     20
#define VDEV_MAGIC    0x74726976
#define VDEV_MMIO_LEN 0x1000

enum { /* §4.2.2 */
       VREG_MAGIC = 0x000,
       VREG_VERSION = 0x004,
       VREG_DEVICE_ID = 0x008,
       VREG_VENDOR_ID = 0x00c,
       VREG_DEVICE_FEATURES = 0x010,
       VREG_DEVICE_FEATURES_SEL = 0x014,
       VREG_DRIVER_FEATURES = 0x020,
       VREG_DRIVER_FEATURES_SEL = 0x024,
       VREG_QUEUE_SEL = 0x030,
       VREG_QUEUE_NUM_MAX = 0x034,
       VREG_QUEUE_NUM = 0x038,
       VREG_QUEUE_READY = 0x044,
       VREG_QUEUE_NOTIFY = 0x050,
       VREG_INTERRUPT_STATUS = 0x060,
       VREG_INTERRUPT_ACK = 0x064,
       VREG_STATUS = 0x070,
       VREG_QUEUE_DESC = 0x080,
       VREG_QUEUE_DRIVER = 0x090,
       VREG_QUEUE_DEVICE = 0x0a0,
       VREG_CONFIG_GENERATION = 0x0fc,
       VREG_CONFIG = 0x100,
};

enum { /* device status, §2.1 */
       VSTATUS_ACKNOWLEDGE = 1,
       VSTATUS_DRIVER = 2,
       VSTATUS_DRIVER_OK = 4,
       VSTATUS_FEATURES_OK = 8,
       VSTATUS_NEEDS_RESET = 64,
       VSTATUS_FAILED = 128,
};

#define VF_INDIRECT_DESC (1ull << 28)
#define VF_EVENT_IDX	 (1ull << 29)
#define VF_VERSION_1	 (1ull << 32)

struct vdev {
	uint64_t base;
	unsigned gsi;
	uint32_t device_id;
	uint64_t features; /* negotiated */
};

static inline uint32_t vreg(const struct vdev *v, unsigned reg)
{
	return mmio_read32(v->base + reg);
}

static inline void vreg_set(const struct vdev *v, unsigned reg, uint32_t value)
{
	mmio_write32(v->base + reg, value);
}

static inline uint8_t vdev_status(const struct vdev *v)
{
	return (uint8_t)vreg(v, VREG_STATUS);
}

/* Writes a 64-bit address register pair. */
void vreg_set64(const struct vdev *v, unsigned reg, uint64_t value);

/*
 * The n-th device with this id (0: any) among the virtio_mmio.device= words of the command line, in
 * their order. False: there is none.
 */
bool vdev_find(uint32_t device_id, unsigned n, struct vdev *out);

/* Writes 0 to Status and waits until it reads 0 (§4.2.2.1); false after a second. */
bool vdev_reset(struct vdev *v);
uint64_t vdev_offered(const struct vdev *v);
void vdev_accept(const struct vdev *v, uint64_t features);
/*
 * Reset, ACKNOWLEDGE, DRIVER, features (the offered part of `want`, VERSION_1 always), FEATURES_OK.
 * False: the device did not agree.
 */
bool vdev_negotiate(struct vdev *v, uint64_t want);
void vdev_add_status(const struct vdev *v, uint8_t bits);

#endif
