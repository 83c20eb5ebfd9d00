/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of virtio-vsock: the state machine between a guest's socket and a Unix socket of the
 * host (VIRTIO 1.2 §5.10.6).
 *
 * From guest to host. A packet's payload is written to the socket from where it lies; what the
 * socket does not take is copied into the connection's ring and follows when the socket is
 * writable. The credit that the guest was given is the ring's size, so the copy always fits; bytes
 * count as forwarded once the socket has them. A guest that sends more than its credit, or claims
 * to have received more than it was sent, is out of its mind: the connection is reset.
 *
 * From host to guest. The socket is watched for input only while the guest has credit and nothing
 * is known to be waiting. Payload is read from the socket into the guest's buffer when it is the
 * connection's turn (vsock_conn_tell), so nothing is ever held here.
 *
 * Ends. Each side shuts its directions down one by one. The host's end of file is SHUTDOWN(SEND),
 * its hanging up SHUTDOWN of both, which the guest answers with RST, or we send one after a time.
 * The guest's SHUTDOWN of both is answered with RST at once, so that it may use its port again;
 * what the host has not taken yet drains afterwards, as long as it takes something now and then.
 *
 * Memory. Connections are an array that is touched only as far as it was needed. Rings share a
 * budget: each connection has a claim on VSOCK_BUFFER_MIN, the first ones on VSOCK_BUFFER_MAX. What
 * a connection was promised when it was made stays, so credit is never taken back.
 *
 * System calls: shutdown, close, clock_gettime and those of the loop.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vsock_internal.h"
#include "minivm/clock.h"

/* How often the timer looks: while a listener is busy, and else. */
#define TICK_BUSY_NS 10000000ull
#define TICK_NS	     100000000ull
/* Connections that find the listener still busy; more are not tried in one tick. */
#define TRIES_PER_TICK 16u

/* Ports of our end of connections to the guest; those of services are below (as Firecracker's). */
#define PORT_FIRST (1u << 30)
#define PORT_LAST  (1u << 31)

_Static_assert(VSOCK_CONNS_MAX *VSOCK_BUFFER_MIN < VSOCK_BUFFER_BUDGET, "every one has its claim");
#define BUDGET_SHARED (VSOCK_BUFFER_BUDGET - VSOCK_CONNS_MAX * VSOCK_BUFFER_MIN)

/* --- the table --- */

static struct vsock_conn_list *bucket(struct virtio_vsock *v, uint32_t host_port,
				      uint32_t guest_port)
{
	uint32_t h = (host_port * 0x9e3779b1u) ^ (guest_port * 0x85ebca6bu);

	return &v->hash[(h ^ h >> 16) % VSOCK_HASH_SIZE];
}

static struct vsock_conn *find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = LIST_FIRST(bucket(v, host_port, guest_port));

	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = LIST_NEXT(c, hash);
	return c;
}

/* Those that the guest knows, or is about to. */
static bool hashed(const struct vsock_conn *c)
{
	return c->state != VSOCK_FREE && c->state != VSOCK_HANDSHAKE && c->state != VSOCK_DRAINING;
}

void vsock_conns_init(struct virtio_vsock *v)
{
	TAILQ_INIT(&v->ready);
	TAILQ_INIT(&v->timed);
	v->next_port = PORT_FIRST;
}

bool vsock_conns_full(const struct virtio_vsock *v)
{
	return LIST_EMPTY(&v->free) && v->touched == VSOCK_CONNS_MAX;
}

struct vsock_conn *vsock_conn_new(struct virtio_vsock *v)
{
	struct vsock_conn *c = LIST_FIRST(&v->free);

	if (c)
		LIST_REMOVE(c, free_link);
	else
		c = &v->conn[v->touched++];
	*c = (struct vsock_conn){
	    .v = v,
	    .state = VSOCK_HANDSHAKE,
	    .host = {.fd = -1, .fn = vsock_conn_event, .opaque = c},
	};
	count_add(&v->open, 1);
	return c;
}

/* The promise of buffer space, once: what there is of the shared part, beside the claim. */
static void promise(struct vsock_conn *c)
{
	struct virtio_vsock *v = c->v;
	uint64_t extra = VSOCK_BUFFER_MAX - VSOCK_BUFFER_MIN;

	if (v->reserved + extra > BUDGET_SHARED)
		extra = 0;
	v->reserved += extra;
	c->buf_alloc = VSOCK_BUFFER_MIN + (uint32_t)extra;
}

