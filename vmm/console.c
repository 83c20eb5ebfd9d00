/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console: COM1's host side, on the loop's thread.
 *
 * Output. The chip has a buffer of TX_CAPACITY bytes. When its first byte arrives, the vCPU that
 * wrote it arms a timer, one system call, and FLUSH_NS later the loop writes all that has gathered;
 * so a guest that prints a byte per exit costs neither a wake-up nor a write(2) per byte. If the
 * reader is slow, the loop waits for EPOLLOUT, the buffer fills and the guest sees a transmitter
 * that is busy. If the reader is gone, what the guest prints is discarded from then on; if the disk
 * is full, what does not fit is discarded and the next bytes are tried again. Either is said once.
 *
 * Input. Without the escape key, bytes are read only while the receiver has room, and no more than
 * it has, so the rest stays in the pipe or file for whoever reads it after us. With the escape key,
 * reading never stops, for Ctrl-A x has to work when the guest does not listen: the bytes wait in
 * `ahead`, and what does not fit there is dropped, as terminals do. A file that epoll cannot watch
 * (a regular file, /dev/null) is always readable: reading it is posted work, one chunk at a time.
 *
 * Threads. The chip calls console_tx_ready() and console_rx_room() on vCPU threads; they only arm
 * the timer and post the work. All else runs on the loop's thread.
 *
 * System calls: those of loop.c and hostfd.c.
 */
#include "minivm/console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "minivm/hostfd.h"

#define TX_CAPACITY    65536
#define AHEAD_ESCAPE   65536
#define CHUNK_IN       256
#define CHUNK_OUT      4096
#define CHUNKS_PER_RUN 16
#define FLUSH_NS       1000000ull

#define ESCAPE_KEY 0x01 /* Ctrl-A */

struct console {
	struct loop *loop;
	struct console_options opt;
	struct serial *serial;

	struct hostfd out; /* fd -1: discard */
	struct loop_source out_source;
	struct loop_timer flush;
	struct log_limit complaints;
	bool complained;

	struct hostfd in; /* fd -1: none, or at its end */
	struct loop_source in_source;
	struct loop_work in_work;
	bool escaped; /* the last byte was the escape key */

	uint8_t *ahead; /* ring: read, but not taken by the receiver yet */
	size_t ahead_capacity;
	size_t ahead_head;
	size_t ahead_count;
};

/* --- output --- */

static void console_tx_ready(void *opaque)
{
	struct console *c = opaque;

	loop_timer_arm(&c->flush, FLUSH_NS);
}

