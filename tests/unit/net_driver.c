/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "minivm/iov.h"
#include "net_driver.h"

struct net_test nt;
uint8_t net_departed[HDR + 70000];

const struct net_hdr net_plain;
const uint8_t net_own_mac[6] = {0x02, 0, 0, 0x12, 0x34, 0x56};
const uint8_t net_other[6] = {0x02, 1, 2, 3, 4, 5};
const uint8_t net_broadcast[6] = {255, 255, 255, 255, 255, 255};
const uint8_t net_multicast[6] = {0x33, 0x33, 0, 0, 0, 1};

/* Two: a device may be made while another one lives. */
static struct packets pool[2];

/* One more frame out of the socket, of which epoll then knows nothing. */
static void read_ahead(struct packets *p)
{
	if (p->more == NETDEV_MORE_HERE)
		p->kept_len = recv(p->nd.fd, p->kept, sizeof(p->kept), MSG_DONTWAIT);
	p->nd.more = p->kept_len > 0 ? NETDEV_MORE_HERE : p->more;
}

static ssize_t packets_readv(struct netdev *nd, const struct iovec *iov, unsigned n)
{
	struct packets *p = (struct packets *)nd;
	struct msghdr msg = {.msg_iovlen = n};
	ssize_t ret = p->kept_len;

	memcpy(&msg.msg_iov, &iov, sizeof(iov));
	p->reads++;
	p->buffers = n;
	if (p->gone)
		return -EPIPE;
	if (ret > 0) {
		iov_scatter(iov, p->kept, (size_t)ret);
		p->kept_len = 0;
		nd->more = NETDEV_MORE_MAYBE;
		return ret;
	}
	ret = recvmsg(nd->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
	if (ret > 0)
		read_ahead(p);
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

void net_start(uint64_t features, uint16_t size)
{
	cr_assert(vdriver_negotiate(&nt.drv, features));
	for (unsigned q = 0; q < 3; q++)
		vdriver_queue(&nt.drv, q, size, &nt.ring[q]);
	vdriver_go(&nt.drv);
	cr_assert_eq(rd(&nt.drv, R_STATUS), 15);
}

void net_make_with(bool vnet_hdr, uint32_t offloads, uint16_t mtu)
{
	struct virtio_net_options opt = {.name = "net0", .mtu = mtu};
	struct err err = {0};
	struct loop *loop;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	nt.peer = pair[1];
	nt.back = &pool[nt.back == &pool[0]];
	memset(nt.back, 0, sizeof(*nt.back));
	nt.back->nd = (struct netdev){.ops = &packets_ops, .fd = pair[0], .vnet_hdr = vnet_hdr};
	nt.back->nd.offloads = offloads;
	opt.backend = &nt.back->nd;
	memcpy(opt.mac, net_own_mac, 6);
	cr_assert_eq(loop_new(&loop, &err), 0);
	opt.loop = loop;
	opt.log = &nt.drv.log;
	cr_assert_eq(virtio_net_new(&opt, &nt.net, &err), 0, "%s", err.text);
	vdriver_init_on(&nt.drv, &virtio_net_ops, nt.net, 64, loop);
}

void net_make(bool vnet_hdr, uint16_t mtu)
{
	net_make_with(vnet_hdr, vnet_hdr ? NET_OFFLOADS : 0, mtu);
}

void net_setup(void)
{
	net_make(true, 0);
	net_start(F_ALL, 64);
	/* Everything is received until a case says otherwise. */
	net_start(F_ALL & ~F_CTRL, 64);
}

void net_teardown(void)
{
	vdriver_fini(&nt.drv);
	cr_assert(nt.back->closed);
	close(nt.peer);
}

void net_remake(bool vnet_hdr, uint16_t mtu)
{
	net_teardown();
	net_make(vnet_hdr, mtu);
}

void net_kick(unsigned q)
{
	wr(&nt.drv, R_QUEUE_NOTIFY, q);
	vdriver_settle(&nt.drv);
}

void net_settle(void)
{
	struct timespec ms = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < 3; i++) {
		vdriver_settle(&nt.drv);
		nanosleep(&ms, NULL);
	}
}

bool net_link_becomes(unsigned status)
{
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		if (virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2) == status)
			return true;
		net_settle();
	}
	return false;
}

struct virtio_net_counters net_counted(void)
{
	struct virtio_net_counters c;

