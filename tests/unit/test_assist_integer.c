/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assisted integer instructions against the processor: the same bytes are executed here and by the
 * assist with the same random registers, register and memory operands, and the results compared.
 * Instructions that this processor lacks are checked by hand-made cases only.
 */
#include <criterion/criterion.h>
#include <cpuid.h>
#include <sys/mman.h>

#include "assist_fake.h"

#define CODE	 0xffffffff81000000ull
#define DATA	 0xffff888000100000ull
#define DATA_GPA 0x200000u
#define ROUNDS	 400

enum {
	CF = 1u << 0,
	PF = 1u << 2,
	AF = 1u << 4,
	ZF = 1u << 6,
	SF = 1u << 7,
	OF = 1u << 11,
	ARITH = CF | PF | AF | ZF | SF | OF,
};

static struct fake f;

static void setup(void)
{
	fake_init(&f);
	fake_map(&f, CODE, 0x220000, P);
	fake_map(&f, DATA, DATA_GPA, P | W | NX);
}

static void teardown(void)
{
	fake_free(&f);
}

TestSuite(assist_integer, .init = setup, .fini = teardown);

/* --- execution on this processor --- */

struct native {
	uint64_t gpr[16]; /* by encoding; [4] (RSP) is not loaded */
	uint64_t flags;
};

void native_call(struct native *n);
extern uint8_t *native_code;
uint8_t *native_code;

/* Loads all registers but RSP from *rdi, calls *native_code, stores them back. */
__asm__(".text\n"
	".type native_call, @function\n"
	"native_call:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	push %rdi\n"
	"	pushq 128(%rdi); popfq\n"
	"	mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	call *native_code(%rip)\n"
	"	pushfq\n"
	"	push %rdi\n"
	"	mov 16(%rsp), %rdi\n"
	"	mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
	"	mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n"
	"	mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
	"	mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
	"	pop 56(%rdi)\n"
	"	pop 128(%rdi)\n"
	"	cld\n"
	"	pop %rdi\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".size native_call, . - native_call\n");

static void native_run(struct native *n, const uint8_t *bytes, unsigned len)
{
	if (!native_code) {
		native_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		cr_assert_neq(native_code, MAP_FAILED);
	}
	memcpy(native_code, bytes, len);
	native_code[len] = 0xc3;
	native_call(n);
}

static bool have_leaf7(unsigned bit)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> bit & 1);
}

static bool have_leaf1(unsigned bit)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c >> bit & 1);
}

static bool have_lzcnt(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c >> 5 & 1);
}

/* --- encodings --- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Values with edges in them: all sorts of lengths, zeroes and ones. */
static uint64_t rnd_value(void)
{
	uint64_t v = rnd();

	switch (rnd() % 8) {
	case 0:
		return 0;
	case 1:
		return ~0ull;
	case 2:
		return v & 0xff;
	case 3:
		return 1ull << (v % 64);
	case 4:
		return v >> (v % 64);
	case 5:
		return v << (v % 64);
	default:
		return v;
	}
}

static unsigned rnd_reg(void)
{
	unsigned r;

	do
		r = rnd() % 16;
	while (r == 4); /* RSP belongs to the test */
	return r;
}

struct form {
	const char *name;
	uint8_t prefix; /* 0, 66, F2, F3; for VEX forms the pp */
	uint8_t map;	/* 1: 0F, 2: 0F38, 3: 0F3A */
	uint8_t opcode;
	int8_t ext; /* /digit, or -1 */
	bool vex, imm, size16, mem_only, uses_dx;
	uint16_t flags; /* defined by the manual */
};

struct code {
	uint8_t bytes[16];
	unsigned len;
};

static void emit(struct code *c, uint8_t byte)
{
	c->bytes[c->len++] = byte;
}

