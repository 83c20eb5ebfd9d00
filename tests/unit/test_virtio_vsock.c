/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock as a driver and as the host's processes see it: connections, data, credit, ends.
 */
#include "state_rig.h"
#include "vsock_driver.h"

#define VSOCK_FEATURES (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX)
#define FIRST_PORT     (1u << 30) /* of our end of connections that the host makes */

static void setup(void)
{
	struct virtio_vsock_options opt;

	vt_directory();
	vt_options(&opt);
	vt_make(&opt);
	vt_start(VSOCK_FEATURES);
	rx_give(0, 32);
}

/* The times of the protocol in milliseconds, as short as the test may wait. */
static void setup_hasty(void)
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

#define VsockTest(name, ...)                                                                       \
	Test(virtio_vsock, name, .init = setup, .fini = vt_fini, .timeout = 30, ##__VA_ARGS__)
#define HastyTest(name)                                                                            \
	Test(virtio_vsock, name, .init = setup_hasty, .fini = vt_fini, .timeout = 30)

/* A connection from guest port 1000 to a service at host port 52; returns the service's socket. */
static int guest_connection(uint32_t *buf_alloc)
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

static uint8_t *pattern(size_t len)
{
	static uint8_t bytes[1u << 20];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
	return bytes;
}

/* --- the device --- */

VsockTest(config)
{
	cr_expect_eq(rd(&vt.drv, R_DEVICE_ID), 19);
	cr_expect_eq(virtio_mmio_io_ops.read(vt.drv.mmio, R_CONFIG, 8), CID);
	cr_expect_eq(rd(&vt.drv, R_CONFIG + 4), 0, "the upper half is zero");
	cr_expect_eq(vdriver_offered(&vt.drv), F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | 1,
		     "F_STREAM");
}

Test(virtio_vsock, reserved_cids_are_refused)
{
	const uint32_t reserved[] = {0, 1, 2, 0xffffffff};
	struct virtio_vsock_options opt;
	struct err err = {0};

	vt_directory();
	vt_options(&opt);
	for (unsigned i = 0; i < 4; i++) {
		opt.cid = reserved[i];
		cr_expect_eq(virtio_vsock_new(&opt, &vt.vsock, &err), -EINVAL);
	}
	cr_expect_eq(rmdir(vt.dir), 0, "nothing was made");
}

/* --- connections --- */

VsockTest(the_host_connects)
{
	int fd = host_connect();
	struct pkt p;

	host_say(fd, "CONNECT 1234\nfirst");
	rx_expect(&p, REQUEST);
	cr_expect_eq(p.h.src_cid, 2);
	cr_expect_eq(p.h.src_port, FIRST_PORT);
	cr_expect_eq(p.h.dst_port, 1234);
	cr_expect_eq(p.h.type, 1);
	cr_expect_eq(p.h.buf_alloc, VSOCK_BUFFER_MAX);
	cr_expect_eq(p.h.fwd_cnt, 0);
	tx(RESPONSE, 1234, FIRST_PORT, 0);
	host_expect(fd, "OK 1073741824\n", 14);
	rx_expect(&p, RW);
	cr_expect_eq(p.h.len, 5, "what stood behind the line is the guest's");
	cr_expect_eq(memcmp(p.data, "first", 5), 0);
	tx_data(1234, FIRST_PORT, "answer", 6);
	host_expect(fd, "answer", 6);
	cr_expect_eq(vt_count().from_host, 1);
	cr_expect_eq(vt_count().open, 1);
	close(fd);
}

VsockTest(the_guest_connects)
{
	uint32_t buf_alloc;
	int fd = guest_connection(&buf_alloc);
	struct pkt p;

	cr_expect_eq(buf_alloc, VSOCK_BUFFER_MAX);
	host_say(fd, "hello");
	rx_expect(&p, RW);
	cr_expect_eq(p.h.src_port, 52);
	cr_expect_eq(p.h.dst_port, 1000);
	cr_expect_eq(p.h.len, 5);
	tx_data(1000, 52, "there", 5);
	host_expect(fd, "there", 5);
	cr_expect_eq(vt_count().from_guest, 1);
	cr_expect_eq(vt_count().rx_bytes, 5);
	cr_expect_eq(vt_count().tx_bytes, 5);
	close(fd);
}

VsockTest(nobody_listens)
{
	struct pkt p;

	tx(REQUEST, 1000, 99, 0);
	rx_expect(&p, RST);
	cr_expect_eq(p.h.src_port, 99);
	cr_expect_eq(p.h.dst_port, 1000);
	cr_expect(within_patience(vt_count().open == 0));
	cr_expect_eq(vt_log_lines(), 0);
}

VsockTest(the_guest_refuses)
{
	int fd = host_connect();
	struct pkt p;

	host_say(fd, "CONNECT 7\n");
	rx_expect(&p, REQUEST);
	tx(RST, 7, p.h.src_port, 0);
	cr_expect(host_eof(fd));
	cr_expect_eq(vt_count().open, 0);
	cr_expect_eq(vt_count().refused, 1);
	close(fd);
}

HastyTest(the_guest_does_not_answer)
{
	int fd = host_connect();
	struct pkt p;

	host_say(fd, "CONNECT 7\n");
	rx_expect(&p, REQUEST);
	rx_expect(&p, RST);
	cr_expect(host_eof(fd));
	cr_expect_eq(vt_count().open, 0);
	close(fd);
}

/* Each of these is closed, and nothing reaches the guest. */
VsockTest(lines_that_are_none)
{
	const char *const bad[] = {
	    "CONNECT\n",
	    "CONNECT \n",
	    "CONNECT 12x\n",
	    "CONNECT 4294967296\n",
	    "HELLO 1\n",
	    "CONNECT -1\n",
	    "connect 1\n",
	    "CONNECT 1\r\n",
	    "\n",
	    "CONNECT 10000000000000000000",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = host_connect();

		host_say(fd, bad[i]);
		cr_expect(host_eof(fd), "\"%s\"", bad[i]);
		close(fd);
	}
	cr_expect(rx_quiet());
	cr_expect_eq(vt_count().open, 0);
}

HastyTest(a_line_has_its_time)
{
	int fd = host_connect();

	host_say(fd, "CONNE");
	cr_expect(host_eof(fd));
	close(fd);
}

VsockTest(a_line_may_come_in_pieces)
{
	int fd = host_connect();
	struct pkt p;

	host_say(fd, "CONN");
	vdriver_settle(&vt.drv);
	host_say(fd, "ECT 4294967295");
	vdriver_settle(&vt.drv);
	host_say(fd, "\n");
	rx_expect(&p, REQUEST);
	cr_expect_eq(p.h.dst_port, 4294967295u);
	close(fd);
}

/* The backlog is full at first; nobody is refused while the time lasts. */
VsockTest(a_busy_listener_is_waited_for)
{
	int listener = host_listen("_52", 1);
	int fd[8];
	struct pkt p;

	for (unsigned i = 0; i < 8; i++)
		tx(REQUEST, 1000 + i, 52, 0);
	for (unsigned i = 0; i < 8; i++)
		fd[i] = host_accept(listener);
	for (unsigned i = 0; i < 8; i++) {
		rx_expect(&p, RESPONSE);
		close(fd[i]);
	}
	close(listener);
}

HastyTest(a_busy_listener_is_not_waited_for_long)
{
	int listener = host_listen("_52", 0);
	struct pkt p;

	for (unsigned i = 0; i < 4; i++)
		tx(REQUEST, 1000 + i, 52, 0);
	do
		cr_assert(within_patience(rx_poll(&p)));
	while (p.h.op == RESPONSE);
	cr_expect_eq(p.h.op, RST);
	close(listener);
}

/* --- credit --- */

VsockTest(more_than_its_credit_resets_a_connection)
{
	uint32_t buf_alloc;
	int fd = guest_connection(&buf_alloc);
	struct pkt p;

	tx_data(1000, 52, pattern(buf_alloc + 1), buf_alloc + 1);
	rx_expect(&p, RST);
	cr_expect(host_eof(fd));
	cr_expect_eq(vt_count().violations, 1);
	cr_expect_eq(vt_log_lines(), 1);
	cr_expect(within_patience(vt_count().open == 0));
	close(fd);
}

VsockTest(receiving_what_was_not_sent_resets_a_connection)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	vt.fwd_cnt = 1;
	tx(CREDIT_UPDATE, 1000, 52, 0);
	rx_expect(&p, RST);
	cr_expect(host_eof(fd));
	cr_expect_eq(vt_log_lines(), 1);
	close(fd);
}

