/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net as a driver sees it. The back end is one end of a packet socket, with a virtio_net_hdr
 * in front of each frame like a tap's; the test sits at the other end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "minivm/virtio_net.h"
#include "state_rig.h"
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

static const uint8_t own_mac[6] = {0x02, 0, 0, 0x12, 0x34, 0x56};

/* --- the back end --- */

struct packets {
	struct netdev nd;
	_Atomic uint32_t offloads; /* as set last */
	_Atomic int fail;	   /* -errno for every frame that is sent */
	_Atomic bool gone;
	_Atomic bool closed;
};

static struct packets pool[2], *back = &pool[0];
static int peer;

static ssize_t packets_readv(struct netdev *nd, const struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iovlen = n};
	ssize_t ret;

	memcpy(&msg.msg_iov, &iov, sizeof(iov));
	if (((struct packets *)nd)->gone)
		return -EPIPE;
	ret = recvmsg(nd->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
	if (ret == 0)
		return -EPIPE;
	return ret < 0 ? -errno : ret;
}

static int packets_writev(struct netdev *nd, const struct iovec *iov, unsigned n, uint32_t len)
{
	(void)len;
	if (((struct packets *)nd)->gone)
		return -EPIPE;
	if (((struct packets *)nd)->fail)
		return ((struct packets *)nd)->fail;
	return writev(nd->fd, iov, (int)n) < 0 ? -errno : 0;
}

static int packets_set_offloads(struct netdev *nd, uint32_t offloads)
{
	(void)nd;
	((struct packets *)nd)->offloads = offloads;
	return 0;
}

static void packets_close(struct netdev *nd)
{
	close(nd->fd);
	((struct packets *)nd)->closed = true;
}

static const struct netdev_ops packets_ops = {
    .name = "packet socket",
    .readv = packets_readv,
    .writev = packets_writev,
    .set_offloads = packets_set_offloads,
    .close = packets_close,
};

/* --- the driver --- */

#define RX   0
#define TX   1
#define CTRL 2

#define DATA RING_BUFFERS

static struct vdriver drv;
static struct virtio_net *net;
static struct ring ring[3];

static void start(uint64_t features, uint16_t size)
{
	cr_assert(vdriver_negotiate(&drv, features));
	for (unsigned q = 0; q < 3; q++)
		vdriver_queue(&drv, q, size, &ring[q]);
	vdriver_go(&drv);
	cr_assert_eq(rd(&drv, R_STATUS), 15);
}

static void make(bool vnet_hdr, uint16_t mtu)
{
	struct virtio_net_options opt = {.name = "net0", .mtu = mtu};
	struct err err = {0};
	struct loop *loop;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	peer = pair[1];
	back = &pool[back == &pool[0]];
	memset(back, 0, sizeof(*back));
	back->nd = (struct netdev){.ops = &packets_ops, .fd = pair[0], .vnet_hdr = vnet_hdr};
	if (vnet_hdr)
		back->nd.offloads = NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN;
	opt.backend = &back->nd;
	memcpy(opt.mac, own_mac, 6);
	cr_assert_eq(loop_new(&loop, &err), 0);
	opt.loop = loop;
	opt.log = &drv.log;
	cr_assert_eq(virtio_net_new(&opt, &net, &err), 0, "%s", err.text);
	vdriver_init_on(&drv, &virtio_net_ops, net, 64, loop);
}

static void setup(void)
{
	make(true, 0);
	start(F_ALL, 64);
	/* Everything is received until a case says otherwise. */
	start(F_ALL & ~F_CTRL, 64);
}

static void teardown(void)
{
	vdriver_fini(&drv);
	cr_assert(back->closed);
	close(peer);
}

#define NetTest(name) Test(virtio_net, name, .init = setup, .fini = teardown)

static void remake(bool vnet_hdr, uint16_t mtu)
{
	teardown();
	make(vnet_hdr, mtu);
}

static void kick(unsigned q)
{
	wr(&drv, R_QUEUE_NOTIFY, q);
	vdriver_settle(&drv);
}

/* What the loop does when the socket has become readable or writable. */
static void settle(void)
{
	struct timespec ms = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < 3; i++) {
		vdriver_settle(&drv);
		nanosleep(&ms, NULL);
	}
}

/* The link's status within a second. */
static bool link_becomes(unsigned status)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2) == status)
			return true;
		settle();
	}
	return false;
}

static struct virtio_net_counters counted(void)
{
	struct virtio_net_counters c;

	virtio_net_counters(net, &c);
	return c;
}

/* --- frames --- */

static void fill(uint8_t *p, unsigned seed, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i + i / 253);
	memcpy(p, own_mac, len < 6 ? len : 6);
}

/* From outside: header and frame, or the frame alone. */
static void arrive(const struct net_hdr *hdr, unsigned seed, size_t len)
{
	static uint8_t packet[HDR + 70000];
	size_t off = hdr ? HDR : 0;

	if (hdr)
		memcpy(packet, hdr, HDR);
	fill(packet + off, seed, len);
	cr_assert_eq(send(peer, packet, off + len, MSG_DONTWAIT), (ssize_t)(off + len));
}

