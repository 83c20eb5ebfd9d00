/* SPDX-License-Identifier: Apache-2.0 */
/* The files that minivm is pointed at, good ones and bad ones, and a watch over all of them. */
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "disk.h"

#define NOBODY	       65534
#define HASH_START     0xcbf29ce484222325ull
#define HASH_FILES_MAX (256 * 1024)

const char *fixture(const struct suite *s, const char *name)
{
	static char path[4][512];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", s->dir, name);
	return p;
}

int fixture_write(const struct suite *s, const char *name, const void *data, size_t len)
{
	FILE *f = fopen(fixture(s, name), "wb");
	int rc = f && fwrite(data, 1, len, f) == len ? 0 : -EIO;

	if (f && fclose(f))
		rc = -EIO;
	return rc;
}

static int write_text(const struct suite *s, const char *name, const char *text)
{
	return fixture_write(s, name, text, strlen(text));
}

static int write_random(const struct suite *s, const char *name, size_t len, uint64_t seed)
{
	uint8_t *buf = malloc(len);
	int rc = buf ? 0 : -ENOMEM;

	for (size_t i = 0; buf && i < len; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		buf[i] = (uint8_t)(seed >> 24);
	}
	if (!rc)
		rc = fixture_write(s, name, buf, len);
	free(buf);
	return rc;
}

static int copy(const char *from, const char *to, mode_t mode)
{
	char buf[65536];
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	size_t n;
	int rc = in && out ? 0 : -errno;

	while (!rc && (n = fread(buf, 1, sizeof(buf), in)) > 0)
		rc = fwrite(buf, 1, n, out) == n ? 0 : -EIO;
	if (in)
		fclose(in);
	if (out && (fclose(out) || chmod(to, mode)) && !rc)
		rc = -errno;
	return rc;
}

static int make_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = 0;

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

static int make_texts(const struct suite *s)
{
	static const struct {
		const char *name, *text;
	} texts[] = {
	    {"empty", ""},
	    {"text", "this is neither kernel nor disk\n"},
	    {"old-console", "what was there before\n"},
	    {"old-stats", "what was there before\n"},
	    {"key.ini", "[machine]\ncpus = 1\nfrobnicate = 7\n"},
	    {"section.ini", "[frobnicate]\ncpus = 1\n"},
	    {"early.ini", "cpus = 1\n"},
	    {"value.ini", "[machine]\ncpus = lots\n"},
	    {"void.ini", "[machine]\ncpus =\n"},
	    {"twice.ini", "[machine]\ncpus = 1\ncpus = 2\n"},
	    {"shape.ini", "[machine]\nno equals sign here\n"},
	    {"bracket.ini", "[machine\ncpus = 1\n"},
	    {"nokernel.ini", "[machine]\ncpus = 1\n"},
	    {"disk.ini", "[boot]\nkernel = kernel\n[disk a]\npath = no-such\n"},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && !rc; i++)
		rc = write_text(s, texts[i].name, texts[i].text);
	return rc;
}

static int make_special_files(const struct suite *s)
{
	int rc = make_socket(fixture(s, "socket"));

	if (rc)
		return rc;
	if (mkdir(fixture(s, "dir"), 0755) || mkdir(fixture(s, "cwd"), 0777) ||
	    chmod(fixture(s, "cwd"), 0777) || mkdir(fixture(s, "closed"), 0700) ||
	    mkfifo(fixture(s, "fifo"), 0666) || symlink("nowhere", fixture(s, "dangling")) ||
	    symlink("loop", fixture(s, "loop")))
		return -errno;
	return 0;
}

