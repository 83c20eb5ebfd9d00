/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest without KVM for the tests of walk and assist: 4 MiB of RAM at guest physical address 0,
 * page tables that grow page by page, and a CPU whose registers are plain structures behind struct
 * assist_cpu_ops.
 */
#ifndef TESTS_UNIT_ASSIST_FAKE_H
#define TESTS_UNIT_ASSIST_FAKE_H

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/assist.h"
#include "minivm/walk.h"

#ifndef FAKE_RAM
#define FAKE_RAM (4u << 20)
#endif
#define FAKE_TABLES 0x1000u /* page tables from here on */

enum {
	P = 1u << 0,
	W = 1u << 1,
	U = 1u << 2,
	A = 1u << 5,
	D = 1u << 6,
	PS = 1u << 7,
};
#define NX (1ull << 63)

struct fake {
	uint8_t *ram;
	struct guest_mem mem;
	uint64_t next_table;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t xcr0;
	struct kvm_vcpu_events events;
	struct kvm_debugregs dr;
	uint64_t star, lstar, sfmask, tsc, tsc_aux;
	struct kvm_guest_debug debug;
	unsigned flushes; /* set_sregs with another CR3 */
	unsigned calls;	  /* of all ops */
	unsigned debug_calls;
	int fail; /* what all ops return */
	struct assist a;
	struct kvm_xsave xsave; /* last: it ends in a flexible array */
};

static inline struct fake *fake_enter(void *cpu)
{
	struct fake *f = cpu;

	f->calls++;
	return f;
}

#define FAKE_GET(name, type, field)                                                                \
	static inline int fake_get_##name(void *cpu, type *out)                                    \
	{                                                                                          \
		struct fake *f = fake_enter(cpu);                                                  \
		*out = f->field;                                                                   \
		return f->fail;                                                                    \
	}
#define FAKE_SET(name, type, field)                                                                \
	static inline int fake_set_##name(void *cpu, const type *in)                               \
	{                                                                                          \
		struct fake *f = fake_enter(cpu);                                                  \
		if (!f->fail)                                                                      \
			f->field = *in;                                                            \
		return f->fail;                                                                    \
	}

FAKE_GET(regs, struct kvm_regs, regs)
FAKE_GET(sregs, struct kvm_sregs, sregs)
FAKE_GET(xsave, struct kvm_xsave, xsave)
FAKE_SET(xsave, struct kvm_xsave, xsave)
FAKE_GET(xcr0, uint64_t, xcr0)
FAKE_GET(events, struct kvm_vcpu_events, events)
FAKE_GET(debugregs, struct kvm_debugregs, dr)
FAKE_SET(debugregs, struct kvm_debugregs, dr)

/* KVM_SET_REGS drops a pending exception. */
static inline int fake_set_regs(void *cpu, const struct kvm_regs *in)
{
	struct fake *f = fake_enter(cpu);

	if (f->fail)
		return f->fail;
	f->regs = *in;
	f->events.exception.pending = 0;
	return 0;
}

static inline int fake_set_sregs(void *cpu, const struct kvm_sregs *in)
{
	struct fake *f = fake_enter(cpu);

	if (f->fail)
		return f->fail;
	f->flushes += in->cr3 != f->sregs.cr3;
	f->sregs = *in;
	return 0;
}

/* Like KVM: parts without their VALID flag stay as they are. */
static inline int fake_set_events(void *cpu, const struct kvm_vcpu_events *in)
{
	struct fake *f = fake_enter(cpu);

	if (f->fail)
		return f->fail;
	if (in->flags & ~(uint32_t)KVM_VCPUEVENT_VALID_SHADOW)
		return -EINVAL;
	if (in->exception.injected && (in->exception.nr > 31 || in->exception.nr == 2))
		return -EINVAL;
	f->events.exception = in->exception;
	f->events.interrupt.injected = in->interrupt.injected;
	f->events.interrupt.nr = in->interrupt.nr;
	if (in->flags & KVM_VCPUEVENT_VALID_SHADOW)
		f->events.interrupt.shadow = in->interrupt.shadow;
	return 0;
}

static inline int fake_get_msr(void *cpu, uint32_t index, uint64_t *value)
{
	struct fake *f = fake_enter(cpu);

	switch (index) {
	case 0x10:
		*value = f->tsc;
		break;
	case 0xc0000081:
		*value = f->star;
		break;
	case 0xc0000082:
		*value = f->lstar;
		break;
	case 0xc0000084:
		*value = f->sfmask;
		break;
	case 0xc0000103:
		*value = f->tsc_aux;
		break;
	default:
		return -EIO;
	}
	return f->fail;
}

static inline int fake_set_guest_debug(void *cpu, const struct kvm_guest_debug *in)
{
	struct fake *f = fake_enter(cpu);

	if (f->fail)
		return f->fail;
	f->debug_calls++;
	f->debug = *in;
	return 0;
}