VsockTest(the_guests_credit_is_kept)
{
	const uint8_t *bytes = pattern(100000);
	uint32_t got = 0;
	struct pkt p;
	int fd;

	vt.buf_alloc = 10000;
	fd = guest_connection(NULL);
	host_write(fd, bytes, 100000);
	while (got < 10000) {
		rx_expect(&p, RW);
		cr_assert_eq(memcmp(p.data, bytes + got, p.h.len), 0);
		got += p.h.len;
	}
	cr_expect_eq(got, 10000);
	rx_expect(&p, CREDIT_REQUEST);
	cr_expect(rx_quiet(), "it is asked once");
	/* Less than what is on its way is no credit at all, and no violation. */
	vt.buf_alloc = 100;
	tx(CREDIT_UPDATE, 1000, 52, 0);
	cr_expect(rx_quiet());
	vt.buf_alloc = 10000;
	while (got < 100000) {
		vt.fwd_cnt = got;
		tx(CREDIT_UPDATE, 1000, 52, 0);
		for (uint32_t end = got + 10000; got < end; got += p.h.len) {
			rx_expect(&p, RW);
			cr_assert_eq(memcmp(p.data, bytes + got, p.h.len), 0);
		}
		rx_expect(&p, CREDIT_REQUEST);
	}
	close(fd);
}