static int make_disks(const struct suite *s)
{
	int rc = disk_create(fixture(s, "disk"), 1 << 20);

	if (!rc)
		rc = disk_create(fixture(s, "disk2"), 1 << 20);
	if (!rc)
		rc = disk_create(fixture(s, "noread"), 1 << 20);
	if (!rc)
		rc = disk_create(fixture(s, "nowrite"), 1 << 20);
	if (!rc)
		rc = disk_create(fixture(s, "odd"), (1 << 20) + 100);
	if (!rc)
		rc = disk_create(fixture(s, "small"), 511);
	if (!rc)
		rc = disk_create(fixture(s, "huge"), 1ull << 31);
	if (!rc && (chmod(fixture(s, "noread"), 0) || chmod(fixture(s, "nowrite"), 0444) ||
		    chmod(fixture(s, "disk"), 0666) || chmod(fixture(s, "disk2"), 0666)))
		rc = -errno;
	return rc;
}

static int make_large_ini(const struct suite *s)
{
	static char line[200001];

	memset(line, 'a', sizeof(line) - 1);
	memcpy(line, "[boot]\nkernel = ", 16);
	return write_text(s, "large.ini", line);
}

/* The same device under another name, open to all. Without it no user but root gets to KVM here. */
static void make_kvm_node(const struct suite *s)
{
	struct stat st;

	if (stat("/dev/kvm", &st) == 0 && mknod(fixture(s, "kvm"), S_IFCHR, st.st_rdev) == 0)
		(void)!chmod(fixture(s, "kvm"), 0666);
}

int fixtures_make(struct suite *s)
{
	int rc = scratch_make(s->dir, sizeof(s->dir));

	if (rc)
		return rc;
	snprintf(s->minivm, sizeof(s->minivm), "%s/minivm", s->dir);
	if (chmod(s->dir, 0755))
		return -errno;
	rc = copy(s->opt.minivm, s->minivm, 0755);
	if (!rc)
		rc = copy(s->opt.kernel, fixture(s, "kernel"), 0644);
	if (!rc)
		rc = make_texts(s);
	if (!rc)
		rc = make_special_files(s);
	if (!rc)
		rc = make_disks(s);
	if (!rc)
		rc = write_random(s, "random", 100 * 512, 0x9e3779b97f4a7c15ull);
	if (!rc)
		rc = write_random(s, "random.ini", 5000, 0x1234567ull);
	if (!rc)
		rc = make_large_ini(s);
	if (!rc)
		rc = files_make_elf(s);
	if (!rc && s->is_root)
		make_kvm_node(s);
	return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void fixtures_remove(const struct suite *s)
{
	nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the watch --- */

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ull;
	return hash;
}

static uint64_t mix_content(uint64_t hash, const char *path)
{
	uint8_t buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0)
		hash = mix(hash, buf, (size_t)n);
	if (fd >= 0)
		close(fd);
	return hash;
}

/* nftw() takes no argument for its callback, so the walk is our own. */
static uint64_t mix_tree(uint64_t hash, const char *dir, unsigned depth)
{
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		char path[1024];
		struct stat st;

		if (strcmp(name, ".") && strcmp(name, "..") &&
		    snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) &&
		    lstat(path, &st) == 0) {
			hash = mix(hash, name, strlen(name));
			hash = mix(hash, &st.st_mode, sizeof(st.st_mode));
			hash = mix(hash, &st.st_size, sizeof(st.st_size));
			hash = mix(hash, &st.st_mtim, sizeof(st.st_mtim));
			if (S_ISREG(st.st_mode) && st.st_size <= HASH_FILES_MAX)
				hash = mix_content(hash, path);
			if (S_ISDIR(st.st_mode) && depth > 0)
				hash = mix_tree(hash, path, depth - 1);
		}
		free(entries[i]);
	}
	free(entries);
	return hash;
}

uint64_t fixtures_hash(const struct suite *s)
{
	return mix_tree(HASH_START, s->dir, 3);
}

int become_nobody_with_kvm(void *suite)
{
	if (access(fixture(suite, "kvm"), F_OK) == 0 &&
	    (own_mounts() || mount(fixture(suite, "kvm"), "/dev/kvm", NULL, MS_BIND, NULL)))
		return -1;
	return become_nobody(suite);
}

int own_mounts(void)
{
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

int become_nobody(void *suite)
{
	(void)suite;
	return setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY);
}
