/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console with a virtio console beside the UART: one output in the order of the guest, a reader
 * that is slow, stalled or gone, input to whichever the guest has, the terminal's size.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <stdlib.h>

#include "minivm/console.h"
#include "vqueues.h"
#include "pipes.h"

#define F_SIZE (1ull << 0)
#define ALL    (F_VERSION_1 | F_INDIRECT | F_SIZE)
#define RX     0u
#define TX     1u
#define SLOTS  32u

enum { DATA, IER, FCR, LCR, MCR, LSR };

struct rig {
	struct console *c;
	struct serial *s;
	struct irq_line irq;
	struct log log;
	int log_pipe[2];
	struct vdriver drv;
	struct vqueues queues;
	unsigned next_tx; /* descriptor */
};

static void on_quit(void *opaque)
{
	(void)opaque;
}

static void rig_open(struct rig *r, int in_fd, int out_fd, bool escape)
{
	struct console_options opt = {
	    .in_fd = in_fd, .out_fd = out_fd, .escape = escape, .quit = on_quit};
	struct virtio_console_port_options port = {.host = &console_virtio_host};
	struct virtio_console_options vopt = {.port = &port};
	struct virtio_console *virtio;
	struct loop *loop;
	struct err err = {0};

	signal(SIGPIPE, SIG_IGN);
	memset(r, 0, sizeof(*r));
	cr_assert_eq(pipe(r->log_pipe), 0);
	cr_assert_eq(fcntl(r->log_pipe[0], F_SETFL, O_NONBLOCK), 0);
	r->log = (struct log){.fd = r->log_pipe[1], .level = LOG_LEVEL_WARN};
	opt.log = vopt.log = &r->log;
	cr_assert_eq(loop_new(&loop, &err), 0);
	cr_assert_eq(irq_line_open(&r->irq, COM1_GSI, &err), 0);
	cr_assert_eq(console_new(loop, &r->irq, &opt, &r->c, &err), 0, "%s", err.text);
	r->s = console_serial(r->c);
	port.opaque = r->c;
	console_size(r->c, &vopt.cols, &vopt.rows);
	cr_assert_eq(virtio_console_new(&vopt, &virtio, &err), 0);
	cr_assert_eq(console_attach(r->c, virtio, &err), 0);
	vdriver_init_on(&r->drv, &virtio_console_ops, virtio, SLOTS, loop);
}

static void rig_close(struct rig *r)
{
	loop_quit(r->drv.loop);
	pthread_join(r->drv.thread, NULL);
	virtio_mmio_io_ops.destroy(r->drv.mmio);
	console_destroy(r->c);
	loop_free(r->drv.loop);
	irq_line_close(&r->drv.irq);
	close(r->drv.log.fd);
	ring_fini(&r->drv.ring);
	irq_line_close(&r->irq);
	close(r->log_pipe[0]);
	close(r->log_pipe[1]);
}

static void start(struct rig *r)
{
	vqueues_start(&r->queues, &r->drv, ALL & vdriver_offered(&r->drv), 2);
	r->next_tx = 0;
}

static void print_serial(struct rig *r, const char *text)
{
	for (; *text; text++)
		serial_io_ops.write(r->s, DATA, 1, (uint8_t)*text);
}

/* Like Linux's put_chars: waits for the buffer to come back, for a while. */
static bool print(struct rig *r, const void *bytes, size_t len, unsigned patience_ms)
{
	memcpy(vqueue_buffer_at(&r->queues, TX, r->next_tx), bytes, len);
	vqueue_offer(&r->queues, TX, r->next_tx, (uint32_t)len, false);
	r->next_tx = (r->next_tx + 1) % SLOTS;
	wr(&r->drv, R_QUEUE_NOTIFY, TX);
	for (unsigned us = 0; us < patience_ms * 1000; us += 100) {
		if (vqueue_used(&r->queues, TX) == 1)
			return true;
		usleep(100);
	}
	return false;
}

Test(console_virtio, one_output_in_order, .timeout = 30)
{
	char got[4096], want[4096] = "", piece[64];
	struct rig r;
	int out[2];

	cr_assert_eq(pipe(out), 0);
	rig_open(&r, -1, out[1], false);
	start(&r);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(piece, sizeof(piece), "serial %u;", i);
		strcat(want, piece);
		print_serial(&r, piece);
		snprintf(piece, sizeof(piece), "virtio %u;", i);
		strcat(want, piece);
		cr_assert(print(&r, piece, strlen(piece), 5000));
	}
	print_serial(&r, "end");
	strcat(want, "end");
	cr_assert_eq(pipe_read(out[0], got, strlen(want), 5000), strlen(want));
	cr_assert_arr_eq(got, want, strlen(want));
	rig_close(&r);
	close(out[0]);
	close(out[1]);
}

