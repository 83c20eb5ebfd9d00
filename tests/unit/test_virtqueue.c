/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtqueue as a driver sees it: honest rings, then every way to get a ring wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "minivm/virtqueue.h"
#include "vring.h"

static struct ring ring;
static struct virtqueue vq;
static struct vq_chain chain;

static void start(uint16_t size, bool event_idx, bool indirect)
{
	struct vq_layout layout;

	ring_init(&ring, size);
	memset(&vq, 0, sizeof(vq));
	layout = ring_layout(&ring);
	cr_assert_eq(vq_start(&vq, &ring.mem, &layout, event_idx, indirect), 0);
}

static void setup(void)
{
	start(8, false, true);
}

static void teardown(void)
{
	vq_stop(&vq);
	ring_fini(&ring);
}

#define RingTest(name, ...) Test(virtqueue, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static void expect_used(uint32_t id, uint32_t len)
{
	uint32_t got_id, got_len;

	cr_assert(ring_take(&ring, &got_id, &got_len), "nothing in the used ring");
	cr_expect_eq(got_id, id, "id %u instead of %u", got_id, id);
	cr_expect_eq(got_len, len, "length %u instead of %u", got_len, len);
}

/* The chain at `head` is malformed, is given back with length 0, and the queue lives. */
static void expect_malformed(uint16_t head)
{
	uint64_t before = vq.count.malformed;

	ring_offer(&ring, head);
	cr_assert_eq(vq_pop(&vq, &chain), 0);
	expect_used(head, 0);
	cr_expect_eq(vq.count.malformed, before + 1);
	cr_expect(!vq.broken);
}

/* --- layout --- */

RingTest(layout_is_checked)
{
	const struct vq_layout good = ring_layout(&ring);
	const struct {
		const char *what;
		struct vq_layout layout;
		int ret;
	} bad[] = {
	    {"size 0", {0, good.desc, good.avail, good.used}, -EINVAL},
	    {"size 3", {3, good.desc, good.avail, good.used}, -EINVAL},
	    {"size 512", {512, good.desc, good.avail, good.used}, -EINVAL},
	    {"desc unaligned", {8, GPA(RING_DESC + 8), good.avail, good.used}, -EINVAL},
	    {"avail unaligned", {8, good.desc, GPA(RING_AVAIL + 1), good.used}, -EINVAL},
	    {"used unaligned", {8, good.desc, good.avail, GPA(RING_USED + 2)}, -EINVAL},
	    {"desc outside", {8, GPA(RING_RAM), good.avail, good.used}, -EFAULT},
	    {"desc over the end", {8, GPA(RING_RAM - 16), good.avail, good.used}, -EFAULT},
	    {"avail over the end", {8, good.desc, GPA(RING_RAM - 20), good.used}, -EFAULT},
	    {"used over the end", {8, good.desc, good.avail, GPA(RING_RAM - 68)}, -EFAULT},
	    {"desc wraps", {8, GPA(0xfffffffffffffff0), good.avail, good.used}, -EFAULT},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int ret = vq_start(&vq, &ring.mem, &bad[i].layout, true, true);

		cr_expect_eq(ret, bad[i].ret, "%s: %d", bad[i].what, ret);
		cr_expect(!vq.started, "%s", bad[i].what);
		cr_expect_eq(vq_pop(&vq, &chain), 0, "%s", bad[i].what);
	}
}

RingTest(parts_may_end_with_memory)
{
	struct vq_layout l = ring_layout(&ring);

	l.used = GPA(RING_RAM - 72); /* 6 + 8 * 8, rounded to 4 */
	cr_expect_eq(vq_start(&vq, &ring.mem, &l, false, false), 0);
	l = ring_layout(&ring);
	l.desc = GPA(RING_RAM - 128);
	cr_expect_eq(vq_start(&vq, &ring.mem, &l, false, false), 0);
}

/* --- honest chains --- */

RingTest(empty)
{
	cr_expect_eq(vq_pop(&vq, &chain), 0);
	cr_expect_eq(ring_used_idx(&ring), 0);
	cr_expect(!vq_should_signal(&vq));
}

