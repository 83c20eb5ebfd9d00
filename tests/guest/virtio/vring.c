/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's half of VIRTIO 1.2 §2.7. Stores to the rings are ordered by x86 itself; each
 * compiler or full barrier names the device-side read or write it pairs with.
 */
#include "vring.h"

#include "rt.h"
#include "time.h"

void vring_clear(struct vring *r)
{
	memset((void *)(uintptr_t)r->desc, 0, 16u * r->size);
	memset(r->avail, 0, 6 + 2u * r->size);
	memset(r->used, 0, 6 + 8u * r->size);
	for (uint16_t i = 0; i < r->size; i++)
		r->desc[i].next = (uint16_t)(i + 1);
	r->free_head = 0;
	r->free_count = r->size;
	r->avail_idx = r->kicked = r->used_seen = 0;
	r->event_idx = r->dev->features & VF_EVENT_IDX;
}

void vring_alloc(struct vring *r, struct vdev *dev, unsigned index, uint16_t size)
{
	*r = (struct vring){.dev = dev, .index = index, .size = size};
	r->desc = dma_alloc(16u * size, 16);
	r->avail = dma_alloc(6 + 2u * size, 2);
	r->used = dma_alloc(6 + 8u * size, 4);
	vring_clear(r);
}

bool vring_enable(struct vring *r)
{
	vreg_set(r->dev, VREG_QUEUE_SEL, r->index);
	if (vreg(r->dev, VREG_QUEUE_READY) != 0 || vreg(r->dev, VREG_QUEUE_NUM_MAX) < r->size)
		return false;
	vreg_set(r->dev, VREG_QUEUE_NUM, r->size);
	vreg_set64(r->dev, VREG_QUEUE_DESC, (uint64_t)r->desc);
	vreg_set64(r->dev, VREG_QUEUE_DRIVER, (uint64_t)r->avail);
	vreg_set64(r->dev, VREG_QUEUE_DEVICE, (uint64_t)r->used);
	vreg_set(r->dev, VREG_QUEUE_READY, 1);
	return vreg(r->dev, VREG_QUEUE_READY) == 1;
}

int vring_chain(struct vring *r, const struct vseg *seg, unsigned n)
{
	uint16_t head = r->free_head;
	uint16_t at = head;

	if (n == 0 || n > r->free_count)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		volatile struct vdesc *d = &r->desc[at];

		d->addr = seg[i].addr;
		d->len = seg[i].len;
		d->flags =
		    (uint16_t)((seg[i].write ? VDESC_WRITE : 0) | (i + 1 < n ? VDESC_NEXT : 0));
		at = d->next;
	}
	r->free_head = at;
	r->free_count = (uint16_t)(r->free_count - n);
	return head;
}

int vring_chain_indirect(struct vring *r, const struct vseg *seg, unsigned n, struct vdesc *table)
{
	struct vseg whole = {(uint64_t)table, 16 * n, false};
	int head;

	for (unsigned i = 0; i < n; i++)
		table[i] = (struct vdesc){
		    .addr = seg[i].addr,
		    .len = seg[i].len,
		    .flags =
			(uint16_t)((seg[i].write ? VDESC_WRITE : 0) | (i + 1 < n ? VDESC_NEXT : 0)),
		    .next = (uint16_t)(i + 1),
		};
	head = vring_chain(r, &whole, 1);
	if (head >= 0)
		r->desc[head].flags = VDESC_INDIRECT;
	return head;
}

void vring_free(struct vring *r, uint16_t head)
{
	uint16_t at = head;
	uint16_t n = 1;

	while (r->desc[at].flags & VDESC_NEXT) {
		at = r->desc[at].next;
		n++;
	}
	r->desc[at].next = r->free_head;
	r->free_head = head;
	r->free_count = (uint16_t)(r->free_count + n);
}

void vring_offer(struct vring *r, uint16_t head)
{
	r->avail->ring[r->avail_idx % r->size] = head;
	r->avail_idx++;
}

void vring_publish(struct vring *r)
{
	barrier(); /* pairs with the device's acquire load of avail->idx: entries come first */
	r->avail->idx = r->avail_idx;
}

void vring_kick_always(struct vring *r)
{
	vring_publish(r);
	r->kicked = r->avail_idx;
	r->kicks++;
	vreg_set(r->dev, VREG_QUEUE_NOTIFY, r->index);
}

void vring_kick(struct vring *r)
{
	uint16_t before = r->kicked;
	bool wanted;

	vring_publish(r);
	/* idx before avail_event or flags; pairs with the device's full barrier between its store
	 * to them and its second look at idx */
	full_barrier();
	if (r->event_idx)
		wanted = (uint16_t)(r->avail_idx - *vring_avail_event(r) - 1) <
			 (uint16_t)(r->avail_idx - before);
	else
		wanted = !(r->used->flags & VRING_NO_NOTIFY);
	r->kicked = r->avail_idx;
	if (!wanted)
		return;
	r->kicks++;
	vreg_set(r->dev, VREG_QUEUE_NOTIFY, r->index);
}

bool vring_take(struct vring *r, uint32_t *id, uint32_t *len)
{
	struct vused_elem *e;

	if (r->used->idx == r->used_seen)
		return false;
	barrier(); /* pairs with the device's release store of used->idx: the element is whole */
	e = &r->used->ring[r->used_seen % r->size];
	*id = e->id;
	*len = e->len;
	r->used_seen++;
	return true;
}

bool vring_take_wait(struct vring *r, unsigned ms, uint32_t *id, uint32_t *len)
{
	uint64_t end = deadline_ms(ms);

	while (!vring_take(r, id, len)) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}