static bool out_is_full(int error)
{
	return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static void out_failed(struct console *c, int error)
{
	bool full = out_is_full(error);

	if (!c->complained)
		log_guest(c->opt.log, &c->complaints, LOG_LEVEL_WARN,
			  "console: cannot write output: %s; %s", strerror(error),
			  full ? "what does not fit is lost" : "it is discarded from now on");
	c->complained = true;
	if (full)
		return;
	loop_unwatch(c->loop, &c->out_source);
	hostfd_close(&c->out);
}

/* Writes a chunk, or discards it. False: nothing to do, or nothing can be done now. */
static bool out_chunk(struct console *c, bool *stalled)
{
	uint8_t buf[CHUNK_OUT];
	size_t len = serial_tx_peek(c->serial, buf, sizeof(buf));
	ssize_t n = (ssize_t)len;

	if (len == 0)
		return false;
	if (c->out.fd >= 0)
		n = hostfd_write(&c->out, buf, len);
	if (n == -EAGAIN) {
		*stalled = true;
		return false;
	}
	if (n < 0) {
		out_failed(c, (int)-n);
		n = (ssize_t)len;
	}
	serial_tx_consume(c->serial, (size_t)n);
	timeline_mark(c->opt.timeline, TIMELINE_FIRST_BYTE);
	return true;
}

/* As much as goes without waiting. Returns true if the reader has to be waited for. */
static bool out_flush(struct console *c)
{
	bool stalled = false;

	for (int i = 0; i < CHUNKS_PER_RUN; i++)
		if (!out_chunk(c, &stalled))
			return stalled;
	/* The chip speaks up only when its buffer was empty: come back by ourselves. */
	loop_timer_arm(&c->flush, FLUSH_NS);
	return false;
}

/* Waits for the reader. Most never stall: a descriptor is watched from the first time on. What
 * epoll cannot watch is tried again a little later. */
static void out_wait(struct console *c)
{
	struct err err;

	if (c->out_source.watched)
		loop_rearm(c->loop, &c->out_source, EPOLLOUT);
	else if (loop_watch(c->loop, &c->out_source, EPOLLOUT, &err) < 0)
		loop_timer_arm(&c->flush, FLUSH_NS);
}

static void on_flush(void *opaque)
{
	struct console *c = opaque;

	if (out_flush(c))
		out_wait(c);
}

static void on_out_event(void *opaque, uint32_t events)
{
	struct console *c = opaque;

	(void)events;
	loop_rearm(c->loop, &c->out_source, 0);
	on_flush(c);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void console_drain(struct console *c, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd pfd = {.events = POLLOUT};
		int64_t left;
		bool stalled = false;

		while (out_chunk(c, &stalled))
			;
		left = end - now_ms();
		if (!stalled || left <= 0)
			return;
		pfd.fd = c->out.fd;
		poll(&pfd, 1, (int)left);
	}
}

/* --- input --- */

static void console_rx_room(void *opaque)
{
	struct console *c = opaque;

	loop_post(c->loop, &c->in_work);
}

static void ahead_put(struct console *c, uint8_t byte)
{
	if (c->ahead_count < c->ahead_capacity)
		c->ahead[(c->ahead_head + c->ahead_count++) % c->ahead_capacity] = byte;
}

/* Gives the receiver what it takes. If that is not all, it will call for the rest. */
static void ahead_push(struct console *c)
{
	while (c->ahead_count > 0) {
		size_t len = c->ahead_capacity - c->ahead_head;
		size_t taken;

		if (len > c->ahead_count)
			len = c->ahead_count;
		taken = serial_rx_push(c->serial, c->ahead + c->ahead_head, len);
		c->ahead_head = (c->ahead_head + taken) % c->ahead_capacity;
		c->ahead_count -= taken;
		if (taken < len)
			return;
	}
}

static void help(struct console *c)
{
	static const char text[] = "\r\nminivm: Ctrl-A x quits, Ctrl-A a sends Ctrl-A, Ctrl-A h "
				   "shows this\r\n";

	/* Best effort, like all output to a terminal that may be stalled. */
	if (c->out.fd >= 0)
		hostfd_write(&c->out, text, sizeof(text) - 1);
}

static void escaped_key(struct console *c, uint8_t byte)
{
	switch (byte) {
	case 'x':
		c->opt.quit(c->opt.opaque);
		break;
	case 'h':
		help(c);
		break;
	case 'a':
	case ESCAPE_KEY:
		ahead_put(c, ESCAPE_KEY);
		break;
	default: /* not a command: swallowed with the key before it */
		break;
	}
}

static void in_bytes(struct console *c, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (c->escaped) {
			c->escaped = false;
			escaped_key(c, bytes[i]);
		} else if (c->opt.escape && bytes[i] == ESCAPE_KEY) {
			c->escaped = true;
		} else {
			ahead_put(c, bytes[i]);
		}
	}
	ahead_push(c);
}

/* How much to read now. serial_rx_space() asks for a call of console_rx_room() when it is 0. */
static size_t in_wanted(struct console *c)
{
	size_t space;

	if (c->opt.escape && c->in_source.watched)
		return CHUNK_IN;
	if (c->ahead_count > 0)
		return 0;
	space = serial_rx_space(c->serial);
	return space < CHUNK_IN ? space : CHUNK_IN;
}

