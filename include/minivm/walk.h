/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest page walk: what the processor's paging unit would do with a linear address of a guest in
 * long mode (4-level paging, 5-level with CR4.LA57; pages of 4 KiB, 2 MiB and 1 GiB). Used by the
 * instruction assist (assist.h), which must see memory as the guest's own instructions do.
 *
 * References: Intel SDM vol. 3 §4.5 to §4.8, AMD APM vol. 2 §5.3 to §5.6.
 *
 * Not looked at: protection keys (CR4.PKE; Linux without XSAVE has none) and shadow stacks.
 */
#ifndef MINIVM_WALK_H
#define MINIVM_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/memory.h"

/* The control state that a walk depends on, as KVM_GET_SREGS and KVM_GET_REGS report it. */
struct walk_state {
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
	uint64_t rflags;     /* RFLAGS.AC lifts SMAP for explicit supervisor accesses */
	uint8_t phys_bits;   /* MAXPHYADDR, 32 to 52: address bits above it are reserved */
	bool gigabyte_pages; /* the guest's CPU has them; else PDPTE.PS is reserved */
};

/* What the access is; a plain supervisor read is 0. */
enum walk_access {
	WALK_WRITE = 1u << 0,
	WALK_USER = 1u << 1,  /* made at CPL 3 */
	WALK_FETCH = 1u << 2, /* instruction fetch; not together with WALK_WRITE */
	WALK_IMPLICIT =
	    1u << 3,	     /* supervisor access to a system structure (GDT): AC does not help */
	WALK_PEEK = 1u << 4, /* the VMM's own look: accessed and dirty bits stay as they are */
};

/* Page-fault error code (SDM vol. 3 figure 4-12). */
enum {
	PF_ERR_PRESENT = 1u << 0,
	PF_ERR_WRITE = 1u << 1,
	PF_ERR_USER = 1u << 2,
	PF_ERR_RESERVED = 1u << 3,
	PF_ERR_FETCH = 1u << 4,
};

enum walk_status {
	WALK_OK,
	WALK_FAULT,	   /* #PF with result.error_code; CR2 is the address that was asked for */
	WALK_NONCANONICAL, /* #GP(0), or #SS(0) for a stack access: the caller knows */
	WALK_AGAIN,	  /* the tables change under the walk: let the guest run the access again */
	WALK_UNSUPPORTED, /* the guest is not in long mode with paging */
};

struct walk_result {
	gpa_t gpa;	     /* WALK_OK: of the first byte; not necessarily RAM */
	uint64_t page_left;  /* WALK_OK: bytes from there to the end of the page, at least 1 */
	uint32_t error_code; /* WALK_FAULT */
};

/*
 * Translates one linear address. Each table entry is read once and its accessed (on writes: dirty)
 * bit is set with a compare-and-exchange against the value read, after the whole walk has been
 * found permitted. A table outside of RAM reads as all ones, as it would on a bus. From any thread.
 */
enum walk_status walk_translate(const struct guest_mem *mem, const struct walk_state *state,
				uint64_t linear, unsigned access, struct walk_result *result);

/* Is this address canonical (sign-extended from bit 47, or 56 with CR4.LA57)? */
bool walk_canonical(uint64_t cr4, uint64_t linear);

/*
 * Copies [linear, linear + len) out of the guest's address space, across pages, for looks of the
 * VMM itself: WALK_PEEK is implied. False if any byte is not accessible so, or not in RAM; `dst`
 * may then be partly written.
 */
bool walk_peek(const struct guest_mem *mem, const struct walk_state *state, uint64_t linear,
	       unsigned access, void *dst, unsigned len);

#endif
