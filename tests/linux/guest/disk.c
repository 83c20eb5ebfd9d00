/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: what the device says of itself, and bytes. Content is tests/lib/pattern.h's, which the
 * host compares afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checks.h"
#include "pattern.h"

#define CHUNK		  (1u << 20)
#define SECTORS_OF(bytes) ((bytes) / PATTERN_SECTOR)
#define SEGMENTS_MAX	  24

/* --- attributes --- */

static const char *base_name(const char *dev)
{
	const char *slash = strrchr(dev, '/');

	return slash ? slash + 1 : dev;
}

static uint64_t attribute(const char *dev, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", base_name(dev), name);
	return read_number(path, UINT64_MAX);
}

static void check_serial(struct checks *c, const char *dev, const char *want)
{
	char path[128], serial[64];

	snprintf(path, sizeof(path), "/sys/block/%s/serial", base_name(dev));
	read_text(path, serial, sizeof(serial));
	serial[strcspn(serial, "\n")] = '\0';
	check(c, !strcmp(serial, want), "serial number of the disk", "\"%s\", want \"%s\"", serial,
	      want);
}

void group_blk(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t bytes = next_number(&arg);
	bool readonly = !strcmp(next_field(&arg), "ro");
	const char *serial = next_field(&arg);
	uint64_t physical = attribute(dev, "queue/physical_block_size");
	uint64_t size = 0;
	int ro = -1;
	int fd = open(dev, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);

	if (!check(c, fd >= 0, "the disk is there", "%s: %s", dev, strerror(errno)))
		return;
	ioctl(fd, BLKGETSIZE64, &size);
	check(c, size == bytes && attribute(dev, "size") == SECTORS_OF(bytes), "size of the disk",
	      "%llu, want %llu", (unsigned long long)size, (unsigned long long)bytes);
	ioctl(fd, BLKROGET, &ro);
	check(c, ro == (int)readonly && attribute(dev, "ro") == (uint64_t)readonly,
	      "read-only flag of the disk", "%d, want %d", ro, readonly);
	check(c,
	      attribute(dev, "queue/logical_block_size") == 512 && physical >= 512 &&
		  physical <= (1u << 20) && !(physical & (physical - 1)),
	      "block sizes of the disk", "logical %llu, physical %llu",
	      (unsigned long long)attribute(dev, "queue/logical_block_size"),
	      (unsigned long long)physical);
	check_serial(c, dev, serial);
	/* Whether they work: group_blkzero(). */
	check(c,
	      (attribute(dev, "queue/discard_max_bytes") > 0) == !readonly &&
		  (attribute(dev, "queue/write_zeroes_max_bytes") > 0) == !readonly,
	      "discard and zeroes are for writable disks", "%llu, %llu",
	      (unsigned long long)attribute(dev, "queue/discard_max_bytes"),
	      (unsigned long long)attribute(dev, "queue/write_zeroes_max_bytes"));
	close(fd);
}

/* --- bytes --- */

/* Aligned for O_DIRECT. The caller frees it. */
static uint8_t *buffer(size_t size)
{
	void *p = NULL;

	return posix_memalign(&p, 4096, size) ? NULL : p;
}

/* Writes [sector, sector + count) in pieces of `chunk` bytes. 0 or -errno. */
static int write_pattern(int fd, uint64_t seed, uint64_t sector, uint64_t count, size_t chunk)
{
	uint8_t *buf = buffer(chunk);
	int rc = buf ? 0 : -ENOMEM;

	while (count && !rc) {
		uint64_t n = count < SECTORS_OF(chunk) ? count : SECTORS_OF(chunk);
		size_t len = (size_t)n * PATTERN_SECTOR;
		ssize_t w;

		pattern_fill(buf, seed, sector, n);
		w = pwrite(fd, buf, len, (off_t)(sector * PATTERN_SECTOR));
		if (w != (ssize_t)len)
			rc = w < 0 ? -errno : -EIO;
		sector += n;
		count -= n;
	}
	free(buf);
	return rc;
}

