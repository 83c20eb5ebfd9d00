/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instruction assist: what KVM's software back ends hand back or get wrong. On such hosts guest
 * kernel mode runs in KVM's instruction emulator, which lacks instructions that Linux uses, and
 * SYSCALL from guest user mode is delivered wrongly. One `struct assist` per vCPU, used on the
 * vCPU's thread only, except where a function says otherwise. Where no assist is wanted the vCPU's
 * pointer is NULL, and the only cost is that test.
 *
 * There is no ioctl in here: the vCPU is reached through `struct assist_cpu_ops`, which
 * vmm/vcpu_assist.c implements with the KVM calls named beside each and the unit tests with a fake.
 *
 * Use, around KVM_RUN:
 *
 *	assist_before_run(a);			before every KVM_RUN
 *	KVM_EXIT_INTERNAL_ERROR, suberror 1	assist_emulation_failure(a, bytes, count)
 *	KVM_EXIT_DEBUG				assist_debug_exit(a, &run->debug.arch)
 *
 * KVM_CAP_EXIT_ON_EMULATION_FAILURE may be on or off (off is enough, see assist.c).
 */
#ifndef MINIVM_ASSIST_H
#define MINIVM_ASSIST_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/memory.h"

/* All return 0 or -errno. None may be NULL. `cpu` is the opaque pointer of struct assist_setup. */
struct assist_cpu_ops {
	int (*get_regs)(void *cpu, struct kvm_regs *regs);	    /* KVM_GET_REGS */
	int (*set_regs)(void *cpu, const struct kvm_regs *regs);    /* KVM_SET_REGS */
	int (*get_sregs)(void *cpu, struct kvm_sregs *sregs);	    /* KVM_GET_SREGS */
	int (*set_sregs)(void *cpu, const struct kvm_sregs *sregs); /* KVM_SET_SREGS */
	/* Not KVM_GET_FPU: it carries no MXCSR. */
	int (*get_xsave)(void *cpu, struct kvm_xsave *xsave);	      /* KVM_GET_XSAVE */
	int (*set_xsave)(void *cpu, const struct kvm_xsave *xsave);   /* KVM_SET_XSAVE */
	int (*get_xcr0)(void *cpu, uint64_t *xcr0);		      /* KVM_GET_XCRS, xcr 0 */
	int (*get_events)(void *cpu, struct kvm_vcpu_events *events); /* KVM_GET_VCPU_EVENTS */
	int (*set_events)(void *cpu, const struct kvm_vcpu_events *events);
	int (*get_debugregs)(void *cpu, struct kvm_debugregs *dr); /* KVM_GET_DEBUGREGS */
	int (*set_debugregs)(void *cpu, const struct kvm_debugregs *dr);
	int (*get_msr)(void *cpu, uint32_t index, uint64_t *value); /* KVM_GET_MSRS, one */
	int (*set_guest_debug)(void *cpu, const struct kvm_guest_debug *debug);
};

/* What --stats shows: one counter per instruction, then those of the SYSCALL repair. */
enum assist_counter {
	ASSIST_N_INT3,
	ASSIST_N_UD,
	ASSIST_N_CLAC,
	ASSIST_N_STAC,
	ASSIST_N_FENCE,
	ASSIST_N_NOP,
	ASSIST_N_FWAIT,
	ASSIST_N_FNSTSW,
	ASSIST_N_FNCLEX,
	ASSIST_N_EMMS,
	ASSIST_N_LDMXCSR,
	ASSIST_N_STMXCSR,
	ASSIST_N_CMPXCHG16B,
	ASSIST_N_XGETBV,
	ASSIST_N_RDTSCP,
	ASSIST_N_RDPID,
	ASSIST_N_RDRAND,
	ASSIST_N_INVPCID,
	ASSIST_N_LAR,
	ASSIST_N_LSL,
	ASSIST_N_VERR,
	ASSIST_N_VERW,
	ASSIST_N_MOVBE,
	ASSIST_N_CRC32,
	ASSIST_N_POPCNT,
	ASSIST_N_TZCNT,
	ASSIST_N_LZCNT,
	ASSIST_N_BMI,
	ASSIST_N_ADX,
	ASSIST_N_USER_UD, /* an unknown instruction at CPL 3: the guest got #UD */
	ASSIST_N_SYSCALL, /* SYSCALLs repaired */
	/* At LSTAR in every other way, but R11 or RCX do not fit: a jump there, or a repair too
	   strict. */
	ASSIST_N_SYSCALL_REFUSED,
	ASSIST_N_PAGE_FAULT,	  /* stops at the page-fault entry that were page faults */
	ASSIST_N_PAGE_FAULT_STEP, /* of these: gone past by a single step of KVM's */
	ASSIST_N_DEBUG_PASSED,	  /* debug exceptions of the guest's own, passed on */
	ASSIST_N_ARM,		  /* the breakpoint was set or moved */
	ASSIST_COUNTERS,
};