VsockTest(a_host_that_reads_nothing)
{
	uint32_t buf_alloc, sent = 0, free_bytes;
	int fd = guest_connection(&buf_alloc);
	const uint8_t *bytes = pattern(1u << 20);
	struct pkt p;

	free_bytes = buf_alloc;
	while (free_bytes > 0) {
		uint32_t len = free_bytes < 50000 ? free_bytes : 50000;

		tx_data(1000, 52, bytes + sent, len);
		sent += len;
		free_bytes -= len;
		vdriver_settle(&vt.drv);
		while (rx_poll(&p)) {
			cr_assert_eq(p.h.op, CREDIT_UPDATE);
			free_bytes = p.h.buf_alloc - (sent - p.h.fwd_cnt);
		}
	}
	cr_expect_eq(vt_count().buffered + vt_count().tx_bytes, sent);
	cr_expect_gt(vt_count().buffered, 0);
	cr_expect_leq(vt_count().buffered, VSOCK_BUFFER_MAX);
	tx(CREDIT_REQUEST, 1000, 52, 0);
	rx_expect(&p, CREDIT_UPDATE);
	cr_expect_eq(p.h.buf_alloc, buf_alloc);
	cr_expect_eq(p.h.fwd_cnt, vt_count().tx_bytes, "told as it is");
	host_expect(fd, bytes, sent);
	cr_expect(within_patience(vt_count().buffered == 0));
	rx_expect(&p, CREDIT_UPDATE);
	close(fd);
}

/* --- ends --- */

VsockTest(the_host_sends_no_more)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	host_say(fd, "last");
	shutdown(fd, SHUT_WR);
	rx_expect(&p, RW);
	rx_expect(&p, SHUTDOWN);
	cr_expect_eq(p.h.flags, SHUT_F_SEND);
	tx_data(1000, 52, "still", 5);
	host_expect(fd, "still", 5);
	cr_expect(rx_quiet());
	close(fd);
	rx_expect(&p, SHUTDOWN);
	cr_expect_eq(p.h.flags, SHUT_F_BOTH);
	tx(RST, 1000, 52, 0);
	cr_expect_eq(vt_count().open, 0);
}

VsockTest(the_guest_sends_no_more)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	tx_data(1000, 52, "last", 4);
	tx(SHUTDOWN, 1000, 52, SHUT_F_SEND);
	host_expect(fd, "last", 4);
	cr_expect(host_eof(fd));
	host_say(fd, "still");
	rx_expect(&p, RW);
	cr_expect_eq(p.h.len, 5);
	/* Bits that are clear take nothing back. */
	tx(SHUTDOWN, 1000, 52, 0);
	host_say(fd, "and");
	rx_expect(&p, RW);
	tx_data(1000, 52, "no", 2);
	rx_expect(&p, RST);
	cr_expect(within_patience(vt_count().open == 0), "it said that it would not");
	close(fd);
}

