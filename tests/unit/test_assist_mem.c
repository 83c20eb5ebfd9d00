/* SPDX-License-Identifier: Apache-2.0 */
/* Memory operands of assisted instructions, by movbe: addressing, faults, pages. */
#include "assist_insn.h"

TestSuite(assist_mem, .init = insn_setup, .fini = insn_teardown);

Test(assist_mem, movbe)
{
	put64(DATA_GPA, 0x1122334455667788);
	f.regs.rsi = DATA;
	f.regs.rax = ~0ull;
	EXPECT_STEP(5, 0x66, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0xffffffffffff8877);
	EXPECT_STEP(4, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0x88776655);
	EXPECT_STEP(5, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0x8877665544332211);
	f.regs.r9 = 0x0102030405060708;
	EXPECT_STEP(6, 0x66, 0x44, 0x0f, 0x38, 0xf1, 0x0e); /* movbe [rsi], r9w */
	cr_assert_arr_eq(f.ram + DATA_GPA, "\x07\x08\x66\x55", 4);
	EXPECT_STEP(5, 0x44, 0x0f, 0x38, 0xf1, 0x0e);
	cr_assert_arr_eq(f.ram + DATA_GPA, "\x05\x06\x07\x08\x44", 5);
	EXPECT_STEP(5, 0x4c, 0x0f, 0x38, 0xf1, 0x0e);
	cr_assert_arr_eq(f.ram + DATA_GPA, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void expect_loaded(uint64_t gpa, const uint8_t *bytes, unsigned n)
{
	static uint64_t tag = 0x1234567800000000;
	uint64_t rip = f.regs.rip;

	put64(gpa, __builtin_bswap64(++tag));
	f.regs.r8 = 0;
	cr_assert_eq(run(bytes, n), ASSIST_HANDLED);
	expect_no_event();
	cr_assert_eq(f.regs.r8, tag, "%lx", gpa);
	cr_assert_eq(f.regs.rip, rip + n);
}
#define LOADED(gpa, ...)                                                                           \
	expect_loaded(gpa, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

Test(assist_mem, addressing_forms)
{
	f.regs.rbx = DATA + 0x100;
	f.regs.r11 = DATA + 0x200;
	f.regs.rsp = DATA + 0x300;
	f.regs.rbp = DATA + 0x400;
	f.regs.r12 = DATA + 0x500;
	f.regs.r13 = DATA + 0x600;
	f.regs.rcx = 0x10;
	f.regs.r14 = 0x20;
	LOADED(DATA_GPA + 0x100, 0x4c, 0x0f, 0x38, 0xf0, 0x03);			  /* [rbx] */
	LOADED(DATA_GPA + 0xf0, 0x4c, 0x0f, 0x38, 0xf0, 0x43, 0xf0);		  /* [rbx-16] */
	LOADED(DATA_GPA + 0x200, 0x4d, 0x0f, 0x38, 0xf0, 0x03);			  /* [r11] */
	LOADED(DATA_GPA + 0x300, 0x4c, 0x0f, 0x38, 0xf0, 0x04, 0x24);		  /* [rsp] */
	LOADED(DATA_GPA + 0x400, 0x4c, 0x0f, 0x38, 0xf0, 0x45, 0x00);		  /* [rbp] */
	LOADED(DATA_GPA + 0x500, 0x4d, 0x0f, 0x38, 0xf0, 0x04, 0x24);		  /* [r12] */
	LOADED(DATA_GPA + 0x608, 0x4d, 0x0f, 0x38, 0xf0, 0x45, 0x08);		  /* [r13+8] */
	LOADED(DATA_GPA + 0x140, 0x4c, 0x0f, 0x38, 0xf0, 0x04, 0x8b);		  /* [rbx+4*rcx] */
	LOADED(DATA_GPA + 0x200, 0x4e, 0x0f, 0x38, 0xf0, 0x04, 0xf3);		  /* [rbx+8*r14] */
	LOADED(DATA_GPA + 0x128, 0x4e, 0x0f, 0x38, 0xf0, 0x44, 0x33, 0x08);	  /* [rbx+r14+8] */
	LOADED(DATA_GPA + 0x601, 0x4d, 0x0f, 0x38, 0xf0, 0x84, 0x25, 1, 0, 0, 0); /* [r13+1] */
	f.regs.rcx = DATA / 2;
	/* [rcx*2 + 0x700]: base 101b with mod 0 is disp32 */
	LOADED(DATA_GPA + 0x700, 0x4c, 0x0f, 0x38, 0xf0, 0x04, 0x4d, 0x00, 0x07, 0x00, 0x00);
}

Test(assist_mem, absolute_and_segments)
{
	f.regs.rbx = 0x100;
	f.sregs.gs.base = DATA;
	f.sregs.fs.base = DATA + 0x40;
	f.sregs.ds.base = 0x5555; /* ignored in 64-bit mode */
	LOADED(DATA_GPA + 0x100, 0x65, 0x4c, 0x0f, 0x38, 0xf0, 0x03);
	LOADED(DATA_GPA + 0x140, 0x64, 0x4c, 0x0f, 0x38, 0xf0, 0x03);
	LOADED(DATA_GPA + 0x100, 0x65, 0x3e, 0x4c, 0x0f, 0x38, 0xf0, 0x03);
	/* gs:[0x80], as per-CPU data are reached */
	LOADED(DATA_GPA + 0x80, 0x65, 0x4c, 0x0f, 0x38, 0xf0, 0x04, 0x25, 0x80, 0, 0, 0);
	/* address size 32: the sum wraps before the base is added */
	f.regs.rbx = 0xabcd00000000ffff;
	f.regs.rcx = 0xffff0011;
	LOADED(DATA_GPA + 0x10, 0x65, 0x67, 0x4c, 0x0f, 0x38, 0xf0, 0x04, 0x0b);
	f.regs.rbx = DATA;
	LOADED(DATA_GPA, 0x3e, 0x4c, 0x0f, 0x38, 0xf0, 0x03);
}

Test(assist_mem, rip_relative_counts_from_the_end)
{
	fake_map(&f, CODE + 0x2000, DATA_GPA, P);
	f.regs.rip = CODE;
	LOADED(DATA_GPA + 0x18, 0x4c, 0x0f, 0x38, 0xf0, 0x05, 0x0f, 0x20, 0, 0);
	/* the immediate of rorx is counted too */
	put64(DATA_GPA + 0x20, 1);
	f.regs.rip = CODE;
	EXPECT_STEP(10, 0xc4, 0xe3, 0xfb, 0xf0, 0x05, 0x16, 0x20, 0, 0, 0x04);
	cr_assert_eq(f.regs.rax, 1ull << 60);
}

Test(assist_mem, a_rex_before_another_prefix_is_void)
{
	put64(DATA_GPA, 0x1122334455667788);
	f.regs.rsi = DATA;
	EXPECT_STEP(6, 0x48, 0x66, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0x8877);
}

Test(assist_mem, operands_across_pages)
{
	f.regs.rsi = DATA + 0xffd;
	memcpy(f.ram + DATA_GPA + 0xffd, "\x01\x02\x03", 3);
	memcpy(f.ram + DATA_GPA + 0x8000, "\x04\x05\x06\x07\x08", 5);
	EXPECT_STEP(5, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0x0102030405060708);
	f.regs.rax = 0x1112131415161718;
	EXPECT_STEP(5, 0x48, 0x0f, 0x38, 0xf1, 0x06);
	cr_assert_arr_eq(f.ram + DATA_GPA + 0xffd, "\x11\x12\x13", 3);
	cr_assert_arr_eq(f.ram + DATA_GPA + 0x8000, "\x14\x15\x16\x17\x18\0", 6);
	cr_assert(*fake_pte(&f, DATA, 1) & D);
	cr_assert(*fake_pte(&f, DATA + 0x1000, 1) & D);
}

Test(assist_mem, page_faults)
{
	f.regs.rsi = DATA + 0x1ffd; /* the third page is not there */
	f.regs.rax = ~0ull;
	EXPECT_FAULT(14, true, PF_ERR_WRITE, 0x48, 0x0f, 0x38, 0xf1, 0x06);
	expect_page_fault(DATA + 0x2000, PF_ERR_WRITE);
	cr_assert_eq(f.ram[DATA_GPA + 0x8ffd], 0, "nothing is written if a part cannot be");
	EXPECT_FAULT(14, true, 0, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rsi = DATA + 0x2010;
	EXPECT_FAULT(14, true, 0, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	expect_page_fault(DATA + 0x2010, 0);
	f.regs.rsi = CODE; /* read-only */
	EXPECT_FAULT(14, true, PF_ERR_WRITE | PF_ERR_PRESENT, 0x48, 0x0f, 0x38, 0xf1, 0x06);
	expect_page_fault(CODE, PF_ERR_WRITE | PF_ERR_PRESENT);
}

Test(assist_mem, smap_and_user_mode)
{
	f.regs.rsi = USER;
	EXPECT_FAULT(14, true, PF_ERR_PRESENT, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rflags |= AC;
	EXPECT_STEP(5, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rflags = 2;
	fake_user(&f);
	EXPECT_STEP(5, 0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rsi = DATA;
	EXPECT_FAULT(14, true, PF_ERR_PRESENT | PF_ERR_USER, 0x48, 0x0f, 0x38, 0xf0, 0x06);
}

Test(assist_mem, non_canonical_operands)
{
	f.regs.rsi = 0x0000800000000000;
	EXPECT_GP(0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rsi = 0x00007ffffffffffc; /* runs into the hole */
	EXPECT_GP(0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rbp = 0x0000800000000000;
	EXPECT_FAULT(12, true, 0, 0x48, 0x0f, 0x38, 0xf0, 0x45, 0x00);
	EXPECT_GP(0x65, 0x48, 0x0f, 0x38, 0xf0, 0x45, 0x00);
	f.regs.rsp = 0x0000800000000000;
	EXPECT_FAULT(12, true, 0, 0x48, 0x0f, 0x38, 0xf0, 0x04, 0x24);
	f.regs.r13 = 0x0000800000000000;
	EXPECT_GP(0x49, 0x0f, 0x38, 0xf0, 0x45, 0x00);
}

Test(assist_mem, mmio_operands_are_not_ours)
{
	fake_map(&f, DATA + 0x1000, 0xfee00000, P | W);
	f.regs.rsi = DATA + 0x1000;
	EXPECT_NOT_OURS(0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rsi = DATA + 0xffc; /* half of it */
	EXPECT_NOT_OURS(0x48, 0x0f, 0x38, 0xf1, 0x06);
	cr_assert_eq(f.ram[DATA_GPA + 0xffc], 0);
}
