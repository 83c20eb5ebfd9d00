/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's network devices: back end, virtio-net device and the thread that serves it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "machine_priv.h"
#include "net_passt.h"

int board_plan_nets(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->config->net_count; i++) {
		ret = board_slot_take(m, &m->net[i].slot, err);
		if (ret)
			err_context(err, "net %s", m->config->net[i].id);
	}
	return ret;
}

/* --- back ends, by kind --- */

static int open_tap(const struct net_config *config, struct board_net *net, struct err *err)
{
	return netdev_tap_open(config->target, &net->backend, err);
}

static int open_fd(const struct net_config *config, struct board_net *net, struct err *err)
{
	return netdev_tap_adopt(config->fd, &net->backend, err);
}

static int open_user(const struct net_config *config, struct board_net *net, struct err *err)
{
	int fd;
	int ret = passt_start(config, &fd, &net->passt, err);

	if (!ret)
		ret = netdev_stream_adopt(fd, &net->backend, err);
	return ret;
}

static int open_passt(const struct net_config *config, struct board_net *net, struct err *err)
{
	return netdev_stream_connect(config->target, &net->backend, err);
}

static int open_backend(const struct net_config *config, struct board_net *net, struct err *err)
{
	static int (*const open[])(const struct net_config *config, struct board_net *net,
				   struct err *err) = {
	    [NET_TAP] = open_tap,
	    [NET_FD] = open_fd,
	    [NET_USER] = open_user,
	    [NET_PASST] = open_passt,
	};

	return open[config->kind](config, net, err);
}

/* --- devices --- */

/* Random, of one device (bit 0 clear), given out by nobody (bit 1 set: locally administered). */
static int choose_mac(const struct net_config *config, uint8_t mac[NETDEV_MAC_LEN], struct err *err)
{
	unsigned i;

	if (config->has_mac) {
		for (i = 0; i < NETDEV_MAC_LEN; i++)
			mac[i] = config->mac[i];
		return 0;
	}
	if (getrandom(mac, NETDEV_MAC_LEN, GRND_NONBLOCK) != NETDEV_MAC_LEN)
		return err_sys(err, errno, "a random address");
	mac[0] = 0x02;
	return 0;
}

static int add_net(struct machine *m, unsigned index, struct err *err)
{
	const struct net_config *config = &m->config->net[index];
	struct board_net *net = &m->net[index];
	struct virtio_net_options opt = {.name = config->id, .log = m->log};
	char name[16];
	int ret;

	ret = open_backend(config, net, err);
	if (!ret)
		ret = choose_mac(config, opt.mac, err);
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "net%u", index);
	ret = iothread_init(&net->io, name, err);
	if (ret)
		return ret;
	opt.backend = net->backend;
	opt.loop = net->io.loop;
	opt.mtu = (uint16_t)config->mtu;
	ret = virtio_net_new(&opt, &net->net, err);
	if (ret) {
		iothread_destroy(&net->io);
		return ret;
	}
	net->backend = NULL;	  /* the device's now */
	m->net_count = index + 1; /* from here board_remove_nets() takes it down */
	return board_slot_plug(m, net->slot, &virtio_net_ops, net->net, net->io.loop, err);
}

int board_add_nets(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->config->net_count; i++) {
		ret = add_net(m, i, err);
		if (ret)
			err_context(err, "net %s", m->config->net[i].id);
	}
	return ret;
}

int board_start_nets(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->net_count; i++)
		ret = iothread_start(&m->net[i].io, err);
	return ret;
}

void board_stop_nets(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->net_count; i++)
		iothread_stop(&m->net[i].io);
}

void board_remove_nets(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->net_count; i++) {
		board_slot_unplug(m->net[i].slot);
		iothread_destroy(&m->net[i].io);
	}
	for (i = 0; i < m->config->net_count; i++) {
		netdev_close(m->net[i].backend);
		/* Its socket is closed by now. */
		if (m->net[i].passt > 0)
			passt_wait(m->net[i].passt);
	}
}
