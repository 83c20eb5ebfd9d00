/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (VIRTIO 1.2 §5.3): the way of the bytes. Control messages: console_control.c.
 *
 * Theory of operation. Output: a kick hands the chains of a transmit queue to the host side of its
 * port, which takes all or a part. A chain that is not taken whole goes back to the ring, with a
 * note of how much of it is done, and nothing more is looked at until the host side resumes; so a
 * slow reader of a named port is the guest's to wait for, and costs nothing here. (The console's
 * own host side always takes everything, for Linux's put_chars spins until it has its buffer back.)
 * Input: the host side asks whether there is a buffer before it reads anything, and is called when
 * there is one again.
 *
 * The console's driver has no use for interrupts of its transmit queue: Linux spins until each
 * buffer is back, and acknowledges the interrupt later all the same, which costs it two exits. So a
 * vCPU that kicks it waits for us (kick_waits), and the interrupt waits until the host side comes
 * back: one for all that was taken meanwhile.
 *
 * Framing. Nothing is assumed about how bytes are cut into chains or chains into descriptors
 * (§2.7.4.1); the wrong half of a chain (writable in a transmit queue, readable in a receive queue,
 * §5.3.6.1) is ignored. Every chain is completed.
 *
 * A turn on the loop is bounded, as virtio-blk's: a unit a chain, a unit per 64 KiB.
 *
 * Calls cross: a host side that is handed output may find that its peer is gone and say so, which
 * is a control message; one that is opened may have input at once. So no chain is kept in the
 * device, each is its function's own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>

#include "console_priv.h"
#include "minivm/iov.h"

/* Linux puts a page into each entry of a receive queue: this is memory of the guest's. */
#define CONSOLE_QUEUE_SIZE 32u

#define CONSOLE_TURN	   64u
#define CONSOLE_UNIT_BYTES (64u << 10)

static unsigned rx_queue(unsigned port)
{
	return port == 0 ? 0 : 2 + 2 * port;
}

static unsigned tx_queue(unsigned port)
{
	return rx_queue(port) + 1;
}

/* For queues that are not the control queues. */
static unsigned port_of_queue(unsigned queue)
{
	return queue < 2 ? 0 : queue / 2 - 1;
}

/* The port, if the driver can use it now; else NULL. */
static struct console_port *usable(struct virtio_console *vc, unsigned port)
{
	bool multiport = (vc->features & 1ull << VIRTIO_CONSOLE_F_MULTIPORT) != 0;

	if (!vc->virtio || vc->paused || port >= vc->ports || !vc->port[port].opt.host)
		return NULL;
	return port == 0 || multiport ? &vc->port[port] : NULL;
}

void console_port_opened(struct console_port *p, bool open)
{
	if (p->guest_open == open)
		return;
	p->guest_open = open;
	p->opt.host->opened(p->opt.opaque, open);
}

/* --- output --- */

enum tx {
	TX_DONE,    /* with a chain */
	TX_EMPTY,   /* the ring is */
	TX_STALLED, /* the host side takes no more */
	TX_OVER,    /* the turn is */
	TX_BROKEN,  /* the ring is */
};

/* The chain at hand, from p->skip on. */
static enum tx hand_over(struct virtio_console *vc, struct console_port *p,
			 const struct vq_chain *c, unsigned *spent)
{
	struct iovec iov[VQ_SIZE_MAX];

	/* The driver may have made the chain shorter since we looked at it last. */
	while (p->skip < c->readable_len) {
		uint32_t left = c->readable_len - p->skip;
		unsigned n = iov_cut(iov, vq_readable(c), p->skip, left);
		size_t taken = p->opt.host->output(p->opt.opaque, iov, n, left);

		if (taken == 0)
			return TX_STALLED;
		count_add(&vc->tx_bytes, taken);
		p->skip += (uint32_t)taken;
		*spent += 1 + (unsigned)(taken / CONSOLE_UNIT_BYTES);
		if (*spent >= CONSOLE_TURN && p->skip < c->readable_len)
			return TX_OVER;
	}
	p->skip = 0;
	return TX_DONE;
}

