/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct kernel boot: pure functions over image bytes and guest memory. No KVM calls (the KVM
 * register structures are used as plain data), no globals, no file access.
 *
 * References: Linux x86 boot protocol (Documentation/x86/boot.rst), ELF-64, Intel MP 1.4, the
 * x86/HVM direct boot ABI (Xen docs/misc/pvh.pandoc: "PVH").
 */
#ifndef MINIVM_BOOT_H
#define MINIVM_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "minivm/config.h"
#include "minivm/err.h"
#include "minivm/irq.h"
#include "minivm/memory.h"

/* Fixed places in guest memory, below 1 MiB (docs/architecture.md "What is where"). */
#define BOOT_GDT_GPA	   0x500
#define BOOT_IDT_GPA	   0x540
#define BOOT_TSS_GPA	   0x580
#define BOOT_PVH_INFO_GPA  0x6000 /* a page: start info, module list, memory map */
#define BOOT_ZERO_PAGE_GPA 0x7000
#define BOOT_STACK_GPA	   0x8ff0
#define BOOT_PML4_GPA	   0x9000
#define BOOT_CMDLINE_GPA   0x20000
#define BOOT_CMDLINE_MAX   0x10000 /* room, terminating NUL included */
#define BOOT_MPTABLE_GPA   0x9fc00
#define BOOT_EBDA_GPA	   0x9fc00  /* end of conventional memory */
#define BOOT_LOW_END	   0x100000 /* kernel images load at 1 MiB or above */

/* Where KVM has them. */
#define BOOT_IOAPIC_GPA 0xfec00000u
#define BOOT_LAPIC_GPA	0xfee00000u

/* boot_regs_long_mode() maps [0, this) identically; kernels must end below it. */
#define BOOT_MAPPED_END (1ull << 30)

/* A Linux kernel wants this much RAM beyond itself and its initrd. */
#define BOOT_LINUX_SLACK (16ull << 20)

struct bytes {
	const uint8_t *data;
	size_t len;
};

/* --- boot/linux.c: a kernel image into guest memory --- */

struct kernel_image; /* minivm/image.h: kernel_image_parse() */

struct boot_request {
	const struct guest_mem *mem;
	const struct kernel_image *kernel;
	bool kernel_in_place; /* loading its segments is the caller's, before or after */
	struct bytes initrd;  /* len 0: none; data NULL: its bytes are the caller's, afterwards */
	const char *cmdline;  /* the final command line */
	gpa_t rsdp;	      /* ACPI root pointer; 0: none */
	gpa_t setup_data;     /* boot.rst "setup_data": what fdt_write() made; 0: none */
	enum entry_mode entry;
};

enum boot_image {
	BOOT_IMAGE_ELF,		     /* vmlinux (or any static 64-bit ELF) */
	BOOT_IMAGE_BZIMAGE_UNPACKED, /* the vmlinux inside a bzImage */
	BOOT_IMAGE_BZIMAGE_RAW,	     /* the bzImage itself: it unpacks in the guest */
};

struct boot_result {
	enum boot_image image;
	const char *compression; /* "gzip", ... of the payload; "none" for ELF, "unknown" for RAW */
	uint64_t entry;		 /* 64-bit entry point, physical; 0: none */
	uint64_t pvh_entry;	 /* 32-bit PVH entry point; 0: none. Never both 0. */
	uint64_t kernel_end;	 /* first byte behind the kernel (bss included) */
	bool virtio_console;	 /* Linux, with its driver for virtio consoles built in */
	bool pvh;		 /* by boot_linux(): enter at pvh_entry, with boot_regs_pvh() */
	gpa_t initrd;		 /* by boot_linux(): where it is, or is to be put */
};

