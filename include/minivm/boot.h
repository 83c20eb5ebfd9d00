/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct kernel boot: pure functions over image bytes and guest memory. No KVM calls (the KVM
 * register structures are used as plain data), no globals, no file access.
 *
 * References: Linux x86 boot protocol (Documentation/x86/boot.rst), ELF-64, Intel MP 1.4.
 */
#ifndef MINIVM_BOOT_H
#define MINIVM_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/err.h"
#include "minivm/memory.h"

/* Fixed places in guest memory, below 1 MiB (house.md "Guest memory map"). */
#define BOOT_GDT_GPA       0x500
#define BOOT_IDT_GPA       0x540
#define BOOT_ZERO_PAGE_GPA 0x7000
#define BOOT_STACK_GPA     0x8ff0
#define BOOT_PML4_GPA      0x9000
#define BOOT_CMDLINE_GPA   0x20000
#define BOOT_CMDLINE_MAX   0x10000 /* room, terminating NUL included */
#define BOOT_MPTABLE_GPA   0x9fc00
#define BOOT_EBDA_GPA      0x9fc00 /* end of conventional memory */

struct bytes {
	const uint8_t *data;
	size_t len;
};

/* --- boot/linux.c: a kernel image into guest memory --- */

struct boot_request {
	const struct guest_mem *mem;
	struct bytes kernel;  /* a whole bzImage or ELF vmlinux */
	struct bytes initrd;  /* len 0: none */
	const char *cmdline;  /* the final command line */
};

enum boot_image {
	BOOT_IMAGE_ELF,              /* vmlinux (or any static 64-bit ELF) */
	BOOT_IMAGE_BZIMAGE_UNPACKED, /* the vmlinux inside a bzImage */
	BOOT_IMAGE_BZIMAGE_RAW,      /* the bzImage itself: it unpacks in the guest */
};

struct boot_result {
	enum boot_image image;
	const char *compression; /* "gzip", ... of the payload; "none" for ELF */
	uint64_t entry;          /* 64-bit entry point, physical */
	uint64_t kernel_end;     /* first byte behind the kernel (bss included) */
};

/*
 * Loads kernel, initrd, command line and zero page. Nothing is kept of the request. Errors say what
 * is wrong with which image ("truncated: ...") and, with too little memory, how much is needed:
 * -ENOEXEC, -EINVAL, -ENOMEM, -E2BIG.
 */
int boot_linux(const struct boot_request *req, struct boot_result *res, struct err *err);

/* --- boot/mptable.c: Intel MultiProcessor Specification 1.4 --- */

/*
 * Writes floating pointer and configuration table at BOOT_MPTABLE_GPA: `cpus` processors with APIC
 * ids 0.., one I/O APIC (id = cpus) at 0xfec00000, ISA IRQs identity-mapped, and LINT0/LINT1.
 */
int mptable_write(const struct guest_mem *mem, unsigned cpus, struct err *err);

/* --- boot/cpuid.c --- */

struct cpuid_request {
	unsigned cpu;      /* this vCPU's index = APIC id */
	unsigned cpus;
	bool emulating;    /* an emulating back end: hide what its emulator lacks (host.md) */
};

/* Edits KVM_GET_SUPPORTED_CPUID's answer in place for one vCPU: topology, APIC id, hypervisor bit. */
void cpuid_prepare(struct kvm_cpuid2 *cpuid, const struct cpuid_request *req);

/* --- boot/regs.c --- */

/*
 * Long mode entry (boot.rst "64-bit boot protocol"): writes GDT and identity page tables into guest
 * memory and fills the two register sets; `sregs` comes from KVM_GET_SREGS, so that the fields we
 * do not set keep KVM's reset values.
 */
int boot_regs_long_mode(const struct guest_mem *mem, uint64_t entry, struct kvm_regs *regs,
			struct kvm_sregs *sregs, struct err *err);

/* --- boot/cmdline.c --- */

struct cmdline {
	char *text; /* malloc'ed, NUL-terminated */
	size_t len;
	size_t cap;
};

/* Appends a word (separated by one space). -E2BIG past BOOT_CMDLINE_MAX, -EINVAL for control chars. */
int cmdline_add(struct cmdline *c, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void cmdline_free(struct cmdline *c);

#endif
