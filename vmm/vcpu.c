/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU thread.
 *
 * Stopping without losing a wake-up: the stopper sets env->stop, then run->immediate_exit, then
 * sends the kick signal. Wherever the thread is, it sees one of them: before the test of env->stop
 * it sees the flag; between the test and KVM_RUN, immediate_exit makes KVM_RUN return at once with
 * EINTR (Documentation/virt/kvm/api.rst, KVM_RUN); inside KVM_RUN the signal does.
 */
#include "minivm/vcpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "minivm/bus_error.h"
#include "minivm/kvm.h"

/* Enough for the run loop and every device register; the default of 8 MiB would only cost maps. */
#define VCPU_STACK_SIZE (256u << 10)

static void kick_handler(int sig)
{
	(void)sig; /* Its arrival is all that is wanted: KVM_RUN returns EINTR. */
}

int vcpu_install_kick(struct err *err)
{
	struct sigaction sa = {.sa_handler = kick_handler};

	if (sigaction(VCPU_KICK_SIGNAL, &sa, NULL))
		return err_sys(err, errno, "signal handler for vCPU kicks");
	return 0;
}

int vcpu_create(int vm_fd, unsigned index, size_t run_len, struct vcpu_env *env, struct vcpu *v,
		struct err *err)
{
	int ret;

	memset(v, 0, sizeof(*v));
	ret = kvm_vcpu_create(vm_fd, index, &v->fd, err);
	if (ret)
		return ret;
	ret = kvm_vcpu_map(v->fd, run_len, &v->run, err);
	if (ret) {
		close(v->fd);
		return ret;
	}
	v->index = index;
	snprintf(v->name, sizeof(v->name), "vcpu%u", index);
	v->run_len = run_len;
	v->env = env;
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	free(v->cpuid);
	munmap(v->run, v->run_len);
	close(v->fd);
}

/*
 * After KVM_RUN failed. EINTR: a kick, or a signal meant for the process. EAGAIN: an application
 * processor that was not started yet (UNINITIALIZED) or a retry that KVM asks for. EFAULT: KVM
 * could not reach guest memory, e.g. a mapped file that was truncated.
 */
static bool run_failed(struct vcpu *v, int error)
{
	switch (error) {
	case EINTR:
		v->count.interrupted++;
		/*
		 * A full barrier between the clearing and the next test of env->stop, paired with
		 * the exchange in vcpu_kick(): either we see the flag, or the 1 that is stored
		 * after it stays and the next KVM_RUN returns.
		 */
		kvm_run_set_immediate_exit(v->run, false);
		return true;
	case EAGAIN:
		v->count.again++;
		sched_yield();
		return true;
	case EFAULT:
		/* No more than that: looking at guest memory would strike us as well. */
		log_msg(v->env->log, LOG_LEVEL_ERROR,
			"vCPU %u: the host cannot supply a page of guest memory (EFAULT): %s",
			v->index, BUS_ERROR_TEXT);
		break;
	default:
		log_msg(v->env->log, LOG_LEVEL_ERROR, "vCPU %u: KVM_RUN: %s", v->index,
			strerror(error));
		break;
	}
	vm_end(&v->env->end, VM_END_ERROR, 0);
	return false;
}

/*
 * An exit is complete only once KVM_RUN was entered again: it is then that a value read from a
 * device gets into its register, and RIP behind the instruction (api.rst 5, struct kvm_run). With
 * immediate_exit KVM does that and nothing else. An access in several pieces exits for each.
 */
static bool complete_exit(struct vcpu *v)
{
	int ret;

	do {
		kvm_run_set_immediate_exit(v->run, true);
		ret = kvm_vcpu_run(v->fd);
		if (ret == 0 && !vcpu_handle_exit(v))
			return false;
	} while (ret == 0);
	return run_failed(v, -ret);
}

/* Waits at the gate of a paused machine. */
static bool pause_here(struct vcpu *v)
{
	if (!complete_exit(v))
		return false;
	vcpu_gate_wait(&v->env->gate);
	return true;
}

/* One round of the run loop. False: the vCPU cannot go on. */
static bool run_once(struct vcpu *v)
{
	int ret;

	if (vcpu_gate_closed(&v->env->gate))
		return pause_here(v);
	assist_before_run(v->assist); /* NULL, and nothing to do, on ordinary hosts */
	ret = kvm_vcpu_run(v->fd);
	return ret ? run_failed(v, -ret) : vcpu_handle_exit(v);
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *v = opaque;
	bool go_on = true;

	pthread_setname_np(pthread_self(), v->name);
	timeline_mark(v->env->timeline, TIMELINE_FIRST_RUN);
	while (go_on && !atomic_load_explicit(&v->env->stop, memory_order_acquire))
		go_on = run_once(v);
	return NULL;
}

int vcpu_start(struct vcpu *v, struct err *err)
{
	pthread_attr_t attr;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_SIZE);
	e = pthread_create(&v->thread, &attr, vcpu_thread, v);
	pthread_attr_destroy(&attr);
	if (e)
		return err_sys(err, e, "vCPU %u: thread", v->index);
	v->started = true;
	return 0;
}

void vcpu_kick(struct vcpu *v)
{
	if (!v->started)
		return;
	/* A full barrier: pairs with the one in run_failed(). */
	kvm_run_set_immediate_exit(v->run, true);
	pthread_kill(v->thread, VCPU_KICK_SIGNAL);
}

void vcpu_join(struct vcpu *v)
{
	if (!v->started)
		return;
	pthread_join(v->thread, NULL);
	v->started = false;
}
