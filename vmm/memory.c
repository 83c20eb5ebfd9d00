/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory (include/minivm/memory.h).
 *
 * Theory of operation: a machine has at most a handful of regions, sorted by address, and the table
 * is constant while the machine runs; a linear search over it is all that is needed and takes no
 * lock. guest_mem_slice() is the one place where a guest address becomes a host pointer, every
 * other accessor goes through it.
 *
 * The regions are private anonymous mappings, with MAP_NORESERVE but for pages from the host's
 * reserve: the host hands out a page when the guest first touches it. Parts of them may be private
 * mappings of a file (the kernel cache).
 */
#include "minivm/memory.h"

#include <assert.h>
#include <errno.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Anonymous memory at an address that is aligned as the guest's is, modulo a huge page: only then
 * can one huge page of the host stand behind one of the guest.
 */
static void *map_aligned(uint64_t len)
{
	const uint64_t huge = GUEST_HUGE_PAGE_SIZE;
	uint8_t *p = mmap(NULL, len + huge, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (p == MAP_FAILED)
		return p;
	head = -(uintptr_t)p % huge;
	if (head)
		munmap(p, head);
	munmap(p + head + len, huge - head);
	return p + head;
}

static void *map_small(uint64_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	/* A host that gives everybody huge pages would back a small guest with large memory. */
	if (p != MAP_FAILED)
		madvise(p, len, MADV_NOHUGEPAGE);
	return p;
}

static void *map_transparent(uint64_t len)
{
	void *p = map_aligned(len);

	if (p != MAP_FAILED)
		madvise(p, len, MADV_HUGEPAGE); /* a host without them ignores it */
	return p;
}

/* Not MAP_NORESERVE: a reserve that is too small is to be told now, not by SIGBUS. */
static void *map_2m(uint64_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
}

static int map_region(struct guest_mem *mem, gpa_t gpa, uint64_t len, struct err *err)
{
	static void *(*const map[])(uint64_t len) = {
	    [GUEST_PAGES_SMALL] = map_small,
	    [GUEST_PAGES_TRANSPARENT] = map_transparent,
	    [GUEST_PAGES_2M] = map_2m,
	};
	void *host = map[mem->pages](len);

	if (host == MAP_FAILED) {
		/* EINVAL and EOVERFLOW here mean a size beyond all bounds: to the user the same. */
		err_sys(err, ENOMEM, "guest memory: cannot map %llu MiB%s",
			(unsigned long long)(len >> 20),
			mem->pages == GUEST_PAGES_2M ? " of 2 MiB pages" : "");
		return err_hint(err, mem->pages == GUEST_PAGES_2M
					 ? "/proc/sys/vm/nr_hugepages says how many the host has"
					 : "ask for less, or see ulimit -v");
	}
	assert(mem->count < GUEST_REGIONS_MAX);
	mem->region[mem->count++] = (struct guest_region){.gpa = gpa, .len = len, .host = host};
	return 0;
}

int guest_mem_map_pages(struct guest_mem *mem, uint64_t bytes, enum guest_pages pages,
			struct err *err)
{
	uint64_t low = bytes < GUEST_MMIO_HOLE_START ? bytes : GUEST_MMIO_HOLE_START;
	uint64_t unit = pages == GUEST_PAGES_2M ? GUEST_HUGE_PAGE_SIZE : GUEST_PAGE_SIZE;
	int rc;

	*mem = (struct guest_mem){.pages = pages};
	if (bytes == 0 || bytes % unit != 0)
		return err_set(err, EINVAL, "guest memory: %llu bytes is not a multiple of %llu",
			       (unsigned long long)bytes, (unsigned long long)unit);
	rc = map_region(mem, GPA(0), low, err);
	if (rc)
		goto fail;
	if (bytes > low) {
		rc = map_region(mem, GPA(GUEST_MMIO_HOLE_END), bytes - low, err);
		if (rc)
			goto fail;
	}
	return 0;
fail:
	guest_mem_unmap(mem);
	return rc;
}

int guest_mem_map(struct guest_mem *mem, uint64_t bytes, struct err *err)
{
	return guest_mem_map_pages(mem, bytes, GUEST_PAGES_SMALL, err);
}

/* Pages of a file that follow one another are one span. */
static void note_file(struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	if (mem->span_count > GUEST_SPANS_MAX)
		return;
	if (mem->span_count > 0 && mem->span[mem->span_count - 1].end == gpa.v) {
		mem->span[mem->span_count - 1].end += len;
		return;
	}
	if (mem->span_count < GUEST_SPANS_MAX)
		mem->span[mem->span_count] = (struct guest_span){gpa.v, gpa.v + len};
	mem->span_count++;
}

int guest_mem_map_file(struct guest_mem *mem, gpa_t gpa, uint64_t len, int fd, uint64_t offset,
		       struct err *err)
{
	void *host = guest_mem_slice(mem, gpa, len);

	assert(gpa.v % GUEST_PAGE_SIZE == 0 && len % GUEST_PAGE_SIZE == 0);
	if (mem->pages == GUEST_PAGES_2M)
		return err_set(err, EOPNOTSUPP, "guest memory: a file among 2 MiB pages");
	if (!host)
		return err_set(err, ENOMEM, "no guest memory at %#llx-%#llx",
			       (unsigned long long)gpa.v, (unsigned long long)(gpa.v + len - 1));
	if (mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)offset) == MAP_FAILED)
		return err_sys(err, errno, "guest memory: mapping a file");
	note_file(mem, gpa, len);
	return 0;
}

