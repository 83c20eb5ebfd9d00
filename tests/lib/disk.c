/* SPDX-License-Identifier: Apache-2.0 */
/* Images are worked on in pieces, so that large sparse ones cost no memory. */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"

#define PIECE 128u /* sectors */

int scratch_make(char *path, size_t size)
{
	const char *base = getenv("TMPDIR");
	int n = snprintf(path, size, "%s/minivm-test-XXXXXX", base && *base ? base : "/tmp");

	if (n < 0 || (size_t)n >= size)
		return -ENAMETOOLONG;
	return mkdtemp(path) ? 0 : -errno;
}

int scratch_remove(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	return rmdir(path) ? -errno : 0;
}

int disk_create(const char *path, uint64_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, (off_t)bytes) ? -errno : 0;
	close(fd);
	return rc;
}

int disk_fill(const char *path, uint64_t seed, uint64_t sector, uint64_t count)
{
	uint64_t buf[PIECE * PATTERN_WORDS];
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	while (count && !rc) {
		uint64_t n = count < PIECE ? count : PIECE;
		size_t len = (size_t)n * PATTERN_SECTOR;

		pattern_fill(buf, seed, sector, n);
		if (pwrite(fd, buf, len, (off_t)(sector * PATTERN_SECTOR)) != (ssize_t)len)
			rc = errno ? -errno : -EIO;
		sector += n;
		count -= n;
	}
	close(fd);
	return rc;
}

static uint64_t zeroes(const void *buf, uint64_t count)
{
	static const char none[PATTERN_SECTOR];
	uint64_t s = 0;

	while (s < count && !memcmp((const char *)buf + s * PATTERN_SECTOR, none, sizeof(none)))
		s++;
	return s;
}

static int check(const char *path, const uint64_t *seed, uint64_t sector, uint64_t count,
		 uint64_t *bad)
{
	uint64_t buf[PIECE * PATTERN_WORDS];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t done = 0, right = 0, n = 0;
	int rc = 0;

	if (fd < 0)
		return -errno;
	for (; done < count && right == n; done += right) {
		size_t len;

		n = count - done < PIECE ? count - done : PIECE;
		len = (size_t)n * PATTERN_SECTOR;
		if (pread(fd, buf, len, (off_t)((sector + done) * PATTERN_SECTOR)) !=
		    (ssize_t)len) {
			rc = -EIO;
			break;
		}
		right = seed ? pattern_check(buf, *seed, sector + done, n) : zeroes(buf, n);
	}
	*bad = done;
	close(fd);
	return rc;
}

int disk_check(const char *path, uint64_t seed, uint64_t sector, uint64_t count, uint64_t *bad)
{
	return check(path, &seed, sector, count, bad);
}

int disk_zero(const char *path, uint64_t sector, uint64_t count, uint64_t *bad)
{
	return check(path, NULL, sector, count, bad);
}
