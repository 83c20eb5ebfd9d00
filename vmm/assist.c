/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instruction assist: entry point, write-back, exceptions, counters (contract: minivm/assist.h).
 *
 * Theory of operation. KVM stops with RIP on an instruction that its emulator does not know. We
 * decode it (64-bit mode only), let its handler work on a copy of the registers, and write back
 * what a processor would have left: registers, RIP behind the instruction, RFLAGS.RF clear,
 * interrupt shadow over; or, if it faulted, the registers as they were, RF set, and the exception
 * queued for the next KVM_RUN. With RFLAGS.TF set, the single-step trap follows the instruction.
 *
 * What KVM has queued already. Without KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM queues #UD before it
 * exits for an emulation failure at CPL 0, and delivers it in the next KVM_RUN unless it is taken
 * back. KVM_SET_REGS drops a pending exception, and assist_set_event(), called after it, states
 * which exception there is: the one that we raise, or none. (At CPL 3 KVM does not exit then, the
 * guest gets #UD.) With the capability nothing is queued; all the same.
 *
 * Events are written with the shadow as the only VALID flag: an NMI or SIPI that arrives between
 * KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS is not lost.
 */
#include <assert.h>
#include <string.h>

#include "assist_internal.h"

/*
 * Every word is there to keep the guest off instructions that are emulated or assisted, or off
 * waiting that makes no sense under emulation. None takes a protection away that means something
 * inside such a guest's kernel but SMAP, which costs an assist (some 20 us) at each user access.
 *
 * Not in the list: `rodata=off` (1.7 CPU seconds less to boot, but the guest's kernel text stays
 * writable) and `lpj=` (right for one TSC frequency and CONFIG_HZ only): whoever knows the kernel
 * adds them.
 */
const char *const assist_cmdline[] = {
    /* XSAVE and XRSTOR are not emulated and not assisted; FXSAVE is emulated. */
    "noxsave",
    /* CPUID at CPL 3 is the host's, and so are its AVX registers, which a kernel with noxsave does
       not switch: memcpy() by them across a page fault loses data. Linux hands this on to init as
       a variable of its environment; programs with AVX code of their own are not helped. */
    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load",
    /* No STAC and CLAC at user accesses, no POPCNT, `rep stosq` instead of the slower `stosb`.
       By name since Linux 5.19; older kernels ignore it and live with the assist. */
    "clearcpuid=smap,popcnt,erms,fsrm",
    /* Patching LOCK prefixes in and out at each CPU's start is emulated instructions. */
    "noreplace-smp",
    /* The large-page per-CPU allocator copies and zeroes whole 2 MiB pages. */
    "percpu_alloc=page",
    /* Would time interrupts against a delay loop. */
    "no_timer_check",
    /* The guest's TSC is the host's; no watchdog that polls it. */
    "tsc=reliable",
    /* One port write. Linux's other ways end in INT3 with an empty IDT, a triple fault. */
    "reboot=k",
    NULL,
};

static const char *const counter_names[ASSIST_COUNTERS] = {
    [ASSIST_N_INT3] = "int3",
    [ASSIST_N_UD] = "ud",
    [ASSIST_N_CLAC] = "clac",
    [ASSIST_N_STAC] = "stac",
    [ASSIST_N_FENCE] = "fence",
    [ASSIST_N_NOP] = "nop",
    [ASSIST_N_FWAIT] = "fwait",
    [ASSIST_N_FNSTSW] = "fnstsw",
    [ASSIST_N_FNCLEX] = "fnclex",
    [ASSIST_N_EMMS] = "emms",
    [ASSIST_N_LDMXCSR] = "ldmxcsr",
    [ASSIST_N_STMXCSR] = "stmxcsr",
    [ASSIST_N_CMPXCHG16B] = "cmpxchg16b",
    [ASSIST_N_XGETBV] = "xgetbv",
    [ASSIST_N_RDTSCP] = "rdtscp",
    [ASSIST_N_RDPID] = "rdpid",
    [ASSIST_N_RDRAND] = "rdrand",
    [ASSIST_N_INVPCID] = "invpcid",
    [ASSIST_N_LAR] = "lar",
    [ASSIST_N_LSL] = "lsl",
    [ASSIST_N_VERR] = "verr",
    [ASSIST_N_VERW] = "verw",
    [ASSIST_N_MOVBE] = "movbe",
    [ASSIST_N_CRC32] = "crc32",
    [ASSIST_N_POPCNT] = "popcnt",
    [ASSIST_N_TZCNT] = "tzcnt",
    [ASSIST_N_LZCNT] = "lzcnt",
    [ASSIST_N_BMI] = "bmi",
    [ASSIST_N_ADX] = "adx",
    [ASSIST_N_USER_UD] = "unknown_user",
    [ASSIST_N_SYSCALL] = "syscall",
    [ASSIST_N_SYSCALL_REFUSED] = "syscall_refused",
    [ASSIST_N_PAGE_FAULT] = "page_fault",
    [ASSIST_N_PAGE_FAULT_STEP] = "page_fault_step",
    [ASSIST_N_DEBUG_PASSED] = "debug_passed",
    [ASSIST_N_ARM] = "arm",
};

void assist_init(struct assist *a, const struct assist_setup *setup)
{
	*a = (struct assist){.setup = *setup, .countdown = 1};
	if (a->setup.phys_bits < 32)
		a->setup.phys_bits = 32;
	if (a->setup.phys_bits > 52)
		a->setup.phys_bits = 52;
}

/* One writer; readers on other threads want a value, no order: relaxed, pairs with no barrier. */
void assist_bump(struct assist *a, enum assist_counter c)
{
	__atomic_store_n(&a->count[c], a->count[c] + 1, __ATOMIC_RELAXED);
}

uint64_t assist_count(const struct assist *a, enum assist_counter c)
{
	assert(c < ASSIST_COUNTERS);
	return __atomic_load_n(&a->count[c], __ATOMIC_RELAXED);
}

const char *assist_counter_name(enum assist_counter c)
{
	assert(c < ASSIST_COUNTERS);
	return counter_names[c];
}

int assist_ctx_init(struct assist_ctx *c, struct assist *a)
{
	const struct assist_setup *s = &a->setup;
	int rc;

	*c = (struct assist_ctx){.a = a};
	rc = s->ops->get_regs(s->cpu, &c->regs);
	if (!rc)
		rc = s->ops->get_sregs(s->cpu, &c->sregs);
	if (rc)
		return rc;
	/* CPL is CS.RPL by definition (SDM vol. 3 §5.5), whatever a back end puts into DPLs. */
	c->cpl = c->sregs.cs.selector & 3;
	c->walk = (struct walk_state){
	    .cr0 = c->sregs.cr0,
	    .cr3 = c->sregs.cr3,
	    .cr4 = c->sregs.cr4,
	    .efer = c->sregs.efer,
	    .rflags = c->regs.rflags,
	    .phys_bits = s->phys_bits,
	    .gigabyte_pages = s->gigabyte_pages,
	};
	return 0;
}

int assist_set_event(struct assist *a, const struct fault *fault)
{
	const struct assist_setup *s = &a->setup;
	struct kvm_vcpu_events events;
	int rc = s->ops->get_events(s->cpu, &events);

	if (rc)
		return rc;
	if (!fault && !events.exception.injected && !events.exception.pending &&
	    !events.interrupt.shadow)
		return 0;
	events.exception.pending = 0;
	events.exception.injected = fault != NULL;
	events.exception.nr = fault ? fault->vector : 0;
	events.exception.has_error_code = fault && fault->has_code;
	events.exception.error_code = fault ? fault->code : 0;
	events.exception_has_payload = 0;
	events.interrupt.shadow = 0;
	events.flags = KVM_VCPUEVENT_VALID_SHADOW;
	return s->ops->set_events(s->cpu, &events);
}

/* B0..B3 speak of the last #DB only; the others gather until the guest clears them. */
int assist_set_dr6(struct assist *a, uint64_t bits)
{
	const struct assist_setup *s = &a->setup;
	struct kvm_debugregs dr;
	int rc = s->ops->get_debugregs(s->cpu, &dr);

	if (rc)
		return rc;
	dr.dr6 = (dr.dr6 & ~DR6_B0123) | bits;
	return s->ops->set_debugregs(s->cpu, &dr);
}

/* The instruction is done: `trap` is what it raised itself, or NULL. */
static int commit(struct assist_ctx *c, const struct fault *trap)
{
	const struct assist_setup *s = &c->a->setup;
	const struct fault step = {.vector = VEC_DB};
	int rc;

	if (!trap && (c->walk.rflags & RFLAGS_TF)) /* as it was before the instruction */
		trap = &step;
	c->regs.rip += c->insn.len;
	c->regs.rflags &= ~RFLAGS_RF;
	rc = s->ops->set_regs(s->cpu, &c->regs);
	if (!rc && trap == &step)
		rc = assist_set_dr6(c->a, DR6_BS);
	return rc ? rc : assist_set_event(c->a, trap);
}

/* Faults push RFLAGS with RF set (SDM vol. 3 §17.3.1.1). c->regs has not been changed. */
static int deliver_fault(struct assist_ctx *c)
{
	const struct assist_setup *s = &c->a->setup;
	int rc;

	c->regs.rflags |= RFLAGS_RF;
	rc = s->ops->set_regs(s->cpu, &c->regs);
	if (!rc && c->fault.vector == VEC_PF) {
		c->sregs.cr2 = c->fault.cr2;
		rc = s->ops->set_sregs(s->cpu, &c->sregs);
	}
	return rc ? rc : assist_set_event(c->a, &c->fault);
}

static int finish(struct assist_ctx *c, enum outcome out)
{
	int rc;

	switch (out) {
	case OUT_DONE:
		rc = commit(c, NULL);
		break;
	case OUT_TRAP:
		rc = commit(c, &c->fault);
		break;
	case OUT_FAULT:
		rc = deliver_fault(c);
		break;
	case OUT_RETRY: /* the same instruction again; take back the #UD that KVM has queued */
		rc = assist_set_event(c->a, NULL);
		break;
	case OUT_ERROR:
		rc = c->error;
		break;
	case OUT_NOT_OURS:
	default:
		return ASSIST_NOT_OURS;
	}
	return rc ? rc : ASSIST_HANDLED;
}

static bool long_mode(const struct assist_ctx *c)
{
	return (c->sregs.efer & EFER_LMA) && c->sregs.cs.l;
}

int assist_run_insn(struct assist_ctx *c)
{
	enum outcome out;
	int rc;

	if (c->insn.lock && !(c->row->flags & ROW_LOCK))
		out = assist_raise(c, VEC_UD);
	else
		out = c->row->run(c);
	rc = finish(c, out);
	if (rc == ASSIST_HANDLED)
		assist_bump(c->a, c->row->counter);
	return rc;
}

/* --- instruction bytes --- */

struct code {
	uint8_t bytes[INSN_MAX];
	unsigned have;
};

/*
 * Adds bytes from the guest's memory, page by page, as far as they can be executed. OUT_DONE: there
 * are INSN_MAX; else why there are not.
 */
static enum outcome fetch(struct assist_ctx *c, struct code *code)
{
	while (code->have < INSN_MAX) {
		uint64_t linear = c->regs.rip + code->have;
		unsigned in_page = GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1));
		unsigned want = INSN_MAX - code->have;
		struct span span;
		enum outcome out;

		if (want > in_page)
			want = in_page;
		out = assist_map(c, linear, want, WALK_FETCH, &span);
		if (out != OUT_DONE)
			return out;
		assist_span_read(&span, code->bytes + code->have);
		code->have += want;
	}
	return OUT_DONE;
}

