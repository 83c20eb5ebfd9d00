/* SPDX-License-Identifier: Apache-2.0 */
/* The entry state, checked against boot.rst's list and by walking tables as the processor would. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "minivm/boot.h"

#define ENTRY 0x1000000

static struct guest_mem mem;
static struct kvm_regs regs;
static struct kvm_sregs sregs;

static void enter(void)
{
	struct err err = {0};

	cr_assert_eq(guest_mem_map(&mem, 16ull << 20, &err), 0);
	memset(&regs, 0xff, sizeof(regs));
	/* What KVM_GET_SREGS says after reset, as far as it matters. */
	sregs.cr0 = 0x60000010;
	sregs.apic_base = 0xfee00900;
	sregs.cs.selector = 0xf000;
	cr_assert_eq(boot_regs_long_mode(&mem, ENTRY, &regs, &sregs, &err), 0, "%s", err.text);
}

static void leave(void)
{
	guest_mem_unmap(&mem);
}

static uint64_t word(uint64_t gpa)
{
	uint64_t v;

	cr_assert_eq(guest_mem_read(&mem, GPA(gpa), &v, sizeof(v)), 0);
	return v;
}

Test(boot_regs, general_registers, .init = enter, .fini = leave)
{
	cr_assert_eq(regs.rip, ENTRY);
	cr_assert_eq(regs.rsi, BOOT_ZERO_PAGE_GPA);
	cr_assert_eq(regs.rsp, BOOT_STACK_GPA);
	cr_assert_eq(regs.rflags, 2, "interrupts disabled");
	cr_assert_eq(regs.rax | regs.rbx | regs.rcx | regs.rdx | regs.rdi | regs.r8 | regs.r15, 0);
}

Test(boot_regs, long_mode_with_paging, .init = enter, .fini = leave)
{
	cr_assert_eq(sregs.cr0 & 0x80000001, 0x80000001, "PG, PE");
	cr_assert_eq(sregs.cr0 & 0x60000000, 0, "caches on");
	cr_assert_eq(sregs.cr4 & 0x20, 0x20, "PAE");
	cr_assert_eq(sregs.efer & 0x500, 0x500, "LME, LMA");
	cr_assert_eq(sregs.cr3, BOOT_PML4_GPA);
	cr_assert_eq(sregs.apic_base, 0xfee00900, "left alone");
}

Test(boot_regs, segments, .init = enter, .fini = leave)
{
	const struct kvm_segment *data[] = {&sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs};

	cr_assert_eq(sregs.cs.selector, 0x10);
	cr_assert(sregs.cs.l && !sregs.cs.db && sregs.cs.present && sregs.cs.s && sregs.cs.g);
	cr_assert_eq(sregs.cs.type, 0xb);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(data[i]->selector, 0x18);
		cr_assert_eq(data[i]->type, 3);
		cr_assert_eq(data[i]->base, 0);
		cr_assert_eq(data[i]->limit, 0xffffffff);
		cr_assert(data[i]->present && data[i]->s && !data[i]->unusable);
	}
	cr_assert_eq(sregs.tr.type, 0xb, "VMX wants a busy TSS");
	cr_assert(sregs.tr.present && !sregs.tr.s);
	cr_assert_eq(sregs.idt.limit, 0);
}

Test(boot_regs, descriptors_say_what_the_registers_say, .init = enter, .fini = leave)
{
	cr_assert_eq(sregs.gdt.base, BOOT_GDT_GPA);
	cr_assert_eq(word(BOOT_GDT_GPA), 0);
	cr_assert_eq(word(BOOT_GDT_GPA + 0x10), 0x00af9b000000ffff);
	cr_assert_eq(word(BOOT_GDT_GPA + 0x18), 0x00cf93000000ffff);
	cr_assert_eq(word(BOOT_GDT_GPA + sregs.tr.selector),
		     0x00008b0000000067 | (uint64_t)BOOT_TSS_GPA << 16);
	cr_assert_eq(word(BOOT_GDT_GPA + sregs.tr.selector + 8), 0);
	cr_assert_geq(sregs.gdt.limit, sregs.tr.selector + 15);
}

/* A 4-level walk that knows large pages only at level 2. */
static uint64_t translate(uint64_t va)
{
	uint64_t e = word(sregs.cr3 + (va >> 39 & 511) * 8);

	cr_assert_eq(e & 3, 3);
	e = word((e & ~0xfffull) + (va >> 30 & 511) * 8);
	cr_assert_eq(e & 0x83, 3);
	e = word((e & ~0xfffull) + (va >> 21 & 511) * 8);
	cr_assert_eq(e & 0x83, 0x83);
	return (e & ~0x1fffffull & 0xffffffffffffull) + (va & 0x1fffff);
}

Test(boot_regs, identity_map, .init = enter, .fini = leave)
{
	const uint64_t at[] = {0,     BOOT_ZERO_PAGE_GPA, BOOT_CMDLINE_GPA,
			       ENTRY, 0x12345678,	  BOOT_MAPPED_END - 1};

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		cr_assert_eq(translate(at[i]), at[i]);
	cr_assert_eq(word(sregs.cr3 + 8), 0);
	cr_assert_eq(word((word(sregs.cr3) & ~0xfffull) + 8), 0);
}

Test(boot_regs, no_memory)
{
	struct guest_mem none = {0};
	struct err err = {0};

	cr_assert_eq(boot_regs_long_mode(&none, ENTRY, &regs, &sregs, &err), -EFAULT);
}
