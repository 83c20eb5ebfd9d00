/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discarding and zeroing, of raw images and of overlays, on hosts that can punch holes and on such
 * that cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "minivm/block.h"

#define BS 4096u

/* 20 blocks and a tail of three sectors. */
#define SECTORS	   (20 * BS / 512 + 3)
#define DISK_BYTES (SECTORS * 512)

/* --- the host's fallocate: modes that it does not know, calls of it --- */

static int unknown_modes;
static unsigned calls;

int fallocate(int fd, int mode, off_t off, off_t len)
{
	calls++;
	if ((mode & unknown_modes) != 0) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

/* --- an image, and what is to be in it --- */

static char dir[64], image_path[96], layer_path[96];
static uint8_t model[DISK_BYTES];

static void setup(void)
{
	int fd;

	unknown_modes = 0;
	strcpy(dir, "/tmp/minivm-zero-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(image_path, sizeof(image_path), "%s/image", dir);
	snprintf(layer_path, sizeof(layer_path), "%s/layer", dir);
	for (unsigned i = 0; i < DISK_BYTES; i++)
		model[i] = (uint8_t)(1 + i % 255);
	fd = open(image_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, model, DISK_BYTES), DISK_BYTES);
	close(fd);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

#define ZeroTest(name) Test(block_zero, name, .init = setup, .fini = teardown)

static struct block *open_raw(bool readonly)
{
	struct block *b = NULL;
	struct err err = {0};

	cr_assert_eq(block_raw_open(image_path, readonly, &b, &err), 0, "%s", err.text);
	return b;
}

static struct block *open_overlay(const char *layer)
{
	struct block *b = NULL;
	struct err err = {0};

	cr_assert_eq(block_overlay_open(open_raw(true), image_path, layer, &b, &err), 0, "%s",
		     err.text);
	return b;
}

static const uint8_t *contents(struct block *b)
{
	static uint8_t data[DISK_BYTES];
	struct iovec iov = {data, DISK_BYTES};

	cr_assert_eq(b->ops->readv(b, &iov, 1, 0), 0);
	return data;
}

static void expect_model(struct block *b)
{
	cr_assert_arr_eq(contents(b), model, DISK_BYTES);
}

static void zero(struct block *b, unsigned sector, unsigned n, bool unmap)
{
	cr_assert_eq(b->ops->zero(b, sector * 512ull, n * 512ull, unmap), 0);
	memset(model + sector * 512, 0, n * 512);
}

/* Inside all is as it was or zeroes; outside it is as it was. The model follows. */
static void discard(struct block *b, unsigned sector, unsigned n)
{
	const uint8_t *now;

	cr_assert_eq(b->ops->discard(b, sector * 512ull, n * 512ull), 0);
	now = contents(b);
	for (unsigned i = 0; i < DISK_BYTES; i++) {
		bool inside = i / 512 >= sector && i / 512 < sector + n;

		cr_assert(now[i] == model[i] || (inside && now[i] == 0), "byte %u", i);
	}
	memcpy(model, now, DISK_BYTES);
}

static void fill(struct block *b, unsigned sector, unsigned n, uint8_t byte)
{
	static uint8_t data[DISK_BYTES];
	struct iovec iov = {data, n * 512};

	memset(data, byte, n * 512);
	memset(model + sector * 512, byte, n * 512);
	cr_assert_eq(b->ops->writev(b, &iov, 1, sector * 512ull), 0);
}

/* Everywhere, of every length up to three blocks, with writes in between. */
static void everywhere(struct block *b)
{
	unsigned seed = 4711;

	for (unsigned i = 0; i < 600; i++) {
		unsigned sector, n;

		seed = seed * 1103515245u + 12345u;
		sector = (seed >> 8) % SECTORS;
		n = 1 + (seed >> 16) % 24;
		if (n > SECTORS - sector)
			n = SECTORS - sector;
		if (i % 4 < 2)
			zero(b, sector, n, i % 4 == 0);
		else if (i % 4 == 2)
			fill(b, sector, n, (uint8_t)(1 + i % 255));
		else
			discard(b, sector, n);
		if (i % 10 == 0)
			expect_model(b);
	}
	zero(b, 0, SECTORS, false);
	expect_model(b);
	cr_expect_eq(b->ops->flush(b), 0);
}

static void expect_image_untouched(void)
{
	static uint8_t data[DISK_BYTES];
	int fd = open(image_path, O_RDONLY | O_CLOEXEC);

	cr_assert_eq(read(fd, data, DISK_BYTES), DISK_BYTES);
	close(fd);
	for (unsigned i = 0; i < DISK_BYTES; i++)
		cr_assert_eq(data[i], (uint8_t)(1 + i % 255));
}

static void raw_everywhere(void)
{
	struct block *b = open_raw(false);
	struct stat st;

	everywhere(b);
	block_close(b);
	cr_assert_eq(stat(image_path, &st), 0);
	cr_expect_eq(st.st_size, DISK_BYTES, "the image keeps its size");
	b = open_raw(true);
	expect_model(b);
	block_close(b);
}

static void overlay_everywhere(void)
{
	struct block *b = open_overlay(layer_path);

	everywhere(b);
	block_close(b);
	b = open_overlay(layer_path);
	expect_model(b);
	block_close(b);
	expect_image_untouched();
}

ZeroTest(raw)
{
	raw_everywhere();
}

ZeroTest(raw_where_nothing_is_known)
{
	unknown_modes = -1;
	raw_everywhere();
}

ZeroTest(raw_without_zero_range)
{
	unknown_modes = FALLOC_FL_ZERO_RANGE;
	raw_everywhere();
}

ZeroTest(kept_overlay)
{
	overlay_everywhere();
}

ZeroTest(kept_overlay_where_nothing_is_known)
{
	unknown_modes = -1;
	overlay_everywhere();
}

ZeroTest(throw_away_overlay)
{
	struct block *b = open_overlay(NULL);

	everywhere(b);
	block_close(b);
	expect_image_untouched();
}

/* More than one call's worth of zeroes. */
ZeroTest(written_zeroes_of_many_megabytes)
{
	const uint64_t size = 5u << 20, from = 4096, len = (3u << 20) + 512;
	uint8_t *data = malloc(size);
	struct iovec iov = {data, size};
	struct block *b;

	cr_assert_eq(truncate(image_path, (off_t)size), 0);
	b = open_raw(false);
	memset(data, 0x5a, size);
	cr_assert_eq(b->ops->writev(b, &iov, 1, 0), 0);
	unknown_modes = -1;
	cr_assert_eq(b->ops->zero(b, from, len, true), 0);
	cr_assert_eq(b->ops->readv(b, &iov, 1, 0), 0);
	for (uint64_t i = 0; i < size; i++)
		cr_assert_eq(data[i], i >= from && i < from + len ? 0 : 0x5a, "byte %lu", i);
	block_close(b);
	free(data);
}

static uint64_t bytes_on_disk(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The host gets the space back; zeroes that are to keep theirs do. */
ZeroTest(space_goes_back)
{
	struct block *b = open_raw(false);
	uint64_t full;

	b->ops->flush(b);
	full = bytes_on_disk(image_path);
	if (full < 20 * BS)
		cr_skip_test("this file system does not tell");
	zero(b, 0, SECTORS, false);
	b->ops->flush(b);
	cr_expect_geq(bytes_on_disk(image_path), full);
	discard(b, 0, SECTORS / 2);
	b->ops->flush(b);
	cr_expect_lt(bytes_on_disk(image_path), full);
	zero(b, 0, SECTORS, true);
	b->ops->flush(b);
	cr_expect_leq(bytes_on_disk(image_path), BS, "the last block is not a whole one");
	block_close(b);
}

/* One system call for all that is whole, however it lies in the layer. */
ZeroTest(an_overlay_is_discarded_by_one_call)
{
	struct block *b = open_overlay(layer_path);

	for (unsigned block = 0; block < 20; block += 2)
		fill(b, block * 8, 8, 7);
	calls = 0;
	discard(b, 0, SECTORS);
	cr_expect_eq(calls, 1);
	discard(b, 1, 7);
	discard(b, 4, 8);
	cr_expect_eq(calls, 1, "nothing is whole in these");
	block_close(b);
}
