/* SPDX-License-Identifier: Apache-2.0 */
#include "floor_calls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "minivm/kvm.h"
#include "minivm/platform.h"

#define CPUID_ENTRIES 128

long floor_check(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		exit(125);
	}
	return result;
}

int floor_call(int fd, unsigned long request, unsigned long arg, const char *what)
{
	return (int)floor_check(ioctl(fd, request, arg), what);
}

void *floor_map(void *at, uint64_t len, int prot, int flags, int fd, uint64_t offset)
{
	void *p = mmap(at, len, prot, flags, fd, (off_t)offset);

	floor_check(p == MAP_FAILED ? -1 : 0, "mmap");
	return p;
}

static void add_region(struct guest_mem *mem, uint64_t gpa, uint64_t len, int fd, uint64_t offset)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);

	mem->region[mem->count++] = (struct guest_region){
	    .gpa = GPA(gpa),
	    .len = len,
	    .host = floor_map(NULL, len, PROT_READ | PROT_WRITE, flags, fd, offset),
	};
}

void floor_add_memory(struct guest_mem *mem, uint64_t bytes, int fd)
{
	uint64_t low = bytes < GUEST_MMIO_HOLE_START ? bytes : GUEST_MMIO_HOLE_START;

	add_region(mem, 0, low, fd, 0);
	if (bytes > low)
		add_region(mem, GUEST_MMIO_HOLE_END, bytes - low, fd, fd < 0 ? 0 : low);
}

int floor_make_vm(int kvm, const struct guest_mem *mem)
{
	int vm = floor_call(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	/* First, as in minivm: vmm/machine_vcpus.c says why. */
	for (unsigned i = 0; i < mem->count; i++) {
		struct kvm_userspace_memory_region r = {
		    .slot = i,
		    .guest_phys_addr = mem->region[i].gpa.v,
		    .memory_size = mem->region[i].len,
		    .userspace_addr = (uintptr_t)mem->region[i].host,
		};

		floor_call(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&r,
			   "KVM_SET_USER_MEMORY_REGION");
	}
	floor_call(vm, KVM_SET_TSS_ADDR, KVM_TSS_GPA, "KVM_SET_TSS_ADDR");
	floor_call(vm, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
	floor_call(vm, KVM_CREATE_PIT2, (unsigned long)&pit, "KVM_CREATE_PIT2");
	return vm;
}

int floor_make_vcpu(int kvm, int vm, unsigned index, struct kvm_run **run)
{
	int vcpu = floor_call(vm, KVM_CREATE_VCPU, index, "KVM_CREATE_VCPU");
	int size = floor_call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");

	*run = floor_map(NULL, (uint64_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	return vcpu;
}

struct kvm_cpuid2 *floor_supported_cpuid(int kvm)
{
	static union {
		struct kvm_cpuid2 list;
		uint8_t room[sizeof(struct kvm_cpuid2) +
			     CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
	} cpuid;

	cpuid.list.nent = CPUID_ENTRIES;
	floor_call(kvm, KVM_GET_SUPPORTED_CPUID, (unsigned long)&cpuid, "KVM_GET_SUPPORTED_CPUID");
	return &cpuid.list;
}