VsockTest(the_guest_receives_no_more)
{
	int fd = guest_connection(NULL);

	tx(SHUTDOWN, 1000, 52, SHUT_F_RCV);
	cr_expect_eq(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	cr_expect_eq(errno, EPIPE);
	tx_data(1000, 52, "still", 5);
	host_expect(fd, "still", 5);
	cr_expect(rx_quiet());
	close(fd);
}

VsockTest(the_host_hangs_up)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	host_say(fd, "bye");
	close(fd);
	rx_expect(&p, RW);
	cr_expect_eq(p.h.len, 3);
	rx_expect(&p, SHUTDOWN);
	cr_expect_eq(p.h.flags, SHUT_F_BOTH);
	/* What was on its way is nobody's; it does not harm. */
	tx_data(1000, 52, "late", 4);
	tx(RST, 1000, 52, 0);
	cr_expect_eq(vt_count().open, 0);
	cr_expect_eq(vt_log_lines(), 0);
}

/* The host is gone with bytes in front of it that it never read. */
VsockTest(the_host_vanishes_in_the_middle)
{
	uint32_t buf_alloc;
	int fd = guest_connection(&buf_alloc);
	struct pkt p;

	for (unsigned i = 0; i < 4; i++)
		tx_data(1000, 52, pattern(100000), 100000);
	cr_expect_gt(vt_count().buffered, 0);
	close(fd);
	cr_expect(within_patience(vt_count().buffered == 0));
	do
		cr_assert(within_patience(rx_poll(&p)));
	while (p.h.op == CREDIT_UPDATE);
	cr_expect(p.h.op == SHUTDOWN || p.h.op == RST);
	tx(RST, 1000, 52, 0);
	cr_expect(within_patience(vt_count().open == 0));
}

HastyTest(no_answer_to_shutdown)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	close(fd);
	rx_expect(&p, SHUTDOWN);
	rx_expect(&p, RST);
	cr_expect(within_patience(vt_count().open == 0));
}

VsockTest(the_guest_closes_before_the_host_has_read)
{
	uint32_t sent = 0;
	int fd = guest_connection(NULL);
	const uint8_t *bytes = pattern(1u << 20);
	struct pkt p;

	while (vt_count().buffered < 60000) {
		tx_data(1000, 52, bytes + sent, 20000);
		sent += 20000;
	}
	tx(SHUTDOWN, 1000, 52, SHUT_F_BOTH);
	do
		cr_assert(within_patience(rx_poll(&p)));
	while (p.h.op == CREDIT_UPDATE);
	cr_expect_eq(p.h.op, RST, "its port is free again at once");
	cr_expect_eq(vt_count().open, 1);
	host_expect(fd, bytes, sent);
	cr_expect(host_eof(fd));
	cr_expect(within_patience(vt_count().open == 0));
	close(fd);
}

HastyTest(what_nobody_takes_is_given_up)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	while (vt_count().buffered < 60000)
		tx_data(1000, 52, pattern(20000), 20000);
	tx(SHUTDOWN, 1000, 52, SHUT_F_BOTH);
	do
		cr_assert(within_patience(rx_poll(&p)));
	while (p.h.op == CREDIT_UPDATE);
	cr_expect_eq(p.h.op, RST);
	cr_expect(within_patience(vt_count().open == 0));
	cr_expect_eq(vt_count().buffered, 0);
	close(fd);
}

/* --- packets that make no sense --- */

VsockTest(packets_of_no_connection)
{
	struct hdr h;
	struct pkt p;

	for (unsigned op = 0; op < 12; op++) {
		if (op == RST || op == REQUEST)
			continue;
		tx(op, 5, 6, 0);
		rx_expect(&p, RST);
		cr_expect_eq(p.h.src_port, 6);
		cr_expect_eq(p.h.dst_port, 5);
	}
	tx(RST, 5, 6, 0);
	cr_expect(rx_quiet(), "an RST is not answered");

	h = tx_header(REQUEST, 5, 6);
	h.type = 77;
	tx_hdr(&h);
	rx_expect(&p, RST);
	cr_expect_eq(p.h.type, 77);
	h = tx_header(REQUEST, 5, 6);
	h.dst_cid = 9;
	tx_hdr(&h);
	rx_expect(&p, RST);
	cr_expect_eq(p.h.src_cid, 9);
	h = tx_header(REQUEST, 5, 6);
	h.len = 1;
	tx_hdr(&h);
	rx_expect(&p, RST);
	h = tx_header(REQUEST, 5, 6);
	h.src_cid = CID | 1ull << 32;
	tx_hdr(&h);
	cr_expect(rx_quiet(), "somebody else's packet");
	tx_raw(&h, sizeof(h) - 1);
	cr_expect(rx_quiet(), "half a header");
	cr_expect_eq(vt_count().open, 0);
}