RingTest(chain_of_three)
{
	ring_set(&ring, 5, RING_BUFFERS, 16, D_NEXT, 2);
	ring_set(&ring, 2, RING_BUFFERS + 0x1000, 512, D_NEXT | D_WRITE, 7);
	ring_set(&ring, 7, RING_BUFFERS + 0x2000, 1, D_WRITE, 0);
	ring_offer(&ring, 5);

	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.head, 5);
	cr_expect_eq(chain.n_readable, 1);
	cr_expect_eq(chain.n_writable, 2);
	cr_expect_eq(chain.readable_len, 16);
	cr_expect_eq(chain.writable_len, 513);
	cr_expect_eq(vq_readable(&chain)[0].iov_base, ring_at(&ring, RING_BUFFERS));
	cr_expect_eq(vq_writable(&chain)[0].iov_base, ring_at(&ring, RING_BUFFERS + 0x1000));
	cr_expect_eq(vq_writable(&chain)[1].iov_len, 1);
	cr_expect_eq(vq_pop(&vq, &chain), 0);

	cr_expect_eq(ring_used_idx(&ring), 0, "completed before its time");
	vq_push(&vq, &chain, 513);
	expect_used(5, 513);
}

RingTest(written_length_is_clamped)
{
	ring_set(&ring, 0, RING_BUFFERS, 16, D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	vq_push(&vq, &chain, 1000);
	expect_used(0, 16);
}

RingTest(completions_in_any_order)
{
	struct vq_chain second;

	ring_set(&ring, 0, RING_BUFFERS, 16, D_WRITE, 0);
	ring_set(&ring, 1, RING_BUFFERS, 32, D_WRITE, 0);
	ring_offer(&ring, 0);
	ring_offer(&ring, 1);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_assert_eq(vq_pop(&vq, &second), 1);
	vq_push(&vq, &second, 32);
	vq_push(&vq, &chain, 16);
	expect_used(1, 32);
	expect_used(0, 16);
}

RingTest(put_back)
{
	ring_set(&ring, 1, RING_BUFFERS, 16, 0, 0);
	ring_set(&ring, 2, RING_BUFFERS + 64, 32, 0, 0);
	ring_offer(&ring, 1);
	ring_offer(&ring, 2);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	vq_unpop(&vq);
	cr_expect_eq(ring_used_idx(&ring), 0);
	cr_expect_eq(vq.count.chains, 0);
	cr_expect(vq_enable_notify(&vq));
	/* Read anew: the driver may have changed its mind. */
	ring_set(&ring, 1, RING_BUFFERS, 24, 0, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.head, 1);
	cr_expect_eq(chain.readable_len, 24);
	vq_push(&vq, &chain, 0);
	expect_used(1, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.head, 2);
	vq_stop(&vq);
	vq_unpop(&vq);
}

RingTest(zero_length_buffers)
{
	ring_set(&ring, 0, RING_BUFFERS, 0, D_NEXT, 1);
	ring_set(&ring, 1, RING_BUFFERS, 0, D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.readable_len, 0);
	cr_expect_eq(chain.writable_len, 0);
	vq_push(&vq, &chain, 5);
	expect_used(0, 0);
}

RingTest(whole_ring_in_one_chain)
{
	for (unsigned i = 0; i < 8; i++)
		ring_set(&ring, i, RING_BUFFERS + i * 64, 64, i < 7 ? D_NEXT : 0,
			 (uint16_t)(i + 1));
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.n_readable, 8);
	cr_expect_eq(chain.readable_len, 512);
}

/* --- indirect --- */

static void indirect_table_of(unsigned n, uint64_t gpa)
{
	for (unsigned i = 0; i < n; i++)
		ring_desc_at(&ring, gpa, i, RING_BUFFERS + i * 64, 64, i + 1 < n ? D_NEXT : D_WRITE,
			     (uint16_t)(i + 1));
}

RingTest(indirect)
{
	indirect_table_of(3, RING_TABLES);
	ring_set(&ring, 4, RING_TABLES, 48, D_INDIRECT, 0);
	ring_offer(&ring, 4);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.head, 4);
	cr_expect_eq(chain.n_readable, 2);
	cr_expect_eq(chain.n_writable, 1);
}

