/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console with one port as a driver sees it. */
#include "console_driver.h"

ConsoleTest(shape)
{
	cr_assert_eq(rd(&ct.drv, R_DEVICE_ID), 3);
	cr_assert_eq(vdriver_offered(&ct.drv), ALL | F_SIZE);
	for (unsigned q = 0; q < 3; q++) {
		wr(&ct.drv, R_QUEUE_SEL, q);
		cr_assert_eq(rd(&ct.drv, R_QUEUE_NUM_MAX), q < 2 ? QUEUE_SIZE : 0);
	}
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 80 | 25 << 16);
	cr_assert_eq(virtio_mmio_io_ops.read(ct.drv.mmio, R_CONFIG + 2, 2), 25);
}

/* A size that is not known is not told, until it is. */
Test(virtio_console, no_size_yet, .fini = vc_teardown)
{
	vc_make(0, 0, 0);
	vc_start(ALL | F_SIZE, 2);
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 0);
	vc_resize(0, 0);
	cr_assert_eq(rd(&ct.drv, R_ISR), 0);
	vc_resize(80, 25);
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 80 | 25 << 16);
	cr_assert_eq(rd(&ct.drv, R_ISR), 2);
}

ConsoleTest(output)
{
	vc_start(ALL, 2);
	cr_assert_eq(ct.hosts[0].opens, 1);
	vc_print(1, 0, "hello, ");
	vc_print(1, 1, "world");
	cr_assert_eq(vc_used(1), 2);
	vc_want_got(&ct.hosts[0], "hello, world");
	/* The interrupt comes when the host side comes back, one for both. */
	cr_assert_not(vdriver_interrupt(&ct.drv, 20));
	vc_resume(0, 0);
	cr_assert(vdriver_interrupt(&ct.drv, 1000));
	cr_assert_eq(vc_counters().tx_bytes, 12);
}

ConsoleTest(output_in_pieces)
{
	uint32_t id, len;

	vc_start(ALL, 2);
	memcpy(vc_buffer_at(1, 0), "abc", 3);
	memcpy(vc_buffer_at(1, 1), "def", 3);
	ring_set(&ct.queues.ring[1], 0, vqueue_buffer(1, 0), 3, D_NEXT, 1);
	ring_set(&ct.queues.ring[1], 1, vqueue_buffer(1, 5), 0, D_NEXT, 2);
	ring_set(&ct.queues.ring[1], 2, vqueue_buffer(1, 1), 3, D_NEXT, 3);
	ring_set(&ct.queues.ring[1], 3, vqueue_buffer(1, 6), 9, D_WRITE,
		 0); /* has no business here */
	ring_offer(&ct.queues.ring[1], 0);
	vc_kick(1);
	cr_assert(ring_take(&ct.queues.ring[1], &id, &len));
	cr_assert_eq(len, 0);
	vc_want_got(&ct.hosts[0], "abcdef");
}

ConsoleTest(output_is_kept_back)
{
	vc_start(ALL, 2);
	ct.hosts[0].room = 4;
	vc_print(1, 0, "0123456789");
	vc_print(1, 1, "abc");
	cr_assert_eq(vc_used(1), 0);
	vc_want_got(&ct.hosts[0], "0123");
	vc_resume(0, 0);
	cr_assert_eq(vc_used(1), 0);
	vc_resume(0, 7);
	cr_assert_eq(vc_used(1), 1);
	vc_want_got(&ct.hosts[0], "0123456789a");
	vc_resume(0, 100);
	cr_assert_eq(vc_used(1), 1);
	vc_want_got(&ct.hosts[0], "0123456789abc");
	cr_assert_eq(vc_counters().tx_bytes, 13);
	vc_print(1, 2, "!");
	vc_want_got(&ct.hosts[0], "0123456789abc!");
}

/* The driver cuts a chain short, of which a part was taken. */
ConsoleTest(output_shrinks)
{
	vc_start(ALL, 2);
	ct.hosts[0].room = 8;
	vc_print(1, 0, "0123456789");
	ring_set(&ct.queues.ring[1], 0, vqueue_buffer(1, 0), 3, 0, 0);
	vc_resume(0, 100);
	cr_assert_eq(vc_used(1), 1);
	vc_print(1, 1, "xyz");
	vc_want_got(&ct.hosts[0], "01234567xyz");
}

