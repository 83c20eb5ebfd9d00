/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for one vCPU, from what KVM supports.
 *
 * Theory of operation: KVM_GET_SUPPORTED_CPUID describes the features that KVM can give, but in the
 * per-CPU leaves whatever the host has, or nothing. A table of leaves says which function puts each
 * right; everything that is not in it goes to the guest as it came. The topology is the same in all
 * its encodings: one package of `cpus` cores with one thread each, APIC id = index, caches up to
 * level 2 private, level 3 shared by all. Leaves 0xb and 0x1f are taken out and rebuilt, because
 * newer kernels list only an empty sub-leaf 0 there.
 *
 * References: Intel SDM vol. 2A "CPUID", AMD APM vol. 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "minivm/boot.h"

#include <assert.h>
#include <string.h>

#include <asm/kvm_para.h>

#define BIT(n) (1u << (n))

#define LEAF1_ECX_CX16	       BIT(13)
#define LEAF1_ECX_TSC_DEADLINE BIT(24)
#define LEAF1_ECX_HYPERVISOR   BIT(31)
#define LEAF1_EDX_HTT	       BIT(28)
#define LEAF7_EBX_FSGSBASE     BIT(0)
#define LEAF7_EBX_INVPCID      BIT(10)
#define LEAF7_ECX_RDPID	       BIT(22)
#define LEAFX1_ECX_CMP_LEGACY  BIT(1) /* AMD */
#define LEAFX1_EDX_RDTSCP      BIT(27)

#define LEAF_TOPOLOGY	  0xbu
#define LEAF_TOPOLOGY_V2  0x1fu
#define LEAF_AMD_TOPOLOGY 0x80000026u
#define LEVEL_SMT	  1u
#define LEVEL_CORE	  2u

/* Paravirtual features in which the guest makes hypercalls. */
#define HYPERCALL_FEATURES                                                                         \
	(BIT(KVM_FEATURE_MMU_OP) | BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_SEND_IPI) |     \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_HC_MAP_GPA_RANGE))

struct topology {
	const struct cpuid_request *req;
	uint32_t id_bits; /* APIC id bits that tell cores apart */
	bool amd;
};

/* Replaces the bits of `mask` in *reg by value << shift. */
static void put(uint32_t *reg, uint32_t mask, unsigned shift, uint32_t value)
{
	*reg = (*reg & ~mask) | ((value << shift) & mask);
}

static void set_bit(uint32_t *reg, uint32_t bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

/* 1: brand index, count, APIC id; features. */
static void fix_1(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	put(&e->ebx, 0xff000000, 24, t->req->cpu);
	put(&e->ebx, 0x00ff0000, 16, 1u << t->id_bits);
	set_bit(&e->edx, LEAF1_EDX_HTT, t->req->cpus > 1);
	e->ecx |= LEAF1_ECX_HYPERVISOR;
	set_bit(&e->ecx, LEAF1_ECX_TSC_DEADLINE, t->req->tsc_deadline);
	if (t->req->emulating)
		e->ecx &= ~LEAF1_ECX_CX16;
}

/* 4 (Intel) and 0x8000001d (AMD): a cache per sub-leaf, bits 4:0 type (0 = none), 7:5 level. */
static void fix_cache(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	uint32_t level = e->eax >> 5 & 7;
	bool shared = level >= 3;

	if ((e->eax & 0x1f) == 0)
		return;
	if (e->function == 4) {
		put(&e->eax, 0x03ffc000, 14, shared ? (1u << t->id_bits) - 1 : 0);
		put(&e->eax, 0xfc000000, 26, (1u << t->id_bits) - 1);
	} else {
		put(&e->eax, 0x03ffc000, 14, shared ? t->req->cpus - 1 : 0);
	}
}

static void fix_7(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	if (!t->req->emulating || e->index != 0)
		return;
	e->ebx &= ~(LEAF7_EBX_INVPCID | LEAF7_EBX_FSGSBASE);
	e->ecx &= ~LEAF7_ECX_RDPID;
}

static void fix_kvm_features(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	if (t->req->emulating)
		e->eax &= ~HYPERCALL_FEATURES;
}

static void fix_ext_1(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	if (t->amd)
		set_bit(&e->ecx, LEAFX1_ECX_CMP_LEGACY, t->req->cpus > 1);
	if (t->req->emulating)
		e->edx &= ~LEAFX1_EDX_RDTSCP;
}

/* 0x80000008 ECX, AMD only: number of cores - 1, APIC id bits. */
static void fix_ext_8(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	if (!t->amd)
		return;
	put(&e->ecx, 0x000000ff, 0, t->req->cpus - 1);
	put(&e->ecx, 0x0000f000, 12, t->id_bits);
}

/* 0x8000001e: extended APIC id; core id, threads per core - 1; node id, nodes - 1. */
static void fix_ext_1e(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	e->eax = t->req->cpu;
	put(&e->ebx, 0x0000ffff, 0, t->req->cpu);
	put(&e->ecx, 0x000007ff, 0, 0);
}

static const struct {
	uint32_t function;
	void (*fix)(struct kvm_cpuid_entry2 *e, const struct topology *t);
} fixes[] = {
    {1, fix_1},
    {4, fix_cache},
    {7, fix_7},
    {KVM_CPUID_FEATURES, fix_kvm_features},
    {0x80000001, fix_ext_1},
    {0x80000008, fix_ext_8},
    {0x8000001d, fix_cache},
    {0x8000001e, fix_ext_1e},
};

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	}
	return NULL;
}

