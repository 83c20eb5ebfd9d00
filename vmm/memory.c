/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory (include/minivm/memory.h).
 *
 * Theory of operation: a machine has at most a handful of regions, sorted by address, and the table
 * is constant while the machine runs; a linear search over it is all that is needed and takes no
 * lock. guest_mem_slice() is the one place where a guest address becomes a host pointer, every
 * other accessor goes through it.
 *
 * The regions are private anonymous mappings with MAP_NORESERVE: the host hands out a page when the
 * guest first touches it.
 */
#include "minivm/memory.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static int map_region(struct guest_mem *mem, gpa_t gpa, uint64_t len, struct err *err)
{
	void *host = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (host == MAP_FAILED) {
		/* EINVAL and EOVERFLOW here mean a size beyond all bounds: to the user the same. */
		err_sys(err, ENOMEM, "guest memory: cannot map %llu MiB",
			(unsigned long long)(len >> 20));
		return err_hint(err, "ask for less, or see ulimit -v");
	}
	assert(mem->count < GUEST_REGIONS_MAX);
	mem->region[mem->count++] = (struct guest_region){.gpa = gpa, .len = len, .host = host};
	return 0;
}

int guest_mem_map(struct guest_mem *mem, uint64_t bytes, struct err *err)
{
	uint64_t low = bytes < GUEST_MMIO_HOLE_START ? bytes : GUEST_MMIO_HOLE_START;
	int rc;

	*mem = (struct guest_mem){0};
	if (bytes == 0 || bytes % GUEST_PAGE_SIZE != 0)
		return err_set(err, EINVAL, "guest memory: %llu bytes is not a multiple of %u",
			       (unsigned long long)bytes, GUEST_PAGE_SIZE);
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
