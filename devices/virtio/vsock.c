/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (VIRTIO 1.2 §5.10): queues and packets. Connections are vsock_conn.c's business, the
 * host's sockets vsock_host.c's.
 *
 * Theory of operation. The tx queue is drained on a kick: header copied, addresses checked, payload
 * handed on as the guest's own buffers, chain completed. Nothing in there waits: what the host does
 * not take is buffered within the credit that the guest was given.
 *
 * The other way there is no queue of packets. Connections that have something to tell stand in a
 * list; when the guest has a buffer, the first one writes its most important packet straight into
 * it (payload by readv() from the host's socket) and goes to the end of the list if there is more.
 * So one connection does not starve another, and data that the guest has no buffers for stays in
 * the host's socket.
 *
 * Replies to packets of no connection wait in a small ring. When it is full, the tx queue stands
 * still until the guest gives buffers (§5.10.6.1: the "additional resources" are used up).
 *
 * Framing. Nothing is assumed about how packets are cut into descriptors (§2.7.4.1).
 *
 * A turn is bounded in packets and bytes; what is left waits for the loop's next round.
 */
#include "minivm/virtio_vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ids.h>

#include "vsock_internal.h"
#include "minivm/counter.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

#define VSOCK_F_STREAM 0 /* VIRTIO 1.2 §5.10.3; <linux/virtio_vsock.h> does not have it */

/* What a turn may cost: a unit per buffer and per 64 KiB of payload. */
#define VSOCK_TURN	64u
#define VSOCK_UNIT_DATA (64u << 10)

/* --- to the guest --- */

void vsock_rx_post(struct virtio_vsock *v)
{
	if (v->virtio && !v->rx_starved)
		loop_post(v->loop, &v->rx_work);
}

static bool something_to_tell(const struct virtio_vsock *v)
{
	return v->stray_count > 0 || !TAILQ_EMPTY(&v->ready);
}

static uint32_t tell_stray(struct virtio_vsock *v)
{
	const struct vsock_stray *s = &v->stray[v->stray_head];
	struct virtio_vsock_hdr hdr = {
	    .src_cid = s->src_cid,
	    .dst_cid = v->cid,
	    .src_port = s->src_port,
	    .dst_port = s->dst_port,
	    .type = s->type,
	    .op = VIRTIO_VSOCK_OP_RST,
	};

	iov_scatter(vq_writable(&v->rx_chain), &hdr, sizeof(hdr));
	v->stray_head = (v->stray_head + 1) % VSOCK_STRAY_MAX;
	v->stray_count--;
	count_add(&v->resets, 1);
	return VSOCK_HDR_LEN;
}

/* The first connection's next packet; it goes to the end of the list if it has more. */
static uint32_t tell_conn(struct virtio_vsock *v)
{
	struct vsock_conn *c = TAILQ_FIRST(&v->ready);
	uint32_t written;

	TAILQ_REMOVE(&v->ready, c, ready_link);
	c->ready = false;
	written = vsock_conn_tell(c, &v->rx_chain);
	if (c->pending != 0 && !c->ready) {
		c->ready = true;
		TAILQ_INSERT_TAIL(&v->ready, c, ready_link);
	}
	return written;
}

/* One buffer and one connection; returns the units of VSOCK_TURN that they took. */
static unsigned rx_step(struct virtio_vsock *v, struct virtqueue *vq)
{
	uint32_t written = 0;

	if (v->rx_chain.writable_len <= VSOCK_HDR_LEN) {
		/* No room for a header and a byte: no use. The driver gets it back. */
		count_add(&v->violations, 1);
		vq_push(vq, &v->rx_chain, 0);
		return 1;
	}
	/* Not all that is in the list has something to tell when it is asked. */
	if (v->stray_count > 0)
		written = tell_stray(v);
	else
		written = tell_conn(v);
	if (written > 0)
		vq_push(vq, &v->rx_chain, written);
	else
		vq_unpop(vq);
	return 1 + written / VSOCK_UNIT_DATA;
}

static void rx_run(void *opaque)
{
	struct virtio_vsock *v = opaque;
	struct virtqueue *vq;
	unsigned spent = 0;
	int ret = 1;

	if (!v->virtio || v->paused)
		return;
	vq = virtio_queue(v->virtio, VSOCK_RX);
	vq_disable_notify(vq);
	v->rx_starved = false;
	while (spent < VSOCK_TURN && something_to_tell(v)) {
		ret = vq_pop(vq, &v->rx_chain);
		if (ret == 1) {
			spent += rx_step(v, vq);
			continue;
		}
		if (ret < 0 || !vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
		ret = 1;
		spent++;
	}
	v->rx_starved = ret == 0;
	virtio_signal_queue(v->virtio, VSOCK_RX);
	if (ret < 0) {
		v->rx_starved = true; /* until the reset */
		virtio_needs_reset(v->virtio);
	} else if (ret == 1 && something_to_tell(v)) {
		loop_post(v->loop, &v->rx_work);
	}
	if (v->tx_blocked && v->stray_count < VSOCK_STRAY_MAX) {
		v->tx_blocked = false;
		virtio_notify_again(v->virtio, VSOCK_TX);
	}
}

/* --- from the guest --- */

static void violation(struct virtio_vsock *v, const char *what)
{
	count_add(&v->violations, 1);
	log_guest(v->log, &v->log_limit, LOG_LEVEL_DEBUG, "vsock: %s", what);
}

/* There is room: tx_run() looks before it takes a packet. */
static void reply_reset(struct virtio_vsock *v, const struct virtio_vsock_hdr *hdr)
{
	unsigned tail = (v->stray_head + v->stray_count) % VSOCK_STRAY_MAX;

	if (hdr->op == VIRTIO_VSOCK_OP_RST)
		return;
	v->stray[tail] = (struct vsock_stray){
	    .src_cid = hdr->dst_cid,
	    .src_port = hdr->dst_port,
	    .dst_port = hdr->src_port,
	    .type = hdr->type,
	};
	v->stray_count++;
	vsock_rx_post(v);
}

static void tx_packet(struct virtio_vsock *v, const struct vq_chain *chain)
{
	struct vsock_packet p = {.iov = v->iov};

	if (chain->readable_len < VSOCK_HDR_LEN) {
		violation(v, "a packet without a whole header");
		return;
	}
	iov_gather(&p.hdr, vq_readable(chain), sizeof(p.hdr));
	if (p.hdr.src_cid != v->cid) {
		/* Whoever that is: a reply would not reach it. */
		violation(v, "a packet with a source that is not the guest");
		return;
	}
	/* Also what says to be longer than it is. */
	if (p.hdr.type != VIRTIO_VSOCK_TYPE_STREAM || p.hdr.dst_cid != VSOCK_HOST_CID ||
	    p.hdr.len > chain->readable_len - VSOCK_HDR_LEN) {
		violation(v, "a packet of a type, to a host or with a length that is not there");
		reply_reset(v, &p.hdr);
		return;
	}
	p.n = iov_cut(v->iov, vq_readable(chain), VSOCK_HDR_LEN, p.hdr.len);
	if (!vsock_conn_packet(v, &p))
		reply_reset(v, &p.hdr);
}

static void tx_run(struct virtio_vsock *v)
{
	struct virtqueue *vq = virtio_queue(v->virtio, VSOCK_TX);
	unsigned spent = 0;
	int ret = 0;

	vq_disable_notify(vq);
	while (spent < VSOCK_TURN && !v->tx_blocked) {
		if (v->stray_count == VSOCK_STRAY_MAX) {
			v->tx_blocked = true;
			break;
		}
		ret = vq_pop(vq, &v->tx_chain);
		if (ret < 0)
			break;
		if (ret == 1) {
			tx_packet(v, &v->tx_chain);
			vq_push(vq, &v->tx_chain, 0);
			spent += 1 + v->tx_chain.readable_len / VSOCK_UNIT_DATA;
			continue;
		}
		if (!vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
		spent++;
	}
	virtio_signal_queue(v->virtio, VSOCK_TX);
	if (ret < 0)
		virtio_needs_reset(v->virtio);
	else if (spent >= VSOCK_TURN)
		virtio_notify_again(v->virtio, VSOCK_TX);
}

/* --- events --- */

static void event_run(struct virtio_vsock *v)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct virtqueue *vq = virtio_queue(v->virtio, VSOCK_EVENT);
	struct vq_chain *chain = &v->tx_chain; /* not in use: one callback at a time */
	unsigned spent = 0;
	int ret = 1;

	while (v->reset_event && ret == 1 && spent++ < VSOCK_TURN) {
		ret = vq_pop(vq, chain);
		if (ret != 1)
			break;
		if (chain->writable_len >= sizeof(event)) {
			iov_scatter(vq_writable(chain), &event, sizeof(event));
			v->reset_event = false;
		}
		vq_push(vq, chain, v->reset_event ? 0 : (uint32_t)sizeof(event));
	}
	if (v->reset_event && ret >= 0 && vq_enable_notify(vq))
		virtio_notify_again(v->virtio, VSOCK_EVENT);
	virtio_signal_queue(v->virtio, VSOCK_EVENT);
	if (ret < 0)
		virtio_needs_reset(v->virtio);
}

void virtio_vsock_transport_reset(struct virtio_vsock *v)
{
	vsock_conns_orphan(v);
	v->stray_count = 0;
	/* Without a driver there is nobody to tell, and nobody who had connections. */
	v->reset_event = v->virtio != NULL;
	if (v->virtio)
		virtio_notify_again(v->virtio, VSOCK_EVENT);
}

/* --- the device --- */

static void vsock_notify(void *dev, unsigned queue)
{
	struct virtio_vsock *v = dev;

	if (!v->virtio)
		return;
	if (queue == VSOCK_RX)
		rx_run(v);
	else if (queue == VSOCK_TX)
		tx_run(v);
	else
		event_run(v);
}

static uint64_t vsock_features(void *dev)
{
	(void)dev;
	return 1ull << VSOCK_F_STREAM;
}

static void vsock_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	const struct virtio_vsock *v = dev;
	const struct virtio_vsock_config config = {.guest_cid = v->cid};

	memcpy(out, (const uint8_t *)&config + off, len);
}

static void vsock_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_vsock *v = dev;

	(void)features;
	v->virtio = virtio;
	v->rx_starved = false;
	v->tx_blocked = false;
	v->paused = false;
}