static const struct net_hdr plain;

/* A receive buffer: descriptor `head`, `len` bytes at DATA + at, full of 0xee. */
static void give(uint16_t head, uint32_t at, uint32_t len)
{
	memset(ring_at(&drv.ring, DATA + at), 0xee, len);
	ring_set(&ring[RX], head, DATA + at, len, D_WRITE, 0);
	ring_offer(&ring[RX], head);
}

static void give_many(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++)
		give((uint16_t)i, i * len, len);
	kick(RX);
}

static bool frame_right(const uint8_t *p, unsigned seed, size_t off, size_t len, size_t total)
{
	uint8_t *want = malloc(total);
	bool same;

	fill(want, seed, total);
	same = memcmp(p, want + off, len) == 0;
	free(want);
	return same;
}

static bool used(unsigned q, uint32_t *id, uint32_t *len)
{
	for (unsigned i = 0; i < 500; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		if (ring_take(&ring[q], id, len))
			return true;
		nanosleep(&ms, NULL);
	}
	return false;
}

#define EXPECT_USED(q, want_id, want_len)                                                          \
	do {                                                                                       \
		uint32_t id_ = 0, len_ = 0;                                                        \
		cr_assert(used(q, &id_, &len_), "nothing was completed");                          \
		cr_expect_eq(id_, want_id, "id %u", id_);                                          \
		cr_expect_eq(len_, want_len, "length %u", len_);                                   \
	} while (0)

static void expect_nothing_used(unsigned q)
{
	settle();
	cr_expect_eq(ring_used_idx(&ring[q]), ring[q].used_seen);
}

/* --- configuration --- */

NetTest(features_and_configuration)
{
	cr_expect_eq(rd(&drv, R_DEVICE_ID), 1);
	cr_expect_eq(vdriver_offered(&drv), F_ALL);
	for (unsigned i = 0; i < 6; i++)
		cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + i, 1), own_mac[i]);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 1, "link up");
	virtio_mmio_io_ops.write(drv.mmio, R_CONFIG, 1, 0x55);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG, 1), own_mac[0], "read-only");
	remake(true, 9000);
	cr_expect_eq(vdriver_offered(&drv), F_ALL | F_MTU);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 10, 2), 9000);
	/* Without headers there is nobody to do the work that they ask for. */
	remake(false, 0);
	cr_expect_eq(vdriver_offered(&drv), F_ALL & ~F_OFFLOADS);
}

NetTest(offloads_follow_the_driver)
{
	start(F_PLAIN | F_OFFLOADS, 64);
	cr_expect_eq(back->offloads, NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN);
	start(F_PLAIN | F_GUEST_CSUM | F_GUEST_TSO4, 64);
	cr_expect_eq(back->offloads, NETDEV_CSUM | NETDEV_TSO4);
	wr(&drv, R_STATUS, 0);
	cr_expect_eq(back->offloads, 0);
}

/* --- receiving --- */

NetTest(receive)
{
	struct net_hdr hdr = {.flags = 1, .csum_start = 34, .csum_offset = 16, .num_buffers = 77};
	uint8_t *p = ring_at(&drv.ring, DATA);

	give_many(4, 2048);
	arrive(&hdr, 1, 100);
	EXPECT_USED(RX, 0, HDR + 100);
	hdr.num_buffers = 1;
	cr_expect_arr_eq(p, &hdr, HDR, "the header, num_buffers ours");
	cr_expect(frame_right(p + HDR, 1, 0, 100, 100));
	cr_expect_eq(p[HDR + 100], 0xee, "nothing behind the frame");
	arrive(&plain, 2, 1514);
	EXPECT_USED(RX, 1, HDR + 1514);
	cr_expect(frame_right(p + 2048 + HDR, 2, 0, 1514, 1514));
	cr_expect_eq(counted().rx_frames, 2);
	cr_expect_eq(counted().rx_bytes, 1614);
	cr_expect_eq(vdriver_interrupt(&drv, 1000), true);
}

/* Several buffers for one frame, visible at once, with their number. */
NetTest(receive_merged)
{
	uint8_t *p = ring_at(&drv.ring, DATA);
	uint16_t n;

	give_many(20, 1000);
	arrive(&plain, 3, 3500);
	for (unsigned i = 0; i < 4; i++)
		EXPECT_USED(RX, i, i < 3 ? 1000 : HDR + 3500 - 3000);
	memcpy(&n, p + 10, 2);
	cr_expect_eq(n, 4);
	cr_expect(frame_right(p + HDR, 3, 0, 3500, 3500));
	cr_expect_eq(p[HDR + 3500], 0xee);
	/* The buffers that were not needed serve the next one. */
	arrive(&plain, 4, 60);
	EXPECT_USED(RX, 4, HDR + 60);
}

