/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng as a driver sees it, with a source whose bytes are known and whose clock stands until
 * it is moved.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "minivm/virtio_rng.h"
#include "state_rig.h"

#define FEATURES (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX)
#define DATA	 RING_BUFFERS
#define MS	 1000000ull

/* --- the source --- */

struct fake_source {
	_Atomic uint8_t next; /* bytes count up */
	_Atomic int fail;
	_Atomic uint64_t now;
	_Atomic size_t longest;
};

static struct fake_source fake;

static int fake_fill(void *opaque, void *buf, size_t len)
{
	struct fake_source *f = opaque;
	uint8_t *p = buf;

	if (f->fail)
		return f->fail;
	if (len > f->longest)
		f->longest = len;
	while (len-- > 0)
		*p++ = f->next++;
	return 0;
}

static uint64_t fake_now(void *opaque)
{
	return ((struct fake_source *)opaque)->now;
}

static const struct virtio_rng_source fake_ops = {
    .fill = fake_fill,
    .now = fake_now,
    .opaque = &fake,
};

/* --- the driver --- */

static struct vdriver drv;
static struct virtio_rng *rng;

/* A device that no driver has started. Its timer wants the loop before vdriver_init() makes one. */
static void make_device(struct vdriver *d, uint64_t rate)
{
	struct virtio_rng_options opt = {.source = &fake_ops, .log = &drv.log, .rate = rate};
	struct err err = {0};

	cr_assert_eq(loop_new(&opt.loop, &err), 0, "%s", err.text);
	cr_assert_eq(virtio_rng_new(&opt, &rng, &err), 0, "%s", err.text);
	vdriver_init_on(d, &virtio_rng_ops, rng, 64, opt.loop);
}

static void make(uint64_t rate, uint64_t features)
{
	memset(&fake, 0, sizeof(fake));
	make_device(&drv, rate);
	fake.next = 1;
	fake.longest = 0;
	vdriver_start(&drv, features);
}

static void setup(void)
{
	make(0, FEATURES);
}

static void teardown(void)
{
	vdriver_fini(&drv);
}

#define RngTest(name, ...) Test(virtio_rng, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static void remake(uint64_t rate, uint64_t features)
{
	teardown();
	make(rate, features);
}

static void offer(uint16_t head)
{
	ring_used_event(&drv.ring, drv.ring.used_seen);
	ring_offer(&drv.ring, head);
	wr(&drv, R_QUEUE_NOTIFY, 0);
}

/* The used length of what is offered. */
static uint32_t submit(uint16_t head)
{
	uint32_t id = 0, len = 0;

	offer(head);
	cr_assert(vdriver_used(&drv, &id, &len), "not completed");
	cr_expect_eq(id, head);
	return len;
}

static uint32_t simple(uint32_t len)
{
	ring_set(&drv.ring, 0, DATA, len, D_WRITE, 0);
	return submit(0);
}

static struct virtio_rng_counters count(void)
{
	struct virtio_rng_counters c;

	virtio_rng_counters(rng, &c);
	return c;
}

static const uint8_t *data(void)
{
	return ring_at(&drv.ring, DATA);
}

/* --- what it is --- */

RngTest(identity)
{
	cr_expect_eq(rd(&drv, R_DEVICE_ID), 4);
	cr_expect_eq(vdriver_offered(&drv), FEATURES);
	/* §5.4.4: no configuration space. */
	cr_expect_eq(rd(&drv, R_CONFIG), 0);
	wr(&drv, R_QUEUE_SEL, 1);
	cr_expect_eq(rd(&drv, R_QUEUE_NUM_MAX), 0, "one queue");
}

Test(virtio_rng, a_host_without_bytes_is_an_error_at_the_start)
{
	struct virtio_rng_options opt = {.source = &fake_ops};
	struct err err = {0};

	fake.fail = -EAGAIN;
	cr_expect_eq(virtio_rng_new(&opt, &rng, &err), -EAGAIN);
	cr_expect_not_null(strstr(err.text, "random number generator"), "%s", err.text);
}

Test(virtio_rng, the_host_source_gives_different_bytes)
{
	uint8_t a[1000] = {0}, b[1000] = {0};
	const struct virtio_rng_source *s = &virtio_rng_host_source;
	uint64_t before = s->now(s->opaque);

	cr_expect_eq(s->fill(s->opaque, a, sizeof(a)), 0);
	cr_expect_eq(s->fill(s->opaque, b, sizeof(b)), 0);
	cr_expect(memcmp(a, b, sizeof(a)) != 0);
	cr_expect(memcmp(a + 900, b + 900, 100) != 0, "to the end");
	cr_expect_geq(s->now(s->opaque), before);
}

