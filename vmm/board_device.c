/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's virtio devices other than disks and network: one table says which there are and how
 * each is made, one of a kind at most.
 * They share one thread with one event loop, which is there only if one of them is. It cannot be
 * the main loop: that one joins the vCPUs at the end, and a vCPU may be waiting for the loop of a
 * device that it resets.
 */
#include "machine_priv.h"
#include "minivm/clock.h"
#include "minivm/virtio_balloon.h"
#include "minivm/virtio_rng.h"
#include "minivm/virtio_vsock.h"

struct device_kind {
	const char *name; /* in --stats and in messages */
	const struct virtio_ops *ops;
	/* Does this machine have it? */
	bool (*wanted)(const struct machine *m);
	/* Makes its state, for ops. Its loop will be m->device_io's. */
	int (*make)(struct machine *m, void **dev, struct err *err);
	/* Its own counters beside those of virtio_counters(); returns how many. */
	unsigned (*counters)(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX]);
	/* The thread is gone, and so are the vCPUs: finish what the guest has handed over. */
	void (*drain)(void *dev);
};

/* --- entropy --- */

static bool rng_wanted(const struct machine *m)
{
	return m->config->rng;
}

static int rng_make(struct machine *m, void **dev, struct err *err)
{
	const struct virtio_rng_options opt = {
	    .source = &virtio_rng_host_source,
	    .loop = m->device_io.loop,
	    .log = m->log,
	    .rate = m->config->rng_rate,
	};
	struct virtio_rng *rng;
	int ret = virtio_rng_new(&opt, &rng, err);

	if (!ret)
		*dev = rng;
	return ret;
}

static unsigned rng_counters(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX])
{
	struct virtio_rng_counters c;

	virtio_rng_counters(dev, &c);
	out[0] = (struct device_counter){"requests", c.requests};
	out[1] = (struct device_counter){"bytes", c.bytes};
	out[2] = (struct device_counter){"throttled", c.throttled};
	out[3] = (struct device_counter){"errors", c.errors};
	return 4;
}

/* --- sockets --- */

static bool vsock_wanted(const struct machine *m)
{
	return m->config->vsock_cid != 0;
}

static int vsock_make(struct machine *m, void **dev, struct err *err)
{
	const struct virtio_vsock_options opt = {
	    .cid = m->config->vsock_cid,
	    .path = m->config->vsock_path,
	    .loop = m->device_io.loop,
	    .log = m->log,
	};
	struct virtio_vsock *vsock;
	int ret = virtio_vsock_new(&opt, &vsock, err);

	if (!ret)
		*dev = vsock;
	return ret;
}

static unsigned vsock_counters(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX])
{
	struct virtio_vsock_counters c;

	virtio_vsock_counters(dev, &c);
	out[0] = (struct device_counter){"from_host", c.from_host};
	out[1] = (struct device_counter){"from_guest", c.from_guest};
	out[2] = (struct device_counter){"connections_refused", c.refused};
	out[3] = (struct device_counter){"resets", c.resets};
	out[4] = (struct device_counter){"violations", c.violations};
	out[5] = (struct device_counter){"to_guest_bytes", c.rx_bytes};
	out[6] = (struct device_counter){"to_host_bytes", c.tx_bytes};
	out[7] = (struct device_counter){"open", c.open};
	return 8;
}

/* --- balloon --- */

static bool balloon_wanted(const struct machine *m)
{
	return m->config->balloon;
}

_Static_assert(CONFIG_BALLOON_STATS_MAX <= VIRTIO_BALLOON_STATS_MAX_NS / SECOND_NS, "interval");

static int balloon_make(struct machine *m, void **dev, struct err *err)
{
	const struct virtio_balloon_options opt = {
	    .mem = &m->mem,
	    .target = m->config->balloon_size,
	    .loop = m->device_io.loop,
	    .stats_ns = m->config->balloon_stats * SECOND_NS,
	    .log = m->log,
	};
	struct virtio_balloon *balloon;
	int ret = virtio_balloon_new(&opt, &balloon, err);

	if (!ret)
		*dev = balloon;
	return ret;
}

