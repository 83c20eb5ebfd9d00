/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net paused, saved and restored. */
#include <errno.h>
#include <sys/socket.h>

#include "net_driver.h"
#include "state_rig.h"

/* The driver's buffers go back into the ring, and serve again afterwards. */
NetTest(pause_and_resume)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);

	net_give_many(4, 2048);
	net_arrive(&net_plain, 1, 60);
	EXPECT_USED(RX, 0, HDR + 60);
	virtio_pause(nt.drv.virtio);
	net_arrive(&net_plain, 2, 100);
	net_put_frame(0, &net_plain, 3, 100);
	net_kick(TX);
	net_expect_nothing_used(RX);
	net_expect_nothing_used(TX);
	for (unsigned i = 2048; i < 4 * 2048; i++)
		cr_assert_eq(p[i], 0xee);
	virtio_resume(nt.drv.virtio);
	EXPECT_USED(RX, 1, HDR + 100);
	EXPECT_USED(TX, 0, 0);
	cr_expect_eq(net_depart(), HDR + 100);
	cr_expect_eq(net_counted().rx_dropped, 0);
}

/* A held frame is sent after the pause, once. */
NetTest(pause_with_a_held_frame)
{
	nt.back->fail = -EAGAIN;
	net_put_frame(0, &net_plain, 1, 100);
	net_put_frame(1, &net_plain, 2, 200);
	net_kick(TX);
	virtio_pause(nt.drv.virtio);
	nt.back->fail = 0;
	net_expect_nothing_used(TX);
	virtio_resume(nt.drv.virtio);
	EXPECT_USED(TX, 0, 0);
	EXPECT_USED(TX, 1, 0);
	cr_expect_eq(net_depart(), HDR + 100);
	cr_expect_eq(net_depart(), HDR + 200);
	cr_expect_eq(net_depart_now(), -1);
}

/* A malformed chain was completed between others: those before it come back empty, once each. */
NetTest(pause_with_a_gap)
{
	net_give(0, 0, 2048);
	ring_set(&nt.ring[RX], 1, 0xffffffff0000, 2048, D_WRITE, 0);
	ring_offer(&nt.ring[RX], 1);
	net_give(2, 4096, 2048);
	net_kick(RX);
	EXPECT_USED(RX, 1, 0);
	virtio_pause(nt.drv.virtio);
	EXPECT_USED(RX, 0, 0);
	virtio_resume(nt.drv.virtio);
	net_arrive(&net_plain, 1, 60);
	EXPECT_USED(RX, 2, HDR + 60);
	net_expect_nothing_used(RX);
}

NetTest(save_and_restore)
{
	struct vdriver from = {0};
	struct state_writer w;
	struct err err = {0};
	uint8_t on = 1;
	int from_peer;

	net_start(F_ALL, 64);
	cr_assert_eq(net_command(1, 1, net_other, 6), 0);
	cr_assert_eq(net_command(0, 1, &on, 1), 0);
	net_give_many(4, 2048);
	vdriver_save(&nt.drv, &w);
	/* The first device lives on, paused, while a second one takes its place. */
	from = nt.drv;
	from_peer = nt.peer;
	net_make(true, 0);
	cr_assert_eq(vdriver_restore(&from, &w, &nt.drv, &err), 0, "%s", err.text);
	for (unsigned q = 0; q < 3; q++) {
		nt.ring[q].mem = nt.drv.ring.mem;
		nt.ring[q].mem.region[0].host += q * VDRIVER_RING_STRIDE;
	}
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 5, 1), 5,
		     "the driver's address");
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 3, "announce yourself");
	cr_expect_eq(nt.back->offloads, NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN);
	cr_expect_eq(net_command(3, 0, NULL, 0), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 1);
	{
		uint8_t packet[HDR + 60] = {0};

		memcpy(packet + HDR, net_multicast, 6);
		cr_assert_eq(send(nt.peer, packet, sizeof(packet), 0), (ssize_t)sizeof(packet));
	}
	EXPECT_USED(RX, 0, HDR + 60);
	vdriver_fini(&from);
	close(from_peer);
	expect_truncations_refused(&virtio_mmio_io_ops, nt.drv.mmio, &w);
	state_writer_free(&w);
}

/*
 * Saved with its link down, restored with one that is up: the driver is told, also one that has no
 * control queue and so announces nothing.
 */
NetTest(a_link_that_is_up_again)
{
	struct vdriver from;
	struct state_writer w;
	struct err err = {0};

	net_start(F_PLAIN, 64);
	net_give_many(4, 2048);
	close(nt.peer);
	cr_assert(net_link_becomes(0));
	wr(&nt.drv, R_ISR_ACK, 3);
	vdriver_save(&nt.drv, &w);
	from = nt.drv;
	net_make(true, 0);
	cr_assert_eq(vdriver_restore(&from, &w, &nt.drv, &err), 0, "%s", err.text);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 6, 2), 1, "up");
	cr_expect_eq(rd(&nt.drv, R_ISR) & 2, 2, "and the driver is told");
	vdriver_fini(&from);
	state_writer_free(&w);
}

/* From a tap to a stream: its guest leaves work to it that nobody does there. */
NetTest(another_kind_is_refused)
{
	struct vdriver from;
	struct state_writer w;
	struct err err = {0};
	int from_peer = nt.peer;

	vdriver_save(&nt.drv, &w);
	from = nt.drv;
	net_make(false, 0);
	cr_expect_eq(vdriver_restore(&from, &w, &nt.drv, &err), -ENOTSUP);
	cr_expect_not_null(strstr(err.text, "of another kind than it was"), "%s", err.text);
	vdriver_fini(&from);
	close(from_peer);
	state_writer_free(&w);
}

Test(virtio_net, another_mtu_is_refused)
{
	struct vdriver from;
	struct state_writer w;
	struct err err = {0};
	int from_peer;

	net_make(true, 1500);
	net_start(F_PLAIN, 64);
	vdriver_save(&nt.drv, &w);
	from = nt.drv;
	from_peer = nt.peer;
	net_make(true, 9000);
	cr_expect_eq(vdriver_restore(&from, &w, &nt.drv, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "MTU of 1500"), "%s", err.text);
	vdriver_fini(&from);
	vdriver_fini(&nt.drv);
	close(from_peer);
	close(nt.peer);
	state_writer_free(&w);
}
