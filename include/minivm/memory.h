/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: regions of host memory at guest physical addresses, and the only ways to reach
 * their bytes. Everything a guest can name (an address, a length) is checked here: overflow, holes
 * and region ends. Callers get -EFAULT or NULL, never a stray pointer.
 *
 * The region table does not change while the machine runs, so all accessors are lock-free and may
 * be called from any thread. The bytes themselves are shared with the running guest: read them
 * once, into your own memory, before you check them.
 */
#ifndef MINIVM_MEMORY_H
#define MINIVM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"

/* A guest physical address. A struct, so that it is neither dereferenced nor mixed with a length.
 */
typedef struct {
	uint64_t v;
} gpa_t;

#define GPA(x) ((gpa_t){(uint64_t)(x)})

/* gpa + n; wraps like the hardware would, accessors then refuse it. */
static inline gpa_t gpa_add(gpa_t gpa, uint64_t n)
{
	return GPA(gpa.v + n);
}

#define GUEST_PAGE_SIZE 4096u

/* docs/architecture.md "What is where". RAM below the hole, and above 4 GiB. */
#define GUEST_MMIO_HOLE_START 0xc0000000ull
#define GUEST_MMIO_HOLE_END   0x100000000ull

#define GUEST_REGIONS_MAX 4

struct guest_region {
	gpa_t gpa;     /* page-aligned */
	uint64_t len;  /* bytes, a multiple of the page size */
	uint8_t *host; /* len bytes, read-write */
};

/* The pages behind guest memory. */
enum guest_pages {
	GUEST_PAGES_SMALL,	 /* 4 KiB, never more: the least memory */
	GUEST_PAGES_TRANSPARENT, /* the host may use huge pages where it finds them (THP) */
	GUEST_PAGES_2M,		 /* from the host's reserve of 2 MiB pages, all of them at once */
};
#define GUEST_HUGE_PAGE_SIZE (2ull << 20)

/* Guest addresses behind which a file is, or was. */
struct guest_span {
	uint64_t start;
	uint64_t end;
};
#define GUEST_SPANS_MAX 32

struct guest_mem {
	enum guest_pages pages;
	unsigned span_count; /* more than GUEST_SPANS_MAX: they are not known, take it for all */
	struct guest_span span[GUEST_SPANS_MAX];
	unsigned count;
	struct guest_region region[GUEST_REGIONS_MAX]; /* sorted by gpa, no overlap */
};

/*
 * Maps `bytes` (a multiple of the page size, not 0) of zeroed private memory, split around the MMIO
 * hole. Host memory is taken only as the guest touches it. On success the caller owns the regions
 * and ends them with guest_mem_unmap(). Errors: -ENOMEM, -EINVAL.
 */
int guest_mem_map(struct guest_mem *mem, uint64_t bytes, struct err *err);
/* The same with a choice of pages; with GUEST_PAGES_2M `bytes` is a multiple of 2 MiB. */
int guest_mem_map_pages(struct guest_mem *mem, uint64_t bytes, enum guest_pages pages,
			struct err *err);
void guest_mem_unmap(struct guest_mem *mem);

/*
 * Puts bytes of a file where [gpa, gpa + len) is, as a private copy on write: the file is not
 * changed by the guest, and must not be changed or cut short by anybody. All of it page-aligned.
 * Before the machine runs. -ENOMEM outside of RAM; -EOPNOTSUPP with GUEST_PAGES_2M, whose pages
 * cannot be mixed with a file's.
 */
int guest_mem_map_file(struct guest_mem *mem, gpa_t gpa, uint64_t len, int fd, uint64_t offset,
		       struct err *err);

/*
 * Gives the pages of [gpa, gpa + len) back to the host: the whole ones among them, which read as
 * zeroes from then on, whatever was behind them. While the machine runs; `len` not 0. -EFAULT: not
 * in one region; -EOPNOTSUPP: pages of 2 MiB, which are left as they are.
 */
int guest_mem_discard(const struct guest_mem *mem, gpa_t gpa, uint64_t len);

/* May the page at `gpa` be a file's, so that it has contents before anybody touches it? */
bool guest_mem_is_file(const struct guest_mem *mem, gpa_t gpa);

/* Bytes of RAM in all, and the end of RAM below the hole. */
uint64_t guest_mem_bytes(const struct guest_mem *mem);
uint64_t guest_mem_low_end(const struct guest_mem *mem);

/*
 * The host address of [gpa, gpa + len), or NULL unless all of it lies in one region. len may be 0
 * (then gpa must still be inside a region or at its end). The pointer stays good as long as `mem`.
 */
void *guest_mem_slice(const struct guest_mem *mem, gpa_t gpa, uint64_t len);

/* Copy out of and into guest memory, across adjoining regions never. 0 or -EFAULT (nothing done).
 */
int guest_mem_read(const struct guest_mem *mem, gpa_t gpa, void *dst, size_t len);
int guest_mem_write(const struct guest_mem *mem, gpa_t gpa, const void *src, size_t len);
/*
 * The guest address of a byte of a region, as guest_mem_slice() gave it for a length that was not
 * 0; GPA(UINT64_MAX): there is none.
 */
gpa_t guest_mem_gpa(const struct guest_mem *mem, const void *host);
int guest_mem_zero(const struct guest_mem *mem, gpa_t gpa, uint64_t len);

#endif
