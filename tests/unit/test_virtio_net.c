/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net as a driver sees it: configuration, receiving, ends and resets. */
#include <errno.h>
#include <sys/socket.h>

#include "net_driver.h"

/* --- configuration --- */

NetTest(features_and_configuration)
{
	cr_expect_eq(rd(&nt.drv, R_DEVICE_ID), 1);
	cr_expect_eq(vdriver_offered(&nt.drv), F_ALL);
	for (unsigned i = 0; i < 6; i++)
		cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + i, 1), net_own_mac[i]);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 1, "link up");
	virtio_mmio_io_ops.write(nt.drv.mmio, R_CONFIG, 1, 0x55);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG, 1), net_own_mac[0],
		     "read-only");
	net_remake(true, 9000);
	cr_expect_eq(vdriver_offered(&nt.drv), F_ALL | F_MTU);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 10, 2), 9000);
	/* Without headers there is nobody to do the work that they ask for. */
	net_remake(false, 0);
	cr_expect_eq(vdriver_offered(&nt.drv), F_ALL & ~F_OFFLOADS);
}

NetTest(offloads_follow_the_driver)
{
	net_start(F_PLAIN | F_OFFLOADS, 64);
	cr_expect_eq(nt.back->offloads, NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN);
	net_start(F_PLAIN | F_GUEST_CSUM | F_GUEST_TSO4, 64);
	cr_expect_eq(nt.back->offloads, NETDEV_CSUM | NETDEV_TSO4);
	wr(&nt.drv, R_STATUS, 0);
	cr_expect_eq(nt.back->offloads, 0);
}

/* §5.1.3.1: the first without the second, which it requires. */
NetTest(features_that_need_others)
{
	static const struct {
		uint64_t taken, without;
	} bad[] = {
	    {F_GUEST_TSO4, F_GUEST_CSUM},
	    {F_GUEST_TSO6, F_GUEST_CSUM},
	    {F_GUEST_ECN, F_GUEST_CSUM},
	    {F_GUEST_ECN | F_GUEST_CSUM, F_GUEST_TSO4},
	    {F_HOST_TSO4, F_CSUM},
	    {F_HOST_TSO6, F_CSUM},
	    {F_HOST_ECN | F_CSUM, F_HOST_TSO4},
	    {F_CTRL_RX, F_CTRL_VQ},
	    {F_CTRL_MAC, F_CTRL_VQ},
	    {F_ANNOUNCE, F_CTRL_VQ},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect(!vdriver_negotiate(&nt.drv, F_PLAIN | bad[i].taken), "case %u", i);
		cr_expect_eq(rd(&nt.drv, R_STATUS) & S_FEATURES_OK, 0);
	}
	cr_expect(vdriver_negotiate(&nt.drv, F_PLAIN | F_GUEST_ECN | F_GUEST_TSO6 | F_GUEST_CSUM));
}

/* Nor is one offered: this back end segments without being able to fill in a checksum. */
NetTest(features_without_a_base_are_not_offered)
{
	net_teardown();
	net_make_with(true, NETDEV_TSO4 | NETDEV_TSO_ECN, 0);
	cr_expect_eq(vdriver_offered(&nt.drv), F_ALL & ~F_OFFLOADS);
}

/* --- receiving --- */

NetTest(receive)
{
	struct net_hdr hdr = {.flags = 1, .csum_start = 34, .csum_offset = 16, .num_buffers = 77};
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	net_give_many(4, 2048);
	net_arrive(&hdr, 1, 100);
	EXPECT_USED(RX, 0, HDR + 100);
	hdr.num_buffers = 1;
	cr_expect_arr_eq(p, &hdr, HDR, "the header, num_buffers ours");
	cr_expect(net_frame_right(p + HDR, 1, 0, 100, 100));
	cr_expect_eq(p[HDR + 100], 0xee, "nothing behind the frame");
	net_arrive(&net_plain, 2, 1514);
	EXPECT_USED(RX, 1, HDR + 1514);
	cr_expect(net_frame_right(p + 2048 + HDR, 2, 0, 1514, 1514));
	cr_expect_eq(net_counted().rx_frames, 2);
	cr_expect_eq(net_counted().rx_bytes, 1614);
	cr_expect_eq(vdriver_interrupt(&nt.drv, 1000), true);
}