static void in_read(struct console *c)
{
	uint8_t buf[CHUNK_IN];
	size_t wanted = in_wanted(c);
	ssize_t n;

	if (wanted == 0)
		return;
	n = hostfd_read(&c->in, buf, wanted);
	if (n > 0) {
		in_bytes(c, buf, (size_t)n);
	} else if (n != -EAGAIN) { /* the end, or an error such as a terminal that hung up */
		loop_unwatch(c->loop, &c->in_source);
		hostfd_close(&c->in);
	}
}

static void in_schedule(struct console *c)
{
	bool wanted;

	if (c->in.fd < 0)
		return;
	wanted = in_wanted(c) > 0;
	if (c->in_source.watched)
		loop_rearm(c->loop, &c->in_source, wanted ? EPOLLIN : 0);
	else if (wanted)
		loop_post(c->loop, &c->in_work);
}

static void on_in_event(void *opaque, uint32_t events)
{
	struct console *c = opaque;

	(void)events;
	in_read(c);
	in_schedule(c);
}

static void on_in_work(void *opaque)
{
	struct console *c = opaque;

	ahead_push(c);
	if (c->in.fd >= 0 && !c->in_source.watched)
		in_read(c);
	in_schedule(c);
}

/* --- life --- */

static int console_open_in(struct console *c, struct err *err)
{
	int rc;

	c->ahead_capacity = c->opt.escape ? AHEAD_ESCAPE : CHUNK_IN;
	c->ahead = malloc(c->ahead_capacity);
	if (!c->ahead)
		return err_sys(err, ENOMEM, "input");
	rc = hostfd_open(&c->in, c->opt.in_fd, false, err);
	if (rc < 0)
		return err_context(err, "input");
	c->in_source = (struct loop_source){.fd = c->in.fd, .fn = on_in_event, .opaque = c};
	rc = loop_watch(c->loop, &c->in_source, in_wanted(c) > 0 ? EPOLLIN : 0, err);
	/* A file that cannot be watched stays unwatched, which in_schedule() knows how to handle.
	 */
	return rc == -EPERM ? 0 : rc;
}

static int console_open_out(struct console *c, struct err *err)
{
	int rc = hostfd_open(&c->out, c->opt.out_fd, true, err);

	if (rc < 0)
		return err_context(err, "output");
	c->out_source = (struct loop_source){.fd = c->out.fd, .fn = on_out_event, .opaque = c};
	return 0;
}

int console_new(struct loop *loop, const struct irq_line *irq, const struct console_options *opt,
		struct console **out, struct err *err)
{
	struct console *c = calloc(1, sizeof(*c));
	struct serial_host host = {console_tx_ready, console_rx_room, c};

	if (!c)
		return err_sys(err, ENOMEM, "console");
	c->loop = loop;
	c->opt = *opt;
	c->in.fd = -1;
	c->out.fd = -1;
	c->in_work = (struct loop_work){.fn = on_in_work, .opaque = c};
	if (serial_new(irq, &host, TX_CAPACITY, &c->serial, err) < 0)
		goto fail;
	if (loop_timer_init(loop, &c->flush, on_flush, c, err) < 0)
		goto fail;
	if (opt->out_fd >= 0 && console_open_out(c, err) < 0)
		goto fail;
	if (opt->in_fd >= 0 && console_open_in(c, err) < 0)
		goto fail;
	err->code = 0;
	in_schedule(c);
	*out = c;
	return 0;
fail:
	err_context(err, "console");
	console_destroy(c);
	return err->code;
}

struct serial *console_serial(struct console *c)
{
	return c->serial;
}

void console_destroy(struct console *c)
{
	if (!c)
		return;
	loop_unpost(c->loop, &c->in_work);
	loop_unwatch(c->loop, &c->in_source);
	loop_unwatch(c->loop, &c->out_source);
	loop_timer_destroy(&c->flush);
	hostfd_close(&c->in);
	hostfd_close(&c->out);
	serial_destroy(c->serial);
	free(c->ahead);
	free(c);
}