/* Each resets the connection that it names. */
VsockTest(packets_that_a_connection_does_not_take)
{
	const unsigned bad[] = {0, REQUEST, RESPONSE, 8, 0xffff};
	int listener = host_listen("_52", 8);
	struct pkt p;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd;

		tx(REQUEST, 1000, 52, 0);
		rx_expect(&p, RESPONSE);
		fd = host_accept(listener);
		tx(bad[i], 1000, 52, 0);
		rx_expect(&p, RST);
		cr_expect(host_eof(fd), "operation %u", bad[i]);
		cr_expect(within_patience(vt_count().open == 0));
		close(fd);
	}
	close(listener);
}

VsockTest(a_payload_where_none_belongs)
{
	int fd = guest_connection(NULL);
	struct hdr h = tx_header(CREDIT_UPDATE, 1000, 52);
	uint8_t bytes[sizeof(h) + 4] = {0};
	struct pkt p;

	h.len = 4;
	memcpy(bytes, &h, sizeof(h));
	tx_raw(bytes, sizeof(bytes));
	rx_expect(&p, RST);
	cr_expect(host_eof(fd));
	close(fd);
}

/* --- framing --- */

VsockTest(packets_in_pieces)
{
	int fd = guest_connection(NULL);
	struct hdr h = tx_header(RW, 1000, 52);
	uint8_t packet[sizeof(h) + 100];
	const unsigned cut[] = {3, 30, 12, 0, 50, sizeof(packet) - 95};
	uint64_t at = TX_AREA;

	h.len = 90; /* the driver's buffers may be longer */
	memcpy(packet, &h, sizeof(h));
	memcpy(packet + sizeof(h), pattern(100), 100);
	memcpy(ring_at(&vt.drv.ring, TX_AREA), packet, sizeof(packet));
	for (uint16_t i = 0; i < 6; i++) {
		ring_set(&vt.q[Q_TX], i, at, cut[i], i < 5 ? D_NEXT : 0, (uint16_t)(i + 1));
		at += cut[i];
	}
	ring_offer(&vt.q[Q_TX], 0);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
	cr_assert(within_patience(tx_done()));
	host_expect(fd, pattern(100), 90);
	close(fd);
}

VsockTest(receive_buffers_of_all_kinds)
{
	struct ring *r = &vt.q[Q_RX];
	const unsigned cut[] = {10, 40, 6};
	uint32_t id, len;
	struct pkt p;
	int fd;

	/* The device is started anew, with no buffers. */
	vt_start(F_VERSION_1);
	/* Too small for a header and a byte; then one in three pieces. */
	ring_set(r, 0, RX_AREA, 43, D_WRITE, 0);
	ring_set(r, 1, RX_AREA, 44, D_WRITE, 0);
	ring_set(r, 2, RX_AREA, 0x1000, 0, 0);
	for (uint16_t i = 0; i < 3; i++)
		ring_set(r, 3 + i, RX_AREA + i * 0x1000, cut[i], D_WRITE | (i < 2 ? D_NEXT : 0),
			 (uint16_t)(4 + i));
	for (uint16_t i = 0; i < 4; i++)
		rx_offer(i);
	fd = host_connect();
	host_say(fd, "CONNECT 7\n");
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert(within_patience(ring_take(r, &id, &len)));
		cr_expect_eq(id, i);
		cr_expect_eq(len, 0);
	}
	cr_assert(within_patience(ring_take(r, &id, &len)));
	cr_expect_eq(id, 3);
	cr_expect_eq(len, 44);
	memcpy(&p, ring_at(&vt.drv.ring, RX_AREA), 10);
	memcpy((uint8_t *)&p + 10, ring_at(&vt.drv.ring, RX_AREA + 0x1000), 34);
	cr_expect_eq(p.h.op, REQUEST);
	cr_expect_eq(p.h.dst_port, 7);
	close(fd);
}