/* Without the back end's header it is all zeroes but for num_buffers. */
NetTest(receive_without_headers)
{
	static const uint8_t want[HDR] = {[10] = 1};

	remake(false, 0);
	start(F_PLAIN, 64);
	give_many(2, 2048);
	arrive(NULL, 5, 14);
	EXPECT_USED(RX, 0, HDR + 14);
	cr_expect_arr_eq(ring_at(&drv.ring, DATA), want, HDR);
	cr_expect(frame_right((uint8_t *)ring_at(&drv.ring, DATA) + HDR, 5, 0, 14, 14));
}

/* A header cut anywhere, by descriptors of odd sizes in one chain. */
NetTest(receive_into_pieces)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	memset(p, 0xee, 4096);
	ring_set(&ring[RX], 0, DATA, 3, D_WRITE | D_NEXT, 1);
	ring_set(&ring[RX], 1, DATA + 3, 8, D_WRITE | D_NEXT, 2);
	ring_set(&ring[RX], 2, DATA + 11, 0, D_WRITE | D_NEXT, 3);
	ring_set(&ring[RX], 3, DATA + 11, 1000, D_WRITE, 0);
	ring_offer(&ring[RX], 0);
	kick(RX);
	arrive(&plain, 6, 200);
	EXPECT_USED(RX, 0, HDR + 200);
	cr_expect(frame_right(p + HDR, 6, 0, 200, 200));
}

NetTest(receive_unmerged)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	start(F_PLAIN & ~F_MRG_RXBUF, 64);
	give_many(3, 1526);
	arrive(&plain, 7, 1515); /* one byte too many: no other buffer may help */
	arrive(&plain, 8, 1514);
	EXPECT_USED(RX, 0, 1526);
	cr_expect(frame_right(p + HDR, 8, 0, 1514, 1514));
	cr_expect_eq(p[10], 1);
	cr_expect_eq(counted().rx_dropped, 1);
}

/* The queue is empty: frames wait outside, and a kick fetches them. */
NetTest(no_buffers_then_some)
{
	for (unsigned i = 0; i < 5; i++)
		arrive(&plain, i, 100 + i);
	expect_nothing_used(RX);
	for (unsigned i = 0; i < 5; i++) {
		give((uint16_t)i, i * 2048, 2048);
		kick(RX);
		EXPECT_USED(RX, i, HDR + 100 + i);
	}
	expect_nothing_used(RX);
}

/* A frame for which there are too few buffers is finished when there are more. */
NetTest(a_large_frame_waits_for_buffers)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	for (unsigned i = 0; i < 3; i++)
		give((uint16_t)i, i * 1000, 1000);
	kick(RX);
	arrive(&plain, 9, 6500);
	arrive(&plain, 10, 60);
	expect_nothing_used(RX);
	for (unsigned i = 3; i < 6; i++)
		give((uint16_t)i, i * 1000, 1000);
	kick(RX);
	expect_nothing_used(RX);
	give(6, 6000, 1000);
	give(7, 7000, 1000);
	kick(RX);
	for (unsigned i = 0; i < 7; i++)
		EXPECT_USED(RX, i, i < 6 ? 1000 : HDR + 6500 - 6000);
	cr_expect(frame_right(p + HDR, 9, 0, 6500, 6500));
	EXPECT_USED(RX, 7, HDR + 60);
	cr_expect_eq(counted().rx_dropped, 0);
}

/* All that the ring holds is too little: it would wait for ever. */
NetTest(a_frame_larger_than_the_ring_is_dropped)
{
	start(F_PLAIN, 4);
	give_many(4, 1000);
	arrive(&plain, 11, 5000);
	arrive(&plain, 12, 60);
	EXPECT_USED(RX, 0, HDR + 60);
	cr_expect_eq(counted().rx_dropped, 1);
}

NetTest(useless_buffers_are_given_back)
{
	give(0, 0, HDR - 1);
	give(1, 100, HDR);
	give(2, 200, 2000);
	kick(RX);
	EXPECT_USED(RX, 0, 0);
	arrive(&plain, 13, 60);
	EXPECT_USED(RX, 1, HDR);
	EXPECT_USED(RX, 2, 60);
	/* Without merging no frame fits into 25 bytes. */
	start(F_PLAIN & ~F_MRG_RXBUF, 64);
	give(0, 0, HDR + 13);
	kick(RX);
	EXPECT_USED(RX, 0, 0);
}

NetTest(runts_and_giants)
{
	give_many(60, 2048);
	arrive(&plain, 1, 13);
	arrive(&plain, 2, NETDEV_FRAME_MAX + 1);
	arrive(&plain, 3, 14);
	EXPECT_USED(RX, 0, HDR + 14);
	cr_expect_eq(counted().rx_dropped, 2);
	arrive(&plain, 4, NETDEV_FRAME_MAX);
	for (unsigned i = 0; i < 500 && counted().rx_frames < 2; i++)
		settle();
	cr_expect_eq(counted().rx_frames, 2);
	cr_expect_eq(counted().rx_bytes, 14 + NETDEV_FRAME_MAX);
}

