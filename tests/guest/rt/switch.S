/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traps, the drop to ring 3 and back, and calls that may fault.
 *
 * Nothing here needs GS or a per-CPU register: the CPU's struct is found through the lowest word of
 * the current stack, in both rings. Only instructions that KVM's emulator knows are used.
 */
#include "layout.h"

	.text
	.code64

.macro this_cpu reg
	mov	%rsp, \reg
	and	$-STACK_SIZE, \reg
	mov	(\reg), \reg
.endm

/* The IDT's targets, 16 bytes each. Vectors with an error code: AMD APM vol. 2 §8.2. */
	.balign 16
	.globl rt_trap_stubs
rt_trap_stubs:
	.set	vector, 0
	.rept	256
	.balign 16
	.if (vector != 8) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
	.if (vector < 10) || (vector > 14)
	push	$0
	.endif
	.endif
	push	$vector
	jmp	trap_common
	.set	vector, vector + 1
	.endr

trap_common: /* the CPU aligned the stack; 22 words are a multiple of 16 bytes */
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	call	rt_trap
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

.macro save_callee
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
.endm
.macro restore_callee
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
.endm

/* long run_user(long (*fn)(void *arg), void *arg): IOPL 3; the interrupt flag is the caller's. */
	.globl run_user
run_user:
	save_callee
	pushfq
	this_cpu %rax
	mov	(%rsp), %rdx
	cli
	mov	%rsp, CPU_SAVED_SP(%rax)
	mov	%rsp, %rcx
	and	$-16, %rcx
	mov	%rcx, CPU_TSS_RSP0(%rax)
	and	$0x200, %edx
	or	$0x3002, %edx
	push	$SEL_UDATA
	push	CPU_USER_TOP(%rax)
	push	%rdx
	push	$SEL_UCODE
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	mov	%rdi, %rax /* ring 3 from here */
	mov	%rsi, %rdi
	call	*%rax
/*
 * The way back is an invalid instruction at a known place: #UD arrives correctly on every host,
 * while `int n` from user mode does not on those that run user mode natively.
 */
	.globl rt_user_exit
rt_user_exit:
	ud2

/* void rt_leave_user(uint64_t saved_sp, long result): called by the #UD handler; no return. */
	.globl rt_leave_user
rt_leave_user:
	mov	%rdi, %rsp
	mov	%rsi, %rax
	popfq
	restore_callee
	ret

/* bool rt_try(void (*fn)(void *arg), void *arg): true if the trap handler cut fn short. */
	.globl rt_try, rt_try_resume
rt_try:
	save_callee
	sub	$8, %rsp
	this_cpu %rax
	mov	%rsp, CPU_FAULT_SP(%rax)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	call	*%rax
	xor	%eax, %eax
1:	add	$8, %rsp
	restore_callee
	ret
rt_try_resume: /* the trap handler put RSP back */
	mov	$1, %eax
	jmp	1b

	.section .note.GNU-stack, "", @progbits
