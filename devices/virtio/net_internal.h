/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of virtio-net and by nobody else.
 *
 *	net.c	    features, configuration, life, who waits for what
 *	net_rx.c    frames to the driver
 *	net_tx.c    frames from the driver, and their headers
 *	net_ctrl.c  the control queue: addresses and filters
 */
#ifndef MINIVM_NET_INTERNAL_H
#define MINIVM_NET_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "minivm/virtio_net.h"
#include "minivm/counter.h"

enum {
	NET_RX,
	NET_TX,
	NET_CTRL,
	NET_QUEUES,
};

#define NET_QUEUE_SIZE VQ_SIZE_MAX
#define NET_HDR_LEN    ((uint32_t)sizeof(struct virtio_net_hdr_v1))
_Static_assert(sizeof(struct virtio_net_hdr_v1) == 12, "§5.1.6");

#define NET_FRAME_ROOM (NET_HDR_LEN + NETDEV_FRAME_MAX)

/* Frames that one turn on the loop moves each way, and commands that it carries out. */
#define NET_TURN 64u

/*
 * After so many turns that have found one frame each, turns end with their first one; of as many,
 * one looks for more all the same.
 */
#define NET_RX_SINGLES 8u

/*
 * After so many frames on end that fit into so many bytes of buffers, header included, the back end
 * is given no more of them.
 */
#define NET_RX_SMALLS	  256u
#define NET_RX_SMALL_ROOM 4096u

#define NET_BIT(f) (1ull << (f))

/* Buffers that the driver has given and that no frame is in yet, in their order. */
#define NET_RX_IOV (2 * VQ_SIZE_MAX)
_Static_assert(NET_RX_IOV + 1 <= NETDEV_IOV_MAX, "net_rx.c: with the spill buffer");

struct net_rx_chain {
	uint16_t head;
	uint16_t n;    /* entries of iov */
	uint16_t next; /* the queue's next_avail behind it */
	uint32_t len;  /* bytes, NET_HDR_LEN to NET_FRAME_ROOM */
};

struct net_rx {
	bool broken;	  /* the queue makes no sense, until the reset */
	unsigned singles; /* turns on end that have found one frame */
	unsigned smalls;  /* frames on end of NET_RX_SMALL_ROOM or less */
	unsigned chains;
	unsigned n;    /* entries of iov */
	uint32_t room; /* bytes of iov, less than 2 * NET_FRAME_ROOM */
	/*
	 * A frame that was larger than the room: its length with the header, and the part of it
	 * that was there then. The rest is in `spill` until there is more.
	 */
	uint32_t spilled;
	uint32_t spilled_room;
	uint8_t *spill; /* NET_FRAME_ROOM bytes, not touched unless needed */
	struct net_rx_chain chain[VQ_SIZE_MAX];
	struct iovec iov[NET_RX_IOV];
};

struct net_tx {
	bool held; /* the frame below waits for the back end */
	struct vq_chain chain;
	struct virtio_net_hdr_v1 hdr; /* checked */
	uint32_t len;		      /* bytes of the frame, without it */
	unsigned n;
	struct iovec iov[1 + VQ_SIZE_MAX]; /* hdr if the back end wants one, then the frame */
};

#define NET_MACS_MAX 64 /* more are "all of them" */

/*
 * §5.1.6.5.1, §5.1.6.5.2. After a reset: own address and broadcasts, or all if the driver does not
 * take VIRTIO_NET_F_CTRL_RX.
 */
struct net_filter {
	bool promisc;
	bool allmulti, alluni;
	bool nomulti, nouni, nobcast;
	bool many; /* more addresses than the table holds */
	unsigned count;
	uint8_t mac[NET_MACS_MAX][NETDEV_MAC_LEN];
};

struct net_counts {
	_Atomic uint64_t rx_frames, rx_bytes, rx_filtered, rx_dropped;
	_Atomic uint64_t tx_frames, tx_bytes, tx_dropped, tx_malformed;
	_Atomic uint64_t commands;
};

struct virtio_net {
	struct netdev *backend;
	struct loop *loop;
	const char *name;
	const struct log *log;
	struct log_limit log_limit;
	uint8_t first_mac[NETDEV_MAC_LEN]; /* the one it has after a reset */
	uint16_t mtu;

	/* Read by vCPU threads as configuration space. */
	_Atomic uint64_t mac; /* 6 bytes, the first one lowest */
	_Atomic uint16_t status;

	/* The loop's. */
	struct virtio *virtio; /* NULL: not active */
	uint64_t features;
	bool gone; /* the back end has ended */
	bool paused;
	struct loop_source source;
	struct vq_chain scratch; /* of net_rx.c and net_ctrl.c, within one call */
	struct net_filter filter;
	struct net_rx rx;
	struct net_tx tx;

	struct net_counts count;
};

static inline bool net_has(const struct virtio_net *net, unsigned feature)
{
	return (net->features & NET_BIT(feature)) != 0;
}

/* --- net.c --- */

/* What the back end answered: -EPIPE ends the connection for good, and the driver is told. */
void net_backend_error(struct virtio_net *net, int ret);
void net_set_mac(struct virtio_net *net, const uint8_t mac[NETDEV_MAC_LEN]);

/* --- one per queue: bounded work; what is left is asked for again --- */

void net_rx_run(struct virtio_net *net);
void net_tx_run(struct virtio_net *net);
void net_ctrl_run(struct virtio_net *net);

/* Forget what is under way: the driver has taken its buffers back. */
void net_rx_reset(struct virtio_net *net);
void net_tx_reset(struct virtio_net *net);
void net_ctrl_reset(struct virtio_net *net);

/* Chains go back into their queue, where a saved machine finds them again. */
void net_rx_pause(struct virtio_net *net);
void net_tx_pause(struct virtio_net *net);

/* Is there room for a frame that the back end may have? */
bool net_rx_wants(const struct virtio_net *net);

/* --- net_ctrl.c --- */

/* Does the driver want a frame with this destination? */
bool net_filter_passes(const struct virtio_net *net, const uint8_t dst[NETDEV_MAC_LEN]);

/* The filter as saved state; -EINVAL. */
void net_filter_save(const struct net_filter *f, struct state_writer *w);
int net_filter_restore(struct net_filter *f, struct state_reader *r, struct err *err);

#endif
