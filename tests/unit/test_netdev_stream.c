/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a stream socket: cut anywhere, gathered, held back, aborted. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "minivm/netdev.h"

static struct netdev *nd;
static int peer;

static void setup(void)
{
	struct err err;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(netdev_stream_adopt(pair[0], &nd, &err), 0);
	peer = pair[1];
}

static void teardown(void)
{
	netdev_close(nd);
	close(peer);
}

#define StreamTest(name) Test(netdev_stream, name, .init = setup, .fini = teardown)

static uint8_t byte_at(unsigned seed, size_t i)
{
	return (uint8_t)(seed * 31 + i + i / 251);
}

static void fill(uint8_t *p, unsigned seed, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = byte_at(seed, i);
}

static bool right(const uint8_t *p, unsigned seed, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != byte_at(seed, i))
			return false;
	}
	return true;
}

/* The frame as it stands in the stream; the caller frees it. */
static uint8_t *encode(unsigned seed, uint32_t len)
{
	uint8_t *p = malloc(4 + len);
	uint32_t prefix = htonl(len);

	memcpy(p, &prefix, 4);
	fill(p + 4, seed, len);
	return p;
}

static void send_bytes(const uint8_t *p, size_t len)
{
	cr_assert_eq(send(peer, p, len, MSG_DONTWAIT), (ssize_t)len);
}

static void send_frame(unsigned seed, uint32_t len)
{
	uint8_t *p = encode(seed, len);

	send_bytes(p, 4 + len);
	free(p);
}

/* Into buffers of odd sizes. */
static ssize_t receive(uint8_t *buf, size_t size)
{
	struct iovec iov[4] = {{buf, 1}, {buf + 1, 100}, {buf + 101, 0}, {buf + 101, size - 101}};

	return nd->ops->readv(nd, iov, 4);
}

static uint8_t buf[NETDEV_FRAME_MAX + 1000];

StreamTest(frames_one_by_one_and_many_at_once)
{
	static const uint32_t lens[] = {14, 60, 1514, 9000, 15, 1, 65535, 64, 64, 20000, 17};
	size_t n = sizeof(lens) / sizeof(lens[0]);

	cr_expect_eq(receive(buf, sizeof(buf)), -EAGAIN);
	for (unsigned i = 0; i < n; i++)
		send_frame(i, lens[i]);
	for (unsigned i = 0; i < n; i++) {
		memset(buf, 0xee, sizeof(buf));
		cr_assert_eq(receive(buf, sizeof(buf)), lens[i], "frame %u", i);
		cr_assert(right(buf, i, lens[i]));
		cr_assert_eq(buf[lens[i]], 0xee, "nothing is behind a frame");
		cr_assert(!nd->partial);
	}
	cr_expect_eq(receive(buf, sizeof(buf)), -EAGAIN);
}

/* Each piece ends somewhere else, in the length as well as in the frame. */
StreamTest(frames_in_pieces)
{
	uint32_t len = 3000;
	uint8_t *p = encode(7, len);

	for (size_t cut = 1; cut < 4 + len; cut += cut < 8 ? 1 : 97) {
		send_bytes(p, cut);
		cr_assert_eq(receive(buf, sizeof(buf)), -EAGAIN);
		cr_assert_eq(nd->partial, cut >= 4);
		send_bytes(p + cut, 4 + len - cut);
		memset(buf + cut, 0, 4 + len - cut);
		cr_assert_eq(receive(buf, sizeof(buf)), len, "cut at %zu", cut);
		cr_assert(right(buf, 7, len));
	}
	free(p);
}

/* Behind each frame: more of them here, nothing now, or perhaps something in the socket. */
StreamTest(what_is_behind_a_frame)
{
	uint8_t *p = encode(3, 100);

	send_frame(1, 60);
	cr_expect_eq(receive(buf, sizeof(buf)), 60);
	cr_expect_eq(nd->more, NETDEV_MORE_NONE);
	/* What came since is found all the same, without an -EAGAIN before it. */
	send_frame(1, 61);
	send_frame(2, 62);
	send_bytes(p, 1);
	cr_expect_eq(receive(buf, sizeof(buf)), 61);
	cr_expect_eq(nd->more, NETDEV_MORE_HERE);
	cr_expect_eq(receive(buf, sizeof(buf)), 62);
	cr_expect_eq(nd->more, NETDEV_MORE_HERE, "a byte of it");
	cr_expect_eq(receive(buf, sizeof(buf)), -EAGAIN);
	send_bytes(p + 1, 103);
	cr_expect_eq(receive(buf, sizeof(buf)), 100);
	cr_expect_eq(nd->more, NETDEV_MORE_NONE);
	free(p);
	/* A call that is filled to the last byte does not know. */
	for (unsigned i = 0; i < 40; i++)
		send_frame(i, 1020);
	for (unsigned i = 0; i < 40; i++) {
		cr_assert_eq(receive(buf, sizeof(buf)), 1020);
		cr_assert(right(buf, i, 1020));
		cr_assert_eq(nd->more == NETDEV_MORE_NONE, i == 39, "frame %u", i);
	}
}

StreamTest(a_frame_that_does_not_fit_is_cut_alone)
{
	send_frame(1, 5000);
	send_frame(2, 60);
	cr_expect_eq(receive(buf, 1000), 5000);
	cr_expect_eq(receive(buf, 1000), 60);
	cr_expect(right(buf, 2, 60));
}

