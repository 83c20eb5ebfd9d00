/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of vsock tests: one thread, one epoll set, a few states a connection. It says on
 * standard error what goes wrong; whether that matters is the guest's to judge.
 */
#include "vsock_peer.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vsock_services.h"

#define BACKLOG 4096
#define CHUNK	(64u << 10)

struct peer;

struct conn {
	struct peer *peer;
	int fd;
	void (*ready)(struct conn *c, uint32_t events);
	uint8_t *buf; /* CHUNK bytes, or NULL */
	size_t len;   /* bytes in it that are still to be sent, from off on */
	size_t off;
	uint64_t total, in, out, sum;
	bool stalled;
	bool summed;	   /* the sum was sent */
	struct conn *next; /* of those that stall */
};

struct peer {
	int epoll;
	struct sockaddr_un addr;
	struct conn *stalled;
	struct conn listener[SERVICE_LAST - SERVICE_FIRST + 1];
};

static void watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(c->peer->epoll, EPOLL_CTL_MOD, c->fd, &ev) &&
	    epoll_ctl(c->peer->epoll, EPOLL_CTL_ADD, c->fd, &ev))
		perror("vsock peer: epoll_ctl");
}

static void end(struct conn *c)
{
	struct conn **link = &c->peer->stalled;

	while (*link && *link != c)
		link = &(*link)->next;
	if (*link)
		*link = c->next;
	close(c->fd);
	free(c->buf);
	free(c);
}

static bool need_buf(struct conn *c)
{
	if (!c->buf)
		c->buf = malloc(CHUNK);
	if (c->buf)
		return true;
	end(c);
	return false;
}

/* --- echo --- */

static void echo(struct conn *c, uint32_t events)
{
	ssize_t n;

	(void)events;
	if (!need_buf(c))
		return;
	if (c->len == 0) {
		n = recv(c->fd, c->buf, CHUNK, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			end(c);
			return;
		}
		c->len = (size_t)n;
		c->off = 0;
	}
	n = send(c->fd, c->buf + c->off, c->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN) {
		end(c);
		return;
	}
	if (n > 0) {
		c->off += (size_t)n;
		c->len -= (size_t)n;
	}
	watch(c, c->len ? EPOLLOUT : EPOLLIN);
	if (c->len == 0) {
		free(c->buf); /* a thousand may be idle */
		c->buf = NULL;
	}
}

/* --- stream --- */

/* The rest of the connection's bytes, in chunks made on the way. */
static bool stream_out(struct conn *c)
{
	ssize_t n;

	if (c->out < c->total && c->len == 0) {
		c->len = c->total - c->out < CHUNK ? (size_t)(c->total - c->out) : CHUNK;
		c->off = 0;
		for (size_t i = 0; i < c->len; i++)
			c->buf[i] = vsock_byte(0, c->out + i);
		c->out += c->len;
	}
	n = send(c->fd, c->buf + c->off, c->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	c->off += (size_t)n;
	c->len -= (size_t)n;
	return true;
}

static bool stream_in(struct conn *c)
{
	uint8_t bytes[CHUNK];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN;
	c->sum = vsock_sum(c->sum, bytes, (size_t)n);
	c->in += (size_t)n;
	return n > 0;
}

static void stream(struct conn *c, uint32_t events)
{
	bool out_done;

	if (!need_buf(c))
		return;
	if (c->total == 0) {
		if (recv(c->fd, &c->total, sizeof(c->total), 0) != sizeof(c->total)) {
			end(c);
			return;
		}
		watch(c, EPOLLIN | EPOLLOUT);
		return;
	}
	if (((events & EPOLLIN) && !stream_in(c)) || ((events & EPOLLOUT) && !stream_out(c))) {
		end(c); /* the guest has what it wanted, or says that it has not */
		return;
	}
	out_done = c->out == c->total && c->len == 0;
	if (out_done && c->in == c->total && !c->summed) {
		c->summed = true;
		(void)!send(c->fd, &c->sum, sizeof(c->sum), MSG_NOSIGNAL);
	}
	watch(c, out_done ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

/* --- stall and go --- */

static void stall(struct conn *c, uint32_t events)
{
	uint64_t result[2];

	/* Hung up while it was not looking: go on looking away. */
	if (c->stalled)
		return;
	if ((events & (EPOLLIN | EPOLLHUP)) && stream_in(c))
		return;
	result[0] = c->in;
	result[1] = c->sum;
	(void)!send(c->fd, result, sizeof(result), MSG_NOSIGNAL);
	end(c);
}

static void go(struct conn *c, uint32_t events)
{
	(void)events;
	for (struct conn *s = c->peer->stalled; s; s = s->next) {
		s->stalled = false;
		watch(s, EPOLLIN);
	}
	end(c);
}

/* --- the small ones --- */

static void vanish(struct conn *c, uint32_t events)
{
	char byte;

	(void)events;
	(void)!recv(c->fd, &byte, 1, MSG_DONTWAIT);
	end(c);
}

static void memory(struct conn *c, uint32_t events)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *in;

	(void)events;
	getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)cred.pid);
	in = fopen(path, "re");
	while (in && fgets(line, sizeof(line), in)) {
		if (strncmp(line, "VmRSS:", 6) == 0)
			kib = strtoull(line + 6, NULL, 10);
	}
	if (in)
		fclose(in);
	(void)!send(c->fd, &kib, sizeof(kib), MSG_NOSIGNAL);
	end(c);
}