	virtio_net_counters(nt.net, &c);
	return c;
}

void net_fill(uint8_t *p, unsigned seed, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i + i / 253);
	memcpy(p, net_own_mac, len < 6 ? len : 6);
}

void net_arrive(const struct net_hdr *hdr, unsigned seed, size_t len)
{
	static uint8_t packet[HDR + 70000];
	size_t off = hdr ? HDR : 0;

	if (hdr)
		memcpy(packet, hdr, HDR);
	net_fill(packet + off, seed, len);
	cr_assert_eq(send(nt.peer, packet, off + len, MSG_DONTWAIT), (ssize_t)(off + len));
}

void net_give(uint16_t head, uint32_t at, uint32_t len)
{
	memset(ring_at(&nt.drv.ring, DATA + at), 0xee, len);
	ring_set(&nt.ring[RX], head, DATA + at, len, D_WRITE, 0);
	ring_offer(&nt.ring[RX], head);
}

void net_give_many(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++)
		net_give((uint16_t)i, i * len, len);
	net_kick(RX);
}

bool net_frame_right(const uint8_t *p, unsigned seed, size_t off, size_t len, size_t total)
{
	uint8_t *want = malloc(total);
	bool same;

	net_fill(want, seed, total);
	same = memcmp(p, want + off, len) == 0;
	free(want);
	return same;
}

bool net_used(unsigned q, uint32_t *id, uint32_t *len)
{
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		if (ring_take(&nt.ring[q], id, len))
			return true;
		nanosleep(&ms, NULL);
	}
	return false;
}

void net_expect_nothing_used(unsigned q)
{
	net_settle();
	cr_expect_eq(ring_used_idx(&nt.ring[q]), nt.ring[q].used_seen);
}

void net_put_frame(uint16_t head, const struct net_hdr *hdr, unsigned seed, uint32_t len)
{
	uint32_t at = DATA + 0x80000 + head * 0x20000u;

	memcpy(ring_at(&nt.drv.ring, at), hdr, HDR);
	net_fill((uint8_t *)ring_at(&nt.drv.ring, at) + HDR, seed, len);
	ring_set(&nt.ring[TX], head, at, HDR + len, 0, 0);
	ring_offer(&nt.ring[TX], head);
}

ssize_t net_depart(void)
{
	struct pollfd p = {.fd = nt.peer, .events = POLLIN};

	if (poll(&p, 1, PATIENCE_MS) != 1)
		return -1;
	return recv(nt.peer, net_departed, sizeof(net_departed), MSG_DONTWAIT);
}

ssize_t net_depart_now(void)
{
	net_settle();
	return recv(nt.peer, net_departed, sizeof(net_departed), MSG_DONTWAIT);
}

unsigned net_command(uint8_t class, uint8_t number, const void *data, uint32_t len)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA + 0x40000);
	uint32_t id, used_len;

	p[0] = class;
	p[1] = number;
	if (len)
		memcpy(p + 2, data, len);
	p[0x8000] = ACK_NONE;
	ring_set(&nt.ring[CTRL], 0, DATA + 0x40000, 1, D_NEXT, 1);
	ring_set(&nt.ring[CTRL], 1, DATA + 0x40001, 1 + len, D_NEXT, 2);
	ring_set(&nt.ring[CTRL], 2, DATA + 0x48000, 1, D_WRITE, 0);
	ring_offer(&nt.ring[CTRL], 0);
	net_kick(CTRL);
	cr_assert(net_used(CTRL, &id, &used_len));
	cr_expect_eq(used_len, 1);
	return p[0x8000];
}

bool net_passes(const uint8_t mac[6])
{
	uint64_t before = net_counted().rx_frames, filtered = net_counted().rx_filtered;
	uint8_t packet[HDR + 60] = {0};
	static uint16_t next;

	vdriver_settle(&nt.drv); /* it has done with the buffer, which it has from before */
	net_give(next % 64, 0, 2048);
	next++;
	wr(&nt.drv, R_QUEUE_NOTIFY, RX);
	memcpy(packet + HDR, mac, 6);
	cr_assert_eq(send(nt.peer, packet, sizeof(packet), 0), (ssize_t)sizeof(packet));
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		if (net_counted().rx_frames != before || net_counted().rx_filtered != filtered)
			break;
		nanosleep(&ms, NULL);
	}
	return net_counted().rx_frames != before;
}