StreamTest(abort_throws_the_rest_away)
{
	uint8_t *p = encode(3, 40000);

	send_bytes(p, 20000);
	cr_expect_eq(receive(buf, sizeof(buf)), -EAGAIN);
	cr_expect(nd->partial);
	nd->ops->abort(nd);
	cr_expect(!nd->partial);
	memset(buf, 0xee, sizeof(buf));
	cr_expect_eq(receive(buf, sizeof(buf)), -EAGAIN);
	send_bytes(p + 20000, 20004);
	send_frame(4, 100);
	cr_expect_eq(receive(buf, sizeof(buf)), 100);
	cr_expect(right(buf, 4, 100));
	cr_expect_eq(buf[100], 0xee, "not a byte of the frame that nobody wanted");
	free(p);
}

StreamTest(the_end_and_nonsense)
{
	static const uint32_t lens[] = {0, NETDEV_FRAME_MAX + 1, 0xffffffff};

	for (unsigned i = 0; i < 3; i++) {
		uint32_t prefix = htonl(lens[i]);

		send_bytes((const uint8_t *)&prefix, 4);
		cr_expect_eq(receive(buf, sizeof(buf)), -EPIPE, "length %u", lens[i]);
		teardown();
		setup();
	}
	send_frame(1, 50);
	shutdown(peer, SHUT_WR);
	cr_expect_eq(receive(buf, sizeof(buf)), 50, "what came before the end");
	cr_expect_eq(receive(buf, sizeof(buf)), -EPIPE);
}

/* --- sending --- */

static int transmit(unsigned seed, uint32_t len)
{
	static uint8_t frame[NETDEV_FRAME_MAX];
	struct iovec iov[3] = {{frame, 14}, {frame + 14, 0}, {frame + 14, len - 14}};

	fill(frame, seed, len);
	return nd->ops->writev(nd, iov, 3, len);
}

/* What the peer gets, without waiting: appended to got[]. */
static uint8_t got[8u << 20];
static size_t got_len;

static size_t drain(size_t max)
{
	ssize_t n = recv(peer, got + got_len, max, MSG_DONTWAIT);

	got_len += n > 0 ? (size_t)n : 0;
	return n > 0 ? (size_t)n : 0;
}

/* got[] holds these frames and no more. */
static void expect_frames(unsigned count, const uint32_t *lens)
{
	size_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		uint32_t prefix;

		cr_assert_leq(at + 4 + lens[i], got_len, "frame %u is missing", i);
		memcpy(&prefix, got + at, 4);
		cr_assert_eq(ntohl(prefix), lens[i], "frame %u", i);
		cr_assert(right(got + at + 4, i, lens[i]), "frame %u", i);
		at += 4 + lens[i];
	}
	cr_assert_eq(at, got_len);
}

StreamTest(small_frames_go_together)
{
	uint32_t lens[40];

	for (unsigned i = 0; i < 40; i++) {
		lens[i] = 60 + i;
		cr_assert_eq(transmit(i, lens[i]), 0);
	}
	cr_expect_eq(drain(sizeof(got)), 0, "not before the batch ends");
	cr_expect(nd->unsent);
	cr_expect_eq(nd->ops->flush(nd), 0);
	cr_expect(!nd->unsent);
	drain(sizeof(got));
	expect_frames(40, lens);
}

/* Small and large in turns until the socket is full; then it drains in odd pieces. */
StreamTest(held_back_and_resumed)
{
	static uint32_t lens[2000];
	unsigned sent = 0, refused = 0;

	while (sent < 2000) {
		lens[sent] = sent % 3 == 0 ? 50000 + sent : sent % 3 == 1 ? 70 : 3000;
		if (transmit(sent, lens[sent]) == 0) {
			sent++;
			continue;
		}
		refused++;
		cr_assert(nd->unsent || sent % 3 != 1);
		if (drain(1 + refused % 7777) == 0)
			cr_assert_eq(nd->ops->flush(nd), 0, "empty, and yet refused");
		if (got_len > sizeof(got) - 300000)
			break;
	}
	for (unsigned i = 0; nd->unsent && i < 100000; i++) {
		drain(4096);
		nd->ops->flush(nd);
	}
	while (drain(65536) > 0)
		;
	cr_expect_gt(refused, 10);
	expect_frames(sent, lens);
}

StreamTest(nobody_reads_any_more)
{
	int ret = 0;

	shutdown(peer, SHUT_RDWR);
	close(peer);
	peer = -1;
	for (unsigned i = 0; i < 100 && ret == 0; i++)
		ret = transmit(i, 3000);
	cr_expect_eq(ret, -EPIPE);
}

Test(netdev_stream, connect_errors)
{
	struct netdev *none = NULL;
	char path[200];
	struct err err;

	cr_expect_eq(netdev_stream_connect("/nonexistent/p.socket", &none, &err), -ENOENT);
	cr_expect_not_null(strstr(err.text, "is passt running?"), "%s", err.text);
	/* "passt --socket" with that path would remove it first. */
	cr_expect_eq(netdev_stream_connect("/proc/self/exe", &none, &err), -ENOTSOCK);
	cr_expect_null(strstr(err.text, "passt"), "%s", err.text);
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	cr_expect_eq(netdev_stream_connect(path, &none, &err), -ENAMETOOLONG);
	cr_expect_null(none);
}

/* It listens, and takes nobody: that is said, not waited for. */
Test(netdev_stream, connect_to_a_busy_listener)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct netdev *first = NULL, *none = NULL;
	struct err err;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/minivm-busy-%d", (int)getpid());
	cr_assert_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(listener, 0), 0);
	cr_assert_eq(netdev_stream_connect(addr.sun_path, &first, &err), 0, "%s", err.text);
	cr_expect_eq(netdev_stream_connect(addr.sun_path, &none, &err), -EAGAIN);
	cr_expect_not_null(strstr(err.text, "takes no connections"), "%s", err.text);
	cr_expect_null(none);
	netdev_close(first);
	close(listener);
	unlink(addr.sun_path);
}
