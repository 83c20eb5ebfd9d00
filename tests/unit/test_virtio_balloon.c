/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon as a driver sees it: what is given up is zeroes, and not in memory any more. */
#include <errno.h>
#include <sys/mman.h>

#include "balloon_driver.h"
#include "minivm/clock.h"
#include "state_rig.h"

#define F_OOM	    (1ull << 2)
#define F_REPORTING (1ull << 5)
#define F_ALL	    (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX | F_STATS | F_OOM | F_REPORTING)

#define INFLATE 0
#define DEFLATE 1
#define REPORT	3

#define PAGE	   4096u
#define PAGES	   0x200000u /* what is given up */
#define PAGES_PFN  (PAGES / PAGE)
#define PAGES_MANY 64u
#define TARGET	   (1u << 20)

static void make_with_pages(uint64_t target, uint64_t stats_ns)
{
	make(target, stats_ns);
	memset(ring_at(&drv.ring, PAGES), 0x5a, PAGES_MANY * PAGE);
}

static void setup(void)
{
	make_with_pages(TARGET, 0);
	start(F_ALL);
}

static void teardown(void)
{
	vdriver_fini(&drv);
}

#define BalloonTest(name) Test(virtio_balloon, name, .init = setup, .fini = teardown)

static struct virtio_balloon_counters counted(void)
{
	struct virtio_balloon_counters c;

	virtio_balloon_counters(balloon, &c);
	return c;
}

static void expect_used(unsigned q)
{
	uint32_t id, len;

	cr_assert(ring_take(&ring[q], &id, &len));
	cr_expect_eq(id, 0);
	cr_expect_eq(len, 0);
}

/* n page numbers in one buffer of the queue. */
static void send_pfns(unsigned q, const uint32_t *pfn, uint32_t bytes)
{
	memcpy(ring_at(&drv.ring, DATA), pfn, bytes);
	ring_set(&ring[q], 0, DATA, bytes, 0, 0);
	ring_offer(&ring[q], 0);
	kick(q);
	expect_used(q);
}

static bool resident(unsigned page)
{
	unsigned char vec = 0;

	cr_assert_eq(mincore(ring_at(&drv.ring, PAGES + page * PAGE), PAGE, &vec), 0);
	return vec & 1;
}

static unsigned first_byte(unsigned page)
{
	return *(uint8_t *)ring_at(&drv.ring, PAGES + page * PAGE);
}

BalloonTest(features_and_configuration)
{
	cr_expect_eq(rd(&drv, R_DEVICE_ID), 5);
	cr_expect_eq(vdriver_offered(&drv), F_ALL);
	cr_expect_eq(rd(&drv, R_CONFIG), TARGET / PAGE, "num_pages");
	cr_expect_eq(rd(&drv, R_CONFIG + 4), 0, "actual");
	wr(&drv, R_CONFIG, 1234);
	cr_expect_eq(rd(&drv, R_CONFIG), TARGET / PAGE, "the target is not the driver's");
	wr(&drv, R_CONFIG + 4, 77);
	cr_expect_eq(rd(&drv, R_CONFIG + 4), 77);
	cr_expect_eq(counted().actual, 77 * PAGE);
	virtio_mmio_io_ops.write(drv.mmio, R_CONFIG + 4, 1, 0);
	cr_expect_eq(rd(&drv, R_CONFIG + 4), 77, "as a whole or not at all");
	wr(&drv, R_STATUS, 0);
	cr_expect_eq(rd(&drv, R_CONFIG + 4), 0, "none after a reset");
}

BalloonTest(inflate)
{
	/* Rising, falling, alone, twice the same; each other page stays. */
	static const uint32_t pfn[] = {
	    PAGES_PFN + 2, PAGES_PFN + 3,  PAGES_PFN + 4,  PAGES_PFN + 10,
	    PAGES_PFN + 9, PAGES_PFN + 20, PAGES_PFN + 20, PAGES_PFN + 63,
	};
	static const uint8_t gone[PAGES_MANY] = {
	    [2] = 1, [3] = 1, [4] = 1, [9] = 1, [10] = 1, [20] = 1, [63] = 1};

	send_pfns(INFLATE, pfn, sizeof(pfn));
	for (unsigned i = 0; i < PAGES_MANY; i++)
		cr_expect_eq(resident(i), !gone[i], "page %u", i);
	for (unsigned i = 0; i < PAGES_MANY; i++)
		cr_expect_eq(first_byte(i), gone[i] ? 0 : 0x5a, "page %u", i);
	cr_expect_eq(counted().inflated, 8);
	cr_expect_eq(counted().refused_pages, 0);
}

