/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM holds of a machine, into and out of a saved state (docs/snapshot.md "KVM"). The
 * structures are those of <linux/kvm.h>, byte by byte; KVM itself checks what it is given.
 *
 * No vCPU runs. On restoring: after KVM_SET_CPUID2, the VM's part after the vCPUs'.
 */
#ifndef MINIVM_KVM_STATE_H
#define MINIVM_KVM_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/err.h"
#include "minivm/state.h"

/* --- the host: vmm/kvm_state_host.c --- */

/* What a saved state is bound to. */
struct kvm_host {
	bool emulating;
	uint32_t tsc_khz;
	char boot_id[37]; /* of the host's boot; "" where it does not matter */
};

/* Of a host with such a vCPU. The state of an emulating one is good for one boot of the host. */
int kvm_host_read(int vcpu_fd, bool emulating, struct kvm_host *out, struct err *err);
void kvm_host_save(const struct kvm_host *host, struct state_writer *w);
/*
 * -ENOTSUP, in words, if the state of `r` cannot go on here. *saved_khz is the frequency that the
 * guest knows, for KVM_SET_TSC_KHZ if it is not host->tsc_khz.
 */
int kvm_host_check(const struct kvm_host *host, struct state_reader *r, struct err *err);

void kvm_cpuid_save(const struct kvm_cpuid2 *cpuid, struct state_writer *w);
/*
 * malloc'ed. `here` is what a new vCPU would be given: -ENOTSUP if the saved one has features that
 * it lacks, or comes from another maker's processor.
 */
int kvm_cpuid_restore(const struct kvm_cpuid2 *here, struct state_reader *r,
		      struct kvm_cpuid2 **out, struct err *err);

/* --- one vCPU: vmm/kvm_state_vcpu.c --- */

int kvm_vcpu_save(int kvm_fd, int vm_fd, int vcpu_fd, struct state_writer *w, struct err *err);
int kvm_vcpu_restore(int vm_fd, int vcpu_fd, struct state_reader *r, struct err *err);

/* --- the VM: vmm/kvm_state_vm.c --- */

/* Interrupt controllers and PIT. */
int kvm_vm_save(int vm_fd, struct state_writer *w, struct err *err);
int kvm_vm_restore(int vm_fd, struct state_reader *r, struct err *err);

/* kvm-clock, and the vCPUs' TSCs, all at one moment. */
int kvm_clock_save(int vm_fd, const int *vcpu_fds, unsigned count, struct state_writer *w,
		   struct err *err);
int kvm_clock_restore(int vm_fd, const int *vcpu_fds, unsigned count, uint32_t tsc_khz,
		      struct state_reader *r, struct err *err);

#endif
