/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-vsock device (virtio_guest.h; three queues), and hosts
 * that connect, write, read, half-close and go away as the input says. The loop is this file's:
 * sockets are polled, events handed on, the work of the loop and the timer's done when the input
 * wants it.
 *
 * Checked beside what the sanitizers see: the books of each connection (bytes that wait are those
 * that were received and not forwarded, within what was promised), the budget, and that a device
 * that was reset touches nothing.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../devices/virtio/vsock_internal.h"
#include "virtio_guest.h"

#define QUEUES	3u
#define HOSTS	6u
#define CID	3u
#define SERVICE 101u
#define DATA	0x3000u

struct machine {
	struct guest guest;
	struct virtio_vsock *vsock;
	int listener; /* the service's */
	int host[HOSTS];
};

/* --- the host's processes --- */

static struct sockaddr_un address(const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/fuzz-vsock-%d%s", (int)getpid(), suffix);
	return a;
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	require(fd >= 0);
	return fd;
}

/* A service that does not listen is one more case. */
static void serve(struct machine *m, bool listening)
{
	struct sockaddr_un a = address("_101");

	unlink(a.sun_path);
	m->listener = new_socket();
	require(bind(m->listener, (struct sockaddr *)&a, sizeof(a)) == 0);
	if (listening)
		require(listen(m->listener, 1) == 0);
}

static void hang_up(struct machine *m, unsigned i)
{
	if (m->host[i] >= 0)
		close(m->host[i]);
	m->host[i] = -1;
}

static void dial(struct machine *m, unsigned i, struct input *in)
{
	static const char *const lines[] = {"CONNECT 10\n", "CONNECT 11\nx", "CONN", "CONNECT x\n",
					    ""};
	const char *line = lines[next(in) % 5];
	struct sockaddr_un a = address("");

	hang_up(m, i);
	m->host[i] = new_socket();
	if (connect(m->host[i], (struct sockaddr *)&a, sizeof(a)) < 0)
		hang_up(m, i);
	else
		(void)!send(m->host[i], line, strlen(line), MSG_NOSIGNAL);
}

static void host_step(struct machine *m, struct input *in)
{
	static uint8_t bytes[32768];
	unsigned how = next(in), i = how % HOSTS;
	size_t len = (size_t)next(in) << (how >> 5);

	switch (how / HOSTS % 6) {
	case 0:
		dial(m, i, in);
		break;
	case 1:
		hang_up(m, i);
		m->host[i] = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 2:
		hang_up(m, i);
		break;
	case 3:
		(void)!send(m->host[i], bytes, len, MSG_NOSIGNAL);
		break;
	case 4:
		(void)!recv(m->host[i], bytes, len << 2, 0);
		break;
	default:
		shutdown(m->host[i], how & 0x80 ? SHUT_RD : SHUT_WR);
		break;
	}
}

/* --- the loop --- */

static void look_at(struct loop_source *src)
{
	struct pollfd p = {.fd = src->fd, .events = (short)(src->events & ~(uint32_t)EPOLLET)};

	if (src->fd >= 0 && src->watched && src->events && poll(&p, 1, 0) == 1)
		src->fn(src->opaque, (uint32_t)p.revents);
}

static void work(struct machine *m)
{
	struct virtio_vsock *v = m->vsock;

	for (unsigned i = 0; i < 4 && v->rx_work.queued; i++) {
		loop_unpost(v->loop, &v->rx_work);
		v->rx_work.fn(v->rx_work.opaque);
	}
}

static void pump(struct machine *m)
{
	struct virtio_vsock *v = m->vsock;

	look_at(&v->listener);
	for (unsigned i = 0; i < v->touched; i++)
		look_at(&v->conn[i].host);
	work(m);
}

static void check(const struct machine *m)
{
	const struct virtio_vsock *v = m->vsock;
	uint64_t buffered = 0, promised = 0, open = 0;
	unsigned handshakes = 0;

	for (unsigned i = 0; i < v->touched; i++) {
		const struct vsock_conn *c = &v->conn[i];

		if (c->state == VSOCK_FREE)
			continue;
		open++;
		handshakes += c->state == VSOCK_HANDSHAKE;
		buffered += c->buf.len;
		promised += c->buf_alloc;
		require((c->buf.mem != NULL) == (c->buf.len > 0));
		require(c->buf.len <= c->buf_alloc);
		require(c->state != VSOCK_OPEN || c->buf.len == c->rx_cnt - c->fwd_cnt);
		require(c->state != VSOCK_OPEN || c->host.fd >= 0);
		require((c->pending != 0) <= c->ready);
	}
	require(v->open == open && v->buffered == buffered && v->handshakes == handshakes);
	require(promised <= VSOCK_BUFFER_BUDGET);
}

/* --- the guest --- */

