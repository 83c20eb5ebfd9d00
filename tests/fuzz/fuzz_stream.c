/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream socket (devices/net/stream.c), cut into pieces as the input says, both ways;
 * in the end perhaps with bytes that are no frames, or an end of the connection anywhere.
 *
 * Checked beside what the sanitizers see: every frame arrives once, in order, with its bytes and
 * none behind them, but for those that were aborted; and nobody waits in vain: while a whole frame
 * is to be had after -EAGAIN or NETDEV_MORE_NONE, the descriptor is readable.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "minivm/netdev.h"
#include "input.h"

#define PREFIX 4u
#define QUEUE  256u

struct frame {
	uint32_t len;
	uint8_t seed;
	bool whole; /* sent to its last byte */
	bool skip;  /* aborted */
};

/* Frames that were begun and have not arrived. */
struct queue {
	struct frame frame[QUEUE];
	unsigned first, count;
};

struct machine {
	struct input in;
	struct netdev *nd;
	int peer;
	bool wild; /* the peer has sent what are no frames, or nothing any more */
	struct queue to_us, to_peer;
	uint32_t sent; /* bytes of the last frame of to_us, its prefix included */
	uint32_t seen; /* of the first one of to_peer */
	unsigned n;    /* of iov */
	struct iovec iov[3];
};

static uint8_t bytes[PREFIX + NETDEV_FRAME_MAX];
static uint8_t buffer[NETDEV_FRAME_MAX + 1000];

/* --- frames --- */

/* The bytes of every frame are a piece of these, from its seed on. */
static uint8_t pattern[NETDEV_FRAME_MAX + 256];

static void make_pattern(void)
{
	for (uint32_t i = 0; pattern[0] == 0 && i < sizeof(pattern); i++)
		pattern[sizeof(pattern) - 1 - i] = (uint8_t)(i + i / 251);
}

/* As it goes through the socket, into `bytes`. */
static void encode(const struct frame *f)
{
	uint32_t prefix = htonl(f->len);

	memcpy(bytes, &prefix, PREFIX);
	memcpy(bytes + PREFIX, pattern + f->seed, f->len);
}

static struct frame *at(struct queue *q, unsigned i)
{
	return &q->frame[(q->first + i) % QUEUE];
}

static struct frame *put(struct queue *q, struct input *in)
{
	static const uint32_t most[] = {100, 1600, 3000, NETDEV_FRAME_MAX};
	struct frame *f = at(q, q->count++);

	*f = (struct frame){.seed = next(in)};
	f->len = 1 + next_number(in, 2) % most[next(in) % 4];
	return f;
}

static void drop_first(struct queue *q)
{
	q->first = (q->first + 1) % QUEUE;
	q->count--;
}

/* --- to us --- */

static void peer_sends(struct machine *m)
{
	struct queue *q = &m->to_us;
	struct frame *last = q->count ? at(q, q->count - 1) : NULL;
	uint32_t part = next_number(&m->in, 2);
	ssize_t n;

	if (m->wild)
		return;
	if (!last || last->whole) {
		if (q->count == QUEUE)
			return;
		last = put(q, &m->in);
		m->sent = 0;
	}
	encode(last);
	if (part == 0 || part > PREFIX + last->len - m->sent)
		part = PREFIX + last->len - m->sent;
	n = send(m->peer, bytes + m->sent, part, MSG_DONTWAIT | MSG_NOSIGNAL);
	m->sent += n > 0 ? (uint32_t)n : 0;
	last->whole = m->sent == PREFIX + last->len;
}

/* Is there a whole frame that readv() has to give? */
static bool owed(struct machine *m)
{
	for (unsigned i = 0; i < m->to_us.count; i++) {
		const struct frame *f = at(&m->to_us, i);

		if (!f->skip)
			return f->whole;
	}
	return false;
}

static void expect_readable(struct machine *m)
{
	struct pollfd p = {.fd = m->nd->fd, .events = POLLIN};

	require(m->wild || !owed(m) || poll(&p, 1, 0) == 1);
}

/* Other buffers than before, unless a frame is on its way into them. */
static void choose_buffers(struct machine *m)
{
	size_t a = next_number(&m->in, 2), b = next(&m->in), size = sizeof(buffer);

	if (m->nd->partial)
		return;
	if (next(&m->in) % 8 == 0)
		size = a + b + next(&m->in);
	if (a > size)
		a = size;
	if (b > size - a)
		b = size - a;
	m->iov[0] = (struct iovec){buffer, a};
	m->iov[1] = (struct iovec){buffer + a, b};
	m->iov[2] = (struct iovec){buffer + a + b, size - a - b};
	m->n = 3;
	memset(buffer, 0xee, sizeof(buffer));
}