/* Several buffers for one frame, visible at once, with their number. */
NetTest(receive_merged)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);
	uint16_t n;

	net_give_many(20, 1000);
	net_arrive(&net_plain, 3, 3500);
	for (unsigned i = 0; i < 4; i++)
		EXPECT_USED(RX, i, i < 3 ? 1000 : HDR + 3500 - 3000);
	memcpy(&n, p + 10, 2);
	cr_expect_eq(n, 4);
	cr_expect(net_frame_right(p + HDR, 3, 0, 3500, 3500));
	cr_expect_eq(p[HDR + 3500], 0xee);
	/* The buffers that were not needed serve the next one. */
	net_arrive(&net_plain, 4, 60);
	EXPECT_USED(RX, 4, HDR + 60);
}

/* Without the back end's header it is all zeroes but for num_buffers. */
NetTest(receive_without_headers)
{
	static const uint8_t want[HDR] = {[10] = 1};

	net_remake(false, 0);
	net_start(F_PLAIN, 64);
	net_give_many(2, 2048);
	net_arrive(NULL, 5, 14);
	EXPECT_USED(RX, 0, HDR + 14);
	cr_expect_arr_eq(ring_at(&nt.drv.ring, DATA), want, HDR);
	cr_expect(net_frame_right((uint8_t *)ring_at(&nt.drv.ring, DATA) + HDR, 5, 0, 14, 14));
}

/* A header cut anywhere, by descriptors of odd sizes in one chain. */
NetTest(receive_into_pieces)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	memset(p, 0xee, 4096);
	ring_set(&nt.ring[RX], 0, DATA, 3, D_WRITE | D_NEXT, 1);
	ring_set(&nt.ring[RX], 1, DATA + 3, 8, D_WRITE | D_NEXT, 2);
	ring_set(&nt.ring[RX], 2, DATA + 11, 0, D_WRITE | D_NEXT, 3);
	ring_set(&nt.ring[RX], 3, DATA + 11, 1000, D_WRITE, 0);
	ring_offer(&nt.ring[RX], 0);
	net_kick(RX);
	net_arrive(&net_plain, 6, 200);
	EXPECT_USED(RX, 0, HDR + 200);
	cr_expect(net_frame_right(p + HDR, 6, 0, 200, 200));
}

NetTest(receive_unmerged)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	net_start(F_PLAIN & ~F_MRG_RXBUF, 64);
	net_give_many(3, 1526);
	net_arrive(&net_plain, 7, 1515); /* one byte too many: no other buffer may help */
	net_arrive(&net_plain, 8, 1514);
	EXPECT_USED(RX, 0, 1526);
	cr_expect(net_frame_right(p + HDR, 8, 0, 1514, 1514));
	cr_expect_eq(p[10], 1);
	cr_expect_eq(net_counted().rx_dropped, 1);
}

/* The queue is empty: frames wait outside, and a kick fetches them. */
NetTest(no_buffers_then_some)
{
	for (unsigned i = 0; i < 5; i++)
		net_arrive(&net_plain, i, 100 + i);
	net_expect_nothing_used(RX);
	for (unsigned i = 0; i < 5; i++) {
		net_give((uint16_t)i, i * 2048, 2048);
		net_kick(RX);
		EXPECT_USED(RX, i, HDR + 100 + i);
	}
	net_expect_nothing_used(RX);
}

/* A frame for which there are too few buffers is finished when there are more. */
NetTest(a_large_frame_waits_for_buffers)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	for (unsigned i = 0; i < 3; i++)
		net_give((uint16_t)i, i * 1000, 1000);
	net_kick(RX);
	net_arrive(&net_plain, 9, 6500);
	net_arrive(&net_plain, 10, 60);
	net_expect_nothing_used(RX);
	for (unsigned i = 3; i < 6; i++)
		net_give((uint16_t)i, i * 1000, 1000);
	net_kick(RX);
	net_expect_nothing_used(RX);
	net_give(6, 6000, 1000);
	net_give(7, 7000, 1000);
	net_kick(RX);
	for (unsigned i = 0; i < 7; i++)
		EXPECT_USED(RX, i, i < 6 ? 1000 : HDR + 6500 - 6000);
	cr_expect(net_frame_right(p + HDR, 9, 0, 6500, 6500));
	EXPECT_USED(RX, 7, HDR + 60);
	cr_expect_eq(net_counted().rx_dropped, 0);
}