/* Buffers, small to large. */
static void give(struct input *in)
{
	unsigned how = next(in), n = how & 7;

	for (unsigned i = 0; i <= n; i++) {
		put_descriptor(QUEUE_MEM(0) + DESC + 16 * i, DATA + next(in),
			       (uint32_t)next(in) << (how >> 4 & 3), how & 0x80 ? 3 : 2,
			       (i + 1) % SIZE);
		offer_in(0, (uint16_t)i);
	}
}

/* What the guest was sent on the connection of these ports: an honest fwd_cnt. */
static uint32_t honest_count(const struct machine *m, const struct virtio_vsock_hdr *h)
{
	for (unsigned i = 0; i < m->vsock->touched; i++) {
		const struct vsock_conn *c = &m->vsock->conn[i];

		if (c->host_port == h->dst_port && c->guest_port == h->src_port)
			return c->tx_cnt;
	}
	return 0;
}

static void packet(struct machine *m, struct input *in)
{
	unsigned how = next(in), which = next(in), len = next(in) * 48u, at = QUEUE_MEM(1) + 0x800;
	struct virtio_vsock_hdr h = {
	    .src_cid = CID,
	    .dst_cid = VSOCK_HOST_CID,
	    .src_port = 10 + (which & 1),
	    .dst_port = which & 2 ? SERVICE : (1u << 30) + (which >> 2 & 3),
	    .op = (uint16_t)((which >> 4) % 9),
	    .type = 1,
	    .flags = how & 3,
	    .buf_alloc = (uint32_t)next(in) << 8,
	};

	h.len = h.op == VIRTIO_VSOCK_OP_RW ? len : 0;
	h.fwd_cnt = how & 0x10 ? next(in) : honest_count(m, &h);
	if ((how & 0xe0) == 0xe0) /* anything, anywhere in the header */
		((uint8_t *)&h)[next(in) % sizeof(h)] = next(in);
	memcpy(ram + at, &h, sizeof(h));
	put_descriptor(QUEUE_MEM(1) + DESC, at, how & 4 ? 20 : 44, 1, 1);
	put_descriptor(QUEUE_MEM(1) + DESC + 16, how & 4 ? at + 20 : DATA, how & 4 ? 24 : len, 1,
		       2);
	for (unsigned i = 2; i < 6; i++)
		put_descriptor(QUEUE_MEM(1) + DESC + 16 * i, DATA, 0xc00, how & 8 ? 3 : i < 5,
			       i + 1);
	offer_in(1, 0);
}

static void event_buffer(struct input *in)
{
	put_descriptor(QUEUE_MEM(2) + DESC, DATA, next(in) & 7, 2, 0);
	offer_in(2, 0);
}

static void one_step(struct machine *m, struct input *in)
{
	unsigned op = next(in);

	switch (op % 16) {
	case 0:
		any_access(&m->guest, in);
		break;
	case 1:
		start_queues(&m->guest, QUEUES, (uint32_t)(op & 0x30) << 24);
		break;
	case 2:
		reset_and_kick(&m->guest, &virtio_vsock_ops, m->vsock, QUEUES);
		break;
	case 3:
		scribble(in, op >> 4);
		break;
	case 4:
		event_buffer(in);
		if (op & 16)
			virtio_vsock_transport_reset(m->vsock);
		break;
	case 5:
		virtio_pause(m->guest.virtio);
		host_step(m, in);
		pump(m);
		virtio_resume(m->guest.virtio);
		break;
	case 6:
		vsock_conns_tick(m->vsock);
		break;
	case 7:
	case 8:
		give(in);
		break;
	case 9:
	case 10:
	case 11:
		packet(m, in);
		virtio_vsock_ops.notify(m->vsock, 1);
		break;
	case 12:
		virtio_vsock_ops.notify(m->vsock, op / 16 % QUEUES);
		break;
	default:
		host_step(m, in);
		pump(m);
		break;
	}
	check(m);
}

static void machine_make(struct machine *m, unsigned how)
{
	const struct sockaddr_un a = address("");
	struct virtio_vsock_options opt = {.cid = CID, .path = a.sun_path};
	struct err err;

	guest_make(&m->guest);
	opt.loop = m->guest.loop;
	opt.log = &m->guest.log;
	/* Time is short, so that it runs out within an input, or long. */
	opt.connect_ms = opt.close_ms = opt.drain_ms = how & 1 ? 1 : 0;
	unlink(a.sun_path);
	require(virtio_vsock_new(&opt, &m->vsock, &err) == 0);
	guest_plug(&m->guest, &virtio_vsock_ops, m->vsock);
	serve(m, (how & 6) != 0);
	for (unsigned i = 0; i < HOSTS; i++)
		m->host[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};

	machine_make(&m, next(&in));
	start_queues(&m.guest, QUEUES, 0x30000000);
	for (unsigned steps = 0; in.len > 0 && steps < 512; steps++)
		one_step(&m, &in);
	guest_end(&m.guest);
	for (unsigned i = 0; i < HOSTS; i++)
		hang_up(&m, i);
	close(m.listener);
	unlink(address("_101").sun_path);
	return 0;
}
