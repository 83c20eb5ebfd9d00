/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's VM and vCPUs: what KVM is told before the first KVM_RUN.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine_priv.h"

/* Intel SDM vol. 4 table 2-2; AMD APM vol. 2 appendix A. */
#define MSR_IA32_MISC_ENABLE	 0x1a0
#define MISC_ENABLE_FAST_STRING	 (1u << 0)
#define MSR_MTRR_DEF_TYPE	 0x2ff
#define MTRR_DEF_TYPE_ENABLE	 (1u << 11)
#define MTRR_DEF_TYPE_WRITE_BACK 6u

/* Decides about assists. An ordinary host gets none, and pays nothing for them. */
static int probe_cpu(struct machine *m, struct err *err)
{
	struct kvm_cpuid2 *larger;
	int ret = kvm_supported_cpuid(m->kvm_fd, &m->cpuid, err);

	if (ret)
		return ret;
	/* Room for the entries that cpuid_prepare() adds. */
	m->cpuid_capacity = m->cpuid->nent + CPUID_EXTRA_ENTRIES;
	larger =
	    realloc(m->cpuid, sizeof(*m->cpuid) + m->cpuid_capacity * sizeof(m->cpuid->entries[0]));
	if (!larger)
		return err_set(err, ENOMEM, "CPUID: out of memory");
	m->cpuid = larger;
	m->emulating = kvm_cpuid_is_emulating(m->cpuid);
	m->assist =
	    m->config->assist == ASSIST_ON || (m->config->assist == ASSIST_AUTO && m->emulating);
	return 0;
}

/*
 * Memory comes first of all that the VM is given. A new slot waits for a grace period of the VM's
 * SRCU, which is over at once as long as nothing else has asked for one; interrupt controllers and
 * PIT do, by their places on KVM's I/O buses, and wait for nobody: behind them a slot would take
 * milliseconds (Linux 6.18: 4 ms instead of 0.1).
 */
int machine_open_vm(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = kvm_open(KVM_DEVICE_PATH, &m->kvm_fd, err);

	if (!ret)
		ret = kvm_caps_silent(m->kvm_fd, err);
	if (!ret)
		ret = probe_cpu(m, err);
	if (!ret)
		ret = kvm_vm_create(m->kvm_fd, &m->vm_fd, err);
	for (i = 0; !ret && i < m->mem.count; i++) {
		const struct guest_region *r = &m->mem.region[i];

		ret = kvm_vm_set_memory(m->vm_fd, i, 0, r->gpa.v, r->len, r->host, err);
	}
	if (!ret)
		ret = kvm_vm_set_tss_addr(m->vm_fd, KVM_TSS_GPA, err);
	if (!ret)
		ret = kvm_vm_create_irqchip(m->vm_fd, err);
	if (!ret)
		ret = kvm_vm_create_pit(m->vm_fd, err);
	return ret;
}

static int vcpu_set_msrs(int fd)
{
	static const struct kvm_msr_entry entries[] = {
	    /* Without it Linux does without "rep movsb" on Intel. */
	    {.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
	    /* RAM is write-back: no firmware has set the MTRRs up, and Linux would turn PAT off
	     * with them. */
	    {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_WRITE_BACK},
	};
	/* struct kvm_msrs ends in an array without a length: this gives it one. */
	union {
		struct kvm_msrs list;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(entries)];
	} msrs = {.list.nmsrs = 2};

	memcpy(msrs.list.entries, entries, sizeof(entries));
	return kvm_vcpu_set_msrs(fd, &msrs.list);
}

static int vcpu_set_boot_regs(struct machine *m, int fd, struct err *err)
{
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs;
	int ret = kvm_vcpu_get_sregs(fd, &sregs);

	if (ret)
		return err_sys(err, -ret, "reading the registers");
	ret = m->boot.pvh ? boot_regs_pvh(&m->mem, m->boot.pvh_entry, &regs, &sregs, err)
			  : boot_regs_long_mode(&m->mem, m->boot.entry, &regs, &sregs, err);
	if (ret)
		return ret;
	ret = kvm_vcpu_set_sregs(fd, &sregs);
	if (!ret)
		ret = kvm_vcpu_set_regs(fd, &regs);
	return ret ? err_sys(err, -ret, "setting the registers") : 0;
}

void machine_vcpu_cpuid(struct machine *m, unsigned index)
{
	const struct cpuid_request req = {
	    .cpu = index,
	    .cpus = m->config->cpus,
	    .capacity = m->cpuid_capacity,
	    .tsc_deadline = m->tsc_deadline,
	    .emulating = m->emulating,
	};

	cpuid_prepare(m->cpuid, &req);
}

/* m->cpuid is edited for each vCPU in turn. */
static int vcpu_setup(struct machine *m, struct vcpu *v, struct err *err)
{
	int ret;

	machine_vcpu_cpuid(m, v->index);
	if (m->restore)
		return machine_restore_vcpu(m, v, err);
	ret = kvm_vcpu_set_cpuid(v->fd, m->cpuid, err);
	if (ret)
		return ret;
	ret = vcpu_set_msrs(v->fd);
	if (ret)
		return err_sys(err, -ret, "setting the MSRs");
	/* The others wait for INIT and SIPI in KVM's reset state. */
	if (v->index == 0)
		ret = vcpu_set_boot_regs(m, v->fd, err);
	if (!ret && m->assist)
		ret = vcpu_assist_new(v, m->cpuid, err);
	return ret;
}

int machine_create_vcpus(struct machine *m, struct err *err)
{
	size_t run_len;
	unsigned i;
	int ret = kvm_run_size(m->kvm_fd, &run_len, err);

	if (ret)
		return ret;
	m->tsc_deadline = kvm_check_extension(m->kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	m->vcpu = calloc(m->config->cpus, sizeof(*m->vcpu));
	if (!m->vcpu)
		return err_set(err, ENOMEM, "%u vCPUs: out of memory", m->config->cpus);
	for (i = 0; i < m->config->cpus; i++) {
		ret = vcpu_create(m->vm_fd, i, run_len, &m->env, &m->vcpu[i], err);
		if (ret)
			return err_context(err, "vCPU %u", i);
		m->vcpu_count++;
		ret = vcpu_setup(m, &m->vcpu[i], err);
		if (ret)
			return err_context(err, "vCPU %u", i);
	}
	return 0;
}

void machine_destroy_vcpus(struct machine *m)
{
	while (m->vcpu_count > 0) {
		struct vcpu *v = &m->vcpu[--m->vcpu_count];

		vcpu_assist_free(v);
		vcpu_destroy(v);
	}
	free(m->vcpu);
	m->vcpu = NULL;
}