/* --- requests --- */

RngTest(fills_the_buffer_and_no_more)
{
	memset(ring_at(&drv.ring, DATA), 0, 128);
	cr_expect_eq(simple(64), 64);
	for (unsigned i = 0; i < 64; i++)
		cr_expect_eq(data()[i], i + 1);
	cr_expect_eq(data()[64], 0);
	cr_expect_eq(count().bytes, 64);
	cr_expect_eq(count().requests, 1);
	cr_expect_eq(count().errors, 0);
}

RngTest(one_byte)
{
	cr_expect_eq(simple(1), 1);
	cr_expect_eq(data()[0], 1);
}

RngTest(many_small_buffers)
{
	memset(ring_at(&drv.ring, DATA), 0, 0x1000);
	for (uint16_t i = 0; i < 8; i++)
		ring_set(&drv.ring, i, DATA + 0x100u * i, i == 3 ? 0 : 5,
			 D_WRITE | (i < 7 ? D_NEXT : 0), (uint16_t)(i + 1));
	cr_expect_eq(submit(0), 35);
	cr_expect_eq(data()[0x004], 5);
	cr_expect_eq(data()[0x400], 16);
	cr_expect_eq(data()[0x704], 35);
	cr_expect_eq(data()[0x705], 0);
}

RngTest(indirect)
{
	ring_desc_at(&drv.ring, RING_TABLES, 0, DATA, 10, D_WRITE | D_NEXT, 1);
	ring_desc_at(&drv.ring, RING_TABLES, 1, DATA + 100, 10, D_WRITE, 0);
	ring_set(&drv.ring, 5, RING_TABLES, 32, D_INDIRECT, 0);
	cr_expect_eq(submit(5), 20);
	cr_expect_eq(data()[109], 20);
}

/* §5.4.6.2: fewer bytes than there is room for are allowed. */
RngTest(large_requests_are_bounded)
{
	memset(ring_at(&drv.ring, DATA), 0, 1u << 20);
	cr_expect_eq(simple(1u << 20), VIRTIO_RNG_REQUEST_MAX);
	cr_expect_leq(fake.longest, VIRTIO_RNG_REQUEST_MAX);
	cr_expect_eq(data()[VIRTIO_RNG_REQUEST_MAX - 1], (uint8_t)VIRTIO_RNG_REQUEST_MAX);
	cr_expect_eq(data()[VIRTIO_RNG_REQUEST_MAX], 0);
}

RngTest(nothing_writable_comes_back_empty)
{
	ring_set(&drv.ring, 0, DATA, 64, 0, 0);
	cr_expect_eq(submit(0), 0);
	ring_set(&drv.ring, 0, DATA, 0, D_WRITE, 0);
	cr_expect_eq(submit(0), 0);
	cr_expect_eq(count().errors, 2);
	cr_expect_eq(simple(8), 8);
}

RngTest(readable_bytes_stay_as_they_are)
{
	memset(ring_at(&drv.ring, DATA), 0xee, 64);
	ring_set(&drv.ring, 0, DATA, 32, D_NEXT, 1);
	ring_set(&drv.ring, 1, DATA + 32, 32, D_WRITE, 0);
	cr_expect_eq(submit(0), 32);
	cr_expect_eq(data()[31], 0xee);
	cr_expect_eq(data()[32], 1);
}

RngTest(malformed_chain_comes_back)
{
	struct virtio_counters c;

	ring_set(&drv.ring, 0, DATA, 16, D_NEXT, 0);
	cr_expect_eq(submit(0), 0);
	ring_set(&drv.ring, 0, RING_RAM - 8, 16, D_WRITE, 0);
	cr_expect_eq(submit(0), 0);
	virtio_counters(drv.virtio, &c);
	cr_expect_eq(c.malformed, 2);
	cr_expect_eq(simple(16), 16);
}

static void full_ring(uint64_t features)
{
	uint32_t id, len;

	remake(0, features);
	ring_used_event(&drv.ring, 63);
	for (uint16_t i = 0; i < 64; i++) {
		ring_set(&drv.ring, i, DATA + 0x4000u * i, 0x4000, D_WRITE, 0);
		ring_offer(&drv.ring, i);
	}
	wr(&drv, R_QUEUE_NOTIFY, 0);
	for (unsigned i = 0; i < 64; i++) {
		cr_assert(vdriver_used(&drv, &id, &len));
		cr_expect_eq(id, i);
		cr_expect_eq(len, 0x4000);
	}
	cr_expect_eq(count().bytes, 1u << 20);
}

RngTest(full_ring_event_idx)
{
	full_ring(FEATURES);
}

RngTest(full_ring_flags)
{
	full_ring(F_VERSION_1);
}

