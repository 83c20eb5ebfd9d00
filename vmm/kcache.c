/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel cache's directory (minivm/kcache.h says what is in it).
 *
 * Theory of operation: a start looks for the kernel file's identity, which needs its stat and one
 * open. On a miss the file is read, hashed, and looked for by content, so that copies of a kernel
 * share one entry; only then it is unpacked and added. A name is made with link(2), which never
 * replaces one: of several processes that add the same kernel at once one wins, and the others go
 * on with the file they have written, which is then nameless.
 */
#include "minivm/kcache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "minivm/file.h"

#define NAME_MAX_LEN 128

#define PREFIX_CONTENT "c1-"
#define PREFIX_FILE    "k1-"
#define PREFIX_TEMP    "t1-"

/* So many names of files, then those of other files are forgotten. */
#define FILE_NAMES_MAX 64

/* A temporary file of that age belongs to a process that was killed. */
#define TEMP_AGE_SECONDS 3600

/* --- the directory --- */

/* Opens `path`, made if need be. -errno; -EPERM if it is not ours alone. */
static int open_private(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && (mkdir(path, 0700) == 0 || errno == EEXIST))
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* AT_EUID: geteuid(), which never changes in our life, without the system call. */
	if (fstat(fd, &st) == 0 && st.st_uid == getauxval(AT_EUID) && (st.st_mode & 077) == 0)
		return fd;
	close(fd);
	return -EPERM;
}

/* Where it is by the XDG base directory specification; NULL: nowhere. The caller frees it. */
static char *default_path(void)
{
	const char *base = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char *path = NULL;
	int len = -1;

	if (base && base[0] == '/')
		len = asprintf(&path, "%s/minivm", base);
	else if (home && home[0] == '/')
		len = asprintf(&path, "%s/.cache/minivm", home);
	return len < 0 ? NULL : path;
}

/* The directory that `path` is to be made in; mostly it is there. */
static void make_parent(char *path)
{
	char *slash = strrchr(path, '/');

	*slash = '\0';
	mkdir(path, 0700);
	*slash = '/';
}

static int open_default(struct kcache *cache)
{
	char *path = default_path();

	if (!path)
		return 0;
	cache->dir = open_private(path);
	if (cache->dir == -ENOENT) {
		make_parent(path);
		cache->dir = open_private(path);
	}
	if (cache->dir == -EPERM)
		log_msg(cache->log, LOG_LEVEL_WARN,
			"kernel cache %s: not used, for it is not yours alone; chmod 700 it if it "
			"is yours, or give --kernel-cache off",
			path);
	else if (cache->dir < 0)
		log_msg(cache->log, LOG_LEVEL_DEBUG, "kernel cache %s: %s", path,
			strerror(-cache->dir));
	if (cache->dir < 0)
		cache->dir = -1;
	free(path);
	return 0;
}

int kcache_open(const char *path, const struct log *log, struct kcache *cache, struct err *err)
{
	int fd;

	*cache = (struct kcache){.dir = -1, .log = log};
	if (!path)
		return open_default(cache);
	fd = open_private(path);
	if (fd == -EPERM) {
		err_set(err, EPERM, "kernel cache %s: not yours alone", path);
		return err_hint(err, "chmod 700 it, or name another directory");
	}
	if (fd < 0)
		return err_sys(err, -fd, "kernel cache %s", path);
	cache->dir = fd;
	return 0;
}

void kcache_close(struct kcache *cache)
{
	if (cache->dir >= 0)
		close(cache->dir);
	cache->dir = -1;
}

/* --- names --- */

static void name_of_file(char name[NAME_MAX_LEN], const struct stat *st)
{
	snprintf(name, NAME_MAX_LEN, PREFIX_FILE "%llx-%llx-%llx-%llx.%lx-%llx.%lx",
		 (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
		 (unsigned long long)st->st_size, (unsigned long long)st->st_mtim.tv_sec,
		 (unsigned long)st->st_mtim.tv_nsec, (unsigned long long)st->st_ctim.tv_sec,
		 (unsigned long)st->st_ctim.tv_nsec);
}

static void name_of_content(char name[NAME_MAX_LEN], const char *hash)
{
	snprintf(name, NAME_MAX_LEN, PREFIX_CONTENT "%s", hash);
}

_Static_assert(KCACHE_HASH_LEN == SHA256_DIGEST_STRING_LENGTH, "as libmd writes it");

void kcache_hash(struct bytes file, char hash[KCACHE_HASH_LEN])
{
	SHA256Data(file.data, file.len, hash);
}

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* --- finding --- */

/* A damaged entry is taken out, so that the next one can be made. */
static bool open_entry(const struct kcache *cache, const char *name, struct kcache_entry *out)
{
	uint8_t header[KCACHE_HEADER_LEN];
	struct stat st;
	int fd = openat(cache->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	*out = (struct kcache_entry){.fd = -1};
	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    pread(fd, header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
	    kcache_decode(header, (uint64_t)st.st_size, out)) {
		out->fd = fd;
		return true;
	}
	close(fd);
	log_msg(cache->log, LOG_LEVEL_DEBUG, "kernel cache: entry %s is damaged", name);
	unlinkat(cache->dir, name, 0);
	return false;
}

void kcache_entry_close(struct kcache_entry *entry)
{
	if (entry->fd >= 0)
		close(entry->fd);
	entry->fd = -1;
}

bool kcache_find_file(const struct kcache *cache, const struct stat *st, struct kcache_entry *out)
{
	char name[NAME_MAX_LEN];

	out->fd = -1;
	if (cache->dir < 0)
		return false;
	name_of_file(name, st);
	return open_entry(cache, name, out);
}

/* --- keeping it small --- */

struct sweep {
	int dir;
	ino_t keep;	       /* the entry just used */
	const char *keep_file; /* the name just made for it, or NULL */
	unsigned entries;
	unsigned files;
	uint64_t bytes;
	char oldest[NAME_MAX + 1];
	struct timespec used; /* of the oldest */
};

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static void sweep_file_name(struct sweep *s, const char *name, const struct stat *st, bool forget)
{
	bool kept = s->keep_file && strcmp(name, s->keep_file) == 0;

	/* One link: its entry is gone. */
	if (st->st_nlink == 1 || (forget && !kept))
		unlinkat(s->dir, name, 0);
	else
		s->files++;
}

static void sweep_one(struct sweep *s, const char *name, bool forget_files)
{
	struct stat st;

	if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	if (has_prefix(name, PREFIX_TEMP) && st.st_ctim.tv_sec + TEMP_AGE_SECONDS < time(NULL))
		unlinkat(s->dir, name, 0);
	if (has_prefix(name, PREFIX_FILE))
		sweep_file_name(s, name, &st, forget_files);
	if (!has_prefix(name, PREFIX_CONTENT))
		return;
	s->entries++;
	s->bytes += (uint64_t)st.st_size;
	if (st.st_ino != s->keep && (!s->oldest[0] || before(&st.st_atim, &s->used))) {
		snprintf(s->oldest, sizeof(s->oldest), "%s", name);
		s->used = st.st_atim;
	}
}

/* Counts what is there and removes what is dead. */
static void sweep_all(struct sweep *s, bool forget_files)
{
	int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	*s = (struct sweep){.dir = s->dir, .keep = s->keep, .keep_file = s->keep_file};
	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)))
		sweep_one(s, e->d_name, forget_files);
	closedir(d);
}

