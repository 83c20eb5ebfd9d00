/* SPDX-License-Identifier: Apache-2.0 */
/* Assisted instructions one by one: register forms, flags, faults, step over. */
#include "assist_insn.h"

TestSuite(assist, .init = insn_setup, .fini = insn_teardown);

/* --- the frame of it all --- */

Test(assist, step_over_clears_rf_and_shadow)
{
	f.regs.rflags |= RF | AC;
	f.events.interrupt.shadow = 1;
	f.events.interrupt.injected = 1;
	f.events.interrupt.nr = 0x30;
	f.events.nmi.pending = 1;
	EXPECT_STEP(3, 0x0f, 0x01, 0xca);
	cr_assert_eq(f.regs.rflags, 2);
	cr_assert_eq(f.events.interrupt.shadow, 0);
	cr_assert_eq(f.events.interrupt.injected, 1, "an interrupt under way stays");
	cr_assert_eq(f.events.interrupt.nr, 0x30);
	cr_assert_eq(f.events.nmi.pending, 1);
}

Test(assist, single_step_trap_follows)
{
	f.regs.rflags |= TF | RF;
	cr_assert_eq(RUN(0x0f, 0x01, 0xca), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rip, CODE + 3);
	cr_assert_eq(f.regs.rflags, 2 | TF);
	expect_event(1, false, 0);
	cr_assert_eq(f.dr.dr6, 0xffff4ff0);
}

Test(assist, no_single_step_trap_on_a_fault)
{
	f.regs.rflags |= TF;
	EXPECT_UD(0x0f, 0x0b);
	cr_assert_eq(f.dr.dr6, 0xffff0ff0);
}

Test(assist, missing_bytes_are_fetched)
{
	memcpy(f.ram + 0x220ffe, "\x0f\x01", 2);
	fake_map(&f, CODE + 0x1000, 0x230000, P);
	f.ram[0x230000] = 0xcb;
	f.regs.rip = CODE + 0xffe;
	EXPECT_STEP(3, 0x0f, 0x01); /* KVM stops at the page's end */
	cr_assert(f.regs.rflags & AC);
	f.regs.rflags = 2;
	f.regs.rip = CODE + 0xffe;
	cr_assert_eq(assist_emulation_failure(&f.a, NULL, 0), ASSIST_HANDLED);
	cr_assert(f.regs.rflags & AC);
	cr_assert_eq(f.regs.rip, CODE + 0x1001);
}

Test(assist, fetch_fault)
{
	f.regs.rip = CODE + 0xffe;
	memcpy(f.ram + 0x220ffe, "\x0f\x01", 2);
	cr_assert_eq(RUN(0x0f, 0x01), ASSIST_HANDLED);
	expect_page_fault(CODE + 0x1000, PF_ERR_FETCH);
	cr_assert_eq(f.regs.rip, CODE + 0xffe);
	fake_map(&f, CODE + 0x1000, 0x230000, P | NX);
	cr_assert_eq(RUN(0x0f, 0x01), ASSIST_HANDLED);
	expect_page_fault(CODE + 0x1000, PF_ERR_FETCH | PF_ERR_PRESENT);
}

Test(assist, longer_than_15_bytes)
{
	EXPECT_GP(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
		  0x66, 0x66);
	EXPECT_GP(0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x0f, 0xae,
		  0x15, 0x00);
}