RingTest(indirect_write_flag_is_ignored)
{
	indirect_table_of(1, RING_TABLES);
	ring_set(&ring, 0, RING_TABLES, 16, D_INDIRECT | D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.n_writable, 1);
}

RingTest(indirect_behind_direct)
{
	indirect_table_of(2, RING_TABLES);
	ring_set(&ring, 0, RING_BUFFERS + 0x8000, 16, D_NEXT, 1);
	ring_set(&ring, 1, RING_TABLES, 32, D_INDIRECT, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.n_readable, 2);
	cr_expect_eq(chain.n_writable, 1);
}

RingTest(indirect_table_anywhere)
{
	indirect_table_of(2, RING_TABLES + 3);
	ring_set(&ring, 0, RING_TABLES + 3, 32, D_INDIRECT, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.n_readable, 1);
}

RingTest(indirect_longer_than_the_queue)
{
	indirect_table_of(VQ_SIZE_MAX, RING_TABLES);
	ring_set(&ring, 0, RING_TABLES, VQ_SIZE_MAX * 16, D_INDIRECT, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.n_readable + chain.n_writable, VQ_SIZE_MAX);
	vq_push(&vq, &chain, 0);
	expect_used(0, 0);

	indirect_table_of(VQ_SIZE_MAX + 1, RING_TABLES);
	ring_set(&ring, 1, RING_TABLES, (VQ_SIZE_MAX + 1) * 16, D_INDIRECT, 0);
	expect_malformed(1);
}

RingTest(indirect_malformed)
{
	indirect_table_of(2, RING_TABLES);

	ring_set(&ring, 0, RING_TABLES, 0, D_INDIRECT, 0);
	expect_malformed(0);
	ring_set(&ring, 0, RING_TABLES, 33, D_INDIRECT, 0);
	expect_malformed(0);
	ring_set(&ring, 0, RING_TABLES, 8, D_INDIRECT, 0);
	expect_malformed(0);
	ring_set(&ring, 0, RING_TABLES, 32, D_INDIRECT | D_NEXT, 1);
	expect_malformed(0);
	ring_set(&ring, 0, RING_TABLES, 65537 * 16, D_INDIRECT, 0); /* more than `next` reaches */
	expect_malformed(0);
	ring_set(&ring, 0, RING_RAM - 16, 32, D_INDIRECT, 0);
	expect_malformed(0);
	ring_set(&ring, 0, 0xfffffffffffffff0, 32, D_INDIRECT, 0);
	expect_malformed(0);

	ring_set(&ring, 0, RING_TABLES, 32, D_INDIRECT, 0);
	ring_desc_at(&ring, RING_TABLES, 0, RING_BUFFERS, 16, D_NEXT, 2); /* next = count */
	expect_malformed(0);
	ring_desc_at(&ring, RING_TABLES, 0, RING_BUFFERS, 16, D_NEXT, 0); /* loop */
	expect_malformed(0);
	ring_desc_at(&ring, RING_TABLES, 0, RING_TABLES + 16, 16, D_INDIRECT, 0); /* nested */
	expect_malformed(0);
}

/* A table that is the ring's own: found by the fuzzer as an endless walk. */
RingTest(indirect_into_the_ring)
{
	ring_set(&ring, 0, RING_DESC, 32, D_INDIRECT, 0);
	expect_malformed(0);
	ring_set(&ring, 3, RING_DESC, 8 * 16, D_INDIRECT, 0);
	ring_set(&ring, 0, RING_BUFFERS, 16, D_NEXT, 3);
	expect_malformed(3);
	expect_malformed(0);
}

RingTest(indirect_not_negotiated)
{
	struct vq_layout l = ring_layout(&ring);

	cr_assert_eq(vq_start(&vq, &ring.mem, &l, false, false), 0);
	indirect_table_of(2, RING_TABLES);
	ring_set(&ring, 0, RING_TABLES, 32, D_INDIRECT, 0);
	expect_malformed(0);
}

/* --- malformed chains --- */

