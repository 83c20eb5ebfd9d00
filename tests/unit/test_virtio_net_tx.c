/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net as a driver sees it: sending. */
#include <errno.h>

#include "net_driver.h"

NetTest(send)
{
	struct net_hdr want = {.flags = 1, .csum_start = 34, .csum_offset = 16};
	struct net_hdr hdr = want;

	hdr.flags |= 6; /* which no driver may set, and no device need know */
	hdr.hdr_len = 9;
	hdr.gso_size = 99;
	hdr.num_buffers = 0x1234;
	net_put_frame(0, &hdr, 1, 200);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(net_depart(), HDR + 200);
	cr_expect_arr_eq(net_departed, &want, HDR, "what is not asked for is not passed on");
	cr_expect(net_frame_right(net_departed + HDR, 1, 0, 200, 200));
	cr_expect_eq(net_counted().tx_frames, 1);
	cr_expect_eq(net_counted().tx_bytes, 200);
}

/* Without NEEDS_CSUM there is no checksum to speak of, nor one that could be believed. */
NetTest(send_without_needs_csum)
{
	static const struct net_hdr hdr = {
	    .flags = 0xfe, .csum_start = 65535, .csum_offset = 65535, .hdr_len = 65535};

	net_put_frame(0, &hdr, 1, 200);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(net_depart(), HDR + 200);
	cr_expect_arr_eq(net_departed, &net_plain, HDR);
}

NetTest(send_from_pieces)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	memset(p, 0, HDR);
	net_fill(p + HDR, 2, 500);
	ring_set(&nt.ring[TX], 0, DATA, 5, D_NEXT, 1);
	ring_set(&nt.ring[TX], 1, DATA + 5, 0, D_NEXT, 2);
	ring_set(&nt.ring[TX], 2, DATA + 5, 10, D_NEXT, 3);
	ring_set(&nt.ring[TX], 3, DATA + 15, HDR + 500 - 15, 0, 0);
	ring_offer(&nt.ring[TX], 0);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_assert_eq(net_depart(), HDR + 500);
	cr_expect(net_frame_right(net_departed + HDR, 2, 0, 500, 500));
}

NetTest(send_segmented)
{
	struct net_hdr hdr = {.flags = 1,
			      .gso_type = 1 | 0x80,
			      .hdr_len = 54,
			      .gso_size = 1448,
			      .csum_start = 34,
			      .csum_offset = 16};

	/* How long its headers are is a hint, be it a poor one. */
	for (unsigned hdr_len = 0; hdr_len < 60; hdr_len += 27) {
		hdr.hdr_len = (uint16_t)hdr_len;
		net_put_frame(0, &hdr, 3, NETDEV_FRAME_MAX);
		net_kick(TX);
		EXPECT_USED(TX, 0, 0);
		cr_assert_eq(net_depart(), HDR + NETDEV_FRAME_MAX);
		cr_expect_arr_eq(net_departed, &hdr, HDR);
	}
}

/* §5.1.4.1: with an MTU, what is as large as that goes out in one piece. */
NetTest(send_as_large_as_the_mtu)
{
	static const uint16_t mtus[] = {68, 1500, NETDEV_MTU_MAX};

	for (unsigned i = 0; i < 3; i++) {
		net_remake(true, mtus[i]);
		net_start(F_PLAIN | F_MTU, 64);
		net_put_frame(0, &net_plain, 4, 14u + mtus[i]);
		net_kick(TX);
		EXPECT_USED(TX, 0, 0);
		cr_assert_eq(net_depart(), HDR + 14 + mtus[i]);
		cr_expect(net_frame_right(net_departed + HDR, 4, 0, 14u + mtus[i], 14u + mtus[i]));
	}
}