/* All that the ring holds is too little: it would wait for ever. */
NetTest(a_frame_larger_than_the_ring_is_dropped)
{
	net_start(F_PLAIN, 4);
	net_give_many(4, 1000);
	net_arrive(&net_plain, 11, 5000);
	net_arrive(&net_plain, 12, 60);
	EXPECT_USED(RX, 0, HDR + 60);
	cr_expect_eq(net_counted().rx_dropped, 1);
}

NetTest(useless_buffers_are_given_back)
{
	net_give(0, 0, HDR - 1);
	net_give(1, 100, HDR);
	net_give(2, 200, 2000);
	net_kick(RX);
	EXPECT_USED(RX, 0, 0);
	net_arrive(&net_plain, 13, 60);
	EXPECT_USED(RX, 1, HDR);
	EXPECT_USED(RX, 2, 60);
	/* Without merging no frame fits into 25 bytes. */
	net_start(F_PLAIN & ~F_MRG_RXBUF, 64);
	net_give(0, 0, HDR + 13);
	net_kick(RX);
	EXPECT_USED(RX, 0, 0);
}

NetTest(runts_and_giants)
{
	net_give_many(60, 2048);
	net_arrive(&net_plain, 1, 13);
	net_arrive(&net_plain, 2, NETDEV_FRAME_MAX + 1);
	net_arrive(&net_plain, 3, 14);
	EXPECT_USED(RX, 0, HDR + 14);
	cr_expect_eq(net_counted().rx_dropped, 2);
	net_arrive(&net_plain, 4, NETDEV_FRAME_MAX);
	for (unsigned i = 0; i < 500 && net_counted().rx_frames < 2; i++)
		net_settle();
	cr_expect_eq(net_counted().rx_frames, 2);
	cr_expect_eq(net_counted().rx_bytes, 14 + NETDEV_FRAME_MAX);
}

/* What the driver did not negotiate does not reach it (§5.1.6.4.1). */
NetTest(headers_that_were_not_negotiated)
{
	static const struct net_hdr bad[] = {
	    {.flags = 1, .csum_start = 14},
	    {.gso_type = 1, .gso_size = 1000},
	    {.gso_type = 4, .gso_size = 1000},
	    {.gso_type = 3, .gso_size = 1000},
	    {.gso_type = 0x80},
	};
	static const struct net_hdr valid = {.flags = 2};

	net_start(F_PLAIN, 64);
	net_give_many(4, 2048);
	for (unsigned i = 0; i < 5; i++)
		net_arrive(&bad[i], i, 100);
	net_arrive(&valid, 9, 100);
	EXPECT_USED(RX, 0, HDR + 100);
	cr_expect_eq(*(uint8_t *)ring_at(&nt.drv.ring, DATA), 0, "flags are zero");
	cr_expect_eq(net_counted().rx_dropped, 5);
}

/* What is to be segmented arrives with all that says how, and not without (§5.1.6.4.1). */
NetTest(receive_segmented)
{
	static const struct net_hdr good = {.flags = 1,
					    .gso_type = 1 | 0x80,
					    .hdr_len = 54,
					    .gso_size = 1446,
					    .csum_start = 34,
					    .csum_offset = 16,
					    .num_buffers = 1};
	static const struct net_hdr bad[] = {
	    {.gso_type = 1, .gso_size = 1446, .csum_start = 34, .csum_offset = 16},
	    {.flags = 2, .gso_type = 4, .gso_size = 1446},
	    {.flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16},
	};

	net_give_many(8, 4096);
	for (unsigned i = 0; i < 3; i++)
		net_arrive(&bad[i], i, 3000);
	net_arrive(&good, 9, 3000);
	EXPECT_USED(RX, 0, HDR + 3000);
	cr_expect_arr_eq(ring_at(&nt.drv.ring, DATA), &good, HDR);
	cr_expect_eq(net_counted().rx_dropped, 3);
}

/* NEEDS_CSUM and DATA_VALID are the back end's to say; RSC_INFO and the others are nobody's. */
NetTest(receive_flags)
{
	static const struct net_hdr all = {.flags = 0xff, .csum_start = 34, .csum_offset = 16};

	net_give_many(2, 2048);
	net_arrive(&all, 1, 100);
	EXPECT_USED(RX, 0, HDR + 100);
	cr_expect_eq(*(uint8_t *)ring_at(&nt.drv.ring, DATA), 3);
}

