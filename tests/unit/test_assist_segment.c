/* SPDX-License-Identifier: Apache-2.0 */
/* Assisted instructions that look into descriptor tables: LAR, LSL, VERR, VERW. */
#include "assist_insn.h"

TestSuite(assist_segment, .init = insn_setup, .fini = insn_teardown);

/* Linux's GDT, more or less: 0x10 kernel code, 0x18 data, 0x28 user data, 0x30 user code, 0x40 TSS.
 */
static void load_gdt(void)
{
	f.sregs.gdt.base = DATA + 0x800;
	f.sregs.gdt.limit = 0x7f;
	put64(DATA_GPA + 0x810, 0x00af9b000000ffff);
	put64(DATA_GPA + 0x818, 0x00cf93000000ffff);
	put64(DATA_GPA + 0x828, 0x00cff3000000ffff);
	put64(DATA_GPA + 0x830, 0x00affb000000ffff);
	put64(DATA_GPA + 0x840, 0x00008b0030002087); /* busy TSS */
	put64(DATA_GPA + 0x850, 0x0000820000000027); /* LDT */
	put64(DATA_GPA + 0x860, 0x0000ec0000000000); /* call gate, DPL 3 */
	put64(DATA_GPA + 0x868, 0x00cf9e000000ffff); /* conforming code, DPL 0 */
	put64(DATA_GPA + 0x870, 0x00cff1000000ffff); /* read-only data */
	put64(DATA_GPA + 0x878, 0x0040f50000000000); /* CPU number: read-only, accessed, DPL 3 */
}

static void lar(uint16_t sel, bool valid, uint64_t value)
{
	f.regs.rax = 0xaaaaaaaaaaaaaaaa;
	f.regs.rcx = 0xffffffffffff0000 | sel;
	EXPECT_STEP(3, 0x0f, 0x02, 0xc1);
	cr_assert_eq(!!(f.regs.rflags & ZF), valid, "%x", sel);
	cr_assert_eq(f.regs.rax, valid ? value : 0xaaaaaaaaaaaaaaaa, "%x: %llx", sel, f.regs.rax);
}

static void lsl(uint16_t sel, bool valid, uint64_t value)
{
	f.regs.rax = 0xaaaaaaaaaaaaaaaa;
	f.regs.rcx = sel;
	EXPECT_STEP(3, 0x0f, 0x03, 0xc1);
	cr_assert_eq(!!(f.regs.rflags & ZF), valid, "%x", sel);
	cr_assert_eq(f.regs.rax, valid ? value : 0xaaaaaaaaaaaaaaaa, "%x: %llx", sel, f.regs.rax);
}

static void ver(uint16_t sel, bool readable, bool writable)
{
	f.regs.rcx = sel;
	EXPECT_STEP(3, 0x0f, 0x00, 0xe1);
	cr_assert_eq(!!(f.regs.rflags & ZF), readable, "verr %x", sel);
	EXPECT_STEP(3, 0x0f, 0x00, 0xe9);
	cr_assert_eq(!!(f.regs.rflags & ZF), writable, "verw %x", sel);
}

Test(assist_segment, lar)
{
	load_gdt();
	lar(0, false, 0);
	lar(3, false, 0);
	lar(0x10, true, 0xaf9b00);
	lar(0x28, true, 0xcff300);
	lar(0x13, false, 0); /* RPL 3, DPL 0 */
	lar(0x6b, true, 0xcf9e00);
	lar(0x40, true, 0x008b00);
	lar(0x50, true, 0x008200);
	lar(0x63, true, 0x00ec00);
	lar(0x80, false, 0); /* beyond the limit */
	lar(0x48, false, 0); /* all zero: type 0 */
	fake_user(&f);
	lar(0x28, true, 0xcff300);
	lar(0x18, false, 0);
	lar(0x68, true, 0xcf9e00);
	f.regs.rax = 0xaaaaaaaaaaaaaaaa;
	f.regs.rcx = 0x2b;
	EXPECT_STEP(4, 0x66, 0x0f, 0x02, 0xc1);
	cr_assert_eq(f.regs.rax, 0xaaaaaaaaaaaaf300);
}

Test(assist_segment, lsl)
{
	load_gdt();
	f.sregs.gdt.limit = 0x7e; /* one byte short of the last */
	lsl(0x7b, false, 0);
	f.sregs.gdt.limit = 0x7f;
	lsl(0x28, true, 0xffffffff);
	lsl(0x40, true, 0x2087);
	lsl(0x50, true, 0x27);
	lsl(0x60, false, 0); /* a gate has no limit */
	put64(DATA_GPA + 0x878, 0x0041f50000000345);
	fake_user(&f);
	lsl(0x7b, true, 0x10345);
}

Test(assist_segment, verr_verw)
{
	load_gdt();
	ver(0, false, false);
	ver(0x10, true, false);
	ver(0x18, true, true);
	ver(0x1b, false, false);
	ver(0x2b, true, true);
	ver(0x70, true, false);
	ver(0x40, false, false);
	put64(DATA_GPA + 0x830, 0x00aff9000000ffff); /* execute-only */
	ver(0x33, false, false);
	fake_user(&f);
	ver(0x18, false, false);
	ver(0x28, true, true);
}

Test(assist_segment, verw_memory_operand_as_the_kernel_has_it)
{
	load_gdt();
	put64(DATA_GPA + 0xfff, 0x18);
	f.regs.rsi = DATA + 0xfff;
	f.ram[DATA_GPA + 0x8000] = 0;
	EXPECT_STEP(3, 0x0f, 0x00, 0x2e);
	cr_assert(f.regs.rflags & ZF);
	f.regs.rsi = DATA + 0x2000;
	EXPECT_FAULT(14, true, 0, 0x0f, 0x00, 0x2e);
}

Test(assist_segment, ldt)
{
	load_gdt();
	lar(0x2f, false, 0);
	f.sregs.ldt = (struct kvm_segment){
	    .base = DATA + 0x900, .limit = 0xf, .selector = 0x50, .present = 1};
	put64(DATA_GPA + 0x908, 0x00cff3000000ffff);
	lar(0x0f, true, 0xcff300);
	lar(0x17, false, 0);
	lar(0x07, false, 0); /* entry 0 of the LDT is one, but all zero here */
	f.sregs.ldt.unusable = 1;
	lar(0x0f, false, 0);
}

Test(assist_segment, descriptor_tables_are_read_as_supervisor)
{
	load_gdt();
	fake_user(&f);
	lar(0x2b, true, 0xcff300); /* the page is no user page */
	f.sregs.gdt.base = DATA + 0x2000;
	f.regs.rcx = 0x2b;
	EXPECT_FAULT(14, true, 0, 0x0f, 0x02, 0xc1);
	expect_page_fault(DATA + 0x2028, 0);
	f.sregs.cs.selector = 0x10;
	f.sregs.gdt.base = USER;
	f.regs.rflags |= AC; /* does not help implicit accesses */
	EXPECT_FAULT(14, true, PF_ERR_PRESENT, 0x0f, 0x02, 0xc1);
}
