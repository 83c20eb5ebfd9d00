/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net as a driver sees it. The back end is one end of a packet socket, with a virtio_net_hdr
 * in front of each frame like a tap's; the test sits at the other end.
 */
#ifndef TESTS_NET_DRIVER_H
#define TESTS_NET_DRIVER_H

#include <stdatomic.h>

#include "minivm/virtio_net.h"
#include "vdriver.h"

#define F(bit)	     (1ull << (bit))
#define F_CSUM	     F(0)
#define F_GUEST_CSUM F(1)
#define F_MTU	     F(3)
#define F_MAC	     F(5)
#define F_GUEST_TSO4 F(7)
#define F_GUEST_TSO6 F(8)
#define F_GUEST_ECN  F(9)
#define F_HOST_TSO4  F(11)
#define F_HOST_TSO6  F(12)
#define F_HOST_ECN   F(13)
#define F_MRG_RXBUF  F(15)
#define F_STATUS     F(16)
#define F_CTRL_VQ    F(17)
#define F_CTRL_RX    F(18)
#define F_CTRL_EXTRA F(20)
#define F_ANNOUNCE   F(21)
#define F_CTRL_MAC   F(23)

#define F_OFFLOADS                                                                                 \
	(F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_HOST_TSO4 |         \
	 F_HOST_TSO6 | F_HOST_ECN)
#define F_PLAIN (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_MAC | F_STATUS | F_MRG_RXBUF)
#define F_CTRL	(F_CTRL_VQ | F_CTRL_RX | F_CTRL_EXTRA | F_CTRL_MAC | F_ANNOUNCE)
#define F_ALL	(F_PLAIN | F_OFFLOADS | F_CTRL)

#define HDR 12u

struct net_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

extern const uint8_t net_own_mac[6], net_other[6], net_broadcast[6], net_multicast[6];

/* --- the back end --- */

struct packets {
	struct netdev nd;
	_Atomic uint32_t offloads; /* as set last */
	_Atomic int fail;	   /* -errno for every frame that is sent */
	_Atomic bool gone;
	_Atomic bool closed;
	_Atomic unsigned reads;	  /* calls of readv() */
	_Atomic unsigned buffers; /* of the last one */
	/* What it says of the next frame: that is true if a second one is read ahead (MORE_HERE).
	 */
	_Atomic enum netdev_more more;
	ssize_t kept_len; /* of the frame read ahead; 0: none */
	uint8_t kept[2048];
};

/* --- the driver --- */

/* Queues. */
#define RX   0
#define TX   1
#define CTRL 2

#define DATA RING_BUFFERS

struct net_test {
	struct vdriver drv;
	struct virtio_net *net;
	struct ring ring[3];
	struct packets *back;
	int peer; /* the other end of the back end's socket */
};

extern struct net_test nt;

/* The driver's part of §3.1.1, with queues of that size. */
void net_start(uint64_t features, uint16_t size);
/* A device; mtu 0: none is told. */
void net_make(bool vnet_hdr, uint16_t mtu);
#define NET_OFFLOADS (NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN)
void net_make_with(bool vnet_hdr, uint32_t offloads, uint16_t mtu);
/* A device whose driver takes everything but the control queue: it receives all there is. */
void net_setup(void);
void net_teardown(void);

#define NetTest(name) Test(virtio_net, name, .init = net_setup, .fini = net_teardown)

void net_remake(bool vnet_hdr, uint16_t mtu);
/* Served when this returns. */
void net_kick(unsigned q);

/* What the loop does when the socket has become readable or writable. */
void net_settle(void);

/* The link's status, waited for. */
bool net_link_becomes(unsigned status);
struct virtio_net_counters net_counted(void);

/* --- frames --- */

/* What frame `seed` of that length consists of; it is addressed to net_own_mac. */
void net_fill(uint8_t *p, unsigned seed, size_t len);

/* From outside: header and frame, or the frame alone. */
void net_arrive(const struct net_hdr *hdr, unsigned seed, size_t len);

extern const struct net_hdr net_plain; /* all zeroes */

/* A receive buffer: descriptor `head`, `len` bytes at DATA + at, full of 0xee. */
void net_give(uint16_t head, uint32_t at, uint32_t len);
/* n of them, from DATA on, and a kick. */
void net_give_many(unsigned n, uint32_t len);
/* p has `len` bytes from `off` on of frame `seed`, which has `total`. */
bool net_frame_right(const uint8_t *p, unsigned seed, size_t off, size_t len, size_t total);
/* The next used element, waited for. */
bool net_used(unsigned q, uint32_t *id, uint32_t *len);

#define EXPECT_USED(q, want_id, want_len)                                                          \
	do {                                                                                       \
		uint32_t id_ = 0, len_ = 0;                                                        \
		cr_assert(net_used(q, &id_, &len_), "nothing was completed");                      \
		cr_expect_eq(id_, want_id, "id %u", id_);                                          \
		cr_expect_eq(len_, want_len, "length %u", len_);                                   \
	} while (0)

void net_expect_nothing_used(unsigned q);

/* --- sending --- */

/* Descriptor `head`: header and frame `seed`; no kick. */
void net_put_frame(uint16_t head, const struct net_hdr *hdr, unsigned seed, uint32_t len);

/* The next frame that came out, header first, in net_departed; its length, or -1: none. Waited for,
 * or as it is once the loop has done what there is to do. */
extern uint8_t net_departed[HDR + 70000];
ssize_t net_depart(void);
ssize_t net_depart_now(void);

/* --- the control queue --- */

#define ACK_NONE 0xee

/* Class, number, data: the answer, or ACK_NONE. The chain: 1 byte, 1 + len, room for the answer. */
unsigned net_command(uint8_t class, uint8_t number, const void *data, uint32_t len);

/* Whether a frame to this address gets through the filters. */
bool net_passes(const uint8_t mac[6]);

#endif