BalloonTest(pages_that_are_not_there)
{
	static const uint32_t pfn[] = {0xffffffff, RING_RAM / PAGE,	0x100000,
				       0xc0001,	   RING_RAM / PAGE - 1, 0x80000000};

	send_pfns(INFLATE, pfn, sizeof(pfn));
	cr_expect_eq(counted().refused_pages, 5);
	cr_expect_eq(counted().inflated, 1);
}

/* A list that ends inside a number, or is none; then more numbers than we look at. */
BalloonTest(odd_lists)
{
	static uint32_t many[8192];
	static const uint32_t pfn[] = {PAGES_PFN, PAGES_PFN + 1};

	send_pfns(INFLATE, pfn, 7);
	cr_expect_eq(counted().inflated, 1);
	cr_expect(resident(1));
	send_pfns(INFLATE, pfn, 3);
	send_pfns(INFLATE, pfn, 0);
	cr_expect_eq(counted().inflated, 1);
	for (unsigned i = 0; i < 8192; i++)
		many[i] = PAGES_PFN + i % PAGES_MANY;
	send_pfns(INFLATE, many, sizeof(many));
	cr_expect_eq(counted().inflated, 1 + 4096);
}

BalloonTest(deflate)
{
	static const uint32_t pfn[] = {PAGES_PFN, PAGES_PFN + 1};

	send_pfns(DEFLATE, pfn, sizeof(pfn));
	cr_expect_eq(counted().deflated, 2);
	cr_expect(resident(0), "nothing happens to the pages");
	cr_expect_eq(first_byte(0), 0x5a);
}

/* A queue full of lists of scattered pages is not one turn of the loop, which others share. */
BalloonTest(a_turn_is_bounded)
{
	uint32_t *pfn = ring_at(&drv.ring, DATA);
	struct virtio_counters before, after;
	uint32_t id, len;

	for (unsigned i = 0; i < 4096; i++)
		pfn[i] = PAGES_PFN + i % 2 * 2;
	for (uint16_t i = 0; i < 16; i++) {
		ring_set(&ring[INFLATE], i, DATA, 4096 * sizeof(*pfn), 0, 0);
		ring_offer(&ring[INFLATE], i);
	}
	virtio_counters(drv.virtio, &before);
	wr(&drv, R_QUEUE_NOTIFY, INFLATE);
	for (unsigned i = 0; i < 5000 && ring_used_idx(&ring[INFLATE]) != 16; i++)
		usleep(1000);
	for (uint16_t i = 0; i < 16; i++)
		cr_assert(ring_take(&ring[INFLATE], &id, &len));
	virtio_counters(drv.virtio, &after);
	cr_expect_geq(after.kicks - before.kicks, 16, "a turn each");
	cr_expect_eq(counted().inflated, 16 * 4096);
}

/* --- reports --- */

static void send_report(unsigned q, uint32_t at, uint32_t len)
{
	ring_set(&ring[q], 0, at, len, D_WRITE, 0);
	ring_offer(&ring[q], 0);
	kick(q);
	expect_used(q);
}

BalloonTest(reports)
{
	send_report(REPORT, PAGES + 8 * PAGE, 16 * PAGE);
	for (unsigned i = 0; i < PAGES_MANY; i++)
		cr_expect_eq(resident(i), i < 8 || i >= 24, "page %u", i);
	/* Whole pages only. */
	send_report(REPORT, PAGES + 1, 2 * PAGE);
	cr_expect(resident(0));
	cr_expect(!resident(1));
	cr_expect(resident(2));
	send_report(REPORT, PAGES + 5 * PAGE, PAGE - 1);
	cr_expect(resident(5));
	cr_expect_eq(counted().reported, 18 * PAGE + PAGE - 1);
}

/* The queue of the specification's text, and Linux's without statistics. */
BalloonTest(report_queues)
{
	send_report(4, PAGES, PAGE);
	cr_expect(!resident(0));
	start(F_ALL & ~F_STATS);
	send_report(2, PAGES + PAGE, PAGE);
	cr_expect(!resident(1));
}

