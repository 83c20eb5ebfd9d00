/* SPDX-License-Identifier: Apache-2.0 */
/* One processor: its stacks, TSS, and the state of traps and ring changes. */
#ifndef RT_CPU_H
#define RT_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

struct tss { /* AMD APM vol. 2 §12.2.5 */
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t iomap;
	/* All ports are ring 3's. IOPL 3 alone does not do where KVM runs ring 3 natively. */
	uint8_t io_bits[65536 / 8 + 1];
} __attribute__((packed));

struct fault {
	uint64_t vector;
	uint64_t error;
	uint64_t rip;
	uint64_t address; /* CR2, for page faults */
};

struct cpu {
	uint64_t saved_sp; /* in run_user(): the way back */
	uint64_t fault_sp; /* in expect_fault(): the way back */
	uint64_t user_top;
	struct tss tss;
	bool fault_armed;
	unsigned index;
	uint32_t apic_id;
	bool x2apic;	    /* its local APIC is in x2APIC mode */
	struct fault fault; /* the last one that was expected */
	/* smp.c: work handed to this processor */
	void (*volatile work)(void *arg);
	void *volatile work_arg;
	volatile bool online;
};

/* Works in both rings. */
static inline struct cpu *this_cpu(void)
{
	uintptr_t sp;

	asm volatile("mov %%rsp, %0" : "=r"(sp));
	return *(struct cpu **)(sp & -(uintptr_t)STACK_SIZE);
}

struct cpu *cpu_by_index(unsigned index);
uint64_t cpu_kernel_top(unsigned index);

/* Before a processor runs: its struct and the lowest words of its stacks. */
void cpu_prepare(unsigned index);
/* On the processor: GDT, TSS, IDT. */
void cpu_load_tables(unsigned index);

/*
 * Runs fn in ring 3 with IOPL 3 and all ports open on this processor's user stack and returns what
 * it returned. All memory is accessible to it. Interrupts are handled in ring 0 meanwhile, if they
 * were enabled.
 */
long run_user(long (*fn)(void *arg), void *arg);

/* switch.S, for trap.c */
extern const char rt_trap_stubs[];
extern const char rt_user_exit[];
extern const char rt_try_resume[];
_Noreturn void rt_leave_user(uint64_t saved_sp, long result);
bool rt_try(void (*fn)(void *arg), void *arg);

/* entry.S */
extern uint64_t rt_gdt[];
extern const char rt_gdtr[];
extern const char rt_trampoline[], rt_trampoline_end[];

#endif
