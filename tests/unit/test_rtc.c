/* SPDX-License-Identifier: Apache-2.0 */
/* RTC: what Linux reads at boot, in BCD and binary, and that nothing can be set. */
#include <criterion/criterion.h>

#include <string.h>
#include <time.h>

#include "minivm/clock.h"
#include "minivm/platform.h"

static void *new_rtc(void)
{
	struct err err = {0};
	void *rtc;

	cr_assert_eq(rtc_new(&rtc, &err), 0);
	return rtc;
}

static uint8_t cmos(void *rtc, uint8_t index)
{
	rtc_io_ops.write(rtc, 0, 1, index);
	return (uint8_t)rtc_io_ops.read(rtc, 1, 1);
}

static void set_cmos(void *rtc, uint8_t index, uint8_t value)
{
	rtc_io_ops.write(rtc, 0, 1, index);
	rtc_io_ops.write(rtc, 1, 1, value);
}

static int from_bcd(uint8_t v)
{
	cr_assert((v & 0xf) <= 9 && v >> 4 <= 9, "0x%02x is no BCD", v);
	return (v >> 4) * 10 + (v & 0xf);
}

static int binary(uint8_t v)
{
	return v;
}

/* So long a pass sees one instant (devices/rtc.c); who is held up for longer tries again. */
#define PASS_NS 20000000ull

/* One pass as drivers make it, in the given decoding, with the weekday checked. */
static time_t read_time(void *rtc, int (*decode)(uint8_t))
{
	struct tm tm = {0};
	struct tm check;
	time_t t;
	int weekday;
	uint64_t before = clock_ns(CLOCK_MONOTONIC);

	cr_assert_eq(cmos(rtc, 0x0a) & 0x80, 0, "UIP");
	tm.tm_sec = decode(cmos(rtc, 0x00));
	tm.tm_min = decode(cmos(rtc, 0x02));
	tm.tm_hour = decode(cmos(rtc, 0x04));
	weekday = decode(cmos(rtc, 0x06));
	tm.tm_mday = decode(cmos(rtc, 0x07));
	tm.tm_mon = decode(cmos(rtc, 0x08)) - 1;
	tm.tm_year = decode(cmos(rtc, 0x09)) + decode(cmos(rtc, 0x32)) * 100 - 1900;
	if (clock_ns(CLOCK_MONOTONIC) - before >= PASS_NS)
		return read_time(rtc, decode);
	t = timegm(&tm);
	gmtime_r(&t, &check);
	cr_assert_eq(check.tm_wday + 1, weekday);
	cr_assert_eq(check.tm_mday, tm.tm_mday);
	return t;
}

Test(rtc, shows_the_hosts_time)
{
	void *rtc = new_rtc();
	time_t before = time(NULL);
	time_t t = read_time(rtc, from_bcd);

	/* time() is the last tick's, which may be of the second before. */
	cr_assert(t >= before && t <= time(NULL) + 1);
	cr_assert_eq(cmos(rtc, 0x0b), 0x02, "24 hours, BCD, no interrupts");
	cr_assert_eq(cmos(rtc, 0x0c), 0);
	cr_assert_eq(cmos(rtc, 0x0d), 0x80);

	set_cmos(rtc, 0x0b, 0x04); /* asks for 12 hours, too: not taken */
	cr_assert_eq(cmos(rtc, 0x0b), 0x06);
	before = time(NULL);
	t = read_time(rtc, binary);
	/* time() is the last tick's, which may be of the second before. */
	cr_assert(t >= before && t <= time(NULL) + 1);
	rtc_io_ops.reset(rtc);
	cr_assert_eq(cmos(rtc, 0x0b), 0x02);
	rtc_io_ops.destroy(rtc);
}

/* Backwards or forwards, a pass never mixes two seconds: sampled across at least one change. */
Test(rtc, a_pass_sees_one_instant, .timeout = 20)
{
	void *rtc = new_rtc();
	time_t start = time(NULL);
	time_t last = 0;
	struct timespec pause = {.tv_nsec = 500000};

	while (time(NULL) < start + 2) {
		time_t t = read_time(rtc, from_bcd);
		uint64_t before = clock_ns(CLOCK_MONOTONIC);
		int first, second;

		cr_assert_geq(t, last);
		last = t;
		cmos(rtc, 0x0a);
		first = from_bcd(cmos(rtc, 0x00));
		nanosleep(&pause, NULL);
		second = from_bcd(cmos(rtc, 0x00));
		cr_assert(first == second || clock_ns(CLOCK_MONOTONIC) - before >= PASS_NS);
	}
	rtc_io_ops.destroy(rtc);
}

/* A program that waits for the next second without looking at UIP is not held up. */
Test(rtc, seconds_move_on_by_themselves, .timeout = 10)
{
	void *rtc = new_rtc();
	struct timespec before, after;
	uint8_t first = cmos(rtc, 0x00);

	clock_gettime(CLOCK_MONOTONIC, &before);
	while (cmos(rtc, 0x00) == first)
		;
	clock_gettime(CLOCK_MONOTONIC, &after);
	cr_assert_leq(after.tv_sec - before.tv_sec, 5);
	rtc_io_ops.destroy(rtc);
}

Test(rtc, cannot_be_written)
{
	void *rtc = new_rtc();
	time_t before = time(NULL);

	for (unsigned i = 0; i < 128; i++)
		if (i != 0x0b)
			set_cmos(rtc, (uint8_t)i, 0x55);
	cr_assert(read_time(rtc, from_bcd) >= before - 1);
	cr_assert_eq(cmos(rtc, 0x01), 0xc0);
	cr_assert_eq(cmos(rtc, 0x03), 0xc0);
	cr_assert_eq(cmos(rtc, 0x05), 0xc0);
	for (uint8_t i = 0x0e; i < 128; i++)
		if (i != 0x32)
			cr_assert_eq(cmos(rtc, i), 0);
	rtc_io_ops.destroy(rtc);
}

Test(rtc, index_masks_the_nmi_bit_and_only_bytes_count)
{
	void *rtc = new_rtc();

	cr_assert_eq(cmos(rtc, 0x8d), 0x80);
	cr_assert_eq(rtc_io_ops.read(rtc, 0, 1) & 0xff, 0xff);
	cr_assert_eq(rtc_io_ops.read(rtc, 0, 2) & 0xffff, 0xffff);
	rtc_io_ops.write(rtc, 0, 2, 0x0b0b);
	cr_assert_eq(rtc_io_ops.read(rtc, 1, 1), 0x80, "the index has not moved");
	rtc_io_ops.destroy(rtc);
}
