/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel file on its way into guest memory: from the cache and without it the guest gets the
 * same. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot_images.h"
#include "minivm/kernel_file.h"

#define MIB (1ull << 20)

static char dir[64], kernel_path[96], cache_path[96];
static FILE *lines; /* the log */
static struct log log_;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/minivm-kernel-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(kernel_path, sizeof(kernel_path), "%s/kernel", dir);
	snprintf(cache_path, sizeof(cache_path), "%s/cache", dir);
	lines = tmpfile();
	cr_assert_not_null(lines);
	log_ = (struct log){.fd = fileno(lines), .level = LOG_LEVEL_DEBUG};
}

static void teardown(void)
{
	char command[128];

	fclose(lines);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

#define FileTest(name, ...) Test(kernel_file, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

/* Written in place: the file keeps its inode, as an editor or a linker may do it. */
static void write_kernel(uint8_t fill, uint64_t filesz)
{
	struct fake_segment seg = {2 * MIB, 0, filesz, filesz + 0x5000, fill};
	struct blob file = fake_elf(&seg, 1, 2 * MIB);
	int fd = open(kernel_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, file.data, file.len), (ssize_t)file.len);
	close(fd);
	blob_free(&file);
}

/* What the log said since the last time; cut to fit. */
static const char *said(void)
{
	static char text[2000];
	ssize_t n;

	n = pread(fileno(lines), text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	cr_assert_eq(ftruncate(fileno(lines), 0), 0);
	lseek(fileno(lines), 0, SEEK_SET);
	return text;
}

static void open_kernel(struct kernel_file *k, const char *cache)
{
	struct kernel_file_options options = {
	    .cached = cache, .cache = cache, .low_end = 16 * MIB, .log = &log_};
	struct err err = {0};

	cr_assert_eq(kernel_file_open(kernel_path, &options, k, &err), 0, "%s", err.text);
}

static void load(const struct kernel_file *k, struct guest_mem *mem)
{
	struct err err = {0};

	cr_assert_eq(guest_mem_map(mem, 16 * MIB, &err), 0);
	cr_assert_eq(kernel_file_load(k, mem, &err), 0, "%s", err.text);
}

static void check(const char *cache, uint8_t fill, uint64_t filesz)
{
	struct kernel_file k;
	struct guest_mem mem;
	const uint8_t *ram;

	open_kernel(&k, cache);
	cr_assert_eq(kernel_file_image(&k)->info.entry, 2 * MIB);
	load(&k, &mem);
	kernel_file_close(&k);
	ram = guest_mem_slice(&mem, GPA(2 * MIB), filesz + 0x5000);
	for (uint64_t i = 0; i < filesz; i += 509)
		cr_assert_eq(ram[i], fill);
	cr_assert_eq(ram[filesz - 1], fill);
	for (uint64_t i = filesz; i < filesz + 0x5000; i++)
		cr_assert_eq(ram[i], 0);
	guest_mem_unmap(&mem);
}

FileTest(the_same_with_and_without_the_cache)
{
	write_kernel(7, MIB + 123);
	check(NULL, 7, MIB + 123);
	cr_assert_str_empty(said());
	check(cache_path, 7, MIB + 123);
	cr_assert_not_null(strstr(said(), "added"));
	check(cache_path, 7, MIB + 123);
	cr_assert_not_null(strstr(said(), "known content"),
			   "fresh files are not known by their stamps");
}

FileTest(a_settled_file_is_not_read_again, .timeout = 20)
{
	write_kernel(7, MIB);
	sleep(4);
	check(cache_path, 7, MIB);
	cr_assert_not_null(strstr(said(), "added"));
	check(cache_path, 7, MIB);
	cr_assert_not_null(strstr(said(), "known file"));
	write_kernel(8, MIB);
	check(cache_path, 8, MIB);
	cr_assert_not_null(strstr(said(), "added"), "the same size, other bytes");
}

FileTest(a_file_that_changes_under_a_guest)
{
	struct kernel_file k;
	struct guest_mem mem;
	const uint8_t *ram;

	write_kernel(7, MIB);
	check(cache_path, 7, MIB);
	open_kernel(&k, cache_path);
	load(&k, &mem);
	kernel_file_close(&k);
	write_kernel(8, 4096);
	ram = guest_mem_slice(&mem, GPA(2 * MIB), MIB);
	for (uint64_t i = 0; i < MIB; i += 4096)
		cr_assert_eq(ram[i], 7);
	guest_mem_unmap(&mem);
}

FileTest(two_guests_do_not_see_each_other)
{
	struct kernel_file k;
	struct guest_mem a, b;
	uint8_t *ram;

	write_kernel(7, MIB);
	check(cache_path, 7, MIB);
	open_kernel(&k, cache_path);
	load(&k, &a);
	load(&k, &b);
	kernel_file_close(&k);
	ram = guest_mem_slice(&a, GPA(2 * MIB), MIB);
	memset(ram, 1, MIB);
	ram = guest_mem_slice(&b, GPA(2 * MIB), MIB);
	cr_assert_eq(ram[0], 7);
	cr_assert_eq(ram[MIB - 1], 7);
	guest_mem_unmap(&a);
	guest_mem_unmap(&b);
	check(cache_path, 7, MIB);
}

FileTest(small_kernels_are_not_cached)
{
	write_kernel(7, 0x8000);
	check(cache_path, 7, 0x8000);
	check(cache_path, 7, 0x8000);
	cr_assert_str_empty(said());
}

/* What it would fill the disk with: all segments are the same bytes of the file. */
FileTest(kernels_that_do_not_fit_are_not_cached)
{
	struct fake_segment seg = {15 * MIB, 0, 2 * MIB, 2 * MIB, 7};
	struct blob file = fake_elf(&seg, 1, 15 * MIB);
	struct kernel_file k;
	int fd = open(kernel_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_eq(write(fd, file.data, file.len), (ssize_t)file.len);
	close(fd);
	open_kernel(&k, cache_path);
	cr_assert_str_empty(said());
	kernel_file_close(&k);
	blob_free(&file);
}

FileTest(a_cache_that_cannot_be_written)
{
	write_kernel(7, MIB);
	cr_assert_eq(mkdir(cache_path, 0500), 0);
	check(cache_path, 7, MIB);
}

FileTest(errors_name_the_file)
{
	struct kernel_file_options options = {.low_end = 16 * MIB, .log = &log_};
	struct kernel_file k;
	struct err err = {0};

	cr_assert_eq(kernel_file_open(kernel_path, &options, &k, &err), -ENOENT);
	cr_assert_not_null(strstr(err.text, kernel_path), "%s", err.text);
	kernel_file_close(&k);
}
