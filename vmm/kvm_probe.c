/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does this host's KVM run guest kernel code on the processor, or in an instruction emulator?
 *
 * It matters because an emulating back end is some 60 times slower in guest kernel mode and lacks
 * instructions, which minivm then makes up for (vmm/assist.c, boot/cpuid.c). A module's name tells
 * nothing sure, so two probes look at behaviour:
 *
 *  - the CPUID that KVM offers to guests, free at start-up since a start fetches it anyway;
 *  - the time that a loop at CPL 0 takes. Measured: 600 ns an instruction in the emulator, 9 ns
 *    where KVM itself runs inside QEMU's TCG, well below 1 ns on a processor. The threshold of
 *    100 ns is far from all of them.
 *
 * The loop runs twice, with few and with more iterations, and the difference counts: the cost of
 * entering and leaving the guest (8 us to 70 us) and of the first faults drops out.
 */
#include "minivm/kvm.h"
#include "minivm/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* CPUID.01H:ECX features that processors with VMX or SVM have had (Intel SDM vol. 2, CPUID). */
#define ECX_SSE3	(1u << 0)
#define ECX_SSSE3	(1u << 9)
#define ECX_CX16	(1u << 13)
#define ECX_SSE41	(1u << 19)
#define ECX_SSE42	(1u << 20)
#define ECX_POPCNT	(1u << 23)
#define ECX_OF_HARDWARE (ECX_SSE3 | ECX_SSSE3 | ECX_CX16 | ECX_SSE41 | ECX_SSE42 | ECX_POPCNT)

bool kvm_cpuid_is_emulating(const struct kvm_cpuid2 *supported)
{
	for (uint32_t i = 0; i < supported->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &supported->entries[i];

		/* Three were in the first Intel processors with EPT and AMD's with NPT, and before.
		 */
		if (e->function == 1)
			return __builtin_popcount(e->ecx & ECX_OF_HARDWARE) < 3;
	}
	return false; /* no leaf 1 at all says nothing about speed */
}

#define THRESHOLD_NS	100.0
#define FEW_ITERATIONS	100u
#define MORE_ITERATIONS 2100u /* 4,000 instructions more: 2.4 ms in the emulator */
#define MANY_ITERATIONS                                                                            \
	200100u		/* where they are fast: well above the clock's grain and the exit          \
			 */
#define INSTRUCTIONS 2u /* in an iteration */

/* The guest's memory: page tables that map the first 2 MiB, and code. */
enum {
	PML4_GPA = 0x0000,
	PDPT_GPA = 0x1000,
	PD_GPA = 0x2000,
	CODE_GPA = 0x3000,
	MEMORY_BYTES = 0x4000,
};

static const uint8_t payload[] = {
    0xff, 0xc9, /* 0: dec ecx */
    0x75, 0xfc, /* jnz 0 */
    0xe6, 0x80, /* out 0x80, al */
};

struct probe_vm {
	int vm_fd;
	int vcpu_fd;
	void *memory;
	struct kvm_run *run;
	size_t run_size;
};

static void fill_memory(uint8_t *memory)
{
	const uint64_t present_write = 0x3, large = 0x80;
	uint64_t entry;

	entry = PDPT_GPA | present_write;
	memcpy(memory + PML4_GPA, &entry, sizeof(entry));
	entry = PD_GPA | present_write;
	memcpy(memory + PDPT_GPA, &entry, sizeof(entry));
	entry = present_write | large;
	memcpy(memory + PD_GPA, &entry, sizeof(entry));
	memcpy(memory + CODE_GPA, payload, sizeof(payload));
}

/* 64-bit mode at CPL 0: what a kernel runs in. */
static int enter_long_mode(int vcpu_fd)
{
	const struct kvm_segment code = {
	    .limit = 0xffffffff,
	    .selector = 0x8,
	    .type = 0xb,
	    .present = 1,
	    .s = 1,
	    .l = 1,
	    .g = 1,
	};
	const struct kvm_segment data = {
	    .limit = 0xffffffff,
	    .selector = 0x10,
	    .type = 0x3,
	    .present = 1,
	    .s = 1,
	    .db = 1,
	    .g = 1,
	};
	struct kvm_sregs s;
	int rc = kvm_vcpu_get_sregs(vcpu_fd, &s);

	if (rc < 0)
		return rc;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x80000001; /* PG, PE */
	s.cr3 = PML4_GPA;
	s.cr4 = 0x20;	/* PAE */
	s.efer = 0x500; /* LMA, LME */
	return kvm_vcpu_set_sregs(vcpu_fd, &s);
}