static const struct assist_cpu_ops fake_ops = {
    .get_regs = fake_get_regs,
    .set_regs = fake_set_regs,
    .get_sregs = fake_get_sregs,
    .set_sregs = fake_set_sregs,
    .get_xsave = fake_get_xsave,
    .set_xsave = fake_set_xsave,
    .get_xcr0 = fake_get_xcr0,
    .get_events = fake_get_events,
    .set_events = fake_set_events,
    .get_debugregs = fake_get_debugregs,
    .set_debugregs = fake_set_debugregs,
    .get_msr = fake_get_msr,
    .set_guest_debug = fake_set_guest_debug,
};

static inline uint64_t *fake_entry(struct fake *f, uint64_t table, unsigned index)
{
	return (uint64_t *)(void *)(f->ram + table + 8 * (uint64_t)index);
}

/* The entry that maps `linear` at `level` (1 = page table); makes the tables above, all rights. */
static inline uint64_t *fake_pte(struct fake *f, uint64_t linear, unsigned level)
{
	unsigned top = f->sregs.cr4 & (1u << 12) ? 5 : 4;
	uint64_t table = f->sregs.cr3 & ~0xfffull;

	for (unsigned l = top; l > level; l--) {
		uint64_t *e = fake_entry(f, table, (linear >> (12 + 9 * (l - 1))) & 0x1ff);

		if (!(*e & P)) {
			*e = f->next_table | P | W | U;
			f->next_table += 0x1000;
			assert(f->next_table < FAKE_RAM / 2);
		}
		table = *e & 0x000ffffffffff000ull;
	}
	return fake_entry(f, table, (linear >> (12 + 9 * (level - 1))) & 0x1ff);
}

/* A 4 KiB page. */
static inline uint64_t *fake_map(struct fake *f, uint64_t linear, uint64_t gpa, uint64_t flags)
{
	uint64_t *pte = fake_pte(f, linear, 1);

	*pte = gpa | flags;
	return pte;
}

/*
 * Long mode, CPL 0, as Linux runs: WP, SMEP, SMAP, NX, SSE. No page is mapped. `ram`: FAKE_RAM
 * bytes, page-aligned, which are cleared.
 */
static inline void fake_init_in(struct fake *f, uint8_t *ram)
{
	struct assist_setup setup = {
	    .mem = &f->mem,
	    .ops = &fake_ops,
	    .cpu = f,
	    .phys_bits = 40,
	    .gigabyte_pages = true,
	};

	*f = (struct fake){.next_table = FAKE_TABLES + 0x1000};
	f->ram = ram;
	memset(f->ram, 0, FAKE_RAM);
	f->mem.count = 1;
	f->mem.region[0] = (struct guest_region){.gpa = GPA(0), .len = FAKE_RAM, .host = f->ram};
	f->sregs.cr0 = 0x80050033;
	f->sregs.cr3 = FAKE_TABLES;
	f->sregs.cr4 = 1u << 5 | 1u << 9 | 1u << 10 | 1u << 20 | 1u << 21;
	f->sregs.efer = 0xd01;
	f->sregs.cs = (struct kvm_segment){.selector = 0x10, .l = 1, .present = 1, .type = 0xb};
	f->regs.rflags = 2;
	f->xsave.region[0] = 0x37f;
	f->xsave.region[6] = 0x1f80;
	f->xcr0 = 7;
	f->dr.dr6 = 0xffff0ff0;
	f->dr.dr7 = 0x400;
	assist_init(&f->a, &setup);
}

static inline void fake_init(struct fake *f)
{
	uint8_t *ram = aligned_alloc(4096, FAKE_RAM);

	assert(ram);
	fake_init_in(f, ram);
}

static inline void fake_user(struct fake *f)
{
	f->sregs.cs.selector = 0x33;
	f->sregs.cs.dpl = 3;
}

static inline void fake_free(struct fake *f)
{
	free(f->ram);
}

/* A general register by its encoding. */
static inline __u64 *fake_gpr(struct kvm_regs *r, unsigned encoding)
{
	__u64 *const by_encoding[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp,
					&r->rsi, &r->rdi, &r->r8,  &r->r9,  &r->r10, &r->r11,
					&r->r12, &r->r13, &r->r14, &r->r15};

	return by_encoding[encoding];
}

static inline struct walk_state fake_walk_state(const struct fake *f)
{
	return (struct walk_state){
	    .cr0 = f->sregs.cr0,
	    .cr3 = f->sregs.cr3,
	    .cr4 = f->sregs.cr4,
	    .efer = f->sregs.efer,
	    .rflags = f->regs.rflags,
	    .phys_bits = 40,
	    .gigabyte_pages = true,
	};
}

#endif
