/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the guest's program gets into the guest: into the initrd as a second cpio archive behind the
 * first (the kernel unpacks one after the other), and, for boots from the root image, as a raw disk
 * of its own. So the images are tested as they are built.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

static void pad4(FILE *f)
{
	while (ftell(f) % 4)
		fputc(0, f);
}

/* One entry in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst). */
static void put_entry(FILE *f, unsigned ino, unsigned mode, const char *name, const void *data,
		      size_t len)
{
	fprintf(f, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X", ino, mode, 0, 0,
		1, 0, len, 0, 0, 0, 0, strlen(name) + 1, 0);
	fwrite(name, 1, strlen(name) + 1, f);
	pad4(f);
	fwrite(data, 1, len, f);
	pad4(f);
}

static int read_file(const char *path, void **data, size_t *len)
{
	struct stat st;
	FILE *f = fopen(path, "rb");
	int rc = 0;

	*data = NULL;
	if (!f || fstat(fileno(f), &st)) {
		rc = -errno;
		goto out;
	}
	*len = (size_t)st.st_size;
	*data = malloc(*len + 1);
	if (!*data || fread(*data, 1, *len, f) != *len)
		rc = -EIO;
out:
	if (f)
		fclose(f);
	return rc;
}

static int make_initrd(const struct options *opt, const void *checks, size_t checks_len)
{
	void *initrd = NULL;
	size_t len;
	FILE *f = fopen(opt->test_initrd, "wb");
	int rc = f ? read_file(opt->initrd, &initrd, &len) : -errno;

	if (rc)
		goto out;
	fwrite(initrd, 1, len, f);
	pad4(f);
	put_entry(f, 1, S_IFDIR | 0755, "usr", "", 0);
	put_entry(f, 2, S_IFDIR | 0755, "usr/bin", "", 0);
	put_entry(f, 3, S_IFREG | 0755, "usr/bin/checks", checks, checks_len);
	put_entry(f, 0, 0, "TRAILER!!!", "", 0);
	rc = ferror(f) ? -EIO : 0;
out:
	if (f && fclose(f) && !rc)
		rc = -errno;
	free(initrd);
	return rc;
}

static int make_checks_disk(const struct options *opt, const void *checks, size_t checks_len)
{
	FILE *f = fopen(opt->checks_disk, "wb");
	int rc = 0;

	if (!f)
		return -errno;
	fwrite(checks, 1, checks_len, f);
	/* Zeroes behind an ELF do no harm. */
	while (ftell(f) % 512)
		fputc(0, f);
	rc = ferror(f) ? -EIO : 0;
	if (fclose(f) && !rc)
		rc = -errno;
	return rc;
}

int images_make(struct options *opt)
{
	void *checks = NULL;
	size_t len;
	int rc = scratch_make(opt->dir, sizeof(opt->dir));

	/* One kernel cache for the run, and nothing in the home directory of who runs it. */
	if (!rc && setenv("XDG_CACHE_HOME", opt->dir, 1))
		rc = -errno;
	if (!realpath(opt->kernel, opt->kernel_full))
		rc = -errno;
	if (!rc)
		rc = read_file(opt->checks, &checks, &len);
	if (rc)
		goto out;
	snprintf(opt->test_initrd, sizeof(opt->test_initrd), "%s/initrd", opt->dir);
	snprintf(opt->checks_disk, sizeof(opt->checks_disk), "%s/checks", opt->dir);
	rc = make_initrd(opt, checks, len);
	if (!rc)
		rc = make_checks_disk(opt, checks, len);
out:
	free(checks);
	return rc;
}

void images_remove(const struct options *opt)
{
	scratch_remove(opt->dir);
}
