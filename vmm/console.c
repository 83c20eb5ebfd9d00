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
 * With a virtio console (hvc0) beside the UART, there is one output and one input for both. Output
 * keeps its order: what the UART has is moved into the ring `shared` before what hvc0 brings is put
 * there. Linux's driver spins, with a lock held, until it has its buffer back, so hvc0's bytes are
 * taken at once as long as the ring, after a write(2) that does not block, has room. If it has
 * none, the guest is kept waiting for STALL_NS, which a reader that is merely slow will use to make
 * room; one that does not is stalled, and from then on hvc0's bytes are dropped, and counted, until
 * it has read all that is there. Input is hvc0's while the guest's driver has it, else the UART's.
 * Linux's driver drops input from when it has given buffers until its console is registered, and
 * nothing says when that is; so input is held back until hvc0 has brought output, our init has said
 * that user space is there, or HOLD_NS have gone by. That is long, for a guest that gets little of
 * a processor, and is waited for only where some other init lets a program read without a word.
 *
 * Threads. The chip calls console_tx_ready() and console_rx_room() on vCPU threads; they only arm
 * the timer and post the work. All else runs on the loop's thread, which is also the virtio
 * device's: that is the main loop's only where there is no such device.
 *
 * System calls: those of loop.c and hostfd.c.
 */
#include "minivm/console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "minivm/byte_ring.h"
#include "minivm/hostfd.h"
#include "minivm/counter.h"
#include "minivm/clock.h"

#define TX_CAPACITY    65536
#define AHEAD_ESCAPE   65536
#define CHUNK_IN       256
#define CHUNK_OUT      4096
#define CHUNKS_PER_RUN 16
#define FLUSH_NS       1000000ull

/* hvc0's: touched as far as a reader is behind. */
#define SHARED_CAPACITY (256u << 10)
#define HOLD_NS		(10 * SECOND_NS)
#define STALL_NS	250000000ull

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

	struct byte_ring ahead; /* read, but not taken by the receiver yet */

	/* hvc0's part; `virtio` NULL: there is none. */
	struct virtio_console *virtio;
	struct byte_ring shared; /* output of both */
	struct loop_timer stall;
	bool flush_due; /* since output of hvc0 was taken */
	bool waiting;	/* the guest, for room; since `stall` was armed */
	bool dropping;	/* nobody reads */
	bool drop_said;
	bool virtio_open;	/* the guest's driver has it */
	bool listening;		/* and it will not drop input any more */
	struct loop_timer hold; /* until then, at most */
	struct loop_work up_work;
	_Atomic uint64_t virtio_dropped;
	struct loop_work resize_work;
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

/* Output that is next: the shared ring's, which is older, or the chip's. */
static size_t out_peek(struct console *c, uint8_t buf[CHUNK_OUT], bool shared)
{
	const uint8_t *front;
	size_t len;

	if (!shared)
		return serial_tx_peek(c->serial, buf, CHUNK_OUT);
	front = byte_ring_front(&c->shared, &len);
	if (len > CHUNK_OUT)
		len = CHUNK_OUT;
	memcpy(buf, front, len);
	return len;
}

static void out_consume(struct console *c, size_t len, bool shared)
{
	if (!shared) {
		serial_tx_consume(c->serial, len);
		return;
	}
	byte_ring_drop(&c->shared, len);
	if (c->shared.count == 0)
		c->dropping = c->waiting = false;
}

