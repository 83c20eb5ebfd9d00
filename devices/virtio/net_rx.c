/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving (VIRTIO 1.2 §5.1.6.3, §5.1.6.4).
 *
 * How long the next frame is shows only when it has been read. So the driver's buffers are
 * collected first, as many as the largest frame takes; the frame is read into them; those that it
 * filled are completed, all at once, and the others wait for the next frame. If the driver has not
 * given that many, what does not fit is read into a buffer of ours and follows when it has, so no
 * frame is lost for want of buffers. While a frame waits there, no other is read.
 *
 * Without VIRTIO_NET_F_MRG_RXBUF a frame has one chain, whatever its size: a larger one is dropped.
 *
 * The header is zeroed, or the back end's with num_buffers; a frame has exactly its length: nothing
 * of the host's memory, nor of an earlier frame, is behind it.
 */
#include <errno.h>
#include <string.h>

#include "minivm/iov.h"
#include "net_internal.h"

/* Queue entries that one turn may look at: each frame's chains, and as many that are no use. */
#define NET_RX_POPS (4 * VQ_SIZE_MAX)

static bool mergeable(const struct virtio_net *net)
{
	return net_has(net, VIRTIO_NET_F_MRG_RXBUF);
}

/* --- the driver's buffers --- */

/* Can they take any frame, or may they just not grow? */
static bool enough(const struct virtio_net *net)
{
	const struct net_rx *rx = &net->rx;

	if (!mergeable(net))
		return rx->chains > 0;
	return rx->room >= NET_FRAME_ROOM || rx->chains == VQ_SIZE_MAX ||
	       rx->n > NET_RX_IOV - VQ_SIZE_MAX;
}

/* No frame has use for more of a chain than NET_FRAME_ROOM, nor room for lengths that add up. */
static void collect_chain(struct virtio_net *net, const struct vq_chain *c, uint16_t next)
{
	struct net_rx *rx = &net->rx;
	uint32_t len = c->writable_len < NET_FRAME_ROOM ? c->writable_len : NET_FRAME_ROOM;
	unsigned n = iov_cut(&rx->iov[rx->n], vq_writable(c), 0, len);

	rx->chain[rx->chains++] =
	    (struct net_rx_chain){.head = c->head, .n = (uint16_t)n, .next = next, .len = len};
	rx->n += n;
	rx->room += len;
}

/*
 * §5.1.6.3.1: with merging the header fits into a buffer, without it any frame does. Chains in
 * which nothing can ever be received are given back.
 */
static uint32_t shortest_chain(const struct virtio_net *net)
{
	return mergeable(net) ? NET_HDR_LEN : NET_HDR_LEN + NETDEV_FRAME_MIN;
}

/* Collects until there are enough or the queue is empty: then it asks for a kick. 0 or -EPROTO. */
static int collect(struct virtio_net *net, unsigned *spent)
{
	struct virtqueue *vq = virtio_queue(net->virtio, NET_RX);
	struct vq_chain *c = &net->scratch;

	vq_disable_notify(vq);
	while (!enough(net) && *spent < NET_RX_POPS) {
		int ret = vq_pop(vq, c);

		(*spent)++;
		if (ret < 0)
			return ret;
		if (ret == 1) {
			if (c->writable_len < shortest_chain(net))
				vq_push(vq, c, 0);
			else
				collect_chain(net, c, vq->next_avail);
			continue;
		}
		if (!vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
	}
	return 0;
}

/* The first `chains` of them have been completed. */
static void release(struct net_rx *rx, unsigned chains)
{
	unsigned n = 0;

	for (unsigned i = 0; i < chains; i++) {
		n += rx->chain[i].n;
		rx->room -= rx->chain[i].len;
	}
	rx->chains -= chains;
	rx->n -= n;
	memmove(&rx->chain[0], &rx->chain[chains], rx->chains * sizeof(rx->chain[0]));
	memmove(&rx->iov[0], &rx->iov[n], rx->n * sizeof(rx->iov[0]));
}

/* --- a frame in them --- */

/* `len` bytes at `off` of the buffers. */
static void buffers_write(struct net_rx *rx, uint32_t off, const void *src, uint32_t len)
{
	struct iovec part[NET_RX_IOV];

	iov_cut(part, rx->iov, off, len);
	iov_scatter(part, src, len);
}

static void buffers_read(struct net_rx *rx, void *dst, uint32_t off, uint32_t len)
{
	struct iovec part[NET_RX_IOV];

	iov_cut(part, rx->iov, off, len);
	iov_gather(dst, part, len);
}

static bool gso_negotiated(const struct virtio_net *net, uint8_t type)
{
	if ((type & VIRTIO_NET_HDR_GSO_ECN) && !net_has(net, VIRTIO_NET_F_GUEST_ECN))
		return false;
	switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO6);
	default:
		return false;
	}
}

