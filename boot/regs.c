/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot processor's state at the entry point, by either protocol:
 *	Linux's (boot.rst "64-bit Boot Protocol"): long mode with paging on, flat segments,
 *	interrupts off, RSI = zero page
 *	PVH (Xen docs/misc/pvh.pandoc): protected mode, flat 32-bit segments, no paging, CR0 = PE
 *	and nothing else that can be written, CR4 = 0, interrupts off, a busy 32-bit TSS of base 0
 *	and limit 0x67, EBX = start info
 *
 * Linux's wants identity mappings of the kernel's range, zero page and command line; 512 large
 * pages, one PML4, PDPT and page directory, cover them (BOOT_MAPPED_END). The GDT has __BOOT_CS at
 * 0x10 and __BOOT_DS at 0x18 as the protocol says; the TSS behind them is there because VMX insists
 * on a busy one in TR (Intel SDM vol. 3 §26.3.1.2). Descriptor formats: Intel SDM vol. 3 §3.4.5.
 */
#include "minivm/boot.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_TR 0x20

#define GDT_ENTRIES 8
#define TSS_LIMIT   0x67

/* Intel SDM vol. 3 §2.5, AMD APM vol. 2 §3.1. */
#define CR0_PE	 (1u << 0)
#define CR0_ET	 (1u << 4)
#define CR0_NE	 (1u << 5)
#define CR0_NW	 (1u << 29)
#define CR0_CD	 (1u << 30)
#define CR0_PG	 (1u << 31)
#define CR4_PAE	 (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define RFLAGS_FIXED 0x2

#define PTE_PRESENT 0x01u
#define PTE_WRITE   0x02u
#define PTE_LARGE   0x80u

#define TABLE_ENTRIES 512
#define LARGE_PAGE    (2ull << 20)

static_assert(TABLE_ENTRIES * LARGE_PAGE == BOOT_MAPPED_END, "one page directory");
static_assert(BOOT_GDT_GPA + GDT_ENTRIES * 8 <= BOOT_IDT_GPA, "GDT below IDT");

static const struct kvm_segment code_segment = {
    .limit = 0xffffffff,
    .selector = BOOT_CS,
    .type = 0xb, /* execute, read, accessed */
    .present = 1,
    .s = 1,
    .l = 1,
    .g = 1,
};

static const struct kvm_segment data_segment = {
    .limit = 0xffffffff,
    .selector = BOOT_DS,
    .type = 0x3, /* read, write, accessed */
    .present = 1,
    .db = 1,
    .s = 1,
    .g = 1,
};

static const struct kvm_segment task_segment = {
    .base = BOOT_TSS_GPA,
    .limit = TSS_LIMIT,
    .selector = BOOT_TR,
    .type = 0xb, /* 64-bit TSS, busy */
    .present = 1,
};

static const struct kvm_segment pvh_code_segment = {
    .limit = 0xffffffff,
    .selector = BOOT_CS,
    .type = 0xb, /* execute, read, accessed */
    .present = 1,
    .db = 1,
    .s = 1,
    .g = 1,
};

static const struct kvm_segment pvh_task_segment = {
    .base = 0,
    .limit = TSS_LIMIT,
    .selector = BOOT_TR,
    .type = 0xb, /* 32-bit TSS, busy */
    .present = 1,
};

/* The 8 bytes of a descriptor; a system descriptor's upper half is zero with a base below 4 GiB. */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t limit = s->g ? s->limit >> 12 : s->limit;
	uint64_t access = s->type | (uint64_t)s->s << 4 | (uint64_t)s->dpl << 5 |
			  (uint64_t)s->present << 7 | (uint64_t)s->avl << 12 |
			  (uint64_t)s->l << 13 | (uint64_t)s->db << 14 | (uint64_t)s->g << 15;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 | access << 40 |
	       (limit >> 16 & 0xf) << 48 | (s->base >> 24 & 0xff) << 56;
}

