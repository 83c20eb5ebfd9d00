/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's vsock driver for unit tests, written after VIRTIO 1.2 §5.10: packets out, packets in,
 * over three rings in fake memory; and the host's processes that it talks to.
 */
#ifndef TESTS_VSOCK_DRIVER_H
#define TESTS_VSOCK_DRIVER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "minivm/virtio_vsock.h"
#include "vdriver.h"

enum { Q_RX, Q_TX, Q_EVENT, QUEUES };

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

#define SHUT_F_RCV  1u
#define SHUT_F_SEND 2u
#define SHUT_F_BOTH 3u

#define CID	    42u
#define QUEUE_SIZE  64u
#define RING_STRIDE 0x20000u
#define RX_BYTES    0x2000u /* of a receive buffer, header included */
#define RX_AREA	    0x100000u
#define TX_AREA	    0x200000u
#define EVENT_AREA  0x3f0000u
#define PATIENCE_MS 5000

struct hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct pkt {
	struct hdr h;
	uint8_t data[RX_BYTES];
};

struct vsock_test {
	struct vdriver drv;
	struct virtio_vsock *vsock;
	struct ring q[QUEUES]; /* each sees the memory from its own stride on */
	uint32_t buf_alloc;    /* what the guest tells of itself */
	uint32_t fwd_cnt;
	char dir[64];
	char path[96];
	int log_pipe[2];
};

static struct vsock_test vt;

static inline void nap(void)
{
	const struct timespec ts = {0, 200000};

	nanosleep(&ts, NULL);
}

#define within_patience(cond)                                                                      \
	({                                                                                         \
		bool met_ = (cond);                                                                \
		for (unsigned naps_ = 0; !met_ && naps_ < PATIENCE_MS * 5u; naps_++) {             \
			nap();                                                                     \
			met_ = (cond);                                                             \
		}                                                                                  \
		met_;                                                                              \
	})

/* --- set-up --- */

static inline struct vq_layout vt_layout(unsigned queue)
{
	struct vq_layout l = ring_layout(&vt.q[queue]);
	uint64_t off = (uint64_t)queue * RING_STRIDE;

	l.desc = gpa_add(l.desc, off);
	l.avail = gpa_add(l.avail, off);
	l.used = gpa_add(l.used, off);
	return l;
}

/* The driver's part of §3.1.1; rings empty. */
static inline void vt_start(uint64_t features)
{
	cr_assert(vdriver_negotiate(&vt.drv, features));
	for (unsigned i = 0; i < QUEUES; i++) {
		struct vq_layout l;

		vt.q[i] = (struct ring){.mem = vt.drv.ring.mem, .size = QUEUE_SIZE};
		vt.q[i].mem.region[0].host += i * RING_STRIDE;
		memset(ring_at(&vt.q[i], 0), 0, 0x8000);
		l = vt_layout(i);
		vdriver_layout(&vt.drv, i, &l);
		wr(&vt.drv, R_QUEUE_READY, 1);
	}
	vdriver_go(&vt.drv);
	cr_assert_eq(rd(&vt.drv, R_STATUS) & S_DRIVER_OK, S_DRIVER_OK);
}

static inline void vt_options(struct virtio_vsock_options *opt)
{
	*opt = (struct virtio_vsock_options){.cid = CID, .path = vt.path, .log = &vt.drv.log};
}

/*
 * The device wants its loop when it is made, vdriver_init() makes one: so a loop of the test's own
 * takes its place.
 */
static inline void vt_make(const struct virtio_vsock_options *options)
{
	struct virtio_vsock_options opt = *options;
	struct virtio_env env;
	struct err err = {0};

	ring_init(&vt.drv.ring, QUEUE_SIZE);
	cr_assert_eq(pipe2(vt.log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	vt.drv.log = (struct log){.fd = vt.log_pipe[1], .level = LOG_LEVEL_WARN};
	cr_assert_eq(loop_new(&vt.drv.loop, &err), 0, "%s", err.text);
	cr_assert_eq(irq_line_open(&vt.drv.irq, 5, &err), 0, "%s", err.text);
	opt.loop = vt.drv.loop;
	cr_assert_eq(virtio_vsock_new(&opt, &vt.vsock, &err), 0, "%s", err.text);
	env = (struct virtio_env){.mem = &vt.drv.ring.mem, .loop = vt.drv.loop, .log = &vt.drv.log};
	cr_assert_eq(virtio_new(&virtio_vsock_ops, vt.vsock, &env, &vt.drv.virtio, &err), 0, "%s",
		     err.text);
	cr_assert_eq(virtio_mmio_new(vt.drv.virtio, &vt.drv.irq, &vt.drv.mmio, &err), 0, "%s",
		     err.text);
	vdriver_run(&vt.drv);
}

static inline void vt_directory(void)
{
	memset(&vt, 0, sizeof(vt));
	vt.buf_alloc = 1u << 20;
	snprintf(vt.dir, sizeof(vt.dir), "/tmp/minivm-vsock-XXXXXX");
	cr_assert(mkdtemp(vt.dir));
	snprintf(vt.path, sizeof(vt.path), "%s/v", vt.dir);
}

static inline void vt_fini(void)
{
	char cmd[128];

	vdriver_fini(&vt.drv);
	close(vt.log_pipe[0]);
	cr_expect_neq(access(vt.path, F_OK), 0, "the socket is removed");
	snprintf(cmd, sizeof(cmd), "rm -r %s", vt.dir);
	cr_expect_eq(system(cmd), 0);
}

/* Lines that the device has logged so far. */
static inline unsigned vt_log_lines(void)
{
	char buf[4096];
	unsigned lines = 0;
	ssize_t n = read(vt.log_pipe[0], buf, sizeof(buf));

	for (ssize_t i = 0; i < n; i++)
		lines += buf[i] == '\n';
	return lines;
}

static inline struct virtio_vsock_counters vt_count(void)
{
	struct virtio_vsock_counters c;

	virtio_vsock_counters(vt.vsock, &c);
	return c;
}

/* --- packets to the guest --- */

static inline void rx_offer(uint16_t head)
{
	ring_offer(&vt.q[Q_RX], head);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_RX);
}

static inline void rx_give(unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		ring_set(&vt.q[Q_RX], i, RX_AREA + i * RX_BYTES, RX_BYTES, D_WRITE, 0);
		rx_offer((uint16_t)i);
	}
}

