/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory in a file: region behind region, as they follow each other in guest memory. Pages of
 * zeroes are holes, so the file takes the space of what the guest has touched.
 *
 * The digest is over the pages that are not zero, each with its number in front, so that it is the
 * same whether zeroes are holes or were written.
 *
 * A restored machine maps the file privately: nothing is read before the guest asks for it, and
 * machines restored from one snapshot share the host's page cache.
 *
 * System calls: ftruncate, pwrite64, lseek, pread64, fstat, mmap.
 */
#include <errno.h>
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

struct memory_writer {
	int fd;
	SHA2_CTX ctx;
	uint64_t number; /* in the file, of the region's first page */
};

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t off)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* The pages from `at` on that are not zero, up to RUN_PAGES. */
static uint64_t run_length(const struct guest_region *r, uint64_t at, uint64_t pages)
{
	uint64_t n = 0;

	while (n < RUN_PAGES && at + n < pages && !is_zero(r->host + (at + n) * PAGE))
		n++;
	return n;
}

static int write_region(struct memory_writer *mw, const struct guest_region *r)
{
	uint64_t pages = r->len / PAGE;
	int ret = 0;

	for (uint64_t at = 0; !ret && at < pages;) {
		uint64_t run = run_length(r, at, pages);

		if (run == 0) {
			at++;
			continue;
		}
		for (uint64_t i = at; i < at + run; i++)
			digest_page(&mw->ctx, mw->number + i, r->host + i * PAGE);
		ret = write_all(mw->fd, r->host + at * PAGE, run * PAGE, (mw->number + at) * PAGE);
		at += run;
	}
	return ret;
}

int snapshot_write_memory(const struct guest_mem *mem, int fd, struct snapshot_memory *out)
{
	struct memory_writer mw = {.fd = fd};
	int ret = 0;

	out->file_bytes = guest_mem_bytes(mem);
	SHA256Init(&mw.ctx);
	if (ftruncate(fd, (off_t)out->file_bytes) < 0)
		return -errno;
	for (unsigned i = 0; !ret && i < mem->count; i++) {
		ret = write_region(&mw, &mem->region[i]);
		mw.number += mem->region[i].len / PAGE;
	}
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
