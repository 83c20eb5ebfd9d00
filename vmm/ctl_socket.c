/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where control sockets are, and who has them.
 *
 * A socket file outlives the process that made it, so beside it is a lock file, and whoever holds
 * that lock (flock(2), gone with the process however it ends) is the machine. A socket whose lock
 * is free was left behind, and whoever finds it takes the lock and removes both. A lock file may be
 * removed between open and flock: then the lock is on a file without a name, and we try again.
 *
 * System calls: stat, mkdir, openat, flock, fstat, unlink, socket, umask, bind, listen, close.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "minivm/ctl.h"

#define BACKLOG 16

/* --- the directory --- */

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static char *directory_name(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *out = NULL;
	char user[64];
	int n;

	snprintf(user, sizeof(user), "/run/user/%u", (unsigned)geteuid());
	if (!runtime || runtime[0] != '/')
		runtime = is_directory(user) ? user : NULL;
	if (runtime)
		n = asprintf(&out, "%s/minivm", runtime);
	else
		n = asprintf(&out, "/tmp/minivm-%u", (unsigned)geteuid());
	return n < 0 ? NULL : out;
}

/* /tmp is everybody's: the directory may have been made by somebody else before us. */
static int check_directory(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return err_set(err, EPERM,
			       "%s: is not a directory that only you can write; remove it, or set "
			       "XDG_RUNTIME_DIR",
			       path);
	return 0;
}

int ctl_directory(bool make, char **out, struct err *err)
{
	char *path = directory_name();
	int ret = 0;

	if (!path)
		return err_set(err, ENOMEM, "control sockets: out of memory");
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		ret = err_sys(err, errno, "%s: mkdir", path);
	if (!ret)
		ret = check_directory(path, err);
	if (ret)
		free(path);
	else
		*out = path;
	return ret;
}

int ctl_socket_path(const char *name, bool make, char **out, struct err *err)
{
	char *dir;
	int ret = ctl_directory(make, &dir, err);

	if (ret)
		return ret;
	if (asprintf(out, "%s/%s.sock", dir, name) < 0)
		ret = err_set(err, ENOMEM, "control socket: out of memory");
	free(dir);
	return ret;
}

/* --- locks --- */

static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* The descriptor that holds the lock, or -errno; -EWOULDBLOCK: another has it. */
static int take_lock(const char *path, int flags)
{
	for (;;) {
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
		int code;

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			code = errno;
			close(fd);
			return -code;
		}
		if (same_file(fd, path))
			return fd;
		close(fd);
	}
}

static char *lock_name(const char *path)
{
	char *out;

	return asprintf(&out, "%s.lock", path) < 0 ? NULL : out;
}

bool ctl_alive(const char *path)
{
	char *lock = lock_name(path);
	bool alive = false;
	int fd;

	if (!lock)
		return false;
	fd = take_lock(lock, 0);
	if (fd == -EWOULDBLOCK)
		alive = true;
	if (fd >= 0) {
		unlink(path);
		unlink(lock);
		close(fd);
	}
	free(lock);
	return alive;
}

/* --- listening --- */

/* We have the lock, so a socket that is there is nobody's. */
static int remove_stale(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "control socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST,
			       "control socket %s: something else has that name; it was left as it "
			       "is",
			       path);
	return unlink(path) < 0 ? err_sys(err, errno, "control socket %s: unlink", path) : 0;
}

static int bind_socket(const char *path, int fd, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	mode_t mask;
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG, "control socket %s: longer than %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	/* No other thread makes files yet. */
	mask = umask(0177);
	ret = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	ret = ret < 0 ? err_sys(err, errno, "control socket %s: bind", path) : 0;
	umask(mask);
	if (!ret && listen(fd, BACKLOG) < 0)
		ret = err_sys(err, errno, "control socket %s: listen", path);
	return ret;
}

static int lock_socket(struct ctl_socket *s, struct err *err)
{
	s->lock_fd = take_lock(s->lock_path, O_CREAT);
	if (s->lock_fd >= 0)
		return 0;
	if (s->lock_fd == -EWOULDBLOCK) {
		s->lock_fd = -1;
		err_set(err, EADDRINUSE, "control socket %s: a running machine has it", s->path);
		return err_hint(err, "`minivm ps` lists the machines that have names");
	}
	err_sys(err, -s->lock_fd, "control socket: %s", s->lock_path);
	s->lock_fd = -1;
	return err->code;
}

int ctl_listen(const char *path, struct ctl_socket *s, struct err *err)
{
	int ret;

	*s = (struct ctl_socket){.fd = -1, .lock_fd = -1};
	s->path = strdup(path);
	s->lock_path = lock_name(path);
	if (!s->path || !s->lock_path) {
		ctl_unlisten(s);
		return err_set(err, ENOMEM, "control socket: out of memory");
	}
	ret = lock_socket(s, err);
	if (!ret)
		ret = remove_stale(path, err);
	if (!ret) {
		s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		ret = s->fd < 0 ? err_sys(err, errno, "control socket") : 0;
	}
	if (!ret)
		ret = bind_socket(path, s->fd, err);
	if (ret)
		ctl_unlisten(s);
	return ret;
}

void ctl_unlisten(struct ctl_socket *s)
{
	struct stat st;

	if (s->fd >= 0 && s->path) {
		if (lstat(s->path, &st) == 0 && S_ISSOCK(st.st_mode))
			unlink(s->path);
		close(s->fd);
	}
	if (s->lock_fd >= 0 && s->lock_path) {
		unlink(s->lock_path);
		close(s->lock_fd);
	}
	free(s->path);
	free(s->lock_path);
	*s = (struct ctl_socket){.fd = -1, .lock_fd = -1};
}
