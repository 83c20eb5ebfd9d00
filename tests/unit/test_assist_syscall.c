/* SPDX-License-Identifier: Apache-2.0 */
/* The SYSCALL repair: arming, the repair itself, all its refusals, the way past the breakpoint. */
#include <criterion/criterion.h>

#include "assist_fake.h"

#define TEXT  0xffffffff81000000ull /* kernel text: page-fault entry at +0x100, LSTAR at +0x40 */
#define IDT   0xfffffe0000000000ull
#define STACK 0xfffffe0000002000ull
#define USER  0x0000000000400000ull /* two pages of user text */
#define DATA  0x0000000000600000ull /* user data, no execution */
#define ENTRY (TEXT + 0x100)
#define LSTAR (TEXT + 0x40)
#define FRAME (STACK + 0xfd0)

#define TEXT_GPA  0x200000u
#define IDT_GPA	  0x201000u
#define STACK_GPA 0x202000u
#define USER_GPA  0x203000u
#define DATA_GPA  0x206000u

enum { TF = 1u << 8, IF = 1u << 9, RF = 1u << 16 };

#define DR6_HIT	 0xffff0ff1u
#define DR6_STEP 0xffff4ff0u

struct frame {
	uint64_t error_code, rip, cs, rflags, rsp, ss;
};

static struct fake f;

static void set_gate(uint64_t entry, unsigned type)
{
	uint64_t gate[2] = {
	    (entry & 0xffff) | 0x10ull << 16 | (0x80ull | type) << 40 |
		(entry >> 16 & 0xffff) << 48,
	    entry >> 32,
	};

	memcpy(f.ram + IDT_GPA + 14 * 16, gate, sizeof(gate));
}

static struct frame *frame(void)
{
	return (struct frame *)(void *)(f.ram + STACK_GPA + 0xfd0);
}

/* A guest in user mode, ready for the breakpoint. */
static void setup(void)
{
	fake_init(&f);
	fake_map(&f, TEXT, TEXT_GPA, P);
	fake_map(&f, IDT, IDT_GPA, P | NX);
	fake_map(&f, STACK, STACK_GPA, P | W | NX);
	fake_map(&f, USER, USER_GPA, P | U);
	fake_map(&f, USER + 0x1000, USER_GPA + 0x1000, P | U);
	fake_map(&f, DATA, DATA_GPA, P | W | U | NX);
	f.sregs.idt.base = IDT;
	f.sregs.idt.limit = 0xfff;
	set_gate(ENTRY, 0xe);
	f.lstar = LSTAR;
	f.star = 0x0023001000000000;
	f.sfmask = 0x47700;
	memcpy(f.ram + TEXT_GPA + 0x100, "\xe8\x00\x00\x00\x00", 5); /* call */
	fake_user(&f);
	f.regs.rip = USER;
}

static void teardown(void)
{
	fake_free(&f);
}

TestSuite(assist_syscall, .init = setup, .fini = teardown);

static void arm(void)
{
	cr_assert_eq(assist_before_run(&f.a), 0);
	cr_assert_eq(f.a.state, ASSIST_STATE_ARMED);
}

/* The CPU has taken a page fault from a SYSCALL at USER + 0x20 and stands at the entry. */
static void misdeliver(void)
{
	memcpy(f.ram + USER_GPA + 0x20, "\x0f\x05", 2);
	f.regs = (struct kvm_regs){
	    .rax = 39,
	    .rip = ENTRY,
	    .rsp = FRAME,
	    .rcx = USER + 0x22,
	    .r11 = 0x246,
	    .rflags = 2,
	};
	f.sregs.cs.selector = 0x10;
	f.sregs.cs.dpl = 0;
	f.sregs.ss = (struct kvm_segment){.unusable = 1};
	f.sregs.cr2 = LSTAR;
	*frame() = (struct frame){
	    .error_code = 0x15,
	    .rip = LSTAR,
	    .cs = 0x33,
	    .rflags = (0x246 & ~0x47700) | RF,
	    .rsp = 0x7ffffffde000,
	    .ss = 0x2b,
	};
}

