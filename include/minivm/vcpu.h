/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vCPU: its KVM descriptor, its thread, and the loop KVM_RUN - decode - dispatch.
 *
 * The thread does nothing but run the guest and call the registers of devices. It stops when it is
 * told to (vcpu_kick() after the stop flag) or when it has reported an end to the sink.
 */
#ifndef MINIVM_VCPU_H
#define MINIVM_VCPU_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/assist.h"
#include "minivm/bus.h"
#include "minivm/end.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/memory.h"
#include "minivm/timeline.h"

/* The signal that takes a thread out of KVM_RUN. Its handler does nothing. */
#define VCPU_KICK_SIGNAL SIGRTMIN

/* Exit reasons that are counted one by one; those above are counted as "other". */
#define VCPU_EXIT_REASONS 40

/*
 * Where vCPU threads wait while the machine is paused (vmm/vcpu_gate.c). A vCPU that waits has
 * nothing under way: the exit it was in is complete, and its state can be read by other threads.
 */
struct vcpu_gate {
	_Atomic bool closed;
	pthread_mutex_t lock;
	pthread_cond_t opened;
	unsigned expected; /* threads that have to arrive */
	unsigned waiting;
	unsigned openings; /* so far */
	/* The last one has arrived; on its thread, with `lock` held. */
	void (*full)(void *opaque);
	void *opaque;
};

/* What all vCPUs share; owned by the machine, constant while they run. */
struct vcpu_env {
	const struct guest_mem *mem;
	const struct bus *pio;
	const struct bus *mmio;
	const struct log *log;
	struct timeline *timeline; /* or NULL */
	struct vm_end_sink end;
	_Atomic bool stop; /* set before the kicks: leave the run loop */
	struct vcpu_gate gate;
};

/* Written by the vCPU's thread only; read by others after it was joined. */
struct vcpu_counters {
	uint64_t exits[VCPU_EXIT_REASONS + 1]; /* by KVM_EXIT_*; the last one is "other" */
	uint64_t interrupted;		       /* KVM_RUN returned EINTR */
	uint64_t again;			       /* KVM_RUN returned EAGAIN */
	uint64_t unclaimed;		       /* port or MMIO accesses that no device answered */
};

struct vcpu {
	unsigned index;
	char name[16]; /* of its thread */
	int fd;
	struct kvm_run *run;
	size_t run_len;
	struct vcpu_env *env;
	struct assist *assist;	  /* NULL where KVM needs none */
	struct kvm_cpuid2 *cpuid; /* of a restored vCPU; malloc'ed, else NULL */
	pthread_t thread;
	bool started;
	struct log_limit limit; /* for lines that the guest can cause */
	struct vcpu_counters count;
};

/*
 * Creates vCPU `index` of the VM and maps its run structure. The caller sets CPUID and registers
 * through v->fd before vcpu_start(). On failure nothing is left behind.
 */
int vcpu_create(int vm_fd, unsigned index, size_t run_len, struct vcpu_env *env, struct vcpu *v,
		struct err *err);
void vcpu_destroy(struct vcpu *v); /* its thread must have been joined */

/* Installs the (empty) handler of VCPU_KICK_SIGNAL for the process. */
int vcpu_install_kick(struct err *err);

/* Starts the thread, named "vcpuN". */
int vcpu_start(struct vcpu *v, struct err *err);

/* From any thread: makes KVM_RUN return soon, now or the next time it is called. */
void vcpu_kick(struct vcpu *v);
void vcpu_join(struct vcpu *v);

/* --- vmm/vcpu_gate.c --- */

/* `full` is called once for each time that the gate was closed and all `expected` threads came. */
void vcpu_gate_init(struct vcpu_gate *gate, void (*full)(void *opaque), void *opaque);
void vcpu_gate_destroy(struct vcpu_gate *gate);
/* From any thread. After closing, the caller kicks the `expected` vCPUs. */
void vcpu_gate_close(struct vcpu_gate *gate, unsigned expected);
void vcpu_gate_open(struct vcpu_gate *gate);
/* A vCPU's thread: until the gate opens. */
void vcpu_gate_wait(struct vcpu_gate *gate);

static inline bool vcpu_gate_closed(struct vcpu_gate *gate)
{
	return atomic_load_explicit(&gate->closed, memory_order_acquire);
}

/* --- vmm/vcpu_assist.c --- */

/* Gives the vCPU an assist; `cpuid` is what the guest was given. Before vcpu_start(). -ENOMEM. */
int vcpu_assist_new(struct vcpu *v, const struct kvm_cpuid2 *cpuid, struct err *err);
void vcpu_assist_free(struct vcpu *v);

/* --- vmm/vcpu_exit.c --- */

/* Handles the exit in v->run. False: the vCPU cannot go on, an end was reported. */
bool vcpu_handle_exit(struct vcpu *v);

/* One log line with the reason, the registers and the instruction bytes at RIP. */
void vcpu_report(struct vcpu *v, const char *what);

/* "io", "mmio", ... for counters; NULL when the reason has no name. */
const char *vcpu_exit_name(unsigned reason);

#endif
