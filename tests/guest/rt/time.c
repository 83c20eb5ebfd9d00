/* SPDX-License-Identifier: Apache-2.0 */
/* The TSC's frequency, from kvm-clock's scale or from 10 ms of the PIT. */
#include "time.h"

#include "rt.h"

#define KVM_CPUID_SIGNATURE	 0x40000000
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)

uint64_t tsc_hz;

bool kvm_clock_present(void)
{
	struct cpuid_result r = cpuid(KVM_CPUID_SIGNATURE, 0);

	/* "KVMKVMKVM" */
	if (r.ebx != 0x4b4d564b || r.ecx != 0x564b4d56 || r.edx != 0x4d)
		return false;
	return cpuid(KVM_CPUID_SIGNATURE + 1, 0).eax & KVM_FEATURE_CLOCKSOURCE2;
}

static uint64_t scale_tsc(uint64_t ticks, uint32_t mul, int shift)
{
	ticks = shift >= 0 ? ticks << shift : ticks >> -shift;
	return (uint64_t)((unsigned __int128)ticks * mul >> 32);
}

uint64_t pvclock_ns(const struct pvclock *clock)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = clock->version;
		ns = clock->system_time + scale_tsc(rdtsc() - clock->tsc_timestamp,
						    clock->tsc_to_system_mul, clock->tsc_shift);
	} while ((version & 1) || version != clock->version);
	return ns;
}

static uint64_t hz_by_kvm_clock(void)
{
	static struct pvclock clock __attribute__((aligned(64)));
	uint64_t hz;

	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	if (clock.tsc_to_system_mul == 0)
		return 0;
	hz = (1000000000ull << 32) / clock.tsc_to_system_mul;
	hz = clock.tsc_shift >= 0 ? hz >> clock.tsc_shift : hz << -clock.tsc_shift;
	wrmsr(MSR_KVM_SYSTEM_TIME, 0);
	return hz;
}

static unsigned pit_count(void)
{
	unsigned low;

	out8(0x43, 0x00); /* latch channel 0 */
	low = in8(0x40);
	return low | (unsigned)in8(0x40) << 8;
}

/* By the counter itself: port 0x61, which shows channel 2's output, is missing on small machines.
 */
static uint64_t hz_by_pit(void)
{
	const unsigned ms = 10;
	uint64_t start;

	out8(0x43, 0x34); /* channel 0, both bytes, mode 2 */
	out8(0x40, 0xff);
	out8(0x40, 0xff);
	start = rdtsc();
	while (pit_count() > 0xffff - PIT_HZ * ms / 1000)
		cpu_pause();
	return (rdtsc() - start) * 1000 / ms;
}

void time_init(void)
{
	if (kvm_clock_present())
		tsc_hz = hz_by_kvm_clock();
	if (tsc_hz == 0)
		tsc_hz = hz_by_pit();
}

void delay_us(uint64_t us)
{
	uint64_t end = deadline_us(us);

	while (!expired(end))
		cpu_pause();
}

uint64_t tsc_to_us(uint64_t ticks)
{
	return ticks / (tsc_hz / 1000000 + 1);
}
