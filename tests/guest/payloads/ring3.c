/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's own promises: ring 3 and back, faults in both rings, port I/O and MMIO from ring 3,
 * interrupts that arrive there, and speed (user mode is native even where kernel mode is emulated).
 */
#include "apic.h"
#include "cpu.h"
#include "rt.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

static void touch(void *arg)
{
	(void)mmio_read32((uint64_t)arg);
}

static void undefined(void *arg)
{
	(void)arg;
	asm volatile("ud2");
}

static void halt(void *arg)
{
	(void)arg;
	asm volatile("hlt");
}

#define UNMAPPED 0x140000000ull /* 5 GiB: behind the identity map */

static void faults(void)
{
	unsigned user = (read_cs() & 3) == 3 ? PF_USER : 0;

	for (unsigned i = 0; i < 10; i++) {
		EXPECT(expect_fault(VEC_PF, touch, (void *)(UNMAPPED + i)));
		EXPECT_EQ(this_cpu()->fault.address, UNMAPPED + i);
		EXPECT_EQ(this_cpu()->fault.error, user);
	}
}

static void privilege(void)
{
	EXPECT_EQ(read_cs(), SEL_UCODE);
	EXPECT(expect_fault(VEC_GP, halt, NULL));
	EXPECT(expect_fault(VEC_UD, undefined, NULL));
}

static long answer(void *arg)
{
	return (long)arg + (read_cs() & 3);
}

static void there_and_back(void)
{
	for (long i = 0; i < 100; i++)
		EXPECT_EQ(run_user(answer, (void *)i), i + 3);
}

static void port_io(void)
{
	/* COM1's scratch register, and an MMIO register whose content is known */
	out8(0x3f8 + 7, 0x5a);
	EXPECT_EQ(in8(0x3f8 + 7), 0x5a);
	out8(0x3f8 + 7, 0xa5);
	EXPECT_EQ(in8(0x3f8 + 7), 0xa5);
}

static void mmio(void)
{
	/* the LAPIC is in-kernel; an empty place in the hole goes out to the VMM */
	EXPECT_EQ(mmio_read32(LAPIC_BASE + LAPIC_SVR) & 0xff, VEC_SPURIOUS);
	if (!boot_info.foreign)
		EXPECT_EQ(mmio_read32(0xd0000000), 0xffffffff);
}

static volatile unsigned ticks;

static bool tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	lapic_eoi();
	return true;
}

static long spin_until_tick(void *arg)
{
	uint64_t end = deadline_ms(1000);

	(void)arg;
	while (!ticks && !expired(end))
		cpu_pause();
	return (long)ticks;
}

static void interrupted(void)
{
	trap_handle(VEC_FIRST_IRQ, tick);
	ticks = 0;
	irq_enable();
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER, VEC_FIRST_IRQ);
	lapic_write(LAPIC_TIMER_INIT, 100000);
	EXPECT_EQ(run_user(spin_until_tick, NULL), 1);
	irq_disable();
}

static long time_loop(void *arg)
{
	uint64_t start = rdtsc();

	(void)arg;
	for (unsigned i = 0; i < 100000; i++)
		asm volatile("");
	return (long)tsc_to_us(rdtsc() - start);
}

/*
 * Ten times, and the shortest of ten runs, of which a busy host interrupts some: still far from
 * emulation, which costs a thousand times.
 */
static void speed(void)
{
	long ring0 = time_loop(NULL);
	long ring3 = run_user(time_loop, NULL);

	for (unsigned i = 0; i < 9; i++) {
		long again = run_user(time_loop, NULL);

		ring3 = again < ring3 ? again : ring3;
	}
	print("# ring3: 100 k loop rounds: ring 0 %ld us, ring 3 %ld us\n", ring0, ring3);
	EXPECT(ring3 < 10 * ring0 + 1000);
}

static const struct test_case cases[] = {
    {"there_and_back", there_and_back, 0}, {"faults_ring0", faults, 0}, {"faults_ring3", faults, 3},
    {"privilege", privilege, 3},	   {"port_io", port_io, 3},	{"mmio", mmio, 3},
    {"interrupted", interrupted, 0},	   {"speed", speed, 0},
};

int payload_main(void)
{
	return run_cases("ring3", cases, ARRAY_SIZE(cases));
}