/* What the driver did not negotiate does not reach it (§5.1.6.4.1). */
NetTest(headers_that_were_not_negotiated)
{
	static const struct net_hdr bad[] = {
	    {.flags = 1, .csum_start = 14},
	    {.gso_type = 1, .gso_size = 1000},
	    {.gso_type = 4, .gso_size = 1000},
	    {.gso_type = 3, .gso_size = 1000},
	    {.gso_type = 0x80},
	};
	static const struct net_hdr valid = {.flags = 2};

	start(F_PLAIN, 64);
	give_many(4, 2048);
	for (unsigned i = 0; i < 5; i++)
		arrive(&bad[i], i, 100);
	arrive(&valid, 9, 100);
	EXPECT_USED(RX, 0, HDR + 100);
	cr_expect_eq(*(uint8_t *)ring_at(&drv.ring, DATA), 0, "flags are zero");
	cr_expect_eq(counted().rx_dropped, 5);
}

#define MANY 1000

/* More frames than one turn moves, while the queue is refilled. */
NetTest(many_frames)
{
	unsigned seen = 0, given = 0;

	for (unsigned sent = 0; seen < MANY;) {
		uint32_t id, len;
		struct net_hdr hdr = plain;
		uint8_t packet[HDR + 100];

		while (given < seen + 60) {
			give((uint16_t)(given % 64), given % 64 * 2048, 2048);
			given++;
		}
		wr(&drv, R_QUEUE_NOTIFY, RX);
		for (unsigned i = 0; i < 100 && sent < MANY; i++, sent++) {
			memcpy(packet, &hdr, HDR);
			fill(packet + HDR, sent, 100);
			if (send(peer, packet, sizeof(packet), MSG_DONTWAIT) < 0)
				break;
		}
		while (seen < sent && seen < given && used(RX, &id, &len)) {
			const uint8_t *p = ring_at(&drv.ring, DATA + seen % 64 * 2048);

			cr_assert_eq(id, seen % 64);
			cr_assert(frame_right(p + HDR, seen, 0, 100, 100), "frame %u", seen);
			seen++;
		}
	}
	cr_expect_eq(counted().rx_frames, MANY);
}

/* §5.1.4.1 */
NetTest(no_more_than_the_mtu)
{
	static const struct net_hdr segmented = {
	    .flags = 1, .gso_type = 1, .gso_size = 1446, .csum_start = 34, .csum_offset = 16};
	uint8_t tagged[HDR + 1518] = {[HDR + 12] = 0x81};

	remake(true, 1500);
	start(((F_ALL | F_MTU) & ~F_CTRL), 64);
	give_many(8, 2048);
	arrive(&plain, 1, 1515);
	arrive(&plain, 2, 1514);
	EXPECT_USED(RX, 0, HDR + 1514);
	cr_assert_eq(send(peer, tagged, sizeof(tagged), 0), (ssize_t)sizeof(tagged));
	EXPECT_USED(RX, 1, HDR + 1518);
	arrive(&segmented, 3, 3000);
	EXPECT_USED(RX, 2, 2048);
	EXPECT_USED(RX, 3, HDR + 3000 - 2048);
	cr_expect_eq(counted().rx_dropped, 1);
	/* A driver that did not take the feature gets everything. */
	start((F_ALL & ~F_CTRL), 64);
	give_many(8, 2048);
	arrive(&plain, 1, 1515);
	EXPECT_USED(RX, 0, HDR + 1515);
}

/* --- sending --- */

static void put_frame(uint16_t head, const struct net_hdr *hdr, unsigned seed, uint32_t len)
{
	uint32_t at = DATA + 0x80000 + head * 0x20000u;

	memcpy(ring_at(&drv.ring, at), hdr, HDR);
	fill((uint8_t *)ring_at(&drv.ring, at) + HDR, seed, len);
	ring_set(&ring[TX], head, at, HDR + len, 0, 0);
	ring_offer(&ring[TX], head);
}

static uint8_t departed[HDR + 70000];

static ssize_t depart(void)
{
	struct pollfd p = {.fd = peer, .events = POLLIN};

	if (poll(&p, 1, 200) != 1)
		return -1;
	return recv(peer, departed, sizeof(departed), MSG_DONTWAIT);
}

NetTest(send)
{
	struct net_hdr want = {.flags = 1, .csum_start = 34, .csum_offset = 16};
	struct net_hdr hdr = want;

	hdr.flags |= 6; /* which no driver may set, and no device need know */
	hdr.hdr_len = 9;
	hdr.gso_size = 99;
	hdr.num_buffers = 0x1234;
	put_frame(0, &hdr, 1, 200);
	kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(depart(), HDR + 200);
	cr_expect_arr_eq(departed, &want, HDR, "what is not asked for is not passed on");
	cr_expect(frame_right(departed + HDR, 1, 0, 200, 200));
	cr_expect_eq(counted().tx_frames, 1);
	cr_expect_eq(counted().tx_bytes, 200);
}