void vsock_conn_close_host(struct vsock_conn *c)
{
	atomic_fetch_sub_explicit(&c->v->buffered, c->buf.len, memory_order_relaxed);
	vsock_buf_drop(&c->buf);
	if (c->host.fd < 0)
		return;
	loop_unwatch(c->v->loop, &c->host);
	close(c->host.fd);
	c->host.fd = -1;
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct virtio_vsock *v = c->v;

	vsock_conn_close_host(c);
	vsock_conn_untime(c);
	if (hashed(c))
		LIST_REMOVE(c, hash);
	if (c->state == VSOCK_HANDSHAKE)
		v->handshakes--;
	if (c->ready)
		TAILQ_REMOVE(&v->ready, c, ready_link);
	if (c->buf_alloc > VSOCK_BUFFER_MIN)
		v->reserved -= c->buf_alloc - VSOCK_BUFFER_MIN;
	c->ready = false;
	c->pending = 0;
	c->state = VSOCK_FREE;
	LIST_INSERT_HEAD(&v->free, c, free_link);
	atomic_fetch_sub_explicit(&v->open, 1, memory_order_relaxed);
	vsock_host_resume(v);
}

/* --- time --- */

static void arm_timer(struct virtio_vsock *v, uint64_t ns)
{
	v->timer_armed = true;
	loop_timer_arm(&v->timer, ns);
}

void vsock_conn_time(struct vsock_conn *c, uint64_t ns)
{
	struct virtio_vsock *v = c->v;

	c->deadline = clock_ns(CLOCK_MONOTONIC) + ns;
	if (!c->timed)
		TAILQ_INSERT_TAIL(&v->timed, c, timed_link);
	c->timed = true;
	if (!v->timer_armed || c->state == VSOCK_CONNECTING)
		arm_timer(v, c->state == VSOCK_CONNECTING ? TICK_BUSY_NS : TICK_NS);
}

void vsock_conn_untime(struct vsock_conn *c)
{
	if (c->timed)
		TAILQ_REMOVE(&c->v->timed, c, timed_link);
	c->timed = false;
}

void vsock_conns_retry(struct virtio_vsock *v)
{
	if (!v->timer_armed)
		arm_timer(v, TICK_NS);
}

/* --- what there is to tell --- */

void vsock_conn_pend(struct vsock_conn *c, unsigned what)
{
	c->pending |= what;
	if (!c->ready)
		TAILQ_INSERT_TAIL(&c->v->ready, c, ready_link);
	c->ready = true;
	vsock_rx_post(c->v);
}

/*
 * What the host's socket is watched for. When that is nothing else, for being hung up:
 * edge-triggered, because it stays so; with what the loop takes for no events it would not tell.
 */
void vsock_conn_rewatch(struct vsock_conn *c)
{
	uint32_t events = 0;

	if (c->host.fd < 0)
		return;
	if (c->buf.len > 0)
		events |= EPOLLOUT;
	if (c->state == VSOCK_OPEN && !c->eof && !c->blocked && (c->pending & VSOCK_P_DATA) == 0 &&
	    (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) == 0)
		events |= EPOLLIN;
	if (events == 0 && c->state == VSOCK_OPEN && !c->hup)
		events = EPOLLRDHUP | EPOLLET;
	loop_rearm(c->v->loop, &c->host, events);
}

void vsock_conn_shut(struct vsock_conn *c, unsigned flags)
{
	if ((c->host_shut & flags) == flags)
		return;
	c->host_shut |= flags;
	vsock_conn_pend(c, VSOCK_P_SHUTDOWN);
	if (c->host_shut == VSOCK_SHUT_BOTH)
		vsock_conn_time(c, c->v->close_ns);
}

/* The guest knows it no more: what the host has not taken yet drains. */
static void orphan(struct vsock_conn *c)
{
	if (c->buf.len == 0 || c->host.fd < 0) {
		vsock_conn_free(c);
		return;
	}
	if (hashed(c))
		LIST_REMOVE(c, hash);
	if (c->ready)
		TAILQ_REMOVE(&c->v->ready, c, ready_link);
	c->ready = false;
	c->pending = 0;
	c->state = VSOCK_DRAINING;
	vsock_conn_time(c, c->v->drain_ns);
	vsock_conn_rewatch(c);
}

/* RST to the guest, after which it knows the connection no more. */
static void reset(struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN)
		count_add(&c->v->refused, 1);
	c->state = VSOCK_RESETTING;
	c->pending = 0;
	vsock_conn_untime(c);
	if (c->buf.len == 0)
		vsock_conn_close_host(c);
	else
		vsock_conn_time(c, c->v->drain_ns);
	vsock_conn_rewatch(c);
	vsock_conn_pend(c, VSOCK_P_RST);
}

