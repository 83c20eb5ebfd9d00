/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: what opens and what does not, locks, transfers, errors of the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "minivm/block.h"

static char dir[64];

static void setup(void)
{
	strcpy(dir, "/tmp/minivm-raw-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

#define RawTest(name, ...) Test(block_raw, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static const char *image(const char *name, off_t size)
{
	const char *path = path_of(name);
	int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	cr_assert(fd >= 0);
	cr_assert_eq(ftruncate(fd, size), 0);
	close(fd);
	return path;
}

static struct block *must_open(const char *path, bool readonly)
{
	struct block *b = NULL;
	struct err err = {0};

	cr_assert_eq(block_raw_open(path, readonly, &b, &err), 0, "%s", err.text);
	return b;
}

/* The error names the path and says `words`. */
static void must_fail(const char *path, bool readonly, int code, const char *words)
{
	struct block *b = NULL;
	struct err err = {0};
	int ret = block_raw_open(path, readonly, &b, &err);

	cr_assert_eq(ret, -code, "%d: %s", ret, err.text);
	cr_assert_eq(err.code, ret);
	cr_assert(strstr(err.text, path) != NULL, "%s", err.text);
	cr_assert(strstr(err.text, words) != NULL, "\"%s\" not in: %s", words, err.text);
	cr_assert(strchr(err.text, '\n') == NULL);
}

/* --- opening --- */

RawTest(properties)
{
	struct block *b = must_open(image("a", 5 * 512), false);

	cr_expect_eq(b->size, 5 * 512);
	cr_expect(!b->readonly);
	cr_expect(b->physical_block >= 512 && b->physical_block <= 4096);
	cr_expect_eq(b->optimal_io, 1u << 20);
	cr_expect_eq(b->physical_block & (b->physical_block - 1), 0);
	cr_expect_neq(b->mtime_ns, 0);
	block_close(b);
	block_close(NULL);
}

RawTest(bad_images)
{
	must_fail(path_of("none"), false, ENOENT, "No such file");
	must_fail(dir, false, EISDIR, "directory");
	must_fail(dir, true, EISDIR, "directory");
	must_fail(image("empty", 0), false, EINVAL, "empty");
	must_fail(image("odd", 1000), false, EINVAL, "multiple of 512");
	must_fail(image("small", 511), true, EINVAL, "multiple of 512");
	must_fail("/dev/null", true, EINVAL, "neither file nor block device");
	cr_assert_eq(mkfifo(path_of("fifo"), 0600), 0);
	must_fail(path_of("fifo"), true, EINVAL, "neither file nor block device");
}

/* Root may open everything: as somebody else. */
RawTest(permissions)
{
	const char *path = image("a", 4096);
	int status;
	pid_t pid;

	cr_assert_eq(chmod(dir, 0755), 0);
	cr_assert_eq(chmod(path, 0444), 0);
	pid = fork();
	if (pid == 0) {
		struct block *b;
		struct err err = {0};

		if (geteuid() == 0 && setuid(65534) < 0)
			_exit(1);
		if (block_raw_open(path, false, &b, &err) != -EACCES || !strstr(err.text, ",ro"))
			_exit(2);
		if (block_raw_open(path, true, &b, &err) != 0)
			_exit(3);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "%x", status);
}

RawTest(descriptors_do_not_leak_into_children)
{
	struct block *b = must_open(image("a", 4096), false);
	int fd = open("/dev/null", O_RDONLY);

	for (int i = 3; i < fd; i++) {
		int flags = fcntl(i, F_GETFD);
		char link[64], target[256];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", i);
		n = readlink(link, target, sizeof(target) - 1);
		if (n > 0 && strncmp(target, dir, strlen(dir)) == 0)
			cr_expect(flags & FD_CLOEXEC);
	}
	close(fd);
	block_close(b);
}

/* --- locks --- */

RawTest(one_writer)
{
	const char *path = image("a", 4096);
	struct block *b = must_open(path, false);

	must_fail(path, false, EAGAIN, ",overlay");
	must_fail(path, true, EAGAIN, "for writing");
	block_close(b);
	block_close(must_open(path, false));
}

RawTest(many_readers)
{
	const char *path = image("a", 4096);
	struct block *a = must_open(path, true);
	struct block *b = must_open(path, true);

	must_fail(path, false, EAGAIN, ",ro");
	block_close(a);
	must_fail(path, false, EAGAIN, ",ro");
	block_close(b);
	block_close(must_open(path, false));
}

/* --- transfers --- */

RawTest(scattered_transfers)
{
	const char *path = image("a", 64 * 512);
	struct block *b = must_open(path, false);
	uint8_t out[2048], in[2048];
	struct iovec w[4] = {{out, 1}, {out + 1, 0}, {out + 1, 1000}, {out + 1001, 1047}};
	struct iovec r[3] = {{in, 2000}, {in + 2000, 47}, {in + 2047, 1}};
	int fd;

	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	cr_expect_eq(b->ops->writev(b, w, 4, 3 * 512), 0);
	cr_expect_eq(b->ops->flush(b), 0);
	cr_expect_eq(b->ops->readv(b, r, 3, 3 * 512), 0);
	cr_expect_arr_eq(in, out, sizeof(in));
	block_close(b);

	memset(in, 0, sizeof(in));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_expect_eq(pread(fd, in, sizeof(in), 3 * 512), sizeof(in));
	cr_expect_arr_eq(in, out, sizeof(in));
	cr_expect_eq(lseek(fd, 0, SEEK_END), 64 * 512, "the image keeps its size");
	close(fd);
}

RawTest(shrunk_image)
{
	const char *path = image("a", 64 * 512);
	struct block *b = must_open(path, false);
	uint8_t in[2048];
	struct iovec r = {in, sizeof(in)};

	cr_assert_eq(truncate(path, 61 * 512), 0);
	cr_expect_eq(b->ops->readv(b, &r, 1, 60 * 512), -EIO, "half of it is there");
	cr_expect_eq(b->ops->readv(b, &r, 1, 62 * 512), -EIO);
	block_close(b);
}

/* A write that the host stops half-way is an error, not a short success. */
RawTest(write_that_hits_a_limit)
{
	const char *path = image("a", 64 * 512);
	struct rlimit limit = {62 * 512, 62 * 512};
	struct block *b = must_open(path, false);
	static uint8_t out[8 * 512];
	struct iovec w = {out, sizeof(out)};

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(b->ops->writev(b, &w, 1, 56 * 512), -EFBIG);
	block_close(b);
}