static void vsock_reset(void *dev)
{
	struct virtio_vsock *v = dev;

	v->virtio = NULL;
	v->stray_count = 0;
	v->reset_event = false;
	loop_unpost(v->loop, &v->rx_work);
	vsock_conns_orphan(v);
}

/* The host's sockets go on, but what they have to tell the guest waits. */
static void vsock_pause(void *dev)
{
	struct virtio_vsock *v = dev;

	v->paused = true;
}

static void vsock_resume(void *dev)
{
	struct virtio_vsock *v = dev;

	v->paused = false;
	vsock_rx_post(v);
}

/* Nothing is kept: the connections' other ends are not here, and the CID is the restorer's choice.
 */
static int vsock_restore(void *dev, struct state_reader *r, struct err *err)
{
	(void)r;
	(void)err;
	virtio_vsock_transport_reset(dev);
	return 0;
}

static void vsock_free(struct virtio_vsock *v)
{
	vsock_host_close(v);
	vsock_conns_free(v);
	loop_timer_destroy(&v->timer);
	loop_unpost(v->loop, &v->rx_work);
	free(v);
}

static void vsock_destroy(void *dev)
{
	vsock_free(dev);
}

const struct virtio_ops virtio_vsock_ops = {
    .name = "virtio-vsock",
    .guest_kconfig = "CONFIG_VIRTIO_VSOCKETS",
    .device_id = VIRTIO_ID_VSOCK,
    .queues = VSOCK_QUEUES,
    .queue_size_max = VQ_SIZE_MAX,
    .config_len = sizeof(struct virtio_vsock_config),
    .features = vsock_features,
    .config_read = vsock_config_read,
    .activate = vsock_activate,
    .notify = vsock_notify,
    .reset = vsock_reset,
    .destroy = vsock_destroy,
    .pause = vsock_pause,
    .resume = vsock_resume,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = vsock_restore,
};

