/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `minivm snapshot NAME DIR`: the machine writes its files into a new directory beside DIR, which
 * then takes DIR's place. At any moment DIR is the old snapshot, or the new one, or (where the file
 * system cannot exchange two names) not there.
 *
 * System calls: mkdir, renameat2, rename, unlink, rmdir, openat, fsync, getdents64, close.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "minivm/ctl.h"
#include "minivm/file.h"
#include "minivm/snapshot.h"

/* What a snapshot's directory may hold: nothing else is ever removed. */
static bool is_ours(const char *name)
{
	static const char layer[] = ".layer";
	size_t len = strlen(name);

	return strcmp(name, SNAPSHOT_STATE_NAME) == 0 || strcmp(name, SNAPSHOT_MEMORY_NAME) == 0 ||
	       (len >= sizeof(layer) && strcmp(name + len - (sizeof(layer) - 1), layer) == 0);
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Does it hold nothing but a snapshot? With `clear`, that is removed. */
static bool each_is_ours(const char *dir, bool clear)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	bool ours = d != NULL;

	while (ours && (e = readdir(d)) != NULL) {
		if (is_dot(e->d_name))
			continue;
		ours = is_ours(e->d_name);
		if (ours && clear)
			ours = unlinkat(dirfd(d), e->d_name, 0) == 0;
	}
	if (d)
		closedir(d);
	return ours;
}

static void remove_snapshot(const char *dir)
{
	if (each_is_ours(dir, true))
		rmdir(dir);
}

static int check_target(const char *dir, struct err *err)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", dir);
	if (!S_ISDIR(st.st_mode) || !each_is_ours(dir, false))
		return err_set(err, EEXIST, "%s: is there and is no snapshot; it was left as it is",
			       dir);
	return 0;
}

/* `fresh` becomes `dir`; afterwards `fresh` is the old one, or gone. */
static int swap_in(const char *fresh, const char *dir, struct err *err)
{
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, dir, RENAME_EXCHANGE) == 0)
		return 0;
	/* There is no old one, or the file system knows no exchange: out with it first. */
	if (errno == EINVAL || errno == ENOSYS)
		remove_snapshot(dir);
	if (rename(fresh, dir) < 0)
		return err_sys(err, errno, "%s: rename", dir);
	return 0;
}

static int ask(const char *name, const char *fresh, struct err *err)
{
	json_t *json = json_pack("{s:s+, s:s+}", "snapshot_path", fresh, "/" SNAPSHOT_STATE_NAME,
				 "mem_file_path", fresh, "/" SNAPSHOT_MEMORY_NAME);
	char *body = json ? json_dumps(json, 0) : NULL;
	char *path = NULL;
	int ret = body ? ctl_socket_path(name, false, &path, err)
		       : err_set(err, EINVAL, "%s: no name that JSON can carry", fresh);

	if (!ret)
		ret = ctl_request(path, "PUT", "/snapshot/create", body, NULL, NULL, err);
	free(path);
	free(body);
	json_decref(json);
	return ret;
}

static int snapshot_into(const char *name, const char *dir, struct err *err)
{
	char *fresh;
	int ret = check_target(dir, err);

	if (ret)
		return ret;
	if (asprintf(&fresh, "%s.new-XXXXXX", dir) < 0)
		return err_set(err, ENOMEM, "%s: out of memory", dir);
	if (!mkdtemp(fresh)) {
		ret = err_sys(err, errno, "%s: mkdir", fresh);
		free(fresh);
		return ret;
	}
	ret = ask(name, fresh, err);
	if (!ret)
		ret = swap_in(fresh, dir, err);
	/* Before the old one's files go. The new one is in place, durable or not: no failure. */
	if (!ret)
		(void)file_sync_name(dir);
	remove_snapshot(fresh);
	free(fresh);
	return ret;
}

int ctl_snapshot(const char *name, const char *dir, struct err *err)
{
	char *here = dir[0] == '/' ? strdup("") : getcwd(NULL, 0);
	char *path;
	size_t len;
	int ret;

	if (!here || asprintf(&path, "%s%s%s", here, dir[0] == '/' ? "" : "/", dir) < 0) {
		free(here);
		return err_set(err, ENOMEM, "%s: out of memory", dir);
	}
	free(here);
	for (len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	ret = snapshot_into(name, path, err);
	free(path);
	return ret;
}
