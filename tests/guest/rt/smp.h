/* SPDX-License-Identifier: Apache-2.0 */
/* Further processors, spinlocks and barriers. */
#ifndef RT_SMP_H
#define RT_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "x86.h"

struct spinlock {
	volatile uint32_t taken;
};

/* Works in both rings; interrupts are the caller's business. */
static inline void spin_lock(struct spinlock *l)
{
	while (__atomic_exchange_n(&l->taken, 1, __ATOMIC_ACQUIRE)) {
		while (l->taken)
			cpu_pause();
	}
}

static inline void spin_unlock(struct spinlock *l)
{
	__atomic_store_n(&l->taken, 0, __ATOMIC_RELEASE);
}

struct smp_barrier {
	volatile uint32_t arrived;
	volatile uint32_t generation;
};

/* Waits until `count` processors are here; false after `ms` milliseconds. Reusable. */
bool smp_barrier_wait(struct smp_barrier *b, unsigned count, unsigned ms);

/* Starts processor `index` with this APIC id by INIT/SIPI and waits for it. */
bool smp_start(unsigned index, uint32_t apic_id);
/* Starts those of the MP table up to a total of `count`; returns how many run, this one included.
 */
unsigned smp_start_all(unsigned count);

/*
 * Has an idle processor run fn(arg) in ring 0 with interrupts off (between jobs it halts).
 * smp_wait: false if it is not done in time.
 */
void smp_run(unsigned index, void (*fn)(void *arg), void *arg);
bool smp_wait(unsigned index, unsigned ms);

#endif