/* "AuthenticAMD" and its licensee "HygonGenuine", in EBX, EDX, ECX of leaf 0. */
static bool is_amd(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *e = find(cpuid, 0);
	char vendor[12];

	if (!e)
		return false;
	memcpy(vendor, &e->ebx, 4);
	memcpy(vendor + 4, &e->edx, 4);
	memcpy(vendor + 8, &e->ecx, 4);
	return !memcmp(vendor, "AuthenticAMD", 12) || !memcmp(vendor, "HygonGenuine", 12);
}

static void drop(struct kvm_cpuid2 *cpuid, uint32_t function)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function != function)
			cpuid->entries[kept++] = cpuid->entries[i];
	}
	cpuid->nent = kept;
}

/* Three sub-leaves: threads, cores, end. All or none of them. */
static void add_topology(struct kvm_cpuid2 *cpuid, uint32_t function, unsigned capacity,
			 const struct topology *t)
{
	const struct {
		uint32_t bits, count, level;
	} sub[3] = {
	    {0, 1, LEVEL_SMT},
	    {t->id_bits, t->req->cpus, LEVEL_CORE},
	    {0, 0, 0},
	};

	if (capacity < 3 || cpuid->nent > capacity - 3)
		return;
	for (uint32_t i = 0; i < 3; i++) {
		cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
		    .function = function,
		    .index = i,
		    .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		    .eax = sub[i].bits,
		    .ebx = sub[i].count,
		    .ecx = sub[i].level << 8 | i,
		    .edx = t->req->cpu,
		};
	}
}

void cpuid_prepare(struct kvm_cpuid2 *cpuid, const struct cpuid_request *req)
{
	struct topology t = {.req = req, .amd = is_amd(cpuid)};
	unsigned capacity = req->capacity > cpuid->nent ? req->capacity : cpuid->nent;
	const struct kvm_cpuid_entry2 *base = find(cpuid, 0);
	bool v2 = find(cpuid, LEAF_TOPOLOGY_V2) != NULL;
	bool v1 = base && base->eax >= LEAF_TOPOLOGY;

	assert(req->cpu < req->cpus && req->cpus <= 64);
	while ((1u << t.id_bits) < req->cpus)
		t.id_bits++;
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		for (size_t j = 0; j < sizeof(fixes) / sizeof(fixes[0]); j++) {
			if (fixes[j].function == e->function)
				fixes[j].fix(e, &t);
		}
	}
	drop(cpuid, LEAF_TOPOLOGY);
	drop(cpuid, LEAF_TOPOLOGY_V2);
	drop(cpuid, LEAF_AMD_TOPOLOGY); /* the host's; 0xb says it all */
	if (v1)
		add_topology(cpuid, LEAF_TOPOLOGY, capacity, &t);
	if (v2)
		add_topology(cpuid, LEAF_TOPOLOGY_V2, capacity, &t);
}
