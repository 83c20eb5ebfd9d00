/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio network device (VIRTIO 1.2 §5.1) over a network back end.
 */
#ifndef MINIVM_VIRTIO_NET_H
#define MINIVM_VIRTIO_NET_H

#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/netdev.h"
#include "minivm/virtio.h"

struct virtio_net_options {
	struct netdev *backend;
	struct loop *loop; /* the device's own, as in its virtio_env */
	const char *name;  /* for messages; outlives the device */
	uint8_t mac[NETDEV_MAC_LEN];
	uint16_t mtu; /* 0: the driver is not told one */
	const struct log *log;
};

struct virtio_net;

extern const struct virtio_ops virtio_net_ops;

/*
 * Takes over `backend` if it returns 0; virtio_net_ops.destroy closes it. The back end is used on
 * the device's loop only. -ENOMEM, or what epoll said.
 */
int virtio_net_new(const struct virtio_net_options *opt, struct virtio_net **out, struct err *err);

/*
 * now: the address that it has; first: the one that it was made with, and has after a reset.
 * They differ after a restore, or when the driver has set another.
 */
void virtio_net_macs(const struct virtio_net *net, uint8_t now[NETDEV_MAC_LEN],
		     uint8_t first[NETDEV_MAC_LEN]);

struct virtio_net_counters {
	uint64_t rx_frames;   /* given to the driver */
	uint64_t rx_bytes;    /* without their headers */
	uint64_t rx_filtered; /* not for this device's addresses */
	uint64_t rx_dropped;  /* too large for buffers or MTU, or not as negotiated */
	uint64_t tx_frames;   /* taken by the back end */
	uint64_t tx_bytes;
	uint64_t tx_dropped;   /* refused by the back end, or nobody is there */
	uint64_t tx_malformed; /* header or length that no driver may send */
	uint64_t commands;     /* on the control queue */
};

/* Any thread, any time. Kicks, interrupts and malformed chains: virtio_counters(). */
void virtio_net_counters(const struct virtio_net *net, struct virtio_net_counters *out);

#endif
