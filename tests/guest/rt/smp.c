/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INIT/SIPI (MP 1.4 §B.4). Processors are started one after the other, since they share the
 * trampoline's stack pointer. An idle one halts: on a host with fewer CPUs than the guest, one that
 * spins would slow the rest.
 */
#include "smp.h"

#include "apic.h"
#include "cpu.h"
#include "mp.h"
#include "rt.h"
#include "time.h"
#include "trap.h"

#define START_MS 2000

uint64_t rt_ap_stack; /* entry.S */
static unsigned starting;

void rt_ap_start(void); /* for entry.S */

static bool woken(struct trap_frame *frame)
{
	(void)frame;
	lapic_eoi();
	return true;
}

void rt_ap_start(void)
{
	struct cpu *cpu = cpu_by_index(starting);

	cpu_load_tables(cpu->index);
	lapic_enable();
	cpu->apic_id = lapic_id();
	__atomic_store_n(&cpu->online, true, __ATOMIC_RELEASE);
	for (;;) {
		irq_disable();
		while (!cpu->work) {
			irq_enable_and_halt();
			irq_disable();
		}
		cpu->work(cpu->work_arg);
		__atomic_store_n(&cpu->work, NULL, __ATOMIC_RELEASE);
	}
}

static bool wait_online(const struct cpu *cpu, uint64_t us)
{
	uint64_t end = deadline_us(us);

	while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE)) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

bool smp_start(unsigned index, uint32_t apic_id)
{
	struct cpu *cpu = cpu_by_index(index);
	const uint32_t sipi = ICR_STARTUP | TRAMPOLINE_GPA >> 12;

	trap_handle(VEC_WAKE, woken);
	cpu_prepare(index);
	cpu->x2apic = false; /* INIT keeps the mode, but a fresh start sets it anew */
	starting = index;
	rt_ap_stack = cpu_kernel_top(index);
	memcpy((void *)TRAMPOLINE_GPA, rt_trampoline, (size_t)(rt_trampoline_end - rt_trampoline));
	lapic_send(apic_id, ICR_INIT | ICR_LEVEL | ICR_ASSERT);
	lapic_send(apic_id, ICR_INIT | ICR_LEVEL);
	delay_us(200);
	lapic_send(apic_id, sipi);
	if (wait_online(cpu, 20000))
		return true;
	lapic_send(apic_id, sipi); /* the specification's second try */
	return wait_online(cpu, START_MS * 1000);
}

unsigned smp_start_all(unsigned count)
{
	const struct mp_info *mp = mp_find();
	uint32_t self = lapic_id();
	unsigned running = 1;

	cpu_by_index(0)->apic_id = self;
	for (unsigned i = 0; mp && i < mp->cpus && running < count; i++) {
		if (mp->apic_id[i] == self)
			continue;
		if (!smp_start(running, mp->apic_id[i]))
			break;
		running++;
	}
	return running;
}

void smp_run(unsigned index, void (*fn)(void *arg), void *arg)
{
	struct cpu *cpu = cpu_by_index(index);

	cpu->work_arg = arg;
	__atomic_store_n(&cpu->work, fn, __ATOMIC_RELEASE);
	lapic_send(cpu->apic_id, ICR_ASSERT | VEC_WAKE);
}

bool smp_wait(unsigned index, unsigned ms)
{
	struct cpu *cpu = cpu_by_index(index);
	uint64_t end = deadline_ms(ms);

	while (__atomic_load_n(&cpu->work, __ATOMIC_ACQUIRE)) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

bool smp_barrier_wait(struct smp_barrier *b, unsigned count, unsigned ms)
{
	uint32_t generation = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);
	uint64_t end = deadline_ms(ms);

	if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == count) {
		b->arrived = 0;
		__atomic_add_fetch(&b->generation, 1, __ATOMIC_RELEASE);
		return true;
	}
	while (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}