/* More than a turn's worth of chains: none is left behind. */
ConsoleTest(output_many)
{
	vc_start(ALL, 2);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < QUEUE_SIZE; i++) {
			memset(vc_buffer_at(1, i), 'a' + (int)(i % 26), 100);
			vc_offer(1, i, 100, false);
		}
		vc_kick(1);
		for (unsigned done = 0, ms = 0; done < QUEUE_SIZE; done += vc_used(1), ms++) {
			cr_assert_lt(ms, 5000);
			usleep(1000);
		}
	}
	cr_assert_eq(ct.hosts[0].got_len, 20 * QUEUE_SIZE * 100);
}

ConsoleTest(input)
{
	uint32_t id, len;

	vc_start(ALL, 2);
	cr_assert_not(vc_ready(0));
	cr_assert_eq(vc_push(0, "lost?"), 0);
	vc_offer(0, 0, 4, true);
	vc_offer(0, 1, 100, true);
	vc_kick(0);
	cr_assert_eq(ct.hosts[0].rooms, 1);
	cr_assert(vc_ready(0));
	cr_assert_eq(vc_push(0, "012345"), 6);
	cr_assert(ring_take(&ct.queues.ring[0], &id, &len));
	cr_assert_eq(len, 4);
	cr_assert(ring_take(&ct.queues.ring[0], &id, &len));
	cr_assert_eq(len, 2);
	cr_assert_eq(memcmp(vc_buffer_at(0, 0), "0123", 4), 0);
	cr_assert_eq(memcmp(vc_buffer_at(0, 1), "45", 2), 0);
	cr_assert_not(vc_ready(0));
	cr_assert_eq(vc_counters().rx_bytes, 6);
}

/* Buffers without room, and such that can only be read, are given back. */
ConsoleTest(input_odd_buffers)
{
	vc_start(ALL, 2);
	vc_offer(0, 0, 0, true);
	vc_offer(0, 1, 10, false);
	vc_offer(0, 2, 3, true);
	vc_kick(0);
	cr_assert_eq(vc_push(0, "abcd"), 3);
	cr_assert_eq(vc_used(0), 3);
	cr_assert_eq(memcmp(vc_buffer_at(0, 2), "abc", 3), 0);
	vc_offer(0, 3, 10, true);
	vc_kick(0);
	cr_assert_eq(ct.hosts[0].rooms, 2);
}

ConsoleTest(size)
{
	uint32_t generation;

	vc_start(ALL | F_SIZE, 2);
	/* Said once by itself, for Linux does not look otherwise. */
	cr_assert_eq(rd(&ct.drv, R_ISR), 2);
	wr(&ct.drv, R_ISR_ACK, 2);
	generation = rd(&ct.drv, R_GENERATION);
	vc_resize(132, 43);
	cr_assert_eq(rd(&ct.drv, R_ISR), 2);
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 132 | 43 << 16);
	cr_assert_neq(rd(&ct.drv, R_GENERATION), generation);
}

ConsoleTest(size_of_a_driver_that_does_not_care)
{
	vc_start(ALL, 2);
	vc_resize(132, 43);
	cr_assert_eq(rd(&ct.drv, R_ISR), 0);
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 132 | 43 << 16);
}

ConsoleTest(reset)
{
	vc_start(ALL, 2);
	ct.hosts[0].room = 2;
	vc_print(1, 0, "abcd");
	vc_offer(0, 0, 10, true);
	wr(&ct.drv, R_STATUS, 0);
	cr_assert_eq(ct.hosts[0].closes, 1);
	cr_assert_not(vc_ready(0));
	cr_assert_eq(vc_push(0, "x"), 0);
	vc_resume(0, 100);
	vc_want_got(&ct.hosts[0], "ab");
	vc_start(ALL, 2);
	cr_assert_eq(ct.hosts[0].opens, 2);
	vc_print(1, 0, "abcd");
	vc_want_got(&ct.hosts[0], "ababcd");
}

ConsoleTest(broken_ring)
{
	vc_start(ALL, 2);
	ring_offer(&ct.queues.ring[1], QUEUE_SIZE + 3);
	vc_kick(1);
	cr_assert(rd(&ct.drv, R_STATUS) & S_NEEDS_RESET);
	vc_start(ALL, 2);
	vc_print(1, 0, "well");
	vc_want_got(&ct.hosts[0], "well");
}
