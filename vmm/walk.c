/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest page walk in long mode.
 *
 * Theory of operation. A walk goes down from CR3, one entry a level; it remembers where each entry
 * lies and the value it had. Not-present entries and reserved bits end it at once, as on the
 * processor; the permissions of all levels are gathered on the way (user and write by AND,
 * no-execute by OR) and checked at the end. Only a permitted walk marks its entries accessed and
 * dirty: with a compare-and-exchange against the remembered value, so that an entry which another
 * vCPU changed meanwhile (perhaps to "not present", with a swap slot in its other bits) is never
 * damaged; the walk then starts over, a few times at most, for a guest that rewrites its tables
 * all the time must not hold us up.
 *
 * Entries live in memory that the guest writes at will: each is read once, by a single 8-byte load,
 * and all decisions are made on that copy.
 *
 * The bits are set behind the back of a KVM that shadows these tables. That is harmless: a shadow
 * entry is then only stricter than the guest's, and KVM looks again when it faults.
 */
#include <string.h>

#include "minivm/walk.h"

#define CR0_WP	  (1ull << 16)
#define CR0_PG	  (1ull << 31)
#define CR4_PAE	  (1ull << 5)
#define CR4_LA57  (1ull << 12)
#define CR4_SMEP  (1ull << 20)
#define CR4_SMAP  (1ull << 21)
#define EFER_LMA  (1ull << 10)
#define EFER_NXE  (1ull << 11)
#define RFLAGS_AC (1ull << 18)

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITE    (1ull << 1)
#define PTE_USER     (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY    (1ull << 6)
#define PTE_PAGESIZE (1ull << 7) /* at levels 2 and 3; PAT at level 1, reserved above 3 */
#define PTE_NX	     (1ull << 63)
#define PTE_ADDR     0x000ffffffffff000ull

#define LEVELS_MAX 5
#define TRIES_MAX  4

struct path {
	unsigned levels; /* entries visited */
	gpa_t at[LEVELS_MAX];
	uint64_t value[LEVELS_MAX]; /* as read */
	unsigned page_shift;
	bool user, write, nx; /* effective rights of the page */
};

static unsigned linear_bits(uint64_t cr4)
{
	return cr4 & CR4_LA57 ? 57 : 48;
}

bool walk_canonical(uint64_t cr4, uint64_t linear)
{
	unsigned shift = 64 - linear_bits(cr4);

	return (uint64_t)((int64_t)(linear << shift) >> shift) == linear;
}

/* Physical-address bits that must be 0 in an entry (SDM vol. 3 table 4-14 ff.). */
static uint64_t address_reserved(const struct walk_state *state)
{
	return PTE_ADDR & ~((1ull << state->phys_bits) - 1);
}