static int debug_exit(uint64_t pc, uint64_t dr6)
{
	struct kvm_debug_exit_arch d = {.exception = 1, .pc = pc, .dr6 = dr6, .dr7 = 0x402};

	return assist_debug_exit(&f.a, &d);
}

static void expect_armed_at(uint64_t entry)
{
	cr_assert_eq(f.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	cr_assert_eq(f.debug.arch.debugreg[0], entry);
	cr_assert_eq(f.debug.arch.debugreg[7], 0x402);
	cr_assert_eq(f.a.state, ASSIST_STATE_ARMED);
	cr_assert(!assist_wants_kick(&f.a));
}

static void expect_repaired(void)
{
	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_HANDLED);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 1, "not repaired");
	cr_assert_eq(assist_count(&f.a, ASSIST_N_PAGE_FAULT), 0);
}

/* The fault is delivered: the CPU stands where it stood, about to step over the entry's call. */
static void expect_refused(void)
{
	struct kvm_regs regs = f.regs;
	struct kvm_sregs sregs = f.sregs;

	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_HANDLED);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 0);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_PAGE_FAULT), 1);
	cr_assert_arr_eq(&f.regs, &regs, sizeof(regs));
	cr_assert_arr_eq(&f.sregs, &sregs, sizeof(sregs));
	cr_assert_eq(f.events.exception.injected, 0);
}

/* --- arming --- */

Test(assist_syscall, arms_when_idt_lstar_and_sce_are_there)
{
	cr_assert(assist_wants_kick(&f.a));
	f.sregs.efer &= ~1ull;
	cr_assert_eq(assist_before_run(&f.a), 0);
	f.sregs.efer |= 1;
	f.lstar = 0;
	cr_assert_eq(assist_before_run(&f.a), 0);
	f.lstar = LSTAR;
	f.sregs.idt.limit = 14 * 16 + 14;
	cr_assert_eq(assist_before_run(&f.a), 0);
	f.sregs.idt.limit = 14 * 16 + 15;
	f.sregs.idt.base = IDT + 0x10000; /* not mapped */
	cr_assert_eq(assist_before_run(&f.a), 0);
	f.sregs.idt.base = IDT;
	set_gate(ENTRY, 0x5); /* task gate */
	cr_assert_eq(assist_before_run(&f.a), 0);
	memset(f.ram + IDT_GPA, 0, 4096);
	cr_assert_eq(assist_before_run(&f.a), 0);
	cr_assert_eq(f.debug_calls, 0);
	cr_assert(assist_wants_kick(&f.a));
	set_gate(ENTRY, 0xe);
	arm();
	expect_armed_at(ENTRY);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_ARM), 1);
	cr_assert_eq(*fake_pte(&f, IDT, 1) & A, 0, "the guest's tables show no trace");
}

Test(assist_syscall, trap_gates_do)
{
	set_gate(ENTRY, 0xf);
	arm();
	expect_armed_at(ENTRY);
}

Test(assist_syscall, nothing_without_assist)
{
	cr_assert_eq(assist_before_run(NULL), 0);
}

Test(assist_syscall, armed_costs_nothing_for_most_runs)
{
	unsigned calls;

	arm();
	calls = f.calls;
	for (unsigned i = 0; i < 63; i++)
		cr_assert_eq(assist_before_run(&f.a), 0);
	cr_assert_eq(f.calls, calls);
	cr_assert_eq(assist_before_run(&f.a), 0);
	cr_assert_gt(f.calls, calls);
	cr_assert_eq(f.debug_calls, 1, "still at the same place");
	calls = f.calls;
	cr_assert_eq(assist_before_run(&f.a), 0);
	cr_assert_eq(f.calls, calls);
}