/* Who has not agreed to reports makes none. */
BalloonTest(reports_that_were_not_negotiated)
{
	start(F_ALL & ~F_REPORTING);
	for (unsigned q = 3; q < 5; q++) {
		send_report(q, PAGES, PAGE);
		cr_expect(resident(0), "queue %u", q);
	}
	cr_expect_eq(first_byte(0), 0x5a);
	cr_expect_eq(counted().reported, 0);
}

/* --- statistics --- */

BalloonTest(statistics)
{
	put_stat(0, 4, 1000);
	put_stat(1, 5, 2000);
	put_stat(2, 6, 1500);
	put_stat(3, 0xffff, 9);
	put_stat(4, 10, 9);
	put_stat(5, 2, 3);
	tell_stats(6);
	cr_expect_eq(ring_used_idx(&ring[STATS]), 0, "the buffer is ours for the time being");
	cr_expect_eq(counted().free_memory, 1000);
	cr_expect_eq(counted().total_memory, 2000);
	cr_expect_eq(counted().available_memory, 1500);
	cr_expect_eq(counted().major_faults, 3);
	cr_expect_eq(counted().stats_updates, 1);
}

BalloonTest(what_the_guest_has_told)
{
	struct virtio_balloon_stats s;

	virtio_balloon_stats(balloon, &s);
	cr_expect_eq(s.told, 0);
	put_stat(0, 4, 0);
	put_stat(1, 9, 7);
	put_stat(2, 10, 8);
	tell_stats(3);
	virtio_balloon_stats(balloon, &s);
	cr_expect_eq(s.told, 1u << 4 | 1u << 9, "nothing free is something told");
	cr_expect_eq(s.value[9], 7);
	for (unsigned tag = 0; tag < VIRTIO_BALLOON_STATS; tag++)
		cr_expect(virtio_balloon_stat_names[tag]);
}

/* --- another target --- */

static void expect_told(bool told, uint32_t generation)
{
	cr_expect_eq(rd(&drv, R_ISR), told ? VIRTIO_ISR_CONFIG : 0);
	cr_expect_eq(rd(&drv, R_GENERATION) != generation, told);
	wr(&drv, R_ISR_ACK, VIRTIO_ISR_CONFIG);
}

BalloonTest(another_target)
{
	static const uint64_t targets[] = {2 * TARGET, PAGE, 0, RING_RAM - PAGE};

	for (unsigned i = 0; i < 4; i++) {
		uint32_t generation = rd(&drv, R_GENERATION);

		cr_assert_eq(virtio_balloon_set_target(balloon, targets[i]), 0);
		expect_told(true, generation);
		cr_expect_eq(rd(&drv, R_CONFIG), targets[i] / PAGE);
		cr_expect_eq(counted().target, targets[i]);
	}
}

BalloonTest(the_same_target)
{
	uint32_t generation = rd(&drv, R_GENERATION);

	cr_expect_eq(virtio_balloon_set_target(balloon, TARGET), 0);
	expect_told(false, generation);
}

BalloonTest(targets_that_cannot_be)
{
	static const uint64_t bad[] = {1, RING_RAM, RING_RAM + PAGE, 1ull << 44, UINT64_MAX};
	uint32_t generation = rd(&drv, R_GENERATION);

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(virtio_balloon_set_target(balloon, bad[i]), -EINVAL);
	expect_told(false, generation);
	cr_expect_eq(counted().target, TARGET);
}

/* It is there when the driver comes. */
BalloonTest(a_target_without_a_driver)
{
	wr(&drv, R_STATUS, 0);
	cr_assert_eq(virtio_balloon_set_target(balloon, PAGE), 0);
	cr_expect_eq(rd(&drv, R_ISR), 0);
	start(F_ALL);
	cr_expect_eq(rd(&drv, R_CONFIG), 1);
}

/* The driver need not do what is asked, and may do more: only its own pages go. */
BalloonTest(a_driver_that_does_as_it_likes)
{
	static const uint32_t pfn[] = {PAGES_PFN, PAGES_PFN + 1};

	cr_assert_eq(virtio_balloon_set_target(balloon, 0), 0);
	send_pfns(INFLATE, pfn, sizeof(pfn));
	wr(&drv, R_CONFIG + 4, 0xffffffff);
	cr_expect_eq(counted().actual, 0xffffffffull * PAGE);
	cr_expect_eq(counted().target, 0);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(virtio_balloon_set_target(balloon, (i & 1) * PAGE), 0);
	cr_expect(!resident(0) && !resident(1) && resident(2));
}