/*
 * Loads kernel, initrd and command line, and writes the zero page, or, where the kernel will be
 * entered by PVH, the start info. Nothing is kept of the request. Errors name the part at fault
 * ("kernel: it ends ...", "initrd: ...") and, with too little memory, how much is needed: -ENOEXEC
 * (image; it has no such entry), -ENOMEM (guest memory), -E2BIG (command line, initrd), -EINVAL
 * (PVH with setup_data, which it cannot carry).
 *
 * Memory: kernel end + initrd must fit below the MMIO hole, and BOOT_LINUX_SLACK on top of that
 * when the image came from a bzImage or is an ELF that ends at 16 MiB or above, as every vmlinux
 * linked at the usual 16 MiB does. A small freestanding ELF thus runs in 16 MiB.
 */
int boot_linux(const struct boot_request *req, struct boot_result *res, struct err *err);

/* --- what the descriptions of the machine (ACPI, device tree) are made from --- */

#define BOOT_VIRTIO_MAX IRQ_PINS

struct boot_virtio {
	uint32_t base; /* of the virtio-mmio registers */
	unsigned gsi;
};

/* --- boot/mptable.c: Intel MultiProcessor Specification 1.4 --- */

/* The byte that makes all bytes of a table add up to 0 (MP 1.4 §4.1, ACPI 6.4 §5.2.6). */
static inline uint8_t boot_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/*
 * Writes floating pointer and configuration table at BOOT_MPTABLE_GPA: `cpus` (1..32) processors
 * with APIC ids 0.., one I/O APIC (id = cpus) at 0xfec00000, an ISA bus whose IRQs 0..23 (2 aside)
 * are pins 0..23, edge, active high, and LINT0/LINT1. A second floating pointer at 0x10 spares
 * Linux 64 probes on the way to the first. -EINVAL for a bad count, -EFAULT without memory below 1
 * MiB.
 */
int mptable_write(const struct guest_mem *mem, unsigned cpus, struct err *err);

/* --- boot/cpuid.c --- */

struct cpuid_request {
	unsigned cpu; /* this vCPU's index = APIC id */
	unsigned cpus;
	unsigned capacity; /* entries that fit into the array, >= cpuid->nent; 0 = just nent */
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER and an in-kernel LAPIC (KVM never lists it)
			    */
	bool emulating;	   /* an emulating back end: hide what its emulator lacks */
};

/* Give the array room for this many entries more, or leaf 0xb cannot be completed. */
#define CPUID_EXTRA_ENTRIES 6

/*
 * Edits KVM_GET_SUPPORTED_CPUID's answer in place for one vCPU: APIC id, topology (one package of
 * `cpus` single-threaded cores), cache sharing, hypervisor bit, TSC deadline timer. Idempotent.
 */
void cpuid_prepare(struct kvm_cpuid2 *cpuid, const struct cpuid_request *req);

/* --- boot/regs.c --- */

/*
 * Long mode entry (boot.rst "64-bit boot protocol"): writes GDT and identity page tables (to
 * BOOT_MAPPED_END, supervisor, writable) into guest memory and fills the two register sets; `sregs`
 * comes from KVM_GET_SREGS, so that the fields we do not set keep KVM's reset values. The IDT is
 * empty: an exception before the kernel has its own is a triple fault. -EFAULT without low memory.
 */
int boot_regs_long_mode(const struct guest_mem *mem, uint64_t entry, struct kvm_regs *regs,
			struct kvm_sregs *sregs, struct err *err);

/*
 * PVH entry: flat 32-bit protected mode without paging, EBX = BOOT_PVH_INFO_GPA. `sregs` as above;
 * the GDT is written too, though the ABI promises none. -EFAULT without low memory.
 */
int boot_regs_pvh(const struct guest_mem *mem, uint64_t entry, struct kvm_regs *regs,
		  struct kvm_sregs *sregs, struct err *err);

/* --- boot/cmdline.c --- */

struct cmdline {
	char *text; /* malloc'ed, NUL-terminated */
	size_t len;
	size_t cap;
};

/*
 * Appends a word (separated by one space); an empty one adds nothing. Zero-initialise `c` first.
 * -E2BIG past BOOT_CMDLINE_MAX, -EINVAL for control characters, -ENOMEM; `c` then stays as it was.
 */
int cmdline_add(struct cmdline *c, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void cmdline_free(struct cmdline *c);

#endif