RingTest(malformed)
{
	ring_set(&ring, 0, RING_BUFFERS, 16, D_NEXT, 8); /* next out of range */
	expect_malformed(0);
	ring_set(&ring, 0, RING_BUFFERS, 16, D_NEXT, 0xffff);
	expect_malformed(0);
	ring_set(&ring, 0, RING_BUFFERS, 16, D_NEXT, 0); /* to itself */
	expect_malformed(0);
	ring_set(&ring, 0, RING_BUFFERS, 16, D_NEXT, 1); /* round in a circle */
	ring_set(&ring, 1, RING_BUFFERS, 16, D_NEXT, 2);
	ring_set(&ring, 2, RING_BUFFERS, 16, D_NEXT, 1);
	expect_malformed(0);
	ring_set(&ring, 0, RING_BUFFERS, 16, D_WRITE | D_NEXT, 1); /* writable before readable */
	ring_set(&ring, 1, RING_BUFFERS, 16, 0, 0);
	expect_malformed(0);
	ring_set(&ring, 0, RING_BUFFERS, 0, D_WRITE | D_NEXT, 1); /* an empty one counts as well */
	expect_malformed(0);
	ring_set(&ring, 0, RING_RAM, 16, 0, 0); /* outside */
	expect_malformed(0);
	ring_set(&ring, 0, RING_RAM - 8, 16, 0, 0);
	expect_malformed(0);
	ring_set(&ring, 0, 0xfffffffffffffff8, 16, D_WRITE, 0); /* wraps */
	expect_malformed(0);
	ring_set(&ring, 0, 0, 0xffffffff, D_WRITE, 0);
	expect_malformed(0);
}