/* States of the SYSCALL repair; see vmm/assist_syscall.c. */
enum assist_state {
	ASSIST_STATE_IDLE,     /* no breakpoint set: the guest is not ready for it */
	ASSIST_STATE_ARMED,    /* breakpoint at `entry` */
	ASSIST_STATE_STEPPING, /* breakpoint off, single step over the instruction at `entry` */
};

struct assist_setup {
	const struct guest_mem *mem; /* borrowed */
	const struct assist_cpu_ops *ops;
	void *cpu;
	/* Of the CPUID that the guest was given: leaf 0x80000008 EAX[7:0], 0x80000001 EDX[26]. */
	uint8_t phys_bits;
	bool gigabyte_pages;
};

struct assist {
	struct assist_setup setup;
	enum assist_state state; /* written by the vCPU's thread, read by any */
	uint64_t entry;		 /* linear address of the guest's page-fault entry */
	unsigned countdown;	 /* runs until assist_watch() looks again */
	uint64_t count[ASSIST_COUNTERS];
};

/*
 * Also after a restore, and whenever the vCPU was made anew: KVM forgets breakpoints then.
 * phys_bits outside of 32..52 is brought inside.
 */
void assist_init(struct assist *a, const struct assist_setup *setup);

/* What assist_emulation_failure() and assist_debug_exit() return besides -errno of an op. */
enum {
	ASSIST_NOT_OURS = 0, /* nothing was changed; the VM cannot go on */
	ASSIST_HANDLED = 1,  /* go on with KVM_RUN */
};

/*
 * KVM's emulator gave up on the instruction at the guest's RIP. `insn`, `len`: the bytes that KVM
 * reported (kvm_run.emulation_failure.insn_bytes), or len 0 if it reported none; what is missing is
 * fetched from the guest. An instruction that is unknown at CPL 3 gives the guest #UD, so that a
 * user program cannot end the VM.
 */
int assist_emulation_failure(struct assist *a, const uint8_t *insn, unsigned len);

/* KVM_EXIT_DEBUG: the SYSCALL repair's breakpoint or step, or the guest's own #DB, which it gets.
 */
int assist_debug_exit(struct assist *a, const struct kvm_debug_exit_arch *debug);

/* Looks whether the breakpoint must be set, moved or taken away. 0 or -errno. */
int assist_watch(struct assist *a);

/*
 * Before every KVM_RUN. Asks KVM for little while the breakpoint is not set yet (until Linux has
 * loaded IDT and LSTAR), then in one run of 64.
 */
static inline int assist_before_run(struct assist *a)
{
	if (!a || --a->countdown)
		return 0;
	return assist_watch(a);
}

/*
 * From any thread: true as long as the breakpoint is not set. A guest that reaches user space
 * without an exit in between would take the first SYSCALL as a page fault, so whoever owns the
 * vCPU must kick it (signal, immediate_exit) every few milliseconds as long as this is true.
 */
bool assist_wants_kick(const struct assist *a);

/* From any thread. `c` < ASSIST_COUNTERS. */
uint64_t assist_count(const struct assist *a, enum assist_counter c);
const char *assist_counter_name(enum assist_counter c);

/*
 * Words for the guest's command line on emulating hosts, NULL-terminated; the reason for each
 * stands beside the table in assist.c.
 */
extern const char *const assist_cmdline[];

#endif