/* The first sector that is wrong, or UINT64_MAX; *rc 0 or -errno. */
static uint64_t read_pattern(int fd, uint64_t seed, uint64_t sector, uint64_t count, size_t chunk,
			     int *rc)
{
	uint8_t *buf = buffer(chunk);
	uint64_t bad = UINT64_MAX;

	*rc = buf ? 0 : -ENOMEM;
	while (count && !*rc && bad == UINT64_MAX) {
		uint64_t n = count < SECTORS_OF(chunk) ? count : SECTORS_OF(chunk), right;
		size_t len = (size_t)n * PATTERN_SECTOR;
		ssize_t r = pread(fd, buf, len, (off_t)(sector * PATTERN_SECTOR));

		if (r != (ssize_t)len) {
			*rc = r < 0 ? -errno : -EIO;
			break;
		}
		right = pattern_check(buf, seed, sector, n);
		if (right != n)
			bad = sector + right;
		sector += n;
		count -= n;
	}
	free(buf);
	return bad;
}

static void check_pattern(struct checks *c, const char *name, int fd, uint64_t seed,
			  uint64_t sector, uint64_t count, size_t chunk)
{
	int rc;
	uint64_t bad = read_pattern(fd, seed, sector, count, chunk, &rc);

	if (rc)
		check(c, false, name, "%s", strerror(-rc));
	else
		check(c, bad == UINT64_MAX, name, "sector %llu is wrong", (unsigned long long)bad);
}

/* --- ranges without data, and the cache --- */

#define MIB (1u << 20)

static bool reads_zeroes(int fd, uint64_t off, size_t len)
{
	uint8_t *buf = buffer(len);
	bool zero = buf && pread(fd, buf, len, (off_t)off) == (ssize_t)len;

	for (size_t i = 0; zero && i < len; i++)
		zero = buf[i] == 0;
	free(buf);
	return zero;
}

static void check_cache_type(struct checks *c, const char *dev)
{
	static const char *const modes[] = {"write through", "write back"};
	char path[128], now[64];

	snprintf(path, sizeof(path), "/sys/block/%s/cache_type", base_name(dev));
	for (unsigned i = 0; i < 2; i++) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		ssize_t n = write(fd, modes[i], strlen(modes[i]));

		close(fd);
		read_text(path, now, sizeof(now));
		now[strcspn(now, "\n")] = '\0';
		check(c, n > 0 && !strcmp(now, modes[i]), modes[i], "\"%s\"", now);
	}
}

/* Zeroes the first MiB of the disk and discards the second. */
void group_blkzero(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t zeroes[2] = {4096, MIB - 4096}, discard[2] = {MIB, MIB};
	int fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	int rc;

	if (!check(c, fd >= 0, "the disk is there", "%s: %s", dev, strerror(errno)))
		return;
	rc = write_pattern(fd, 77, 0, SECTORS_OF(MIB), MIB);
	check(c, rc == 0, "write before zeroes", "%s", strerror(-rc));
	check(c, ioctl(fd, BLKZEROOUT, zeroes) == 0, "zeroes", "%s", strerror(errno));
	check(c, reads_zeroes(fd, zeroes[0], zeroes[1]), "zeroes are read", "%s", dev);
	check(c, !reads_zeroes(fd, 0, 4096), "zeroes are where they belong", "%s", dev);
	check(c, ioctl(fd, BLKDISCARD, discard) == 0, "discard", "%s", strerror(errno));
	check_cache_type(c, dev);
	close(fd);
}