/* --- giving pages back --- */

static bool touches_file(const struct guest_mem *mem, uint64_t start, uint64_t end)
{
	if (mem->span_count > GUEST_SPANS_MAX)
		return true;
	for (unsigned i = 0; i < mem->span_count; i++) {
		if (start < mem->span[i].end && mem->span[i].start < end)
			return true;
	}
	return false;
}

bool guest_mem_is_file(const struct guest_mem *mem, gpa_t gpa)
{
	return touches_file(mem, gpa.v, gpa.v + GUEST_PAGE_SIZE);
}

/*
 * MADV_DONTNEED has an anonymous page come back as zeroes, and a file's page as the file's bytes.
 * Over a file's goes anonymous memory. Each piece of that is a mapping, of which a process may have
 * 65,530: beyond that the bytes are cleared, and the pages stay.
 */
static void discard(const struct guest_mem *mem, uint8_t *host, uint64_t start, uint64_t end)
{
	uint64_t len = end - start;

	if (!touches_file(mem, start, end) && madvise(host, len, MADV_DONTNEED) == 0)
		return;
	if (mmap(host, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		memset(host, 0, len);
	else
		madvise(host, len,
			mem->pages == GUEST_PAGES_SMALL ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
}

int guest_mem_discard(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	uint8_t *host = guest_mem_slice(mem, gpa, len);
	uint64_t start, end;

	if (!host)
		return -EFAULT;
	if (mem->pages == GUEST_PAGES_2M)
		return -EOPNOTSUPP;
	start = (gpa.v + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	end = (gpa.v + len) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	if (start < end)
		discard(mem, host + (start - gpa.v), start, end);
	return 0;
}

void guest_mem_unmap(struct guest_mem *mem)
{
	for (unsigned i = 0; i < mem->count; i++)
		munmap(mem->region[i].host, mem->region[i].len);
	*mem = (struct guest_mem){0};
}

uint64_t guest_mem_bytes(const struct guest_mem *mem)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < mem->count; i++)
		sum += mem->region[i].len;
	return sum;
}

uint64_t guest_mem_low_end(const struct guest_mem *mem)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];

		if (r->gpa.v < GUEST_MMIO_HOLE_START)
			end = r->gpa.v + r->len;
	}
	return end;
}

void *guest_mem_slice(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];

		/* Differences, never sums: gpa + len may wrap. */
		if (gpa.v < r->gpa.v)
			break;
		if (gpa.v - r->gpa.v <= r->len && len <= r->len - (gpa.v - r->gpa.v))
			return r->host + (gpa.v - r->gpa.v);
	}
	return NULL;
}

gpa_t guest_mem_gpa(const struct guest_mem *mem, const void *host)
{
	const uint8_t *p = host;

	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];

		if (p >= r->host && p - r->host < (ptrdiff_t)r->len)
			return gpa_add(r->gpa, (uint64_t)(p - r->host));
	}
	return GPA(UINT64_MAX);
}

int guest_mem_read(const struct guest_mem *mem, gpa_t gpa, void *dst, size_t len)
{
	const void *src = guest_mem_slice(mem, gpa, len);

	if (!src)
		return -EFAULT;
	if (len) /* no bytes may come with no pointer */
		memcpy(dst, src, len);
	/*
	 * The guest may change src at any time. Without this the compiler could, once inlined, read
	 * src again in place of the caller's copy, and a check would no longer hold.
	 */
	__asm__ volatile("" ::: "memory");
	return 0;
}

int guest_mem_write(const struct guest_mem *mem, gpa_t gpa, const void *src, size_t len)
{
	void *dst = guest_mem_slice(mem, gpa, len);

	if (!dst)
		return -EFAULT;
	if (len)
		memcpy(dst, src, len);
	return 0;
}

int guest_mem_zero(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	void *dst = guest_mem_slice(mem, gpa, len);

	if (!dst)
		return -EFAULT;
	memset(dst, 0, len);
	return 0;
}
