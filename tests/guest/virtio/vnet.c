/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers and frames: receive buffers of 4 KiB, merged; one descriptor for each frame that is sent.
 */
#include "vnet.h"

#include "rt.h"
#include "time.h"

bool vnet_open(struct vnet *v, unsigned n, uint64_t features)
{
	*v = (struct vnet){.rx_given = 0};
	if (!vdev_find(VNET_DEVICE_ID, n, &v->dev)) {
		print("# no virtio-net device %u\n", n);
		return false;
	}
	if (!vdev_negotiate(&v->dev, features)) {
		print("# virtio-net device %u: features refused\n", n);
		return false;
	}
	for (unsigned i = 0; i < 6; i++)
		v->mac[i] = *(volatile uint8_t *)(v->dev.base + VREG_CONFIG + i);
	vring_alloc(&v->rx, &v->dev, 0, VNET_QUEUE);
	vring_alloc(&v->tx, &v->dev, 1, VNET_QUEUE);
	v->buf = dma_alloc(VNET_QUEUE * VNET_BUF, 4096);
	if (!vring_enable(&v->rx) || !vring_enable(&v->tx)) {
		print("# virtio-net device %u: no queues\n", n);
		return false;
	}
	vdev_add_status(&v->dev, VSTATUS_DRIVER_OK);
	return vdev_status(&v->dev) == 15;
}

void vnet_refill(struct vnet *v)
{
	unsigned before = v->rx_given;

	while (v->rx.free_count > 0) {
		struct vseg seg = {(uint64_t)v->buf + v->rx.free_head * VNET_BUF, VNET_BUF, true};

		vring_offer(&v->rx, (uint16_t)vring_chain(&v->rx, &seg, 1));
		v->rx_given++;
	}
	if (v->rx_given != before)
		vring_kick(&v->rx);
}

bool vnet_offer(struct vnet *v, const struct vnet_hdr *hdr, uint32_t len)
{
	struct vseg seg = {(uint64_t)hdr, VNET_HDR + len, false};
	int head = vring_chain(&v->tx, &seg, 1);

	if (head < 0)
		return false;
	vring_offer(&v->tx, (uint16_t)head);
	return true;
}

unsigned vnet_reap(struct vnet *v)
{
	uint32_t id, len;

	while (vring_take(&v->tx, &id, &len))
		vring_free(&v->tx, (uint16_t)id);
	return v->tx.size - v->tx.free_count;
}

bool vnet_sent(struct vnet *v, unsigned n, unsigned ms)
{
	uint64_t end = deadline_ms(ms);

	while (vnet_reap(v) > n) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

/* One buffer of a frame, copied and given back. False: something is wrong with it. */
static bool take_buffer(struct vnet *v, uint8_t *to, uint32_t room, uint32_t id, uint32_t len)
{
	if (id >= VNET_QUEUE || len == 0 || len > VNET_BUF || len > room) {
		print("# vnet: buffer %u with %u bytes, room %u\n", id, len, room);
		return false;
	}
	memcpy(to, v->buf + id * VNET_BUF, len);
	vring_free(&v->rx, (uint16_t)id);
	return true;
}

/* The frame that begins in buffer `id`, with its header in front of it. Length, or -1. */
static int take_frame(struct vnet *v, uint8_t *whole, uint32_t id, uint32_t len)
{
	struct vnet_hdr hdr;
	uint32_t total = len;

	if (!take_buffer(v, whole, VNET_FRAME_MAX, id, len))
		return -1;
	memcpy(&hdr, whole, VNET_HDR);
	for (unsigned i = 1; i < hdr.num_buffers; i++) {
		/* §5.1.6.4.1: all of them are there at once, and all but the last are full. */
		if (len != VNET_BUF || !vring_take(&v->rx, &id, &len)) {
			print("# vnet: buffer %u of %u is missing, %u bytes before\n", i,
			      hdr.num_buffers, len);
			return -1;
		}
		if (!take_buffer(v, whole + total, VNET_FRAME_MAX + VNET_HDR - total, id, len))
			return -1;
		total += len;
	}
	return (int)(total - VNET_HDR);
}

int vnet_receive(struct vnet *v, struct vnet_hdr *hdr, struct net_frame *frame, unsigned ms)
{
	static uint8_t whole[VNET_HDR + VNET_FRAME_MAX];
	uint64_t end = deadline_ms(ms);
	uint32_t id, len;

	for (;;) {
		const struct net_frame *f = (const void *)(whole + VNET_HDR);
		int ret;

		while (!vring_take(&v->rx, &id, &len)) {
			if (expired(end))
				return 0;
			cpu_pause();
		}
		ret = take_frame(v, whole, id, len);
		if (ret < 0)
			return ret;
		if (f->type[0] != NET_ETHERTYPE >> 8 || f->type[1] != (NET_ETHERTYPE & 0xff)) {
			vnet_refill(v);
			continue;
		}
		memcpy(hdr, whole, VNET_HDR);
		memcpy(frame, f, (uint32_t)ret);
		return ret;
	}
}