void group_blkcheck(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t seed = next_number(&arg), sector = next_number(&arg), count = next_number(&arg);
	int fd = open(dev, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (!check(c, fd >= 0, "the disk is there", "%s: %s", dev, strerror(errno)))
		return;
	check_pattern(c, "content of the disk", fd, seed, sector, count, 128 * 1024);
	close(fd);
}

void group_blkfill(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t seed = next_number(&arg), sector = next_number(&arg), count = next_number(&arg);
	int fd = open(dev, O_RDWR | O_CLOEXEC), rc;

	if (!check(c, fd >= 0, "the disk is there", "%s: %s", dev, strerror(errno)))
		return;
	rc = write_pattern(fd, seed, sector, count, 256 * 1024);
	check(c, rc == 0, "write", "%s", strerror(-rc));
	check(c, fsync(fd) == 0, "fsync", "%s", strerror(errno));
	close(fd);
}

/* --- random requests of many segments, from two threads --- */

struct worker {
	pthread_t thread;
	const char *dev;
	uint64_t seed;
	uint64_t sector; /* its part of the disk */
	uint64_t count;
	uint64_t random;
	int rc; /* 0, -errno, or 1: wrong content */
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Cuts `count` sectors at buf into segments of random length, with gaps between them in memory. */
static unsigned scatter(struct worker *w, uint8_t *buf, uint64_t count, struct iovec *iov)
{
	unsigned n = 0;

	while (count) {
		uint64_t len = 1 + next_random(&w->random) % 8;

		if (len > count || n == SEGMENTS_MAX - 1)
			len = count;
		iov[n].iov_base = buf;
		iov[n].iov_len = (size_t)len * PATTERN_SECTOR;
		buf += (len + 1) * PATTERN_SECTOR;
		count -= len;
		n++;
	}
	return n;
}

/* One request, written, then read back in other segments. */
static int one_request(struct worker *w, int fd, uint8_t *buf, uint64_t sector, uint64_t count)
{
	const off_t at = (off_t)(sector * PATTERN_SECTOR);
	const ssize_t len = (ssize_t)(count * PATTERN_SECTOR);
	struct iovec iov[SEGMENTS_MAX];
	unsigned n = scatter(w, buf, count, iov);
	uint64_t s = sector;

	for (unsigned i = 0; i < n; i++) {
		pattern_fill(iov[i].iov_base, w->seed, s, SECTORS_OF(iov[i].iov_len));
		s += SECTORS_OF(iov[i].iov_len);
	}
	if (pwritev(fd, iov, (int)n, at) != len)
		return errno ? -errno : -EIO;
	n = scatter(w, buf, count, iov);
	for (unsigned i = 0; i < n; i++)
		memset(iov[i].iov_base, 0xee, iov[i].iov_len);
	if (preadv(fd, iov, (int)n, at) != len)
		return errno ? -errno : -EIO;
	s = sector;
	for (unsigned i = 0; i < n; i++) {
		uint64_t part = SECTORS_OF(iov[i].iov_len);

		if (pattern_check(iov[i].iov_base, w->seed, s, part) != part)
			return 1;
		s += part;
	}
	return 0;
}

static void *work(void *opaque)
{
	struct worker *w = opaque;
	const uint64_t step = 64; /* sectors a request has at most */
	uint64_t blocks = (w->count + step - 1) / step;
	uint8_t *buf = buffer((step + SEGMENTS_MAX + 8) * 2 * PATTERN_SECTOR);
	int fd = open(w->dev, O_RDWR | O_DIRECT | O_CLOEXEC);

	w->rc = buf && fd >= 0 ? 0 : -ENOMEM;
	/* All blocks, each once, in an order that jumps about: 7919 is a prime. */
	for (uint64_t i = 0; i < blocks && !w->rc; i++) {
		uint64_t block = i * 7919 % blocks;
		uint64_t left = w->count - block * step;

		w->rc =
		    one_request(w, fd, buf, w->sector + block * step, left < step ? left : step);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return NULL;
}

static void check_threads(struct checks *c, const char *dev, uint64_t seed, uint64_t sector,
			  uint64_t count)
{
	struct worker w[2];

	for (unsigned i = 0; i < 2; i++) {
		w[i] = (struct worker){.dev = dev,
				       .seed = seed,
				       .sector = sector + i * (count / 2),
				       .count = i ? count - count / 2 : count / 2,
				       .random = 88172645463325252ull + i};
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	check(c, w[0].rc == 0 && w[1].rc == 0, "requests of many segments from two threads",
	      "%s, %s", w[0].rc > 0 ? "wrong content" : strerror(-w[0].rc),
	      w[1].rc > 0 ? "wrong content" : strerror(-w[1].rc));
}

static void check_beyond_end(struct checks *c, int fd, uint64_t sectors)
{
	off_t end = (off_t)(sectors * PATTERN_SECTOR);
	char byte = 0;
	ssize_t r = pread(fd, &byte, 1, end);
	ssize_t w = pwrite(fd, &byte, 1, end);

	check(c, r == 0 && w < 0 && errno == ENOSPC, "the end of the disk",
	      "read behind it: %zd, write: %zd, %s", r, w, strerror(errno));
}

void group_blkrw(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t seed = next_number(&arg), sectors = attribute(dev, "size"), q = sectors / 4;
	int cached = open(dev, O_RDWR | O_CLOEXEC);
	int direct = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	int rc;

	if (!check(c, cached >= 0 && direct >= 0, "the disk is there", "%s: %s", dev,
		   strerror(errno)))
		return;
	rc = write_pattern(cached, seed, 0, q, 64 * 1024);
	if (!rc)
		rc = fsync(cached) ? -errno : 0;
	check(c, rc == 0, "write through the page cache, fsync", "%s", strerror(-rc));
	ioctl(cached, BLKFLSBUF, 0);
	check_pattern(c, "read through the page cache", cached, seed, 0, q, 64 * 1024);
	rc = write_pattern(direct, seed, q, q, CHUNK);
	check(c, rc == 0, "direct write, 1 MiB at a time", "%s", strerror(-rc));
	check_threads(c, dev, seed, 2 * q, sectors - 2 * q);
	check_pattern(c, "direct read of the whole disk", direct, seed, 0, sectors, CHUNK);
	check_beyond_end(c, cached, sectors);
	check(c, fsync(direct) == 0, "fsync", "%s", strerror(errno));
	close(direct);
	close(cached);
}

/* --- a disk that refuses, a host without room --- */

void group_blkro(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	int fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = buffer(4096);
	ssize_t w = -1;

	if (!buf)
		return;
	memset(buf, 0xff, 4096);
	if (fd >= 0) {
		w = pwrite(fd, buf, 4096, 0);
		close(fd);
	}
	check(c, w < 0, "a read-only disk refuses writes", "%zd bytes were written", w);
	check(c, mount(dev, "/mnt", "ext4", 0, NULL) < 0,
	      "a read-only disk is not mounted writable", "it was");
	free(buf);
}

void group_blkfull(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg);
	uint64_t sectors = attribute(dev, "size"), n = SECTORS_OF(CHUNK), at = 0;
	int fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC), rc = 0;

	if (!check(c, fd >= 0, "the disk is there", "%s: %s", dev, strerror(errno)))
		return;
	while (at + n <= sectors && !(rc = write_pattern(fd, 9, at, n, CHUNK)))
		at += n;
	check(c, rc == -EIO, "no room on the host is an I/O error", "%s after %llu MiB",
	      strerror(-rc), (unsigned long long)(at / n));
	check(c, at > 0, "there was room at first", "none");
	if (at)
		check_pattern(c, "what was written before is there", fd, 9, 0, at, CHUNK);
	rc = write_pattern(fd, 9, 0, 8, 4096);
	check(c, rc == 0, "writes where there is room go on", "%s", strerror(-rc));
	close(fd);
}

/* --- file systems --- */

static void write_and_read(struct checks *c, const char *dir)
{
	char path[256];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/checks.data", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (!check(c, fd >= 0, "create a file", "%s: %s", path, strerror(errno)))
		return;
	rc = write_pattern(fd, 77, 0, SECTORS_OF(CHUNK), 60 * 1024);
	if (!rc)
		rc = fsync(fd) ? -errno : 0;
	check(c, rc == 0, "write a file, fsync", "%s", strerror(-rc));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	check_pattern(c, "read a file", fd, 77, 0, SECTORS_OF(CHUNK), 64 * 1024);
	close(fd);
}

void group_files(struct checks *c, char *arg)
{
	write_and_read(c, arg);
}

void group_mount(struct checks *c, char *arg)
{
	const char *dev = next_field(&arg), *dir = next_field(&arg);
	char path[256];
	struct stat st;

	if (!check(c, mount(dev, dir, "ext4", 0, NULL) == 0, "mount ext4", "%s on %s: %s", dev, dir,
		   strerror(errno)))
		return;
	write_and_read(c, dir);
	check(c, umount(dir) == 0, "unmount", "%s", strerror(errno));
	check(c, mount(dev, dir, "ext4", 0, NULL) == 0, "mount again", "%s", strerror(errno));
	snprintf(path, sizeof(path), "%s/checks.data", dir);
	check(c, stat(path, &st) == 0 && st.st_size == CHUNK, "the file is there", "%s",
	      strerror(errno));
	umount(dir);
}