/* Waits for "OK <port>", then echoes. */
static void called(struct conn *c, uint32_t events)
{
	char line[32];
	ssize_t n = recv(c->fd, line, sizeof(line) - 1, MSG_PEEK | MSG_DONTWAIT);
	const char *newline = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;

	(void)events;
	if (n > 0 && !newline)
		return;
	if (!newline || strncmp(line, "OK ", 3) != 0) {
		fprintf(stderr, "vsock peer: the guest does not accept\n");
		end(c);
		return;
	}
	(void)!recv(c->fd, line, (size_t)(newline - line + 1), 0);
	c->ready = echo;
}

static struct conn *new_conn(struct peer *p, int fd, void (*ready)(struct conn *, uint32_t))
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->peer = p;
	c->fd = fd;
	c->ready = ready;
	c->sum = VSOCK_SUM_START;
	return c;
}

static void call(struct conn *c, uint32_t events)
{
	struct peer *p = c->peer;
	uint32_t order[2];
	char line[32];
	int len;

	(void)events;
	if (recv(c->fd, order, sizeof(order), 0) != sizeof(order)) {
		end(c);
		return;
	}
	len = snprintf(line, sizeof(line), "CONNECT %u\n", order[0]);
	for (uint32_t i = 0; i < order[1]; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct conn *out;

		if (fd < 0 || connect(fd, (struct sockaddr *)&p->addr, sizeof(p->addr)) ||
		    send(fd, line, (size_t)len, MSG_NOSIGNAL) != len) {
			perror("vsock peer: cannot call the guest");
			if (fd >= 0)
				close(fd);
			break;
		}
		out = new_conn(p, fd, called);
		if (out)
			watch(out, EPOLLIN);
	}
	end(c);
}

/* --- listeners --- */

static const struct {
	void (*ready)(struct conn *c, uint32_t events);
	uint32_t first; /* events to wait for, at first; 0: none */
} services[] = {
    {echo, EPOLLIN},   {stream, EPOLLIN},  {stall, 0},	    {go, EPOLLOUT},
    {vanish, EPOLLIN}, {memory, EPOLLOUT}, {call, EPOLLIN},
};

static void accepted(struct conn *l, uint32_t events)
{
	struct peer *p = l->peer;
	size_t index = (size_t)(l - p->listener);
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c;

	(void)events;
	if (fd < 0) {
		perror("vsock peer: accept");
		return;
	}
	c = new_conn(p, fd, services[index].ready);
	if (!c)
		return;
	if (services[index].first) {
		watch(c, services[index].first);
		return;
	}
	c->stalled = true;
	c->next = p->stalled;
	p->stalled = c;
}

static int listen_at(struct peer *p, unsigned index)
{
	struct conn *l = &p->listener[index];
	struct sockaddr_un a = p->addr;
	size_t len = strlen(a.sun_path);

	l->peer = p;
	l->ready = accepted;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path + len, sizeof(a.sun_path) - len, "_%u", SERVICE_FIRST + index);
	if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&a, sizeof(a)) || listen(l->fd, BACKLOG))
		return -errno;
	watch(l, EPOLLIN);
	return 0;
}

static int open_services(struct peer *p, const char *path)
{
	int rc = 0;

	p->addr.sun_family = AF_UNIX;
	if (snprintf(p->addr.sun_path, sizeof(p->addr.sun_path), "%s", path) + 8 >
	    (int)sizeof(p->addr.sun_path))
		return -ENAMETOOLONG;
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0)
		return -errno;
	for (unsigned i = 0; rc == 0 && i <= SERVICE_LAST - SERVICE_FIRST; i++)
		rc = listen_at(p, i);
	return rc;
}

static _Noreturn void serve(struct peer *p)
{
	struct epoll_event ev;

	for (;;) {
		/* One at a time: a callback may end other connections. */
		int n = epoll_wait(p->epoll, &ev, 1, -1);
		struct conn *c = ev.data.ptr;

		if (n < 0 && errno != EINTR)
			_exit(1);
		if (n == 1)
			c->ready(c, ev.events);
	}
}

pid_t vsock_peer_start(const char *path)
{
	static struct peer peer;
	struct rlimit limit;
	pid_t pid;
	int rc;

	memset(&peer, 0, sizeof(peer));
	rc = open_services(&peer, path);
	pid = rc ? rc : fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(RLIMIT_NOFILE, &limit);
		}
		serve(&peer);
	}
	if (pid == -1)
		pid = -errno;
	for (unsigned i = 0; i <= SERVICE_LAST - SERVICE_FIRST; i++) {
		if (peer.listener[i].fd > 0)
			close(peer.listener[i].fd);
	}
	if (peer.epoll > 0)
		close(peer.epoll);
	return pid;
}

void vsock_peer_stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
