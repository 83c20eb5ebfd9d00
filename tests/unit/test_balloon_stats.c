/* SPDX-License-Identifier: Apache-2.0 */
/* A balloon that asks its driver for statistics every few milliseconds (VIRTIO 1.2 §5.5.6.3). */
#include <errno.h>
#include <unistd.h>

#include "minivm/virtio_balloon.h"
#include "vdriver.h"

#define F_STATS	  (1ull << 1)
#define STATS	  2
#define DATA	  RING_BUFFERS
#define TAG_FREE  4
#define EVERY_NS  5000000ull
#define WAIT_TURN 1000 /* us */
#define TURNS	  5000

static struct vdriver drv;
static struct virtio_balloon *balloon;
static struct ring ring[3];

static void setup(void)
{
	struct virtio_balloon_options opt = {.mem = &drv.ring.mem, .stats_ns = EVERY_NS};
	struct err err = {0};

	cr_assert_eq(loop_new(&opt.loop, &err), 0);
	cr_assert_eq(virtio_balloon_new(&opt, &balloon, &err), 0);
	vdriver_init_on(&drv, &virtio_balloon_ops, balloon, 16, opt.loop);
	cr_assert(vdriver_negotiate(&drv, F_VERSION_1 | F_EVENT_IDX | F_STATS));
	for (unsigned q = 0; q < 3; q++)
		vdriver_queue(&drv, q, 16, &ring[q]);
	vdriver_go(&drv);
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
	uint8_t *p = ring_at(&drv.ring, DATA);
	uint16_t tag = TAG_FREE;

	memcpy(p, &tag, sizeof(tag));
	memcpy(p + sizeof(tag), &free_memory, sizeof(free_memory));
	ring_set(&ring[STATS], 0, DATA, 10, 0, 0);
	ring_offer(&ring[STATS], 0);
	wr(&drv, R_QUEUE_NOTIFY, STATS);
	vdriver_settle(&drv);
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
