/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SYSCALL repair. A software KVM back end delivers SYSCALL from guest user mode wrongly: RIP =
 * LSTAR, RCX and R11 are set and RFLAGS is masked with SFMASK, but CPL stays 3. LSTAR points at
 * kernel text, so the guest takes a page fault, a fetch from user mode of a present supervisor page
 * (error code 0x15), with user CS and RIP = LSTAR in the frame. This file turns that page fault
 * back into the SYSCALL that it was, for any guest kernel.
 *
 * Theory of operation. A breakpoint (KVM_SET_GUEST_DEBUG) sits on the first instruction of the
 * guest's page-fault entry. At each stop there:
 *
 *	is it a mis-delivered SYSCALL?	frame, CR2, R11 and RCX tell
 *	yes				the registers become those of SYSCALL (APM vol. 3), go on
 *	no				a true page fault: get past the breakpoint, go on
 *
 * A user who *jumps* to LSTAR takes the very same page fault. RCX must therefore point behind a
 * SYSCALL instruction that he could have executed, R11 must hold no bit that is not his to set, and
 * the RFLAGS of the frame must be those of R11 after SFMASK. The last tells the two apart wherever
 * SFMASK has IF, as every kernel's has that relies on entering with interrupts off: user mode runs
 * with IF set, and a jump leaves it so. Where it does not, what he gets is what SYSCALL there would
 * have given him. Anything else is a page fault.
 *
 * The frame is read at the very first instruction: RSP points at the error code, whatever the
 * stack is (the entry has IST 0 in Linux; with an IST the frame is the same), and nothing of the
 * guest's (SWAPGS, CR3 of page-table isolation) has been switched yet. Its IDT, entry and stack
 * are mapped in the user's page tables too under isolation, or the fault would not have come so
 * far. CR2 has been overwritten by the fault, which SYSCALL would not do; nobody can tell.
 *
 * Past the breakpoint. KVM's check knows no RFLAGS.RF: the breakpoint would hit again at once. The
 * entry's first instruction is ENDBR64, CLAC, a NOP or CLD in Linux; these the assist executes
 * itself. Any other is single-stepped (KVM_GUESTDBG_SINGLESTEP) with the breakpoint off. If an NMI
 * or an exception comes first, the step ends in its handler with the entry's instruction still to
 * be executed: the breakpoint is set again all the same, hits when the handler returns, and the
 * same frame is judged in the same way. While the step is under way the CPU is in the kernel, so no
 * SYSCALL can be missed. A step that ends by another exit (an emulation failure, a signal) is
 * noticed before the next KVM_RUN by RIP having moved.
 *
 * Where the entry is. Linux loads several IDTs while it boots, and may do so later (kexec). The
 * gate is read through the guest's page tables before the first KVM_RUNs until IDT, LSTAR and
 * EFER.SCE are there, then at every stop and before one KVM_RUN in 64; a change moves or removes
 * the breakpoint. What can be missed: a guest that gets to user space without a single exit between
 * the set-up and its first SYSCALL; so the vCPU is to be kicked as long as assist_wants_kick().
 *
 * The price: KVM_GUESTDBG_USE_HW_BP takes the debug registers over, the guest's own DR0-3 do not
 * work in native code; and all #DB of the guest come here first (assist_debug_exit() hands them
 * on).
 *
 * Not done: a SYSCALL from 32-bit code (CSTAR), which host back ends do not deliver at all.
 */
#include "assist_internal.h"

#define RECHECK_RUNS 64

#define IDT_PF_OFFSET 0xe0u /* vector 14, gates of 16 bytes */
#define GATE_PRESENT  (1ull << 47)
#define GATE_TYPE(g)  (((g) >> 40) & 0x1f)
#define GATE_INTR64   0x0eu
#define GATE_TRAP64   0x0fu

#define DR7_FIXED (1ull << 10)
#define DR7_G0	  (1ull << 1) /* condition bits 0: break on execution */

