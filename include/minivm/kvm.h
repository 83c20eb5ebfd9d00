/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers around the KVM ioctls (Documentation/virt/kvm/api.rst) and the probe of what the
 * host's KVM can do. No policy, no state: descriptors go in, descriptors come out and are the
 * caller's.
 *
 * Functions with a `struct err *` belong to set-up: 0 or -errno and one actionable line. The ones
 * without are for run time: 0 or -errno, any thread that api.rst allows (vCPU ioctls: the vCPU's).
 */
#ifndef MINIVM_KVM_H
#define MINIVM_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/err.h"

#define KVM_DEVICE_PATH "/dev/kvm"

/*
 * Two places that KVM on Intel hosts needs for itself (api.rst 4.40, 4.44): one page of identity
 * map and three pages of TSS, below 4 GiB and away from memory slots and devices. They lie in the
 * MMIO hole, above the I/O APIC (0xfec00000) and the local APIC (0xfee00000): the map at
 * 0xfffbc000, which is KVM's default and thus not set, the TSS behind it, which has no default.
 */
#define KVM_TSS_GPA 0xfffbd000u

/* --- /dev/kvm --- */

/*
 * Opens `path` (KVM_DEVICE_PATH) and checks the API version. The error says how to mend it: absent
 * (-ENOENT), forbidden (-EACCES, -EPERM; names the group), no KVM device (-ENOTTY), another API
 * version (-EPROTO).
 */
int kvm_open(const char *path, int *kvm_fd, struct err *err);

/* Names the owner and group of a file from /etc/passwd and /etc/group, else their numbers. */
#define KVM_NAME_MAX 33
struct kvm_node_access {
	char owner[KVM_NAME_MAX];
	char group[KVM_NAME_MAX];
	unsigned gid;
	unsigned mode; /* permission bits */
};
/* 0 or -errno of stat(2). */
int kvm_node_access(const char *path, struct kvm_node_access *out);

/* What to try when open(2) of `path` failed with `code` (positive errno), cut to size; "": no idea.
 */
void kvm_open_hint(const char *path, int code, char *buf, size_t size);

/* --- capabilities --- */

struct kvm_cap {
	int cap;	      /* KVM_CAP_* */
	int min;	      /* the least value of KVM_CHECK_EXTENSION that will do */
	bool needed;	      /* no machine starts without it; else it is wanted */
	const char *name;     /* "KVM_CAP_IRQFD" */
	const char *what_for; /* "interrupts by eventfd" */
};

#define KVM_CAPS_MAX 32

/* KVM_CHECK_EXTENSION's answers, in the order of the table; 0 = absent. */
struct kvm_caps {
	int value[KVM_CAPS_MAX];
};

/* The table; *count <= KVM_CAPS_MAX. */
const struct kvm_cap *kvm_cap_table(size_t *count);

/* Asks for the needed ones only. -ENOTSUP, naming the first that is missing. */
int kvm_caps_required(int kvm_fd, struct err *err);

/*
 * Start-up path: asks only for what no call would fail without. When a call did fail,
 * kvm_caps_required() tells whether something is missing that explains it.
 */
int kvm_caps_silent(int kvm_fd, struct err *err);

/* All of the table, for the doctor. */
void kvm_caps_probe(int kvm_fd, struct kvm_caps *caps);

/* One capability, whether it is in the table or not; 0 = absent. Negative: -errno. */
int kvm_check_extension(int fd, int cap);

/* Bytes to map for each vCPU's struct kvm_run. */
int kvm_run_size(int kvm_fd, size_t *size, struct err *err);

/* KVM_GET_SUPPORTED_CPUID, however long it is. The caller frees *out with free(). */
int kvm_supported_cpuid(int kvm_fd, struct kvm_cpuid2 **out, struct err *err);

/* --- is the back end an emulator? --- */

/*
 * On ordinary hosts (VMX, SVM) guest code runs on the processor. Some hosts run guest kernel mode
 * in KVM's instruction emulator instead, about 60 times slower, with instructions missing.
 *
 * The cheap test needs no VM and no system call: an emulating back end reports next to nothing of
 * the processor's features in CPUID leaf 1 ECX, where every VMX or SVM processor has several.
 */
bool kvm_cpuid_is_emulating(const struct kvm_cpuid2 *supported);

/*
 * The test that settles it: runs a loop at CPL 0 in a throw-away VM and takes the time. Costs a VM
 * and a few milliseconds at most.
 */
struct kvm_timing {
	double ns_per_instruction;
	bool emulating; /* slower than any processor, and even than one emulated by QEMU's TCG */
};
int kvm_time_guest(int kvm_fd, struct kvm_timing *out, struct err *err);

/* --- VM --- */

/* -EBUSY: another hypervisor holds the processor's virtualization. */
int kvm_vm_create(int kvm_fd, int *vm_fd, struct err *err);

/* `host` page-aligned and mapped as long as the slot; flags KVM_MEM_*. bytes 0 removes the slot. */
int kvm_vm_set_memory(int vm_fd, unsigned slot, uint32_t flags, uint64_t gpa, uint64_t bytes,
		      void *host, struct err *err);

/* Before the first vCPU. */
int kvm_vm_set_tss_addr(int vm_fd, uint32_t gpa, struct err *err);

/* PIC, I/O APIC and a local APIC for each vCPU; before the first vCPU. GSI n = pin n. */
int kvm_vm_create_irqchip(int vm_fd, struct err *err);

/* 8254 with port 0x61 (KVM_PIT_SPEAKER_DUMMY); after the irqchip. */
int kvm_vm_create_pit(int vm_fd, struct err *err);

/* Writing to the eventfd `fd` pulses GSI `gsi` (edge). Ends when the eventfd is closed. */
int kvm_vm_irqfd(int vm_fd, int fd, unsigned gsi, struct err *err);
/* What one signal of such an eventfd is, where there is none. */
int kvm_vm_pulse(int vm_fd, unsigned gsi, struct err *err);

/*
 * A guest write of `len` bytes (1, 2, 4, 8; 0: any) to `addr` signals the eventfd `fd` instead of
 * returning from KVM_RUN; with `match`, only if *match is written. `pio`: a port, else an MMIO
 * address.
 */
int kvm_vm_ioeventfd(int vm_fd, bool pio, uint64_t addr, unsigned len, const uint64_t *match,
		     int fd, struct err *err);

/* --- vCPU, set-up --- */

int kvm_vcpu_create(int vm_fd, unsigned id, int *vcpu_fd, struct err *err);
/* Maps struct kvm_run; size from kvm_run_size(). The caller ends it with munmap(). */
int kvm_vcpu_map(int vcpu_fd, size_t size, struct kvm_run **run, struct err *err);
int kvm_vcpu_set_cpuid(int vcpu_fd, const struct kvm_cpuid2 *cpuid, struct err *err);

/* --- vCPU, run time --- */

/* -EINTR (signal or immediate_exit), -EAGAIN (an AP that was just kicked), -EFAULT, ... */
int kvm_vcpu_run(int vcpu_fd);

/*
 * From any thread: the running or next KVM_RUN returns -EINTR before it enters the guest. A thread
 * that sits in the guest needs a signal besides. The vCPU's thread takes it back. A full barrier,
 * for the flag that tells the thread why.
 */
static inline void kvm_run_set_immediate_exit(struct kvm_run *run, bool on)
{
	__atomic_exchange_n(&run->immediate_exit, (uint8_t)on, __ATOMIC_SEQ_CST);
}

int kvm_vcpu_get_regs(int vcpu_fd, struct kvm_regs *regs);
int kvm_vcpu_set_regs(int vcpu_fd, const struct kvm_regs *regs);
int kvm_vcpu_get_sregs(int vcpu_fd, struct kvm_sregs *sregs);
int kvm_vcpu_set_sregs(int vcpu_fd, const struct kvm_sregs *sregs);
/* -EIO: this vCPU has no such MSR, *value is 0 then. */
int kvm_vcpu_get_msr(int vcpu_fd, uint32_t index, uint64_t *value);
/*
 * The guest's watchdogs are to forgive the time in which the vCPU did not run (api.rst 4.69), once
 * it does. A guest that does not use kvm-clock has no such thing, and nothing happens.
 */
void kvm_vcpu_was_stopped(int vcpu_fd);
/* All msrs->nmsrs of them, or -EIO: KVM stops at the first that it does not know. */
int kvm_vcpu_set_msrs(int vcpu_fd, const struct kvm_msrs *msrs);
int kvm_vcpu_get_events(int vcpu_fd, struct kvm_vcpu_events *events);
int kvm_vcpu_set_events(int vcpu_fd, const struct kvm_vcpu_events *events);
int kvm_vcpu_set_guest_debug(int vcpu_fd, const struct kvm_guest_debug *debug);

#endif
