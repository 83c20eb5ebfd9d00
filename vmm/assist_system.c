/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assisted instructions that touch more than registers and flags: breakpoints, SMAP's flag, fences,
 * x87 and SSE control, CMPXCHG16B, time stamp, random numbers, TLB (SDM vol. 2, AMD APM vol. 3).
 *
 * x87 and SSE state goes through KVM_GET_XSAVE, whose first 512 bytes are an FXSAVE image:
 * KVM_GET_FPU has a field for MXCSR but never fills it. KVM_SET_XSAVE takes over only components
 * whose bit in XSTATE_BV is set.
 *
 * Which instructions a processor has is not looked up in the guest's CPUID: it executes those that
 * CPUID hides as well.
 *
 * System calls: getrandom, besides the ioctls behind struct assist_cpu_ops.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "assist_internal.h"

/* struct kvm_xsave, in 32-bit words (SDM vol. 1 table 10-2, §13.4.2). */
enum {
	XSAVE_FCW_FSW = 0, /* control word, status word in the upper half */
	XSAVE_FTW_FOP = 1, /* abridged tag word in the low byte: 1 = not empty */
	XSAVE_MXCSR = 6,
	XSAVE_MXCSR_MASK = 7,
	XSAVE_ST = 8,
	XSAVE_ST_WORDS = 4, /* a register takes 16 bytes */
	XSAVE_XSTATE_BV = 128,
};
#define XSTATE_FP  1u
#define XSTATE_SSE 2u

#define FSW_EXCEPTIONS 0x80ffu /* flags, stack fault, summary (ES), busy */
#define FSW_ES	       0x80u
#define FSW_TOP	       0x3800u

/* Every 64-bit processor has denormals-are-zero, so the mask is never the 0xffbf of old ones. */
#define MXCSR_MASK_DEFAULT 0xffffu

enum outcome assist_int3(struct assist_ctx *c)
{
	/*
	 * A trap. The gate's DPL is not compared with CPL: INT3 of user mode never comes here. The
	 * emulating back end was seen to deliver #BP with the RIP that we set, behind the
	 * instruction. (Under SVM, which never hands INT3 back, the same gave one trap too many.)
	 */
	c->fault = (struct fault){.vector = VEC_BP};
	return OUT_TRAP;
}

enum outcome assist_ud(struct assist_ctx *c)
{
	return assist_raise(c, VEC_UD);
}

static enum outcome set_ac(struct assist_ctx *c, bool ac)
{
	if (c->cpl)
		return assist_raise(c, VEC_UD);
	c->regs.rflags = (c->regs.rflags & ~RFLAGS_AC) | (ac ? RFLAGS_AC : 0);
	return OUT_DONE;
}

enum outcome assist_clac(struct assist_ctx *c)
{
	return set_ac(c, false);
}

enum outcome assist_stac(struct assist_ctx *c)
{
	return set_ac(c, true);
}

enum outcome assist_cld(struct assist_ctx *c)
{
	c->regs.rflags &= ~RFLAGS_DF;
	return OUT_DONE;
}

enum outcome assist_nop(struct assist_ctx *c)
{
	/* 90 with REX.B is XCHG R8, RAX. */
	return c->insn.map == MAP_1 && c->insn.rex_b ? OUT_NOT_OURS : OUT_DONE;
}

enum outcome assist_fence(struct assist_ctx *c)
{
	(void)c;
	/* Stands for the guest's own fence: pairs with whatever the guest pairs it with. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return OUT_DONE;
}

/* --- x87 --- */

/* CR0 checks of x87 instructions (not FWAIT), then the state. */
static enum outcome x87_begin(struct assist_ctx *c, struct kvm_xsave *xsave)
{
	int rc;

	if (c->sregs.cr0 & (CR0_EM | CR0_TS))
		return assist_raise(c, VEC_NM);
	rc = c->a->setup.ops->get_xsave(c->a->setup.cpu, xsave);
	return rc ? assist_op_failed(c, rc) : OUT_DONE;
}

static enum outcome xsave_commit(struct assist_ctx *c, struct kvm_xsave *xsave, uint32_t component)
{
	int rc;