#define MS		   1000000ull
#define DEFAULT_CONNECT_MS 5000u
#define DEFAULT_CLOSE_MS   8000u
#define DEFAULT_DRAIN_MS   30000u

static uint64_t time_or(unsigned ms, unsigned otherwise)
{
	return (ms ? ms : otherwise) * MS;
}

int virtio_vsock_new(const struct virtio_vsock_options *opt, struct virtio_vsock **out,
		     struct err *err)
{
	struct virtio_vsock *v;
	int ret;

	if (opt->cid < VSOCK_CID_MIN || opt->cid > VSOCK_CID_MAX)
		return err_set(err, EINVAL, "vsock: CID %u is reserved", opt->cid);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_sys(err, ENOMEM, "vsock");
	v->cid = opt->cid;
	v->loop = opt->loop;
	v->log = opt->log;
	v->connect_ns = time_or(opt->connect_ms, DEFAULT_CONNECT_MS);
	v->close_ns = time_or(opt->close_ms, DEFAULT_CLOSE_MS);
	v->drain_ns = time_or(opt->drain_ms, DEFAULT_DRAIN_MS);
	v->rx_work = (struct loop_work){.fn = rx_run, .opaque = v};
	v->socket.fd = v->listener.fd = -1;
	vsock_conns_init(v);
	loop_timer_init(v->loop, &v->timer, vsock_conns_tick, v);
	ret = vsock_host_open(v, opt->path, err);
	if (ret) {
		vsock_free(v);
		return ret;
	}
	*out = v;
	return 0;
}

void virtio_vsock_counters(const struct virtio_vsock *v, struct virtio_vsock_counters *out)
{
	*out = (struct virtio_vsock_counters){
	    .from_host = count_read(&v->from_host),
	    .from_guest = count_read(&v->from_guest),
	    .refused = count_read(&v->refused),
	    .resets = count_read(&v->resets),
	    .violations = count_read(&v->violations),
	    .rx_bytes = count_read(&v->rx_bytes),
	    .tx_bytes = count_read(&v->tx_bytes),
	    .open = count_read(&v->open),
	    .buffered = count_read(&v->buffered),
	};
}
