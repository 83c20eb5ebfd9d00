/* SPDX-License-Identifier: Apache-2.0 */
/* Per-processor tables. GDT slots and stacks are indexed by the order in which CPUs are started. */
#include "cpu.h"

#include "rt.h"
#include "trap.h"

_Static_assert(offsetof(struct cpu, saved_sp) == CPU_SAVED_SP, "layout.h");
_Static_assert(offsetof(struct cpu, fault_sp) == CPU_FAULT_SP, "layout.h");
_Static_assert(offsetof(struct cpu, user_top) == CPU_USER_TOP, "layout.h");
_Static_assert(offsetof(struct cpu, tss.rsp) == CPU_TSS_RSP0, "layout.h");

/* Named by entry.S, which enters on the first one. */
extern uint8_t rt_kernel_stacks[CPUS_MAX][STACK_SIZE];
uint8_t rt_kernel_stacks[CPUS_MAX][STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
static uint8_t user_stacks[CPUS_MAX][STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
static struct cpu cpus[CPUS_MAX] __attribute__((aligned(64)));

struct cpu *cpu_by_index(unsigned index)
{
	return &cpus[index];
}

uint64_t cpu_kernel_top(unsigned index)
{
	return (uint64_t)rt_kernel_stacks[index] + STACK_SIZE;
}

void cpu_prepare(unsigned index)
{
	struct cpu *cpu = &cpus[index];

	cpu->index = index;
	cpu->user_top = (uint64_t)user_stacks[index] + STACK_SIZE;
	cpu->tss.iomap = offsetof(struct tss, io_bits);
	cpu->tss.io_bits[sizeof(cpu->tss.io_bits) - 1] = 0xff; /* AMD APM vol. 2 §12.2.4 */
	*(struct cpu **)(void *)rt_kernel_stacks[index] = cpu;
	*(struct cpu **)(void *)user_stacks[index] = cpu;
}

void cpu_load_tables(unsigned index)
{
	uint64_t base = (uint64_t)&cpus[index].tss, limit = sizeof(struct tss) - 1;
	unsigned sel = SEL_TSS + 16 * index;
	uint64_t *desc = &rt_gdt[sel / 8];

	/* 64-bit available TSS, AMD APM vol. 2 §4.8.3 */
	desc[0] = limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	desc[1] = base >> 32;
	asm volatile("lgdt (%0)" : : "r"(rt_gdtr) : "memory");
	asm volatile("ltr %w0" : : "r"(sel) : "memory");
	trap_load();
}
