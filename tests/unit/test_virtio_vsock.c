/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock as a driver and as the host's processes see it: connections, data, credit, ends.
 */
#include "vsock_driver.h"

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
	int fd = host_connect_saying("CONNECT 7\n");
	struct pkt p;

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
	int fd = host_connect_saying("CONNE");

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

	tx_data(1000, 52, vt_pattern(buf_alloc + 1), buf_alloc + 1);
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
	const uint8_t *bytes = vt_pattern(100000);
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
	const uint8_t *bytes = vt_pattern(1u << 20);
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
		tx_data(1000, 52, vt_pattern(100000), 100000);
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
	const uint8_t *bytes = vt_pattern(1u << 20);
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
		tx_data(1000, 52, vt_pattern(20000), 20000);
	tx(SHUTDOWN, 1000, 52, SHUT_F_BOTH);
	do
		cr_assert(within_patience(rx_poll(&p)));
	while (p.h.op == CREDIT_UPDATE);
	cr_expect_eq(p.h.op, RST);
	cr_expect(within_patience(vt_count().open == 0));
	cr_expect_eq(vt_count().buffered, 0);
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

Test(virtio_vsock, only_its_owner_connects, .init = vt_setup)
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