/* What is written to a port that has no host side is gone, as on a line with nobody at its end. */
static enum tx tx_chain(struct virtio_console *vc, struct console_port *p, struct virtqueue *vq,
			unsigned *spent)
{
	struct vq_chain chain;
	enum tx state = TX_DONE;
	int ret = vq_pop(vq, &chain);

	if (ret < 0)
		return TX_BROKEN;
	if (ret == 0)
		return TX_EMPTY;
	if (p)
		state = hand_over(vc, p, &chain, spent);
	if (state == TX_DONE)
		vq_push(vq, &chain, 0);
	else
		vq_unpop(vq);
	return state;
}

/* `resumed`: by the host side. Else the console's interrupt waits until it is. */
static void tx_run(struct virtio_console *vc, unsigned port, bool resumed)
{
	struct console_port *p = usable(vc, port);
	unsigned queue = tx_queue(port);
	struct virtqueue *vq = virtio_queue(vc->virtio, queue);
	unsigned spent = 0;
	enum tx state;

	vq_disable_notify(vq);
	do {
		state = tx_chain(vc, p, vq, &spent);
		if (state == TX_EMPTY && vq_enable_notify(vq)) {
			vq_disable_notify(vq);
			state = TX_DONE;
		}
		if (state == TX_DONE && ++spent >= CONSOLE_TURN)
			state = TX_OVER;
	} while (state == TX_DONE);
	if (resumed || vc->multiport)
		virtio_signal_queue(vc->virtio, queue);
	if (state == TX_BROKEN)
		virtio_needs_reset(vc->virtio);
	if (state == TX_OVER)
		virtio_notify_again(vc->virtio, queue);
}

void virtio_console_tx_resume(struct virtio_console *vc, unsigned port)
{
	if (usable(vc, port))
		tx_run(vc, port, true);
}

void virtio_console_drain(struct virtio_console *vc)
{
	for (unsigned i = 0; vc->virtio && i < vc->ports; i++) {
		/* A turn takes at least one chain. */
		for (unsigned turn = 0; turn < CONSOLE_QUEUE_SIZE && usable(vc, i); turn++)
			tx_run(vc, i, true);
	}
}

/* --- input --- */

/* The receive queue of a port that somebody in the guest has open; else NULL. */
static struct virtqueue *open_rx(struct virtio_console *vc, unsigned port)
{
	struct console_port *p = usable(vc, port);

	return p && p->guest_open ? virtio_queue(vc->virtio, rx_queue(port)) : NULL;
}

bool virtio_console_rx_ready(struct virtio_console *vc, unsigned port)
{
	struct virtqueue *vq = open_rx(vc, port);

	if (!vq || !vq_enable_notify(vq))
		return false;
	vq_disable_notify(vq);
	return true;
}

size_t virtio_console_rx_push(struct virtio_console *vc, unsigned port, const void *buf, size_t len)
{
	struct virtqueue *vq = open_rx(vc, port);
	struct vq_chain chain;
	size_t done = 0;
	int ret = 1;

	if (!vq)
		return 0;
	vq_disable_notify(vq);
	for (unsigned i = 0; done < len && i < CONSOLE_TURN; i++) {
		size_t n;

		ret = vq_pop(vq, &chain);
		if (ret <= 0)
			break;
		n = len - done < chain.writable_len ? len - done : chain.writable_len;
		iov_scatter(vq_writable(&chain), (const uint8_t *)buf + done, n);
		vq_push(vq, &chain, (uint32_t)n);
		done += n;
	}
	count_add(&vc->rx_bytes, done);
	virtio_signal_queue(vc->virtio, rx_queue(port));
	if (ret < 0)
		virtio_needs_reset(vc->virtio);
	else if (done < len && vq_enable_notify(vq))
		virtio_notify_again(vc->virtio, rx_queue(port));
	return done;
}

static void rx_room(struct virtio_console *vc, unsigned port)
{
	struct console_port *p = usable(vc, port);

	if (p && p->guest_open)
		p->opt.host->input_room(p->opt.opaque);
}

