/* SPDX-License-Identifier: Apache-2.0 */
/* A balloon that asks its driver for statistics every few milliseconds (VIRTIO 1.2 §5.5.6.3). */
#include <errno.h>
#include <unistd.h>

#include "balloon_driver.h"

#define TAG_FREE  4
#define EVERY_NS  5000000ull
#define WAIT_TURN 1000 /* us */
#define TURNS	  5000

static void setup(void)
{
	make(0, EVERY_NS);
	start(F_VERSION_1 | F_EVENT_IDX | F_STATS);
}

static void teardown(void)
{
	vdriver_fini(&drv);
}

static uint64_t updates(void)
{
	struct virtio_balloon_counters c;

	virtio_balloon_counters(balloon, &c);
	return c.stats_updates;
}

/* The driver's buffer, with so much free memory in it. */
static void tell(uint64_t free_memory)
{
	put_stat(0, TAG_FREE, free_memory);
	tell_stats(1);
}

static bool asked(void)
{
	uint32_t id, len;

	for (unsigned i = 0; i < TURNS; i++) {
		if (ring_take(&ring[STATS], &id, &len))
			return id == 0 && len == 0;
		usleep(WAIT_TURN);
	}
	return false;
}

Test(balloon_stats, asked_for_again_and_again, .init = setup, .fini = teardown)
{
	struct virtio_balloon_counters c;

	for (unsigned i = 1; i <= 5; i++) {
		tell(i * 1000);
		virtio_balloon_counters(balloon, &c);
		cr_expect_eq(c.free_memory, i * 1000);
		cr_expect_eq(c.stats_updates, i);
		cr_assert(asked(), "time %u", i);
	}
	/* A driver that does not answer is not asked again, and answers when it likes. */
	usleep(5 * EVERY_NS / 1000);
	vdriver_settle(&drv);
	cr_expect_eq(updates(), 5);
	tell(7);
	cr_expect_eq(updates(), 6);
}

static void pause_device(void *opaque)
{
	virtio_balloon_ops.pause(opaque);
}

static void resume_device(void *opaque)
{
	virtio_balloon_ops.resume(opaque);
}

Test(balloon_stats, not_while_paused, .init = setup, .fini = teardown)
{
	uint16_t used;

	tell(1);
	loop_call(drv.loop, pause_device, balloon);
	used = ring_used_idx(&ring[STATS]);
	usleep(5 * EVERY_NS / 1000);
	cr_expect_eq(ring_used_idx(&ring[STATS]), used);
	loop_call(drv.loop, resume_device, balloon);
	cr_expect(asked());
}

/* Neither after a reset. */
Test(balloon_stats, not_after_a_reset, .init = setup, .fini = teardown)
{
	uint16_t used;

	tell(1);
	wr(&drv, R_STATUS, 0);
	vdriver_settle(&drv);
	used = ring_used_idx(&ring[STATS]);
	usleep(5 * EVERY_NS / 1000);
	cr_expect_eq(ring_used_idx(&ring[STATS]), used);
}

/* The next time is so long after the change. */
Test(balloon_stats, another_interval, .init = setup, .fini = teardown)
{
	const uint64_t hour = VIRTIO_BALLOON_STATS_MAX_NS;
	uint16_t used;

	tell(1);
	cr_assert_eq(virtio_balloon_set_stats(balloon, hour), 0);
	used = ring_used_idx(&ring[STATS]);
	usleep(5 * EVERY_NS / 1000);
	cr_expect_eq(ring_used_idx(&ring[STATS]), used);
	cr_expect_eq(virtio_balloon_set_stats(balloon, 0), -EINVAL, "never is another machine");
	cr_expect_eq(virtio_balloon_set_stats(balloon, hour + 1), -EINVAL);
	cr_assert_eq(virtio_balloon_set_stats(balloon, EVERY_NS), 0);
	if (ring_used_idx(&ring[STATS]) == used)
		cr_expect(asked());
}