Test(assist, unknown_instructions)
{
	EXPECT_NOT_OURS(0x0f, 0x58, 0xc1);		     /* addps */
	EXPECT_NOT_OURS(0x0f, 0xae, 0x20);		     /* xsave */
	EXPECT_NOT_OURS(0x0f, 0xae, 0x28);		     /* xrstor */
	EXPECT_NOT_OURS(0xc5, 0xf8, 0x58, 0xc1);	     /* vaddps */
	EXPECT_NOT_OURS(0x66, 0x0f, 0x01, 0xca);	     /* no clac */
	EXPECT_NOT_OURS(0xc4, 0xe2, 0x74, 0xf2, 0xc2);	     /* andn with VEX.L */
	EXPECT_NOT_OURS(0x66, 0xc4, 0xe2, 0x70, 0xf2, 0xc2); /* 66 before VEX */
	EXPECT_NOT_OURS(0x48, 0xc4, 0xe2, 0x70, 0xf2, 0xc2); /* REX before VEX */
	EXPECT_NOT_OURS(0xc4, 0xe3, 0x73, 0xf0, 0xc2, 0x01); /* rorx with vvvv */
	EXPECT_NOT_OURS(0x0f, 0x38, 0xf0, 0xc1);	     /* movbe between registers */
	EXPECT_NOT_OURS(0x0f, 0xc7, 0x0e);		     /* cmpxchg8b: KVM's emulator has it */
	EXPECT_NOT_OURS(0x41, 0x90);			     /* xchg r8, rax */
	EXPECT_NOT_OURS(0xf4);
}

Test(assist, unknown_at_cpl_3_is_the_users_problem)
{
	fake_user(&f);
	EXPECT_UD(0x0f, 0xae, 0x20);
	EXPECT_UD(0xf4);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_USER_UD), 2);
}

Test(assist, only_64_bit_code)
{
	f.sregs.cs.l = 0;
	EXPECT_NOT_OURS(0x0f, 0x01, 0xca);
	f.sregs.cs.l = 1;
	f.sregs.efer = 0;
	EXPECT_NOT_OURS(0x0f, 0x01, 0xca);
}

Test(assist, failing_ops_are_reported)
{
	f.fail = -EBADF;
	cr_assert_eq(RUN(0x0f, 0x01, 0xca), -EBADF);
	cr_assert_eq(assist_watch(&f.a), -EBADF);
}

Test(assist, counters)
{
	EXPECT_STEP(3, 0x0f, 0x01, 0xca);
	EXPECT_STEP(3, 0x0f, 0x01, 0xca);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_CLAC), 2);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_STAC), 0);
	cr_assert_str_eq(assist_counter_name(ASSIST_N_CMPXCHG16B), "cmpxchg16b");
	for (unsigned i = 0; i < ASSIST_COUNTERS; i++)
		for (unsigned k = 0; k < i; k++)
			cr_assert_str_neq(assist_counter_name(i), assist_counter_name(k));
}

Test(assist, cmdline_words)
{
	unsigned n = 0;

	for (; assist_cmdline[n]; n++)
		cr_assert_null(strchr(assist_cmdline[n], ' '));
	cr_assert_str_eq(assist_cmdline[0], "noxsave");
	cr_assert_gt(n, 3);
}

/* --- traps and flags --- */

Test(assist, int3)
{
	f.regs.rflags |= RF;
	cr_assert_eq(RUN(0xcc), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rip, CODE + 1);
	cr_assert_eq(f.regs.rflags, 2);
	expect_event(3, false, 0);
}

Test(assist, ud)
{
	EXPECT_UD(0x0f, 0x0b);
	EXPECT_UD(0x67, 0x0f, 0xb9, 0x40, 0x0a);
	EXPECT_UD(0x0f, 0xff, 0xc0);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_UD), 3);
}

Test(assist, clac_stac)
{
	EXPECT_STEP(3, 0x0f, 0x01, 0xcb);
	cr_assert_eq(f.regs.rflags, 2 | AC);
	EXPECT_STEP(3, 0x0f, 0x01, 0xca);
	cr_assert_eq(f.regs.rflags, 2);
	EXPECT_UD(0xf0, 0x0f, 0x01, 0xca);
	fake_user(&f);
	EXPECT_UD(0x0f, 0x01, 0xca);
	EXPECT_UD(0x0f, 0x01, 0xcb);
}