/* VLAN tags are not looked at: there is no filter for them to pass. */
NetTest(receive_tagged)
{
	uint8_t tagged[HDR + 64] = {[HDR + 12] = 0x81};

	net_start(F_ALL, 64);
	net_give_many(4, 2048);
	memcpy(tagged + HDR, net_own_mac, 6);
	for (unsigned vlan = 0; vlan < 4; vlan++) {
		tagged[HDR + 15] = (uint8_t)(vlan * 60);
		cr_assert_eq(send(nt.peer, tagged, sizeof(tagged), 0), (ssize_t)sizeof(tagged));
		EXPECT_USED(RX, vlan, HDR + 64);
	}
}

/* Descriptors of one chain may cover the same memory many times over: almost 4 GiB of it. */
static void give_huge_chain(uint16_t head, uint32_t total)
{
	const uint32_t addr = 0x800000, each = 17u << 20;
	unsigned n = 0;

	for (; total > 0; n++) {
		uint32_t len = total < each ? total : each;

		ring_desc_at(&nt.drv.ring, RING_TABLES, n, addr, len,
			     D_WRITE | (total > each ? D_NEXT : 0), (uint16_t)(n + 1));
		total -= len;
	}
	ring_set(&nt.ring[RX], head, RING_TABLES, n * 16, D_INDIRECT, 0);
	ring_offer(&nt.ring[RX], head);
}

/*
 * Lengths of buffers that add up to a little more than 32 bits: the room in them is still large,
 * and a frame is delivered as it is, without anything of the host's beside it.
 */
NetTest(buffers_of_many_gigabytes)
{
	const uint32_t ram = 32u << 20;
	uint8_t *p;

	net_remake(false, 0);
	ring_fini(&nt.drv.ring);
	nt.drv.ring.mem.region[0].host =
	    mmap(NULL, ram, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	nt.drv.ring.mem.region[0].len = ram;
	net_start(F_PLAIN, 64);
	net_give(0, 0, 100);
	give_huge_chain(1, UINT32_MAX - 100 + 1 + 5);
	net_kick(RX);
	net_arrive(NULL, 7, 60);
	EXPECT_USED(RX, 0, HDR + 60);
	p = ring_at(&nt.drv.ring, DATA);
	cr_expect(net_frame_right(p + HDR, 7, 0, 60, 60));
	cr_expect_eq(p[HDR + 60], 0xee);
	net_arrive(NULL, 8, 60);
	EXPECT_USED(RX, 1, HDR + 60);
}

#define MANY 1000

/* More frames than one turn moves, while the queue is refilled. */
NetTest(many_frames)
{
	unsigned seen = 0, given = 0;

	for (unsigned sent = 0; seen < MANY;) {
		uint32_t id, len;
		struct net_hdr hdr = net_plain;
		uint8_t packet[HDR + 100];

		while (given < seen + 60) {
			net_give((uint16_t)(given % 64), given % 64 * 2048, 2048);
			given++;
		}
		wr(&nt.drv, R_QUEUE_NOTIFY, RX);
		for (unsigned i = 0; i < 100 && sent < MANY; i++, sent++) {
			memcpy(packet, &hdr, HDR);
			net_fill(packet + HDR, sent, 100);
			if (send(nt.peer, packet, sizeof(packet), MSG_DONTWAIT) < 0)
				break;
		}
		while (seen < sent && seen < given && net_used(RX, &id, &len)) {
			const uint8_t *p = ring_at(&nt.drv.ring, DATA + seen % 64 * 2048);

			cr_assert_eq(id, seen % 64);
			cr_assert(net_frame_right(p + HDR, seen, 0, 100, 100), "frame %u", seen);
			seen++;
		}
	}
	cr_expect_eq(net_counted().rx_frames, MANY);
}

/* §5.1.4.1 */
NetTest(no_more_than_the_mtu)
{
	static const struct net_hdr segmented = {
	    .flags = 1, .gso_type = 1, .gso_size = 1446, .csum_start = 34, .csum_offset = 16};
	uint8_t tagged[HDR + 1518] = {[HDR + 12] = 0x81};

	net_remake(true, 1500);
	net_start(((F_ALL | F_MTU) & ~F_CTRL), 64);
	net_give_many(8, 2048);
	net_arrive(&net_plain, 1, 1515);
	net_arrive(&net_plain, 2, 1514);
	EXPECT_USED(RX, 0, HDR + 1514);
	cr_assert_eq(send(nt.peer, tagged, sizeof(tagged), 0), (ssize_t)sizeof(tagged));
	EXPECT_USED(RX, 1, HDR + 1518);
	net_arrive(&segmented, 3, 3000);
	EXPECT_USED(RX, 2, 2048);
	EXPECT_USED(RX, 3, HDR + 3000 - 2048);
	cr_expect_eq(net_counted().rx_dropped, 1);
	/* A driver that did not take the feature gets everything. */
	net_start((F_ALL & ~F_CTRL), 64);
	net_give_many(8, 2048);
	net_arrive(&net_plain, 1, 1515);
	EXPECT_USED(RX, 0, HDR + 1515);
}

/* --- the end of the back end --- */

NetTest(the_link_goes_down)
{
	net_give_many(4, 2048);
	close(nt.peer);
	nt.peer = -1;
	cr_expect(net_link_becomes(0));
	vdriver_settle(&nt.drv);
	cr_expect_eq(rd(&nt.drv, R_ISR) & 2, 2, "the driver is told");
	for (unsigned i = 0; i < 3; i++) {
		net_put_frame((uint16_t)i, &net_plain, i, 100);
		net_kick(TX);
		EXPECT_USED(TX, i, 0);
	}
	cr_expect_eq(net_counted().tx_dropped, 3);
	net_start(F_PLAIN, 64);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 0,
		     "nor does a reset help");
}