/* Register operands reg, rm, vvvv; with mem, rm is a base register with an 8-bit displacement. */
static void encode(struct code *c, const struct form *form, bool w, bool size16, unsigned reg,
		   unsigned rm, unsigned vvvv, bool mem)
{
	static const uint8_t pp[] = {[0] = 0, [0x66] = 1, [0xf3] = 2, [0xf2] = 3};

	*c = (struct code){0};
	if (form->vex) {
		emit(c, 0xc4);
		emit(c, (reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | form->map);
		emit(c, (w ? 0x80 : 0) | ((~vvvv & 0xf) << 3) | pp[form->prefix]);
	} else {
		if (size16)
			emit(c, 0x66);
		if (form->prefix)
			emit(c, form->prefix);
		if (w || (reg & 8) || (rm & 8) || rnd() % 4 == 0)
			emit(c, 0x40 | (w ? 8 : 0) | (reg & 8 ? 4 : 0) | (rm & 8 ? 1 : 0));
		emit(c, 0x0f);
		if (form->map > 1)
			emit(c, form->map == 2 ? 0x38 : 0x3a);
	}
	emit(c, form->opcode);
	emit(c, (mem ? 0x40 : 0xc0) | (reg & 7) << 3 | (rm & 7));
	if (mem && (rm & 7) == 4)
		emit(c, 0x24);
	if (mem)
		emit(c, 0x18);
	if (form->imm)
		emit(c, (uint8_t)rnd());
}

/* One round: the same code on both, registers and memory compared. */
static void compare(const struct form *form)
{
	static _Alignas(64) uint8_t host[64];
	unsigned reg = form->ext >= 0 ? (unsigned)form->ext : rnd_reg();
	unsigned rm = rnd_reg();
	bool mem = form->mem_only || rnd() % 2;
	bool w = rnd() % 2, size16 = !w && form->size16 && rnd() % 3 == 0;
	unsigned vvvv = form->vex && !form->imm ? rnd_reg() : 0;
	uint64_t cell = rnd_value();
	struct native n;
	struct code c;

	encode(&c, form, w, size16, reg, rm, vvvv, mem);
	for (unsigned i = 0; i < 16; i++)
		n.gpr[i] = rnd_value();
	n.flags = 2 | 0x200 | (rnd() & ARITH);
	for (unsigned i = 0; i < 16; i++)
		*fake_gpr(&f.regs, i) = n.gpr[i];
	f.regs.rflags = n.flags;
	f.regs.rip = CODE;
	if (mem) {
		n.gpr[rm] = (uint64_t)(uintptr_t)host;
		*fake_gpr(&f.regs, rm) = DATA;
		memcpy(host + 0x18, &cell, 8);
		memcpy(f.ram + DATA_GPA + 0x18, &cell, 8);
		/* The two bases differ, so they must not be data besides. */
		if (rm == vvvv || (form->ext < 0 && rm == reg) || (form->uses_dx && rm == 2))
			return;
	}
	native_run(&n, c.bytes, c.len);
	cr_assert_eq(assist_emulation_failure(&f.a, c.bytes, c.len), ASSIST_HANDLED, "%s",
		     form->name);
	cr_assert_eq(f.regs.rip, CODE + c.len);
	for (unsigned i = 0; i < 16; i++)
		if (i != 4 && !(mem && i == rm))
			cr_assert_eq(*fake_gpr(&f.regs, i), n.gpr[i],
				     "%s w %d 16 %d mem %d: r%u %llx instead of %lx", form->name, w,
				     size16, mem, i, *fake_gpr(&f.regs, i), n.gpr[i]);
	cr_assert_eq((f.regs.rflags ^ n.flags) & form->flags, 0, "%s: flags %llx instead of %lx",
		     form->name, f.regs.rflags, n.flags);
	cr_assert_arr_eq(host + 0x18, f.ram + DATA_GPA + 0x18, 8, "%s: memory", form->name);
}

static void compare_all(const struct form *forms, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < ROUNDS; k++)
			compare(&forms[i]);
}
#define COMPARE_ALL(forms) compare_all(forms, sizeof(forms) / sizeof((forms)[0]))