/* The request comes back, and the driver hears of it. */
RngTest(failing_source)
{
	fake.fail = -EIO;
	ring_set(&drv.ring, 0, DATA, 16, D_WRITE, 0);
	cr_expect_eq(submit(0), 0);
	vdriver_settle(&drv);
	cr_expect_eq(rd(&drv, R_STATUS) & S_NEEDS_RESET, S_NEEDS_RESET);
	cr_expect_eq(count().errors, 1);
	fake.fail = 0;
	vdriver_start(&drv, FEATURES);
	cr_expect_eq(simple(16), 16);
}

/* --- the rate --- */

/* Offered, and not completed however often the device is kicked. */
static void expect_waiting(uint16_t used)
{
	for (unsigned i = 0; i < 3; i++) {
		wr(&drv, R_QUEUE_NOTIFY, 0);
		vdriver_settle(&drv);
	}
	cr_expect_eq(ring_used_idx(&drv.ring), used);
}

RngTest(the_rate_holds)
{
	uint32_t id, len;

	remake(10000, FEATURES); /* a grain is 100 bytes */
	cr_expect_eq(simple(10000), 10000, "one second's worth at once");
	offer(0);
	expect_waiting(1);
	fake.now = 5 * MS;
	expect_waiting(1);
	cr_expect_gt(count().throttled, 0);
	/* Nobody kicks any more: the timer does it. */
	fake.now = 12 * MS;
	cr_assert(vdriver_used(&drv, &id, &len));
	cr_expect_eq(len, 120, "what came in meanwhile");
	cr_expect_eq(count().bytes, 10120);
}

RngTest(small_rates_give_what_there_is)
{
	remake(7, FEATURES);
	cr_expect_eq(simple(64), 7);
	offer(0);
	expect_waiting(1);
}

RngTest(small_requests_share_the_tokens)
{
	remake(1000, FEATURES); /* a grain is 64 bytes */
	for (unsigned i = 0; i < 15; i++)
		cr_expect_eq(simple(64), 64);
	offer(0);
	expect_waiting(15);
}

static void wait_then_reset(uint64_t features)
{
	struct virtio_rng_counters before;

	remake(1000, features);
	cr_expect_eq(simple(1000), 1000);
	offer(0);
	expect_waiting(1);
	wr(&drv, R_STATUS, 0);
	before = count();
	/* The timer would fire 64 ms after the request. */
	fake.now = 500 * MS;
	usleep(150000);
	vdriver_settle(&drv);
	cr_expect_eq(count().requests, before.requests);
	cr_expect_eq(count().throttled, before.throttled);
	/* A reset brings no tokens, but time does. */
	vdriver_start(&drv, features);
	cr_expect_eq(simple(1000), 500);
}

RngTest(reset_ends_the_wait)
{
	wait_then_reset(FEATURES);
	wait_then_reset(F_VERSION_1);
}

RngTest(a_reset_gives_no_tokens)
{
	remake(1000, FEATURES);
	cr_expect_eq(simple(1000), 1000);
	vdriver_start(&drv, FEATURES);
	ring_set(&drv.ring, 0, DATA, 64, D_WRITE, 0);
	offer(0);
	expect_waiting(0);
}

/* --- saved and restored --- */

/* A request waits for the rate; the restored device has no more tokens than the saved one. */
RngTest(goes_on_where_it_was_saved)
{
	struct vdriver first, second;
	struct virtio_rng *first_rng;
	struct state_writer w;
	struct err err = {0};
	uint32_t id, len;

	remake(1000, FEATURES);
	cr_expect_eq(simple(990), 990);
	offer(0);
	expect_waiting(1);
	vdriver_save(&drv, &w);
	/* Paused: time passes, nothing is answered. */
	fake.now = 500 * MS;
	usleep(100000);
	vdriver_settle(&drv);
	cr_expect_eq(ring_used_idx(&drv.ring), 1);

	first = drv;
	first_rng = rng;
	make_device(&second, 1000);
	cr_assert_eq(vdriver_restore(&first, &w, &second, &err), 0, "%s", err.text);
	drv = second;
	vdriver_settle(&drv);
	cr_expect_eq(ring_used_idx(&drv.ring), 1, "10 tokens, 64 are a grain");
	fake.now = 600 * MS;
	cr_assert(vdriver_used(&drv, &id, &len));
	cr_expect_eq(len, 110);
	vdriver_fini(&drv);

	/* And the one that was saved, once it may. */
	drv = first;
	rng = first_rng;
	virtio_resume(drv.virtio);
	cr_assert(vdriver_used(&drv, &id, &len));
	cr_expect_gt(len, 0);
	state_writer_free(&w);
}