/* What the segment registers hold, and the descriptors that say the same. */
struct segments {
	const struct kvm_segment *code, *data, *task;
};

static const struct segments long_mode = {&code_segment, &data_segment, &task_segment};
static const struct segments pvh_mode = {&pvh_code_segment, &data_segment, &pvh_task_segment};

static int write_gdt(const struct guest_mem *mem, const struct segments *s)
{
	uint64_t gdt[GDT_ENTRIES] = {
	    [BOOT_CS / 8] = descriptor(s->code),
	    [BOOT_DS / 8] = descriptor(s->data),
	    [BOOT_TR / 8] = descriptor(s->task),
	};

	return guest_mem_write(mem, GPA(BOOT_GDT_GPA), gdt, sizeof(gdt));
}

static int write_page_tables(const struct guest_mem *mem)
{
	uint64_t table[3][TABLE_ENTRIES] = {0};

	table[0][0] = (BOOT_PML4_GPA + sizeof(table[0])) | PTE_PRESENT | PTE_WRITE;
	table[1][0] = (BOOT_PML4_GPA + 2 * sizeof(table[0])) | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < TABLE_ENTRIES; i++)
		table[2][i] = i * LARGE_PAGE | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	return guest_mem_write(mem, GPA(BOOT_PML4_GPA), table, sizeof(table));
}

static int write_tables(const struct guest_mem *mem)
{
	static const uint8_t zeroes[TSS_LIMIT + 1];
	int rc = write_gdt(mem, &long_mode);

	if (!rc)
		rc = guest_mem_write(mem, GPA(BOOT_TSS_GPA), zeroes, sizeof(zeroes));
	if (!rc)
		rc = write_page_tables(mem);
	return rc;
}

static void set_segments(struct kvm_sregs *sregs, const struct segments *s)
{
	sregs->cs = *s->code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = *s->data;
	sregs->tr = *s->task;
	sregs->gdt.base = BOOT_GDT_GPA;
	sregs->gdt.limit = GDT_ENTRIES * 8 - 1;
	sregs->idt.base = BOOT_IDT_GPA;
	sregs->idt.limit = 0; /* no vector fits */
}

static void set_sregs(struct kvm_sregs *sregs)
{
	set_segments(sregs, &long_mode);
	sregs->cr0 &= ~(uint64_t)(CR0_NW | CR0_CD);
	sregs->cr0 |= CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	sregs->cr3 = BOOT_PML4_GPA;
	sregs->cr4 |= CR4_PAE;
	sregs->efer |= EFER_LME | EFER_LMA;
}

int boot_regs_long_mode(const struct guest_mem *mem, uint64_t entry, struct kvm_regs *regs,
			struct kvm_sregs *sregs, struct err *err)
{
	if (write_tables(mem))
		return err_set(err, EFAULT, "no guest memory for page tables and GDT");
	set_sregs(sregs);
	memset(regs, 0, sizeof(*regs));
	regs->rip = entry;
	regs->rsi = BOOT_ZERO_PAGE_GPA;
	regs->rsp = BOOT_STACK_GPA;
	regs->rbp = BOOT_STACK_GPA;
	regs->rflags = RFLAGS_FIXED;
	return 0;
}

int boot_regs_pvh(const struct guest_mem *mem, uint64_t entry, struct kvm_regs *regs,
		  struct kvm_sregs *sregs, struct err *err)
{
	if (write_gdt(mem, &pvh_mode))
		return err_set(err, EFAULT, "no guest memory for the GDT");
	set_segments(sregs, &pvh_mode);
	sregs->cr0 = CR0_PE | CR0_ET; /* ET cannot be 0 */
	sregs->cr3 = 0;
	sregs->cr4 = 0;
	sregs->efer = 0;
	*regs = (struct kvm_regs){.rip = entry, .rbx = BOOT_PVH_INFO_GPA, .rflags = RFLAGS_FIXED};
	return 0;
}