/* --- the host side's news --- */

void virtio_console_set_open(struct virtio_console *vc, unsigned port, bool open)
{
	vc->port[port].host_open = open;
	console_control_tell(vc);
}

static void tell_size(struct virtio_console *vc)
{
	if (vc->virtio && atomic_load(&vc->size) != 0 &&
	    (vc->features & 1ull << VIRTIO_CONSOLE_F_SIZE) != 0)
		virtio_signal_config(vc->virtio);
}

void virtio_console_resize(struct virtio_console *vc, uint16_t cols, uint16_t rows)
{
	if (cols == 0 || rows == 0)
		return;
	atomic_store(&vc->size, cols | (uint32_t)rows << 16);
	tell_size(vc);
}

/* --- the device --- */

static void console_notify(void *dev, unsigned queue)
{
	struct virtio_console *vc = dev;

	if (!vc->virtio)
		return;
	if (queue == CONSOLE_CONTROL_RX)
		console_control_tell(vc);
	else if (queue == CONSOLE_CONTROL_TX)
		console_control_take(vc);
	else if (queue % 2 == 0)
		rx_room(vc, port_of_queue(queue));
	else
		tx_run(vc, port_of_queue(queue), false);
}

static unsigned console_queue_count(void *dev)
{
	const struct virtio_console *vc = dev;

	return vc->multiport ? 2 + 2 * vc->ports : 2;
}

/* Linux's put_chars. */
static bool console_kick_waits(void *dev, unsigned queue)
{
	const struct virtio_console *vc = dev;

	return !vc->multiport && queue == tx_queue(0);
}

static uint64_t console_features(void *dev)
{
	const struct virtio_console *vc = dev;

	/* The size, even if there is none yet: a restored machine may have another terminal. */
	return 1ull << (vc->multiport ? VIRTIO_CONSOLE_F_MULTIPORT : VIRTIO_CONSOLE_F_SIZE);
}

static void console_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	const struct virtio_console *vc = dev;
	uint32_t size = atomic_load(&vc->size);
	struct virtio_console_config config = {
	    .cols = (uint16_t)size,
	    .rows = (uint16_t)(size >> 16),
	    .max_nr_ports = vc->ports,
	};

	memcpy(out, (const uint8_t *)&config + off, len);
}

/*
 * Linux reads the size only when it is told that it has changed, so it is told at once: it keeps
 * such an interrupt until its driver is ready.
 */
static void console_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_console *vc = dev;

	vc->virtio = virtio;
	vc->features = features;
	if (vc->port[0].opt.host)
		console_port_opened(&vc->port[0], true);
	tell_size(vc);
}

static void console_reset(void *dev)
{
	struct virtio_console *vc = dev;

	vc->virtio = NULL;
	vc->features = 0;
	console_control_forget(vc);
	for (unsigned i = 0; i < vc->ports; i++) {
		vc->port[i].skip = 0;
		if (vc->port[i].opt.host)
			console_port_opened(&vc->port[i], false);
	}
}

/* --- saving --- */

static void console_pause(void *dev)
{
	struct virtio_console *vc = dev;

	vc->paused = true;
	if (!vc->multiport)
		virtio_signal_queue(vc->virtio, tx_queue(0));
}

/* What the host sides wanted meanwhile. */
static void console_resume(void *dev)
{
	struct virtio_console *vc = dev;

	vc->paused = false;
	for (unsigned i = 0; i < vc->ports; i++) {
		virtio_console_tx_resume(vc, i);
		rx_room(vc, i);
	}
	console_control_tell(vc);
}

static int console_save(void *dev, struct state_writer *w, struct err *err)
{
	const struct virtio_console *vc = dev;

	(void)err;
	state_put_u32(w, vc->ports);
	state_put_bool(w, vc->device_ready);
	for (unsigned i = 0; i < vc->ports; i++) {
		const struct console_port *p = &vc->port[i];

		state_put_string(w, p->name);
		state_put_bool(w, p->added);
		state_put_bool(w, p->ready);
		state_put_bool(w, p->named);
		state_put_bool(w, p->told_open);
		state_put_bool(w, p->guest_open);
		state_put_u32(w, p->skip);
	}
	return 0;
}