static void vm_close(struct probe_vm *vm)
{
	if (vm->run != NULL)
		munmap(vm->run, vm->run_size);
	if (vm->vcpu_fd >= 0)
		close(vm->vcpu_fd);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->memory != MAP_FAILED)
		munmap(vm->memory, MEMORY_BYTES);
}

static int vm_make_vcpu(struct probe_vm *vm, int kvm_fd, struct err *err)
{
	struct kvm_cpuid2 *cpuid = NULL;
	int rc;

	rc = kvm_vcpu_create(vm->vm_fd, 0, &vm->vcpu_fd, err);
	if (rc < 0)
		return rc;
	rc = kvm_run_size(kvm_fd, &vm->run_size, err);
	if (rc < 0)
		return rc;
	rc = kvm_vcpu_map(vm->vcpu_fd, vm->run_size, &vm->run, err);
	if (rc < 0)
		return rc;
	rc = kvm_supported_cpuid(kvm_fd, &cpuid, err);
	if (rc < 0)
		return rc;
	rc = kvm_vcpu_set_cpuid(vm->vcpu_fd, cpuid, err);
	free(cpuid);
	if (rc < 0)
		return rc;
	rc = enter_long_mode(vm->vcpu_fd);
	return rc < 0 ? err_sys(err, -rc, "setting a vCPU's registers") : 0;
}

/* On failure the caller calls vm_close() all the same. */
static int vm_open(struct probe_vm *vm, int kvm_fd, struct err *err)
{
	int rc;

	*vm = (struct probe_vm){.vm_fd = -1, .vcpu_fd = -1};
	vm->memory =
	    mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->memory == MAP_FAILED)
		return err_sys(err, errno, "mapping memory");
	fill_memory(vm->memory);
	rc = kvm_vm_create(kvm_fd, &vm->vm_fd, err);
	if (rc < 0)
		return rc;
	rc = kvm_vm_set_tss_addr(vm->vm_fd, KVM_TSS_GPA, err);
	if (rc < 0)
		return rc;
	rc = kvm_vm_set_memory(vm->vm_fd, 0, 0, 0, MEMORY_BYTES, vm->memory, err);
	if (rc < 0)
		return rc;
	return vm_make_vcpu(vm, kvm_fd, err);
}

/* Runs the loop once; the time from entry to its `out`. */
static int time_loop(const struct probe_vm *vm, uint32_t iterations, double *ns, struct err *err)
{
	const struct kvm_regs regs = {.rip = CODE_GPA, .rcx = iterations, .rflags = 0x2};
	uint64_t start;
	int rc;

	rc = kvm_vcpu_set_regs(vm->vcpu_fd, &regs);
	if (rc < 0)
		return err_sys(err, -rc, "setting a vCPU's registers");
	start = clock_ns(CLOCK_MONOTONIC);
	do
		rc = kvm_vcpu_run(vm->vcpu_fd);
	while (rc == -EINTR);
	*ns = (double)(clock_ns(CLOCK_MONOTONIC) - start);
	if (rc < 0)
		return err_sys(err, -rc, "KVM_RUN");
	if (vm->run->exit_reason != KVM_EXIT_IO)
		return err_set(err, EIO,
			       "a test guest ended with KVM exit reason %u instead of an output",
			       vm->run->exit_reason);
	return 0;
}

static int time_difference(const struct probe_vm *vm, uint32_t more, double *ns, struct err *err)
{
	double few_ns, more_ns;
	int rc;

	rc = time_loop(vm, FEW_ITERATIONS, &few_ns, err);
	if (rc < 0)
		return rc;
	rc = time_loop(vm, more, &more_ns, err);
	if (rc < 0)
		return rc;
	*ns = (more_ns - few_ns) / ((more - FEW_ITERATIONS) * INSTRUCTIONS);
	if (*ns < 0)
		*ns = 0; /* the first entry cost more than the loop */
	return 0;
}

int kvm_time_guest(int kvm_fd, struct kvm_timing *out, struct err *err)
{
	struct probe_vm vm;
	double ns, warm;
	int rc;

	rc = vm_open(&vm, kvm_fd, err);
	if (rc < 0)
		goto out;
	rc = time_loop(&vm, FEW_ITERATIONS, &warm, err); /* page faults, caches */
	if (rc < 0)
		goto out;
	rc = time_difference(&vm, MORE_ITERATIONS, &ns, err);
	if (rc < 0)
		goto out;
	if (ns < THRESHOLD_NS) { /* fast, so there is time to measure well */
		rc = time_difference(&vm, MANY_ITERATIONS, &ns, err);
		if (rc < 0)
			goto out;
	}
	out->ns_per_instruction = ns;
	out->emulating = ns >= THRESHOLD_NS;
out:
	vm_close(&vm);
	return rc;
}
