/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel of 50 MB whose first instructions write the exit port: what it takes to start it is what
 * it takes to start a VM. These bytes mean the same in 64-bit mode (Linux boot protocol) and in
 * 32-bit mode (PVH, which QEMU enters it by). Its size is made by first.ld.
 */
	.section .text.entry, "ax"
	.code64
	.globl _start
_start:
pvh_start:
	mov	$0, %al
	out	%al, $0xf4
1:	hlt
	jmp	1b

	.section .note.pvh, "a"
	.long	4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	pvh_start
	.section .note.GNU-stack, "", @progbits