RingTest(total_length_is_bounded)
{
	const uint64_t big = 3ull << 30;
	struct guest_region *r = &ring.mem.region[1];

	r->gpa = GPA(1ull << 32);
	r->len = big;
	r->host = mmap(NULL, big, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(r->host, MAP_FAILED);
	ring.mem.count = 2;

	ring_set(&ring, 0, 1ull << 32, 0xc0000000, D_NEXT, 1);
	ring_set(&ring, 1, 1ull << 32, 0x3fffffff, D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq((uint64_t)chain.readable_len + chain.writable_len, UINT32_MAX);
	vq_push(&vq, &chain, 0);
	expect_used(0, 0);

	ring_set(&ring, 1, 1ull << 32, 0x40000000, D_WRITE, 0);
	expect_malformed(0);
	munmap(r->host, big);
}

RingTest(malformed_does_not_hide_the_next)
{
	ring_set(&ring, 0, RING_RAM, 16, 0, 0);
	ring_set(&ring, 1, RING_BUFFERS, 16, 0, 0);
	ring_offer(&ring, 0);
	ring_offer(&ring, 1);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	cr_expect_eq(chain.head, 1);
	expect_used(0, 0);
	cr_expect(vq_should_signal(&vq), "the driver waits for the malformed one as well");
}

/* --- broken rings --- */

static void expect_broken(void)
{
	struct vq_layout l = ring_layout(&ring);

	cr_expect_eq(vq_pop(&vq, &chain), -EPROTO);
	cr_expect(vq.broken);
	cr_expect_eq(vq_pop(&vq, &chain), -EPROTO, "broken is sticky");
	cr_expect(!vq_enable_notify(&vq));
	cr_expect_eq(vq_start(&vq, &ring.mem, &l, false, false), 0);
	cr_expect(!vq.broken);
}

RingTest(available_index_too_far)
{
	*ring_u16(&ring, RING_AVAIL + 2) = 9;
	expect_broken();
}

RingTest(available_index_backwards)
{
	ring_set(&ring, 0, RING_BUFFERS, 16, 0, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	*ring_u16(&ring, RING_AVAIL + 2) = 0;
	expect_broken();
}

RingTest(head_out_of_range)
{
	ring_offer(&ring, 8);
	expect_broken();
}

RingTest(never_more_out_than_the_ring_holds)
{
	for (uint16_t i = 0; i < 8; i++) {
		ring_set(&ring, i, RING_BUFFERS, 16, D_WRITE, 0);
		ring_offer(&ring, i);
		cr_assert_eq(vq_pop(&vq, &chain), 1);
	}
	ring_offer(&ring, 0); /* but 0 was not given back */
	expect_broken();
}

RingTest(a_flood_of_malformed_chains_is_bounded)
{
	ring_set(&ring, 0, RING_RAM, 16, 0, 0);
	for (unsigned i = 0; i < 8; i++)
		ring_offer(&ring, 0);
	cr_expect_eq(vq_pop(&vq, &chain), 0);
	cr_expect_eq(ring_used_idx(&ring), 8);
	cr_expect(!vq_enable_notify(&vq));
}

/* Nor is one call as long as a large ring: the rest is there for the next. */
RingTest(a_flood_of_malformed_chains_takes_several_calls)
{
	unsigned calls = 0;

	teardown();
	start(VQ_SIZE_MAX, true, true);
	for (unsigned i = 0; i < VQ_SIZE_MAX; i++) {
		ring_set(&ring, i, RING_RAM, 16, 0, 0);
		ring_offer(&ring, (uint16_t)i);
	}
	do {
		uint64_t before = vq.count.malformed;

		cr_assert_eq(vq_pop(&vq, &chain), 0);
		cr_expect_leq(vq.count.malformed - before, 32);
		calls++;
	} while (vq_enable_notify(&vq));
	cr_expect_eq(calls, VQ_SIZE_MAX / 32);
	cr_expect_eq(ring_used_idx(&ring), VQ_SIZE_MAX);
}

RingTest(push_to_a_stopped_queue)
{
	ring_set(&ring, 0, RING_BUFFERS, 16, D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	vq_stop(&vq);
	vq_push(&vq, &chain, 16);
	cr_expect_eq(ring_used_idx(&ring), 0);
	cr_expect(!vq_should_signal(&vq));
	cr_expect(!vq_enable_notify(&vq));
	vq_disable_notify(&vq);
}

/* --- notifications --- */

static void one_round(void)
{
	ring_set(&ring, 0, RING_BUFFERS, 16, D_WRITE, 0);
	ring_offer(&ring, 0);
	cr_assert_eq(vq_pop(&vq, &chain), 1);
	vq_push(&vq, &chain, 4);
	expect_used(0, 4);
}

RingTest(signal_flag)
{
	one_round();
	cr_expect(vq_should_signal(&vq));
	cr_expect(!vq_should_signal(&vq), "once per batch");
	ring_avail_flags(&ring, 1);
	one_round();
	cr_expect(!vq_should_signal(&vq));
	ring_avail_flags(&ring, 0);
	cr_expect(!vq_should_signal(&vq), "nothing new");
	one_round();
	cr_expect(vq_should_signal(&vq));
}

RingTest(notify_flag)
{
	vq_disable_notify(&vq);
	cr_expect_eq(ring_used_flags(&ring), 1);
	cr_expect(!vq_enable_notify(&vq));
	cr_expect_eq(ring_used_flags(&ring), 0);
	vq_disable_notify(&vq);
	ring_set(&ring, 0, RING_BUFFERS, 16, 0, 0);
	ring_offer(&ring, 0);
	cr_expect(vq_enable_notify(&vq), "it came while notifications were off");
}

RingTest(signal_event_idx)
{
	struct vq_layout l = ring_layout(&ring);

	cr_assert_eq(vq_start(&vq, &ring.mem, &l, true, true), 0);
	ring_used_event(&ring, 0); /* when the first is used */
	one_round();
	cr_expect(vq_should_signal(&vq));
	ring_used_event(&ring, 3); /* when the fourth is */
	one_round();
	cr_expect(!vq_should_signal(&vq));
	one_round();
	cr_expect(!vq_should_signal(&vq));
	one_round();
	cr_expect(vq_should_signal(&vq));
	one_round();
	cr_expect(!vq_should_signal(&vq), "3 is in the past");
	ring_used_event(&ring, 6); /* in the middle of a batch */
	one_round();
	one_round();
	one_round();
	cr_expect(vq_should_signal(&vq));
}

RingTest(notify_event_idx)
{
	struct vq_layout l = ring_layout(&ring);

	cr_assert_eq(vq_start(&vq, &ring.mem, &l, true, true), 0);
	for (unsigned i = 0; i < 3; i++)
		one_round();
	cr_expect(!vq_enable_notify(&vq));
	cr_expect_eq(ring_avail_event(&ring), 3);
	vq_disable_notify(&vq);
	cr_expect_eq(ring_used_flags(&ring), 0, "§2.7.10: flags stay 0 with EVENT_IDX");
	ring_offer(&ring, 0);
	cr_expect(vq_enable_notify(&vq));
}

/* Indices of 16 bits go round; positions in the ring and events stay right. */
RingTest(indices_wrap)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		unsigned signals = 0;

		teardown();
		start(4, event_idx, false);
		for (unsigned i = 0; i < 150000; i++) {
			ring_used_event(&ring, ring.used_seen);
			one_round();
			signals += vq_should_signal(&vq);
			cr_assert(!vq_enable_notify(&vq));
			if (event_idx)
				cr_assert_eq(ring_avail_event(&ring), (uint16_t)(i + 1));
		}
		cr_expect_eq(signals, 150000);
	}
}

/* 2^16 completions without a question in between: the answer must still be "yes". */
RingTest(signal_after_a_whole_turn)
{
	struct vq_layout l = ring_layout(&ring);

	for (int event_idx = 0; event_idx < 2; event_idx++) {
		ring.avail_idx = ring.used_seen = 0;
		*ring_u16(&ring, RING_AVAIL + 2) = 0;
		*ring_u16(&ring, RING_USED + 2) = 0;
		cr_assert_eq(vq_start(&vq, &ring.mem, &l, event_idx, true), 0);
		for (unsigned i = 0; i < 65536; i++)
			one_round();
		cr_expect(vq_should_signal(&vq));
		cr_expect(!vq_should_signal(&vq));
	}
}

/* --- two threads: no wake-up is lost in either direction --- */

struct duel {
	int kick;
	int call;
	unsigned rounds;
	unsigned served;
};

static bool wait_for(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, 5000) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

static void *device_thread(void *opaque)
{
	const uint64_t one = 1;
	struct duel *d = opaque;

	while (d->served < d->rounds) {
		if (!wait_for(d->kick))
			return NULL;
		vq_disable_notify(&vq);
		do {
			while (vq_pop(&vq, &chain) == 1) {
				vq_push(&vq, &chain, 1);
				d->served++;
			}
		} while (vq_enable_notify(&vq));
		if (vq_should_signal(&vq))
			cr_assert_eq(write(d->call, &one, sizeof(one)), sizeof(one));
	}
	return NULL;
}

static void duel(bool event_idx)
{
	struct duel d = {.rounds = 40000};
	const uint64_t one = 1;
	pthread_t thread;
	unsigned sent = 0, got = 0;
	uint16_t old;

	teardown();
	start(8, event_idx, false);
	d.kick = eventfd(0, EFD_CLOEXEC);
	d.call = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < 8; i++)
		ring_set(&ring, i, RING_BUFFERS, 16, D_WRITE, 0);
	pthread_create(&thread, NULL, device_thread, &d);
	while (got < d.rounds) {
		uint32_t id = 0, len = 0;
		unsigned batch = 1 + sent % 5;
		bool kick;

		old = ring.avail_idx;
		for (; batch > 0 && sent < d.rounds && sent - got < 8; batch--)
			ring_offer(&ring, (uint16_t)(sent++ % 8));
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (event_idx)
			kick = (uint16_t)(ring.avail_idx - ring_avail_event(&ring) - 1) <
			       (uint16_t)(ring.avail_idx - old);
		else
			kick = (ring_used_flags(&ring) & 1) == 0;
		if (kick)
			cr_assert_eq(write(d.kick, &one, sizeof(one)), sizeof(one));
		ring_used_event(&ring, ring.used_seen);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (ring_used_idx(&ring) == ring.used_seen)
			cr_assert(wait_for(d.call), "no interrupt: %u of %u", got, sent);
		while (ring_take(&ring, &id, &len)) {
			cr_assert_eq(id, got % 8);
			got++;
		}
	}
	pthread_join(thread, NULL);
	cr_expect_eq(d.served, d.rounds);
	close(d.kick);
	close(d.call);
}

RingTest(no_lost_wakeup_flags, .timeout = 60)
{
	duel(false);
}

RingTest(no_lost_wakeup_event_idx, .timeout = 60)
{
	duel(true);
}