/* What is to be segmented says how, and has a checksum to be filled in. */
static bool gso_whole(const struct virtio_net_hdr_v1 *hdr)
{
	return (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_NONE ||
	       ((hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && hdr->gso_size != 0);
}

/*
 * §5.1.6.4.1. Frames that the back end queued under an earlier driver's features are not for this
 * one. The header is in the driver's memory by now; a driver that changes it deceives itself.
 */
static bool check_header(const struct virtio_net *net, struct virtio_net_hdr_v1 *hdr)
{
	bool csum = net_has(net, VIRTIO_NET_F_GUEST_CSUM);

	if (!csum && (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return false;
	hdr->flags &= csum ? VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID : 0;
	return gso_negotiated(net, hdr->gso_type) && gso_whole(hdr);
}

#define ETHERTYPE_VLAN 0x8100
#define VLAN_TAG       4u

/*
 * §5.1.4.1: a driver that was told an MTU gets no larger packet, unless it is one to be segmented.
 * A VLAN tag belongs to the Ethernet header.
 */
static bool fits_mtu(const struct virtio_net *net, const struct virtio_net_hdr_v1 *hdr,
		     const uint8_t type[2], uint32_t len)
{
	uint32_t header = NETDEV_FRAME_MIN;

	if (!net_has(net, VIRTIO_NET_F_MTU) ||
	    (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) != VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (type[0] == ETHERTYPE_VLAN >> 8 && type[1] == (ETHERTYPE_VLAN & 0xff))
		header += VLAN_TAG;
	return len <= header + net->mtu;
}

/* Chains that `total` bytes take. */
static unsigned chains_of(const struct net_rx *rx, uint32_t total)
{
	unsigned n = 0;

	while (total > 0) {
		uint32_t len = rx->chain[n++].len;

		total -= total < len ? total : len;
	}
	return n;
}

static void complete(struct virtio_net *net, uint32_t total, unsigned chains)
{
	struct virtqueue *vq = virtio_queue(net->virtio, NET_RX);
	struct net_rx *rx = &net->rx;

	for (unsigned i = 0; i < chains; i++) {
		uint32_t len = total < rx->chain[i].len ? total : rx->chain[i].len;

		vq_fill(vq, rx->chain[i].head, len);
		total -= len;
	}
	vq_publish(vq);
	release(rx, chains);
}

/* The buffers hold a frame of `total` bytes, its header included. */
static void deliver(struct virtio_net *net, uint32_t total)
{
	struct virtio_net_hdr_v1 hdr = {.flags = 0};
	struct net_rx *rx = &net->rx;
	unsigned chains = chains_of(rx, total);
	uint8_t ether[NETDEV_FRAME_MIN]; /* destination, source, type */

	buffers_read(rx, ether, NET_HDR_LEN, sizeof(ether));
	if (!net_filter_passes(net, ether)) {
		count_add(&net->count.rx_filtered, 1);
		return;
	}
	if (net->backend->vnet_hdr)
		buffers_read(rx, &hdr, 0, NET_HDR_LEN);
	if (!check_header(net, &hdr) ||
	    !fits_mtu(net, &hdr, &ether[2 * NETDEV_MAC_LEN], total - NET_HDR_LEN)) {
		count_add(&net->count.rx_dropped, 1);
		return;
	}
	/* §5.1.6.4.1: 1 without merging. */
	hdr.num_buffers = (uint16_t)chains;
	buffers_write(rx, 0, &hdr, NET_HDR_LEN);
	complete(net, total, chains);
	count_add(&net->count.rx_frames, 1);
	count_add(&net->count.rx_bytes, total - NET_HDR_LEN);
}

/* --- a frame that waits for more of them --- */

/* May more buffers come while we wait? */
static bool may_grow(const struct virtio_net *net)
{
	const struct net_rx *rx = &net->rx;

	return mergeable(net) && !enough(net) &&
	       rx->chains < virtio_queue(net->virtio, NET_RX)->size;
}

/* True when the frame has gone on to the driver, or nowhere. */
static bool unspill(struct virtio_net *net)
{
	struct net_rx *rx = &net->rx;
	uint32_t total = rx->spilled;

	if (rx->room < total && may_grow(net))
		return false;
	rx->spilled = 0;
	if (rx->room < total) {
		count_add(&net->count.rx_dropped, 1);
		return true;
	}
	buffers_write(rx, rx->spilled_room, rx->spill, total - rx->spilled_room);
	deliver(net, total);
	return true;
}

static void spilled(struct virtio_net *net, uint32_t total, uint32_t room)
{
	struct net_rx *rx = &net->rx;

	if (total > NET_FRAME_ROOM || !mergeable(net)) {
		count_add(&net->count.rx_dropped, 1);
		return;
	}
	rx->spilled = total;
	rx->spilled_room = room;
}

/* --- reading --- */

/*
 * Bytes of the buffers that the back end is given. All of them are some twenty entries of which
 * most frames fill one, and to look at the others is a part of what such a frame costs the kernel.
 * A large one among small ones is copied out of the spill buffer, once; then all are given again.
 */
static uint32_t offered_room(const struct virtio_net *net)
{
	const struct net_rx *rx = &net->rx;

	if (rx->smalls < NET_RX_SMALLS || rx->room < NET_RX_SMALL_ROOM || !mergeable(net))
		return rx->room;
	return NET_RX_SMALL_ROOM;
}

/* One frame from the back end. 0 or -errno. */
static int read_frame(struct virtio_net *net)
{
	uint32_t skip = net->backend->vnet_hdr ? 0 : NET_HDR_LEN;
	struct iovec iov[NET_RX_IOV + 1];
	struct net_rx *rx = &net->rx;
	uint32_t room = offered_room(net);
	unsigned n = iov_cut(iov, rx->iov, skip, room - skip);
	uint32_t total;
	ssize_t ret;

	iov[n++] = (struct iovec){rx->spill, NET_FRAME_ROOM};
	ret = net->backend->ops->readv(net->backend, iov, n);
	if (ret < 0)
		return (int)ret;
	if (ret > NET_FRAME_ROOM || (uint32_t)ret < NET_HDR_LEN - skip + NETDEV_FRAME_MIN) {
		count_add(&net->count.rx_dropped, 1);
		return 0;
	}
	total = (uint32_t)ret + skip;
	rx->smalls = total <= NET_RX_SMALL_ROOM ? rx->smalls + 1 : 0;
	if (total > room)
		spilled(net, total, room);
	else
		deliver(net, total);
	return 0;
}

/* 1: a frame can be read; 0: not now; -EPROTO. */
static int prepare(struct virtio_net *net, unsigned *spent)
{
	struct net_rx *rx = &net->rx;
	int ret;

	/* What a frame is being read into stays as it is. */
	if (net->backend->partial)
		return 1;
	ret = collect(net, spent);
	if (ret == 0 && rx->spilled > 0) {
		if (!unspill(net))
			return 0;
		ret = collect(net, spent);
	}
	return ret < 0 ? ret : rx->chains > 0;
}

/* What one turn may cost. */
static bool turn_over(unsigned frames, unsigned spent)
{
	return frames >= NET_TURN || spent >= NET_RX_POPS;
}

/*
 * Shall the turn end with the frame that it has just had? A file that has no more is read for
 * nothing, and for a tap that costs as much as half a frame. So if the back end knows that there is
 * none, or if there was none for some time, we leave the question to epoll, which is asked anyhow:
 * it reports a file for as long as it can be read. It is asked only if net_watch() waits for
 * frames; without buffers, the next one is found by the kick that prepare() has to ask for.
 */
static bool leave_to_epoll(const struct virtio_net *net)
{
	unsigned singles = net->rx.singles;

	if (net->backend->more == NETDEV_MORE_HERE || !net_rx_wants(net))
		return false;
	return net->backend->more == NETDEV_MORE_NONE ||
	       (singles >= NET_RX_SINGLES && singles % NET_RX_SINGLES != 0);
}

static void count_single(struct net_rx *rx, unsigned frames)
{
	if (frames == 1)
		rx->singles++;
	else if (frames > 1)
		rx->singles = 0;
}

void net_rx_run(struct virtio_net *net)
{
	unsigned frames = 0, spent = 0;
	int ret = 0;

	/* A queue that the driver took away (§4.2.2.2): nothing is written to its buffers. */
	if (!virtio_queue(net->virtio, NET_RX)->started) {
		net_rx_reset(net);
		return;
	}
	while (!net->gone && !net->rx.broken && !turn_over(frames, spent)) {
		ret = prepare(net, &spent);
		if (ret <= 0)
			break;
		ret = read_frame(net);
		if (ret < 0)
			break;
		frames++;
		if (leave_to_epoll(net))
			break;
	}
	count_single(&net->rx, frames);
	virtio_signal_queue(net->virtio, NET_RX);
	if (ret == -EPROTO) {
		net->rx.broken = true;
		virtio_needs_reset(net->virtio);
	} else if (ret < 0) {
		net_backend_error(net, ret);
	} else if (turn_over(frames, spent)) {
		virtio_notify_again(net->virtio, NET_RX);
	}
}

bool net_rx_wants(const struct virtio_net *net)
{
	return net->rx.chains > 0 && net->rx.spilled == 0 && !net->rx.broken;
}

/*
 * What is under way is lost, as a network may. Chains go back as long as they are the last ones
 * that were taken; behind one that the queue completed itself, because it was malformed, there is
 * no way back but to complete them, empty.
 */
void net_rx_pause(struct virtio_net *net)
{
	struct virtqueue *vq = virtio_queue(net->virtio, NET_RX);
	struct net_rx *rx = &net->rx;

	if (rx->spilled > 0 || net->backend->partial)
		count_add(&net->count.rx_dropped, 1);
	while (rx->chains > 0 && rx->chain[rx->chains - 1].next == vq->next_avail) {
		vq_unpop(vq);
		rx->chains--;
	}
	for (unsigned i = 0; i < rx->chains; i++)
		vq_fill(vq, rx->chain[i].head, 0);
	vq_publish(vq);
	virtio_signal_queue(net->virtio, NET_RX);
	net_rx_reset(net);
}

void net_rx_reset(struct virtio_net *net)
{
	struct net_rx *rx = &net->rx;

	if (net->backend->partial)
		net->backend->ops->abort(net->backend);
	rx->chains = 0;
	rx->n = 0;
	rx->room = 0;
	rx->spilled = 0;
	rx->broken = false;
}
