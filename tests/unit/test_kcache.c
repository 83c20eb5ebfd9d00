/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel cache: what is found again, by what; and that nothing bad in the directory hurts. */
#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot_images.h"
#include "minivm/kcache.h"

#define MIB (1ull << 20)

static const struct log quiet = {.fd = -1, .level = LOG_LEVEL_ERROR};

static char dir[64];
static struct kcache cache;

static void setup(void)
{
	struct err err = {0};

	snprintf(dir, sizeof(dir), "/tmp/minivm-kcache-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(kcache_open(dir, &quiet, &cache, &err), 0, "%s", err.text);
}

static void teardown(void)
{
	char command[128];

	kcache_close(&cache);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

#define CacheTest(name, ...) Test(kcache, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

/* Names in the directory that begin with `prefix`. */
static unsigned count(const char *prefix)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	unsigned n = 0;

	cr_assert_not_null(d);
	while ((e = readdir(d)))
		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	closedir(d);
	return n;
}

/* Two segments that share a page, and a bss; `fill` makes it a kernel of its own. */
static struct blob make_kernel(uint8_t fill)
{
	struct fake_segment seg[] = {
	    {2 * MIB, 0, 0x2345, 0x2345, fill},
	    {2 * MIB + 0x2800, 0, 0x1000, 0x9000, (uint8_t)(fill + 1)},
	    {4 * MIB + 0x10, 0, 0x20, 0x20, (uint8_t)(fill + 2)},
	};

	return fake_elf(seg, 3, 2 * MIB);
}

static struct stat identity(uint64_t inode)
{
	struct stat st = {.st_dev = 1, .st_ino = inode, .st_size = 1000};

	st.st_mtim.tv_sec = 100;
	st.st_ctim.tv_sec = 200;
	return st;
}

static bool add(const struct blob *file, const struct stat *st, struct kcache_entry *out)
{
	char hash[KCACHE_HASH_LEN];
	struct kernel_image image;
	struct err err = {0};
	bool added;

	kcache_hash(blob_bytes(file), hash);
	cr_assert_eq(kernel_image_parse(blob_bytes(file), 64 * MIB, &image, &err), 0, "%s",
		     err.text);
	added = kcache_add(&cache, hash, st, &image, out);
	kernel_image_free(&image);
	return added;
}

/* Guest memory made from the entry is what a copy of the kernel would have made. */
static void check_pages(const struct kcache_entry *e, uint8_t fill)
{
	struct guest_mem mem;
	struct err err = {0};
	const uint8_t *ram;

	cr_assert_eq(guest_mem_map(&mem, 8 * MIB, &err), 0);
	for (unsigned i = 0; i < e->image.count; i++) {
		const struct kernel_segment *s = &e->image.segment[i];
		uint64_t first = s->paddr & ~0xfffull;
		uint64_t end = (s->paddr + s->data.len + 0xfff) & ~0xfffull;

		cr_assert_eq(
		    guest_mem_map_file(&mem, GPA(first), end - first, e->fd, e->offset[i], &err), 0,
		    "%s", err.text);
	}
	ram = guest_mem_slice(&mem, GPA(0), 8 * MIB);
	cr_assert_eq(ram[2 * MIB], fill);
	cr_assert_eq(ram[2 * MIB + 0x2344], fill);
	cr_assert_eq(ram[2 * MIB + 0x2345], 0);
	cr_assert_eq(ram[2 * MIB + 0x27ff], 0);
	cr_assert_eq(ram[2 * MIB + 0x2800], fill + 1);
	cr_assert_eq(ram[2 * MIB + 0x37ff], fill + 1);
	cr_assert_eq(ram[2 * MIB + 0x3800], 0, "bss");
	cr_assert_eq(ram[2 * MIB + 0x3fff], 0, "bss, to the end of the mapped page");
	cr_assert_eq(ram[4 * MIB + 0xf], 0);
	cr_assert_eq(ram[4 * MIB + 0x10], fill + 2);
	cr_assert_eq(ram[4 * MIB + 0x30], 0);
	guest_mem_unmap(&mem);
}

CacheTest(found_again_by_file_and_by_content)
{
	struct blob file = make_kernel(7);
	struct stat st = identity(5), other = identity(6);
	struct kcache_entry e;
	char hash[KCACHE_HASH_LEN];

	kcache_hash(blob_bytes(&file), hash);
	cr_assert(!kcache_find_file(&cache, &st, &e));
	cr_assert(!kcache_find_content(&cache, hash, &st, &e));
	cr_assert(add(&file, &st, &e));
	check_pages(&e, 7);
	kcache_entry_close(&e);
	cr_assert(kcache_find_file(&cache, &st, &e));
	check_pages(&e, 7);
	cr_assert_eq(e.image.info.image, BOOT_IMAGE_ELF);
	cr_assert_str_eq(e.image.info.compression, "none");
	cr_assert_eq(e.image.info.entry, 2 * MIB);
	cr_assert_eq(e.image.info.kernel_end, 4 * MIB + 0x30);
	kcache_entry_close(&e);
	cr_assert(!kcache_find_file(&cache, &other, &e));
	cr_assert(kcache_find_content(&cache, hash, &other, &e));
	kcache_entry_close(&e);
	cr_assert(kcache_find_file(&cache, &other, &e), "its identity was noted");
	kcache_entry_close(&e);
	cr_assert_eq(count("c1-"), 1);
	cr_assert_eq(count("t1-"), 0, "no temporary file is left");
	blob_free(&file);
}

CacheTest(a_bzimage_s_header_comes_back)
{
	struct blob elf = make_kernel(1), packed = pack_with_size(PACK_ZSTD, &elf);
	struct blob file = fake_bzimage(&packed, NULL);
	struct stat st = identity(1);
	struct kernel_image image;
	struct kcache_entry e;
	struct err err = {0};

	cr_assert(add(&file, &st, &e));
	kcache_entry_close(&e);
	cr_assert(kcache_find_file(&cache, &st, &e));
	cr_assert_eq(kernel_image_parse(blob_bytes(&file), 64 * MIB, &image, &err), 0);
	cr_assert_eq(e.image.info.image, BOOT_IMAGE_BZIMAGE_UNPACKED);
	cr_assert_str_eq(e.image.info.compression, "zstd");
	cr_assert_eq(e.image.setup_len, image.setup_len);
	cr_assert_arr_eq(e.image.setup, image.setup, image.setup_len);
	cr_assert_eq(e.image.cmdline_max, image.cmdline_max);
	cr_assert_eq(e.image.initrd_max, image.initrd_max);
	kernel_image_free(&image);
	kcache_entry_close(&e);
	blob_free(&file);
	blob_free(&packed);
	blob_free(&elf);
}

CacheTest(every_change_of_a_file_is_another_file)
{
	struct blob file = make_kernel(7);
	struct stat st = identity(5), changed[6];
	struct kcache_entry e;

	cr_assert(add(&file, &st, &e));
	kcache_entry_close(&e);
	for (unsigned i = 0; i < 6; i++)
		changed[i] = st;
	changed[0].st_dev++;
	changed[1].st_ino++;
	changed[2].st_size++;
	changed[3].st_mtim.tv_nsec++;
	changed[4].st_ctim.tv_nsec++;
	changed[5].st_ctim.tv_sec++;
	for (unsigned i = 0; i < 6; i++)
		cr_assert(!kcache_find_file(&cache, &changed[i], &e), "%u", i);
	blob_free(&file);
}

CacheTest(a_fresh_file_is_not_noted)
{
	struct blob file = make_kernel(7);
	struct kcache_entry e;

	cr_assert(add(&file, NULL, &e));
	kcache_entry_close(&e);
	cr_assert_eq(count("k1-"), 0);
	cr_assert_eq(count("c1-"), 1);
	blob_free(&file);
}

static void want_entries(uint64_t entry, uint64_t pvh)
{
	struct blob file = fake_pvh_kernel(entry, pvh);
	struct stat st = identity(entry + 1);
	struct kcache_entry e;

	cr_assert(add(&file, &st, &e));
	cr_assert_eq(e.image.info.entry, entry);
	cr_assert_eq(e.image.info.pvh_entry, pvh);
	kcache_entry_close(&e);
	blob_free(&file);
}

CacheTest(both_entry_points_are_kept)
{
	want_entries(FAKE_PVH_LOAD, FAKE_PVH_LOAD + 0x100);
	want_entries(FAKE_PVH_LOAD, 0);
	want_entries(0, FAKE_PVH_LOAD + 0x100);
}

/* A kernel with the names of both drivers in it, or of one. */
static bool has_virtio_console(const char *one, size_t one_len, const char *two, size_t two_len)
{
	static uint64_t inode = 1000;
	struct blob file = fake_kernel(2 * MIB);
	struct stat st = identity(inode++);
	struct kcache_entry e;
	bool has;

	/* The segment is the file's end. */
	memcpy(file.data + file.len - 4000, one, one_len);
	memcpy(file.data + file.len - 100, two, two_len);
	cr_assert(add(&file, &st, &e));
	has = e.image.info.virtio_console;
	kcache_entry_close(&e);
	cr_assert(kcache_find_file(&cache, &st, &e));
	cr_assert_eq(e.image.info.virtio_console, has);
	kcache_entry_close(&e);
	blob_free(&file);
	return has;
}

CacheTest(drivers_are_kept)
{
	cr_assert(has_virtio_console("virtio-portsdev", 16, "virtio-mmio", 12));
	cr_assert(!has_virtio_console("virtio-portsdev", 16, "virtio-pci", 11));
	cr_assert(!has_virtio_console("virtio-ports", 13, "virtio-mmio", 12));
	/* A part of a longer word is not it. */
	cr_assert(!has_virtio_console("virtio-portsdev", 16, "virtio-mmio-cmdline", 20));
}

/* Breaks the one entry, at every length and in every field that matters: it is never taken. */
static void damage(void (*how)(int fd))
{
	struct blob file = make_kernel(9);
	struct stat st = identity(3);
	char hash[KCACHE_HASH_LEN], path[256];
	struct kcache_entry e;
	int fd;

	cr_assert(add(&file, &st, &e));
	kcache_entry_close(&e);
	kcache_hash(blob_bytes(&file), hash);
	snprintf(path, sizeof(path), "%s/c1-%s", dir, hash);
	fd = open(path, O_RDWR);
	cr_assert_geq(fd, 0);
	how(fd);
	close(fd);
	cr_assert(!kcache_find_file(&cache, &st, &e));
	cr_assert(!kcache_find_content(&cache, hash, &st, &e));
	cr_assert_eq(count("c1-"), 0, "it is taken out of the way");
	cr_assert(add(&file, &st, &e), "and made again");
	check_pages(&e, 9);
	kcache_entry_close(&e);
	blob_free(&file);
}

static void cut(int fd)
{
	cr_assert_eq(ftruncate(fd, KCACHE_HEADER_LEN + 100), 0);
}

static void empty(int fd)
{
	cr_assert_eq(ftruncate(fd, 0), 0);
}

static void flip(int fd)
{
	cr_assert_eq(pwrite(fd, "x", 1, 20), 1);
}

CacheTest(damaged_entries_are_not_taken)
{
	damage(cut);
	damage(empty);
	damage(flip);
}

CacheTest(the_least_recently_used_goes)
{
	struct kcache_entry e;
	struct stat st;

	for (unsigned i = 0; i < KCACHE_ENTRIES_MAX + 3; i++) {
		struct blob file = make_kernel((uint8_t)(10 + 3 * i));

		st = identity(i);
		cr_assert(add(&file, &st, &e));
		kcache_entry_close(&e);
		blob_free(&file);
	}
	cr_assert_eq(count("c1-"), KCACHE_ENTRIES_MAX);
	cr_assert_eq(count("k1-"), KCACHE_ENTRIES_MAX, "names of what is gone are gone");
	cr_assert(kcache_find_file(&cache, &st, &e), "the last one is there");
	kcache_entry_close(&e);
}

CacheTest(names_of_files_do_not_pile_up)
{
	struct blob file = make_kernel(1);
	char hash[KCACHE_HASH_LEN];
	struct kcache_entry e;
	struct stat st = identity(0);

	cr_assert(add(&file, &st, &e));
	kcache_entry_close(&e);
	kcache_hash(blob_bytes(&file), hash);
	for (unsigned i = 1; i < 200; i++) {
		st = identity(i);
		cr_assert(kcache_find_content(&cache, hash, &st, &e));
		kcache_entry_close(&e);
	}
	cr_assert_leq(count("k1-"), 65);
	cr_assert(kcache_find_file(&cache, &st, &e), "the last one is there");
	kcache_entry_close(&e);
	cr_assert_eq(count("c1-"), 1);
	blob_free(&file);
}

/* Eight processes at once: all get a whole kernel, one entry stays. */
CacheTest(first_starts_at_once, .timeout = 20)
{
	struct blob file = make_kernel(4);
	struct stat st = identity(1);
	pid_t child[8];

	for (unsigned i = 0; i < 8; i++) {
		child[i] = fork();
		cr_assert_geq(child[i], 0);
		if (child[i] == 0) {
			struct kcache_entry e;
			bool found = kcache_find_file(&cache, &st, &e) || add(&file, &st, &e);

			if (found)
				check_pages(&e, 4);
			_exit(found ? 0 : 1);
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		int status;

		cr_assert_eq(waitpid(child[i], &status, 0), child[i]);
		cr_assert_eq(status, 0);
	}
	cr_assert_eq(count("c1-"), 1);
	cr_assert_eq(count("k1-"), 1);
	cr_assert_eq(count("t1-"), 0);
	blob_free(&file);
}

CacheTest(a_directory_open_to_others_is_not_used)
{
	struct kcache other;
	struct err err = {0};

	cr_assert_eq(chmod(dir, 0770), 0);
	cr_assert_eq(kcache_open(dir, &quiet, &other, &err), -EPERM);
	cr_assert_not_null(strstr(err.text, "chmod 700"), "%s", err.text);
	cr_assert_eq(setenv("XDG_CACHE_HOME", dir, 1), 0);
	cr_assert_eq(kcache_open(NULL, &quiet, &other, &err), 0, "the default one is made in it");
	cr_assert_geq(other.dir, 0);
	kcache_close(&other);
}

CacheTest(no_home_no_cache)
{
	struct blob file = make_kernel(4);
	struct stat st = identity(1);
	struct kcache none;
	struct kcache_entry e;
	struct err err = {0};

	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	cr_assert_eq(kcache_open(NULL, &quiet, &none, &err), 0);
	cr_assert_eq(none.dir, -1);
	cr_assert(!kcache_find_file(&none, &st, &e));
	setenv("HOME", "/proc/no/such/home", 1);
	cr_assert_eq(kcache_open(NULL, &quiet, &none, &err), 0);
	cr_assert_eq(none.dir, -1);
	cr_assert_eq(kcache_open("/proc/no/such", &quiet, &none, &err), -ENOENT, "named: an error");
	blob_free(&file);
}