Test(assist_integer, popcnt_crc32)
{
	static const struct form forms[] = {
	    {"popcnt", 0xf3, 1, 0xb8, -1, .size16 = true, .flags = ARITH},
	    {"crc32 r8", 0xf2, 2, 0xf0, -1, .flags = ARITH},
	    {"crc32", 0xf2, 2, 0xf1, -1, .size16 = true, .flags = ARITH},
	};

	if (!have_leaf1(20) || !have_leaf1(23))
		cr_skip_test("no SSE4.2");
	COMPARE_ALL(forms);
}

Test(assist_integer, movbe)
{
	static const struct form forms[] = {
	    {"movbe load", 0, 2, 0xf0, -1, .size16 = true, .mem_only = true, .flags = ARITH},
	    {"movbe store", 0, 2, 0xf1, -1, .size16 = true, .mem_only = true, .flags = ARITH},
	};

	if (!have_leaf1(22))
		cr_skip_test("no MOVBE");
	COMPARE_ALL(forms);
}

Test(assist_integer, bmi1)
{
	static const struct form forms[] = {
	    {"tzcnt", 0xf3, 1, 0xbc, -1, .size16 = true, .flags = CF | ZF},
	    {"andn", 0, 2, 0xf2, -1, .vex = true, .flags = SF | ZF | OF | CF},
	    {"blsr", 0, 2, 0xf3, 1, .vex = true, .flags = SF | ZF | OF | CF},
	    {"blsmsk", 0, 2, 0xf3, 2, .vex = true, .flags = SF | ZF | OF | CF},
	    {"blsi", 0, 2, 0xf3, 3, .vex = true, .flags = SF | ZF | OF | CF},
	    {"bextr", 0, 2, 0xf7, -1, .vex = true, .flags = ZF | OF | CF},
	};

	if (!have_leaf7(3))
		cr_skip_test("no BMI1");
	COMPARE_ALL(forms);
}

Test(assist_integer, bmi2)
{
	static const struct form forms[] = {
	    {"bzhi", 0, 2, 0xf5, -1, .vex = true, .flags = SF | ZF | OF | CF},
	    {"pdep", 0xf2, 2, 0xf5, -1, .vex = true, .flags = ARITH},
	    {"pext", 0xf3, 2, 0xf5, -1, .vex = true, .flags = ARITH},
	    {"mulx", 0xf2, 2, 0xf6, -1, .vex = true, .uses_dx = true, .flags = ARITH},
	    {"shlx", 0x66, 2, 0xf7, -1, .vex = true, .flags = ARITH},
	    {"sarx", 0xf3, 2, 0xf7, -1, .vex = true, .flags = ARITH},
	    {"shrx", 0xf2, 2, 0xf7, -1, .vex = true, .flags = ARITH},
	    {"rorx", 0xf2, 3, 0xf0, -1, .vex = true, .imm = true, .flags = ARITH},
	};

	if (!have_leaf7(8))
		cr_skip_test("no BMI2");
	COMPARE_ALL(forms);
}

Test(assist_integer, adx)
{
	static const struct form forms[] = {
	    {"adcx", 0x66, 2, 0xf6, -1, .flags = ARITH},
	    {"adox", 0xf3, 2, 0xf6, -1, .flags = ARITH},
	};

	if (!have_leaf7(19))
		cr_skip_test("no ADX");
	COMPARE_ALL(forms);
}

Test(assist_integer, lzcnt)
{
	static const struct form forms[] = {
	    {"lzcnt", 0xf3, 1, 0xbd, -1, .size16 = true, .flags = CF | ZF},
	};

	if (!have_lzcnt())
		cr_skip_test("no LZCNT");
	COMPARE_ALL(forms);
}

/* --- by hand --- */