static void tidy(const struct kcache *cache, int keep_fd, const char *keep_file)
{
	struct sweep s = {.dir = cache->dir, .keep_file = keep_file};
	struct stat st;

	if (fstat(keep_fd, &st))
		return;
	s.keep = st.st_ino;
	sweep_all(&s, false);
	if (s.files > FILE_NAMES_MAX)
		sweep_all(&s, true);
	while (s.oldest[0] && (s.entries > KCACHE_ENTRIES_MAX || s.bytes > KCACHE_BYTES_MAX)) {
		if (unlinkat(s.dir, s.oldest, 0) && errno != ENOENT)
			return;
		sweep_all(&s, false);
	}
}

/* --- adding --- */

/* Notes the file's identity, if there is one, and sees to it that the cache stays small. */
static void link_file(const struct kcache *cache, const char *content, const struct stat *st,
		      int fd)
{
	char name[NAME_MAX_LEN];

	if (st) {
		name_of_file(name, st);
		if (linkat(cache->dir, content, cache->dir, name, 0) && errno != EEXIST)
			log_msg(cache->log, LOG_LEVEL_DEBUG, "kernel cache: link: %s",
				strerror(errno));
	}
	tidy(cache, fd, st ? name : NULL);
}

bool kcache_find_content(const struct kcache *cache, const char *hash, const struct stat *st,
			 struct kcache_entry *out)
{
	char name[NAME_MAX_LEN];

	out->fd = -1;
	if (cache->dir < 0)
		return false;
	name_of_content(name, hash);
	if (!open_entry(cache, name, out))
		return false;
	link_file(cache, name, st, out->fd);
	return true;
}

/* The length first: what is not written is a hole, and reads as zeroes. */
static int write_entry(int fd, const struct kernel_image *image)
{
	uint8_t header[KCACHE_HEADER_LEN];
	uint64_t offset[ELF_SEGMENTS_MAX];
	uint64_t len = kcache_layout(image, offset);
	int ret = ftruncate(fd, (off_t)len) ? -errno : 0;

	for (unsigned i = 0; !ret && i < image->count; i++) {
		const struct kernel_segment *s = &image->segment[i];

		ret = file_write_at(fd, s->data.data, s->data.len,
				    offset[i] + s->paddr % GUEST_PAGE_SIZE);
	}
	kcache_encode(image, offset, len, header);
	if (!ret)
		ret = file_write_at(fd, header, sizeof(header), 0);
	/* A crash must not leave a good header before bad pages. */
	if (!ret && fdatasync(fd))
		ret = -errno;
	return ret;
}

static int make_temp(const struct kcache *cache, char name[NAME_MAX_LEN])
{
	uint64_t number;
	int fd;

	do {
		if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
			return -EIO;
		snprintf(name, NAME_MAX_LEN, PREFIX_TEMP "%016llx", (unsigned long long)number);
		fd = openat(cache->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} while (fd < 0 && errno == EEXIST);
	return fd < 0 ? -errno : fd;
}

bool kcache_add(const struct kcache *cache, const char *hash, const struct stat *st,
		const struct kernel_image *image, struct kcache_entry *out)
{
	char temp[NAME_MAX_LEN], name[NAME_MAX_LEN];
	bool found = false;
	int fd, ret;

	out->fd = -1;
	if (cache->dir < 0)
		return false;
	fd = make_temp(cache, temp);
	if (fd < 0) {
		log_msg(cache->log, LOG_LEVEL_DEBUG, "kernel cache: %s", strerror(-fd));
		return false;
	}
	ret = write_entry(fd, image);
	close(fd);
	if (ret) {
		log_msg(cache->log, LOG_LEVEL_DEBUG, "kernel cache: write: %s", strerror(-ret));
		goto out;
	}
	found = open_entry(cache, temp, out);
	name_of_content(name, hash);
	if (found && (linkat(cache->dir, temp, cache->dir, name, 0) == 0 || errno == EEXIST))
		link_file(cache, name, st, out->fd);
out:
	unlinkat(cache->dir, temp, 0);
	return found;
}