static unsigned balloon_counters(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX])
{
	struct virtio_balloon_counters c;

	virtio_balloon_counters(dev, &c);
	out[0] = (struct device_counter){"target", c.target};
	out[1] = (struct device_counter){"actual", c.actual};
	out[2] = (struct device_counter){"inflated", c.inflated};
	out[3] = (struct device_counter){"deflated", c.deflated};
	out[4] = (struct device_counter){"reported", c.reported};
	out[5] = (struct device_counter){"refused_pages", c.refused_pages};
	out[6] = (struct device_counter){"stats_updates", c.stats_updates};
	out[7] = (struct device_counter){"free_memory", c.free_memory};
	out[8] = (struct device_counter){"available_memory", c.available_memory};
	out[9] = (struct device_counter){"total_memory", c.total_memory};
	out[10] = (struct device_counter){"major_faults", c.major_faults};
	return 11;
}

/* --- the table; the order is that of the slots --- */

static const struct device_kind kinds[] = {
    {
	.name = "rng",
	.ops = &virtio_rng_ops,
	.wanted = rng_wanted,
	.make = rng_make,
	.counters = rng_counters,
    },
    {
	.name = "vsock",
	.ops = &virtio_vsock_ops,
	.wanted = vsock_wanted,
	.make = vsock_make,
	.counters = vsock_counters,
    },
    {
	.name = "balloon",
	.ops = &virtio_balloon_ops,
	.wanted = balloon_wanted,
	.make = balloon_make,
	.counters = balloon_counters,
    },
    {
	.name = "console",
	.ops = &virtio_console_ops,
	.wanted = board_hvc_wanted,
	.make = board_hvc_make,
	.counters = board_console_counters,
	.drain = board_console_drain,
    },
    {
	.name = "ports",
	.ops = &virtio_console_ops,
	.wanted = board_ports_wanted,
	.make = board_ports_make,
	.counters = board_console_counters,
	.drain = board_console_drain,
    },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- their life --- */

static int plan_device(struct machine *m, const struct device_kind *kind, struct err *err)
{
	struct board_device *d = &m->device[m->device_count];
	int ret;

	d->kind = kind;
	d->name = kind->name;
	/* There are as many slots as there is room for devices. */
	ret = board_slot_take(m, &d->slot, err);
	if (ret)
		return err_context(err, "%s", d->name);
	m->device_count++;
	return 0;
}

int board_plan_devices(struct machine *m, struct err *err)
{
	int ret = 0;

	for (unsigned k = 0; !ret && k < KINDS; k++) {
		if (kinds[k].wanted(m))
			ret = plan_device(m, &kinds[k], err);
	}
	return ret;
}

static int add_device(struct machine *m, struct board_device *d, struct err *err)
{
	int ret = d->kind->make(m, &d->dev, err);

	if (!ret)
		ret = board_slot_plug(m, d->slot, d->kind->ops, d->dev, m->device_io.loop, err);
	return ret ? err_context(err, "%s", d->name) : 0;
}

int board_open_device_loop(struct machine *m, struct err *err)
{
	return m->device_io.loop ? 0 : iothread_init(&m->device_io, "devices", err);
}

int board_add_devices(struct machine *m, struct err *err)
{
	int ret;

	if (m->device_count == 0)
		return 0;
	ret = board_open_device_loop(m, err);
	for (unsigned i = 0; !ret && i < m->device_count; i++)
		ret = add_device(m, &m->device[i], err);
	return ret;
}

int board_start_devices(struct machine *m, struct err *err)
{
	return m->device_io.loop ? iothread_start(&m->device_io, err) : 0;
}

void board_stop_devices(struct machine *m)
{
	iothread_stop(&m->device_io);
	for (unsigned i = 0; i < m->device_count; i++) {
		struct board_device *d = &m->device[i];

		if (d->kind->drain && d->slot->virtio)
			d->kind->drain(d->dev);
	}
}

void board_remove_devices(struct machine *m)
{
	for (unsigned i = 0; i < m->device_count; i++)
		board_slot_unplug(m->device[i].slot);
}

void board_close_device_loop(struct machine *m)
{
	iothread_destroy(&m->device_io);
}

unsigned board_device_counters(const struct board_device *device,
			       struct device_counter out[BOARD_COUNTERS_MAX])
{
	return device->kind->counters ? device->kind->counters(device->dev, out) : 0;
}

struct virtio_balloon *board_balloon(const struct machine *m)
{
	for (unsigned i = 0; i < m->device_count; i++) {
		const struct board_device *d = &m->device[i];

		if (d->slot->virtio && virtio_device_ops(d->slot->virtio) == &virtio_balloon_ops)
			return d->dev;
	}
	return NULL;
}
