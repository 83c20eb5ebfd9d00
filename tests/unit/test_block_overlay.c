/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays against a plain model of a disk; layer files, good and bad; what is left after a crash.
 *
 * fdatasync(2) is looked over here: this file's definition is what the code under test calls, so a
 * test can look at the layer file at the moment when data is being made durable, or make it fail.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zlib.h>

#include <criterion/criterion.h>

#include "minivm/block.h"

#define BS 4096u

/* --- fdatasync --- */

static int (*sync_hook)(int fd); /* 0: go on; else -errno */

int fdatasync(int fd)
{
	int ret = sync_hook ? sync_hook(fd) : 0;

	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* --- a directory with a base image --- */

static char dir[64], base_path[96], layer_path[96];

/* 20 blocks and a tail of three sectors. */
#define DISK_BYTES  (20 * BS + 1536)
#define MAP_START   4096u
#define DATA_START  8192u
#define LAYER_BYTES (DATA_START + 21 * BS)

static uint8_t model[DISK_BYTES];

static uint8_t base_byte(uint64_t off)
{
	return (uint8_t)(off * 31 + off / 512);
}

static void write_base(off_t size)
{
	int fd = open(base_path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	cr_assert(fd >= 0);
	for (unsigned i = 0; i < DISK_BYTES; i++)
		model[i] = base_byte(i);
	cr_assert_eq(write(fd, model, DISK_BYTES), DISK_BYTES);
	cr_assert_eq(ftruncate(fd, size), 0);
	close(fd);
}

static void setup(void)
{
	sync_hook = NULL;
	strcpy(dir, "/tmp/minivm-overlay-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(base_path, sizeof(base_path), "%s/base.img", dir);
	snprintf(layer_path, sizeof(layer_path), "%s/layer", dir);
	write_base(DISK_BYTES);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

#define OverlayTest(name, ...)                                                                     \
	Test(block_overlay, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static struct block *open_base(void)
{
	struct block *base = NULL;
	struct err err = {0};

	cr_assert_eq(block_raw_open(base_path, true, &base, &err), 0, "%s", err.text);
	return base;
}

static struct block *open_overlay(const char *layer)
{
	struct block *b = NULL;
	struct err err = {0};

	cr_assert_eq(block_overlay_open(open_base(), base_path, layer, &b, &err), 0, "%s",
		     err.text);
	return b;
}

static void must_fail(int code, const char *words)
{
	struct block *base = open_base();
	struct block *b = NULL;
	struct err err = {0};
	int ret = block_overlay_open(base, base_path, layer_path, &b, &err);

	cr_assert_eq(ret, -code, "%d: %s", ret, err.text);
	cr_assert(strstr(err.text, layer_path) != NULL, "%s", err.text);
	cr_assert(strstr(err.text, words) != NULL, "\"%s\" not in: %s", words, err.text);
	cr_assert(strchr(err.text, '\n') == NULL);
	block_close(base); /* it stayed ours */
}

static int put(struct block *b, uint64_t off, uint32_t len, uint8_t fill)
{
	static uint8_t data[DISK_BYTES];
	struct iovec iov[3] = {
	    {data, len / 3}, {data + len / 3, 0}, {data + len / 3, len - len / 3}};

	memset(data, fill, len);
	return b->ops->writev(b, iov, 3, off);
}

/* Into disk and model. */
static void write_both(struct block *b, uint64_t off, uint32_t len, uint8_t fill)
{
	cr_assert_eq(put(b, off, len, fill), 0);
	memset(model + off, fill, len);
}

/* The disk is what the model says, read in one piece and in sectors. */
static void expect_model(struct block *b)
{
	static uint8_t data[DISK_BYTES];
	struct iovec whole[2] = {{data, 5000}, {data + 5000, DISK_BYTES - 5000}};

	cr_assert_eq(b->ops->readv(b, whole, 2, 0), 0);
	cr_assert_arr_eq(data, model, DISK_BYTES);
	for (unsigned off = 0; off < DISK_BYTES; off += 512) {
		uint8_t sector[512];
		struct iovec iov = {sector, 512};

		cr_assert_eq(b->ops->readv(b, &iov, 1, off), 0);
		cr_assert_arr_eq(sector, model + off, 512, "at %u", off);
	}
}

static void expect_base_untouched(void)
{
	static uint8_t data[DISK_BYTES];
	int fd = open(base_path, O_RDONLY | O_CLOEXEC);

	cr_assert_eq(read(fd, data, sizeof(data)), sizeof(data));
	close(fd);
	for (unsigned i = 0; i < DISK_BYTES; i++)
		cr_assert_eq(data[i], base_byte(i));
}

/* --- the disk --- */

static void random_writes(struct block *b, unsigned seed, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t sector, count;

		seed = seed * 1103515245u + 12345u;
		sector = (seed >> 8) % (DISK_BYTES / 512);
		seed = seed * 1103515245u + 12345u;
		count = 1 + (seed >> 8) % 40;
		if (count > DISK_BYTES / 512 - sector)
			count = DISK_BYTES / 512 - sector;
		write_both(b, sector * 512, (uint32_t)count * 512, (uint8_t)(seed >> 20));
		if (i % 10 == 0)
			expect_model(b);
	}
	expect_model(b);
}

static void check_disk(const char *layer)
{
	struct block *b = open_overlay(layer);

	cr_expect_eq(b->size, DISK_BYTES);
	cr_expect(!b->readonly);
	cr_expect_eq(b->physical_block, BS);
	cr_expect_eq(b->optimal_io, 1u << 20, "the base's");
	expect_model(b);
	write_both(b, 512, 512, 1);		 /* inside a block */
	write_both(b, 3 * BS - 512, 1024, 2);	 /* over a border */
	write_both(b, 5 * BS, 2 * BS, 3);	 /* whole blocks */
	write_both(b, 8 * BS + 512, 3 * BS, 4);	 /* part, whole, whole, part */
	write_both(b, DISK_BYTES - 512, 512, 5); /* the tail, in part */
	write_both(b, 20 * BS, 1536, 6);	 /* the tail, whole */
	write_both(b, 19 * BS, BS + 1024, 7);	 /* into the tail */
	expect_model(b);
	random_writes(b, 4711, 120);
	cr_expect_eq(b->ops->flush(b), 0);
	expect_base_untouched();
	block_close(b);
}

OverlayTest(throw_away)
{
	struct block *b;

	check_disk(NULL);
	write_base(DISK_BYTES); /* the model again */
	b = open_overlay(NULL);
	expect_model(b);
	block_close(b);
}

OverlayTest(kept)
{
	struct block *b;

	check_disk(layer_path);
	b = open_overlay(layer_path);
	expect_model(b);
	random_writes(b, 815, 50);
	block_close(b); /* a clean end flushes */
	b = open_overlay(layer_path);
	expect_model(b);
	block_close(b);
	expect_base_untouched();
}

OverlayTest(whole_tail_block_first)
{
	struct block *b = open_overlay(layer_path);

	write_both(b, 20 * BS, 1536, 9);
	expect_model(b);
	block_close(b);
	b = open_overlay(layer_path);
	expect_model(b);
	block_close(b);
}

OverlayTest(smallest_disk)
{
	struct block *b;
	uint8_t data[512];
	struct iovec iov = {data, sizeof(data)};

	write_base(512);
	b = open_overlay(layer_path);
	cr_expect_eq(put(b, 0, 512, 0x42), 0);
	block_close(b);
	b = open_overlay(layer_path);
	cr_expect_eq(b->ops->readv(b, &iov, 1, 0), 0);
	cr_expect_eq(data[0], 0x42);
	cr_expect_eq(data[511], 0x42);
	block_close(b);
}

OverlayTest(throw_away_leaves_nothing)
{
	char command[160];
	struct block *b;

	cr_assert_eq(setenv("TMPDIR", dir, 1), 0);
	b = open_overlay(NULL);
	cr_expect_eq(put(b, 0, 512, 1), 0);
	snprintf(command, sizeof(command), "test \"$(ls '%s')\" = base.img", dir);
	cr_expect_eq(system(command), 0);
	block_close(b);
	unsetenv("TMPDIR");
}

OverlayTest(throw_away_directory_missing)
{
	struct block *base = open_base();
	struct block *b;
	struct err err = {0};

	setenv("TMPDIR", "/nowhere/at/all", 1);
	cr_assert_eq(block_overlay_open(base, base_path, NULL, &b, &err), -ENOENT);
	cr_assert(strstr(err.text, "/nowhere/at/all") != NULL, "%s", err.text);
	cr_assert(strstr(err.text, "TMPDIR") != NULL, "%s", err.text);
	unsetenv("TMPDIR");
	block_close(base);
}

OverlayTest(machines_share_a_base)
{
	struct block *a = open_overlay(NULL);
	struct block *b = open_overlay(layer_path);
	struct block *w;
	struct err err = {0};

	cr_expect_eq(put(a, 0, 512, 1), 0);
	expect_model(b);
	cr_expect_eq(block_raw_open(base_path, false, &w, &err), -EAGAIN, "writers must stay out");
	block_close(a);
	block_close(b);
}

/* --- layer files --- */

OverlayTest(file_is_as_documented)
{
	struct block *b = open_overlay(layer_path);
	uint8_t map[4096], header[4096], data[BS];
	uint64_t word;
	uint32_t crc;
	struct stat st;
	int fd;

	write_both(b, 9 * BS, BS, 0x99);
	block_close(b);
	cr_assert_eq(stat(layer_path, &st), 0);
	cr_expect_eq(st.st_size, LAYER_BYTES);
	cr_expect_eq(st.st_mode & 077, 0, "a layer holds what the guest wrote");
	fd = open(layer_path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, header, sizeof(header), 0), 4096);
	cr_expect_arr_eq(header, "MINIVMOV", 8);
	memcpy(&word, header + 16, 8);
	cr_expect_eq(le64toh(word), DISK_BYTES);
	memcpy(&word, header + 40, 8);
	cr_expect_eq(le64toh(word), DATA_START);
	memcpy(&crc, header + 4092, 4);
	cr_expect_eq(le32toh(crc), crc32(0, header, 4092));
	cr_assert_eq(pread(fd, map, sizeof(map), MAP_START), 4096);
	for (unsigned i = 0; i < sizeof(map); i++)
		cr_expect_eq(map[i], i == 1 ? 1 << 1 : 0);
	cr_assert_eq(pread(fd, data, sizeof(data), DATA_START + 9 * BS), BS);
	cr_expect_arr_eq(data, model + 9 * BS, BS);
	close(fd);
}

static void file_with(const char *text)
{
	int fd = open(layer_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

OverlayTest(never_over_another_file)
{
	char text[64] = {0};
	int fd;

	file_with("my thesis\n");
	must_fail(EINVAL, "not an overlay layer");
	fd = open(layer_path, O_RDONLY | O_CLOEXEC);
	cr_expect_eq(read(fd, text, sizeof(text)), 10);
	cr_expect_str_eq(text, "my thesis\n");
	close(fd);
	file_with("");
	must_fail(EINVAL, "not an overlay layer");
	unlink(layer_path);
	cr_assert_eq(mkdir(layer_path, 0700), 0);
	must_fail(EISDIR, "directory");
	rmdir(layer_path);
	cr_assert_eq(mkfifo(layer_path, 0600), 0);
	must_fail(EINVAL, "regular file");
	unlink(layer_path);
	/* The base itself, by mistake. */
	cr_assert_eq(link(base_path, layer_path), 0);
	must_fail(EINVAL, "not an overlay layer");
	expect_base_untouched();
}

OverlayTest(no_such_directory)
{
	snprintf(layer_path, sizeof(layer_path), "%s/none/layer", dir);
	must_fail(ENOENT, "directory");
}

OverlayTest(a_layer_serves_one_machine)
{
	struct block *b = open_overlay(layer_path);

	must_fail(EAGAIN, "in use");
	block_close(b);
	block_close(open_overlay(layer_path));
}

OverlayTest(changed_base_is_refused)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000, .tv_nsec = 1}};
	struct stat st;

	block_close(open_overlay(layer_path));
	cr_assert_eq(stat(base_path, &st), 0);
	cr_assert_eq(utimensat(AT_FDCWD, base_path, times, 0), 0);
	must_fail(ESTALE, "modified");
	times[1] = st.st_mtim;
	cr_assert_eq(utimensat(AT_FDCWD, base_path, times, 0), 0);
	block_close(open_overlay(layer_path));
	cr_assert_eq(truncate(base_path, DISK_BYTES + 512), 0);
	must_fail(ESTALE, "bytes");
}

/* Writes a value into the header and, if asked, makes the checksum right again. */
static void forge(unsigned off, uint64_t value, unsigned len, bool with_crc)
{
	uint8_t header[4096];
	uint32_t crc;
	int fd = open(layer_path, O_RDWR | O_CLOEXEC);

	cr_assert_eq(pread(fd, header, sizeof(header), 0), 4096);
	memcpy(header + off, &value, len);
	crc = (uint32_t)crc32(0, header, 4092);
	if (with_crc)
		memcpy(header + 4092, &crc, 4);
	cr_assert_eq(pwrite(fd, header, sizeof(header), 0), 4096);
	close(fd);
}

OverlayTest(damaged_and_hostile_files)
{
	const struct {
		unsigned off, len;
		uint64_t value;
		bool with_crc;
		const char *words;
	} cases[] = {
	    {100, 1, 1, false, "damaged"},
	    {4092, 4, 0, false, "damaged"},
	    {8, 4, 2, true, "version 2"},
	    {12, 4, 512, true, "makes no sense"},
	    {32, 8, 0, true, "makes no sense"},
	    {40, 8, 0, true, "makes no sense"},
	    {40, 8, UINT64_MAX - 4095, true, "makes no sense"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unlink(layer_path);
		block_close(open_overlay(layer_path));
		forge(cases[i].off, cases[i].value, cases[i].len, cases[i].with_crc);
		must_fail(EINVAL, cases[i].words);
	}
	unlink(layer_path);
	block_close(open_overlay(layer_path));
	cr_assert_eq(truncate(layer_path, LAYER_BYTES - 1), 0);
	must_fail(EINVAL, "damaged");
	cr_assert_eq(truncate(layer_path, 4096), 0);
	must_fail(EINVAL, "damaged");
	cr_assert_eq(truncate(layer_path, 4095), 0);
	must_fail(EINVAL, "not an overlay layer");
}

/* --- durability --- */

static uint8_t map_byte(unsigned i)
{
	uint8_t byte = 0xff;
	int fd = open(layer_path, O_RDONLY | O_CLOEXEC);

	cr_assert_eq(pread(fd, &byte, 1, MAP_START + i), 1);
	close(fd);
	return byte;
}

static unsigned syncs;
static uint8_t map_at_sync[8];
static uint8_t data_at_sync[8];

static int look(int fd)
{
	if (syncs < 8) {
		cr_assert_eq(pread(fd, &map_at_sync[syncs], 1, MAP_START), 1);
		cr_assert_eq(pread(fd, &data_at_sync[syncs], 1, DATA_START + 2 * BS), 1);
	}
	syncs++;
	return 0;
}

/* Data is durable before the map that names it is even written. */
OverlayTest(data_before_map)
{
	struct block *b = open_overlay(layer_path);

	sync_hook = look;
	syncs = 0;
	write_both(b, 2 * BS + 512, 512, 0x77);
	cr_expect_eq(map_byte(0), 0, "the map was written before a flush");
	cr_expect_eq(syncs, 0);
	cr_expect_eq(b->ops->flush(b), 0);
	cr_expect_eq(syncs, 2);
	cr_expect_eq(data_at_sync[0], base_byte(2 * BS), "the copied part");
	cr_expect_eq(map_at_sync[0], 0, "map before data");
	cr_expect_eq(map_at_sync[1], 1 << 2);
	/* Nothing new in the map: once is enough. */
	write_both(b, 2 * BS, 512, 0x78);
	cr_expect_eq(b->ops->flush(b), 0);
	cr_expect_eq(syncs, 3);
	sync_hook = NULL;
	block_close(b);
}

static unsigned fail_at;

static int fail_once(int fd)
{
	(void)fd;
	return ++syncs == fail_at ? -EIO : 0;
}

/* What fdatasync could not write may be lost: the map must not name it, now or later. */
OverlayTest(failed_sync_is_for_ever)
{
	struct block *b = open_overlay(layer_path);

	write_both(b, 0, BS, 0x11);
	cr_assert_eq(b->ops->flush(b), 0);
	cr_assert_eq(put(b, 2 * BS, BS, 0x22), 0);
	sync_hook = fail_once;
	syncs = 0;
	fail_at = 1;
	cr_expect_eq(b->ops->flush(b), -EIO);
	cr_assert_lt(b->ops->flush(b), 0, "the second attempt proves nothing");
	cr_expect_eq(map_byte(0), 1);
	block_close(b);
	cr_expect_eq(map_byte(0), 1, "written at the end");
	sync_hook = NULL;
	b = open_overlay(layer_path);
	expect_model(b);
	block_close(b);
}

OverlayTest(throw_away_does_not_sync)
{
	struct block *b = open_overlay(NULL);

	sync_hook = look;
	syncs = 0;
	cr_expect_eq(put(b, 0, 512, 1), 0);
	cr_expect_eq(b->ops->flush(b), 0);
	cr_expect_eq(syncs, 0);
	sync_hook = NULL;
	block_close(b);
}

/* The file system is full: an error, the disk stays readable and as it was. */
OverlayTest(no_space)
{
	struct rlimit limit = {DATA_START + 10 * BS, RLIM_INFINITY};
	struct block *b;

	signal(SIGXFSZ, SIG_IGN);
	b = open_overlay(layer_path);
	write_both(b, 0, BS, 1);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(put(b, 12 * BS, BS, 2), -EFBIG);
	cr_expect_eq(put(b, 12 * BS + 512, 512, 2), -EFBIG);
	expect_model(b);
	write_both(b, 5 * BS, 512, 3);
	cr_expect_eq(b->ops->flush(b), 0);
	expect_model(b);
	block_close(b);
}

/* --- killed --- */

/*
 * The child writes block after block, generation after generation, flushes each generation and
 * says so through the pipe; it is killed at some moment. Then every block holds the generation that
 * was flushed last, or a later one, or the base if nothing was flushed, and is whole (a write of
 * 4 KiB is one pwrite here).
 */
static void write_generations(int report, unsigned stride)
{
	struct block *b = open_overlay(layer_path);

	for (unsigned gen = 1; gen < 200; gen++) {
		for (unsigned i = 0; i < 20; i += stride) {
			if (gen % 2 && put(b, i * BS + 512, 1024, (uint8_t)gen) != 0)
				_exit(1);
			if (put(b, i * BS, BS, (uint8_t)gen) != 0)
				_exit(1);
		}
		if (b->ops->flush(b) != 0)
			_exit(1);
		if (write(report, &gen, sizeof(gen)) != sizeof(gen))
			_exit(1);
	}
	for (;;)
		pause();
}

static unsigned run_and_kill(unsigned stride, unsigned delay_us)
{
	unsigned gen = 0, last = 0;
	int pipe_fd[2];
	pid_t pid;

	cr_assert_eq(pipe2(pipe_fd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		write_generations(pipe_fd[1], stride);
	close(pipe_fd[1]);
	usleep(delay_us);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	while (read(pipe_fd[0], &gen, sizeof(gen)) == sizeof(gen))
		last = gen;
	close(pipe_fd[0]);
	return last;
}

OverlayTest(killed_at_any_moment, .timeout = 60)
{
	for (unsigned round = 0; round < 25; round++) {
		unsigned stride = 1 + round % 3;
		unsigned flushed;
		struct block *b;
		uint8_t data[BS];
		struct iovec iov = {data, BS};

		unlink(layer_path);
		flushed = run_and_kill(stride, round * 1700);
		b = open_overlay(layer_path);
		for (unsigned i = 0; i < 20; i++) {
			unsigned gen;

			cr_assert_eq(b->ops->readv(b, &iov, 1, i * BS), 0);
			if (memcmp(data, model + i * BS, BS) == 0) {
				cr_assert(i % stride != 0 || flushed == 0, "block %u was lost", i);
				continue;
			}
			gen = data[0];
			cr_assert_eq(i % stride, 0, "block %u was never written", i);
			cr_assert_geq(gen, flushed, "block %u: %u, flushed %u", i, gen, flushed);
			/* Between the two writes of a generation: old, new in the middle, old. */
			for (unsigned k = 0; k < BS; k++)
				cr_assert(data[k] == gen ||
					      (data[k] == gen + 1 && k >= 512 && k < 1536),
					  "block %u, byte %u: %u", i, k, data[k]);
		}
		block_close(b);
		unlink(layer_path);
	}
}

/* What was copied and not flushed is forgotten; a part of it written again brings the base back. */
OverlayTest(stale_data_in_the_layer_is_not_used)
{
	int status;
	pid_t pid = fork();
	struct block *b;

	if (pid == 0) {
		b = open_overlay(layer_path);
		_exit(put(b, 3 * BS, BS, 0xdd) == 0 ? 0 : 1); /* no flush, no close */
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	b = open_overlay(layer_path);
	expect_model(b);
	write_both(b, 3 * BS + 1024, 512, 0xee);
	expect_model(b);
	block_close(b);
	b = open_overlay(layer_path);
	expect_model(b);
	block_close(b);
}

/* --- snapshots --- */

static char saved_path[96];

static void save_to(struct block *b, const char *name)
{
	bool layer = false;
	struct err err = {0};

	snprintf(saved_path, sizeof(saved_path), "%s/%s", dir, name);
	cr_assert_eq(b->ops->save(b, saved_path, &layer, &err), 0, "%s", err.text);
	cr_assert(layer);
	cr_assert_neq(b->mtime_ns, 0);
}

/* A copy goes on where the first was, and neither sees what the other writes then. */
static void check_copy(const char *from, const char *to)
{
	struct block *a = open_overlay(from), *b;
	static uint8_t as_saved[DISK_BYTES];
	struct err err = {0};

	random_writes(a, 815, 60);
	save_to(a, "saved");
	memcpy(as_saved, model, DISK_BYTES);
	write_both(a, 7 * BS, BS, 0x77);
	expect_model(a);
	b = open_overlay(to);
	cr_assert_eq(block_overlay_load(b, saved_path, base_path, &err), 0, "%s", err.text);
	memcpy(model, as_saved, DISK_BYTES);
	expect_model(b);
	random_writes(b, 99, 30);
	cr_assert_eq(b->ops->flush(b), 0);
	block_close(a);
	block_close(b);
	if (to) {
		b = open_overlay(to);
		expect_model(b);
		block_close(b);
	}
	expect_base_untouched();
}

OverlayTest(saved_and_thrown_away)
{
	check_copy(NULL, NULL);
}

OverlayTest(saved_and_kept)
{
	check_copy(layer_path, NULL);
}

OverlayTest(saved_and_kept_anew)
{
	check_copy(NULL, layer_path);
}

OverlayTest(saved_for_another_base)
{
	struct block *a = open_overlay(NULL), *b;
	struct err err = {0};

	save_to(a, "saved");
	block_close(a);
	write_base(DISK_BYTES + 512);
	b = open_overlay(NULL);
	cr_assert_eq(block_overlay_load(b, saved_path, base_path, &err), -ESTALE);
	block_close(b);
}

OverlayTest(saved_onto_something_else)
{
	struct block *a = open_overlay(NULL);
	bool layer;
	struct err err = {0};

	cr_assert_lt(a->ops->save(a, base_path, &layer, &err), 0);
	expect_base_untouched();
	block_close(a);
}
