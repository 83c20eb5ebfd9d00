// SPDX-License-Identifier: Apache-2.0
/*
 * mkcpio DIR: write DIR as a newc cpio archive, an initrd, to standard output. Everything belongs
 * to root and bears the time SOURCE_DATE_EPOCH (or 0), entries are sorted, and /dev/console and
 * /dev/null, which only root could make in DIR, are added.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
	const char *name;
	unsigned int mode;
	unsigned int major, minor;
	size_t size;
};

static unsigned int next_ino = 1;
static unsigned long mtime;

static void __attribute__((noreturn)) fail(const char *what, const char *why)
{
	fprintf(stderr, "mkcpio: %s: %s\n", what, why);
	exit(1);
}

static void pad4(size_t written)
{
	while (written++ % 4)
		putchar(0);
}

static void put_header(const struct entry *e)
{
	size_t name_size = strlen(e->name) + 1;

	printf("070701%08X%08X%08X%08X%08X%08lX%08zX%08X%08X%08X%08X%08zX%08X", next_ino++, e->mode,
	       0, 0, 1, mtime, e->size, 0, 0, e->major, e->minor, name_size, 0);
	fwrite(e->name, 1, name_size, stdout);
	pad4(110 + name_size);
}

static void put_bytes(const struct entry *e, const void *data)
{
	put_header(e);
	fwrite(data, 1, e->size, stdout);
	pad4(e->size);
}

static void put_file(const char *path, const char *name, const struct stat *st)
{
	const struct entry e = {name, st->st_mode, 0, 0, (size_t)st->st_size};
	char *data = malloc(e.size + 1);
	FILE *f = fopen(path, "rb");

	/* One byte more than expected, to see a file that grew. */
	if (!data || !f || fread(data, 1, e.size + 1, f) != e.size)
		fail(path, strerror(errno));
	put_bytes(&e, data);
	fclose(f);
	free(data);
}

static void put_link(const char *path, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target));
	const struct entry e = {name, S_IFLNK | 0777, 0, 0, (size_t)n};

	if (n < 0)
		fail(path, strerror(errno));
	put_bytes(&e, target);
}

static int is_visible(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

/* strcmp() order whatever the locale is. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* @skip: how many bytes of the paths stand for the root. */
static void put_tree(const char *dir, size_t skip)
{
	struct dirent **list;
	int n = scandir(dir, &list, is_visible, by_name);

	if (n < 0)
		fail(dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		struct stat st;

		if (snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name) >= PATH_MAX)
			fail(dir, strerror(ENAMETOOLONG));
		if (lstat(path, &st))
			fail(path, strerror(errno));
		if (S_ISDIR(st.st_mode)) {
			put_header(&(struct entry){path + skip, st.st_mode, 0, 0, 0});
			put_tree(path, skip);
		} else if (S_ISLNK(st.st_mode)) {
			put_link(path, path + skip);
		} else if (S_ISREG(st.st_mode)) {
			put_file(path, path + skip, &st);
		} else {
			fail(path, "neither file, directory nor link");
		}
		free(list[i]);
	}
	free(list);
}

int main(int argc, char **argv)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");

	if (argc != 2) {
		fprintf(stderr, "usage: mkcpio DIR >ARCHIVE\n");
		return 2;
	}
	mtime = epoch ? strtoul(epoch, NULL, 10) : 0;
	put_tree(argv[1], strlen(argv[1]) + 1);
	put_header(&(struct entry){"dev/console", S_IFCHR | 0600, 5, 1, 0});
	put_header(&(struct entry){"dev/null", S_IFCHR | 0666, 1, 3, 0});
	next_ino = 0;
	put_header(&(struct entry){"TRAILER!!!", 0, 0, 0, 0});
	if (fflush(stdout) || ferror(stdout))
		fail("standard output", strerror(errno));
	return 0;
}