Test(assist_syscall, follows_the_gate)
{
	arm();
	set_gate(TEXT + 0x500, 0xe);
	cr_assert_eq(assist_watch(&f.a), 0);
	expect_armed_at(TEXT + 0x500);
	f.sregs.efer &= ~1ull; /* another kernel starts */
	cr_assert_eq(assist_watch(&f.a), 0);
	cr_assert_eq(f.debug.control, 0);
	cr_assert(assist_wants_kick(&f.a));
	f.sregs.efer |= 1;
	arm();
}

Test(assist_syscall, a_stop_where_the_gate_has_been)
{
	arm();
	misdeliver();
	set_gate(TEXT + 0x500, 0xe);
	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_HANDLED);
	expect_armed_at(TEXT + 0x500);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 0);
	cr_assert_eq(f.regs.rip, ENTRY);
}

/* --- repair --- */

Test(assist_syscall, repair)
{
	arm();
	misdeliver();
	expect_repaired();
	cr_assert_eq(f.regs.rip, LSTAR);
	cr_assert_eq(f.regs.rsp, 0x7ffffffde000);
	cr_assert_eq(f.regs.rflags, 0x246u & ~0x47700u, "masked, RF clear");
	cr_assert_eq(f.regs.rcx, USER + 0x22);
	cr_assert_eq(f.regs.r11, 0x246);
	cr_assert_eq(f.regs.rax, 39);
	cr_assert_eq(f.events.exception.injected, 0);
	expect_armed_at(ENTRY);
	cr_assert_eq(f.debug_calls, 1, "the breakpoint stays");
}

Test(assist_syscall, segments)
{
	struct kvm_segment cs = {.limit = 0xffffffff,
				 .selector = 0x10,
				 .type = 0xb,
				 .present = 1,
				 .s = 1,
				 .l = 1,
				 .g = 1};
	struct kvm_segment ss = {.limit = 0xffffffff,
				 .selector = 0x18,
				 .type = 3,
				 .present = 1,
				 .db = 1,
				 .s = 1,
				 .g = 1};

	f.star = 0x0023001300000000; /* RPL bits are cleared */
	arm();
	misdeliver();
	expect_repaired();
	cr_assert_arr_eq(&f.sregs.cs, &cs, sizeof(cs));
	cr_assert_arr_eq(&f.sregs.ss, &ss, sizeof(ss));
}

Test(assist_syscall, rflags_bit_1_stays_whatever_the_mask)
{
	f.sfmask = ~0ull;
	arm();
	misdeliver();
	frame()->rflags = 2;
	expect_repaired();
	cr_assert_eq(f.regs.rflags, 2);
}

Test(assist_syscall, single_stepping_user)
{
	arm();
	misdeliver();
	f.regs.r11 |= TF;
	expect_repaired();
	cr_assert_eq(f.regs.rflags & TF, 0, "SFMASK has TF");
}

Test(assist_syscall, a_mask_of_nothing)
{
	f.sfmask = 0;
	arm();
	misdeliver();
	frame()->rflags = 0x246 | RF;
	expect_repaired();
	cr_assert_eq(f.regs.rflags, 0x246);
}

Test(assist_syscall, instruction_across_two_pages)
{
	arm();
	misdeliver();
	f.ram[USER_GPA + 0xfff] = 0x0f;
	f.ram[USER_GPA + 0x1000] = 0x05;
	f.regs.rcx = USER + 0x1001;
	expect_repaired();
}

Test(assist_syscall, a_back_end_that_reports_no_cause)
{
	arm();
	misdeliver();
	cr_assert_eq(debug_exit(ENTRY, 0), ASSIST_HANDLED);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 1);
}

/* --- refusals --- */