/* --- bad rings, resets, saving --- */

BalloonTest(broken_rings)
{
	for (unsigned q = 0; q < 5; q++) {
		start(F_ALL);
		__atomic_store_n(ring_u16(&ring[q], RING_AVAIL + 2), 999, __ATOMIC_RELEASE);
		kick(q);
		cr_expect(rd(&drv, R_STATUS) & S_NEEDS_RESET, "queue %u", q);
	}
}

BalloonTest(save_and_restore)
{
	static struct vdriver from;
	struct state_writer w;
	struct err err = {0};

	wr(&drv, R_CONFIG + 4, 42);
	put_stat(0, 4, 1000);
	tell_stats(1);
	vdriver_save(&drv, &w);
	from = drv;
	make_with_pages(0, 0);
	cr_assert_eq(vdriver_restore(&from, &w, &drv, &err), 0, "%s", err.text);
	vdriver_settle(&drv);
	cr_expect_eq(rd(&drv, R_CONFIG), TARGET / PAGE);
	cr_expect_eq(rd(&drv, R_CONFIG + 4), 42);
	cr_expect_eq(counted().free_memory, 1000, "the buffer is in its ring again");
	vdriver_expect_same(&drv, &w);
	vdriver_fini(&from);
	expect_truncations_refused(&virtio_mmio_io_ops, drv.mmio, &w);
	state_writer_free(&w);
}

/* Its own section as a version of minivm wrote it, into the device that is there. */
static int restore_from(uint16_t version, uint32_t target, uint64_t interval)
{
	struct state_reader r, section;
	struct state_writer w;
	struct err err = {0};
	int ret;

	state_writer_init(&w);
	state_begin(&w, STATE_ID('T', 'E', 'S', 'T'), version);
	state_put_u32(&w, target);
	state_put_u32(&w, 3);
	if (version >= 2)
		state_put_u64(&w, interval);
	state_end(&w);
	cr_assert_eq(state_seal(&w, &err), 0);
	cr_assert_eq(state_open(w.data, w.len, &r, &err), 0);
	cr_assert_eq(state_enter(&r, STATE_ID('T', 'E', 'S', 'T'), version, &section, &err), 0);
	ret = virtio_balloon_ops.restore(balloon, &section, &err);
	if (!ret)
		ret = state_leave(&section, &err);
	state_writer_free(&w);
	return ret;
}

static uint64_t interval(void)
{
	struct virtio_balloon_stats s;

	virtio_balloon_stats(balloon, &s);
	return s.interval_ns;
}

Test(virtio_balloon, what_is_restored, .fini = teardown)
{
	static const struct {
		uint64_t made_with;
		uint16_t version;
		uint32_t target;
		uint64_t saved, then;
		int ret;
	} cases[] = {
	    {0, 1, 5, 0, 0, 0},
	    {SECOND_NS, 1, 5, 0, SECOND_NS, 0},
	    {0, 2, 5, 0, 0, 0},
	    {SECOND_NS, 2, 5, 7 * SECOND_NS, 7 * SECOND_NS, 0},
	    {0, 2, 5, 1, 0, -EINVAL},
	    {SECOND_NS, 2, 5, 0, SECOND_NS, -EINVAL},
	    {SECOND_NS, 2, 5, VIRTIO_BALLOON_STATS_MAX_NS + 1, SECOND_NS, -EINVAL},
	    {0, 2, RING_RAM / PAGE - 1, 0, 0, 0},
	    {0, 2, RING_RAM / PAGE, 0, 0, -EINVAL},
	    {0, 1, UINT32_MAX, 0, 0, -EINVAL},
	};
	unsigned n = sizeof(cases) / sizeof(cases[0]);

	for (unsigned i = 0; i < n; i++) {
		make_with_pages(TARGET, cases[i].made_with);
		cr_expect_eq(restore_from(cases[i].version, cases[i].target, cases[i].saved),
			     cases[i].ret, "case %u", i);
		cr_expect_eq(counted().target, cases[i].ret ? TARGET : cases[i].target * PAGE,
			     "case %u", i);
		cr_expect_eq(interval(), cases[i].then, "case %u", i);
		if (i + 1 < n)
			vdriver_fini(&drv);
	}
}
