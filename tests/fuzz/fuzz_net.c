/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-net device, over a back end that misbehaves as the input
 * says (virtio_guest.h; three queues, a page of memory each).
 *
 * Checked beside what the sanitizers see: a header that reaches the back end holds nothing but what
 * was negotiated and names nothing outside of its frame; lengths agree; a frame that is under way
 * is gone on with in the same buffers; a device that was reset touches nothing.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include "minivm/virtio_net.h"
#include "virtio_guest.h"

#define QUEUES 3u
#define HDR    12u
#define OFFLOADS                                                                                   \
	(1u << VIRTIO_NET_F_CSUM | 1u << VIRTIO_NET_F_GUEST_CSUM | 1u << VIRTIO_NET_F_GUEST_TSO4 | \
	 1u << VIRTIO_NET_F_HOST_TSO4 | 1u << VIRTIO_NET_F_HOST_TSO6 |                             \
	 1u << VIRTIO_NET_F_HOST_ECN)

struct back {
	struct netdev nd;
	struct input *in;
	struct iovec first; /* of the frame that is under way */
};

struct machine {
	struct guest guest;
	struct back back;
	struct virtio_net *net;
};

static size_t total(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	require(n <= NETDEV_IOV_MAX);
	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* --- the back end --- */

static int any_error(struct input *in)
{
	static const int errors[] = {-EAGAIN, -EAGAIN, -EINVAL, -EIO, -EAGAIN, -EPIPE};

	return errors[next(in) % 6];
}

static void scatter(struct back *b, const struct iovec *iov, unsigned n, size_t len)
{
	for (unsigned i = 0; i < n && len > 0; i++) {
		size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

		memset(iov[i].iov_base, next(b->in), part);
		len -= part;
	}
}

static ssize_t back_readv(struct netdev *nd, const struct iovec *iov, unsigned n)
{
	struct back *b = (struct back *)nd;
	unsigned how = next(b->in);
	size_t len = (size_t)next(b->in) << (how & 15);

	require(total(iov, n) >= NETDEV_FRAME_MAX);
	if (nd->partial)
		require(iov[0].iov_base == b->first.iov_base && iov[0].iov_len == b->first.iov_len);
	nd->partial = false;
	if (how & 0x10)
		return any_error(b->in);
	scatter(b, iov, n, len);
	if ((how & 0x60) == 0x60) {
		nd->partial = true;
		b->first = iov[0];
		return -EAGAIN;
	}
	return (ssize_t)len;
}

static void back_abort(struct netdev *nd)
{
	require(nd->partial);
	nd->partial = false;
}

static void check_header(const struct virtio_net_hdr_v1 *h, uint32_t len)
{
	require((h->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
	if (h->flags)
		require((uint32_t)h->csum_start + h->csum_offset + 2 <= len);
	else
		require(h->csum_start == 0 && h->csum_offset == 0);
	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		require(h->gso_size == 0 && h->hdr_len == 0);
		return;
	}
	require(h->flags && h->gso_size != 0 && h->hdr_len <= len);
	require((h->gso_type & 0x7f) == VIRTIO_NET_HDR_GSO_TCPV4 ||
		(h->gso_type & 0x7f) == VIRTIO_NET_HDR_GSO_TCPV6);
}

static int back_writev(struct netdev *nd, const struct iovec *iov, unsigned n, uint32_t len)
{
	struct back *b = (struct back *)nd;
	unsigned how = next(b->in);

	require(len >= NETDEV_FRAME_MIN && len <= NETDEV_FRAME_MAX);
	require(total(iov, n) == len + (nd->vnet_hdr ? HDR : 0));
	if (nd->vnet_hdr) {
		require(iov[0].iov_len == HDR);
		check_header(iov[0].iov_base, len);
	}
	nd->unsent = how & 2;
	return how & 1 ? any_error(b->in) : 0;
}

static int back_flush(struct netdev *nd)
{
	struct back *b = (struct back *)nd;
	unsigned how = next(b->in);

	nd->unsent = how & 1;
	return how & 1 ? any_error(b->in) : 0;
}

static int back_set_offloads(struct netdev *nd, uint32_t offloads)
{
	require((offloads & ~nd->offloads) == 0);
	return 0;
}

static void back_close(struct netdev *nd)
{
	close(nd->fd);
}

static const struct netdev_ops back_ops = {
    .name = "fuzz",
    .readv = back_readv,
    .writev = back_writev,
    .flush = back_flush,
    .abort = back_abort,
    .set_offloads = back_set_offloads,
    .close = back_close,
};

/* --- the machine --- */

static void machine_make(struct machine *m, struct input *in, bool vnet_hdr, uint16_t mtu)
{
	struct virtio_net_options opt = {.backend = &m->back.nd, .name = "fuzz", .mac = {2}};
	struct err err;

	opt.mtu = mtu;
	guest_make(&m->guest);
	m->back.in = in;
	m->back.nd = (struct netdev){.ops = &back_ops, .fd = eventfd(1, EFD_NONBLOCK)};
	m->back.nd.vnet_hdr = vnet_hdr;
	if (vnet_hdr)
		m->back.nd.offloads = NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN;
	opt.loop = m->guest.loop;
	opt.log = &m->guest.log;
	require(virtio_net_new(&opt, &m->net, &err) == 0);
	guest_plug(&m->guest, &virtio_net_ops, m->net);
}

/* Buffers for frames, small to large; overlapping, which harms the guest alone. */
static void give(struct input *in)
{
	unsigned how = next(in), n = how & 15;

	for (unsigned i = 0; i <= n; i++) {
		put_descriptor(QUEUE_MEM(0) + DESC + 16 * i, 0x3000u + next(in),
			       next(in) << (how >> 4 & 3), how & 0x80 ? 3 : 2, (i + 1) % SIZE);
		offer_in(0, (uint16_t)i);
	}
}

/* A frame with a header out of the input. */
static void frame(struct input *in)
{
	unsigned how = next(in), at = QUEUE_MEM(1) + 0x500;

	for (unsigned i = 0; i < HDR; i++)
		ram[at + i] = how & 1 ? next(in) : 0;
	if (how & 2) /* nearly right: a segmented frame */
		memcpy(ram + at, "\x01\x01\x36\x00\xe8\x03\x22\x00\x10\x00", 10);
	put_descriptor(QUEUE_MEM(1) + DESC, at, how & 4 ? 12 : 7, 1, 1);
	put_descriptor(QUEUE_MEM(1) + DESC + 16, at + (how & 4 ? 12 : 7), next(in) << (how >> 5),
		       how & 8 ? 0 : 1, 2);
	put_descriptor(QUEUE_MEM(1) + DESC + 32, 0x2000, next(in) * 32u, how & 16 ? 2 : 0, 0);
	offer_in(1, 0);
}

static void command(struct input *in)
{
	unsigned how = next(in), at = QUEUE_MEM(2) + 0x500;

	ram[at] = next(in) & 7;
	ram[at + 1] = next(in) & 7;
	for (unsigned i = 2; i < 32; i++)
		ram[at + i] = next(in);
	if (how & 1)
		memset(ram + at + 3, 0, 3);
	put_descriptor(QUEUE_MEM(2) + DESC, at, 1u + (how >> 1 & 1), 1, 1);
	put_descriptor(QUEUE_MEM(2) + DESC + 16, at + 1u + (how >> 1 & 1), next(in), 1, 2);
	put_descriptor(QUEUE_MEM(2) + DESC + 32, at + 0x100, how >> 7, 2, 0);
	offer_in(2, 0);
}

static void one_step(struct machine *m, struct input *in)
{
	unsigned op = next(in);

	switch (op % 10) {
	case 0:
		any_access(&m->guest, in);
		break;
	case 1:
		start_queues(&m->guest, QUEUES,
			     op & 32 ? 0xffffffff : (uint32_t)next(in) << 15 | OFFLOADS);
		break;
	case 2:
		give(in);
		break;
	case 3:
		frame(in);
		break;
	case 4:
		command(in);
		break;
	case 5:
		reset_and_kick(&m->guest, &virtio_net_ops, m->net, QUEUES);
		break;
	case 6:
		virtio_pause(m->guest.virtio);
		virtio_resume(m->guest.virtio);
		break;
	case 7:
		scribble(in, op >> 3);
		break;
	default:
		virtio_net_ops.notify(m->net, op % QUEUES);
		break;
	}
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};
	unsigned first = next(&in);
	struct loop_work work = {.fn = quit};

	memset(&m, 0, sizeof(m));
	machine_make(&m, &in, first & 1, first & 2 ? NETDEV_MTU_MIN : 0);
	start_queues(&m.guest, QUEUES, 0xffffffff);
	for (unsigned steps = 0; in.len > 0 && steps < 512; steps++)
		one_step(&m, &in);
	/* One round of the loop: kicks, and the back end's file, which is always ready. */
	work.opaque = m.guest.loop;
	loop_post(m.guest.loop, &work);
	loop_run(m.guest.loop);
	guest_end(&m.guest);
	return 0;
}