Test(assist, fences_and_nops)
{
	EXPECT_STEP(3, 0x0f, 0xae, 0xe8);	/* lfence */
	EXPECT_STEP(3, 0x0f, 0xae, 0xf0);	/* mfence */
	EXPECT_STEP(3, 0x0f, 0xae, 0xf8);	/* sfence */
	EXPECT_STEP(3, 0x0f, 0x01, 0xe8);	/* serialize */
	EXPECT_STEP(4, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
	EXPECT_STEP(3, 0x0f, 0x1f, 0x00);	/* nops */
	EXPECT_STEP(4, 0x0f, 0x1f, 0x40, 0x00);
	EXPECT_STEP(6, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	EXPECT_STEP(8, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0);
	EXPECT_STEP(1, 0x90);
	EXPECT_STEP(2, 0x66, 0x90);
	f.regs.rflags |= DF;
	EXPECT_STEP(1, 0xfc);
	cr_assert_eq(f.regs.rflags, 2);
}

/* --- x87 and SSE control --- */

Test(assist, fwait)
{
	EXPECT_STEP(1, 0x9b);
	f.xsave.region[0] |= 0x0080u << 16; /* ES */
	EXPECT_MF(0x9b);
	f.sregs.cr0 &= ~0x20ull; /* NE */
	EXPECT_NOT_OURS(0x9b);
	f.xsave.region[0] = 0x37f;
	f.sregs.cr0 |= 8; /* TS; MP is set */
	EXPECT_NM(0x9b);
	f.sregs.cr0 &= ~2ull;
	EXPECT_STEP(1, 0x9b);
	f.sregs.cr0 = (f.sregs.cr0 & ~8ull) | 4; /* EM does not matter */
	EXPECT_STEP(1, 0x9b);
}

Test(assist, fnstsw)
{
	f.xsave.region[0] = 0xb9a0u << 16 | 0x37f;
	f.regs.rax = 0x1122334455667788;
	EXPECT_STEP(2, 0xdf, 0xe0);
	cr_assert_eq(f.regs.rax, 0x112233445566b9a0);
	f.regs.rsi = DATA + 0xfff; /* crosses */
	f.ram[DATA_GPA + 0x8001] = 0x77;
	EXPECT_STEP(2, 0xdd, 0x3e);
	cr_assert_eq(f.ram[DATA_GPA + 0xfff], 0xa0);
	cr_assert_eq(f.ram[DATA_GPA + 0x8000], 0xb9);
	cr_assert_eq(f.ram[DATA_GPA + 0x8001], 0x77);
	f.sregs.cr0 |= 8;
	EXPECT_NM(0xdf, 0xe0);
	f.sregs.cr0 ^= 8 | 4;
	EXPECT_NM(0xdd, 0x3e);
}

Test(assist, fnclex)
{
	f.xsave.region[0] = 0xffffu << 16 | 0x37f;
	f.xsave.region[128] = 4;
	EXPECT_STEP(2, 0xdb, 0xe2);
	cr_assert_eq(f.xsave.region[0], 0x7f00u << 16 | 0x37f);
	cr_assert_eq(f.xsave.region[128], 5, "the component must be written");
	f.sregs.cr0 |= 8;
	EXPECT_NM(0xdb, 0xe2);
}

Test(assist, emms)
{
	f.xsave.region[0] = 0x2800u << 16 | 0x37f; /* top 5 */
	f.xsave.region[1] = 0x012300ff;
	for (unsigned i = 0; i < 8; i++)
		f.xsave.region[8 + 4 * i] = (5 + i) % 8; /* R0..R7 hold their numbers */
	EXPECT_STEP(2, 0x0f, 0x77);
	cr_assert_eq(f.xsave.region[0], 0x37f);
	cr_assert_eq(f.xsave.region[1], 0x01230000);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(f.xsave.region[8 + 4 * i], i, "physical registers stay");
	cr_assert_eq(f.xsave.region[128], 1);
	f.xsave.region[0] |= 0x80u << 16;
	EXPECT_MF(0x0f, 0x77);
	f.sregs.cr0 |= 8;
	EXPECT_NM(0x0f, 0x77);
	f.sregs.cr0 |= 4;
	EXPECT_UD(0x0f, 0x77);
}

Test(assist, mxcsr)
{
	uint32_t v = 0x9fff;

	f.regs.rbx = DATA + 0xffe; /* crosses */
	EXPECT_STEP(3, 0x0f, 0xae, 0x1b);
	cr_assert_eq(f.ram[DATA_GPA + 0xffe], 0x80);
	cr_assert_eq(f.ram[DATA_GPA + 0xfff], 0x1f);
	cr_assert_eq(f.ram[DATA_GPA + 0x8000], 0);
	memcpy(f.ram + DATA_GPA + 0x10, &v, 4);
	EXPECT_STEP(7, 0x0f, 0xae, 0x93, 0x12, 0xf0, 0xff, 0xff); /* [rbx - 0xfee] */
	cr_assert_eq(f.xsave.region[6], 0x9fff);
	cr_assert_eq(f.xsave.region[128], 2);
}

Test(assist, ldmxcsr_reserved_bits)
{
	uint32_t v = 0x10000;

	f.regs.rbx = DATA;
	memcpy(f.ram + DATA_GPA, &v, 4);
	EXPECT_GP(0x0f, 0xae, 0x13);
	v = 0x20000;
	memcpy(f.ram + DATA_GPA, &v, 4);
	EXPECT_GP(0x0f, 0xae, 0x13);
	f.xsave.region[7] = 0x2ffff; /* AMD's misaligned SSE */
	EXPECT_STEP(3, 0x0f, 0xae, 0x13);
	cr_assert_eq(f.xsave.region[6], 0x20000);
	v = 0x40;
	memcpy(f.ram + DATA_GPA, &v, 4);
	f.xsave.region[7] = 0xffbf;
	EXPECT_GP(0x0f, 0xae, 0x13);
	cr_assert_eq(f.xsave.region[6], 0x20000);
}

Test(assist, mxcsr_checks)
{
	f.regs.rbx = DATA;
	f.sregs.cr0 |= 8;
	EXPECT_NM(0x0f, 0xae, 0x13);
	EXPECT_NM(0x0f, 0xae, 0x1b);
	f.sregs.cr4 &= ~(1ull << 9); /* OSFXSR */
	EXPECT_UD(0x0f, 0xae, 0x13);
	f.sregs.cr4 |= 1u << 9;
	f.sregs.cr0 |= 4; /* EM */
	EXPECT_UD(0x0f, 0xae, 0x1b);
}

/* --- cmpxchg16b --- */

Test(assist, cmpxchg16b)
{
	f.regs.rsi = DATA + 0x10;
	f.regs.rax = 1;
	f.regs.rdx = 2;
	f.regs.rbx = 3;
	f.regs.rcx = 4;
	put64(DATA_GPA + 0x10, 1);
	put64(DATA_GPA + 0x18, 2);
	f.regs.rflags |= CF;
	EXPECT_STEP(5, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
	cr_assert_eq(f.regs.rflags, 2 | CF | ZF);
	cr_assert_eq(f.regs.rax, 1);
	cr_assert_eq(*(uint64_t *)(void *)(f.ram + DATA_GPA + 0x10), 3);
	cr_assert_eq(*(uint64_t *)(void *)(f.ram + DATA_GPA + 0x18), 4);
	EXPECT_STEP(4, 0x48, 0x0f, 0xc7, 0x0e); /* not equal any more */
	cr_assert_eq(f.regs.rflags, 2 | CF);
	cr_assert_eq(f.regs.rax, 3);
	cr_assert_eq(f.regs.rdx, 4);
	cr_assert_eq(*(uint64_t *)(void *)(f.ram + DATA_GPA + 0x10), 3);
	EXPECT_STEP(6, 0xf2, 0xf0, 0x48, 0x0f, 0xc7, 0x0e); /* XACQUIRE */
	cr_assert_eq(f.regs.rflags, 2 | CF | ZF);
}

Test(assist, cmpxchg16b_faults)
{
	f.regs.rsi = DATA + 8;
	EXPECT_GP(0xf0, 0x48, 0x0f, 0xc7, 0x0e);
	f.regs.rsi = CODE; /* even if nothing were stored */
	EXPECT_FAULT(14, true, PF_ERR_WRITE | PF_ERR_PRESENT, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
	f.regs.rsi = DATA + 0x2000;
	EXPECT_FAULT(14, true, PF_ERR_WRITE, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
}

/* --- system registers --- */

Test(assist, xgetbv)
{
	EXPECT_UD(0x0f, 0x01, 0xd0);
	f.sregs.cr4 |= 1u << 18;
	f.xcr0 = 0x2000000e7;
	f.regs.rax = f.regs.rdx = ~0ull;
	f.regs.rcx = 0xffffffff00000000; /* ECX counts */
	EXPECT_STEP(3, 0x0f, 0x01, 0xd0);
	cr_assert_eq(f.regs.rax, 0xe7);
	cr_assert_eq(f.regs.rdx, 2);
	f.regs.rcx = 1;
	EXPECT_NOT_OURS(0x0f, 0x01, 0xd0);
	f.regs.rcx = 2;
	EXPECT_GP(0x0f, 0x01, 0xd0);
}

Test(assist, rdtscp_rdpid)
{
	f.tsc = 0x1122334455667788;
	f.tsc_aux = 0x1003;
	f.regs.rcx = f.regs.rax = f.regs.rdx = ~0ull;
	EXPECT_STEP(3, 0x0f, 0x01, 0xf9);
	cr_assert_eq(f.regs.rax, 0x55667788);
	cr_assert_eq(f.regs.rdx, 0x11223344);
	cr_assert_eq(f.regs.rcx, 0x1003);
	f.regs.r10 = ~0ull;
	EXPECT_STEP(5, 0xf3, 0x41, 0x0f, 0xc7, 0xfa);
	cr_assert_eq(f.regs.r10, 0x1003);
	f.sregs.cr4 |= 4; /* TSD */
	EXPECT_STEP(3, 0x0f, 0x01, 0xf9);
	fake_user(&f);
	EXPECT_GP(0x0f, 0x01, 0xf9);
}

Test(assist, rdrand)
{
	f.regs.rflags = 2 | ZF | 0x894;
	f.regs.rax = 0x1122334455667788;
	EXPECT_STEP(4, 0x66, 0x0f, 0xc7, 0xf0);
	cr_assert_eq(f.regs.rax >> 16, 0x112233445566);
	cr_assert_eq(f.regs.rflags, 2 | CF);
	EXPECT_STEP(3, 0x0f, 0xc7, 0xf0);
	cr_assert_eq(f.regs.rax >> 32, 0);
	EXPECT_STEP(4, 0x48, 0x0f, 0xc7, 0xf8); /* rdseed */
	f.regs.rdx = f.regs.rax;
	EXPECT_STEP(4, 0x48, 0x0f, 0xc7, 0xf8);
	cr_assert_neq(f.regs.rdx, f.regs.rax);
}

Test(assist, invpcid)
{
	uint64_t cr3 = f.sregs.cr3;

	f.regs.rsi = DATA + 0xff8; /* crosses */
	for (uint64_t type = 0; type <= 3; type++) {
		f.regs.rax = type;
		EXPECT_STEP(5, 0x66, 0x0f, 0x38, 0x82, 0x06);
		cr_assert_eq(f.flushes, 2 * (type + 1), "away and back");
		cr_assert_eq(f.sregs.cr3, cr3);
	}
	f.regs.rax = 4;
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
	f.regs.rax = 1ull << 32;
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
	f.regs.rax = 1;
	put64(DATA_GPA + 0xff8, 0x1000); /* reserved */
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
	put64(DATA_GPA + 0xff8, 0x123); /* a PCID without CR4.PCIDE */
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
	f.sregs.cr4 |= 1u << 17;
	EXPECT_STEP(5, 0x66, 0x0f, 0x38, 0x82, 0x06);
	f.regs.rax = 0;
	put64(DATA_GPA + 0x8000, 0x800000000000); /* no address */
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
	f.regs.rsi = DATA + 0x1ff8;
	EXPECT_FAULT(14, true, 0, 0x66, 0x0f, 0x38, 0x82, 0x06);
	fake_user(&f);
	EXPECT_GP(0x66, 0x0f, 0x38, 0x82, 0x06);
}