/* The same, and nothing more to the host. */
void vsock_conn_abort(struct vsock_conn *c)
{
	vsock_conn_close_host(c);
	reset(c);
}

/* The driver did what it must not. `loud`: its author would want to know. */
static void violation(struct vsock_conn *c, bool loud, const char *what)
{
	struct virtio_vsock *v = c->v;

	count_add(&v->violations, 1);
	log_guest(v->log, &v->log_limit, loud ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
		  "vsock: guest port %u, host port %u: %s; connection reset", c->guest_port,
		  c->host_port, what);
	vsock_conn_abort(c);
}

/* --- packets to the guest --- */

static void write_header(struct vsock_conn *c, const struct vq_chain *buffer, uint16_t op,
			 uint32_t len)
{
	struct virtio_vsock_hdr hdr = {
	    .src_cid = VSOCK_HOST_CID,
	    .dst_cid = c->v->cid,
	    .src_port = c->host_port,
	    .dst_port = c->guest_port,
	    .len = len,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = op,
	    .flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ? c->host_shut : 0,
	    .buf_alloc = c->buf_alloc,
	    .fwd_cnt = c->fwd_cnt,
	};

	iov_scatter(vq_writable(buffer), &hdr, sizeof(hdr));
	/* Every packet tells (§5.10.6.3). */
	c->told_fwd_cnt = c->fwd_cnt;
	c->pending &= ~(unsigned)VSOCK_P_CREDIT;
}

/* By bit of enum vsock_pending. */
static const uint16_t op_of[] = {
    VIRTIO_VSOCK_OP_RST,
    VIRTIO_VSOCK_OP_REQUEST,
    VIRTIO_VSOCK_OP_RESPONSE,
    VIRTIO_VSOCK_OP_SHUTDOWN,
    VIRTIO_VSOCK_OP_RW,
    VIRTIO_VSOCK_OP_CREDIT_UPDATE,
    VIRTIO_VSOCK_OP_CREDIT_REQUEST,
};

uint32_t vsock_conn_tell(struct vsock_conn *c, const struct vq_chain *buffer)
{
	while (c->pending != 0) {
		unsigned bit = (unsigned)__builtin_ctz(c->pending);
		uint32_t len = 0;

		if (1u << bit == VSOCK_P_DATA) {
			len = vsock_data_read(c, buffer);
			if (len == 0)
				continue;
			c->tx_cnt += len;
			count_add(&c->v->rx_bytes, len);
		} else {
			c->pending &= ~(1u << bit);
		}
		write_header(c, buffer, op_of[bit], len);
		if (1u << bit == VSOCK_P_RST) {
			count_add(&c->v->resets, 1);
			orphan(c);
		} else {
			vsock_conn_rewatch(c);
		}
		return VSOCK_HDR_LEN + len;
	}
	vsock_conn_rewatch(c);
	return 0;
}

void vsock_conn_event(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;

	if (c->state == VSOCK_HANDSHAKE) {
		vsock_host_handshake(c);
		return;
	}
	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		c->hup = true;
	if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 && c->buf.len > 0)
		vsock_data_drain(c);
	if (c->state != VSOCK_OPEN || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return;
	if (c->eof || (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0) {
		/* Nothing to read, nobody to read it: hung up is all that it can be. */
		if (c->hup)
			vsock_conn_shut(c, VSOCK_SHUT_BOTH);
	} else if (!c->blocked) {
		vsock_conn_pend(c, VSOCK_P_DATA);
	}
	vsock_conn_rewatch(c);
}

/* --- making connections --- */

static void put(struct vsock_conn *c, enum vsock_state state, uint32_t host_port,
		uint32_t guest_port)
{
	c->state = state;
	c->host_port = host_port;
	c->guest_port = guest_port;
	LIST_INSERT_HEAD(bucket(c->v, host_port, guest_port), c, hash);
	promise(c);
}

/* The next port that makes a pair of its own; there are more than connections. */
static uint32_t free_port(struct virtio_vsock *v, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = v->next_port;
		v->next_port = port + 1 < PORT_LAST ? port + 1 : PORT_FIRST;
	} while (find(v, port, guest_port));
	return port;
}

void vsock_conn_request(struct vsock_conn *c, uint32_t guest_port)
{
	c->v->handshakes--;
	put(c, VSOCK_REQUESTED, free_port(c->v, guest_port), guest_port);
	vsock_conn_rewatch(c);
	vsock_conn_pend(c, VSOCK_P_REQUEST);
	vsock_conn_time(c, c->v->connect_ns);
	vsock_host_resume(c->v);
}

