/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `minivm doctor`: can this host run VMs, what is slow or missing, and how to mend it.
 */
#ifndef MINIVM_DOCTOR_H
#define MINIVM_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "minivm/kvm.h"

enum doctor_device {
	DOCTOR_DEVICE_OK,
	DOCTOR_DEVICE_ABSENT,
	DOCTOR_DEVICE_FORBIDDEN,
	DOCTOR_DEVICE_UNUSABLE, /* not KVM, another API version, another error */
};

/* What is wrong and what to do about it. A fatal one: no machine can run. */
struct doctor_finding {
	bool fatal;
	char what[256];
	char mend[640];
};

#define DOCTOR_FINDINGS_MAX 16

struct doctor_report {
	/* the host */
	char kernel[128]; /* "Linux 6.1.0-13-amd64" */
	char cpu_model[128];
	unsigned cpus;
	bool cpu_vmx, cpu_svm; /* flags in /proc/cpuinfo */
	bool cpu_hypervisor;   /* this host is a virtual machine itself */
	uint64_t memory_total; /* bytes; 0: not known */
	uint64_t memory_available;
	uint64_t files_soft, files_hard; /* RLIMIT_NOFILE; UINT64_MAX: unlimited */
	/* the device */
	const char *device_path;
	enum doctor_device device;
	bool access_known; /* `access` is filled */
	struct kvm_node_access access;
	/* KVM, if the device is OK */
	struct kvm_caps caps;
	bool vm_works; /* a VM was made, run and its time taken */
	struct kvm_timing timing;
	bool cpuid_emulating; /* what the cheap test says */
	/* what follows from it */
	unsigned finding_count;
	struct doctor_finding finding[DOCTOR_FINDINGS_MAX];
	bool usable; /* no finding is fatal */
};

/* Looks at the host; never fails. `kvm_path` is usually KVM_DEVICE_PATH and is kept by the report.
 */
void doctor_collect(const char *kvm_path, struct doctor_report *report);

void doctor_print_text(const struct doctor_report *report, FILE *out);
/* The keys are documented in docs/minivm.1 and stay stable. 0 or -ENOMEM. */
int doctor_print_json(const struct doctor_report *report, FILE *out);

/* The command: collects, prints, and returns the exit status, 0 or VM_STATUS_ERROR. */
int doctor_run(bool json, FILE *out);

#endif
