/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time: LAPIC timer (one-shot, periodic, TSC deadline), PIT through the I/O APIC and its channel 2
 * as Linux calibrates with it, kvm-clock. Bounds are wide: hosts are busy, emulated hosts slow.
 */
#include "time.h"

#include "apic.h"
#include "cpu.h"
#include "mp.h"
#include "rt.h"
#include "trap.h"
#include "x86.h"

#define VEC_TIMER VEC_FIRST_IRQ
#define WAIT_MS	  3000
#define DIVIDE_1  0xb

static volatile unsigned ticks;

static bool tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	lapic_eoi();
	return true;
}

static void begin(void)
{
	trap_handle(VEC_TIMER, tick);
	lapic_write(LAPIC_TIMER_INIT, 0);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_1);
	irq_enable();
	delay_us(1000); /* what was pending comes now */
	ticks = 0;
}

static bool wait_ticks(unsigned want, unsigned ms)
{
	uint64_t end = deadline_ms(ms);

	while (ticks < want) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

static void lapic_once(void)
{
	begin();
	lapic_write(LAPIC_LVT_TIMER, VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 1000000);
	EXPECT(wait_ticks(1, WAIT_MS));
	EXPECT_EQ(lapic_read(LAPIC_TIMER_NOW), 0);
	delay_us(5000);
	EXPECT_EQ(ticks, 1);
}

static void lapic_masked(void)
{
	begin();
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 100000);
	delay_us(5000);
	EXPECT_EQ(ticks, 0);
}

static void lapic_periodic(void)
{
	begin();
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 1000000);
	EXPECT(wait_ticks(10, WAIT_MS));
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 0);
	delay_us(1000);
	ticks = 0;
	delay_us(5000);
	EXPECT_EQ(ticks, 0);
}

static void lapic_counts_down(void)
{
	uint32_t first, second;

	begin();
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 0xffffffff);
	first = lapic_read(LAPIC_TIMER_NOW);
	delay_us(1000);
	second = lapic_read(LAPIC_TIMER_NOW);
	lapic_write(LAPIC_TIMER_INIT, 0);
	EXPECT(second < first);
	EXPECT(second > 0);
}

static void tsc_deadline(void)
{
	if (!(cpuid(1, 0).ecx & 1u << 24))
		SKIP("not in CPUID");
	begin();
	lapic_write(LAPIC_LVT_TIMER, LVT_TSC_DEADLINE | VEC_TIMER);
	full_barrier();
	wrmsr(MSR_TSC_DEADLINE, deadline_us(2000));
	EXPECT(wait_ticks(1, WAIT_MS));
	EXPECT_EQ(rdmsr(MSR_TSC_DEADLINE), 0);
	wrmsr(MSR_TSC_DEADLINE, 1); /* long ago: at once */
	EXPECT(wait_ticks(2, WAIT_MS));
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VEC_TIMER);
}

static void wakes_from_halt(void)
{
	uint64_t end = deadline_ms(WAIT_MS);

	begin();
	lapic_write(LAPIC_LVT_TIMER, VEC_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 2000000);
	irq_disable();
	while (!ticks && !expired(end)) {
		irq_enable_and_halt();
		irq_disable();
	}
	EXPECT_EQ(ticks, 1);
}

/* --- PIT (Intel 8254) --- */

