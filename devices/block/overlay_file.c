/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layer files of overlays: making, finding and checking them. docs/overlay.md is the format.
 *
 * A new layer is complete, durable and locked before it gets its name, and the name is given by a
 * rename that replaces nothing. An existing file is opened for writing, but nothing is written
 * before its header was found to be ours, whole, and made for this very base. The header is
 * immutable, so it may be read before the lock is taken: then the complaint about a wrong file is
 * about what is wrong with it.
 *
 * System calls: openat, fstat, fcntl, pread64, preadv, pwrite64, ftruncate, fsync, renameat2,
 * linkat, unlink, fallocate, close.
 */
#include "overlay_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "io.h"
#include "minivm/file.h"

#define OVERLAY_MAGIC	"MINIVMOV"
#define OVERLAY_VERSION 1u

struct overlay_header {
	char magic[8];
	uint32_t version;
	uint32_t block_size;
	uint64_t base_size;
	int64_t base_mtime_ns;
	uint64_t map_start;
	uint64_t data_start;
	uint8_t zero[4044];
	uint32_t crc;
};
_Static_assert(sizeof(struct overlay_header) == OVERLAY_MAP_START, "docs/overlay.md");
_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the header is written as it is");

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

struct overlay_layout overlay_layout(uint64_t size)
{
	struct overlay_layout l;

	l.blocks = round_up(size, OVERLAY_BLOCK) / OVERLAY_BLOCK;
	l.map_bytes = round_up((l.blocks + 7) / 8, OVERLAY_MAP_PAGE);
	l.data_start = OVERLAY_MAP_START + l.map_bytes;
	l.file_bytes = l.data_start + l.blocks * OVERLAY_BLOCK;
	return l;
}

/* --- the header --- */

static uint32_t header_crc(const struct overlay_header *h)
{
	return (uint32_t)crc32(0, (const Bytef *)h, offsetof(struct overlay_header, crc));
}

static void header_fill(struct overlay_header *h, const struct block *base)
{
	struct overlay_layout l = overlay_layout(base->size);

	memset(h, 0, sizeof(*h));
	memcpy(h->magic, OVERLAY_MAGIC, sizeof(h->magic));
	h->version = OVERLAY_VERSION;
	h->block_size = OVERLAY_BLOCK;
	h->base_size = base->size;
	h->base_mtime_ns = base->mtime_ns;
	h->map_start = OVERLAY_MAP_START;
	h->data_start = l.data_start;
	h->crc = header_crc(h);
}

/* Is it a layer file that we can read? */
static int header_check(const struct overlay_header *h, const char *path, struct err *err)
{
	if (memcmp(h->magic, OVERLAY_MAGIC, sizeof(h->magic)) != 0)
		return err_set(
		    err, EINVAL,
		    "overlay %s: is not an overlay layer of minivm; it was left as it is, give "
		    "another name",
		    path);
	if (h->crc != header_crc(h))
		return err_set(err, EINVAL, "overlay %s: its header is damaged", path);
	if (h->version != OVERLAY_VERSION)
		return err_set(err, EINVAL, "overlay %s: format version %u; this minivm knows %u",
			       path, h->version, OVERLAY_VERSION);
	if (h->block_size != OVERLAY_BLOCK || h->map_start != OVERLAY_MAP_START ||
	    h->data_start != overlay_layout(h->base_size).data_start)
		return err_set(err, EINVAL, "overlay %s: its header makes no sense", path);
	return 0;
}

/* Was it made for this base, as it is now? */
static int header_check_base(const struct overlay_header *h, const char *path,
			     const struct block *base, const char *base_path, struct err *err)
{
	if (h->base_size != base->size)
		err_set(err, ESTALE,
			"overlay %s: made for a base of %llu bytes, but %s has %llu bytes", path,
			(unsigned long long)h->base_size, base_path,
			(unsigned long long)base->size);
	else if (h->base_mtime_ns != base->mtime_ns)
		err_set(err, ESTALE,
			"overlay %s: its base %s was modified since the layer was made", path,
			base_path);
	else
		return 0;
	return err_hint(err, "give the base it was made for, or delete the layer to start afresh");
}

/* --- an existing layer --- */

