/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and their life: prepare, offer, kick, wait, free. */
#include "vblk.h"

#include "rt.h"

bool vblk_open(struct vblk *b, unsigned n, uint64_t features, uint16_t size)
{
	*b = (struct vblk){.seg_max = 0};
	if (!vdev_find(VBLK_DEVICE_ID, n, &b->dev)) {
		print("# no virtio-blk device %u\n", n);
		return false;
	}
	b->offered = vdev_offered(&b->dev);
	if (!vdev_negotiate(&b->dev, features)) {
		print("# virtio-blk device %u: features refused\n", n);
		return false;
	}
	b->capacity = vreg(&b->dev, VREG_CONFIG + VBLK_C_CAPACITY) |
		      (uint64_t)vreg(&b->dev, VREG_CONFIG + VBLK_C_CAPACITY + 4) << 32;
	if (b->dev.features & VBLK_F_SEG_MAX)
		b->seg_max = vreg(&b->dev, VREG_CONFIG + VBLK_C_SEG_MAX);
	vring_alloc(&b->q, &b->dev, 0, size);
	if (!vring_enable(&b->q)) {
		print("# virtio-blk device %u: no queue of %u\n", n, size);
		return false;
	}
	vdev_add_status(&b->dev, VSTATUS_DRIVER_OK);
	return vdev_status(&b->dev) == 15;
}

bool vblk_restart(struct vblk *b)
{
	if (!vdev_negotiate(&b->dev, b->dev.features))
		return false;
	vring_clear(&b->q);
	if (!vring_enable(&b->q))
		return false;
	vdev_add_status(&b->dev, VSTATUS_DRIVER_OK);
	return vdev_status(&b->dev) == 15;
}

struct vblk_req *vblk_req_alloc(void)
{
	return dma_alloc(sizeof(struct vblk_req), 16);
}

void vblk_prepare(struct vblk_req *r, uint32_t type, uint64_t sector, const struct vseg *data,
		  unsigned n)
{
	bool in = type == VBLK_T_IN || type == VBLK_T_GET_ID;

	r->hdr = (struct vblk_hdr){type, 0, sector};
	r->status = VBLK_S_UNTOUCHED;
	r->seg[0] = (struct vseg){(uint64_t)&r->hdr, sizeof(r->hdr), false};
	for (unsigned i = 0; i < n; i++) {
		r->seg[1 + i] = data[i];
		r->seg[1 + i].write = in;
	}
	r->seg[1 + n] = (struct vseg){(uint64_t)&r->status, 1, true};
}

bool vblk_offer(struct vblk *b, struct vblk_req *r, unsigned n)
{
	r->head = r->table ? vring_chain_indirect(&b->q, r->seg, n, r->table)
			   : vring_chain(&b->q, r->seg, n);
	if (r->head < 0)
		return false;
	vring_offer(&b->q, (uint16_t)r->head);
	return true;
}

int vblk_submit_wait(struct vblk *b, struct vblk_req *r, unsigned n)
{
	uint32_t id;

	if (!vblk_offer(b, r, n)) {
		print("# virtio-blk: ring full\n");
		return -1;
	}
	vring_kick(&b->q);
	if (!vring_take_wait(&b->q, VBLK_TIMEOUT_MS, &id, &r->used_len)) {
		print("# virtio-blk: request type %u not answered, status register 0x%x\n",
		      r->hdr.type, vdev_status(&b->dev));
		return -1;
	}
	if (id != (uint32_t)r->head) {
		print("# virtio-blk: used id %u, want %d\n", id, r->head);
		return -1;
	}
	vring_free(&b->q, (uint16_t)r->head);
	return r->status;
}

int vblk_io(struct vblk *b, uint32_t type, uint64_t sector, void *buf, uint32_t len)
{
	static struct vblk_req r;
	struct vseg data = {(uint64_t)buf, len, false};

	vblk_prepare(&r, type, sector, &data, len ? 1 : 0);
	return vblk_submit_wait(b, &r, len ? 3 : 2);
}

bool vblk_alive(struct vblk *b)
{
	static uint8_t sector[SECTOR] __attribute__((aligned(16)));

	return vblk_restart(b) && vblk_io(b, VBLK_T_IN, 0, sector, SECTOR) == VBLK_S_OK;
}
