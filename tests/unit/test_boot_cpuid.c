/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID: the same topology in every leaf, on Intel and AMD, whatever the host put there. */
#include <criterion/criterion.h>

#include <string.h>

#include "minivm/boot.h"

#define ENTRIES 32

union table {
	struct kvm_cpuid2 head; /* ends in a flexible array */
	uint8_t room[sizeof(struct kvm_cpuid2) + ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

static void add(union table *t, uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
		uint32_t ecx, uint32_t edx)
{
	cr_assert_lt(t->head.nent, ENTRIES);
	t->head.entries[t->head.nent++] = (struct kvm_cpuid_entry2){
	    .function = function, .index = index, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx};
}

static const struct kvm_cpuid_entry2 *get(const union table *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->head.nent; i++) {
		if (t->head.entries[i].function == function && t->head.entries[i].index == index)
			return &t->head.entries[i];
	}
	return NULL;
}

static void add_common(union table *t)
{
	add(t, 1, 0, 0x906ea, 0x77abcd00, 0x00803001 | 1u << 13, 0x178bfbff);
	add(t, 7, 0, 2, 1u << 10 | 1u << 0 | 1u << 5, 1u << 22 | 1u << 2, 0);
	add(t, 7, 1, 1u << 5, 1u << 10, 0, 0);
	add(t, 0x40000001, 0, 0x01007efb, 0, 0, 0);
	add(t, 0x80000001, 0, 0x906ea, 0, 0x00000121, 1u << 27 | 1u << 29);
	add(t, 0x80000008, 0, 0x3030, 0x1000, 0x7fff, 0);
}

/* The host's topology is in the leaves: 64 threads, id 0x77. */
static union table intel(void)
{
	union table t = {0};

	add(&t, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add_common(&t);
	add(&t, 4, 0, 0xfc004121, 0x01c0003f, 0x3f, 0); /* L1d, 2 threads */
	add(&t, 4, 1, 0xfc004143, 0x03c0003f, 0x3ff, 0);
	add(&t, 4, 2, 0xfc1fc163, 0x03c0003f, 0xffff, 6); /* L3 */
	add(&t, 4, 3, 0, 0, 0, 0);
	add(&t, 0xb, 0, 1, 2, 0x100, 0x77);
	add(&t, 0x1f, 0, 1, 2, 0x100, 0x77);
	return t;
}

static union table amd(void)
{
	union table t = {0};

