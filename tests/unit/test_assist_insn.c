/* SPDX-License-Identifier: Apache-2.0 */
/* Assisted instructions one by one: register and memory forms, flags, faults, step over. */
#include <criterion/criterion.h>

#include "assist_fake.h"

#define CODE	 0xffffffff81000000ull
#define DATA	 0xffff888000100000ull /* two pages: supervisor, writable */
#define USER	 0x0000000000400000ull /* one page: user, writable */
#define DATA_GPA 0x200000u
#define USER_GPA 0x210000u

enum {
	CF = 1u << 0,
	ZF = 1u << 6,
	TF = 1u << 8,
	DF = 1u << 10,
	RF = 1u << 16,
	AC = 1u << 18,
};

static struct fake f;

static void setup(void)
{
	fake_init(&f);
	fake_map(&f, CODE, 0x220000, P);
	fake_map(&f, DATA, DATA_GPA, P | W | NX);
	fake_map(&f, DATA + 0x1000, DATA_GPA + 0x8000, P | W | NX); /* not adjoining */
	fake_map(&f, USER, USER_GPA, P | W | U);
	f.regs.rip = CODE;
}

static void teardown(void)
{
	fake_free(&f);
}

TestSuite(assist, .init = setup, .fini = teardown);

#define RUN(...) run((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* As KVM leaves things: RIP on the instruction and a #UD pending. */
static int run(const uint8_t *bytes, unsigned n)
{
	f.events.exception.pending = 1;
	f.events.exception.injected = 1; /* KVM_GET_VCPU_EVENTS reports both */
	f.events.exception.nr = 6;
	return assist_emulation_failure(&f.a, bytes, n);
}

static void expect_no_event(void)
{
	cr_assert_eq(f.events.exception.injected, 0);
	cr_assert_eq(f.events.exception.pending, 0);
}

/* Done, and nothing but `len` bytes stepped over. */
#define EXPECT_STEP(len, ...)                                                                      \
	do {                                                                                       \
		uint64_t rip_before = f.regs.rip;                                                  \
		cr_assert_eq(RUN(__VA_ARGS__), ASSIST_HANDLED);                                    \
		cr_assert_eq(f.regs.rip, rip_before + (len));                                      \
		expect_no_event();                                                                 \
	} while (0)

static void expect_event(unsigned vector, bool has_code, uint32_t code)
{
	cr_assert_eq(f.events.exception.injected, 1);
	cr_assert_eq(f.events.exception.pending, 0);
	cr_assert_eq(f.events.exception.nr, vector, "vector %u", f.events.exception.nr);
	cr_assert_eq(f.events.exception.has_error_code, has_code);
	if (has_code)
		cr_assert_eq(f.events.exception.error_code, code, "error code %x",
			     f.events.exception.error_code);
}

/* Fault: registers as they were, RF set. */
#define EXPECT_FAULT(vector, has_code, code, ...)                                                  \
	do {                                                                                       \
		struct kvm_regs before = f.regs;                                                   \
		cr_assert_eq(RUN(__VA_ARGS__), ASSIST_HANDLED);                                    \
		expect_event(vector, has_code, code);                                              \
		before.rflags |= RF;                                                               \
		cr_assert_arr_eq(&f.regs, &before, sizeof(before));                                \
		f.regs.rflags &= ~(uint64_t)RF;                                                    \
	} while (0)

#define EXPECT_UD(...) EXPECT_FAULT(6, false, 0, __VA_ARGS__)
#define EXPECT_NM(...) EXPECT_FAULT(7, false, 0, __VA_ARGS__)
#define EXPECT_MF(...) EXPECT_FAULT(16, false, 0, __VA_ARGS__)
#define EXPECT_GP(...) EXPECT_FAULT(13, true, 0, __VA_ARGS__)

/* Nothing at all has changed. */
#define EXPECT_NOT_OURS(...)                                                                       \
	do {                                                                                       \
		struct kvm_regs before = f.regs;                                                   \
		cr_assert_eq(RUN(__VA_ARGS__), ASSIST_NOT_OURS);                                   \
		cr_assert_arr_eq(&f.regs, &before, sizeof(before));                                \
		cr_assert_eq(f.events.exception.nr, 6);                                            \
		cr_assert_eq(f.events.exception.pending, 1);                                       \
	} while (0)

static void expect_page_fault(uint64_t cr2, uint32_t code)
{
	expect_event(14, true, code);
	cr_assert_eq(f.sregs.cr2, cr2, "CR2 %llx", f.sregs.cr2);
}

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

/* --- memory operands, by movbe --- */

static void put64(uint64_t gpa, uint64_t v)
{
	memcpy(f.ram + gpa, &v, 8);
}

Test(assist, movbe)
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

Test(assist, addressing_forms)
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

Test(assist, absolute_and_segments)
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

Test(assist, rip_relative_counts_from_the_end)
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

Test(assist, a_rex_before_another_prefix_is_void)
{
	put64(DATA_GPA, 0x1122334455667788);
	f.regs.rsi = DATA;
	EXPECT_STEP(6, 0x48, 0x66, 0x0f, 0x38, 0xf0, 0x06);
	cr_assert_eq(f.regs.rax, 0x8877);
}

Test(assist, operands_across_pages)
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

Test(assist, page_faults)
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

Test(assist, smap_and_user_mode)
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

Test(assist, non_canonical_operands)
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

Test(assist, mmio_operands_are_not_ours)
{
	fake_map(&f, DATA + 0x1000, 0xfee00000, P | W);
	f.regs.rsi = DATA + 0x1000;
	EXPECT_NOT_OURS(0x48, 0x0f, 0x38, 0xf0, 0x06);
	f.regs.rsi = DATA + 0xffc; /* half of it */
	EXPECT_NOT_OURS(0x48, 0x0f, 0x38, 0xf1, 0x06);
	cr_assert_eq(f.ram[DATA_GPA + 0xffc], 0);
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

/* --- segments --- */

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

Test(assist, lar)
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

Test(assist, lsl)
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

Test(assist, verr_verw)
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

Test(assist, verw_memory_operand_as_the_kernel_has_it)
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

Test(assist, ldt)
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

Test(assist, descriptor_tables_are_read_as_supervisor)
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
