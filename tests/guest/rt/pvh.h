/* SPDX-License-Identifier: Apache-2.0 */
/* PVH: how we were entered (entry.S notes it), and what EBX points to then. */
#ifndef RT_PVH_H
#define RT_PVH_H

#include <stdint.h>

#define PVH_MAGIC 0x336ec578u

/* Xen public/arch-x86/hvm/start_info.h, version 1 */
struct pvh_info {
	uint32_t magic, version, flags, modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct pvh_memmap {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

/* The processor at the entry point; `info` 0: entered otherwise. In the order of entry.S. */
struct pvh_entry {
	uint32_t info; /* EBX */
	uint32_t eflags;
	uint32_t cr0;
	uint32_t cr4;
	/* The local APIC's version, through each of DS, ES, SS: their limits are 4 GiB. */
	uint32_t version[3];
};
extern const struct pvh_entry rt_pvh_entry;

#endif