/* --- bounds --- */

/* No buffers: replies are kept as far as there is room, then the tx queue stands still. */
VsockTest(replies_that_the_guest_does_not_fetch)
{
	struct hdr h;
	struct pkt p;
	uint32_t id, len;
	unsigned taken = 0, replies = 0;

	vt_start(VSOCK_FEATURES);
	h = tx_header(RW, 5, 6);
	memcpy(ring_at(&vt.drv.ring, TX_AREA), &h, sizeof(h));
	ring_set(&vt.q[Q_TX], 0, TX_AREA, sizeof(h), 0, 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 60; i++)
			ring_offer(&vt.q[Q_TX], 0);
		wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
		vdriver_settle(&vt.drv);
		while (ring_take(&vt.q[Q_TX], &id, &len))
			taken++;
	}
	cr_expect_eq(taken, 64);
	rx_give(0, 32);
	while (replies < 120) {
		rx_expect(&p, RST);
		replies++;
	}
	cr_expect(rx_quiet());
}

/* Data waits in the host's socket while there are no buffers, and in no list of ours. */
VsockTest(data_that_the_guest_does_not_fetch)
{
	struct pkt p;
	unsigned got = 0;
	int fd, listener;

	vt_start(VSOCK_FEATURES);
	listener = host_listen("_52", 8);
	tx(REQUEST, 1000, 52, 0);
	fd = host_accept(listener);
	host_write(fd, pattern(100000), 100000);
	vdriver_settle(&vt.drv);
	cr_expect_eq(vt_count().rx_bytes, 0);
	rx_give(0, 2);
	rx_expect(&p, RESPONSE);
	while (got < 100000) {
		rx_expect(&p, RW);
		cr_assert_eq(memcmp(p.data, pattern(100000) + got, p.h.len), 0);
		got += p.h.len;
	}
	close(fd);
	close(listener);
}

#define BATCH 32u
_Static_assert(VSOCK_CONNS_MAX % BATCH == 0 && BATCH <= QUEUE_SIZE, "whole batches");

/* All of the table, each promised its claim of the budget and no more; then one too many. */
VsockTest(as_many_as_there_may_be)
{
	int listener = host_listen("_52", 4096);
	static int fd[VSOCK_CONNS_MAX];
	static bool heard[VSOCK_CONNS_MAX];
	uint64_t promised = 0;
	struct pkt p;

	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		if (i % BATCH == 0)
			tx_batch(REQUEST, i, 52, BATCH);
		rx_expect(&p, RESPONSE);
		cr_assert_geq(p.h.buf_alloc, VSOCK_BUFFER_MIN);
		promised += p.h.buf_alloc;
		fd[i] = host_accept(listener);
	}
	cr_expect_leq(promised, VSOCK_BUFFER_BUDGET);
	cr_expect_eq(vt_count().open, VSOCK_CONNS_MAX);
	tx(REQUEST, 5000, 52, 0);
	rx_expect(&p, RST);
	cr_expect_eq(vt_log_lines(), 1);
	/* Each is there, on its own. */
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		host_write(fd[i], &i, sizeof(i));
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		rx_expect(&p, RW);
		cr_assert(p.h.dst_port < VSOCK_CONNS_MAX && !heard[p.h.dst_port]);
		heard[p.h.dst_port] = true;
		cr_assert_eq(memcmp(p.data, &p.h.dst_port, sizeof(p.h.dst_port)), 0);
	}
	/* The next host waits for room, and gets it. */
	close(fd[0]);
	rx_expect(&p, SHUTDOWN);
	fd[0] = host_connect();
	host_say(fd[0], "CONNECT 7\n");
	cr_expect(rx_quiet());
	tx(RST, 0, 52, 0);
	rx_expect(&p, REQUEST);
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		close(fd[i]);
	close(listener);
}