struct slow_reader {
	int fd;
	size_t total;
	size_t got;
	bool good;
	bool starved; /* by the host, for so long that it counts as stalled */
};

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* 16 KiB each 2 ms, 8 MB a second: far slower than the guest. */
static void *read_slowly(void *opaque)
{
	struct slow_reader *s = opaque;
	char buf[16384];

	s->good = true;
	while (s->got < s->total) {
		int64_t before = now_ms();
		size_t n = pipe_read(s->fd, buf, sizeof(buf), 5000);

		if (n == 0)
			break;
		for (size_t i = 0; i < n; i++)
			s->good = s->good && (uint8_t)buf[i] == byte_at(s->got + i);
		s->got += n;
		usleep(2000);
		s->starved = s->starved || now_ms() - before > 200;
	}
	return NULL;
}

/* True: the reader was not starved, so that the run counts. */
static bool slow_run(void)
{
	struct slow_reader reader = {.total = 2u << 20};
	uint8_t piece[VQUEUE_BUFFER_LEN];
	pthread_t thread;
	struct rig r;
	int out[2];

	cr_assert_eq(pipe(out), 0);
	reader.fd = out[0];
	rig_open(&r, -1, out[1], false);
	start(&r);
	pthread_create(&thread, NULL, read_slowly, &reader);
	for (size_t at = 0; at < reader.total; at += sizeof(piece)) {
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = byte_at(at + i);
		cr_assert(print(&r, piece, sizeof(piece), 5000));
	}
	pthread_join(thread, NULL);
	if (!reader.starved) {
		cr_assert_eq(reader.got, reader.total);
		cr_assert(reader.good);
		cr_assert_eq(console_dropped(r.c), 0);
		cr_assert_eq(pipe_lines(r.log_pipe[0]), 0);
	}
	rig_close(&r);
	close(out[0]);
	close(out[1]);
	return !reader.starved;
}

/* Nothing is lost on the way to a reader that is slow. */
Test(console_virtio, a_slow_reader, .timeout = 120)
{
	unsigned runs = 0;

	while (!slow_run())
		cr_assert_lt(++runs, 30, "this host is too busy to tell");
}

/* Nobody reads: the guest goes on after a moment, there is one line in the log, and when somebody
 * reads at last, all that was kept comes, and what is printed after that. */
Test(console_virtio, a_stalled_reader, .timeout = 60)
{
	static char got[1 << 20];
	char piece[VQUEUE_BUFFER_LEN];
	size_t printed = 0, kept;
	struct rig r;
	int out[2];

	cr_assert_eq(pipe(out), 0);
	rig_open(&r, -1, out[1], false);
	start(&r);
	memset(piece, 'x', sizeof(piece));
	for (unsigned i = 0; i < 512; i++, printed += sizeof(piece))
		cr_assert(print(&r, piece, sizeof(piece), 5000), "stuck at %zu", printed);
	cr_assert_gt(console_dropped(r.c), printed - (512u << 10));
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 1);
	kept = printed - (size_t)console_dropped(r.c);
	cr_assert_eq(pipe_read(out[0], got, kept, 5000), kept);
	cr_assert(print(&r, "again", 5, 5000));
	cr_assert_eq(pipe_read(out[0], got, 5, 5000), 5);
	cr_assert_arr_eq(got, "again", 5);
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 0);
	rig_close(&r);
	close(out[0]);
	close(out[1]);
}

Test(console_virtio, a_reader_that_is_gone, .timeout = 30)
{
	char piece[VQUEUE_BUFFER_LEN] = {0};
	struct rig r;
	int out[2];

	cr_assert_eq(pipe(out), 0);
	rig_open(&r, -1, out[1], false);
	close(out[1]);
	close(out[0]);
	start(&r);
	for (unsigned i = 0; i < 200; i++)
		cr_assert(print(&r, piece, sizeof(piece), 5000));
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 1);
	rig_close(&r);
}