	add(&t, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65);
	add_common(&t);
	add(&t, 0xb, 0, 0, 0, 0, 0);
	add(&t, 0x8000001d, 0, 0x00004121, 0x01c0003f, 0x3f, 0);
	add(&t, 0x8000001d, 3, 0x0001c163, 0x03c0003f, 0x3fff, 1);
	add(&t, 0x8000001d, 4, 0, 0, 0, 0);
	add(&t, 0x8000001e, 0, 0x77, 0x0133, 0x0102, 0);
	add(&t, 0x80000026, 0, 1, 2, 0x100, 0x77);
	return t;
}

static void check_leaf_b(const union table *t, uint32_t leaf, uint32_t cpu, uint32_t cpus,
			 uint32_t bits)
{
	const struct kvm_cpuid_entry2 *smt = get(t, leaf, 0), *core = get(t, leaf, 1),
				      *end = get(t, leaf, 2);

	cr_assert(smt && core && end);
	cr_assert_eq(smt->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	cr_assert_eq(smt->eax, 0);
	cr_assert_eq(smt->ebx, 1);
	cr_assert_eq(smt->ecx, 0x100);
	cr_assert_eq(core->eax, bits);
	cr_assert_eq(core->ebx, cpus);
	cr_assert_eq(core->ecx, 0x201);
	cr_assert_eq(end->ecx, 2, "type 0: Linux reads on until it meets one");
	cr_assert(smt->edx == cpu && core->edx == cpu && end->edx == cpu);
	cr_assert_null(get(t, leaf, 3));
}

static void check_leaf_1(const union table *t, uint32_t cpu, uint32_t cpus, uint32_t bits)
{
	const struct kvm_cpuid_entry2 *e = get(t, 1, 0);

	cr_assert_eq(e->ebx >> 24, cpu);
	cr_assert_eq(e->ebx >> 16 & 0xff, 1u << bits);
	cr_assert_eq(e->ebx & 0xffff, 0xcd00, "CLFLUSH size and brand stay");
	cr_assert_eq(e->edx >> 28 & 1, cpus > 1, "HTT");
	cr_assert_eq(e->ecx >> 31, 1, "hypervisor");
}

static const struct {
	uint32_t cpus, bits;
} sizes[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {32, 5}};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

Test(boot_cpuid, intel_topology)
{
	for (unsigned i = 0; i < SIZES; i++) {
		uint32_t cpus = sizes[i].cpus, bits = sizes[i].bits, cpu = cpus - 1;
		struct cpuid_request req = {.cpu = cpu, .cpus = cpus, .capacity = ENTRIES};
		union table t = intel();

		cpuid_prepare(&t.head, &req);
		check_leaf_1(&t, cpu, cpus, bits);
		check_leaf_b(&t, 0xb, cpu, cpus, bits);
		check_leaf_b(&t, 0x1f, cpu, cpus, bits);
		cr_assert_eq(get(&t, 4, 0)->eax >> 14 & 0xfff, 0, "L1 is private");
		cr_assert_eq(get(&t, 4, 1)->eax >> 14 & 0xfff, 0, "L2 is private");
		cr_assert_eq(get(&t, 4, 2)->eax >> 14 & 0xfff, (1u << bits) - 1, "L3 is shared");
		cr_assert_eq(get(&t, 4, 2)->eax >> 26, (1u << bits) - 1, "core ids");
		cr_assert_eq(get(&t, 4, 2)->eax & 0x3fff, 0x163 & 0x3fff, "type and level stay");
		cr_assert_eq(get(&t, 4, 3)->eax, 0);
		cr_assert_eq(get(&t, 0x80000008, 0)->ecx, 0x7fff, "reserved on Intel, untouched");
		cr_assert_eq(get(&t, 0x80000001, 0)->ecx, 0x121);
	}
}

Test(boot_cpuid, amd_topology)
{
	for (unsigned i = 0; i < SIZES; i++) {
		uint32_t cpus = sizes[i].cpus, bits = sizes[i].bits, cpu = cpus - 1;
		struct cpuid_request req = {.cpu = cpu, .cpus = cpus, .capacity = ENTRIES};
		union table t = amd();

		cpuid_prepare(&t.head, &req);
		check_leaf_1(&t, cpu, cpus, bits);
		check_leaf_b(&t, 0xb, cpu, cpus, bits);
		cr_assert_null(get(&t, 0x1f, 0), "not invented");
		cr_assert_null(get(&t, 0x80000026, 0), "the host's");
		cr_assert_eq(get(&t, 0x80000008, 0)->ecx & 0xff, cpus - 1);
		cr_assert_eq(get(&t, 0x80000008, 0)->ecx >> 12 & 0xf, bits);
		cr_assert_eq(get(&t, 0x80000001, 0)->ecx >> 1 & 1, cpus > 1, "CmpLegacy");
		cr_assert_eq(get(&t, 0x8000001d, 0)->eax >> 14 & 0xfff, 0);
		cr_assert_eq(get(&t, 0x8000001d, 3)->eax >> 14 & 0xfff, cpus - 1);
		cr_assert_eq(get(&t, 0x8000001d, 3)->eax >> 26, 0);
		cr_assert_eq(get(&t, 0x8000001e, 0)->eax, cpu);
		cr_assert_eq(get(&t, 0x8000001e, 0)->ebx, cpu, "one thread per core");
		cr_assert_eq(get(&t, 0x8000001e, 0)->ecx, 0, "one node");
	}
}

Test(boot_cpuid, twice_is_as_good_as_once)
{
	struct cpuid_request req = {.cpu = 1, .cpus = 2, .capacity = ENTRIES, .tsc_deadline = true};
	union table once = intel(), twice;

	cpuid_prepare(&once.head, &req);
	twice = once;
	cpuid_prepare(&twice.head, &req);
	cr_assert_arr_eq(&twice, &once, sizeof(once));
}

Test(boot_cpuid, only_the_ids_differ_between_cpus)
{
	struct cpuid_request req = {.cpus = 2, .capacity = ENTRIES};
	union table a = intel(), b = intel();

	cpuid_prepare(&a.head, &req);
	req.cpu = 1;
	cpuid_prepare(&b.head, &req);
	cr_assert_eq(a.head.nent, b.head.nent);
	for (uint32_t i = 0; i < a.head.nent; i++) {
		if (a.head.entries[i].function == 1)
			a.head.entries[i].ebx |= 1u << 24;
		if (a.head.entries[i].function == 0xb || a.head.entries[i].function == 0x1f)
			a.head.entries[i].edx = 1;
	}
	cr_assert_arr_eq(&a, &b, sizeof(a));
}

Test(boot_cpuid, tsc_deadline_as_asked)
{
	struct cpuid_request req = {.cpus = 1, .capacity = ENTRIES, .tsc_deadline = true};
	union table t = intel();

	cpuid_prepare(&t.head, &req);
	cr_assert_eq(get(&t, 1, 0)->ecx >> 24 & 1, 1);
	req.tsc_deadline = false;
	cpuid_prepare(&t.head, &req);
	cr_assert_eq(get(&t, 1, 0)->ecx >> 24 & 1, 0);
}

Test(boot_cpuid, an_ordinary_host_keeps_its_features)
{
	struct cpuid_request req = {.cpus = 1, .capacity = ENTRIES};
	union table before = intel(), t = before;

	cpuid_prepare(&t.head, &req);
	cr_assert_eq(get(&t, 1, 0)->ecx | 1u << 31, get(&before, 1, 0)->ecx | 1u << 31);
	cr_assert_eq(get(&t, 7, 0)->ebx, get(&before, 7, 0)->ebx);
	cr_assert_eq(get(&t, 7, 0)->ecx, get(&before, 7, 0)->ecx);
	cr_assert_eq(get(&t, 0x40000001, 0)->eax, get(&before, 0x40000001, 0)->eax);
	cr_assert_eq(get(&t, 0x80000001, 0)->edx, get(&before, 0x80000001, 0)->edx);
}

Test(boot_cpuid, an_emulating_host_hides_what_it_lacks)
{
	struct cpuid_request req = {.cpus = 1, .capacity = ENTRIES, .emulating = true};
	union table t = intel();
	/* PV_UNHALT, PV_SEND_IPI, PV_SCHED_YIELD, MMU_OP, HC_MAP_GPA_RANGE */
	const uint32_t hypercalls = 1u << 7 | 1u << 11 | 1u << 13 | 1u << 2 | 1u << 16;

	cpuid_prepare(&t.head, &req);
	cr_assert_eq(get(&t, 1, 0)->ecx >> 13 & 1, 0, "CX16");
	cr_assert_eq(get(&t, 7, 0)->ebx, 1u << 5, "no INVPCID, no FSGSBASE");
	cr_assert_eq(get(&t, 7, 0)->ecx, 1u << 2, "no RDPID");
	cr_assert_eq(get(&t, 7, 1)->ebx, 1u << 10, "another sub-leaf's bit");
	cr_assert_eq(get(&t, 0x80000001, 0)->edx, 1u << 29, "no RDTSCP");
	cr_assert_eq(get(&t, 0x40000001, 0)->eax & hypercalls, 0);
	cr_assert_eq(get(&t, 0x40000001, 0)->eax, 0x01007efb & ~hypercalls, "the clock stays");
}

Test(boot_cpuid, no_room_for_the_topology_leaf)
{
	struct cpuid_request req = {.cpu = 1, .cpus = 2};
	union table t = amd();
	uint32_t nent = t.head.nent;

	cpuid_prepare(&t.head, &req);
	cr_assert_leq(t.head.nent, nent, "nothing is written behind the array");
	cr_assert(!get(&t, 0xb, 0) == !get(&t, 0xb, 2), "all of it or nothing");
}

Test(boot_cpuid, leaves_may_be_missing)
{
	struct cpuid_request req = {.cpus = 1, .capacity = ENTRIES};
	union table t = {0};

	cpuid_prepare(&t.head, &req);
	cr_assert_eq(t.head.nent, 0);
}
