/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending (VIRTIO 1.2 §5.1.6.2).
 *
 * The header is copied and checked before the host's network stack sees it, and what it may not
 * hold is left out of the copy: it names offsets and sizes that others calculate with. The frame
 * itself is not copied, and not looked at.
 *
 * A frame that the back end would not take is held, with its chain; the queue then waits for it.
 * What was refused, or is malformed, is completed like any other: a network may lose frames.
 */
#include <errno.h>
#include <string.h>

#include "minivm/iov.h"
#include "net_internal.h"

/* --- the header --- */

/* A checksum of 16 bits that lies in the frame, and begins in it. */
static bool csum_inside(const struct virtio_net_hdr_v1 *hdr, uint32_t len)
{
	uint32_t end = (uint32_t)hdr->csum_start + hdr->csum_offset + sizeof(uint16_t);

	return hdr->csum_start >= NETDEV_FRAME_MIN && end <= len;
}

static bool gso_offered(const struct virtio_net *net, uint8_t type)
{
	switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return net_has(net, VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return net_has(net, VIRTIO_NET_F_HOST_TSO6);
	default:
		return false;
	}
}

/* Segmentation: a kind that was negotiated, with a checksum to fill in, sizes that make sense. */
static bool gso_fine(const struct virtio_net *net, const struct virtio_net_hdr_v1 *hdr,
		     uint32_t len)
{
	if (!gso_offered(net, hdr->gso_type))
		return false;
	if ((hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN) && !net_has(net, VIRTIO_NET_F_HOST_ECN))
		return false;
	return (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && hdr->gso_size != 0 &&
	       hdr->hdr_len <= len;
}

/*
 * From what the driver wrote to what the host may be told. False: malformed. Flags that we do not
 * know are ignored (§5.1.6.2.2), and so is num_buffers.
 */
static bool check_header(const struct virtio_net *net, const struct virtio_net_hdr_v1 *in,
			 uint32_t len, struct virtio_net_hdr_v1 *out)
{
	*out = (struct virtio_net_hdr_v1){.gso_type = VIRTIO_NET_HDR_GSO_NONE};
	if (in->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (!net_has(net, VIRTIO_NET_F_CSUM) || !csum_inside(in, len))
			return false;
		out->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		out->csum_start = in->csum_start;
		out->csum_offset = in->csum_offset;
	}
	if (in->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (!gso_fine(net, in, len))
			return false;
		out->gso_type = in->gso_type;
		out->gso_size = in->gso_size;
		out->hdr_len = in->hdr_len;
	}
	return true;
}

/* --- a frame --- */

/* tx.chain -> tx.hdr, tx.iov. False: malformed. */
static bool take_frame(struct virtio_net *net)
{
	struct net_tx *tx = &net->tx;
	const struct vq_chain *c = &tx->chain;
	struct virtio_net_hdr_v1 hdr;

	if (c->readable_len < NET_HDR_LEN + NETDEV_FRAME_MIN || c->readable_len > NET_FRAME_ROOM)
		return false;
	iov_gather(&hdr, vq_readable(c), NET_HDR_LEN);
	tx->len = c->readable_len - NET_HDR_LEN;
	if (!check_header(net, &hdr, tx->len, &tx->hdr))
		return false;
	tx->n = 0;
	if (net->backend->vnet_hdr)
		tx->iov[tx->n++] = (struct iovec){&tx->hdr, NET_HDR_LEN};
	tx->n += iov_cut(&tx->iov[tx->n], vq_readable(c), NET_HDR_LEN, tx->len);
	return true;
}

/* False: it must be held. */
static bool send_frame(struct virtio_net *net)
{
	struct netdev *nd = net->backend;
	struct net_tx *tx = &net->tx;
	int ret = net->gone ? -EPIPE : nd->ops->writev(nd, tx->iov, tx->n, tx->len);

	if (ret == -EAGAIN)
		return false;
	if (ret == 0) {
		count_add(&net->count.tx_frames, 1);
		count_add(&net->count.tx_bytes, tx->len);
		return true;
	}
	count_add(&net->count.tx_dropped, 1);
	net_backend_error(net, ret);
	return true;
}

/* 1: one frame went, wherever to; 0: the queue is empty; -EAGAIN: it is held; -EPROTO. */
static int next_frame(struct virtio_net *net, struct virtqueue *vq)
{
	struct net_tx *tx = &net->tx;

	if (!tx->held) {
		int ret = vq_pop(vq, &tx->chain);

		if (ret <= 0)
			return ret;
		if (!take_frame(net)) {
			count_add(&net->count.tx_malformed, 1);
			log_guest(net->log, &net->log_limit, LOG_LEVEL_WARN,
				  "%s: a frame of %u bytes with a header that makes no sense",
				  net->name, tx->chain.readable_len);
			vq_push(vq, &tx->chain, 0);
			return 1;
		}
	}
	tx->held = !send_frame(net);
	if (tx->held)
		return -EAGAIN;
	vq_push(vq, &tx->chain, 0);
	return 1;
}

/* At the end of a batch: what the back end gathered. */
static void flush(struct virtio_net *net)
{
	if (!net->gone && net->backend->ops->flush)
		net_backend_error(net, net->backend->ops->flush(net->backend));
}

void net_tx_run(struct virtio_net *net)
{
	struct virtqueue *vq = virtio_queue(net->virtio, NET_TX);
	unsigned spent;
	int ret = 0;

	/* A queue that the driver took away (§4.2.2.2). */
	if (!vq->started) {
		net_tx_reset(net);
		return;
	}
	vq_disable_notify(vq);
	for (spent = 0; spent < NET_TURN; spent++) {
		ret = next_frame(net, vq);
		if (ret < 0)
			break;
		if (ret == 1)
			continue;
		if (!vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
	}
	flush(net);
	virtio_signal_queue(net->virtio, NET_TX);
	if (ret == -EPROTO)
		virtio_needs_reset(net->virtio);
	else if (spent >= NET_TURN)
		virtio_notify_again(net->virtio, NET_TX);
}

/* The held frame was the last one that was taken; it is read and checked anew. */
void net_tx_pause(struct virtio_net *net)
{
	if (net->tx.held)
		vq_unpop(virtio_queue(net->virtio, NET_TX));
	net_tx_reset(net);
}

void net_tx_reset(struct virtio_net *net)
{
	net->tx.held = false;
}