/*
 * Decodes into c->insn and c->row; fetches more bytes only if those at hand do not do. OUT_DONE,
 * or what became of the instruction.
 */
static enum outcome decode(struct assist_ctx *c, struct code *code)
{
	enum outcome more = OUT_DONE;
	enum decode d = assist_decode(code->bytes, code->have, &c->insn, &c->row);

	if (d == DECODE_SHORT) {
		more = fetch(c, code);
		d = assist_decode(code->bytes, code->have, &c->insn, &c->row);
	}
	if (d == DECODE_OK)
		return OUT_DONE;
	if (d == DECODE_UNKNOWN)
		return OUT_NOT_OURS;
	/* Still too short: the next byte cannot be fetched, or there are 15 and no end of it. */
	return more == OUT_DONE ? assist_raise0(c, VEC_GP) : more;
}

/* 1, 0 or -errno, as ASSIST_*. */
static int emulate(struct assist_ctx *c, const uint8_t *insn, unsigned len)
{
	struct code code = {.have = len < INSN_MAX ? len : INSN_MAX};
	enum outcome out;

	if (!long_mode(c))
		return ASSIST_NOT_OURS;
	if (code.have)
		memcpy(code.bytes, insn, code.have);
	out = decode(c, &code);
	return out == OUT_DONE ? assist_run_insn(c) : finish(c, out);
}

int assist_emulation_failure(struct assist *a, const uint8_t *insn, unsigned len)
{
	struct assist_ctx c;
	int rc = assist_ctx_init(&c, a);

	if (rc)
		return rc;
	rc = emulate(&c, insn, len);
	if (rc == ASSIST_NOT_OURS && c.cpl == 3) {
		assist_bump(a, ASSIST_N_USER_UD);
		return finish(&c, assist_raise(&c, VEC_UD));
	}
	return rc;
}