static uint64_t reserved_bits(const struct walk_state *state, unsigned level, uint64_t pte)
{
	uint64_t reserved = address_reserved(state);

	if (!(state->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (level >= 4 || (level == 3 && !state->gigabyte_pages))
		reserved |= PTE_PAGESIZE;
	else if (level >= 2 &&
		 (pte & PTE_PAGESIZE)) /* bit 12 is PAT, then zeroes up to the frame */
		reserved |= ((1ull << (12 + 9 * (level - 1))) - 1) & ~0x1fffull;
	return reserved;
}

/* One load of an aligned entry. Tables that are not in RAM read as all ones. */
static uint64_t read_entry(const struct guest_mem *mem, gpa_t at)
{
	const uint64_t *host = guest_mem_slice(mem, at, sizeof(*host));

	return host ? __atomic_load_n(host, __ATOMIC_RELAXED) : ~0ull;
}

#define NOT_PRESENT (-1)

/* Down the tables. 0: `path` ends in a present leaf; else a fault: PF_ERR_* bits or NOT_PRESENT. */
static int descend(const struct guest_mem *mem, const struct walk_state *state, uint64_t linear,
		   struct path *path)
{
	unsigned level = state->cr4 & CR4_LA57 ? 5 : 4;
	uint64_t table = state->cr3 & PTE_ADDR;

	*path = (struct path){.user = true, .write = true};
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		gpa_t at = GPA(table + ((linear >> shift) & 0x1ff) * 8);
		uint64_t pte = read_entry(mem, at);

		if (!(pte & PTE_PRESENT))
			return NOT_PRESENT;
		if (pte & reserved_bits(state, level, pte))
			return PF_ERR_PRESENT | PF_ERR_RESERVED;
		path->at[path->levels] = at;
		path->value[path->levels++] = pte;
		path->user &= !!(pte & PTE_USER);
		path->write &= !!(pte & PTE_WRITE);
		path->nx |= !!(pte & PTE_NX);
		if (level == 1 || (level <= 3 && (pte & PTE_PAGESIZE))) {
			path->page_shift = shift;
			return 0;
		}
		table = pte & PTE_ADDR;
	}
}

/* SDM vol. 3 §4.6.1 "Determination of Access Rights". */
static bool permitted(const struct walk_state *state, const struct path *path, unsigned access)
{
	if (access & WALK_FETCH) {
		if (path->nx)
			return false;
		if (access & WALK_USER)
			return path->user;
		return !(path->user && (state->cr4 & CR4_SMEP));
	}
	if (access & WALK_USER)
		return path->user && (path->write || !(access & WALK_WRITE));
	if (path->user && (state->cr4 & CR4_SMAP) &&
	    ((access & WALK_IMPLICIT) || !(state->rflags & RFLAGS_AC)))
		return false;
	return path->write || !(access & WALK_WRITE) || !(state->cr0 & CR0_WP);
}

/* Sets accessed and dirty bits. False if an entry is no longer what the walk has seen. */
static bool mark(const struct guest_mem *mem, const struct path *path, unsigned access)
{
	for (unsigned i = 0; i < path->levels; i++) {
		uint64_t old = path->value[i];
		uint64_t new = old | PTE_ACCESSED;
		uint64_t *host;

		if ((access & WALK_WRITE) && i == path->levels - 1)
			new |= PTE_DIRTY;
		if (new == old)
			continue;
		host = guest_mem_slice(mem, path->at[i], sizeof(*host));
		/* Relaxed: a bit is set, nothing is published; it pairs with no barrier. */
		if (host && !__atomic_compare_exchange_n(host, &old, new, false, __ATOMIC_RELAXED,
							 __ATOMIC_RELAXED))
			return false;
	}
	return true;
}

static uint32_t fault_code(const struct walk_state *state, unsigned access, uint32_t cause)
{
	uint32_t code = cause;

	if (access & WALK_WRITE)
		code |= PF_ERR_WRITE;
	if (access & WALK_USER)
		code |= PF_ERR_USER;
	if ((access & WALK_FETCH) && ((state->efer & EFER_NXE) || (state->cr4 & CR4_SMEP)))
		code |= PF_ERR_FETCH;
	return code;
}

enum walk_status walk_translate(const struct guest_mem *mem, const struct walk_state *state,
				uint64_t linear, unsigned access, struct walk_result *result)
{
	if (!(state->cr0 & CR0_PG) || !(state->cr4 & CR4_PAE) || !(state->efer & EFER_LMA))
		return WALK_UNSUPPORTED;
	if (!walk_canonical(state->cr4, linear))
		return WALK_NONCANONICAL;
	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		struct path path;
		int cause = descend(mem, state, linear, &path);
		uint64_t offset;

		if (!cause && !permitted(state, &path, access))
			cause = PF_ERR_PRESENT;
		if (cause) {
			result->error_code =
			    fault_code(state, access, cause == NOT_PRESENT ? 0 : (uint32_t)cause);
			return WALK_FAULT;
		}
		if (!(access & WALK_PEEK) && !mark(mem, &path, access))
			continue;
		offset = linear & ((1ull << path.page_shift) - 1);
		result->gpa = GPA(
		    (path.value[path.levels - 1] & PTE_ADDR & ~((1ull << path.page_shift) - 1)) |
		    offset);
		result->page_left = (1ull << path.page_shift) - offset;
		return WALK_OK;
	}
	return WALK_AGAIN;
}

bool walk_peek(const struct guest_mem *mem, const struct walk_state *state, uint64_t linear,
	       unsigned access, void *dst, unsigned len)
{
	uint8_t *to = dst;

	while (len) {
		struct walk_result r;
		unsigned n;

		if (walk_translate(mem, state, linear, access | WALK_PEEK, &r) != WALK_OK)
			return false;
		n = r.page_left < len ? (unsigned)r.page_left : len;
		if (guest_mem_read(mem, r.gpa, to, n))
			return false;
		to += n;
		linear += n;
		len -= n;
	}
	return true;
}
