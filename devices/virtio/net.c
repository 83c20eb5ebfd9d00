/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (VIRTIO 1.2 §5.1) over a network back end.
 *
 * Theory of operation. All of it happens on the device's loop. Frames go by readv and writev
 * straight between the driver's buffers and the back end's file. Three things are waited for, and
 * each way to forget one of them is a network that stops for ever:
 *
 *  - frames from outside: the file is watched for EPOLLIN while the driver has given buffers
 *    (net_rx_wants()), and not otherwise, or a level-triggered loop would spin. When buffers run
 *    out, kicks of the receive queue are asked for; the kick reads on.
 *  - frames from the driver: its kicks, as for any device, unless a frame is held (net_tx.c).
 *  - room outside: EPOLLOUT, while a frame is held that the file would not take, or bytes of one.
 *
 * And at all times for a socket's end (NET_END); that a tap is gone shows when it is used.
 *
 * net_watch() derives what is watched from that state, at the end of everything that changes it. A
 * turn is bounded; what is left asks for another turn (virtio_notify_again()).
 *
 * A back end that ends (its tap deleted, passt killed) is a cable pulled: the link goes down, what
 * the driver sends is dropped, nothing comes any more.
 */
#include "net_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include <linux/virtio_ids.h>

static uint64_t mac_pack(const uint8_t mac[NETDEV_MAC_LEN])
{
	uint64_t packed = 0;

	memcpy(&packed, mac, NETDEV_MAC_LEN);
	return packed;
}

void net_set_mac(struct virtio_net *net, const uint8_t mac[NETDEV_MAC_LEN])
{
	atomic_store(&net->mac, mac_pack(mac));
}

/* --- who waits for what --- */

/*
 * What is left to wait for when nothing is: the back end's end. Edge-triggered, because it stays;
 * with what the loop takes for no events it would not tell.
 */
#define NET_END (EPOLLRDHUP | EPOLLET)

static void net_watch(struct virtio_net *net)
{
	uint32_t events = 0;

	if (net->gone)
		return;
	if (net->virtio && !net->paused && net_rx_wants(net))
		events |= EPOLLIN;
	if (net->tx.held || net->backend->unsent)
		events |= EPOLLOUT;
	loop_rearm(net->loop, &net->source, events ? events : NET_END);
}

static void end_backend(struct virtio_net *net)
{
	net->gone = true;
	loop_unwatch(net->loop, &net->source);
	atomic_fetch_and(&net->status, (uint16_t)~VIRTIO_NET_S_LINK_UP);
	log_msg(net->log, LOG_LEVEL_WARN, "%s: the %s behind it is gone; the link is down",
		net->name, net->backend->ops->name);
	if (!net->virtio)
		return;
	if (net_has(net, VIRTIO_NET_F_STATUS))
		virtio_signal_config(net->virtio);
	virtio_notify_again(net->virtio, NET_TX); /* a frame that was held goes nowhere */
}

void net_backend_error(struct virtio_net *net, int ret)
{
	if (ret == -EPIPE && !net->gone)
		end_backend(net);
}

/* The file is ready for something; an end of it is found out by using it. */
static void net_ready(void *opaque, uint32_t events)
{
	struct virtio_net *net = opaque;
	uint32_t ended = events & (EPOLLERR | EPOLLHUP);

	if (((events & EPOLLOUT) || ended) && net->backend->ops->flush)
		net_backend_error(net, net->backend->ops->flush(net->backend));
	if (net->virtio && net->tx.held)
		net_tx_run(net);
	if (net->virtio && !net->paused && ((events & EPOLLIN) || ended))
		net_rx_run(net);
	/* Neither had a use for it: it would be reported for ever. */
	if (ended && !net->gone && !net_rx_wants(net))
		end_backend(net);
	net_watch(net);
}

static void net_notify(void *dev, unsigned queue)
{
	static void (*const run[NET_QUEUES])(struct virtio_net * net) = {
	    [NET_RX] = net_rx_run, [NET_TX] = net_tx_run, [NET_CTRL] = net_ctrl_run};
	struct virtio_net *net = dev;

	if (!net->virtio)
		return;
	run[queue](net);
	net_watch(net);
}

/* --- features: §5.1.3 --- */

/* What each offload of the back end is for the driver, sending and receiving. */
static const struct net_offload {
	uint32_t offload;
	unsigned host;	/* the driver sends such frames */
	unsigned guest; /* it takes such frames */
} offloads[] = {
    {NETDEV_CSUM, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM},
    {NETDEV_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4},
    {NETDEV_TSO6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6},
    {NETDEV_TSO_ECN, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN},
};
#define OFFLOADS (sizeof(offloads) / sizeof(offloads[0]))

