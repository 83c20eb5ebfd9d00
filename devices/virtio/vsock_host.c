/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of virtio-vsock: the listening socket, the CONNECT line, and connections to the
 * sockets of services. Nothing here waits; a line has a length and a time.
 *
 * A process that connects has to say where to. Until it has, it costs a connection of the table, so
 * there are not many of these at once: the rest waits in the listener's backlog, and so does
 * everybody while the table is full or descriptors are short.
 *
 * System calls: socket, connect, prlimit64, accept4, recvfrom, sendto, sendmsg, close, and those of
 * the loop and of unix_listener.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vsock_internal.h"

#define BACKLOG		 128
#define ACCEPTS_PER_TURN 32u
#define CONNECT_WORD	 "CONNECT "

/* Descriptors beside the connections': files, eventfds, KVM's. */
#define OTHER_FDS 256u

_Static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <=
		   sizeof(((struct sockaddr_un *)NULL)->sun_path),
	       "a port's path fits");

/* The loop's thread makes connections only to sockets: they answer at once, or are busy. */
int vsock_host_connect(const struct virtio_vsock *v, uint32_t port)
{
	struct sockaddr_un addr = v->socket.addr;
	size_t len = strlen(addr.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path + len, sizeof(addr.sun_path) - len, "_%u", port);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

ssize_t vsock_host_send(int fd, const struct iovec *iov, unsigned n)
{
	/* sendmsg() does not write to what it sends. */
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
	ssize_t sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0)
		return sent;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* --- the CONNECT line --- */

/* "CONNECT <port>", the line end cut off. */
static bool parse_line(const char *line, size_t len, uint32_t *port)
{
	size_t word = strlen(CONNECT_WORD);
	uint64_t value = 0;

	if (len <= word || len > word + 10 || memcmp(line, CONNECT_WORD, word) != 0)
		return false;
	for (size_t i = word; i < len; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		value = value * 10 + (unsigned)(line[i] - '0');
	}
	*port = (uint32_t)value;
	return value <= UINT32_MAX;
}

/*
 * Takes the line's next bytes, and none of those behind it: they are for the guest. 1: the line is
 * whole; 0: not yet; -1: it will not be one.
 */
static int read_line(struct vsock_conn *c)
{
	char *at = c->line + c->line_len;
	size_t room = VSOCK_LINE_MAX - c->line_len;
	ssize_t n = recv(c->host.fd, at, room, MSG_PEEK | MSG_DONTWAIT);
	const char *end;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	end = memchr(at, '\n', (size_t)n);
	if (end)
		n = end - at + 1;
	/* What was seen is there. */
	if (recv(c->host.fd, at, (size_t)n, MSG_DONTWAIT) != n)
		return -1;
	c->line_len = (uint8_t)(c->line_len + n);
	if (end)
		return 1;
	return c->line_len < VSOCK_LINE_MAX ? 0 : -1;
}

void vsock_host_handshake(struct vsock_conn *c)
{
	int ret = read_line(c);
	uint32_t port;

	if (ret == 0)
		return;
	vsock_conn_untime(c);
	if (ret < 0 || !parse_line(c->line, c->line_len - 1u, &port)) {
		count_add(&c->v->refused, 1);
		vsock_conn_free(c);
		return;
	}
	vsock_conn_request(c, port);
}

int vsock_host_answer(const struct vsock_conn *c)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	ssize_t sent = send(c->host.fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* The first bytes in this direction: they fit. */
	return sent == len ? 0 : -EPIPE;
}

/* --- the listener --- */

static void pause_accept(struct virtio_vsock *v)
{
	v->accept_paused = true;
	loop_rearm(v->loop, &v->listener, 0);
}

void vsock_host_resume(struct virtio_vsock *v)
{
	if (!v->accept_paused || v->listener.fd < 0 || v->handshakes == VSOCK_HANDSHAKES_MAX)
		return;
	v->accept_paused = false;
	loop_rearm(v->loop, &v->listener, EPOLLIN);
}

static void greet(struct virtio_vsock *v, struct vsock_conn *c, int fd)
{
	struct err err;

	v->handshakes++;
	c->host.fd = fd;
	if (loop_watch(v->loop, &c->host, EPOLLIN, &err) < 0) {
		log_guest(v->log, &v->log_limit, LOG_LEVEL_WARN, "vsock: %s", err.text);
		vsock_conn_free(c);
		return;
	}
	vsock_conn_time(c, v->connect_ns);
}

/* False: nobody is there, or there is no room. */
static bool accept_one(struct virtio_vsock *v)
{
	int fd;

	if (v->handshakes == VSOCK_HANDSHAKES_MAX || vsock_conns_full(v)) {
		pause_accept(v);
		return false;
	}
	fd = accept4(v->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return false;
	if (fd < 0) {
		log_guest(v->log, &v->log_limit, LOG_LEVEL_WARN, "vsock: accept: %s",
			  strerror(errno));
		pause_accept(v);
		vsock_conns_retry(v);
		return false;
	}
	if (v->virtio) {
		greet(v, vsock_conn_new(v), fd);
		return true;
	}
	/* The guest has no driver (yet): nobody who could answer. */
	count_add(&v->refused, 1);
	close(fd);
	return true;
}

static void accept_event(void *opaque, uint32_t events)
{
	struct virtio_vsock *v = opaque;

	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN && accept_one(v); i++)
		;
}

/* --- set-up --- */

/* Each connection is a descriptor; the usual limit of 1,024 is for programs that use select(). */
static void raise_fd_limit(void)
{
	const rlim_t want = VSOCK_CONNS_MAX + OTHER_FDS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
	/* Where it stays low, accept() and connect() will fail, and say so. */
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* With room for the ports of services behind it. */
static int check_length(const char *path, struct err *err)
{
	if (*path != '\0' && strlen(path) <= VSOCK_PATH_MAX)
		return 0;
	return err_set(err, ENAMETOOLONG,
		       "%s: a socket's path has 1 to %u bytes; choose a shorter one", path,
		       VSOCK_PATH_MAX);
}

int virtio_vsock_check(const char *path, struct err *err)
{
	int ret = check_length(path, err);

	return ret ? ret : unix_listen_check("socket", path, err);
}

int vsock_host_open(struct virtio_vsock *v, const char *path, struct err *err)
{
	int ret = check_length(path, err);

	if (!ret)
		ret = unix_listen("socket", path, BACKLOG, &v->socket, err);
	if (ret)
		return ret;
	v->listener = (struct loop_source){.fd = v->socket.fd, .fn = accept_event, .opaque = v};
	ret = loop_watch(v->loop, &v->listener, EPOLLIN, err);
	raise_fd_limit();
	return ret;
}

void vsock_host_close(struct virtio_vsock *v)
{
	if (v->listener.fd >= 0)
		loop_unwatch(v->loop, &v->listener);
	v->listener.fd = -1;
	unix_unlisten(&v->socket);
}