#define REFUSAL(name, statement)                                                                   \
	Test(assist_syscall, refuses_##name)                                                       \
	{                                                                                          \
		arm();                                                                             \
		misdeliver();                                                                      \
		statement;                                                                         \
		expect_refused();                                                                  \
	}

REFUSAL(kernel_mode, frame()->cs = 0x10)
REFUSAL(other_rip, frame()->rip = LSTAR + 4)
REFUSAL(not_present, frame()->error_code = 0x14)
REFUSAL(reserved_bits, frame()->error_code = 0x1d)
REFUSAL(supervisor_fetch, frame()->error_code = 0x11)
REFUSAL(data_access, frame()->error_code = 0x05)
REFUSAL(cr2, f.sregs.cr2 = LSTAR + 1)
REFUSAL(moved_lstar, f.lstar = LSTAR + 0x10)
REFUSAL(a_jump, frame()->rflags = 0x246 | RF)
REFUSAL(forged_r11, f.regs.r11 = 0x202)
REFUSAL(forged_r11_if, (frame()->rflags |= 0x200, f.regs.r11 &= ~0x200ull))
REFUSAL(forged_r11_iopl, f.regs.r11 = 0x3246)
REFUSAL(no_syscall_before_rcx, f.ram[USER_GPA + 0x21] = 0x0b)
REFUSAL(sysenter_before_rcx, f.ram[USER_GPA + 0x21] = 0x34)
REFUSAL(rcx_off_by_one, f.regs.rcx++)
REFUSAL(rcx_in_data, (memcpy(f.ram + DATA_GPA, "\x0f\x05", 2), f.regs.rcx = DATA + 2))
REFUSAL(rcx_in_kernel, (memcpy(f.ram + TEXT_GPA, "\x0f\x05", 2), f.regs.rcx = TEXT + 2))
REFUSAL(rcx_unmapped, f.regs.rcx = USER + 0x5000)
REFUSAL(rcx_non_canonical, f.regs.rcx = 0x0000800000000002)
REFUSAL(rcx_zero, f.regs.rcx = 0)
REFUSAL(stack_unmapped, f.regs.rsp = STACK + 0x1000)
REFUSAL(stack_runs_out, f.regs.rsp = FRAME + 8)

Test(assist_syscall, refusals_at_lstar_are_counted)
{
	arm();
	misdeliver();
	f.regs.r11 = 0x202;
	expect_refused();
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL_REFUSED), 1);
}

/* --- past the breakpoint --- */

Test(assist_syscall, single_step_and_rearm)
{
	arm();
	misdeliver();
	frame()->error_code = 4;
	expect_refused();
	cr_assert_eq(f.a.state, ASSIST_STATE_STEPPING);
	cr_assert_eq(f.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_PAGE_FAULT_STEP), 1);
	cr_assert_eq(assist_before_run(&f.a), 0); /* interrupted before it began, say */
	cr_assert_eq(f.a.state, ASSIST_STATE_STEPPING);
	cr_assert(!assist_wants_kick(&f.a));
	f.regs.rip = TEXT + 0x800;
	cr_assert_eq(debug_exit(TEXT + 0x800, DR6_STEP), ASSIST_HANDLED);
	expect_armed_at(ENTRY);
	cr_assert_eq(f.events.exception.injected, 0, "the step is ours, not the guest's");
}

Test(assist_syscall, a_step_that_ends_by_another_exit)
{
	arm();
	misdeliver();
	frame()->error_code = 4;
	expect_refused();
	f.regs.rip = ENTRY + 3;
	cr_assert_eq(assist_before_run(&f.a), 0);
	expect_armed_at(ENTRY);
}

Test(assist_syscall, a_step_over_an_assisted_instruction)
{
	arm();
	misdeliver();
	frame()->error_code = 4;
	expect_refused();
	cr_assert_eq(assist_emulation_failure(&f.a, (const uint8_t *)"\xf3\x0f\xb8\xc1", 4),
		     ASSIST_HANDLED);
	cr_assert_eq(assist_before_run(&f.a), 0);
	expect_armed_at(ENTRY);
}

Test(assist_syscall, the_same_frame_after_an_nmi_is_judged_the_same)
{
	arm();
	misdeliver();
	f.regs.r11 = 0x202;
	expect_refused();
	f.regs.rip = TEXT + 0xa00; /* NMI handler */
	cr_assert_eq(debug_exit(TEXT + 0xa00, DR6_STEP), ASSIST_HANDLED);
	expect_armed_at(ENTRY);
	f.regs.rip = ENTRY; /* IRET */
	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_HANDLED);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 0);
	cr_assert_eq(f.a.state, ASSIST_STATE_STEPPING);
}

