/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP table as found in memory, and all processors that it lists (cpus=N) started by INIT/SIPI
 * from real mode: identity, inter-processor interrupts, atomics, work in ring 3 on each.
 */
#include "smp.h"

#include "apic.h"
#include "mp.h"
#include "rt.h"
#include "time.h"
#include "trap.h"

#define WAIT_MS 20000 /* 32 of them on a host with two, which may be busy */
#define VEC_IPI (VEC_FIRST_IRQ + 1)

static unsigned cpus;
static unsigned running;

static void mp_table(void)
{
	const struct mp_info *mp = mp_find();

	EXPECT(mp != NULL);
	EXPECT(mp->sums_right);
	EXPECT_EQ(mp->revision, 4);
	EXPECT_EQ(mp->cpus, cpus);
	EXPECT_EQ(mp->bsps, 1);
	EXPECT_EQ(mp->bsp_id, lapic_id());
	EXPECT_EQ(mp->lapic, LAPIC_BASE);
	EXPECT_EQ(mp->ioapics, 1);
	EXPECT_EQ(mp->ioapic, IOAPIC_BASE);
	EXPECT_EQ(mp->local_ints, 2);
	EXPECT_EQ(mp->isa_irqs & 0xfffb, 0xfffb); /* all but the cascade */
}

static void mp_ids_differ(void)
{
	const struct mp_info *mp = mp_find();

	EXPECT(mp != NULL);
	for (unsigned i = 0; i < mp->cpus; i++) {
		EXPECT(mp->apic_id[i] != mp->ioapic_id);
		for (unsigned k = 0; k < i; k++)
			EXPECT(mp->apic_id[i] != mp->apic_id[k]);
	}
}

static void boot_processor(void)
{
	EXPECT(rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP);
	EXPECT_EQ(rdmsr(MSR_APIC_BASE) & 0xfffff000, LAPIC_BASE);
}

static void start_all(void)
{
	running = smp_start_all(cpus);
	EXPECT_EQ(running, cpus);
}

/* --- identity --- */

struct identity {
	uint32_t lapic, cpuid1, topology;
	bool has_topology;
	bool bsp;
};
static struct identity identity[CPUS_MAX];

static void note_identity(void *arg)
{
	struct identity *id = arg;

	id->lapic = lapic_id();
	id->cpuid1 = cpuid(1, 0).ebx >> 24;
	id->has_topology = cpuid(0, 0).eax >= 0xb && cpuid(0xb, 0).ebx != 0;
	id->topology = id->has_topology ? cpuid(0xb, 0).edx : 0;
	id->bsp = rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP;
}

static void identities(void)
{
	note_identity(&identity[0]);
	for (unsigned i = 1; i < running; i++) {
		smp_run(i, note_identity, &identity[i]);
		EXPECT(smp_wait(i, WAIT_MS));
	}
	for (unsigned i = 0; i < running; i++) {
		EXPECT_EQ(identity[i].lapic, cpu_by_index(i)->apic_id);
		EXPECT_EQ(identity[i].cpuid1, identity[i].lapic);
		if (identity[i].has_topology)
			EXPECT_EQ(identity[i].topology, identity[i].lapic);
		EXPECT_EQ(identity[i].bsp, i == 0);
	}
}

/* --- inter-processor interrupts --- */

static volatile uint32_t ipis;
static volatile uint32_t ipi_mask;

static bool ipi(struct trap_frame *frame)
{
	(void)frame;
	__atomic_or_fetch(&ipi_mask, 1u << this_cpu()->index, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&ipis, 1, __ATOMIC_SEQ_CST);
	lapic_eoi();
	return true;
}