VsockTest(many_in_turn)
{
	int listener = host_listen("_52", 8);
	struct pkt p;

	for (unsigned i = 0; i < 300; i++) {
		int fd;

		tx(REQUEST, 1000, 52, 0);
		rx_expect(&p, RESPONSE);
		cr_assert_eq(p.h.buf_alloc, VSOCK_BUFFER_MAX);
		fd = host_accept(listener);
		tx(SHUTDOWN, 1000, 52, SHUT_F_BOTH);
		rx_expect(&p, RST);
		cr_assert(host_eof(fd));
		close(fd);
	}
	cr_expect_eq(vt_count().open, 0);
	cr_expect_eq(vt_count().from_guest, 300);
	close(listener);
}

/* Processes that connect and say nothing keep nobody else out for good. */
HastyTest(silent_hosts)
{
	static int fd[300];
	struct pkt p;
	int last;

	for (unsigned i = 0; i < 200; i++)
		fd[i] = host_connect();
	last = host_connect();
	host_say(last, "CONNECT 7\n");
	rx_expect(&p, REQUEST);
	for (unsigned i = 0; i < 200; i++)
		close(fd[i]);
	close(last);
}

/* --- reset --- */

VsockTest(reset_ends_connections)
{
	int fd = guest_connection(NULL);
	int idle = host_connect();
	int late;

	wr(&vt.drv, R_STATUS, 0);
	cr_expect(host_eof(fd));
	cr_expect(host_eof(idle));
	cr_expect_eq(vt_count().open, 0);
	late = host_connect();
	cr_expect(host_eof(late), "there is no driver now");
	close(fd);
	close(idle);
	close(late);
	vt_start(VSOCK_FEATURES);
	rx_give(0, 32);
	unlink(host_addr("_52").sun_path);
	close(guest_connection(NULL));
}

static void transport_reset(void *opaque)
{
	virtio_vsock_transport_reset(opaque);
}

VsockTest(transport_reset_event)
{
	int fd = guest_connection(NULL);
	uint32_t id, len;

	loop_call(vt.drv.loop, transport_reset, vt.vsock);
	cr_expect(host_eof(fd));
	cr_expect_eq(vt_count().open, 0);
	cr_expect(rx_quiet(), "the event says it");
	/* The event waits for a buffer; the first is too small. */
	memset(ring_at(&vt.drv.ring, EVENT_AREA), 0xee, 8);
	ring_set(&vt.q[Q_EVENT], 0, EVENT_AREA, 2, D_WRITE, 0);
	ring_set(&vt.q[Q_EVENT], 1, EVENT_AREA, 4, D_WRITE, 0);
	ring_offer(&vt.q[Q_EVENT], 0);
	ring_offer(&vt.q[Q_EVENT], 1);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_EVENT);
	cr_assert(within_patience(ring_take(&vt.q[Q_EVENT], &id, &len)));
	cr_expect_eq(len, 0);
	cr_assert(within_patience(ring_take(&vt.q[Q_EVENT], &id, &len)));
	cr_expect_eq(id, 1);
	cr_expect_eq(len, 4);
	cr_expect_eq(*(uint32_t *)ring_at(&vt.drv.ring, EVENT_AREA), 0);
	close(fd);
}

/* --- saved and restored --- */

/* Into a fresh device with a CID of its own, whose driver goes on in a copy of the memory. */
static void move_to_another(const struct state_writer *w)
{
	struct vsock_test old = vt;
	struct virtio_vsock_options opt;
	struct err err = {0};

	snprintf(vt.path, sizeof(vt.path), "%s/w", vt.dir);
	vt_options(&opt);
	opt.cid = CID + 1;
	vt_make(&opt);
	memcpy(ring_at(&vt.drv.ring, 0), ring_at(&old.drv.ring, 0), RING_RAM);
	for (unsigned i = 0; i < QUEUES; i++)
		vt.q[i].mem.region[0].host = ring_at(&vt.drv.ring, i * RING_STRIDE);
	cr_assert_eq(device_restore(&virtio_mmio_io_ops, vt.drv.mmio, w->data, w->len, &err), 0,
		     "%s", err.text);
	vdriver_fini(&old.drv);
	close(old.log_pipe[0]);
}