/* What the processor pushes for a #PF (SDM vol. 3 figure 6-9), from RSP upwards. */
struct frame {
	uint64_t error_code;
	uint64_t rip;
	uint64_t cs;
	uint64_t rflags;
	uint64_t rsp;
	uint64_t ss;
};

/* What user mode can have in R11 after SYSCALL: not IOPL, VM, VIF, VIP, which SYSRET would load. */
#define RFLAGS_USER                                                                                \
	(RFLAGS_ARITH | RFLAGS_FIXED | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT | RFLAGS_RF | \
	 RFLAGS_AC | RFLAGS_ID)

/* User mode fetched from a present page it may not execute. */
#define SYSCALL_ERROR_CODE (PF_ERR_PRESENT | PF_ERR_USER | PF_ERR_FETCH)

/* --- where the page-fault entry is --- */

/* Linear address of the #PF handler, 0 if there is no usable gate. */
static uint64_t page_fault_entry(const struct assist_ctx *c)
{
	uint64_t gate[2];

	if (c->sregs.idt.limit < IDT_PF_OFFSET + sizeof(gate) - 1)
		return 0;
	if (!walk_peek(c->a->setup.mem, &c->walk, c->sregs.idt.base + IDT_PF_OFFSET, WALK_IMPLICIT,
		       gate, sizeof(gate)))
		return 0;
	if (!(gate[0] & GATE_PRESENT) ||
	    (GATE_TYPE(gate[0]) != GATE_INTR64 && GATE_TYPE(gate[0]) != GATE_TRAP64))
		return 0;
	return (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
}

static bool syscall_enabled(const struct assist_ctx *c)
{
	return (c->sregs.efer & (EFER_SCE | EFER_LMA)) == (EFER_SCE | EFER_LMA);
}

struct target {
	uint64_t lstar;
	uint64_t entry; /* where the breakpoint belongs now; 0: nowhere yet */
};

/* 0 or -errno. */
static int find_target(struct assist_ctx *c, struct target *t)
{
	const struct assist_setup *s = &c->a->setup;
	int rc;

	*t = (struct target){0};
	if (!syscall_enabled(c))
		return 0;
	rc = s->ops->get_msr(s->cpu, MSR_LSTAR, &t->lstar);
	if (!rc && t->lstar)
		t->entry = page_fault_entry(c);
	return rc;
}

/* --- breakpoint and step --- */

static int set_state(struct assist *a, enum assist_state state, uint64_t entry)
{
	struct kvm_guest_debug debug = {0};
	int rc;

	if (state == ASSIST_STATE_ARMED) {
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[0] = entry;
		debug.arch.debugreg[7] = DR7_FIXED | DR7_G0;
	} else if (state == ASSIST_STATE_STEPPING) {
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	}
	rc = a->setup.ops->set_guest_debug(a->setup.cpu, &debug);
	if (rc)
		return rc;
	a->entry = entry;
	/* For assist_wants_kick() on other threads. Relaxed: the value is all they use. */
	__atomic_store_n(&a->state, state, __ATOMIC_RELAXED);
	a->countdown = state == ASSIST_STATE_ARMED ? RECHECK_RUNS : 1;
	if (state == ASSIST_STATE_ARMED)
		assist_bump(a, ASSIST_N_ARM);
	return 0;
}

bool assist_wants_kick(const struct assist *a)
{
	return __atomic_load_n(&a->state, __ATOMIC_RELAXED) == ASSIST_STATE_IDLE;
}

/* Brings the breakpoint to where it belongs. */
static int rearm(struct assist *a, uint64_t entry)
{
	if (entry && (a->state != ASSIST_STATE_ARMED || a->entry != entry))
		return set_state(a, ASSIST_STATE_ARMED, entry);
	if (!entry && a->state != ASSIST_STATE_IDLE)
		return set_state(a, ASSIST_STATE_IDLE, 0);
	a->countdown = entry ? RECHECK_RUNS : 1;
	return 0;
}

int assist_watch(struct assist *a)
{
	struct assist_ctx c;
	struct target t;
	int rc;

	a->countdown = 1;
	rc = assist_ctx_init(&c, a);
	if (rc)
		return rc;
	if (a->state == ASSIST_STATE_STEPPING && c.regs.rip == a->entry)
		return 0; /* the step has not happened yet */
	rc = find_target(&c, &t);
	return rc ? rc : rearm(a, t.entry);
}

/* --- is it one? --- */

static bool read_frame(const struct assist_ctx *c, struct frame *frame)
{
	return walk_peek(c->a->setup.mem, &c->walk, c->regs.rsp, WALK_IMPLICIT, frame,
			 sizeof(*frame));
}

/* The two bytes before RCX are a SYSCALL that user mode can execute (and did, if all is honest). */
static bool behind_syscall(const struct assist_ctx *c)
{
	uint8_t insn[2];

	return walk_peek(c->a->setup.mem, &c->walk, c->regs.rcx - sizeof(insn),
			 WALK_USER | WALK_FETCH, insn, sizeof(insn)) &&
	       insn[0] == 0x0f && insn[1] == 0x05;
}

/* User mode has fetched from LSTAR, where the guest has set it now: by SYSCALL or by a jump. */
static bool fault_at_lstar(const struct assist_ctx *c, const struct frame *frame, uint64_t lstar)
{
	return frame->error_code == SYSCALL_ERROR_CODE && (frame->cs & 3) == 3 &&
	       frame->rip == lstar && c->sregs.cr2 == lstar;
}

/* What SYSCALL leaves in R11, RFLAGS and RCX (APM vol. 3). */
static bool syscall_registers(const struct assist_ctx *c, const struct frame *frame,
			      uint64_t sfmask)
{
	uint64_t masked = (c->regs.r11 & ~sfmask) | RFLAGS_FIXED;

	return !(c->regs.r11 & ~RFLAGS_USER) && ((frame->rflags ^ masked) & ~RFLAGS_RF) == 0 &&
	       behind_syscall(c);
}

/* --- the repair --- */

/* Flat 64-bit code and data segments at CPL 0, from STAR[47:32] (APM vol. 3 SYSCALL). */
static void load_syscall_segments(struct kvm_sregs *sregs, uint64_t star)
{
	uint16_t selector = (star >> 32) & 0xfffc;

	sregs->cs = (struct kvm_segment){
	    .limit = 0xffffffff,
	    .selector = selector,
	    .type = 0xb, /* execute, read, accessed */
	    .present = 1,
	    .s = 1,
	    .l = 1,
	    .g = 1,
	};
	sregs->ss = (struct kvm_segment){
	    .limit = 0xffffffff,
	    .selector = (uint16_t)(selector + 8),
	    .type = 0x3, /* read, write, accessed */
	    .present = 1,
	    .db = 1,
	    .s = 1,
	    .g = 1,
	};
}

/* RCX and R11 are right already; the return address in RCX is what SYSRET will use. */
static int enter_kernel(struct assist_ctx *c, const struct frame *frame, uint64_t lstar,
			uint64_t sfmask)
{
	const struct assist_setup *s = &c->a->setup;
	uint64_t star;
	int rc;

	rc = s->ops->get_msr(s->cpu, MSR_STAR, &star);
	if (rc)
		return rc;
	load_syscall_segments(&c->sregs, star);
	c->regs.rip = lstar;
	c->regs.rsp = frame->rsp;
	c->regs.rflags = (frame->rflags & ~sfmask & ~RFLAGS_RF) | RFLAGS_FIXED;
	rc = s->ops->set_sregs(s->cpu, &c->sregs);
	if (!rc)
		rc = s->ops->set_regs(s->cpu, &c->regs);
	if (!rc)
		assist_bump(c->a, ASSIST_N_SYSCALL);
	return rc;
}

/* --- past the breakpoint --- */

/* Executes the entry's first instruction if it is one of those that change next to nothing. */
static int skip_entry_insn(struct assist_ctx *c)
{
	uint8_t bytes[INSN_MAX];
	unsigned have = INSN_MAX;

	/* The longest prefix that can be read: the entry may end at the end of its page. */
	while (have && !walk_peek(c->a->setup.mem, &c->walk, c->regs.rip, WALK_FETCH, bytes, have))
		have--;
	if (assist_decode(bytes, have, &c->insn, &c->row) != DECODE_OK)
		return ASSIST_NOT_OURS;
	if (c->row->counter != ASSIST_N_NOP && c->row->counter != ASSIST_N_CLAC)
		return ASSIST_NOT_OURS;
	return assist_run_insn(c);
}

static int pass_page_fault(struct assist_ctx *c)
{
	int rc = skip_entry_insn(c);

	assist_bump(c->a, ASSIST_N_PAGE_FAULT);
	if (rc != ASSIST_NOT_OURS)
		return rc < 0 ? rc : 0;
	assist_bump(c->a, ASSIST_N_PAGE_FAULT_STEP);
	return set_state(c->a, ASSIST_STATE_STEPPING, c->a->entry);
}

/* --- KVM_EXIT_DEBUG --- */

/* Stopped at the page-fault entry. 0 or -errno. */
static int at_entry(struct assist_ctx *c, uint64_t lstar)
{
	const struct assist_setup *s = &c->a->setup;
	struct frame frame;
	uint64_t sfmask;
	int rc;

	if (!read_frame(c, &frame) || !fault_at_lstar(c, &frame, lstar))
		return pass_page_fault(c);
	rc = s->ops->get_msr(s->cpu, MSR_SFMASK, &sfmask);
	if (rc)
		return rc;
	if (syscall_registers(c, &frame, sfmask))
		return enter_kernel(c, &frame, lstar, sfmask);
	assist_bump(c->a, ASSIST_N_SYSCALL_REFUSED);
	return pass_page_fault(c);
}

/* A #DB of the guest's own (TF, ICEBP): KVM has intercepted it for our sake. */
static int pass_debug(struct assist *a, uint64_t dr6)
{
	const struct fault db = {.vector = VEC_DB};
	int rc = assist_set_dr6(a, dr6 & (DR6_B0123 | DR6_BD | DR6_BS | DR6_BT));

	assist_bump(a, ASSIST_N_DEBUG_PASSED);
	return rc ? rc : assist_set_event(a, &db);
}

/*
 * Our breakpoint, and not a trap of the guest's that happens to end there. KVM reports B0; a back
 * end that reports no reason at all is taken at its word about the address.
 */
static bool is_our_stop(const struct assist *a, const struct kvm_debug_exit_arch *debug)
{
	return a->state == ASSIST_STATE_ARMED && debug->pc == a->entry &&
	       ((debug->dr6 & DR6_B0) || !(debug->dr6 & (DR6_BD | DR6_BS | DR6_BT)));
}

/* Sorts out what stopped the CPU. 0 or -errno. */
static int debug_exit(struct assist_ctx *c, const struct kvm_debug_exit_arch *debug)
{
	struct assist *a = c->a;
	bool stepped = a->state == ASSIST_STATE_STEPPING && (debug->dr6 & DR6_BS);
	struct target t;
	int rc;

	if (!stepped && !is_our_stop(a, debug))
		return pass_debug(a, debug->dr6);
	rc = find_target(c, &t);
	if (rc)
		return rc;
	if (stepped || t.entry != a->entry) /* if the gate has moved, this is code like any other */
		return rearm(a, t.entry);
	return at_entry(c, t.lstar);
}

int assist_debug_exit(struct assist *a, const struct kvm_debug_exit_arch *debug)
{
	struct assist_ctx c;
	int rc;

	if (debug->exception != VEC_DB || a->state == ASSIST_STATE_IDLE)
		return ASSIST_NOT_OURS;
	rc = assist_ctx_init(&c, a);
	if (!rc)
		rc = debug_exit(&c, debug);
	return rc ? rc : ASSIST_HANDLED;
}
