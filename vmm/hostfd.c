/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Non-blocking use of inherited descriptors.
 *
 * O_NONBLOCK belongs to the open file description, which the shell and other programs of a pipeline
 * share with us: setting it would break them, and it would stay set when we are gone. So:
 *  - sockets: MSG_DONTWAIT on each call;
 *  - pipes, terminals and other character devices: opened anew through /proc/self/fd, which gives a
 *    description of our own, with O_NONBLOCK. Where that is refused (a terminal of another user, no
 *    /proc), a poll before each transfer of a size that cannot block then: PIPE_BUF for pipes, a
 * byte for the rest, whose poll promises no more. A pseudo-terminal's master is not opened anew:
 * that would make another pair;
 *  - regular files and block devices: as they are. They do not block but for the disk, and the file
 *    offset has to stay the shared one.
 *
 * System calls: fstat, open, fcntl, poll, read, write, recvfrom, sendto, close.
 */
#include "minivm/hostfd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PTMX_DEVICE makedev(5, 2)

static int reopen(int fd, const struct stat *st, bool output)
{
	int flags = (output ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	char path[32];

	if (S_ISCHR(st->st_mode) && st->st_rdev == PTMX_DEVICE)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

int hostfd_open(struct hostfd *h, int fd, bool output, struct err *err)
{
	struct stat st;

	*h = (struct hostfd){.fd = -1};
	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "descriptor %d", fd);
	h->socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		h->fd = reopen(fd, &st, output);
		if (h->fd >= 0)
			return 0;
		h->bound = S_ISFIFO(st.st_mode) ? PIPE_BUF : 1;
	}
	h->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (h->fd < 0)
		return err_sys(err, errno, "descriptor %d", fd);
	return 0;
}

void hostfd_close(struct hostfd *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

/* Limits *len to what cannot block. 0 or -EAGAIN. */
static int bound(const struct hostfd *h, short events, size_t *len)
{
	struct pollfd pfd = {.fd = h->fd, .events = events};

	if (h->bound == 0)
		return 0;
	/* Any event: the transfer itself then tells an error or the end. */
	if (poll(&pfd, 1, 0) != 1)
		return -EAGAIN;
	if (*len > h->bound)
		*len = h->bound;
	return 0;
}

/* The result of a transfer as the header promises it. A signal is no reason to give up. */
static ssize_t result(ssize_t n)
{
	if (n >= 0)
		return n;
	return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

ssize_t hostfd_read(const struct hostfd *h, void *buf, size_t len)
{
	if (h->socket)
		return result(recv(h->fd, buf, len, MSG_DONTWAIT));
	if (bound(h, POLLIN, &len) < 0)
		return -EAGAIN;
	return result(read(h->fd, buf, len));
}

ssize_t hostfd_write(const struct hostfd *h, const void *buf, size_t len)
{
	if (h->socket)
		return result(send(h->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (bound(h, POLLOUT, &len) < 0)
		return -EAGAIN;
	return result(write(h->fd, buf, len));
}
