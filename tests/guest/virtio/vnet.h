/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net driver (VIRTIO 1.2 §5.1), polled, for tests. */
#ifndef GUEST_VNET_H
#define GUEST_VNET_H

#include <stdbool.h>
#include <stdint.h>

#include "net_services.h"
#include "vring.h"

#define VNET_DEVICE_ID 1

#define VNET_F_CSUM	  (1ull << 0)
#define VNET_F_GUEST_CSUM (1ull << 1)
#define VNET_F_MAC	  (1ull << 5)
#define VNET_F_GUEST_TSO4 (1ull << 7)
#define VNET_F_GUEST_TSO6 (1ull << 8)
#define VNET_F_HOST_TSO4  (1ull << 11)
#define VNET_F_HOST_TSO6  (1ull << 12)
#define VNET_F_MRG_RXBUF  (1ull << 15)
#define VNET_F_STATUS	  (1ull << 16)
#define VNET_F_CTRL_VQ	  (1ull << 17)
#define VNET_F_CTRL_RX	  (1ull << 18)
#define VNET_F_OFFLOADS                                                                            \
	(VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 |                 \
	 VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6)

#define VNET_QUEUE     256u
#define VNET_HDR       12u
#define VNET_BUF       4096u /* of each receive buffer */
#define VNET_FRAME_MAX 65536u

struct vnet_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

struct vnet {
	struct vdev dev;
	struct vring rx, tx;
	uint8_t *buf; /* VNET_QUEUE receive buffers */
	unsigned rx_given;
	uint8_t mac[6];
};

/* The n-th device, started, without receive buffers. False, with a line printed. */
bool vnet_open(struct vnet *v, unsigned n, uint64_t features);
/* Gives all receive buffers that the device does not have. */
void vnet_refill(struct vnet *v);

/* Header and frame out of one piece of memory: offered, not published. */
bool vnet_offer(struct vnet *v, const struct vnet_hdr *hdr, uint32_t len);
/* Takes back what was sent; how many are still out. */
unsigned vnet_reap(struct vnet *v);
/* Until n at most are out; false after ms. */
bool vnet_sent(struct vnet *v, unsigned n, unsigned ms);

/*
 * The next frame of ours (NET_ETHERTYPE) into `frame` (VNET_FRAME_MAX bytes): its length, or 0
 * after ms, or -1: the device broke a rule, a line says which. Others are thrown away.
 */
int vnet_receive(struct vnet *v, struct vnet_hdr *hdr, struct net_frame *frame, unsigned ms);

#endif