static void expect_skipped(const char *bytes, unsigned len)
{
	memcpy(f.ram + TEXT_GPA + 0x100, bytes, len);
	arm();
	misdeliver();
	frame()->error_code = 7;
	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rip, ENTRY + len);
	cr_assert_eq(f.debug_calls, 1, "no step, the breakpoint stays");
	cr_assert_eq(assist_count(&f.a, ASSIST_N_PAGE_FAULT), 1);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_PAGE_FAULT_STEP), 0);
}

Test(assist_syscall, skips_endbr)
{
	expect_skipped("\xf3\x0f\x1e\xfa", 4);
}

Test(assist_syscall, skips_clac)
{
	expect_skipped("\x0f\x01\xca", 3);
}

Test(assist_syscall, skips_nop)
{
	expect_skipped("\x0f\x1f\x00", 3);
}

Test(assist_syscall, skips_cld)
{
	expect_skipped("\xfc", 1);
}

Test(assist_syscall, entry_at_the_end_of_its_page)
{
	set_gate(TEXT + 0xffd, 0xe);
	memcpy(f.ram + TEXT_GPA + 0xffd, "\x0f\x01\xca", 3);
	arm();
	misdeliver();
	f.regs.rip = TEXT + 0xffd;
	frame()->error_code = 7;
	cr_assert_eq(debug_exit(TEXT + 0xffd, DR6_HIT), ASSIST_HANDLED);
	cr_assert_eq(f.regs.rip, TEXT + 0x1000);
}

Test(assist_syscall, does_not_execute_other_instructions_itself)
{
	memcpy(f.ram + TEXT_GPA + 0x100, "\xcc", 1);
	arm();
	misdeliver();
	frame()->error_code = 7;
	expect_refused();
	cr_assert_eq(f.a.state, ASSIST_STATE_STEPPING);
}

/* --- debug exceptions of the guest's own --- */

Test(assist_syscall, the_guests_single_step_is_passed_on)
{
	arm();
	f.regs.rip = USER + 5;
	cr_assert_eq(debug_exit(USER + 5, DR6_STEP), ASSIST_HANDLED);
	cr_assert_eq(f.events.exception.injected, 1);
	cr_assert_eq(f.events.exception.nr, 1);
	cr_assert_eq(f.events.exception.has_error_code, 0);
	cr_assert_eq(f.dr.dr6, 0xffff4ff0);
	cr_assert_eq(f.regs.rip, USER + 5);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_DEBUG_PASSED), 1);
	expect_armed_at(ENTRY);
}

Test(assist_syscall, a_trap_that_ends_at_the_entry_is_no_hit)
{
	arm();
	misdeliver();
	cr_assert_eq(debug_exit(ENTRY, DR6_STEP), ASSIST_HANDLED);
	cr_assert_eq(f.events.exception.injected, 1);
	cr_assert_eq(assist_count(&f.a, ASSIST_N_SYSCALL), 0);
}

Test(assist_syscall, exits_that_are_not_ours)
{
	struct kvm_debug_exit_arch d = {.exception = 3, .pc = ENTRY, .dr6 = DR6_HIT};

	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), ASSIST_NOT_OURS, "nothing is set");
	arm();
	cr_assert_eq(assist_debug_exit(&f.a, &d), ASSIST_NOT_OURS);
}

Test(assist_syscall, failing_ops_are_reported)
{
	arm();
	misdeliver();
	f.fail = -EIO;
	cr_assert_eq(debug_exit(ENTRY, DR6_HIT), -EIO);
	cr_assert_eq(assist_watch(&f.a), -EIO);
}

Test(assist_syscall, init_after_restore_arms_again)
{
	struct assist_setup setup_copy;

	arm();
	setup_copy = f.a.setup;
	assist_init(&f.a, &setup_copy);
	cr_assert(assist_wants_kick(&f.a));
	arm();
	cr_assert_eq(f.debug_calls, 2);
}