static uint64_t net_features(void *dev)
{
	const struct virtio_net *net = dev;
	uint64_t features = NET_BIT(VIRTIO_NET_F_MAC) | NET_BIT(VIRTIO_NET_F_STATUS) |
			    NET_BIT(VIRTIO_NET_F_MRG_RXBUF) | NET_BIT(VIRTIO_NET_F_CTRL_VQ) |
			    NET_BIT(VIRTIO_NET_F_CTRL_RX) | NET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			    NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			    NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);

	if (net->mtu)
		features |= NET_BIT(VIRTIO_NET_F_MTU);
	for (size_t i = 0; i < OFFLOADS; i++) {
		if (net->backend->offloads & offloads[i].offload)
			features |= NET_BIT(offloads[i].host) | NET_BIT(offloads[i].guest);
	}
	return features;
}

/* §5.1.3.1, of what there is here. */
static const struct virtio_requirement requirements[] = {
    {VIRTIO_NET_F_GUEST_TSO4, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
    {VIRTIO_NET_F_GUEST_TSO6, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
    {VIRTIO_NET_F_GUEST_ECN, NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | NET_BIT(VIRTIO_NET_F_GUEST_TSO6)},
    {VIRTIO_NET_F_HOST_TSO4, NET_BIT(VIRTIO_NET_F_CSUM)},
    {VIRTIO_NET_F_HOST_TSO6, NET_BIT(VIRTIO_NET_F_CSUM)},
    {VIRTIO_NET_F_HOST_ECN, NET_BIT(VIRTIO_NET_F_HOST_TSO4) | NET_BIT(VIRTIO_NET_F_HOST_TSO6)},
    {VIRTIO_NET_F_CTRL_RX, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
    {VIRTIO_NET_F_GUEST_ANNOUNCE, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
    {VIRTIO_NET_F_CTRL_MAC_ADDR, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
    {0},
};

static void set_offloads(struct virtio_net *net)
{
	uint32_t wanted = 0;

	if (net->gone || !net->backend->ops->set_offloads)
		return;
	for (size_t i = 0; i < OFFLOADS; i++) {
		if (net_has(net, offloads[i].guest))
			wanted |= offloads[i].offload;
	}
	net_backend_error(net, net->backend->ops->set_offloads(net->backend, wanted));
}

/* §5.1.4; a driver with VERSION_1 does not write it. */
static void net_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	const struct virtio_net *net = dev;
	struct virtio_net_config config = {
	    .status = atomic_load(&net->status),
	    .max_virtqueue_pairs = 1,
	    .mtu = net->mtu,
	};
	uint64_t mac = atomic_load(&net->mac);

	memcpy(config.mac, &mac, NETDEV_MAC_LEN);
	memcpy(out, (const uint8_t *)&config + off, len);
}

/* --- life --- */

static void net_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_net *net = dev;

	net->virtio = virtio;
	net->features = features;
	net->filter.promisc = !net_has(net, VIRTIO_NET_F_CTRL_RX);
	set_offloads(net);
	net_watch(net);
}

static void net_reset(void *dev)
{
	struct virtio_net *net = dev;

	net->virtio = NULL;
	net->features = 0;
	net->paused = false;
	atomic_fetch_and(&net->status, (uint16_t)~VIRTIO_NET_S_ANNOUNCE);
	net_rx_reset(net);
	net_tx_reset(net);
	net_ctrl_reset(net);
	net_set_mac(net, net->first_mac);
	set_offloads(net);
	net_watch(net);
}

/* --- pause, save, restore --- */

static void net_pause(void *dev)
{
	struct virtio_net *net = dev;

	net->paused = true;
	net_rx_pause(net);
	net_tx_pause(net);
	net_watch(net);
}

static void net_resume(void *dev)
{
	struct virtio_net *net = dev;

	net->paused = false;
	net_rx_run(net);
	net_tx_run(net);
	net_watch(net);
}

/* What the driver has set; offloads follow from its features, the link is this machine's. */
static int net_save(void *dev, struct state_writer *w, struct err *err)
{
	const struct virtio_net *net = dev;
	uint64_t mac = atomic_load(&net->mac);

	(void)err;
	state_put_u16(w, net->mtu);
	state_put_bytes(w, &mac, NETDEV_MAC_LEN);
	net_filter_save(&net->filter, w);
	return 0;
}

/*
 * The driver keeps the address that it has. Switches do not know that it is here now: it is asked
 * to announce itself (§5.1.6.5.4). And its link may have been down.
 */
static int net_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_net *net = dev;
	uint16_t mtu = state_get_u16(r);
	uint8_t mac[NETDEV_MAC_LEN];
	int ret;

	if (mtu != net->mtu)
		return err_set(err, EINVAL,
			       "%s had an MTU of %u when the machine was saved; now it has %u",
			       net->name, mtu, net->mtu);
	state_get_bytes(r, mac, sizeof(mac));
	net_set_mac(net, mac);
	ret = net_filter_restore(&net->filter, r, err);
	if (ret || !net->virtio)
		return ret;
	if (net_has(net, VIRTIO_NET_F_GUEST_ANNOUNCE))
		atomic_fetch_or(&net->status, (uint16_t)VIRTIO_NET_S_ANNOUNCE);
	if (net_has(net, VIRTIO_NET_F_GUEST_ANNOUNCE) || net_has(net, VIRTIO_NET_F_STATUS))
		virtio_signal_config(net->virtio);
	return 0;
}

static void net_free(struct virtio_net *net)
{
	loop_unwatch(net->loop, &net->source);
	free(net->rx.spill);
	free(net);
}

static void net_destroy(void *dev)
{
	struct virtio_net *net = dev;

	loop_unwatch(net->loop, &net->source);
	netdev_close(net->backend);
	net_free(net);
}

const struct virtio_ops virtio_net_ops = {
    .name = "virtio-net",
    .guest_kconfig = "CONFIG_VIRTIO_NET",
    .device_id = VIRTIO_ID_NET,
    .queues = NET_QUEUES,
    .queue_size_max = NET_QUEUE_SIZE,
    .config_len = offsetof(struct virtio_net_config, speed),
    .features = net_features,
    .requires = requirements,
    .config_read = net_config_read,
    .activate = net_activate,
    .notify = net_notify,
    .reset = net_reset,
    .destroy = net_destroy,
    .pause = net_pause,
    .resume = net_resume,
    .state_version = 1,
    .save = net_save,
    .restore = net_restore,
};

int virtio_net_new(const struct virtio_net_options *opt, struct virtio_net **out, struct err *err)
{
	struct virtio_net *net = calloc(1, sizeof(*net));
	int ret;

	if (!net)
		return err_sys(err, ENOMEM, "virtio-net");
	net->backend = opt->backend;
	net->loop = opt->loop;
	net->name = opt->name;
	net->log = opt->log;
	net->mtu = opt->mtu;
	memcpy(net->first_mac, opt->mac, NETDEV_MAC_LEN);
	net_set_mac(net, opt->mac);
	atomic_store(&net->status, (uint16_t)VIRTIO_NET_S_LINK_UP);
	net->source = (struct loop_source){.fd = opt->backend->fd, .fn = net_ready, .opaque = net};
	net->rx.spill = malloc(NET_FRAME_ROOM);
	ret = net->rx.spill ? loop_watch(net->loop, &net->source, NET_END, err)
			    : err_sys(err, ENOMEM, "virtio-net");
	if (ret) {
		net_free(net);
		return ret;
	}
	*out = net;
	return 0;
}

void virtio_net_macs(const struct virtio_net *net, uint8_t now[NETDEV_MAC_LEN],
		     uint8_t first[NETDEV_MAC_LEN])
{
	uint64_t mac = atomic_load(&net->mac);

	memcpy(now, &mac, NETDEV_MAC_LEN);
	memcpy(first, net->first_mac, NETDEV_MAC_LEN);
}

void virtio_net_counters(const struct virtio_net *net, struct virtio_net_counters *out)
{
	const struct net_counts *c = &net->count;

	*out = (struct virtio_net_counters){
	    .rx_frames = count_read(&c->rx_frames),
	    .rx_bytes = count_read(&c->rx_bytes),
	    .rx_filtered = count_read(&c->rx_filtered),
	    .rx_dropped = count_read(&c->rx_dropped),
	    .tx_frames = count_read(&c->tx_frames),
	    .tx_bytes = count_read(&c->tx_bytes),
	    .tx_dropped = count_read(&c->tx_dropped),
	    .tx_malformed = count_read(&c->tx_malformed),
	    .commands = count_read(&c->commands),
	};
}