/* The guest has asked. Once more if the listener is busy, until the time is over. */
static void try_connect(struct vsock_conn *c)
{
	struct err err;
	int fd = vsock_host_connect(c->v, c->host_port);

	if (fd == -EAGAIN) {
		if (!c->timed)
			vsock_conn_time(c, c->v->connect_ns);
		return;
	}
	if (fd < 0) {
		if (fd != -ENOENT && fd != -ECONNREFUSED)
			log_guest(c->v->log, &c->v->log_limit, LOG_LEVEL_WARN,
				  "vsock: connection to host port %u: %s", c->host_port,
				  strerror(-fd));
		reset(c);
		return;
	}
	c->host.fd = fd;
	if (loop_watch(c->v->loop, &c->host, EPOLLIN, &err) < 0) {
		log_guest(c->v->log, &c->v->log_limit, LOG_LEVEL_WARN, "vsock: %s", err.text);
		vsock_conn_abort(c);
		return;
	}
	vsock_conn_untime(c);
	c->state = VSOCK_OPEN;
	count_add(&c->v->from_guest, 1);
	vsock_conn_pend(c, VSOCK_P_RESPONSE);
}

/* --- packets --- */

/* §5.10.6.3. False: the guest claims to have received what it was not sent. */
static bool take_credit(struct vsock_conn *c, const struct virtio_vsock_hdr *hdr)
{
	/* In flight is never more than what one credit allows, so the difference has a sign. */
	if (c->tx_cnt - hdr->fwd_cnt > INT32_MAX)
		return false;
	c->peer_fwd_cnt = hdr->fwd_cnt;
	c->peer_buf_alloc = hdr->buf_alloc < INT32_MAX ? hdr->buf_alloc : INT32_MAX;
	if (c->blocked && vsock_data_room(c) > 0) {
		c->blocked = false;
		vsock_conn_pend(c, VSOCK_P_DATA);
	}
	return true;
}

static void on_response(struct vsock_conn *c, const struct vsock_packet *p)
{
	(void)p;
	if (c->state != VSOCK_REQUESTED) {
		violation(c, false, "an answer to nothing");
		return;
	}
	vsock_conn_untime(c);
	if (vsock_host_answer(c) < 0) {
		vsock_conn_abort(c);
		return;
	}
	c->state = VSOCK_OPEN;
	count_add(&c->v->from_host, 1);
	vsock_conn_rewatch(c);
}

static void on_rst(struct vsock_conn *c, const struct vsock_packet *p)
{
	(void)p;
	if (c->state != VSOCK_OPEN)
		count_add(&c->v->refused, 1);
	orphan(c);
}