/* None of these may reach the host's network stack. */
NetTest(send_malformed_headers)
{
	static const struct net_hdr bad[] = {
	    {.flags = 1, .csum_start = 13, .csum_offset = 0},  /* in the Ethernet header */
	    {.flags = 1, .csum_start = 34, .csum_offset = 65}, /* one byte beyond the end */
	    {.flags = 1, .csum_start = 65535, .csum_offset = 65535},
	    {.flags = 1, .csum_start = 99, .csum_offset = 0},
	    {.flags = 1, .csum_start = 50000, .csum_offset = 15538}, /* 16-bit sums would wrap */
	    {.gso_type = 1, .gso_size = 1000, .hdr_len = 54},	     /* no checksum to fill in */
	    {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .hdr_len = 54},
	    {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 1, .hdr_len = 101},
	    {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 1, .hdr_len = 65535},
	    {.flags = 1, .csum_start = 34, .gso_type = 2, .gso_size = 1},
	    {.flags = 1, .csum_start = 34, .gso_type = 3, .gso_size = 1}, /* UFO: not offered */
	    {.flags = 1, .csum_start = 34, .gso_type = 5, .gso_size = 1}, /* USO: the same */
	    {.flags = 1, .csum_start = 34, .gso_type = 0x7f, .gso_size = 1},
	    {.flags = 1, .csum_start = 34, .gso_type = 0x80, .gso_size = 1}, /* ECN of nothing */
	    {.flags = 1, .csum_start = 34, .gso_type = 0xff, .gso_size = 1},
	};
	unsigned n = sizeof(bad) / sizeof(bad[0]);

	for (unsigned i = 0; i < n; i++) {
		net_put_frame(0, &bad[i], i, 100);
		net_kick(TX);
		EXPECT_USED(TX, 0, 0);
	}
	cr_expect_eq(net_counted().tx_malformed, n);
	net_put_frame(0, &net_plain, 77, 100);
	net_kick(TX);
	cr_assert_eq(net_depart(), HDR + 100, "the good one is the first that comes out");
	cr_expect(net_frame_right(net_departed + HDR, 77, 0, 100, 100));
}

NetTest(send_headers_that_were_not_negotiated)
{
	static const struct {
		uint64_t without;
		struct net_hdr hdr;
	} bad[] = {
	    {F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN, {.flags = 1, .csum_start = 34}},
	    {F_HOST_TSO4, {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 9}},
	    {F_HOST_TSO6, {.flags = 1, .csum_start = 34, .gso_type = 4, .gso_size = 9}},
	    {F_HOST_ECN, {.flags = 1, .csum_start = 34, .gso_type = 0x81, .gso_size = 9}},
	};

	for (unsigned i = 0; i < 4; i++) {
		net_start((F_ALL & ~F_CTRL) & ~bad[i].without, 64);
		net_put_frame(0, &bad[i].hdr, i, 100);
		net_kick(TX);
		EXPECT_USED(TX, 0, 0);
		cr_expect_eq(net_counted().tx_malformed, i + 1, "case %u", i);
	}
}

NetTest(send_wrong_lengths)
{
	static const uint32_t lens[] = {0, 1, HDR - 1, HDR, HDR + 13, HDR + NETDEV_FRAME_MAX + 1};

	memset(ring_at(&nt.drv.ring, DATA), 0, 2 * HDR + 70000);
	for (unsigned i = 0; i < 6; i++) {
		ring_set(&nt.ring[TX], 0, DATA, lens[i], 0, 0);
		ring_offer(&nt.ring[TX], 0);
		net_kick(TX);
		EXPECT_USED(TX, 0, 0);
	}
	cr_expect_eq(net_counted().tx_malformed, 6);
	cr_expect_eq(net_depart_now(), -1);
}

#define SLOW_FRAMES 400

/* The peer does not read: the frame is held, the queue stands still, and nothing is lost. */
NetTest(send_to_a_slow_reader)
{
	unsigned sent = 0, got = 0, held = 0;

	for (unsigned round = 0; round < 2000; round++) {
		uint32_t id, len;

		while (sent - nt.ring[TX].used_seen < 8 && sent < SLOW_FRAMES) {
			net_put_frame((uint16_t)(sent % 8), &net_plain, sent, 2000);
			sent++;
		}
		net_kick(TX);
		if (sent == SLOW_FRAMES && ring_used_idx(&nt.ring[TX]) == SLOW_FRAMES)
			break;
		if (ring_used_idx(&nt.ring[TX]) == nt.ring[TX].used_seen) {
			held++;
			for (unsigned i = 0; i < 40 && net_depart_now() > 0; i++, got++)
				cr_assert(net_frame_right(net_departed + HDR, got, 0, 2000, 2000));
			vdriver_settle(&nt.drv);
		}
		while (ring_take(&nt.ring[TX], &id, &len))
			;
	}
	while (got < SLOW_FRAMES && net_depart() > 0) {
		cr_assert(net_frame_right(net_departed + HDR, got, 0, 2000, 2000), "frame %u", got);
		got++;
	}
	cr_expect_gt(held, 1);
	cr_expect_eq(got, SLOW_FRAMES);
	cr_expect_eq(net_counted().tx_frames, SLOW_FRAMES);
	cr_expect_eq(net_counted().tx_dropped, 0);
}

NetTest(host_errors_lose_a_frame)
{
	nt.back->fail = -EIO;
	net_put_frame(0, &net_plain, 1, 100);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_expect_eq(net_counted().tx_dropped, 1);
	nt.back->fail = 0;
	net_put_frame(0, &net_plain, 2, 100);
	net_kick(TX);
	cr_expect_eq(net_depart(), HDR + 100);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 1, "the link is up");
}
