/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions and interrupts. */
#ifndef RT_TRAP_H
#define RT_TRAP_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

enum {
	VEC_UD = 6,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_FIRST_IRQ = 0x30,
	VEC_WAKE = 0xf0, /* smp.c */
	VEC_SPURIOUS = 0xff,
};

enum { /* page-fault error code */
       PF_PRESENT = 1,
       PF_WRITE = 2,
       PF_USER = 4,
       PF_FETCH = 16,
};

/* As switch.S pushes it. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

/*
 * Runs in ring 0 with interrupts off; an interrupt's handler ends with lapic_eoi(). It may change
 * the frame. False: not mine; then an exception is looked at as an expected fault.
 */
typedef bool trap_handler(struct trap_frame *frame);
void trap_handle(unsigned vector, trap_handler *handler);

/*
 * Calls fn(arg), in the caller's ring, and returns whether it ended with exception `vector`; what
 * happened is in this_cpu()->fault. Any other exception, and any outside of this, ends the payload.
 */
bool expect_fault(unsigned vector, void (*fn)(void *arg), void *arg);

void trap_init(void); /* builds the IDT, once */
void trap_load(void); /* loads it, on each processor */

/* For switch.S. */
void rt_trap(struct trap_frame *frame);

#endif
