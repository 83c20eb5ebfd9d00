/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory in a file: only what is not zero takes space, and it comes back as it was. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minivm/memory.h"
#include "minivm/snapshot.h"

#define BYTES (64ull << 20)

static struct guest_mem mem;
static struct snapshot_memory about;
static int fd;

static void setup(void)
{
	char name[] = "/tmp/minivm-memory-XXXXXX";
	struct err err;

	fd = mkstemp(name);
	cr_assert_geq(fd, 0);
	unlink(name);
	cr_assert_eq(guest_mem_map(&mem, BYTES, &err), 0);
	/* First and last byte of memory, a run longer than one write, a lone byte. */
	memset(mem.region[0].host, 'a', 1);
	memset(mem.region[0].host + BYTES - 1, 'z', 1);
	memset(mem.region[0].host + (8u << 20), 'r', 3u << 20);
	memset(mem.region[0].host + (32u << 20) + 4000, 'l', 1);
	cr_assert_eq(snapshot_write_memory(&mem, fd, &about), 0);
}

static void teardown(void)
{
	guest_mem_unmap(&mem);
	close(fd);
}

TestSuite(snapshot_memory, .init = setup, .fini = teardown);

Test(snapshot_memory, sparse)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq((uint64_t)st.st_size, BYTES);
	cr_expect_eq(about.file_bytes, BYTES);
	cr_expect_leq(st.st_blocks * 512, (3u << 20) + 4 * 65536);
}

Test(snapshot_memory, comes_back)
{
	struct guest_mem back;
	struct err err;

	cr_assert_eq(guest_mem_map(&back, BYTES, &err), 0);
	cr_assert_eq(snapshot_map_memory(&back, fd, &about, &err), 0, "%s", err.text);
	cr_expect_eq(memcmp(back.region[0].host, mem.region[0].host, BYTES), 0);
	/* Written by one, not seen by another, nor in the file. */
	memset(back.region[0].host, 'x', 4096);
	guest_mem_unmap(&back);
	cr_assert_eq(guest_mem_map(&back, BYTES, &err), 0);
	cr_assert_eq(snapshot_map_memory(&back, fd, &about, &err), 0);
	cr_expect_eq(back.region[0].host[0], 'a');
	guest_mem_unmap(&back);
}

Test(snapshot_memory, digest)
{
	struct snapshot_memory found = {.file_bytes = BYTES};

	cr_assert_eq(snapshot_digest_memory(fd, &found), 0);
	cr_expect_arr_eq(found.digest, about.digest, sizeof(found.digest));
	/* Zeroes that were written are as good as a hole. */
	cr_assert_eq(pwrite(fd, "\0\0\0", 3, 1 << 20), 3);
	cr_assert_eq(snapshot_digest_memory(fd, &found), 0);
	cr_expect_arr_eq(found.digest, about.digest, sizeof(found.digest));
	cr_assert_eq(pwrite(fd, "b", 1, 1 << 20), 1);
	cr_assert_eq(snapshot_digest_memory(fd, &found), 0);
	cr_expect_arr_neq(found.digest, about.digest, sizeof(found.digest));
}

Test(snapshot_memory, another_size)
{
	struct guest_mem back;
	struct err err;

	cr_assert_eq(guest_mem_map(&back, BYTES, &err), 0);
	cr_assert_eq(ftruncate(fd, BYTES - 4096), 0);
	cr_expect_lt(snapshot_map_memory(&back, fd, &about, &err), 0);
	guest_mem_unmap(&back);
	cr_assert_eq(ftruncate(fd, BYTES), 0);
	cr_assert_eq(guest_mem_map(&back, BYTES / 2, &err), 0);
	cr_expect_lt(snapshot_map_memory(&back, fd, &about, &err), 0);
	guest_mem_unmap(&back);
}

/* Of a restored machine: its pages are those of a file until it writes them. */
Test(snapshot_memory, saved_again)
{
	struct snapshot_memory second;
	char name[] = "/tmp/minivm-memory-XXXXXX";
	int out = mkstemp(name);
	struct guest_mem back;
	struct err err;

	cr_assert_geq(out, 0);
	unlink(name);
	cr_assert_eq(guest_mem_map(&back, BYTES, &err), 0);
	cr_assert_eq(snapshot_map_memory(&back, fd, &about, &err), 0, "%s", err.text);
	cr_assert_eq(snapshot_write_memory(&back, out, &second), 0);
	cr_expect_arr_eq(second.digest, about.digest, sizeof(second.digest));
	cr_assert_eq(snapshot_digest_memory(out, &second), 0);
	cr_expect_arr_eq(second.digest, about.digest, sizeof(second.digest));
	guest_mem_unmap(&back);
	close(out);
}

/* A file in the middle of memory, as the kernel cache has it, of which nothing was touched. */
Test(snapshot_memory, file_in_the_middle)
{
	struct snapshot_memory second, third;
	char name[] = "/tmp/minivm-memory-XXXXXX";
	int out = mkstemp(name);
	struct guest_mem other;
	struct err err;

	cr_assert_geq(out, 0);
	unlink(name);
	cr_assert_eq(guest_mem_map(&other, BYTES, &err), 0);
	cr_assert_eq(guest_mem_map_file(&other, GPA(16u << 20), 1u << 20, fd, 8u << 20, &err), 0);
	cr_assert_eq(snapshot_write_memory(&other, out, &second), 0);
	third.file_bytes = second.file_bytes;
	cr_assert_eq(snapshot_digest_memory(out, &third), 0);
	cr_expect_arr_eq(second.digest, third.digest, sizeof(third.digest));
	cr_expect_eq(lseek(out, 0, SEEK_DATA), 16 << 20);
	guest_mem_unmap(&other);
	close(out);
}
