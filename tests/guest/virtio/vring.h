/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue from the driver's side (VIRTIO 1.2 §2.7): an honest driver on top, and all
 * three parts open for dishonest ones. One processor at a time, or under the caller's lock.
 */
#ifndef GUEST_VRING_H
#define GUEST_VRING_H

#include <stdbool.h>
#include <stdint.h>

#include "vdev.h"

#define VRING_SIZE_MAX 1024

enum {
	VDESC_NEXT = 1,
	VDESC_WRITE = 2,
	VDESC_INDIRECT = 4,
	VRING_NO_INTERRUPT = 1, /* avail->flags */
	VRING_NO_NOTIFY = 1,	/* used->flags */
};

struct vdesc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct vavail {
	volatile uint16_t flags;
	volatile uint16_t idx;
	volatile uint16_t ring[]; /* used_event behind it */
};

struct vused_elem {
	volatile uint32_t id;
	volatile uint32_t len;
};

struct vused {
	volatile uint16_t flags;
	volatile uint16_t idx;
	struct vused_elem ring[]; /* avail_event behind it */
};

struct vring {
	struct vdev *dev;
	unsigned index;
	uint16_t size;
	bool event_idx;
	volatile struct vdesc *desc;
	struct vavail *avail;
	struct vused *used;
	uint16_t free_head;
	uint16_t free_count;
	uint16_t avail_idx; /* what was or will be published */
	uint16_t kicked;    /* avail_idx at the last decision about a kick */
	uint16_t used_seen;
	uint64_t kicks; /* those that were sent */
};

/* One buffer of a request. */
struct vseg {
	uint64_t addr;
	uint32_t len;
	bool write; /* the device writes it */
};

/* Allocates (dma_alloc) and zeroes the parts, without telling the device. */
void vring_alloc(struct vring *r, struct vdev *dev, unsigned index, uint16_t size);
/* Empties it again, for use after a reset. */
void vring_clear(struct vring *r);
/* Hands it to the device: QueueNum, addresses, QueueReady. False: queue missing or too small. */
bool vring_enable(struct vring *r);

/* Makes a chain of free descriptors; the head, or -1 if there are too few. */
int vring_chain(struct vring *r, const struct vseg *seg, unsigned n);
/* The same through an indirect table of the caller's, n entries. */
int vring_chain_indirect(struct vring *r, const struct vseg *seg, unsigned n, struct vdesc *table);

/* Puts a head (any number at all) into the next available slot; vring_publish makes them visible.
 */
void vring_offer(struct vring *r, uint16_t head);
void vring_publish(struct vring *r);
/* Publishes, and notifies the device if it wants that (flags or EVENT_IDX). */
void vring_kick(struct vring *r);
/* Notifies in any case. */
void vring_kick_always(struct vring *r);

/* Takes one used element, if there is one; vring_free gives its descriptors back. */
bool vring_take(struct vring *r, uint32_t *id, uint32_t *len);
bool vring_take_wait(struct vring *r, unsigned ms, uint32_t *id, uint32_t *len);
void vring_free(struct vring *r, uint16_t head);

/* EVENT_IDX fields (§2.7.7.1, §2.7.10.1). */
static inline volatile uint16_t *vring_used_event(const struct vring *r)
{
	return &r->avail->ring[r->size];
}

static inline volatile uint16_t *vring_avail_event(const struct vring *r)
{
	return (volatile uint16_t *)&r->used->ring[r->size];
}

#endif
