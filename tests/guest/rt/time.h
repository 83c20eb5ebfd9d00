/* SPDX-License-Identifier: Apache-2.0 */
/* Time by the TSC, in both rings. Every wait in a payload has a deadline. */
#ifndef RT_TIME_H
#define RT_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "x86.h"

#define PIT_HZ 1193182u

extern uint64_t tsc_hz; /* by kvm-clock, or measured against the PIT */

void time_init(void);

static inline uint64_t deadline_us(uint64_t us)
{
	return rdtsc() + tsc_hz / 1000 * us / 1000;
}

static inline uint64_t deadline_ms(uint64_t ms)
{
	return deadline_us(1000 * ms);
}

static inline bool expired(uint64_t deadline)
{
	return (int64_t)(rdtsc() - deadline) >= 0;
}

void delay_us(uint64_t us);
uint64_t tsc_to_us(uint64_t ticks);

/* --- kvm-clock, Linux Documentation/virt/kvm/x86/msr.rst --- */

#define MSR_KVM_WALL_CLOCK  0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x4b564d01

struct pvclock {
	volatile uint32_t version; /* odd while the host writes */
	uint32_t pad;
	volatile uint64_t tsc_timestamp;
	volatile uint64_t system_time;
	volatile uint32_t tsc_to_system_mul;
	volatile int8_t tsc_shift;
	volatile uint8_t flags;
	uint8_t pad2[2];
};

/* CPUID says that these MSRs are there. */
bool kvm_clock_present(void);
uint64_t pvclock_ns(const struct pvclock *clock);

#endif
