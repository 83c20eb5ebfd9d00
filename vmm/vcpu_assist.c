/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's assist, joined to KVM: vmm/assist.c makes no system calls itself, its operations on the
 * vCPU are the ioctls below. Used on hosts whose KVM emulates guest kernel mode, or with
 * --assist on.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "minivm/kvm.h"
#include "minivm/vcpu.h"

/* For what only an assist asks: kvm.h has no wrapper. */
static int vcpu_ioctl(void *cpu, unsigned long request, void *arg)
{
	const struct vcpu *v = cpu;

	return ioctl(v->fd, request, arg) < 0 ? -errno : 0;
}

static int op_get_regs(void *cpu, struct kvm_regs *regs)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_get_regs(v->fd, regs);
}

static int op_set_regs(void *cpu, const struct kvm_regs *regs)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_set_regs(v->fd, regs);
}

static int op_get_sregs(void *cpu, struct kvm_sregs *sregs)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_get_sregs(v->fd, sregs);
}

static int op_set_sregs(void *cpu, const struct kvm_sregs *sregs)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_set_sregs(v->fd, sregs);
}

static int op_get_xsave(void *cpu, struct kvm_xsave *xsave)
{
	return vcpu_ioctl(cpu, KVM_GET_XSAVE, xsave);
}

static int op_set_xsave(void *cpu, const struct kvm_xsave *xsave)
{
	struct kvm_xsave copy = *xsave;

	return vcpu_ioctl(cpu, KVM_SET_XSAVE, &copy);
}

static int op_get_xcr0(void *cpu, uint64_t *xcr0)
{
	struct kvm_xcrs xcrs;
	int ret = vcpu_ioctl(cpu, KVM_GET_XCRS, &xcrs);

	if (ret)
		return ret;
	if (xcrs.nr_xcrs < 1 || xcrs.xcrs[0].xcr != 0)
		return -ENOENT;
	*xcr0 = xcrs.xcrs[0].value;
	return 0;
}

static int op_get_events(void *cpu, struct kvm_vcpu_events *events)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_get_events(v->fd, events);
}

static int op_set_events(void *cpu, const struct kvm_vcpu_events *events)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_set_events(v->fd, events);
}

static int op_get_debugregs(void *cpu, struct kvm_debugregs *dr)
{
	return vcpu_ioctl(cpu, KVM_GET_DEBUGREGS, dr);
}

static int op_set_debugregs(void *cpu, const struct kvm_debugregs *dr)
{
	struct kvm_debugregs copy = *dr;

	return vcpu_ioctl(cpu, KVM_SET_DEBUGREGS, &copy);
}

static int op_get_msr(void *cpu, uint32_t index, uint64_t *value)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_get_msr(v->fd, index, value);
}

static int op_set_guest_debug(void *cpu, const struct kvm_guest_debug *debug)
{
	const struct vcpu *v = cpu;

	return kvm_vcpu_set_guest_debug(v->fd, debug);
}

static const struct assist_cpu_ops cpu_ops = {
    .get_regs = op_get_regs,
    .set_regs = op_set_regs,
    .get_sregs = op_get_sregs,
    .set_sregs = op_set_sregs,
    .get_xsave = op_get_xsave,
    .set_xsave = op_set_xsave,
    .get_xcr0 = op_get_xcr0,
    .get_events = op_get_events,
    .set_events = op_set_events,
    .get_debugregs = op_get_debugregs,
    .set_debugregs = op_set_debugregs,
    .get_msr = op_get_msr,
    .set_guest_debug = op_set_guest_debug,
};

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	unsigned i;

	for (i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	}
	return NULL;
}

int vcpu_assist_new(struct vcpu *v, const struct kvm_cpuid2 *cpuid, struct err *err)
{
	/* AMD APM vol. 3 appendix E: address sizes, and 1 GiB pages in EDX bit 26. */
	const struct kvm_cpuid_entry2 *sizes = find_leaf(cpuid, 0x80000008);
	const struct kvm_cpuid_entry2 *features = find_leaf(cpuid, 0x80000001);
	struct assist_setup setup = {
	    .mem = v->env->mem,
	    .ops = &cpu_ops,
	    .cpu = v,
	    .phys_bits = sizes ? (uint8_t)sizes->eax : 36,
	    .gigabyte_pages = features && features->edx & 1u << 26,
	};

	v->assist = malloc(sizeof(*v->assist));
	if (!v->assist)
		return err_set(err, ENOMEM, "assist: out of memory");
	assist_init(v->assist, &setup);
	return 0;
}

void vcpu_assist_free(struct vcpu *v)
{
	free(v->assist);
	v->assist = NULL;
}
