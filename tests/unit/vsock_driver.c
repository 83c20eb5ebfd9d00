/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock_driver.h"

struct vsock_test vt;

void vt_nap(void)
{
	const struct timespec ts = {0, 200000};

	nanosleep(&ts, NULL);
}

static struct vq_layout vt_layout(unsigned queue)
{
	struct vq_layout l = ring_layout(&vt.q[queue]);
	uint64_t off = (uint64_t)queue * RING_STRIDE;

	l.desc = gpa_add(l.desc, off);
	l.avail = gpa_add(l.avail, off);
	l.used = gpa_add(l.used, off);
	return l;
}

void vt_start(uint64_t features)
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

void vt_options(struct virtio_vsock_options *opt)
{
	*opt = (struct virtio_vsock_options){.cid = CID, .path = vt.path, .log = &vt.drv.log};
}

void vt_make(const struct virtio_vsock_options *options)
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

void vt_directory(void)
{
	memset(&vt, 0, sizeof(vt));
	vt.buf_alloc = 1u << 20;
	snprintf(vt.dir, sizeof(vt.dir), "/tmp/minivm-vsock-XXXXXX");
	cr_assert(mkdtemp(vt.dir));
	snprintf(vt.path, sizeof(vt.path), "%s/v", vt.dir);
}

void vt_fini(void)
{
	char cmd[128];

	vdriver_fini(&vt.drv);
	close(vt.log_pipe[0]);
	cr_expect_neq(access(vt.path, F_OK), 0, "the socket is removed");
	snprintf(cmd, sizeof(cmd), "rm -r %s", vt.dir);
	cr_expect_eq(system(cmd), 0);
}

unsigned vt_log_lines(void)
{
	char buf[4096];
	unsigned lines = 0;
	ssize_t n = read(vt.log_pipe[0], buf, sizeof(buf));

	for (ssize_t i = 0; i < n; i++)
		lines += buf[i] == '\n';
	return lines;
}

struct virtio_vsock_counters vt_count(void)
{
	struct virtio_vsock_counters c;

	virtio_vsock_counters(vt.vsock, &c);
	return c;
}

void rx_offer(uint16_t head)
{
	ring_offer(&vt.q[Q_RX], head);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_RX);
}

void rx_give(unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		ring_set(&vt.q[Q_RX], i, RX_AREA + i * RX_BYTES, RX_BYTES, D_WRITE, 0);
		rx_offer((uint16_t)i);
	}
}

bool rx_poll(struct pkt *p)
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

void rx_expect(struct pkt *p, unsigned op)
{
	cr_assert(within_patience(rx_poll(p)), "no packet, but operation %u is due", op);
	cr_assert_eq(p->h.op, op, "operation %u, but %u is due", p->h.op, op);
}

bool rx_quiet(void)
{
	struct pkt p;

	vdriver_settle(&vt.drv);
	vdriver_settle(&vt.drv);
	return !rx_poll(&p);
}

struct hdr tx_header(unsigned op, uint32_t guest_port, uint32_t host_port)
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

bool tx_done(void)
{
	uint32_t id, len;

	return ring_take(&vt.q[Q_TX], &id, &len);
}

void tx_raw(const void *bytes, uint32_t len)
{
	memcpy(ring_at(&vt.drv.ring, TX_AREA), bytes, len);
	ring_set(&vt.q[Q_TX], 0, TX_AREA, len, 0, 0);
	ring_offer(&vt.q[Q_TX], 0);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
	cr_assert(within_patience(tx_done()), "the packet was not taken");
}

void tx_hdr(const struct hdr *h)
{
	tx_raw(h, sizeof(*h));
}

void tx_batch(unsigned op, uint32_t first_port, uint32_t host_port, unsigned n)
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

void tx(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct hdr h = tx_header(op, guest_port, host_port);

	h.flags = flags;
	tx_hdr(&h);
}

void tx_data(uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len)
{
	static uint8_t packet[sizeof(struct hdr) + 0x100000];
	struct hdr h = tx_header(RW, guest_port, host_port);

	h.len = len;
	memcpy(packet, &h, sizeof(h));
	memcpy(packet + sizeof(h), data, len);
	tx_raw(packet, (uint32_t)sizeof(h) + len);
}

static void host_patient(int fd)
{
	const struct timeval tv = {PATIENCE_MS / 1000, 0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

struct sockaddr_un host_addr(const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", vt.path, suffix);
	return a;
}

int host_connect(void)
{
	struct sockaddr_un a = host_addr("");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	host_patient(fd);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

int host_listen(const char *suffix, int backlog)
{
	struct sockaddr_un a = host_addr(suffix);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	host_patient(fd);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

int host_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	cr_assert(fd >= 0, "nobody connects");
	host_patient(fd);
	return fd;
}

void host_write(int fd, const void *data, size_t len)
{
	cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

void host_say(int fd, const char *text)
{
	host_write(fd, text, strlen(text));
}

void host_expect(int fd, const void *data, size_t len)
{
	static uint8_t got[1u << 20];

	cr_assert_eq(recv(fd, got, len, MSG_WAITALL), (ssize_t)len);
	cr_assert_eq(memcmp(got, data, len), 0);
}

struct saying {
	const char *text;
	int fd;
};

static void connect_saying(void *opaque)
{
	struct saying *s = opaque;

	s->fd = host_connect();
	host_say(s->fd, s->text);
}

int host_connect_saying(const char *text)
{
	struct saying s = {.text = text};

	loop_call(vt.drv.loop, connect_saying, &s);
	return s.fd;
}

bool host_eof(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) <= 0;
}

void vt_setup(void)
{
	struct virtio_vsock_options opt;

	vt_directory();
	vt_options(&opt);
	vt_make(&opt);
	vt_start(VSOCK_FEATURES);
	rx_give(0, 32);
}

void vt_setup_hasty(void)
{
	struct virtio_vsock_options opt;

	vt_directory();
	vt_options(&opt);
	opt.connect_ms = 150;
	opt.close_ms = 150;
	opt.drain_ms = 150;
	vt_make(&opt);
	vt_start(VSOCK_FEATURES);
	rx_give(0, 32);
}

int guest_connection(uint32_t *buf_alloc)
{
	int listener = host_listen("_52", 8);
	struct pkt p;
	int fd;

	tx(REQUEST, 1000, 52, 0);
	rx_expect(&p, RESPONSE);
	if (buf_alloc)
		*buf_alloc = p.h.buf_alloc;
	fd = host_accept(listener);
	close(listener);
	return fd;
}

uint8_t *vt_pattern(size_t len)
{
	static uint8_t bytes[1u << 20];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
	return bytes;
}