/* What is buffered at the end is written then. */
Test(console_virtio, drain, .timeout = 30)
{
	char got[64];
	struct rig r;
	int out[2];

	cr_assert_eq(pipe(out), 0);
	rig_open(&r, -1, out[1], false);
	start(&r);
	cr_assert(print(&r, "last words", 10, 5000));
	loop_quit(r.drv.loop);
	pthread_join(r.drv.thread, NULL);
	console_drain(r.c, 1000);
	cr_assert_eq(pipe_read(out[0], got, 10, 5000), 10);
	cr_assert_arr_eq(got, "last words", 10);
	cr_assert_eq(pthread_create(&r.drv.thread, NULL, vdriver_loop_thread, r.drv.loop), 0);
	rig_close(&r);
	close(out[0]);
	close(out[1]);
}

static void want_input(struct rig *r, unsigned i, const char *text)
{
	uint32_t id, len;

	cr_assert(vdriver_interrupt(&r->drv, 5000));
	wr(&r->drv, R_ISR_ACK, rd(&r->drv, R_ISR));
	cr_assert(ring_take(&r->queues.ring[RX], &id, &len));
	cr_assert_eq(id, i);
	cr_assert_eq(len, strlen(text));
	cr_assert_arr_eq(vqueue_buffer_at(&r->queues, RX, i), text, len);
}

/*
 * Input is the UART's until there is a driver for hvc0, and again when there is none any more. The
 * driver may take a while until it does not drop it any more, on a busy host more than a second.
 */
Test(console_virtio, input_follows_the_driver, .timeout = 30)
{
	struct rig r;
	int in[2];

	cr_assert_eq(pipe(in), 0);
	rig_open(&r, in[0], -1, false);
	serial_io_ops.write(r.s, MCR, 1, 0x0b);
	cr_assert_eq(write(in[1], "a", 1), 1);
	for (unsigned ms = 0; !(serial_io_ops.read(r.s, LSR, 1) & 1) && ms < 5000; ms++)
		usleep(1000);
	cr_assert_eq(serial_io_ops.read(r.s, DATA, 1), 'a');
	start(&r);
	vqueue_offer(&r.queues, RX, 0, 100, true);
	vqueue_kick(&r.queues, RX);
	cr_assert_eq(write(in[1], "to hvc0", 7), 7);
	cr_assert_not(vdriver_interrupt(&r.drv, 1500));
	console_guest_is_up(r.c);
	want_input(&r, 0, "to hvc0");
	cr_assert_eq(serial_io_ops.read(r.s, LSR, 1) & 1, 0);
	/* Without a buffer it waits in the pipe. */
	cr_assert_eq(write(in[1], "later", 5), 5);
	usleep(20000);
	vqueue_offer(&r.queues, RX, 1, 100, true);
	vqueue_kick(&r.queues, RX);
	want_input(&r, 1, "later");
	wr(&r.drv, R_STATUS, 0);
	cr_assert_eq(write(in[1], "b", 1), 1);
	for (unsigned ms = 0; !(serial_io_ops.read(r.s, LSR, 1) & 1) && ms < 5000; ms++)
		usleep(1000);
	cr_assert_eq(serial_io_ops.read(r.s, DATA, 1), 'b');
	rig_close(&r);
	close(in[0]);
	close(in[1]);
}

Test(console_virtio, the_terminal_s_size, .timeout = 30)
{
	struct winsize size = {.ws_row = 25, .ws_col = 80};
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct rig r;

	cr_assert_geq(master, 0);
	cr_assert_eq(grantpt(master), 0);
	cr_assert_eq(unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	cr_assert_geq(slave, 0);
	cr_assert_eq(ioctl(master, TIOCSWINSZ, &size), 0);
	rig_open(&r, slave, slave, true);
	cr_assert(vdriver_offered(&r.drv) & F_SIZE);
	start(&r);
	cr_assert_eq(rd(&r.drv, R_CONFIG), 80 | 25 << 16);
	cr_assert_eq(rd(&r.drv, R_ISR), 2);
	wr(&r.drv, R_ISR_ACK, 2);
	size.ws_row = 50;
	cr_assert_eq(ioctl(master, TIOCSWINSZ, &size), 0);
	console_resized(r.c);
	for (unsigned ms = 0; rd(&r.drv, R_ISR) == 0 && ms < 5000; ms++)
		usleep(1000);
	cr_assert_eq(rd(&r.drv, R_CONFIG), 80 | 50 << 16);
	rig_close(&r);
	close(slave);
	close(master);
}
