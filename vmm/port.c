/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of named virtio-console ports (minivm/port.h).
 *
 * Theory of operation. Output: a writev(2) straight from guest memory, of a bounded length. If it
 * would block, EPOLLOUT resumes the device, and the guest's bytes wait in its ring; where nobody is
 * connected they wait for the next client. Input is read only when the guest has the port open and
 * has a buffer, a chunk at a time; what such a buffer was too small for waits in `ahead`, and
 * nothing more is read until it is gone.
 *
 * A client that is gone shows as EPOLLHUP, for good, so the descriptors are watched no more; what
 * the client has left for the guest is read first (`hup`), while what the guest writes has no
 * reader and is dropped. Then the guest is told that the port is closed, and the next client is let
 * in. A client that only shuts down its writing side is still there.
 *
 * FIFOs are opened for reading and writing: no end of file, no EPIPE, when others come and go.
 *
 * All of it on the device's loop. System calls: open, mkfifo, fstat, read, writev, fcntl, ioctl
 * (FIONREAD), close, and those of loop.c and unix_listener.c.
 */
#include "minivm/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "minivm/file.h"
#include "minivm/unix_listener.h"
#include "minivm/counter.h"

#define CHUNK_IN       4096
#define CHUNKS_PER_RUN 16
#define OUT_MAX	       (256u << 10)
#define OUT_PIECES     16

struct port_kind_ops;

struct port {
	const struct port_config *config;
	const struct port_kind_ops *kind;
	struct loop *loop;
	const struct log *log;
	struct log_limit log_limit;
	char what[CONFIG_PORT_NAME_MAX + 8]; /* "port NAME", for messages */

	struct virtio_console *virtio;
	unsigned id;
	bool guest_open;

	struct loop_source in;	/* fd -1: no input now */
	struct loop_source out; /* fd -1: nobody is there */
	struct unix_listener listener;
	struct unix_acceptor acceptor;
	struct loop_work pump_work;
	bool eof;	 /* the client will send no more */
	bool hup;	 /* the client is gone */
	bool discard;	 /* output failed for good */
	bool complained; /* of output */
	_Atomic uint64_t dropped;

	size_t ahead_at;
	size_t ahead_len; /* left of what was read */
	uint8_t ahead[CHUNK_IN];
};

struct port_kind_ops {
	int (*check)(const struct port_config *config, const char *what, struct err *err);
	int (*open)(struct port *p, struct err *err);
	/* writev(2) has failed with it. Returns whether the bytes are given up. */
	bool (*failed)(struct port *p, int error);
};

/* --- watching --- */