NetTest(send_from_pieces)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	memset(p, 0, HDR);
	fill(p + HDR, 2, 500);
	ring_set(&ring[TX], 0, DATA, 5, D_NEXT, 1);
	ring_set(&ring[TX], 1, DATA + 5, 0, D_NEXT, 2);
	ring_set(&ring[TX], 2, DATA + 5, 10, D_NEXT, 3);
	ring_set(&ring[TX], 3, DATA + 15, HDR + 500 - 15, 0, 0);
	ring_offer(&ring[TX], 0);
	kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(depart(), HDR + 500);
	cr_expect(frame_right(departed + HDR, 2, 0, 500, 500));
}

NetTest(send_segmented)
{
	struct net_hdr hdr = {.flags = 1,
			      .gso_type = 1 | 0x80,
			      .hdr_len = 54,
			      .gso_size = 1448,
			      .csum_start = 34,
			      .csum_offset = 16};

	put_frame(0, &hdr, 3, NETDEV_FRAME_MAX);
	kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(depart(), HDR + NETDEV_FRAME_MAX);
	cr_expect_arr_eq(departed, &hdr, HDR);
}

/* None of these may reach the host's network stack. */
NetTest(send_malformed_headers)
{
	static const struct net_hdr bad[] = {
	    {.flags = 1, .csum_start = 13, .csum_offset = 0},  /* in the Ethernet header */
	    {.flags = 1, .csum_start = 34, .csum_offset = 65}, /* one byte beyond the end */
	    {.flags = 1, .csum_start = 65535, .csum_offset = 65535},
	    {.flags = 1, .csum_start = 99, .csum_offset = 0},
	    {.flags = 1, .csum_start = 50000, .csum_offset = 15538}, /* 16-bit sums would wrap */
	    {.gso_type = 1, .gso_size = 1000, .hdr_len = 54},	     /* no checksum to fill in */
	    {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .hdr_len = 54},
	    {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 1, .hdr_len = 101},
	    {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 1, .hdr_len = 65535},
	    {.flags = 1, .csum_start = 34, .gso_type = 2, .gso_size = 1},
	    {.flags = 1, .csum_start = 34, .gso_type = 3, .gso_size = 1}, /* UFO: not offered */
	    {.flags = 1, .csum_start = 34, .gso_type = 5, .gso_size = 1}, /* USO: the same */
	    {.flags = 1, .csum_start = 34, .gso_type = 0x7f, .gso_size = 1},
	    {.flags = 1, .csum_start = 34, .gso_type = 0x80, .gso_size = 1}, /* ECN of nothing */
	    {.flags = 1, .csum_start = 34, .gso_type = 0xff, .gso_size = 1},
	};
	unsigned n = sizeof(bad) / sizeof(bad[0]);

	for (unsigned i = 0; i < n; i++) {
		put_frame(0, &bad[i], i, 100);
		kick(TX);
		EXPECT_USED(TX, 0, 0);
	}
	cr_expect_eq(counted().tx_malformed, n);
	put_frame(0, &plain, 77, 100);
	kick(TX);
	cr_assert_eq(depart(), HDR + 100, "the good one is the first that comes out");
	cr_expect(frame_right(departed + HDR, 77, 0, 100, 100));
}

NetTest(send_headers_that_were_not_negotiated)
{
	static const struct {
		uint64_t without;
		struct net_hdr hdr;
	} bad[] = {
	    {F_CSUM, {.flags = 1, .csum_start = 34}},
	    {F_HOST_TSO4, {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 9}},
	    {F_HOST_TSO6, {.flags = 1, .csum_start = 34, .gso_type = 4, .gso_size = 9}},
	    {F_HOST_ECN, {.flags = 1, .csum_start = 34, .gso_type = 0x81, .gso_size = 9}},
	};

	for (unsigned i = 0; i < 4; i++) {
		start((F_ALL & ~F_CTRL) & ~bad[i].without, 64);
		put_frame(0, &bad[i].hdr, i, 100);
		kick(TX);
		EXPECT_USED(TX, 0, 0);
		cr_expect_eq(counted().tx_malformed, i + 1, "case %u", i);
	}
}

NetTest(send_wrong_lengths)
{
	static const uint32_t lens[] = {0, 1, HDR - 1, HDR, HDR + 13, HDR + NETDEV_FRAME_MAX + 1};

	memset(ring_at(&drv.ring, DATA), 0, 2 * HDR + 70000);
	for (unsigned i = 0; i < 6; i++) {
		ring_set(&ring[TX], 0, DATA, lens[i], 0, 0);
		ring_offer(&ring[TX], 0);
		kick(TX);
		EXPECT_USED(TX, 0, 0);
	}
	cr_expect_eq(counted().tx_malformed, 6);
	cr_expect_eq(depart(), -1);
}

#define SLOW_FRAMES 400

