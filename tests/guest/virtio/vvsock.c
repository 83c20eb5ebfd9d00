/* SPDX-License-Identifier: Apache-2.0 */
/* Packets in and out of the three queues of VIRTIO 1.2 §5.10.2. */
#include "vvsock.h"

#include "rt.h"
#include "time.h"

#define QUEUE_SIZE 128
#define PATIENCE   10000

enum { RX, TX, EVENT };

static void give(struct vvsock *v, uint16_t i)
{
	const struct vseg seg = {(uint64_t)v->rx_mem + (uint64_t)i * VVSOCK_RX_BYTES,
				 VVSOCK_RX_BYTES, true};

	/* The chains of one descriptor come and go in any order; the buffer is found by its
	 * address. */
	vring_offer(&v->rx, (uint16_t)vring_chain(&v->rx, &seg, 1));
}

static bool start(struct vvsock *v, uint64_t features)
{
	if (!vdev_negotiate(&v->dev, features))
		return false;
	vring_clear(&v->rx);
	vring_clear(&v->tx);
	vring_clear(&v->event);
	if (!vring_enable(&v->rx) || !vring_enable(&v->tx) || !vring_enable(&v->event))
		return false;
	v->cid = vreg(&v->dev, VREG_CONFIG);
	v->tx_free = ~0u;
	vdev_add_status(&v->dev, VSTATUS_DRIVER_OK);
	for (uint16_t i = 0; i < VVSOCK_RX_BUFS; i++)
		give(v, i);
	vring_kick(&v->rx);
	return vdev_status(&v->dev) == 15;
}

bool vvsock_open(struct vvsock *v, uint64_t features)
{
	if (!vdev_find(VVSOCK_DEVICE_ID, 0, &v->dev) || !vdev_negotiate(&v->dev, features)) {
		print("# no vsock device, or it does not want to\n");
		return false;
	}
	vring_alloc(&v->rx, &v->dev, RX, QUEUE_SIZE);
	vring_alloc(&v->tx, &v->dev, TX, QUEUE_SIZE);
	vring_alloc(&v->event, &v->dev, EVENT, QUEUE_SIZE);
	v->rx_mem = dma_alloc((size_t)VVSOCK_RX_BUFS * VVSOCK_RX_BYTES, 4096);
	v->tx_mem = dma_alloc((size_t)VVSOCK_TX_SLOTS * VVSOCK_TX_BYTES, 4096);
	v->tx_hdr = dma_alloc(sizeof(*v->tx_hdr) * VVSOCK_TX_SLOTS, 64);
	return start(v, features);
}

bool vvsock_restart(struct vvsock *v)
{
	return start(v, v->dev.features);
}

struct vvsock_hdr vvsock_header(const struct vvsock *v, unsigned op, uint32_t guest_port,
				uint32_t host_port)
{
	return (struct vvsock_hdr){
	    .src_cid = v->cid,
	    .dst_cid = VVSOCK_HOST_CID,
	    .src_port = guest_port,
	    .dst_port = host_port,
	    .type = 1,
	    .op = (uint16_t)op,
	};
}

static void reap(struct vvsock *v)
{
	uint32_t id, len;

	while (vring_take(&v->tx, &id, &len)) {
		v->tx_free |= 1u << v->tx_slot[id];
		vring_free(&v->tx, (uint16_t)id);
	}
}

int vvsock_slot(struct vvsock *v)
{
	if (v->tx_free == 0)
		reap(v);
	return v->tx_free ? __builtin_ctz(v->tx_free) : -1;
}

uint8_t *vvsock_payload(struct vvsock *v, int slot)
{
	return v->tx_mem + (uint64_t)(unsigned)slot * VVSOCK_TX_BYTES;
}

void vvsock_submit(struct vvsock *v, int slot, const struct vvsock_hdr *hdr, bool kick)
{
	const struct vseg seg[] = {
	    {(uint64_t)&v->tx_hdr[slot], sizeof(*hdr), false},
	    {(uint64_t)vvsock_payload(v, slot), hdr->len <= VVSOCK_TX_BYTES ? hdr->len : 0, false},
	};
	int head;

	v->tx_hdr[slot] = *hdr;
	v->tx_free &= ~(1u << slot);
	head = vring_chain(&v->tx, seg, hdr->len ? 2 : 1);
	v->tx_slot[head] = (uint8_t)slot;
	vring_offer(&v->tx, (uint16_t)head);
	if (kick)
		vring_kick(&v->tx);
}

void vvsock_send(struct vvsock *v, const struct vvsock_hdr *hdr)
{
	uint64_t end = deadline_ms(PATIENCE);
	int slot;

	while ((slot = vvsock_slot(v)) < 0) {
		if (expired(end)) {
			check_fail(__FILE__, __LINE__, "the device takes packets");
			return;
		}
		cpu_pause();
	}
	vvsock_submit(v, slot, hdr, true);
}

bool vvsock_poll(struct vvsock *v, struct vvsock_packet *p)
{
	const uint8_t *at;
	uint32_t id, len;

	if (!vring_take(&v->rx, &id, &len))
		return false;
	at = (const uint8_t *)(uintptr_t)v->rx.desc[id].addr;
	memcpy(&p->hdr, at, sizeof(p->hdr));
	p->data = at + sizeof(p->hdr);
	p->head = (uint16_t)id;
	if (len != sizeof(p->hdr) + p->hdr.len || p->hdr.dst_cid != v->cid)
		check_fail(__FILE__, __LINE__, "a whole packet for this guest");
	return true;
}

bool vvsock_wait(struct vvsock *v, unsigned ms, struct vvsock_packet *p)
{
	uint64_t end = deadline_ms(ms);

	while (!vvsock_poll(v, p)) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

void vvsock_done(struct vvsock *v, const struct vvsock_packet *p)
{
	vring_offer(&v->rx, p->head);
	vring_kick(&v->rx);
}