static void unwatch_and_close(struct port *p, struct loop_source *s)
{
	loop_unwatch(p->loop, s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* False: it cannot be watched (a regular file), or there is no memory. */
static bool want(struct port *p, struct loop_source *s, uint32_t events)
{
	struct err err;

	if (s->watched)
		loop_rearm(p->loop, s, events);
	else if (loop_watch(p->loop, s, events, &err) < 0)
		return false;
	return true;
}

/* --- input --- */

static void client_gone(struct port *p)
{
	unwatch_and_close(p, &p->in);
	unwatch_and_close(p, &p->out);
	p->eof = p->hup = false;
	p->ahead_len = 0;
	virtio_console_set_open(p->virtio, p->id, false);
	unix_acceptor_release(&p->acceptor);
}

/* True: nothing is left of what was read. */
static bool push_ahead(struct port *p)
{
	size_t taken;

	if (p->ahead_len == 0)
		return true;
	taken = virtio_console_rx_push(p->virtio, p->id, p->ahead + p->ahead_at, p->ahead_len);
	p->ahead_at += taken;
	p->ahead_len -= taken;
	return p->ahead_len == 0;
}

/* One chunk. False: that is all for now. */
static bool pump_chunk(struct port *p)
{
	ssize_t n;

	if (!push_ahead(p) || p->eof || !virtio_console_rx_ready(p->virtio, p->id))
		return false;
	n = read(p->in.fd, p->ahead, sizeof(p->ahead));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	p->eof = n <= 0;
	p->ahead_at = 0;
	p->ahead_len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* The client is gone, and so is what it had sent, or nobody wants it. */
static bool client_is_done(const struct port *p)
{
	int unread = 0;

	if (!p->guest_open)
		return true;
	return p->ahead_len == 0 && (p->eof || ioctl(p->in.fd, FIONREAD, &unread) || unread == 0);
}

static bool can_read(struct port *p)
{
	return !p->eof && p->ahead_len == 0 && virtio_console_rx_ready(p->virtio, p->id);
}

/* As much as goes, and comes back when more does. */
static void pump(struct port *p)
{
	unsigned chunks = 0;

	if (p->in.fd < 0)
		return;
	while (chunks < CHUNKS_PER_RUN && pump_chunk(p))
		chunks++;
	if (p->hup) {
		if (client_is_done(p))
			client_gone(p);
		else if (chunks == CHUNKS_PER_RUN)
			loop_post(p->loop, &p->pump_work);
		return;
	}
	want(p, &p->in, can_read(p) ? EPOLLIN : EPOLLHUP);
}

static void on_pump(void *opaque)
{
	pump(opaque);
}

/* No event of it is of use any more. */
static void hang_up(struct port *p)
{
	p->hup = true;
	loop_unwatch(p->loop, &p->in);
	loop_unwatch(p->loop, &p->out);
}

static void on_in_event(void *opaque, uint32_t events)
{
	struct port *p = opaque;

	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		hang_up(p);
	pump(p);
}

static void port_input_room(void *opaque)
{
	pump(opaque);
}

static void port_opened(void *opaque, bool open)
{
	struct port *p = opaque;

	p->guest_open = open;
	if (!open)
		p->ahead_len = 0;
	/* Later: this may be the end of the device. */
	loop_post(p->loop, &p->pump_work);
}

/* --- output --- */

/* What one writev(2) gets: bounded pieces, bounded length. */
static int cut(struct iovec out[OUT_PIECES], const struct iovec *iov, unsigned n)
{
	size_t left = OUT_MAX;
	int pieces = 0;

	for (unsigned i = 0; i < n && pieces < OUT_PIECES && left > 0; i++) {
		out[pieces] = iov[i];
		if (out[pieces].iov_len > left)
			out[pieces].iov_len = left;
		left -= out[pieces++].iov_len;
	}
	return pieces;
}

static size_t give_up(struct port *p, size_t len)
{
	count_add(&p->dropped, len);
	return len;
}

static size_t port_output(void *opaque, const struct iovec *iov, unsigned n, size_t len)
{
	struct port *p = opaque;
	struct iovec pieces[OUT_PIECES];
	ssize_t written;

	if (p->discard || p->hup)
		return give_up(p, len);
	if (p->out.fd < 0)
		return 0;
	written = writev(p->out.fd, pieces, cut(pieces, iov, n));
	if (written >= 0)
		return (size_t)written;
	if (errno == EAGAIN || errno == EINTR)
		return want(p, &p->out, EPOLLOUT) ? 0 : give_up(p, len);
	return p->kind->failed(p, errno) ? give_up(p, len) : 0;
}

static void on_out_event(void *opaque, uint32_t events)
{
	struct port *p = opaque;

	if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		hang_up(p);
		pump(p);
	} else {
		loop_rearm(p->loop, &p->out, 0);
	}
	virtio_console_tx_resume(p->virtio, p->id);
}

const struct virtio_console_host port_host = {
    .output = port_output,
    .input_room = port_input_room,
    .opened = port_opened,
};

/* --- files --- */

static int file_port_check(const struct port_config *config, const char *what, struct err *err)
{
	return file_check(what, config->path, err);
}

static int file_port_open(struct port *p, struct err *err)
{
	p->out.fd = file_create(p->what, p->config->path, err);
	return p->out.fd < 0 ? p->out.fd : 0;
}

/* On a full disk the next bytes are tried again. */
static bool output_failed(struct port *p, int error)
{
	bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;

	if (!p->complained)
		log_guest(p->log, &p->log_limit, LOG_LEVEL_WARN, "%s: %s: write: %s; %s", p->what,
			  p->config->path, strerror(error),
			  full ? "what does not fit is lost" : "the rest is lost");
	p->complained = true;
	p->discard = !full;
	return true;
}

/* --- sockets --- */

static int unix_port_check(const struct port_config *config, const char *what, struct err *err)
{
	return unix_listen_check(what, config->path, err);
}

/* The client may have left something to be read before it went. */
static bool client_failed(struct port *p, int error)
{
	(void)error;
	hang_up(p);
	loop_post(p->loop, &p->pump_work);
	return true;
}

static void let_in(struct port *p)
{
	/* The others wait in the backlog. */
	unix_acceptor_hold(&p->acceptor);
	virtio_console_set_open(p->virtio, p->id, true);
	virtio_console_tx_resume(p->virtio, p->id);
	pump(p);
}

/* A descriptor for each direction, as FIFOs have. 0, or -errno. */
static int take_client(struct port *p)
{
	int fd = unix_accept(&p->acceptor);
	int ret;

	if (fd < 0)
		return fd;
	p->in.fd = fd;
	p->out.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (p->out.fd >= 0)
		return 0;
	ret = -errno;
	unwatch_and_close(p, &p->in);
	unix_accept_later(&p->acceptor);
	return ret;
}

static void on_accept(void *opaque, uint32_t events)
{
	struct port *p = opaque;
	int ret = take_client(p);

	(void)events;
	if (ret == 0)
		let_in(p);
	else if (ret != -EAGAIN)
		log_guest(p->log, &p->log_limit, LOG_LEVEL_WARN,
			  "%s: accept: %s; clients have to wait", p->what, strerror(-ret));
}

/* As many clients wait as the system allows by default. */
#define BACKLOG 128

static int unix_port_open(struct port *p, struct err *err)
{
	int ret = unix_listen(p->what, p->config->path, BACKLOG, &p->listener, err);

	return ret ? ret
		   : unix_acceptor_start(&p->acceptor, p->loop, p->listener.fd, on_accept, p, err);
}

/* --- FIFOs --- */

#define FIFO_IN	 ".in"
#define FIFO_OUT ".out"

static char *fifo_path(const struct port_config *config, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s%s", config->path, suffix) < 0 ? NULL : path;
}

static int fifo_check(const struct port_config *config, const char *suffix, const char *what,
		      struct err *err)
{
	char *path = fifo_path(config, suffix);
	struct stat st;
	int ret;

	if (!path)
		return err_sys(err, ENOMEM, "%s", what);
	ret = file_check(what, path, err);
	if (!ret && stat(path, &st) == 0 && !S_ISFIFO(st.st_mode))
		ret = err_set(err, EEXIST, "%s %s: is there already, and is no FIFO", what, path);
	free(path);
	return ret;
}

static int pipe_port_check(const struct port_config *config, const char *what, struct err *err)
{
	int ret = fifo_check(config, FIFO_IN, what, err);

	return ret ? ret : fifo_check(config, FIFO_OUT, what, err);
}

static int fifo_open(const struct port *p, const char *suffix, struct err *err)
{
	char *path = fifo_path(p->config, suffix);
	struct stat st;
	int fd, ret = 0;

	if (!path)
		return err_sys(err, ENOMEM, "%s", p->what);
	if (mkfifo(path, 0600) && errno != EEXIST)
		ret = err_sys(err, errno, "%s %s: mkfifo", p->what, path);
	fd = ret ? -1 : open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (!ret && fd < 0)
		ret = err_sys(err, errno, "%s %s: open", p->what, path);
	else if (!ret && (fstat(fd, &st) || !S_ISFIFO(st.st_mode)))
		ret =
		    err_set(err, EEXIST, "%s %s: is there already, and is no FIFO", p->what, path);
	free(path);
	if (!ret)
		return fd;
	if (fd >= 0)
		close(fd);
	return ret;
}

static int pipe_port_open(struct port *p, struct err *err)
{
	p->in.fd = fifo_open(p, FIFO_IN, err);
	if (p->in.fd < 0)
		return p->in.fd;
	p->out.fd = fifo_open(p, FIFO_OUT, err);
	return p->out.fd < 0 ? p->out.fd : 0;
}

/* --- life --- */

static const struct port_kind_ops kinds[] = {
    [PORT_FILE] = {file_port_check, file_port_open, output_failed},
    [PORT_UNIX] = {unix_port_check, unix_port_open, client_failed},
    [PORT_PIPE] = {pipe_port_check, pipe_port_open, output_failed},
};

static void name_port(char what[CONFIG_PORT_NAME_MAX + 8], const struct port_config *config)
{
	snprintf(what, CONFIG_PORT_NAME_MAX + 8, "port %s", config->name);
}

int port_check(const struct port_config *config, struct err *err)
{
	char what[CONFIG_PORT_NAME_MAX + 8];

	name_port(what, config);
	return kinds[config->kind].check(config, what, err);
}

int port_open(const struct port_config *config, struct loop *loop, const struct log *log,
	      struct port **out, struct err *err)
{
	struct port *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return err_sys(err, ENOMEM, "port %s", config->name);
	p->config = config;
	p->kind = &kinds[config->kind];
	p->loop = loop;
	p->log = log;
	name_port(p->what, config);
	p->in = (struct loop_source){.fd = -1, .fn = on_in_event, .opaque = p};
	p->out = (struct loop_source){.fd = -1, .fn = on_out_event, .opaque = p};
	p->listener.fd = -1;
	p->pump_work = (struct loop_work){.fn = on_pump, .opaque = p};
	ret = p->kind->open(p, err);
	if (ret) {
		port_close(p);
		return ret;
	}
	*out = p;
	return 0;
}

void port_attach(struct port *p, struct virtio_console *virtio, unsigned id)
{
	p->virtio = virtio;
	p->id = id;
	if (p->out.fd >= 0)
		virtio_console_set_open(virtio, id, true);
}

void port_close(struct port *p)
{
	if (!p)
		return;
	loop_unpost(p->loop, &p->pump_work);
	unwatch_and_close(p, &p->in);
	unwatch_and_close(p, &p->out);
	unix_acceptor_stop(&p->acceptor);
	unix_unlisten(&p->listener);
	free(p);
}

uint64_t port_dropped(const struct port *p)
{
	return count_read(&p->dropped);
}