static void on_shutdown(struct vsock_conn *c, const struct vsock_packet *p)
{
	if (c->state != VSOCK_OPEN) {
		violation(c, false, "SHUTDOWN before the connection is there");
		return;
	}
	c->guest_shut |= p->hdr.flags & VSOCK_SHUT_BOTH;
	if ((c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0) {
		c->blocked = false;
		c->pending &= ~(unsigned)VSOCK_P_DATA;
		shutdown(c->host.fd, SHUT_RD);
	}
	vsock_data_pass_shutdown(c);
	if (c->guest_shut == VSOCK_SHUT_BOTH)
		reset(c);
	else
		vsock_conn_rewatch(c);
}

static void on_rw(struct vsock_conn *c, const struct vsock_packet *p)
{
	if (c->state != VSOCK_OPEN || (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0) {
		violation(c, false, "data without a connection for it");
		return;
	}
	if (p->hdr.len > c->buf_alloc - (c->rx_cnt - c->fwd_cnt)) {
		violation(c, true, "the guest sends more than it has credit for");
		return;
	}
	if (p->hdr.len == 0)
		return;
	c->rx_cnt += p->hdr.len;
	if ((c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0)
		c->fwd_cnt += p->hdr.len;
	else
		vsock_data_forward(c, p);
	vsock_data_credit(c);
}

static void on_credit_update(struct vsock_conn *c, const struct vsock_packet *p)
{
	(void)c;
	(void)p;
}

static void on_credit_request(struct vsock_conn *c, const struct vsock_packet *p)
{
	(void)p;
	if (c->state == VSOCK_OPEN)
		vsock_conn_pend(c, VSOCK_P_CREDIT);
}

typedef void packet_fn(struct vsock_conn *c, const struct vsock_packet *p);

/* What a connection can be told; a REQUEST is none of it. */
static packet_fn *const packet_of[] = {
    [VIRTIO_VSOCK_OP_RESPONSE] = on_response,
    [VIRTIO_VSOCK_OP_RST] = on_rst,
    [VIRTIO_VSOCK_OP_SHUTDOWN] = on_shutdown,
    [VIRTIO_VSOCK_OP_RW] = on_rw,
    [VIRTIO_VSOCK_OP_CREDIT_UPDATE] = on_credit_update,
    [VIRTIO_VSOCK_OP_CREDIT_REQUEST] = on_credit_request,
};

#define PACKETS (sizeof(packet_of) / sizeof(packet_of[0]))

/* False: refused, by an RST of no connection. */
static bool guest_connects(struct virtio_vsock *v, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_conn *c;

	if (vsock_conns_full(v)) {
		count_add(&v->refused, 1);
		log_guest(v->log, &v->log_limit, LOG_LEVEL_WARN,
			  "vsock: %u connections are open; the guest's next one is refused",
			  VSOCK_CONNS_MAX);
		return false;
	}
	c = vsock_conn_new(v);
	put(c, VSOCK_CONNECTING, hdr->dst_port, hdr->src_port);
	if (take_credit(c, hdr))
		try_connect(c);
	else
		violation(c, true, "the guest claims to have received what it was not sent");
	return true;
}

bool vsock_conn_packet(struct virtio_vsock *v, const struct vsock_packet *p)
{
	struct vsock_conn *c = find(v, p->hdr.dst_port, p->hdr.src_port);
	uint16_t op = p->hdr.op;
	packet_fn *fn = op < PACKETS ? packet_of[op] : NULL;
	/* Of these only data has a payload. */
	bool sound = op == VIRTIO_VSOCK_OP_RW || p->hdr.len == 0;

	if (!c)
		return op == VIRTIO_VSOCK_OP_REQUEST && sound && guest_connects(v, &p->hdr);
	if (c->state == VSOCK_RESETTING && op != VIRTIO_VSOCK_OP_RST)
		return true; /* on its way when we decided; the RST is the answer */
	if (!fn || !sound)
		violation(c, false, "an unknown operation");
	else if (op != VIRTIO_VSOCK_OP_RST && !take_credit(c, &p->hdr))
		violation(c, true, "the guest claims to have received what it was not sent");
	else
		fn(c, p);
	return true;
}

/* --- time-outs, and the end of all --- */

static void timed_out(struct vsock_conn *c)
{
	vsock_conn_untime(c);
	switch (c->state) {
	case VSOCK_HANDSHAKE:
	case VSOCK_DRAINING:
		vsock_conn_free(c);
		break;
	case VSOCK_RESETTING:
		vsock_conn_close_host(c);
		break;
	default:
		vsock_conn_abort(c);
		break;
	}
}

/* Connections that wait for a busy listener, in turn; true if some are left. */
static bool try_again(struct virtio_vsock *v)
{
	struct vsock_conn *c, *next;
	unsigned tries = TRIES_PER_TICK;
	bool busy = false;

	for (c = TAILQ_FIRST(&v->timed); c; c = next) {
		next = TAILQ_NEXT(c, timed_link);
		if (c->state != VSOCK_CONNECTING)
			continue;
		busy = true;
		if (tries == 0)
			break;
		try_connect(c);
		if (c->state != VSOCK_CONNECTING)
			continue;
		tries--;
		TAILQ_REMOVE(&v->timed, c, timed_link);
		TAILQ_INSERT_TAIL(&v->timed, c, timed_link);
	}
	return busy;
}

void vsock_conns_tick(void *opaque)
{
	struct virtio_vsock *v = opaque;
	struct vsock_conn *c, *next;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	bool busy;

	v->timer_armed = false;
	busy = try_again(v);
	for (c = TAILQ_FIRST(&v->timed); c; c = next) {
		next = TAILQ_NEXT(c, timed_link);
		if (now >= c->deadline)
			timed_out(c);
	}
	/* A listener that ran out of descriptors is tried again, too. */
	vsock_host_resume(v);
	if (!TAILQ_EMPTY(&v->timed))
		arm_timer(v, busy ? TICK_BUSY_NS : TICK_NS);
}

void vsock_conns_orphan(struct virtio_vsock *v)
{
	for (unsigned i = 0; i < v->touched; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->state != VSOCK_FREE && c->state != VSOCK_DRAINING)
			orphan(c);
	}
}

void vsock_conns_free(struct virtio_vsock *v)
{
	for (unsigned i = 0; i < v->touched; i++) {
		if (v->conn[i].state != VSOCK_FREE)
			vsock_conn_free(&v->conn[i]);
	}
}
