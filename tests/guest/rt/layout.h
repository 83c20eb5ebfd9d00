/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that assembly and C share: selectors, stack sizes, low memory, offsets in struct cpu.
 *
 * The selectors are those of Linux (user code 0x33, user data 0x2b): SYSRET wants their order, and
 * hosts that run guest user mode natively know them best.
 */
#ifndef RT_LAYOUT_H
#define RT_LAYOUT_H

#define SEL_CODE32 0x08
#define SEL_KCODE  0x10
#define SEL_KDATA  0x18
#define SEL_UBASE  0x20 /* STAR[63:48]: SYSRET adds 8 for SS and 16 for CS */
#define SEL_UDATA  0x2b
#define SEL_UCODE  0x33
#define SEL_TSS	   0x40 /* 16 bytes for each CPU */

#define CPUS_MAX 32

/* Kernel and user stacks; the lowest word of each holds the address of its struct cpu. */
#define STACK_SIZE 16384

/* The trampoline for INIT/SIPI, in memory that the boot protocol leaves free. */
#define TRAMPOLINE_GPA 0x10000

/* struct cpu, asserted in cpu.c */
#define CPU_SAVED_SP 0
#define CPU_FAULT_SP 8
#define CPU_USER_TOP 16
#define CPU_TSS_RSP0 28 /* cpu.tss.rsp0: the TSS is packed, 4 bytes into it */

#endif