static int check_existing(int fd, const char *path, bool writable, const struct block *base,
			  const char *base_path, struct err *err)
{
	struct overlay_header h;
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "overlay %s: fstat", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "overlay %s: is not a regular file", path);
	memset(&h, 0, sizeof(h));
	ret = (uint64_t)st.st_size >= sizeof(h) ? file_read_at(fd, &h, sizeof(h), 0) : 0;
	if (ret < 0)
		return err_sys(err, -ret, "overlay %s: read", path);
	if (header_check(&h, path, err) < 0 ||
	    header_check_base(&h, path, base, base_path, err) < 0)
		return err->code;
	if ((uint64_t)st.st_size != overlay_layout(base->size).file_bytes)
		return err_set(err, EINVAL,
			       "overlay %s: is %lld bytes long instead of %llu: damaged", path,
			       (long long)st.st_size,
			       (unsigned long long)overlay_layout(base->size).file_bytes);
	ret = block_io_lock(fd, writable);
	if (ret == -EAGAIN)
		return err_set(err, EAGAIN,
			       "overlay %s: in use by another process; a layer serves one machine",
			       path);
	return ret < 0 ? err_sys(err, -ret, "overlay %s: lock", path) : 0;
}

/* --- a new layer --- */

/* Gives `temporary` its final name unless there is one already. */
static int give_name(const char *temporary, const char *path)
{
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	/* File systems without that flag have hard links, which do not replace either. */
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(temporary, path) < 0)
		return -errno;
	unlink(temporary);
	return 0;
}

/* Header, empty bitmap and (sparse) room for the data; locked and durable. 0 or -errno. */
static int fill_new(int fd, const struct block *base)
{
	struct overlay_layout l = overlay_layout(base->size);
	struct overlay_header h;
	int ret;

	header_fill(&h, base);
	ret = block_io_lock(fd, true);
	if (ret == 0)
		ret = file_write_at(fd, &h, sizeof(h), 0);
	/* The map gets its space now, so that no flush fails for want of it; sparse else. */
	if (ret == 0 && fallocate(fd, 0, 0, (off_t)l.data_start) < 0 && errno != EOPNOTSUPP)
		ret = -errno;
	if (ret == 0 && ftruncate(fd, (off_t)l.file_bytes) < 0)
		ret = -errno;
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

static int create(const char *path, const struct block *base, int *fd, struct err *err)
{
	char *temporary;
	int ret;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
		return err_sys(err, ENOMEM, "overlay %s", path);
	*fd = mkostemp(temporary, O_CLOEXEC);
	if (*fd < 0) {
		err_sys(err, errno, "overlay %s: create", path);
		ret = err_hint(err, "is its directory there, and writable by you?");
		goto out;
	}
	ret = fill_new(*fd, base);
	if (ret == 0)
		ret = give_name(temporary, path);
	if (ret == 0) {
		/* The layer is good without it as well, so a failure does no harm. */
		(void)file_sync_name(path);
		goto out;
	}
	err_sys(err, -ret, "overlay %s: create", path);
	unlink(temporary);
	close(*fd);
	*fd = -1;
out:
	free(temporary);
	return ret;
}

int overlay_file_open(const char *path, const struct block *base, const char *base_path, int *fd,
		      struct err *err)
{
	*fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0 && errno == ENOENT)
		return create(path, base, fd, err);
	if (*fd < 0)
		return err_sys(err, errno, "overlay %s: open", path);
	(void)fcntl(*fd, F_SETFL, 0);
	if (check_existing(*fd, path, true, base, base_path, err) < 0) {
		close(*fd);
		*fd = -1;
		return err->code;
	}
	return 0;
}

int overlay_file_open_saved(const char *path, const struct block *base, const char *base_path,
			    int *fd, struct err *err)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return err_sys(err, errno, "overlay %s: open", path);
	if (check_existing(*fd, path, false, base, base_path, err) < 0) {
		close(*fd);
		*fd = -1;
		return err->code;
	}
	return 0;
}

/* --- a throw-away layer --- */

int overlay_file_temporary(int *fd, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char *name;

	if (!dir || !*dir)
		dir = "/var/tmp";
	*fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (*fd >= 0)
		return 0;
	/* File systems that do not know O_TMPFILE say so in one of these ways. */
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		goto fail;
	if (asprintf(&name, "%s/minivm-overlay.XXXXXX", dir) < 0)
		return err_sys(err, ENOMEM, "overlay");
	*fd = mkostemp(name, O_CLOEXEC);
	if (*fd >= 0)
		unlink(name);
	free(name);
	if (*fd >= 0)
		return 0;
fail:
	err_sys(err, errno, "overlay: temporary file in %s", dir);
	return err_hint(err, "TMPDIR names another directory");
}