/* The peer does not read: the frame is held, the queue stands still, and nothing is lost. */
NetTest(send_to_a_slow_reader)
{
	unsigned sent = 0, got = 0, held = 0;

	for (unsigned round = 0; round < 2000; round++) {
		uint32_t id, len;

		while (sent - ring[TX].used_seen < 8 && sent < SLOW_FRAMES) {
			put_frame((uint16_t)(sent % 8), &plain, sent, 2000);
			sent++;
		}
		kick(TX);
		if (sent == SLOW_FRAMES && ring_used_idx(&ring[TX]) == SLOW_FRAMES)
			break;
		if (ring_used_idx(&ring[TX]) == ring[TX].used_seen) {
			held++;
			for (unsigned i = 0; i < 40 && depart() > 0; i++, got++)
				cr_assert(frame_right(departed + HDR, got, 0, 2000, 2000));
			vdriver_settle(&drv);
		}
		while (ring_take(&ring[TX], &id, &len))
			;
	}
	while (got < SLOW_FRAMES && depart() > 0) {
		cr_assert(frame_right(departed + HDR, got, 0, 2000, 2000), "frame %u", got);
		got++;
	}
	cr_expect_gt(held, 1);
	cr_expect_eq(got, SLOW_FRAMES);
	cr_expect_eq(counted().tx_frames, SLOW_FRAMES);
	cr_expect_eq(counted().tx_dropped, 0);
}

NetTest(host_errors_lose_a_frame)
{
	back->fail = -EIO;
	put_frame(0, &plain, 1, 100);
	kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_expect_eq(counted().tx_dropped, 1);
	back->fail = 0;
	put_frame(0, &plain, 2, 100);
	kick(TX);
	cr_expect_eq(depart(), HDR + 100);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 1, "the link is up");
}

/* --- the end of the back end --- */

NetTest(the_link_goes_down)
{
	give_many(4, 2048);
	close(peer);
	peer = -1;
	cr_expect(link_becomes(0));
	vdriver_settle(&drv);
	cr_expect_eq(rd(&drv, R_ISR) & 2, 2, "the driver is told");
	for (unsigned i = 0; i < 3; i++) {
		put_frame((uint16_t)i, &plain, i, 100);
		kick(TX);
		EXPECT_USED(TX, i, 0);
	}
	cr_expect_eq(counted().tx_dropped, 3);
	start(F_PLAIN, 64);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 0,
		     "nor does a reset help");
}

/* A frame was held: the queue goes on all the same. */
NetTest(the_link_goes_down_under_a_held_frame)
{
	back->fail = -EAGAIN;
	put_frame(0, &plain, 0, 100);
	put_frame(1, &plain, 1, 100);
	kick(TX);
	back->gone = true;
	EXPECT_USED(TX, 0, 0);
	EXPECT_USED(TX, 1, 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 0);
}

/* --- resets --- */

NetTest(reset_forgets_buffers)
{
	give_many(4, 2048);
	wr(&drv, R_STATUS, 0);
	arrive(&plain, 1, 100);
	settle();
	for (unsigned i = 0; i < 4 * 2048; i++)
		cr_assert_eq(*(uint8_t *)ring_at(&drv.ring, DATA + i), 0xee);
	start(F_PLAIN, 64);
	give_many(1, 2048);
	EXPECT_USED(RX, 0, HDR + 100);
}

/* §4.2.2.2: a queue that was taken away is not written to any more. */
NetTest(a_queue_taken_away)
{
	give_many(4, 2048);
	wr(&drv, R_QUEUE_SEL, RX);
	wr(&drv, R_QUEUE_READY, 0);
	arrive(&plain, 1, 100);
	settle();
	for (unsigned i = 0; i < 4 * 2048; i++)
		cr_assert_eq(*(uint8_t *)ring_at(&drv.ring, DATA + i), 0xee);
	put_frame(0, &plain, 2, 100);
	kick(TX);
	EXPECT_USED(TX, 0, 0);
}

NetTest(a_broken_receive_queue_needs_a_reset)
{
	give_many(2, 2048);
	__atomic_store_n(ring_u16(&ring[RX], RING_AVAIL + 2), 999, __ATOMIC_RELEASE);
	kick(RX);
	arrive(&plain, 1, 100);
	settle();
	cr_expect(rd(&drv, R_STATUS) & S_NEEDS_RESET);
	start(F_PLAIN, 64);
	give_many(1, 2048);
	EXPECT_USED(RX, 0, HDR + 100);
}

/* --- the control queue --- */

#define ACK_NONE 0xee

/* Class, number, data: the answer, or ACK_NONE. */
static unsigned command(uint8_t class, uint8_t number, const void *data, uint32_t len)
{
	uint8_t *p = ring_at(&drv.ring, DATA + 0x40000);
	uint32_t id, used_len;

	p[0] = class;
	p[1] = number;
	if (len)
		memcpy(p + 2, data, len);
	p[0x8000] = ACK_NONE;
	ring_set(&ring[CTRL], 0, DATA + 0x40000, 1, D_NEXT, 1);
	ring_set(&ring[CTRL], 1, DATA + 0x40001, 1 + len, D_NEXT, 2);
	ring_set(&ring[CTRL], 2, DATA + 0x48000, 1, D_WRITE, 0);
	ring_offer(&ring[CTRL], 0);
	kick(CTRL);
	cr_assert(used(CTRL, &id, &used_len));
	cr_expect_eq(used_len, 1);
	return p[0x8000];
}