static void check(const uint8_t *bytes, unsigned n, uint64_t source, uint64_t result,
		  uint64_t flags, uint64_t mask)
{
	f.regs.rip = CODE;
	f.regs.rcx = source;
	f.regs.rax = 0x1111111111111111;
	f.regs.rflags = 2;
	cr_assert_eq(assist_emulation_failure(&f.a, bytes, n), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rax, result, "%llx", f.regs.rax);
	cr_assert_eq(f.regs.rflags & mask, flags);
}

Test(assist_integer, counts_by_hand)
{
	static const uint8_t lzcnt16[] = {0x66, 0xf3, 0x0f, 0xbd, 0xc1};
	static const uint8_t lzcnt32[] = {0xf3, 0x0f, 0xbd, 0xc1};
	static const uint8_t lzcnt64[] = {0xf3, 0x48, 0x0f, 0xbd, 0xc1};
	static const uint8_t tzcnt16[] = {0x66, 0xf3, 0x0f, 0xbc, 0xc1};
	static const uint8_t popcnt16[] = {0x66, 0xf3, 0x0f, 0xb8, 0xc1};

	check(lzcnt64, 5, 0, 64, CF, CF | ZF);
	check(lzcnt64, 5, 1, 63, 0, CF | ZF);
	check(lzcnt64, 5, 1ull << 63, 0, ZF, CF | ZF);
	check(lzcnt32, 4, 0xffffffff00000000, 32, CF, CF | ZF);
	check(lzcnt32, 4, 0xffff, 16, 0, CF | ZF);
	check(lzcnt16, 5, 0xf0100, 0x1111111111110007, 0, CF | ZF);
	check(lzcnt16, 5, 0xf0000, 0x1111111111110010, CF, CF | ZF);
	check(tzcnt16, 5, 0xf0000, 0x1111111111110010, CF, CF | ZF);
	check(popcnt16, 5, 0xfffff, 0x1111111111110010, 0, ARITH);
	check(popcnt16, 5, 0xf0000, 0x1111111111110000, ZF, ARITH);
}

Test(assist_integer, crc32c_check_value)
{
	static const uint8_t crc32[] = {0xf2, 0x48, 0x0f, 0x38, 0xf0, 0xc1};

	/* CRC-32C of "123456789", RFC 3720 B.4's polynomial */
	f.regs.rax = 0xffffffff;
	for (char c = '1'; c <= '9'; c++) {
		f.regs.rip = CODE;
		f.regs.rcx = (uint8_t)c;
		cr_assert_eq(assist_emulation_failure(&f.a, crc32, 6), ASSIST_HANDLED);
	}
	cr_assert_eq((uint32_t)~f.regs.rax, 0xe3069283);
}

Test(assist_integer, mulx_to_one_register_keeps_the_high_half)
{
	static const uint8_t mulx[] = {0xc4, 0xe2, 0xfb, 0xf6, 0xc1}; /* mulx rax, rax, rcx */

	f.regs.rip = CODE;
	f.regs.rdx = 1ull << 63;
	f.regs.rcx = 6;
	cr_assert_eq(assist_emulation_failure(&f.a, mulx, 5), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rax, 3);
}

Test(assist_integer, high_byte_registers)
{
	static const uint8_t ah[] = {0xf2, 0x0f, 0x38, 0xf0, 0xc4};
	static const uint8_t spl[] = {0xf2, 0x40, 0x0f, 0x38, 0xf0, 0xc4};
	uint64_t by_ah, by_spl;

	f.regs.rip = CODE;
	f.regs.rsp = 0x5a;
	f.regs.rax = 0x5a00;
	cr_assert_eq(assist_emulation_failure(&f.a, ah, 5), ASSIST_HANDLED);
	by_ah = f.regs.rax;
	f.regs.rax = 0x5a00;
	cr_assert_eq(assist_emulation_failure(&f.a, spl, 6), ASSIST_HANDLED);
	by_spl = f.regs.rax;
	cr_assert_eq(by_ah, by_spl);
	cr_assert_neq(by_ah, 0x5a00);
}
