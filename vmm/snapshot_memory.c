/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory in a file: region behind region, as they follow each other in guest memory. Pages of
 * zeroes are holes, so the file takes the space of what the guest has touched.
 *
 * The digest is over the pages that are not zero, each with its number in front, so that it is the
 * same whether zeroes are holes or were written.
 *
 * A page that was never touched need not be looked at, which would have the host map a page of
 * zeroes for it: /proc/self/pagemap says which are neither in memory nor swapped out. Where a file
 * lies underneath (the kernel cache, or the snapshot that the machine came from) that says nothing.
 *
 * A restored machine maps the file privately: nothing is read before the guest asks for it, and
 * machines restored from one snapshot share the host's page cache.
 *
 * System calls: openat, ftruncate, pwrite64, lseek, pread64, fstat, mmap, close.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sha2.h>

#include "minivm/file.h"
#include "minivm/memory.h"
#include "minivm/snapshot.h"

#define PAGE GUEST_PAGE_SIZE
/* At most so much in one write. */
#define RUN_PAGES 256u

static bool is_zero(const uint8_t *page)
{
	static const uint8_t zero[PAGE];

	/* Most pages with anything in them have it at the start. */
	return memcmp(page, zero, 64) == 0 && memcmp(page, zero, PAGE) == 0;
}

static void digest_page(SHA2_CTX *ctx, uint64_t number, const uint8_t *page)
{
	uint8_t head[8];

	for (unsigned i = 0; i < 8; i++)
		head[i] = (uint8_t)(number >> (8 * i));
	SHA256Update(ctx, head, sizeof(head));
	SHA256Update(ctx, page, PAGE);
}

/* --- writing --- */

/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
#define PAGEMAP_THERE (3ull << 62)
#define PAGEMAP_PAGES 512u

struct memory_writer {
	const struct guest_mem *mem;
	int fd;
	int pagemap; /* -1: all is looked at */
	SHA2_CTX ctx;
	uint64_t number; /* in the file, of the region's first page */
	uint64_t entry[PAGEMAP_PAGES];
	uint64_t entries_at; /* the region's page that entry[0] is of */
	uint64_t entries;
};

/* Fetches the map's entries from page `at` on; without them everything is looked at. */
static void fetch_entries(struct memory_writer *mw, const struct guest_region *r, uint64_t at)
{
	uint64_t first = (uintptr_t)r->host / PAGE + at;
	uint64_t left = r->len / PAGE - at;
	size_t bytes = (left < PAGEMAP_PAGES ? left : PAGEMAP_PAGES) * sizeof(mw->entry[0]);
	ssize_t n = pread(mw->pagemap, mw->entry, bytes, (off_t)(first * sizeof(mw->entry[0])));

	mw->entries_at = at;
	mw->entries = n > 0 ? (uint64_t)n / sizeof(mw->entry[0]) : 0;
}

static bool is_untouched(struct memory_writer *mw, const struct guest_region *r, uint64_t at)
{
	if (mw->pagemap < 0 || guest_mem_is_file(mw->mem, gpa_add(r->gpa, at * PAGE)))
		return false;
	if (at < mw->entries_at || at - mw->entries_at >= mw->entries)
		fetch_entries(mw, r, at);
	return mw->entries > 0 && (mw->entry[at - mw->entries_at] & PAGEMAP_THERE) == 0;
}

/* The pages from `at` on that are not zero, up to RUN_PAGES. */
static uint64_t run_length(struct memory_writer *mw, const struct guest_region *r, uint64_t at)
{
	uint64_t pages = r->len / PAGE;
	uint64_t n = 0;

	while (n < RUN_PAGES && at + n < pages && !is_untouched(mw, r, at + n) &&
	       !is_zero(r->host + (at + n) * PAGE))
		n++;
	return n;
}

static int write_region(struct memory_writer *mw, const struct guest_region *r)
{
	uint64_t pages = r->len / PAGE;
	int ret = 0;

	mw->entries = 0;
	for (uint64_t at = 0; !ret && at < pages;) {
		uint64_t run = run_length(mw, r, at);

		if (run == 0) {
			at++;
			continue;
		}
		for (uint64_t i = at; i < at + run; i++)
			digest_page(&mw->ctx, mw->number + i, r->host + i * PAGE);
		ret = file_write_at(mw->fd, r->host + at * PAGE, run * PAGE,
				    (mw->number + at) * PAGE);
		at += run;
	}
	return ret;
}

int snapshot_write_memory(const struct guest_mem *mem, int fd, struct snapshot_memory *out)
{
	struct memory_writer mw = {.mem = mem, .fd = fd};
	int ret = 0;

	out->file_bytes = guest_mem_bytes(mem);
	SHA256Init(&mw.ctx);
	if (ftruncate(fd, (off_t)out->file_bytes) < 0)
		return -errno;
	mw.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; !ret && i < mem->count; i++) {
		ret = write_region(&mw, &mem->region[i]);
		mw.number += mem->region[i].len / PAGE;
	}
	if (mw.pagemap >= 0)
		close(mw.pagemap);
	SHA256Final(out->digest, &mw.ctx);
	return ret;
}

/* --- checking --- */

static int digest_run(int fd, SHA2_CTX *ctx, uint64_t off, uint64_t end)
{
	uint8_t page[PAGE];
	int ret = 0;

	for (off -= off % PAGE; !ret && off < end; off += PAGE) {
		ret = file_read_at(fd, page, PAGE, off);
		if (!ret && !is_zero(page))
			digest_page(ctx, off / PAGE, page);
	}
	return ret;
}

int snapshot_digest_memory(int fd, struct snapshot_memory *out)
{
	uint64_t end = 0;
	SHA2_CTX ctx;
	int ret = 0;

	SHA256Init(&ctx);
	while (!ret && end < out->file_bytes) {
		off_t data = lseek(fd, (off_t)end, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno == ENXIO)
			break; /* holes up to the end */
		if (data < 0)
			return -errno;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		end = (uint64_t)hole < out->file_bytes ? (uint64_t)hole : out->file_bytes;
		ret = digest_run(fd, &ctx, (uint64_t)data, end);
		/* The last page of the run was looked at whole. */
		end = (end + PAGE - 1) / PAGE * PAGE;
	}
	SHA256Final(out->digest, &ctx);
	return ret;
}

/* --- mapping --- */

int snapshot_map_memory(struct guest_mem *mem, int fd, const struct snapshot_memory *memory,
			struct err *err)
{
	uint64_t offset = 0;
	struct stat st;
	int ret = 0;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "memory file");
	if ((uint64_t)st.st_size != memory->file_bytes ||
	    memory->file_bytes != guest_mem_bytes(mem))
		return state_bad(err, "a memory file of %lld bytes for a machine of %llu",
				 (long long)st.st_size, (unsigned long long)guest_mem_bytes(mem));
	for (unsigned i = 0; !ret && i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];

		ret = guest_mem_map_file(mem, r->gpa, r->len, fd, offset, err);
		offset += r->len;
	}
	return ret;
}
