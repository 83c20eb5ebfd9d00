/* SPDX-License-Identifier: Apache-2.0 */
/* Assisted instructions one by one: a CPU with some memory, an instruction, what came of it. */
#ifndef TESTS_ASSIST_INSN_H
#define TESTS_ASSIST_INSN_H

#include <string.h>

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

static inline void insn_setup(void)
{
	fake_init(&f);
	fake_map(&f, CODE, 0x220000, P);
	fake_map(&f, DATA, DATA_GPA, P | W | NX);
	fake_map(&f, DATA + 0x1000, DATA_GPA + 0x8000, P | W | NX); /* not adjoining */
	fake_map(&f, USER, USER_GPA, P | W | U);
	f.regs.rip = CODE;
}

static inline void insn_teardown(void)
{
	fake_free(&f);
}

#define RUN(...) run((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* As KVM leaves things: RIP on the instruction and a #UD pending. */
static inline int run(const uint8_t *bytes, unsigned n)
{
	f.events.exception.pending = 1;
	f.events.exception.injected = 1; /* KVM_GET_VCPU_EVENTS reports both */
	f.events.exception.nr = 6;
	return assist_emulation_failure(&f.a, bytes, n);
}

static inline void expect_no_event(void)
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

static inline void expect_event(unsigned vector, bool has_code, uint32_t code)
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

static inline void expect_page_fault(uint64_t cr2, uint32_t code)
{
	expect_event(14, true, code);
	cr_assert_eq(f.sregs.cr2, cr2, "CR2 %llx", f.sregs.cr2);
}

static inline void put64(uint64_t gpa, uint64_t v)
{
	memcpy(f.ram + gpa, &v, 8);
}

#endif