/* The next packet, copied out; its buffer is given back. */
static inline bool rx_poll(struct pkt *p)
{
	uint32_t id, len;

	if (!ring_take(&vt.q[Q_RX], &id, &len))
		return false;
	cr_assert(len >= sizeof(p->h) && len <= RX_BYTES, "used length %u", len);
	memcpy(p, ring_at(&vt.drv.ring, RX_AREA + id * RX_BYTES), len);
	cr_assert_eq(len, sizeof(p->h) + p->h.len);
	cr_assert_eq(p->h.dst_cid, CID);
	rx_offer((uint16_t)id);
	return true;
}

/* The next packet, which is to be of this kind. */
static inline void rx_expect(struct pkt *p, unsigned op)
{
	cr_assert(within_patience(rx_poll(p)), "no packet, but operation %u is due", op);
	cr_assert_eq(p->h.op, op, "operation %u, but %u is due", p->h.op, op);
}

static inline bool rx_quiet(void)
{
	struct pkt p;

	vdriver_settle(&vt.drv);
	vdriver_settle(&vt.drv);
	return !rx_poll(&p);
}

/* --- packets from the guest --- */

static inline struct hdr tx_header(unsigned op, uint32_t guest_port, uint32_t host_port)
{
	return (struct hdr){
	    .src_cid = CID,
	    .dst_cid = 2,
	    .src_port = guest_port,
	    .dst_port = host_port,
	    .type = 1,
	    .op = (uint16_t)op,
	    .buf_alloc = vt.buf_alloc,
	    .fwd_cnt = vt.fwd_cnt,
	};
}

static inline bool tx_done(void)
{
	uint32_t id, len;

	return ring_take(&vt.q[Q_TX], &id, &len);
}

static inline void tx_raw(const void *bytes, uint32_t len)
{
	memcpy(ring_at(&vt.drv.ring, TX_AREA), bytes, len);
	ring_set(&vt.q[Q_TX], 0, TX_AREA, len, 0, 0);
	ring_offer(&vt.q[Q_TX], 0);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
	cr_assert(within_patience(tx_done()), "the packet was not taken");
}

static inline void tx_hdr(const struct hdr *h)
{
	tx_raw(h, sizeof(*h));
}

/* The same packet from n guest ports on, n at most QUEUE_SIZE, by one kick. */
static inline void tx_batch(unsigned op, uint32_t first_port, uint32_t host_port, unsigned n)
{
	for (uint16_t i = 0; i < n; i++) {
		struct hdr h = tx_header(op, first_port + i, host_port);
		uint64_t at = TX_AREA + i * 64u;

		memcpy(ring_at(&vt.drv.ring, at), &h, sizeof(h));
		ring_set(&vt.q[Q_TX], i, at, sizeof(h), 0, 0);
		ring_offer(&vt.q[Q_TX], i);
	}
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
	for (unsigned i = 0; i < n; i++)
		cr_assert(within_patience(tx_done()), "the packet was not taken");
}

static inline void tx(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct hdr h = tx_header(op, guest_port, host_port);

	h.flags = flags;
	tx_hdr(&h);
}

static inline void tx_data(uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len)
{
	static uint8_t packet[sizeof(struct hdr) + 0x100000];
	struct hdr h = tx_header(RW, guest_port, host_port);

	h.len = len;
	memcpy(packet, &h, sizeof(h));
	memcpy(packet + sizeof(h), data, len);
	tx_raw(packet, (uint32_t)sizeof(h) + len);
}

/* --- the host's processes --- */

static inline void patient(int fd)
{
	const struct timeval tv = {PATIENCE_MS / 1000, 0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static inline struct sockaddr_un host_addr(const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", vt.path, suffix);
	return a;
}

static inline int host_connect(void)
{
	struct sockaddr_un a = host_addr("");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	patient(fd);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static inline int host_listen(const char *suffix, int backlog)
{
	struct sockaddr_un a = host_addr(suffix);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	patient(fd);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

static inline int host_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	cr_assert(fd >= 0, "nobody connects");
	patient(fd);
	return fd;
}

static inline void host_write(int fd, const void *data, size_t len)
{
	cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void host_say(int fd, const char *text)
{
	host_write(fd, text, strlen(text));
}

/* Exactly these bytes are next. */
static inline void host_expect(int fd, const void *data, size_t len)
{
	static uint8_t got[1u << 20];

	cr_assert_eq(recv(fd, got, len, MSG_WAITALL), (ssize_t)len);
	cr_assert_eq(memcmp(got, data, len), 0);
}

static inline bool host_eof(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) <= 0;
}

#endif