VsockTest(a_restored_guest_hears_of_it)
{
	struct state_writer w;
	uint32_t id, len;
	struct pkt p;
	int fd = guest_connection(NULL);
	int other;

	memset(ring_at(&vt.drv.ring, EVENT_AREA), 0xee, 4);
	ring_set(&vt.q[Q_EVENT], 0, EVENT_AREA, 4, D_WRITE, 0);
	ring_offer(&vt.q[Q_EVENT], 0);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_EVENT);
	vdriver_settle(&vt.drv);
	virtio_pause(vt.drv.virtio);
	/* Not told while it is paused, and not lost. */
	host_say(fd, "x");
	vdriver_settle(&vt.drv);
	cr_expect_eq(ring_used_idx(&vt.q[Q_RX]), vt.q[Q_RX].used_seen);
	device_save(&virtio_mmio_io_ops, vt.drv.mmio, &w);
	move_to_another(&w);
	state_writer_free(&w);

	cr_assert(within_patience(ring_take(&vt.q[Q_EVENT], &id, &len)));
	cr_expect_eq(len, 4);
	cr_expect_eq(*(uint32_t *)ring_at(&vt.drv.ring, EVENT_AREA), 0, "TRANSPORT_RESET");
	cr_expect_eq(rd(&vt.drv, R_CONFIG), CID + 1);
	cr_expect_eq(vt_count().open, 0);
	cr_expect(host_eof(fd), "its guest is gone");
	/* The queues go on: a connection to the guest as it is now. */
	other = host_connect();
	host_say(other, "CONNECT 7\n");
	cr_assert(within_patience(ring_take(&vt.q[Q_RX], &id, &len)));
	memcpy(&p, ring_at(&vt.drv.ring, RX_AREA + id * RX_BYTES), len);
	cr_expect_eq(p.h.op, REQUEST);
	cr_expect_eq(p.h.dst_cid, CID + 1);
	close(other);
	close(fd);
}

VsockTest(a_pause_loses_nothing)
{
	int fd = guest_connection(NULL);
	struct pkt p;

	virtio_pause(vt.drv.virtio);
	host_say(fd, "while");
	vdriver_settle(&vt.drv);
	cr_expect_eq(ring_used_idx(&vt.q[Q_RX]), vt.q[Q_RX].used_seen);
	virtio_resume(vt.drv.virtio);
	rx_expect(&p, RW);
	cr_expect_eq(p.h.len, 5);
	close(fd);
}

/* --- the socket's path --- */

static int try_path(const char *path, struct err *err)
{
	struct virtio_vsock_options opt;
	int ret;

	vt_options(&opt);
	opt.path = path;
	cr_assert_eq(loop_new(&opt.loop, err), 0);
	ret = virtio_vsock_new(&opt, &vt.vsock, err);
	if (!ret)
		virtio_vsock_ops.destroy(vt.vsock);
	loop_free(opt.loop);
	return ret;
}

Test(virtio_vsock, paths, .init = vt_directory)
{
	char text[VSOCK_PATH_MAX + 2];
	struct err err = {0};
	int fd;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	cr_expect_eq(try_path(text, &err), -ENAMETOOLONG);
	snprintf(text, sizeof(text), "%s/no/such", vt.dir);
	cr_expect_eq(try_path(text, &err), -ENOENT, "%s", err.text);

	fd = open(vt.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	cr_expect_eq(try_path(vt.path, &err), -EEXIST);
	cr_expect_eq(access(vt.path, F_OK), 0, "it is left alone");
	close(fd);
	unlink(vt.path);

	fd = host_listen("", 8);
	cr_expect_eq(try_path(vt.path, &err), -EADDRINUSE);
	cr_expect_eq(access(vt.path, F_OK), 0);
	close(fd);
	cr_expect_eq(try_path(vt.path, &err), 0, "a stale socket makes way: %s", err.text);
	cr_expect_neq(access(vt.path, F_OK), 0);
	cr_expect_eq(rmdir(vt.dir), 0);
}

Test(virtio_vsock, only_its_owner_connects, .init = setup)
{
	struct stat st;

	cr_assert_eq(stat(vt.path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	/* What somebody else has put there stays. */
	unlink(vt.path);
	close(host_listen("", 1));
	vdriver_fini(&vt.drv);
	cr_expect_eq(unlink(vt.path), 0);
	cr_expect_eq(rmdir(vt.dir), 0);
}