static bool wait_ipis(uint32_t want)
{
	uint64_t end = deadline_ms(WAIT_MS);

	while (ipis < want) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

static void ipi_begin(void)
{
	trap_handle(VEC_IPI, ipi);
	ipis = 0;
	ipi_mask = 0;
}

static void ipi_each(void)
{
	ipi_begin();
	for (unsigned i = 1; i < running; i++) {
		lapic_send(cpu_by_index(i)->apic_id, ICR_ASSERT | VEC_IPI);
		EXPECT(wait_ipis(i));
		EXPECT(ipi_mask & 1u << i);
	}
	EXPECT_EQ(ipi_mask & 1, 0);
}

static void ipi_all_but_self(void)
{
	ipi_begin();
	irq_enable();
	lapic_send(0, ICR_ALL_BUT_SELF | ICR_ASSERT | VEC_IPI);
	EXPECT(wait_ipis(running - 1));
	EXPECT_EQ(ipi_mask, (uint32_t)((1ull << running) - 2));
}

static void ipi_self(void)
{
	ipi_begin();
	irq_enable();
	lapic_send(0, ICR_SELF | ICR_ASSERT | VEC_IPI);
	EXPECT(wait_ipis(1));
	EXPECT_EQ(ipi_mask, 1);
}

/* The other side of HLT: CPU 0 sleeps until the last processor wakes it. */
static void send_back(void *arg)
{
	(void)arg;
	delay_us(2000);
	lapic_send(cpu_by_index(0)->apic_id, ICR_ASSERT | VEC_IPI);
}

static void ipi_wakes_from_halt(void)
{
	if (running < 2)
		SKIP("one processor");
	ipi_begin();
	smp_run(running - 1, send_back, NULL);
	irq_disable();
	while (!ipis) {
		irq_enable_and_halt();
		irq_disable();
	}
	EXPECT_EQ(ipi_mask, 1);
	EXPECT(smp_wait(running - 1, WAIT_MS));
}

/* --- work together --- */

#define ROUNDS 1000

static struct smp_barrier barrier_all;
static struct spinlock lock;
static volatile uint64_t locked_sum;
static uint64_t atomic_sum;

static long count_in_ring3(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		__atomic_add_fetch(&atomic_sum, 1, __ATOMIC_RELAXED);
		if (i % 16)
			continue;
		spin_lock(&lock);
		locked_sum = locked_sum + 1;
		spin_unlock(&lock);
	}
	return read_cs() & 3;
}

static void count(void *arg)
{
	bool *ok = arg;

	*ok =
	    smp_barrier_wait(&barrier_all, running, WAIT_MS) && run_user(count_in_ring3, NULL) == 3;
}

static void work_in_ring3(void)
{
	static bool ok[CPUS_MAX];

	for (unsigned i = 1; i < running; i++)
		smp_run(i, count, &ok[i]);
	count(&ok[0]);
	for (unsigned i = 1; i < running; i++)
		EXPECT(smp_wait(i, WAIT_MS));
	for (unsigned i = 0; i < running; i++)
		EXPECT(ok[i]);
	EXPECT_EQ(atomic_sum, (uint64_t)running * ROUNDS);
	EXPECT_EQ(locked_sum, (uint64_t)running * ((ROUNDS + 15) / 16));
}

/* A processor can be sent back to INIT and started once more. */
static void start_again(void)
{
	struct cpu *cpu = cpu_by_index(running - 1);

	if (running < 2)
		SKIP("one processor");
	for (unsigned i = 0; i < 3; i++) {
		cpu->online = false;
		EXPECT(smp_start(running - 1, cpu->apic_id));
		smp_run(running - 1, note_identity, &identity[running - 1]);
		EXPECT(smp_wait(running - 1, WAIT_MS));
	}
}

/* Interrupts for processors that do not exist go nowhere and hurt nobody. */
static void ipi_to_nobody(void)
{
	lapic_send(0xfe, ICR_ASSERT | VEC_IPI);
	lapic_send(0xfe, ICR_INIT | ICR_LEVEL | ICR_ASSERT);
	lapic_send(0xfe, ICR_STARTUP | 0x10);
}

/* Last: it cannot be undone. */
static void use_x2apic(void *arg)
{
	*(bool *)arg = lapic_use_x2apic();
}

static void x2apic(void)
{
	static bool ok[CPUS_MAX];

	if (!lapic_use_x2apic())
		SKIP("not in CPUID");
	EXPECT_EQ(lapic_id(), cpu_by_index(0)->apic_id);
	ipi_begin();
	/* the others are still in xAPIC mode, and must be reachable */
	for (unsigned i = 1; i < running; i++) {
		smp_run(i, use_x2apic, &ok[i]);
		EXPECT(smp_wait(i, WAIT_MS));
		EXPECT(ok[i]);
		lapic_send(cpu_by_index(i)->apic_id, ICR_ASSERT | VEC_IPI);
		EXPECT(wait_ipis(i));
	}
}

static const struct test_case cases[] = {
    {"mp_table", mp_table, 0},
    {"mp_ids_differ", mp_ids_differ, 0},
    {"boot_processor", boot_processor, 0},
    {"start_all", start_all, 0},
    {"identities", identities, 0},
    {"ipi_each", ipi_each, 0},
    {"ipi_all_but_self", ipi_all_but_self, 0},
    {"ipi_self", ipi_self, 0},
    {"ipi_wakes_from_halt", ipi_wakes_from_halt, 0},
    {"work_in_ring3", work_in_ring3, 0},
    {"start_again", start_again, 0},
    {"ipi_to_nobody", ipi_to_nobody, 0},
    {"x2apic", x2apic, 0},
};

int payload_main(void)
{
	cpus = (unsigned)cmdline_number("cpus", 1);
	running = 1;
	return run_cases("smp", cases, ARRAY_SIZE(cases));
}