/* Nothing is waited for, neither frames nor room for one: the end is noticed all the same. */
NetTest(the_link_goes_down_without_buffers)
{
	close(nt.peer);
	nt.peer = -1;
	cr_expect(net_link_becomes(0));
	vdriver_settle(&nt.drv);
	cr_expect_eq(rd(&nt.drv, R_ISR) & 2, 2, "the driver is told");
}

NetTest(the_link_goes_down_without_a_driver)
{
	wr(&nt.drv, R_STATUS, 0);
	close(nt.peer);
	nt.peer = -1;
	cr_expect(net_link_becomes(0));
	cr_expect_eq(rd(&nt.drv, R_ISR), 0);
}

NetTest(the_link_goes_down_during_a_pause)
{
	net_give_many(4, 2048);
	virtio_pause(nt.drv.virtio);
	close(nt.peer);
	nt.peer = -1;
	cr_expect(net_link_becomes(0));
	virtio_resume(nt.drv.virtio);
	net_put_frame(0, &net_plain, 0, 100);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
	cr_expect_eq(net_counted().tx_dropped, 1);
}

/* A frame was held: the queue goes on all the same. */
NetTest(the_link_goes_down_under_a_held_frame)
{
	nt.back->fail = -EAGAIN;
	net_put_frame(0, &net_plain, 0, 100);
	net_put_frame(1, &net_plain, 1, 100);
	net_kick(TX);
	nt.back->gone = true;
	EXPECT_USED(TX, 0, 0);
	EXPECT_USED(TX, 1, 0);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 0);
}

/* --- resets --- */

NetTest(reset_forgets_buffers)
{
	net_give_many(4, 2048);
	wr(&nt.drv, R_STATUS, 0);
	net_arrive(&net_plain, 1, 100);
	net_settle();
	for (unsigned i = 0; i < 4 * 2048; i++)
		cr_assert_eq(*(uint8_t *)ring_at(&nt.drv.ring, DATA + i), 0xee);
	net_start(F_PLAIN, 64);
	net_give_many(1, 2048);
	EXPECT_USED(RX, 0, HDR + 100);
}

/* §4.2.2.2: a queue that was taken away is not written to any more. */
NetTest(a_queue_taken_away)
{
	net_give_many(4, 2048);
	wr(&nt.drv, R_QUEUE_SEL, RX);
	wr(&nt.drv, R_QUEUE_READY, 0);
	net_arrive(&net_plain, 1, 100);
	net_settle();
	for (unsigned i = 0; i < 4 * 2048; i++)
		cr_assert_eq(*(uint8_t *)ring_at(&nt.drv.ring, DATA + i), 0xee);
	net_put_frame(0, &net_plain, 2, 100);
	net_kick(TX);
	EXPECT_USED(TX, 0, 0);
}

NetTest(a_broken_receive_queue_needs_a_reset)
{
	net_give_many(2, 2048);
	__atomic_store_n(ring_u16(&nt.ring[RX], RING_AVAIL + 2), 999, __ATOMIC_RELEASE);
	net_kick(RX);
	net_arrive(&net_plain, 1, 100);
	net_settle();
	cr_expect(rd(&nt.drv, R_STATUS) & S_NEEDS_RESET);
	net_start(F_PLAIN, 64);
	net_give_many(1, 2048);
	EXPECT_USED(RX, 0, HDR + 100);
}
