/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock at its limits: packets that make no sense, odd buffers, as much as there may be of
 * everything, resets, and a device that is saved and restored.
 */
#include "state_rig.h"
#include "vsock_driver.h"

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
	memcpy(packet + sizeof(h), vt_pattern(100), 100);
	memcpy(ring_at(&vt.drv.ring, TX_AREA), packet, sizeof(packet));
	for (uint16_t i = 0; i < 6; i++) {
		ring_set(&vt.q[Q_TX], i, at, cut[i], i < 5 ? D_NEXT : 0, (uint16_t)(i + 1));
		at += cut[i];
	}
	ring_offer(&vt.q[Q_TX], 0);
	wr(&vt.drv, R_QUEUE_NOTIFY, Q_TX);
	cr_assert(within_patience(tx_done()));
	host_expect(fd, vt_pattern(100), 90);
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
	host_write(fd, vt_pattern(100000), 100000);
	vdriver_settle(&vt.drv);
	cr_expect_eq(vt_count().rx_bytes, 0);
	rx_give(0, 2);
	rx_expect(&p, RESPONSE);
	while (got < 100000) {
		rx_expect(&p, RW);
		cr_assert_eq(memcmp(p.data, vt_pattern(100000) + got, p.h.len), 0);
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