static void check_frame(struct machine *m, uint32_t len)
{
	size_t size = m->iov[0].iov_len + m->iov[1].iov_len + m->iov[2].iov_len;
	const struct frame *f;

	while (m->to_us.count && at(&m->to_us, 0)->skip)
		drop_first(&m->to_us);
	require(m->to_us.count > 0);
	f = at(&m->to_us, 0);
	require(f->whole && f->len == len);
	encode(f);
	require(size < len || memcmp(buffer, bytes + PREFIX, len) == 0);
	for (size_t i = len; i < sizeof(buffer) && i < len + 64; i++)
		require(buffer[i] == 0xee);
	drop_first(&m->to_us);
}

static void we_read(struct machine *m)
{
	ssize_t ret;

	choose_buffers(m);
	ret = m->nd->ops->readv(m->nd, m->iov, m->n);
	require(ret > 0 || ret == -EAGAIN || (ret == -EPIPE && m->wild));
	require(ret <= (ssize_t)NETDEV_FRAME_MAX);
	if (ret > 0 && !m->wild)
		check_frame(m, (uint32_t)ret);
	if (ret == -EAGAIN || (ret > 0 && m->nd->more == NETDEV_MORE_NONE))
		expect_readable(m);
}

static void we_abort(struct machine *m)
{
	unsigned i = 0;

	if (!m->nd->partial)
		return;
	m->nd->ops->abort(m->nd);
	while (i < m->to_us.count && at(&m->to_us, i)->skip)
		i++;
	require(m->wild || i < m->to_us.count);
	if (i < m->to_us.count)
		at(&m->to_us, i)->skip = true;
}

/* --- to the peer --- */

static void we_send(struct machine *m)
{
	struct queue *q = &m->to_peer;
	const struct frame *f;
	struct iovec iov[2];

	if (q->count == QUEUE)
		return;
	f = put(q, &m->in);
	encode(f);
	iov[0] = (struct iovec){bytes + PREFIX, f->len / 2};
	iov[1] = (struct iovec){bytes + PREFIX + f->len / 2, f->len - f->len / 2};
	if (m->nd->ops->writev(m->nd, iov, 2, f->len) != 0)
		q->count--;
}

static void peer_reads(struct machine *m)
{
	struct queue *q = &m->to_peer;
	uint32_t max = next_number(&m->in, 2);

	while (max > 0) {
		uint8_t got[4096];
		uint32_t part = max < sizeof(got) ? max : (uint32_t)sizeof(got);
		ssize_t n;

		/* Not beyond the frame's end. */
		if (q->count && part > PREFIX + at(q, 0)->len - m->seen)
			part = PREFIX + at(q, 0)->len - m->seen;
		n = recv(m->peer, got, part, MSG_DONTWAIT);
		if (n <= 0)
			return;
		require(q->count > 0);
		encode(at(q, 0));
		require(memcmp(got, bytes + m->seen, (size_t)n) == 0);
		m->seen += (uint32_t)n;
		max -= (uint32_t)n;
		if (m->seen == PREFIX + at(q, 0)->len) {
			drop_first(q);
			m->seen = 0;
		}
	}
}

static void we_flush(struct machine *m)
{
	int ret = m->nd->ops->flush(m->nd);

	require((ret == 0) == !m->nd->unsent);
}

/* --- ends --- */

static void peer_is_mad(struct machine *m)
{
	uint32_t n = next(&m->in);

	m->wild = true;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = next(&m->in);
	(void)!send(m->peer, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_ends(struct machine *m)
{
	m->wild = true;
	shutdown(m->peer, SHUT_WR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ops[])(struct machine * m) = {
	    peer_sends, peer_sends, peer_sends, peer_sends,  we_read,
	    we_read,	we_read,    we_read,	we_abort,    we_send,
	    we_send,	peer_reads, we_flush,	peer_is_mad, peer_ends,
	};
	struct machine m = {.in = {data, size}};
	struct err err;
	int pair[2];

	make_pattern();
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	require(netdev_stream_adopt(pair[0], &m.nd, &err) == 0);
	m.peer = pair[1];
	while (m.in.len > 0)
		ops[next(&m.in) % (sizeof(ops) / sizeof(ops[0]))](&m);
	netdev_close(m.nd);
	close(m.peer);
	return 0;
}
