/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways into a payload: the Linux 64-bit boot protocol (what minivm uses), PVH (minivm's --entry
 * pvh; and so that QEMU can run the same file with -kernel, as a second opinion) and INIT/SIPI for
 * further processors. All
 * meet in rt_start or rt_ap_start with flat segments, our page tables and a stack.
 */
#include "layout.h"

#define CR0_VALUE 0x80010033 /* PG WP NE ET MP PE */
#define CR4_PAE   0x20
#define MSR_EFER  0xc0000080
#define EFER_BITS 0x900 /* LME NXE */

#define LAPIC_VERSION_REG 0xfee00030

	.section .text.entry, "ax"
	.code64
	.globl _start
_start: /* RSI = zero page; identity map of the first GiB; interrupts off */
	cld
	lea	rt_kernel_stacks + STACK_SIZE(%rip), %rsp
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_BITS, %eax
	wrmsr
	mov	$rt_pml4, %eax
	mov	%rax, %cr3
	mov	$CR0_VALUE, %eax
	mov	%rax, %cr0
	lgdt	rt_gdtr(%rip)
	mov	%rsi, %rdi
	xor	%esi, %esi
	push	$SEL_KCODE
	lea	1f(%rip), %rax
	push	%rax
	lretq
1:	call	load_segments
	call	rt_start
	ud2

load_segments:
	mov	$SEL_KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	ret

long_mode: /* EBP: 1 = PVH with EBX = start info, 0 = application processor */
	call	load_segments
	test	%ebp, %ebp
	jz	1f
	lea	rt_kernel_stacks + STACK_SIZE(%rip), %rsp
	xor	%edi, %edi
	mov	%ebx, %esi
	call	rt_start
	ud2
1:	mov	rt_ap_stack(%rip), %rsp
	call	rt_ap_start
	ud2

	.code32
pvh_start: /* flat 32-bit protected mode, EBX = start info; what we find is noted, see pvh.h */
	mov	$rt_boot_stack_top, %esp
	mov	%ebx, rt_pvh_entry
	pushfl
	popl	rt_pvh_entry + 4
	mov	%cr0, %eax
	mov	%eax, rt_pvh_entry + 8
	mov	%cr4, %eax
	mov	%eax, rt_pvh_entry + 12
	mov	LAPIC_VERSION_REG, %eax
	mov	%eax, rt_pvh_entry + 16
	mov	%es:LAPIC_VERSION_REG, %eax
	mov	%eax, rt_pvh_entry + 20
	mov	%ss:LAPIC_VERSION_REG, %eax
	mov	%eax, rt_pvh_entry + 24
	cli
	cld
	lgdt	rt_gdtr
	mov	$1, %ebp
	ljmp	$SEL_CODE32, $protected_mode
protected_mode:
	mov	$SEL_KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$rt_boot_stack_top, %esp
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$rt_pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_BITS, %eax
	wrmsr
	mov	$CR0_VALUE, %eax
	mov	%eax, %cr0
	ljmp	$SEL_KCODE, $long_mode

/* Copied to TRAMPOLINE_GPA; CS:IP = 1000:0000 after SIPI. */
	.code16
	.globl rt_trampoline, rt_trampoline_end
rt_trampoline:
	cli
	cld
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	trampoline_gdtr - rt_trampoline
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	xor	%ebp, %ebp
	ljmpl	$SEL_CODE32, $protected_mode
	.balign 4
trampoline_gdtr:
	.word	SEL_TSS + 16 * CPUS_MAX - 1
	.long	rt_gdt
rt_trampoline_end:

	.code64
	.section .note.pvh, "a"
	.long	4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	pvh_start

	.data
	.balign 16
	.globl rt_pvh_entry
rt_pvh_entry:
	.skip	28
	.balign 16
	.globl rt_gdt
rt_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff /* 08 code, 32 bits */
	.quad	0x00af9b000000ffff /* 10 kernel code, 64 bits */
	.quad	0x00cf93000000ffff /* 18 kernel data */
	.quad	0x00cffb000000ffff /* 20 user code, 32 bits (SYSRET's base) */
	.quad	0x00cff3000000ffff /* 28 user data */
	.quad	0x00affb000000ffff /* 30 user code, 64 bits */
	.quad	0
	.skip	16 * CPUS_MAX
	.globl rt_gdtr
rt_gdtr:
	.word	rt_gdtr - rt_gdt - 1
	.quad	rt_gdt

/*
 * Identity map of 4 GiB by 2 MiB pages, present, writable, user; from 3 GiB on (devices) uncached.
 * Made by the assembler: where kernel mode is emulated, a loop would cost milliseconds.
 */
	.section .data.page, "aw"
	.balign 4096
	.globl rt_pml4, rt_pdpt, rt_pd
rt_pml4:
	.quad	rt_pdpt + 7
	.skip	511 * 8
rt_pdpt:
	.quad	rt_pd + 7, rt_pd + 0x1007, rt_pd + 0x2007, rt_pd + 0x3007
	.skip	508 * 8
rt_pd:
	.set	page, 0
	.rept	1536
	.quad	page + 0x87
	.set	page, page + 0x200000
	.endr
	.rept	512
	.quad	page + 0x9f
	.set	page, page + 0x200000
	.endr

	.bss
	.balign 16
	.skip	1024
rt_boot_stack_top:
	.section .note.GNU-stack, "", @progbits