static bool passes(const uint8_t mac[6])
{
	uint64_t before = counted().rx_frames, filtered = counted().rx_filtered;
	uint8_t packet[HDR + 60] = {0};
	static uint16_t next;

	vdriver_settle(&drv); /* it has done with the buffer, which it has from before */
	give(next % 64, 0, 2048);
	next++;
	wr(&drv, R_QUEUE_NOTIFY, RX);
	memcpy(packet + HDR, mac, 6);
	cr_assert_eq(send(peer, packet, sizeof(packet), 0), (ssize_t)sizeof(packet));
	for (unsigned i = 0; i < 1000; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		if (counted().rx_frames != before || counted().rx_filtered != filtered)
			break;
		nanosleep(&ms, NULL);
	}
	return counted().rx_frames != before;
}

static const uint8_t other[6] = {0x02, 1, 2, 3, 4, 5},
		     broadcast[6] = {255, 255, 255, 255, 255, 255},
		     multicast[6] = {0x33, 0x33, 0, 0, 0, 1};

NetTest(filters)
{
	static const struct {
		uint8_t number;
		uint8_t on;
		bool own, other, multi, broad;
	} steps[] = {
	    {0, 1, true, true, true, true},	{0, 0, true, false, false, true},
	    {1, 1, true, false, true, true},	{3, 1, true, false, false, true},
	    {1, 0, true, false, false, true},	{3, 0, true, false, false, true},
	    {2, 1, true, true, false, true},	{4, 1, false, false, false, true},
	    {5, 1, false, false, false, false}, {0, 1, true, true, true, true},
	};

	start(F_ALL, 64);
	cr_expect(passes(own_mac));
	cr_expect(passes(broadcast));
	cr_expect(!passes(other), "not promiscuous from the start");
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		cr_expect_eq(command(0, steps[i].number, &steps[i].on, 1), 0, "step %u", i);
		cr_expect_eq(passes(own_mac), steps[i].own, "step %u", i);
		cr_expect_eq(passes(other), steps[i].other, "step %u", i);
		cr_expect_eq(passes(multicast), steps[i].multi, "step %u", i);
		cr_expect_eq(passes(broadcast), steps[i].broad, "step %u", i);
	}
}

NetTest(mac_tables)
{
	uint8_t data[8 + 200 * 6] = {0};

	start(F_ALL, 64);
	data[0] = 1;
	memcpy(data + 4, other, 6);
	data[10] = 1;
	memcpy(data + 14, multicast, 6);
	cr_expect_eq(command(1, 0, data, 20), 0);
	cr_expect(passes(other));
	cr_expect(passes(multicast));
	/* Refused: cut short, surplus bytes, counts beyond the data. The table stays. */
	cr_expect_eq(command(1, 0, data, 19), 1);
	cr_expect_eq(command(1, 0, data, 21), 1);
	data[3] = 0xff;
	cr_expect_eq(command(1, 0, data, 20), 1);
	cr_expect(passes(other));
	/* Empty again. */
	memset(data, 0, sizeof(data));
	cr_expect_eq(command(1, 0, data, 8), 0);
	cr_expect(!passes(other));
	/* More than there is room for: all pass. */
	data[0] = 200;
	cr_expect_eq(command(1, 0, data, sizeof(data)), 0);
	cr_expect(passes(other));
	cr_expect(passes(multicast));
}

NetTest(mac_address)
{
	uint8_t longer[7] = {0x02};

	start(F_ALL, 64);
	cr_expect_eq(command(1, 1, other, 6), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 5, 1), 5);
	cr_expect(passes(other));
	cr_expect(!passes(own_mac));
	cr_expect_eq(command(1, 1, other, 5), 1);
	cr_expect_eq(command(1, 1, longer, 7), 1);
	start(F_ALL, 64);
	cr_expect(passes(own_mac), "a reset brings the first one back");
}

NetTest(unknown_commands)
{
	uint8_t one = 1;

	start(F_ALL, 64);
	for (unsigned class = 0; class < 256; class += class < 8 ? 1 : 31) {
		for (unsigned number = 0; number < 10; number++) {
			if ((class == 0 && number < 6) || (class == 1 && number < 2))
				continue;
			cr_expect_eq(command((uint8_t) class, (uint8_t)number, &one, 1), 1);
		}
	}
	cr_expect_eq(command(0, 0, NULL, 0), 1, "without its byte");
	start((F_ALL & ~F_CTRL_EXTRA) & ~F_CTRL_MAC, 64);
	cr_expect_eq(command(0, 2, &one, 1), 1, "not negotiated");
	cr_expect_eq(command(1, 1, own_mac, 6), 1);
}