	xsave->region[XSAVE_XSTATE_BV] |= component;
	rc = c->a->setup.ops->set_xsave(c->a->setup.cpu, xsave);
	return rc ? assist_op_failed(c, rc) : OUT_DONE;
}

static uint16_t fsw(const struct kvm_xsave *xsave)
{
	return xsave->region[XSAVE_FCW_FSW] >> 16;
}

/* Waiting instructions report an unmasked exception that an earlier one left (SDM vol. 1 §8.7). */
static enum outcome x87_pending(struct assist_ctx *c, const struct kvm_xsave *xsave)
{
	if (!(fsw(xsave) & FSW_ES))
		return OUT_DONE;
	/* With CR0.NE clear it would be IRQ 13 by way of FERR#, which no kernel uses any more. */
	return c->sregs.cr0 & CR0_NE ? assist_raise(c, VEC_MF) : OUT_NOT_OURS;
}

enum outcome assist_fwait(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	int rc;

	if ((c->sregs.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		return assist_raise(c, VEC_NM);
	rc = c->a->setup.ops->get_xsave(c->a->setup.cpu, &xsave);
	return rc ? assist_op_failed(c, rc) : x87_pending(c, &xsave);
}

enum outcome assist_fnstsw_ax(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	enum outcome out = x87_begin(c, &xsave);

	if (out == OUT_DONE)
		assist_put_gpr(c, REG_AX, 2, fsw(&xsave));
	return out;
}

enum outcome assist_fnstsw_m16(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	enum outcome out = x87_begin(c, &xsave);

	return out == OUT_DONE ? assist_store(c, 2, fsw(&xsave)) : out;
}

enum outcome assist_fnclex(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	enum outcome out = x87_begin(c, &xsave);

	if (out != OUT_DONE)
		return out;
	xsave.region[XSAVE_FCW_FSW] &= ~(FSW_EXCEPTIONS << 16);
	return xsave_commit(c, &xsave, XSTATE_FP);
}

/*
 * EMMS empties all registers and sets the stack top to 0 (SDM vol. 3 table 12-2). The image holds
 * the registers in stack order, so a new top turns it round.
 */
static void empty_stack(struct kvm_xsave *xsave)
{
	unsigned top = fsw(xsave) >> 11 & 7;
	uint32_t old[8 * XSAVE_ST_WORDS];

	memcpy(old, &xsave->region[XSAVE_ST], sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy(&xsave->region[XSAVE_ST + i * XSAVE_ST_WORDS],
		       &old[((i - top) & 7) * XSAVE_ST_WORDS], XSAVE_ST_WORDS * sizeof(old[0]));
	xsave->region[XSAVE_FCW_FSW] &= ~(FSW_TOP << 16);
	xsave->region[XSAVE_FTW_FOP] &= ~0xffu;
}

enum outcome assist_emms(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	enum outcome out;

	if (c->sregs.cr0 & CR0_EM)
		return assist_raise(c, VEC_UD);
	out = x87_begin(c, &xsave);
	if (out == OUT_DONE)
		out = x87_pending(c, &xsave);
	if (out != OUT_DONE)
		return out;
	empty_stack(&xsave);
	return xsave_commit(c, &xsave, XSTATE_FP);
}

/* --- MXCSR --- */

static enum outcome sse_begin(struct assist_ctx *c, struct kvm_xsave *xsave)
{
	int rc;

	if ((c->sregs.cr0 & CR0_EM) || !(c->sregs.cr4 & CR4_OSFXSR))
		return assist_raise(c, VEC_UD);
	if (c->sregs.cr0 & CR0_TS)
		return assist_raise(c, VEC_NM);
	rc = c->a->setup.ops->get_xsave(c->a->setup.cpu, xsave);
	return rc ? assist_op_failed(c, rc) : OUT_DONE;
}

enum outcome assist_ldmxcsr(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	uint64_t mxcsr;
	uint32_t mask;
	enum outcome out = sse_begin(c, &xsave);

	if (out == OUT_DONE)
		out = assist_load(c, 4, &mxcsr);
	if (out != OUT_DONE)
		return out;
	/* KVM reports 0 as long as the guest has never used the state. */
	mask = xsave.region[XSAVE_MXCSR_MASK] ? xsave.region[XSAVE_MXCSR_MASK] : MXCSR_MASK_DEFAULT;
	if (mxcsr & ~(uint64_t)mask)
		return assist_raise0(c, VEC_GP);
	xsave.region[XSAVE_MXCSR] = (uint32_t)mxcsr;
	return xsave_commit(c, &xsave, XSTATE_SSE);
}

enum outcome assist_stmxcsr(struct assist_ctx *c)
{
	struct kvm_xsave xsave;
	enum outcome out = sse_begin(c, &xsave);

	return out == OUT_DONE ? assist_store(c, 4, xsave.region[XSAVE_MXCSR]) : out;
}

/* --- CMPXCHG16B --- */

/* Atomic towards other vCPUs, whether the guest wrote LOCK or not. */
static bool compare_exchange_16(void *host, uint64_t *low, uint64_t *high, uint64_t new_low,
				uint64_t new_high)
{
	bool equal;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(equal), "+m"(*(unsigned __int128 *)host), "+a"(*low), "+d"(*high)
			 : "b"(new_low), "c"(new_high)
			 : "memory");
	return equal;
}

enum outcome assist_cmpxchg16b(struct assist_ctx *c)
{
	struct kvm_regs *r = &c->regs;
	uint64_t linear, low = r->rax, high = r->rdx;
	struct span span;
	enum outcome out = assist_linear(c, 16, &linear);

	if (out != OUT_DONE)
		return out;
	if (linear % 16)
		return assist_raise0(c, VEC_GP);
	out = assist_map(c, linear, 16, WALK_WRITE, &span);
	if (out != OUT_DONE)
		return out;
	r->rflags &= ~RFLAGS_ZF;
	if (compare_exchange_16(span.host[0], &low, &high, r->rbx, r->rcx)) {
		r->rflags |= RFLAGS_ZF;
	} else {
		r->rax = low;
		r->rdx = high;
	}
	return OUT_DONE;
}

/* --- system registers --- */

static void put_edx_eax(struct assist_ctx *c, uint64_t value)
{
	assist_put_gpr(c, REG_AX, 4, value);
	assist_put_gpr(c, REG_DX, 4, value >> 32);
}

enum outcome assist_xgetbv(struct assist_ctx *c)
{
	uint32_t index = (uint32_t)c->regs.rcx;
	uint64_t xcr0;
	int rc;

	if (!(c->sregs.cr4 & CR4_OSXSAVE))
		return assist_raise(c, VEC_UD);
	if (index == 1) /* XINUSE: the processor's secret */
		return OUT_NOT_OURS;
	if (index)
		return assist_raise0(c, VEC_GP);
	rc = c->a->setup.ops->get_xcr0(c->a->setup.cpu, &xcr0);
	if (rc)
		return assist_op_failed(c, rc);
	put_edx_eax(c, xcr0);
	return OUT_DONE;
}

enum outcome assist_rdtscp(struct assist_ctx *c)
{
	const struct assist_setup *s = &c->a->setup;
	uint64_t tsc, aux;
	int rc;

	if ((c->sregs.cr4 & CR4_TSD) && c->cpl)
		return assist_raise0(c, VEC_GP);
	rc = s->ops->get_msr(s->cpu, MSR_TSC_AUX, &aux);
	if (!rc)
		rc = s->ops->get_msr(s->cpu, MSR_TSC, &tsc);
	if (rc)
		return assist_op_failed(c, rc);
	put_edx_eax(c, tsc);
	assist_put_gpr(c, REG_CX, 4, aux);
	return OUT_DONE;
}

enum outcome assist_rdpid(struct assist_ctx *c)
{
	uint64_t aux;
	int rc = c->a->setup.ops->get_msr(c->a->setup.cpu, MSR_TSC_AUX, &aux);

	if (rc)
		return assist_op_failed(c, rc);
	assist_put_gpr(c, c->insn.rm, 8, (uint32_t)aux);
	return OUT_DONE;
}

/* RDRAND and RDSEED, from the host's generator, which never runs dry: CF is always set. */
enum outcome assist_rdrand(struct assist_ctx *c)
{
	uint64_t value;

	if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
		return assist_op_failed(c, -EIO);
	assist_put_gpr(c, c->insn.rm, assist_opsize(&c->insn), value);
	c->regs.rflags = (c->regs.rflags & ~RFLAGS_ARITH) | RFLAGS_CF;
	return OUT_DONE;
}

/* --- INVPCID --- */

/* Type and descriptor as the manual allows them. */
static bool invpcid_valid(const struct assist_ctx *c, uint64_t type, const uint64_t descriptor[2])
{
	uint64_t pcid = descriptor[0] & 0xfff;

	if (type > 3 || descriptor[0] >> 12)
		return false;
	if (type <= 1 && pcid && !(c->sregs.cr4 & CR4_PCIDE))
		return false;
	return type != 0 || walk_canonical(c->sregs.cr4, descriptor[1]);
}

/*
 * Makes KVM forget every translation, which is at least what INVPCID promises. KVM_SET_SREGS with
 * the same CR3 does nothing of the kind; with another one it resets the MMU context (drops the
 * roots of all PCIDs) and requests a flush, so CR3 is changed and put back. No guest code runs in
 * between. Bit 3 is PWT or part of the PCID: legal either way.
 */
static enum outcome flush_translations(struct assist_ctx *c)
{
	const struct assist_setup *s = &c->a->setup;
	struct kvm_sregs other = c->sregs;
	int rc;

	other.cr3 ^= 1u << 3;
	rc = s->ops->set_sregs(s->cpu, &other);
	if (!rc)
		rc = s->ops->set_sregs(s->cpu, &c->sregs);
	return rc ? assist_op_failed(c, rc) : OUT_DONE;
}

enum outcome assist_invpcid(struct assist_ctx *c)
{
	uint64_t type = *assist_gpr(&c->regs, c->insn.reg);
	uint64_t descriptor[2], linear;
	struct span span;
	enum outcome out;

	if (c->cpl)
		return assist_raise0(c, VEC_GP);
	out = assist_linear(c, sizeof(descriptor), &linear);
	if (out == OUT_DONE)
		out = assist_map(c, linear, sizeof(descriptor), 0, &span);
	if (out != OUT_DONE)
		return out;
	assist_span_read(&span, descriptor);
	if (!invpcid_valid(c, type, descriptor))
		return assist_raise0(c, VEC_GP);
	return flush_translations(c);
}
