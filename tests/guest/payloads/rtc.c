/* SPDX-License-Identifier: Apache-2.0 */
/* The MC146818 clock as Linux reads it (mc146818_get_time), without slow waits for an update. */
#include "rt.h"
#include "time.h"
#include "x86.h"

enum {
	RTC_SECONDS = 0,
	RTC_MINUTES = 2,
	RTC_HOURS = 4,
	RTC_DAY = 7,
	RTC_MONTH = 8,
	RTC_YEAR = 9,
	RTC_A = 10,
	RTC_B = 11,
	RTC_C = 12,
	RTC_D = 13,
	RTC_CENTURY = 0x32,
};

#define A_UIP 0x80
#define B_DM  0x04 /* binary, not BCD */
#define B_24H 0x02
#define D_VRT 0x80 /* valid RAM and time */

static uint8_t rtc_read(unsigned reg)
{
	out8(0x70, (uint8_t)reg);
	return in8(0x71);
}

static unsigned rtc_value(unsigned reg)
{
	uint8_t v = rtc_read(reg);

	return rtc_read(RTC_B) & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static void status_registers(void)
{
	EXPECT_EQ(rtc_read(RTC_D) & D_VRT, D_VRT);
	EXPECT(rtc_read(RTC_B) & B_24H);
	EXPECT_EQ(rtc_read(RTC_C), 0); /* no interrupt pending */
}

/* Linux polls for up to a second while UIP is set; it has to see it clear at once nearly always. */
static void no_slow_probe(void)
{
	unsigned set = 0;

	for (unsigned i = 0; i < 20; i++)
		set += rtc_read(RTC_A) & A_UIP ? 1 : 0;
	EXPECT(set <= 2);
}

static void plausible(void)
{
	unsigned month = rtc_value(RTC_MONTH);
	unsigned day = rtc_value(RTC_DAY);

	EXPECT(month >= 1 && month <= 12);
	EXPECT(day >= 1 && day <= 31);
	EXPECT(rtc_value(RTC_HOURS) < 24);
	EXPECT(rtc_value(RTC_MINUTES) < 60);
	EXPECT(rtc_value(RTC_SECONDS) < 61);
	EXPECT(rtc_value(RTC_YEAR) >= 24);
}

/* Seconds since 2000, by the calendar (days since 1 March, so that leap days come last). */
static uint64_t read_fields(void)
{
	unsigned month = rtc_value(RTC_MONTH);
	uint64_t y = rtc_value(RTC_YEAR) - (month <= 2);
	uint64_t m = (month + 9) % 12;
	uint64_t days = 365 * y + y / 4 + (153 * m + 2) / 5 + rtc_value(RTC_DAY) - 1;

	return ((days * 24 + rtc_value(RTC_HOURS)) * 60 + rtc_value(RTC_MINUTES)) * 60 +
	       rtc_value(RTC_SECONDS);
}

/* Two passes in a row that agree: fields of different times are none. */
static uint64_t rtc_seconds(void)
{
	uint64_t last, now = read_fields();

	do {
		last = now;
		(void)rtc_read(RTC_A); /* a pass begins */
		now = read_fields();
	} while (now != last);
	return now;
}

static void runs(void)
{
	uint64_t start = rdtsc();
	uint64_t before = rtc_seconds(), after = before;
	uint64_t end = deadline_ms(3000);

	while (after == before && !expired(end))
		after = rtc_seconds();
	EXPECT(after > before);
	EXPECT(after - before <= 2 + tsc_to_us(rdtsc() - start) / 1000000);
}

/* Wall time from kvm-clock and from the RTC are the same clock of the host. */
static void agrees_with_kvm_clock(void)
{
	static struct {
		volatile uint32_t version, sec, nsec;
	} wall __attribute__((aligned(64)));
	const uint64_t to_2000_03_01 = 951868800; /* seconds from 1970 */
	uint64_t boot, now, difference;
	static struct pvclock clock __attribute__((aligned(64)));

	if (!kvm_clock_present())
		SKIP("no kvm-clock");
	wrmsr(MSR_KVM_WALL_CLOCK, (uint64_t)&wall);
	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	boot = wall.sec;
	now = boot + pvclock_ns(&clock) / 1000000000;
	wrmsr(MSR_KVM_SYSTEM_TIME, 0);
	difference = now - (rtc_seconds() + to_2000_03_01) + 3;
	EXPECT(difference <= 6);
}

/* A guest can neither set the host's clock nor lock up the device. */
static void writes(void)
{
	uint64_t before = rtc_seconds();

	out8(0x70, RTC_SECONDS);
	out8(0x71, 61);
	out8(0x70, RTC_YEAR);
	out8(0x71, 99);
	EXPECT(rtc_seconds() - before <= 5);
	for (unsigned reg = 0x80; reg < 0x100; reg += 0x0d) /* bit 7: NMI mask */
		(void)rtc_read(reg);
	EXPECT(rtc_seconds() - before <= 5);
}

static const struct test_case cases[] = {
    {"status_registers", status_registers, 0},
    {"no_slow_probe", no_slow_probe, 0},
    {"plausible", plausible, 0},
    {"runs", runs, 3},
    {"agrees_with_kvm_clock", agrees_with_kvm_clock, 0},
    {"writes", writes, 0},
};

int payload_main(void)
{
	return run_cases("rtc", cases, ARRAY_SIZE(cases));
}