/* No room for the answer, no room for a class: completed all the same. */
NetTest(commands_without_form)
{
	start(F_ALL, 64);
	ring_set(&ring[CTRL], 0, DATA, 3, 0, 0);
	ring_offer(&ring[CTRL], 0);
	kick(CTRL);
	EXPECT_USED(CTRL, 0, 0);
	*(uint8_t *)ring_at(&drv.ring, DATA + 100) = ACK_NONE;
	ring_set(&ring[CTRL], 0, DATA, 1, D_NEXT, 1);
	ring_set(&ring[CTRL], 1, DATA + 100, 1, D_WRITE, 0);
	ring_offer(&ring[CTRL], 0);
	kick(CTRL);
	EXPECT_USED(CTRL, 0, 1);
	cr_expect_eq(*(uint8_t *)ring_at(&drv.ring, DATA + 100), 1);
}

/* --- pause and save --- */

/* The driver's buffers go back into the ring, and serve again afterwards. */
NetTest(pause_and_resume)
{
	uint8_t *p = ring_at(&drv.ring, DATA);

	give_many(4, 2048);
	arrive(&plain, 1, 60);
	EXPECT_USED(RX, 0, HDR + 60);
	virtio_pause(drv.virtio);
	arrive(&plain, 2, 100);
	put_frame(0, &plain, 3, 100);
	kick(TX);
	expect_nothing_used(RX);
	expect_nothing_used(TX);
	for (unsigned i = 2048; i < 4 * 2048; i++)
		cr_assert_eq(p[i], 0xee);
	virtio_resume(drv.virtio);
	EXPECT_USED(RX, 1, HDR + 100);
	EXPECT_USED(TX, 0, 0);
	cr_expect_eq(depart(), HDR + 100);
	cr_expect_eq(counted().rx_dropped, 0);
}

/* A held frame is sent after the pause, once. */
NetTest(pause_with_a_held_frame)
{
	back->fail = -EAGAIN;
	put_frame(0, &plain, 1, 100);
	put_frame(1, &plain, 2, 200);
	kick(TX);
	virtio_pause(drv.virtio);
	back->fail = 0;
	expect_nothing_used(TX);
	virtio_resume(drv.virtio);
	EXPECT_USED(TX, 0, 0);
	EXPECT_USED(TX, 1, 0);
	cr_expect_eq(depart(), HDR + 100);
	cr_expect_eq(depart(), HDR + 200);
	cr_expect_eq(depart(), -1);
}

/* A malformed chain was completed between others: those before it come back empty, once each. */
NetTest(pause_with_a_gap)
{
	give(0, 0, 2048);
	ring_set(&ring[RX], 1, 0xffffffff0000, 2048, D_WRITE, 0);
	ring_offer(&ring[RX], 1);
	give(2, 4096, 2048);
	kick(RX);
	EXPECT_USED(RX, 1, 0);
	virtio_pause(drv.virtio);
	EXPECT_USED(RX, 0, 0);
	virtio_resume(drv.virtio);
	arrive(&plain, 1, 60);
	EXPECT_USED(RX, 2, HDR + 60);
	expect_nothing_used(RX);
}

NetTest(save_and_restore)
{
	struct vdriver from = {0};
	struct state_writer w;
	struct err err = {0};
	uint8_t on = 1;
	int from_peer;

	start(F_ALL, 64);
	cr_assert_eq(command(1, 1, other, 6), 0);
	cr_assert_eq(command(0, 1, &on, 1), 0);
	give_many(4, 2048);
	vdriver_save(&drv, &w);
	/* The first device lives on, paused, while a second one takes its place. */
	from = drv;
	from_peer = peer;
	make(true, 0);
	cr_assert_eq(vdriver_restore(&from, &w, &drv, &err), 0, "%s", err.text);
	for (unsigned q = 0; q < 3; q++) {
		ring[q].mem = drv.ring.mem;
		ring[q].mem.region[0].host += q * VDRIVER_RING_STRIDE;
	}
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 5, 1), 5, "the driver's address");
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 3, "announce yourself");
	cr_expect_eq(back->offloads, NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN);
	cr_expect_eq(command(3, 0, NULL, 0), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 6, 2), 1);
	{
		uint8_t packet[HDR + 60] = {0};

		memcpy(packet + HDR, multicast, 6);
		cr_assert_eq(send(peer, packet, sizeof(packet), 0), (ssize_t)sizeof(packet));
	}
	EXPECT_USED(RX, 0, HDR + 60);
	vdriver_fini(&from);
	close(from_peer);
	expect_truncations_refused(&virtio_mmio_io_ops, drv.mmio, &w);
	state_writer_free(&w);
}

Test(virtio_net, another_mtu_is_refused)
{
	struct vdriver from;
	struct state_writer w;
	struct err err = {0};
	int from_peer;

	make(true, 1500);
	start(F_PLAIN, 64);
	vdriver_save(&drv, &w);
	from = drv;
	from_peer = peer;
	make(true, 9000);
	cr_expect_eq(vdriver_restore(&from, &w, &drv, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "MTU of 1500"), "%s", err.text);
	vdriver_fini(&from);
	vdriver_fini(&drv);
	close(from_peer);
	close(peer);
	state_writer_free(&w);
}
