/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening Unix stream socket at a path of the user's (minivm/unix_listener.h).
 *
 * System calls: socket, connect, lstat, unlink, fchmod, bind, listen, accept4, access, close, and
 * those of loop.c.
 */
#include "minivm/unix_listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minivm/file.h"

#define RETRY_NS 100000000ull

static int set_address(const char *what, const char *path, struct sockaddr_un *addr,
		       struct err *err)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr->sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s %s: a socket's path has at most %zu bytes; choose a shorter one",
			       what, path, sizeof(addr->sun_path) - 1);
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	return 0;
}

static int stream_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* 1: a socket that nobody listens on; 0: nothing; else what is in the way. */
static int look(const char *what, const struct sockaddr_un *addr, struct err *err)
{
	struct stat st;
	int fd, ret = 0;

	if (lstat(addr->sun_path, &st))
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s %s", what, addr->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "%s %s: is there already, and is no socket", what,
			       addr->sun_path);
	fd = stream_socket();
	if (fd < 0)
		return err_sys(err, errno, "%s %s: socket", what, addr->sun_path);
	/* EAGAIN: its backlog is full, so there is somebody. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		ret = err_set(err, EADDRINUSE,
			      "%s %s: somebody listens there already; choose another path", what,
			      addr->sun_path);
	else if (errno != ECONNREFUSED && errno != ENOENT)
		ret = err_sys(err, errno, "%s %s: connect", what, addr->sun_path);
	close(fd);
	return ret ? ret : 1;
}

int unix_listen_check(const char *what, const char *path, struct err *err)
{
	struct sockaddr_un addr;
	int ret = set_address(what, path, &addr, err);

	if (!ret)
		ret = look(what, &addr, err);
	return ret == 0 ? file_check(what, path, err) : ret < 0 ? ret : 0;
}

static int bind_and_listen(struct unix_listener *l, int backlog)
{
	struct stat st;

	/* Before bind(): it gives the file this mode. */
	if (fchmod(l->fd, 0600) ||
	    bind(l->fd, (const struct sockaddr *)&l->addr, sizeof(l->addr)) ||
	    lstat(l->addr.sun_path, &st))
		return -errno;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return listen(l->fd, backlog) ? -errno : 0;
}

int unix_listen(const char *what, const char *path, int backlog, struct unix_listener *out,
		struct err *err)
{
	int ret;

	*out = (struct unix_listener){.fd = -1};
	ret = set_address(what, path, &out->addr, err);
	if (!ret)
		ret = look(what, &out->addr, err);
	if (ret < 0)
		return ret;
	if (ret == 1 && unlink(path))
		return err_sys(err, errno, "%s %s: cannot remove the stale socket", what, path);
	out->fd = stream_socket();
	if (out->fd < 0)
		return err_sys(err, errno, "%s %s: socket", what, path);
	ret = bind_and_listen(out, backlog);
	if (!ret)
		return 0;
	err_sys(err, -ret, "%s %s: listen", what, path);
	unix_unlisten(out);
	return ret;
}

void unix_unlisten(struct unix_listener *l)
{
	struct stat st;

	if (l->fd < 0)
		return;
	close(l->fd);
	l->fd = -1;
	if (lstat(l->addr.sun_path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->addr.sun_path);
}

/* --- on a loop --- */

static void acceptor_rearm(struct unix_acceptor *a, bool wanted)
{
	if (a->source.watched)
		loop_rearm(a->loop, &a->source, wanted ? EPOLLIN : 0);
}

static void on_retry(void *opaque)
{
	struct unix_acceptor *a = opaque;

	acceptor_rearm(a, !a->held);
}

int unix_acceptor_start(struct unix_acceptor *a, struct loop *loop, int fd, loop_event_fn *fn,
			void *opaque, struct err *err)
{
	*a = (struct unix_acceptor){.loop = loop, .source = {.fd = fd, .fn = fn, .opaque = opaque}};
	loop_timer_init(loop, &a->retry, on_retry, a);
	return loop_watch(loop, &a->source, EPOLLIN, err);
}

int unix_acceptor_move(struct unix_acceptor *a, struct loop *loop, struct err *err)
{
	unix_acceptor_stop(a);
	a->loop = loop;
	loop_timer_init(loop, &a->retry, on_retry, a);
	return loop_watch(loop, &a->source, a->held ? 0 : EPOLLIN, err);
}

void unix_acceptor_stop(struct unix_acceptor *a)
{
	if (a->loop)
		loop_unwatch(a->loop, &a->source);
	loop_timer_destroy(&a->retry);
}

int unix_accept(struct unix_acceptor *a)
{
	int fd = accept4(a->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int ret = -errno;

	if (fd >= 0)
		return fd;
	if (ret == -EAGAIN || ret == -EINTR || ret == -ECONNABORTED)
		return -EAGAIN;
	unix_accept_later(a);
	return ret;
}

void unix_accept_later(struct unix_acceptor *a)
{
	acceptor_rearm(a, false);
	loop_timer_arm(&a->retry, RETRY_NS);
}

void unix_acceptor_hold(struct unix_acceptor *a)
{
	a->held = true;
	acceptor_rearm(a, false);
}

void unix_acceptor_release(struct unix_acceptor *a)
{
	a->held = false;
	acceptor_rearm(a, true);
}