/* Writes a chunk, or discards it. False: nothing to do, or nothing can be done now. */
static bool out_chunk(struct console *c, bool *stalled)
{
	bool shared = c->shared.count > 0;
	uint8_t buf[CHUNK_OUT];
	size_t len = out_peek(c, buf, shared);
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
	out_consume(c, (size_t)n, shared);
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

static void out_run(struct console *c)
{
	if (out_flush(c))
		out_wait(c);
}

static void on_flush(void *opaque)
{
	struct console *c = opaque;

	out_run(c);
	if (c->virtio) {
		c->flush_due = false;
		virtio_console_tx_resume(c->virtio, 0);
	}
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
	return (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000);
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

/* How many bytes the guest takes now; it calls for them later if that is 0. */
static size_t rx_space(struct console *c)
{
	if (!c->virtio_open)
		return serial_rx_space(c->serial);
	return c->listening && virtio_console_rx_ready(c->virtio, 0) ? CHUNK_IN : 0;
}

static size_t rx_push(struct console *c, const void *bytes, size_t len)
{
	if (!c->virtio_open)
		return serial_rx_push(c->serial, bytes, len);
	return c->listening ? virtio_console_rx_push(c->virtio, 0, bytes, len) : 0;
}

/* Gives the receiver what it takes. If that is not all, it will call for the rest. */
static void ahead_push(struct console *c)
{
	while (c->ahead.count > 0) {
		size_t len, taken;
		const uint8_t *bytes = byte_ring_front(&c->ahead, &len);

		taken = rx_push(c, bytes, len);
		byte_ring_drop(&c->ahead, taken);
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
	static const uint8_t escape_key = ESCAPE_KEY;

	switch (byte) {
	case 'x':
		c->opt.quit(c->opt.opaque);
		break;
	case 'h':
		help(c);
		break;
	case 'a':
	case ESCAPE_KEY:
		byte_ring_put(&c->ahead, &escape_key, 1);
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
			byte_ring_put(&c->ahead, &bytes[i], 1);
		}
	}
	ahead_push(c);
}

/* How much to read now. rx_space() asks for a call when it is 0. */
static size_t in_wanted(struct console *c)
{
	size_t space;

	if (c->opt.escape && c->in_source.watched)
		return CHUNK_IN;
	if (c->ahead.count > 0)
		return 0;
	space = rx_space(c);
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

/* --- hvc0 --- */

/* What the UART has is older than what hvc0 brings now. */
static void move_serial(struct console *c)
{
	uint8_t buf[CHUNK_OUT];
	size_t room;

	while ((room = byte_ring_room(&c->shared)) > 0) {
		size_t len =
		    serial_tx_peek(c->serial, buf, room < sizeof(buf) ? room : sizeof(buf));

		if (len == 0)
			break;
		byte_ring_put(&c->shared, buf, len);
		serial_tx_consume(c->serial, len);
	}
}

static void drop_output(struct console *c, size_t len)
{
	count_add(&c->virtio_dropped, len);
	if (!c->drop_said)
		log_guest(c->opt.log, &c->complaints, LOG_LEVEL_WARN,
			  "console: nobody reads the output; the guest's is dropped meanwhile");
	c->drop_said = true;
}

static void on_stall(void *opaque)
{
	struct console *c = opaque;

	c->dropping = c->waiting;
	virtio_console_tx_resume(c->virtio, 0);
}

static void wait_for_room(struct console *c)
{
	if (!c->waiting)
		loop_timer_arm(&c->stall, STALL_NS);
	c->waiting = true;
}

static size_t put_shared(struct console *c, const struct iovec *iov, unsigned n, size_t len)
{
	size_t taken = 0;

	move_serial(c);
	if (byte_ring_room(&c->shared) < len) {
		out_run(c);
		move_serial(c);
	}
	for (unsigned i = 0; i < n; i++)
		taken += byte_ring_put(&c->shared, iov[i].iov_base, iov[i].iov_len);
	return taken;
}

static void on_listening(void *opaque)
{
	struct console *c = opaque;

	if (!c->virtio_open || c->listening)
		return;
	c->listening = true;
	loop_post(c->loop, &c->in_work);
}

void console_guest_is_up(struct console *c)
{
	loop_post(c->loop, &c->up_work);
}

static size_t virtio_output(void *opaque, const struct iovec *iov, unsigned n, size_t len)
{
	struct console *c = opaque;
	size_t taken = c->dropping ? 0 : put_shared(c, iov, n, len);

	if (taken > 0) {
		c->waiting = false;
	} else if (!c->dropping) {
		wait_for_room(c);
		return 0;
	} else {
		drop_output(c, len);
		taken = len;
	}
	on_listening(c);
	if (!c->flush_due)
		loop_timer_arm(&c->flush, FLUSH_NS);
	c->flush_due = true;
	return taken;
}

static void virtio_opened(void *opaque, bool open)
{
	struct console *c = opaque;

	c->virtio_open = open;
	c->listening = false;
	if (!open)
		loop_post(c->loop, &c->in_work);
	else
		loop_timer_arm(&c->hold, HOLD_NS);
}

const struct virtio_console_host console_virtio_host = {
    .output = virtio_output,
    .input_room = console_rx_room,
    .opened = virtio_opened,
};

bool console_size(const struct console *c, uint16_t *cols, uint16_t *rows)
{
	struct winsize size = {0};

	if ((ioctl(c->out.fd, TIOCGWINSZ, &size) && ioctl(c->in.fd, TIOCGWINSZ, &size)) ||
	    size.ws_col == 0 || size.ws_row == 0)
		return false;
	*cols = size.ws_col;
	*rows = size.ws_row;
	return true;
}

static void on_resize(void *opaque)
{
	struct console *c = opaque;
	uint16_t cols, rows;

	if (c->virtio && console_size(c, &cols, &rows))
		virtio_console_resize(c->virtio, cols, rows);
}

void console_resized(struct console *c)
{
	loop_post(c->loop, &c->resize_work);
}

int console_attach(struct console *c, struct virtio_console *virtio, struct err *err)
{
	if (byte_ring_init(&c->shared, SHARED_CAPACITY))
		return err_sys(err, ENOMEM, "output");
	c->virtio = virtio;
	return 0;
}

uint64_t console_dropped(const struct console *c)
{
	return count_read(&c->virtio_dropped);
}

/* --- life --- */

static int console_open_in(struct console *c, struct err *err)
{
	int rc = byte_ring_init(&c->ahead, c->opt.escape ? AHEAD_ESCAPE : CHUNK_IN);

	if (rc < 0)
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
	c->up_work = (struct loop_work){.fn = on_listening, .opaque = c};
	c->resize_work = (struct loop_work){.fn = on_resize, .opaque = c};
	if (serial_new(irq, &host, TX_CAPACITY, &c->serial, err) < 0)
		goto fail;
	loop_timer_init(loop, &c->flush, on_flush, c);
	loop_timer_init(loop, &c->stall, on_stall, c);
	loop_timer_init(loop, &c->hold, on_listening, c);
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
	loop_unpost(c->loop, &c->resize_work);
	loop_unpost(c->loop, &c->up_work);
	loop_unwatch(c->loop, &c->in_source);
	loop_unwatch(c->loop, &c->out_source);
	loop_timer_destroy(&c->flush);
	loop_timer_destroy(&c->stall);
	loop_timer_destroy(&c->hold);
	hostfd_close(&c->in);
	hostfd_close(&c->out);
	serial_destroy(c->serial);
	byte_ring_free(&c->ahead);
	byte_ring_free(&c->shared);
	free(c);
}
