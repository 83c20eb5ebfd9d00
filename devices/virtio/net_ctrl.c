/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (VIRTIO 1.2 §5.1.6.5): one command a chain, class and number and data readable,
 * one byte of answer writable. And what the commands change: which addresses frames are received
 * for.
 */
#include <errno.h>
#include <string.h>

#include "minivm/iov.h"
#include "net_internal.h"

/* --- the filter --- */

static bool mac_equal(const uint8_t a[NETDEV_MAC_LEN], const uint8_t b[NETDEV_MAC_LEN])
{
	return memcmp(a, b, NETDEV_MAC_LEN) == 0;
}

static bool in_table(const struct net_filter *f, const uint8_t dst[NETDEV_MAC_LEN])
{
	for (unsigned i = 0; i < f->count; i++) {
		if (mac_equal(f->mac[i], dst))
			return true;
	}
	return f->many;
}

bool net_filter_passes(const struct virtio_net *net, const uint8_t dst[NETDEV_MAC_LEN])
{
	static const uint8_t broadcast[NETDEV_MAC_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct net_filter *f = &net->filter;
	uint64_t own = atomic_load_explicit(&net->mac, memory_order_relaxed);

	if (f->promisc)
		return true;
	if (mac_equal(dst, broadcast))
		return !f->nobcast;
	if (dst[0] & 1)
		return !f->nomulti && (f->allmulti || in_table(f, dst));
	if (f->nouni)
		return false;
	return f->alluni || memcmp(&own, dst, NETDEV_MAC_LEN) == 0 || in_table(f, dst);
}

void net_filter_save(const struct net_filter *f, struct state_writer *w)
{
	state_put_bool(w, f->promisc);
	state_put_bool(w, f->allmulti);
	state_put_bool(w, f->alluni);
	state_put_bool(w, f->nomulti);
	state_put_bool(w, f->nouni);
	state_put_bool(w, f->nobcast);
	state_put_bool(w, f->many);
	state_put_u32(w, f->count);
	state_put_bytes(w, f->mac, f->count * sizeof(f->mac[0]));
}

int net_filter_restore(struct net_filter *f, struct state_reader *r, struct err *err)
{
	f->promisc = state_get_bool(r);
	f->allmulti = state_get_bool(r);
	f->alluni = state_get_bool(r);
	f->nomulti = state_get_bool(r);
	f->nouni = state_get_bool(r);
	f->nobcast = state_get_bool(r);
	f->many = state_get_bool(r);
	f->count = state_get_u32(r);
	if (f->count > NET_MACS_MAX) {
		f->count = 0;
		return state_bad(err, "more than %d addresses", NET_MACS_MAX);
	}
	state_get_bytes(r, f->mac, f->count * sizeof(f->mac[0]));
	return 0;
}

/* --- commands: true if carried out --- */

/* What is left of a command's data. */
struct command {
	const struct vq_chain *chain;
	uint32_t off;
	uint32_t left;
};

static bool take(struct command *c, void *dst, uint32_t len)
{
	struct iovec part[VQ_SIZE_MAX];

	if (len > c->left)
		return false;
	iov_cut(part, vq_readable(c->chain), c->off, len);
	iov_gather(dst, part, len);
	c->off += len;
	c->left -= len;
	return true;
}

/* §5.1.6.5.1: a byte, 0 or 1. */
static bool set_rx_mode(struct virtio_net *net, struct command *c, uint8_t command)
{
	struct net_filter *f = &net->filter;
	bool *const modes[] = {
	    [VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
	    [VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
	    [VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
	    [VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
	    [VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
	    [VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	unsigned feature = command <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
								  : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (command >= sizeof(modes) / sizeof(modes[0]) || !net_has(net, feature) ||
	    !take(c, &on, sizeof(on)) || c->left != 0)
		return false;
	*modes[command] = on != 0;
	return true;
}

/* One of the two lists of MAC_TABLE_SET, which share our table. */
static bool take_macs(struct command *c, struct net_filter *f)
{
	uint32_t entries;

	if (!take(c, &entries, sizeof(entries)) || entries > c->left / NETDEV_MAC_LEN)
		return false;
	for (; entries > 0 && f->count < NET_MACS_MAX; entries--)
		take(c, f->mac[f->count++], NETDEV_MAC_LEN);
	/* There may be hundreds of millions of them: none is looked at. */
	if (entries > 0)
		f->many = true;
	c->off += entries * NETDEV_MAC_LEN;
	c->left -= entries * NETDEV_MAC_LEN;
	return true;
}

/* §5.1.6.5.2: all of it, or the table stays as it was. */
static bool set_mac_table(struct virtio_net *net, struct command *c)
{
	struct net_filter f = net->filter;

	f.count = 0;
	f.many = false;
	/* Of single hosts, then of groups. */
	if (!take_macs(c, &f))
		return false;
	if (!take_macs(c, &f) || c->left != 0)
		return false;
	net->filter = f;
	return true;
}

static bool set_mac(struct virtio_net *net, struct command *c)
{
	uint8_t mac[NETDEV_MAC_LEN];

	if (!net_has(net, VIRTIO_NET_F_CTRL_MAC_ADDR) || !take(c, mac, sizeof(mac)) || c->left != 0)
		return false;
	net_set_mac(net, mac);
	return true;
}

static bool set_mac_class(struct virtio_net *net, struct command *c, uint8_t command)
{
	switch (command) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		return net_has(net, VIRTIO_NET_F_CTRL_RX) && set_mac_table(net, c);
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		return set_mac(net, c);
	default:
		return false;
	}
}

/* §5.1.6.5.4: the driver has told the network where it is. */
static bool ack_announce(struct virtio_net *net, struct command *c, uint8_t command)
{
	if (!net_has(net, VIRTIO_NET_F_GUEST_ANNOUNCE) || command != VIRTIO_NET_CTRL_ANNOUNCE_ACK ||
	    c->left != 0)
		return false;
	atomic_fetch_and(&net->status, (uint16_t)~VIRTIO_NET_S_ANNOUNCE);
	return true;
}

static const struct {
	uint8_t class;
	bool (*run)(struct virtio_net *net, struct command *c, uint8_t command);
} classes[] = {
    {VIRTIO_NET_CTRL_RX, set_rx_mode},
    {VIRTIO_NET_CTRL_MAC, set_mac_class},
    {VIRTIO_NET_CTRL_ANNOUNCE, ack_announce},
};

static uint8_t run_command(struct virtio_net *net, const struct vq_chain *chain)
{
	struct command c = {.chain = chain, .left = chain->readable_len};
	struct virtio_net_ctrl_hdr hdr;

	if (!take(&c, &hdr, sizeof(hdr)))
		return VIRTIO_NET_ERR;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (classes[i].class == hdr.class)
			return classes[i].run(net, &c, hdr.cmd) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	}
	return VIRTIO_NET_ERR;
}

void net_ctrl_run(struct virtio_net *net)
{
	struct virtqueue *vq = virtio_queue(net->virtio, NET_CTRL);
	struct vq_chain *chain = &net->scratch;
	unsigned spent;
	int ret = 0;

	if (!net_has(net, VIRTIO_NET_F_CTRL_VQ))
		return;
	vq_disable_notify(vq);
	for (spent = 0; spent < NET_TURN; spent++) {
		ret = vq_pop(vq, chain);
		if (ret < 0)
			break;
		if (ret == 1) {
			uint8_t ack = run_command(net, chain);

			count_add(&net->count.commands, 1);
			if (chain->writable_len > 0)
				iov_scatter(vq_writable(chain), &ack, sizeof(ack));
			vq_push(vq, chain, sizeof(ack));
			continue;
		}
		if (!vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
	}
	virtio_signal_queue(net->virtio, NET_CTRL);
	if (ret < 0)
		virtio_needs_reset(net->virtio);
	else if (spent >= NET_TURN)
		virtio_notify_again(net->virtio, NET_CTRL);
}

/* §5.1.6.5.2.1: the table is empty after a reset. */
void net_ctrl_reset(struct virtio_net *net)
{
	memset(&net->filter, 0, sizeof(net->filter));
}