static int restore_port(struct console_port *p, struct state_reader *r, struct err *err)
{
	char *name = state_get_string(r);
	bool same = name && strcmp(name, p->name) == 0;
	bool open;

	free(name);
	if (r->short_read)
		return 0; /* the caller's to say */
	if (!same)
		return state_bad(err, "another port where %s is", p->name);
	p->added = state_get_bool(r);
	p->ready = state_get_bool(r);
	p->named = state_get_bool(r);
	p->told_open = state_get_bool(r);
	open = state_get_bool(r);
	p->skip = state_get_u32(r);
	if (p->opt.host)
		console_port_opened(p, open);
	return 0;
}

static int console_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_console *vc = dev;
	uint32_t ports = state_get_u32(r);
	int ret = 0;

	vc->device_ready = state_get_bool(r);
	if (!r->short_read && ports != vc->ports)
		return state_bad(err, "%u ports, but the machine has %u", ports, vc->ports);
	for (unsigned i = 0; !ret && !r->short_read && i < vc->ports; i++)
		ret = restore_port(&vc->port[i], r, err);
	return ret;
}

static void console_destroy(void *dev)
{
	free(dev);
}

const struct virtio_ops virtio_console_ops = {
    .name = "virtio-console",
    .guest_kconfig = "CONFIG_VIRTIO_CONSOLE",
    .device_id = VIRTIO_ID_CONSOLE,
    .queue_size_max = CONSOLE_QUEUE_SIZE,
    .config_len = sizeof(struct virtio_console_config),
    .queue_count = console_queue_count,
    .features = console_features,
    .kick_waits = console_kick_waits,
    .config_read = console_config_read,
    .activate = console_activate,
    .notify = console_notify,
    .reset = console_reset,
    .destroy = console_destroy,
    .pause = console_pause,
    .resume = console_resume,
    .state_version = 1,
    .save = console_save,
    .restore = console_restore,
};

static int set_port(struct console_port *p, const struct virtio_console_port_options *opt,
		    struct err *err)
{
	size_t len = opt->name ? strlen(opt->name) : 0;

	if (opt->name && (len == 0 || len > VIRTIO_CONSOLE_NAME_MAX))
		return err_set(err, EINVAL, "port name \"%s\": 1 to %d bytes are allowed",
			       opt->name, VIRTIO_CONSOLE_NAME_MAX);
	p->opt = *opt;
	memcpy(p->name, opt->name ? opt->name : "", len);
	return 0;
}

int virtio_console_new(const struct virtio_console_options *opt, struct virtio_console **out,
		       struct err *err)
{
	unsigned first = opt->named > 0 ? 1 : 0;
	unsigned ports = 1 + opt->named;
	struct virtio_console *vc = calloc(1, sizeof(*vc) + ports * sizeof(vc->port[0]));
	int ret = 0;

	if (!vc)
		return err_sys(err, ENOMEM, "virtio-console");
	vc->log = opt->log;
	vc->multiport = opt->named > 0;
	vc->ports = ports;
	if (opt->cols != 0 && opt->rows != 0)
		vc->size = opt->cols | (uint32_t)opt->rows << 16;
	for (unsigned i = first; !ret && i < ports; i++)
		ret = set_port(&vc->port[i], &opt->port[i - first], err);
	if (ret) {
		free(vc);
		return ret;
	}
	*out = vc;
	return 0;
}

void virtio_console_counters(const struct virtio_console *vc, struct virtio_console_counters *out)
{
	*out = (struct virtio_console_counters){
	    .tx_bytes = count_read(&vc->tx_bytes),
	    .rx_bytes = count_read(&vc->rx_bytes),
	    .control_in = count_read(&vc->control_in),
	    .control_out = count_read(&vc->control_out),
	    .control_wrong = count_read(&vc->control_wrong),
	};
}