static void pit_start(unsigned channel, unsigned mode, unsigned count)
{
	out8(0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	out8((uint16_t)(0x40 + channel), (uint8_t)count);
	out8((uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static void pit_periodic(void)
{
	unsigned pin = mp_isa_pin(0);

	begin();
	ioapic_route(pin, VEC_TIMER, lapic_id(), 0);
	pit_start(0, 2, PIT_HZ / 1000);
	EXPECT(wait_ticks(10, WAIT_MS));
	ioapic_mask(pin);
}

static void pit_once(void)
{
	unsigned pin = mp_isa_pin(0);

	begin();
	pit_start(0, 5, 1); /* waits for an edge of its gate, which never comes */
	ioapic_route(pin, VEC_TIMER, lapic_id(), 0);
	delay_us(1000);
	ticks = 0;
	pit_start(0, 0, PIT_HZ / 500);
	EXPECT(wait_ticks(1, WAIT_MS));
	delay_us(6000);
	EXPECT_EQ(ticks, 1);
	ioapic_mask(pin);
}

static void pit_masked(void)
{
	begin();
	ioapic_mask(mp_isa_pin(0));
	pit_start(0, 2, PIT_HZ / 1000);
	delay_us(5000);
	EXPECT_EQ(ticks, 0);
}

/* The output is low for 10 ms: how long that took here, the time that we do not run included. */
static uint64_t channel2_once(void)
{
	uint64_t end = deadline_ms(WAIT_MS), start = rdtsc(), us;
	bool low;

	pit_start(2, 0, PIT_HZ / 100);
	low = !(in8(0x61) & 0x20);
	if (!low && tsc_to_us(rdtsc() - start) < 9000)
		check_fail(__FILE__, __LINE__, "the output is low at first");
	while (!(in8(0x61) & 0x20) && !expired(end))
		cpu_pause();
	us = tsc_to_us(rdtsc() - start);
	if (us < 9000)
		check_fail_number(__FILE__, __LINE__, "10 ms of channel 2 in us", us, 10000);
	return us;
}

/* Channel 2 with gate and output in port 0x61, as Linux's pit_calibrate_tsc uses it. */
static void pit_channel2(void)
{
	uint64_t shortest = ~0ull;

	if (boot_info.foreign)
		SKIP("another VMM's ports");
	out8(0x61, (in8(0x61) & ~2u) | 1);
	for (unsigned i = 0; i < 5 && shortest >= 200000; i++) {
		uint64_t us = channel2_once();

		EXPECT_OK_SO_FAR();
		shortest = us < shortest ? us : shortest;
	}
	EXPECT(shortest < 200000);
}

/* --- kvm-clock --- */

static struct pvclock clock __attribute__((aligned(64)));

static long monotonic(void *arg)
{
	uint64_t last = pvclock_ns(&clock);

	(void)arg;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t now = pvclock_ns(&clock);

		if (now < last)
			return -1;
		last = now;
	}
	return 0;
}

static void kvm_clock(void)
{
	uint64_t ns, ticks_passed, start;

	if (boot_info.foreign)
		SKIP("no kvm-clock");
	EXPECT(kvm_clock_present());
	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	EXPECT(clock.tsc_to_system_mul != 0);
	EXPECT_EQ(clock.version & 1, 0);
	EXPECT_EQ(run_user(monotonic, NULL), 0);
	start = rdtsc();
	ns = pvclock_ns(&clock);
	delay_us(10000);
	ns = pvclock_ns(&clock) - ns;
	ticks_passed = rdtsc() - start;
	EXPECT(ns >= 9900000);
	EXPECT(ns / 1000 <= tsc_to_us(ticks_passed) * 11 / 10 + 1000);
	EXPECT_EQ(rdmsr(MSR_KVM_SYSTEM_TIME), (uint64_t)&clock | 1);
	wrmsr(MSR_KVM_SYSTEM_TIME, 0);
}

static void kvm_wall_clock(void)
{
	static struct {
		volatile uint32_t version, sec, nsec;
	} wall __attribute__((aligned(64)));

	if (boot_info.foreign)
		SKIP("no kvm-clock");
	wrmsr(MSR_KVM_WALL_CLOCK, (uint64_t)&wall);
	EXPECT(wall.sec > 1700000000);
	EXPECT(wall.nsec < 1000000000);
	EXPECT_EQ(wall.version & 1, 0);
}

static const struct test_case cases[] = {
    {"lapic_once", lapic_once, 0},	   {"lapic_masked", lapic_masked, 0},
    {"lapic_periodic", lapic_periodic, 0}, {"lapic_counts_down", lapic_counts_down, 0},
    {"tsc_deadline", tsc_deadline, 0},	   {"wakes_from_halt", wakes_from_halt, 0},
    {"pit_periodic", pit_periodic, 0},	   {"pit_once", pit_once, 0},
    {"pit_masked", pit_masked, 0},	   {"pit_channel2", pit_channel2, 0},
    {"kvm_clock", kvm_clock, 0},	   {"kvm_wall_clock", kvm_wall_clock, 0},
};

int payload_main(void)
{
	return run_cases("timer", cases, ARRAY_SIZE(cases));
}
