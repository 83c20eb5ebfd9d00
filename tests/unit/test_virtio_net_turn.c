/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net: how often the back end is read for frames that come one by one, or at once; and that
 * none of them is forgotten when a turn ends before the back end has said that there is no more.
 */
#include <sys/socket.h>

#include "net_driver.h"

#define SIZE   64u   /* of the queue */
#define BUFFER 2048u /* bytes; SIZE of them are within the test's memory */

static unsigned given, taken; /* buffers, from the beginning on */

static void give(void)
{
	net_give((uint16_t)(given % SIZE), given % SIZE * BUFFER, BUFFER);
	given++;
}

static void fill_queue(void)
{
	given = taken = 0;
	for (unsigned i = 0; i < SIZE; i++)
		give();
	net_kick(RX);
}

/* The next frame is number `seed`; its buffer is given again, without a kick. */
static void expect_frame(unsigned seed)
{
	const uint8_t *p = ring_at(&nt.drv.ring, DATA + taken % SIZE * BUFFER);

	EXPECT_USED(RX, taken % SIZE, HDR + 100);
	cr_assert(net_frame_right(p + HDR, seed, 0, 100, 100), "frame %u", seed);
	taken++;
	give();
}

/* A frame that is received, and the turn that did it has ended, before the next one comes. */
static void single(unsigned seed)
{
	net_arrive(&net_plain, seed, 100);
	expect_frame(seed);
	vdriver_settle(&nt.drv);
}

/* Calls of readv() for n frames that come one by one. */
static unsigned reads_of_singles(unsigned n)
{
	unsigned before = nt.back->reads;

	for (unsigned i = 0; i < n; i++)
		single(i);
	return nt.back->reads - before;
}

NetTest(singles_are_read_by_one_call)
{
	fill_queue();
	cr_expect_eq(reads_of_singles(8), 16, "at first each turn looks for more");
	cr_expect_eq(reads_of_singles(32), 32 + 4, "later one of eight does");
}

/* A back end that knows that there is no more is not asked, from the first frame on. */
NetTest(what_the_back_end_knows_is_not_asked)
{
	fill_queue();
	nt.back->more = NETDEV_MORE_NONE;
	cr_expect_eq(reads_of_singles(16), 16);
}

/* On the loop's thread: all of them are there when it looks again. */
static void burst(void *opaque)
{
	const unsigned *n = opaque;

	for (unsigned i = 0; i < *n; i++)
		net_arrive(&net_plain, i, 100);
}

static unsigned interrupts(void)
{
	struct virtio_counters c;

	virtio_counters(nt.drv.virtio, &c);
	return (unsigned)c.interrupts;
}

static void arrive_at_once(unsigned n)
{
	loop_call(nt.drv.loop, burst, &n);
	for (unsigned i = 0; i < n; i++)
		expect_frame(i);
	vdriver_settle(&nt.drv);
}

/* Each turn with a frame interrupts once, as nothing else is asked for. */
NetTest(a_burst_is_batched_again_soon)
{
	unsigned before, reads;

	net_start((F_ALL & ~F_CTRL) & ~F_EVENT_IDX, SIZE);
	fill_queue();
	reads_of_singles(11);
	before = interrupts();
	reads = nt.back->reads;
	arrive_at_once(50);
	cr_expect_leq(interrupts() - before, 8, "%u turns", interrupts() - before);
	cr_expect_eq(nt.back->reads - reads, 51);
	/* Now it knows. */
	before = interrupts();
	arrive_at_once(50);
	cr_expect_eq(interrupts() - before, 1);
}

/* The first one's turn reads the second one ahead, in vain if the turn ended with the first. */
NetTest(what_was_read_ahead_is_not_left_behind)
{
	fill_queue();
	reads_of_singles(12);
	nt.back->more = NETDEV_MORE_HERE;
	arrive_at_once(2);
	arrive_at_once(7);
}

/* There is a buffer for the first one only: the kick fetches what nobody else tells of. */
NetTest(what_was_read_ahead_waits_for_buffers)
{
	nt.back->more = NETDEV_MORE_HERE;
	net_arrive(&net_plain, 1, 100);
	net_arrive(&net_plain, 2, 100);
	net_give(0, 0, BUFFER);
	net_kick(RX);
	EXPECT_USED(RX, 0, HDR + 100);
	net_expect_nothing_used(RX);
	net_give(1, BUFFER, BUFFER);
	net_kick(RX);
	EXPECT_USED(RX, 1, HDR + 100);
	cr_expect(
	    net_frame_right((uint8_t *)ring_at(&nt.drv.ring, DATA) + BUFFER + HDR, 2, 0, 100, 100));
}

/* After many small frames few buffers are offered for one; a large one gets as many as it takes. */
NetTest(a_large_frame_among_small_ones)
{
	uint8_t *p = ring_at(&nt.drv.ring, DATA);
	uint16_t merged;
	unsigned first;

	fill_queue();
	for (unsigned round = 0; round < 2; round++) {
		single(0);
		cr_expect_gt(nt.back->buffers, 30);
		reads_of_singles(300);
		cr_expect_leq(nt.back->buffers, 3, "the spill buffer among them");
		first = taken % SIZE;
		net_arrive(&net_plain, 9, 6500);
		for (unsigned i = 0; i < 4; i++)
			EXPECT_USED(RX, (first + i) % SIZE,
				    i < 3 ? BUFFER : HDR + 6500 - 3 * BUFFER);
		memcpy(&merged, p + first * BUFFER + 10, 2);
		cr_expect_eq(merged, 4);
		cr_assert_leq(first + 4, SIZE, "in one piece");
		cr_expect(net_frame_right(p + first * BUFFER + HDR, 9, 0, 6500, 6500));
		for (unsigned i = 0; i < 4; i++, taken++)
			give();
	}
	cr_expect_eq(net_counted().rx_dropped, 0);
}

/*
 * One buffer at a time, with room for any frame: each frame takes the last one, before the queue
 * was found empty. The driver is asked for a kick all the same, and the next frame comes.
 */
NetTest(singles_to_the_last_buffer)
{
	const uint32_t len = 70000;

	for (uint16_t i = 0; i < 20; i++) {
		net_give(i, 0, len);
		net_kick(RX);
		net_arrive(&net_plain, i, 100);
		EXPECT_USED(RX, i, HDR + 100);
		vdriver_settle(&nt.drv);
		cr_assert_eq(ring_avail_event(&nt.ring[RX]), i + 1, "frame %u", i);
	}
}

/* After singles, frames are left outside while the machine stands still: it goes on with them. */
NetTest(frames_from_before_a_pause)
{
	fill_queue();
	nt.back->more = NETDEV_MORE_NONE;
	reads_of_singles(12);
	virtio_pause(nt.drv.virtio);
	for (unsigned i = 0; i < 3; i++)
		net_arrive(&net_plain, i, 100);
	net_expect_nothing_used(RX);
	virtio_resume(nt.drv.virtio);
	for (unsigned i = 0; i < 3; i++)
		expect_frame(i);
}
