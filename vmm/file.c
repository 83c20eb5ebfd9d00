/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading whole files. Into an anonymous mapping rather than the heap, so that the memory of a
 * kernel image goes back to the host when it was loaded.
 */
#include "minivm/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is wrong with the kind or the size of the file, if anything. */
static int check_stat(const char *what, const char *path, uint64_t max, const struct stat *st,
		      struct err *err)
{
	if (S_ISDIR(st->st_mode))
		return err_set(err, EISDIR, "%s %s: is a directory; a file is needed", what, path);
	if (!S_ISREG(st->st_mode))
		return err_set(err, EINVAL, "%s %s: is not a regular file", what, path);
	if (st->st_size == 0)
		return err_set(err, EINVAL, "%s %s: the file is empty", what, path);
	if ((uint64_t)st->st_size > max)
		return err_set(err, EFBIG, "%s %s: %lld bytes are more than the %llu that fit",
			       what, path, (long long)st->st_size, (unsigned long long)max);
	return 0;
}

int file_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it shrank while we read it */
		done += (size_t)n;
	}
	return 0;
}

int file_write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
		    pwrite(fd, (const uint8_t *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int file_open(const char *what, const char *path, uint64_t max, struct stat *st, struct err *err)
{
	int ret;
	/* O_NONBLOCK: a FIFO without a writer must not hold us up; it is refused below. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		ret = err_sys(err, errno, "%s %s: open", what, path);
		if (ret == -EACCES)
			err_hint(err, "is it readable by you?");
		return ret;
	}
	if (fstat(fd, st))
		ret = err_sys(err, errno, "%s %s: stat", what, path);
	else
		ret = check_stat(what, path, max, st, err);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

int file_read_open(const char *what, const char *path, int fd, const struct stat *st,
		   struct bytes *out, struct err *err)
{
	size_t len = (size_t)st->st_size;
	void *buf = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (buf == MAP_FAILED)
		return err_sys(err, errno, "%s %s: %zu bytes of memory", what, path, len);
	ret = file_read_at(fd, buf, len, 0);
	if (ret) {
		munmap(buf, len);
		return err_sys(err, -ret, "%s %s: read", what, path);
	}
	*out = (struct bytes){buf, len};
	return 0;
}

int file_read(const char *what, const char *path, uint64_t max, struct bytes *out, struct err *err)
{
	struct stat st;
	int fd = file_open(what, path, max, &st, err);
	int ret;

	if (fd < 0)
		return fd;
	ret = file_read_open(what, path, fd, &st, out, err);
	close(fd);
	return ret;
}

void file_free(struct bytes *b)
{
	if (!b->data)
		return;
	/* The bytes are const for their readers; the mapping is ours. */
	munmap((void *)(uintptr_t)b->data, b->len);
	b->data = NULL;
	b->len = 0;
}

/* malloc'ed, or NULL. */
static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}

/* May a file be made in the directory of `path`? */
static int check_directory(const char *what, const char *path, struct err *err)
{
	char *dir = directory_of(path);
	int ret = 0;

	if (!dir)
		return err_set(err, ENOMEM, "%s file %s: out of memory", what, path);
	if (access(dir, W_OK | X_OK)) {
		err_sys(err, errno, "%s file %s: open", what, path);
		ret = err_hint(err, "is its directory there, and writable by you?");
	}
	free(dir);
	return ret;
}

int file_check(const char *what, const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st))
		return errno == ENOENT ? check_directory(what, path, err)
				       : err_sys(err, errno, "%s file %s: open", what, path);
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s file %s: is a directory; a file is needed", what,
			       path);
	if (access(path, W_OK)) {
		err_sys(err, errno, "%s file %s: open", what, path);
		return err_hint(err, "is it writable by you?");
	}
	return 0;
}

int file_create(const char *what, const char *path, struct err *err)
{
	int ret;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);

	if (fd >= 0)
		return fd;
	ret = err_sys(err, errno, "%s file %s: open", what, path);
	if (ret == -ENXIO)
		err_hint(err, "does anybody read this FIFO?");
	return ret;
}

int file_sync_name(const char *path)
{
	char *dir = directory_of(path);
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int ret = 0;

	if (fd < 0)
		ret = dir ? -errno : -ENOMEM;
	/* EINVAL: a file system that has nothing to sync in a directory (fsync(2)). */
	else if (fsync(fd) < 0 && errno != EINVAL)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	free(dir);
	return ret;
}
