/* SPDX-License-Identifier: Apache-2.0 */
/* Console: output and input through every kind of descriptor, the escape key, stalls and ends. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "minivm/clock.h"
#include "minivm/console.h"
#include "pipes.h"

enum { DATA, IER, IIR, LCR, MCR, LSR };
#define FCR IIR

/* What must come is waited for on a busy host, too; what must not come, for a moment. */
#define PATIENCE_MS 10000
#define MOMENT_MS   300

struct rig {
	struct loop *loop;
	struct console *c;
	struct serial *s;
	struct irq_line irq;
	struct log log;
	int log_pipe[2];
	atomic_uint quits;
	pthread_t thread;
};

static void on_quit(void *opaque)
{
	struct rig *r = opaque;

	atomic_fetch_add(&r->quits, 1);
}

static void *run_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static void rig_open(struct rig *r, int in_fd, int out_fd, bool escape)
{
	struct console_options opt = {.in_fd = in_fd, .out_fd = out_fd, .escape = escape};
	struct err err = {0};

	signal(SIGPIPE, SIG_IGN);
	memset(r, 0, sizeof(*r));
	cr_assert_eq(pipe(r->log_pipe), 0);
	cr_assert_eq(fcntl(r->log_pipe[0], F_SETFL, O_NONBLOCK), 0);
	r->log = (struct log){.fd = r->log_pipe[1], .level = LOG_LEVEL_WARN};
	opt.log = &r->log;
	opt.quit = on_quit;
	opt.opaque = r;
	cr_assert_eq(loop_new(&r->loop, &err), 0);
	cr_assert_eq(irq_line_open(&r->irq, COM1_GSI, &err), 0);
	cr_assert_eq(console_new(r->loop, &r->irq, &opt, &r->c, &err), 0, "%s", err.text);
	cr_assert_eq(err.code, 0);
	r->s = console_serial(r->c);
	cr_assert_eq(pthread_create(&r->thread, NULL, run_thread, r->loop), 0);
}

static void rig_stop(struct rig *r)
{
	loop_quit(r->loop);
	pthread_join(r->thread, NULL);
}

static void rig_close(struct rig *r)
{
	console_destroy(r->c);
	loop_free(r->loop);
	irq_line_close(&r->irq);
	close(r->log_pipe[0]);
	close(r->log_pipe[1]);
}

static uint8_t in(struct rig *r, unsigned reg)
{
	return (uint8_t)serial_io_ops.read(r->s, reg, 1);
}

static void out(struct rig *r, unsigned reg, uint8_t value)
{
	serial_io_ops.write(r->s, reg, 1, value);
}

static void open_port(struct rig *r)
{
	out(r, FCR, 0x81);
	out(r, MCR, 0x0b);
	out(r, IER, 0x01);
}

/* Writes like a polling driver; gives up when the transmitter stays busy for so long. */
static size_t guest_try_print(struct rig *r, const char *text, size_t len, int patience_ms)
{
	for (size_t i = 0; i < len; i++) {
		for (int spin = 0; !(in(r, LSR) & 0x20); spin++) {
			if (spin == patience_ms)
				return i;
			usleep(1000);
		}
		out(r, DATA, (uint8_t)text[i]);
	}
	return len;
}

static size_t guest_print(struct rig *r, const char *text, size_t len)
{
	return guest_try_print(r, text, len, PATIENCE_MS);
}

/* Reads up to len bytes, until none has come for `idle_ms`. */
static size_t guest_input(struct rig *r, char *buf, size_t len, int idle_ms)
{
	size_t n = 0;
	int idle = 0;

	while (n < len && idle < idle_ms) {
		if (in(r, LSR) & 0x01) {
			buf[n++] = (char)in(r, DATA);
			idle = 0;
		} else {
			usleep(1000);
			idle++;
		}
	}
	return n;
}

/* So many bytes come, and no more behind them. */
static void guest_gets(struct rig *r, char *buf, size_t len)
{
	char more;

	cr_assert_eq(guest_input(r, buf, len, PATIENCE_MS), len);
	cr_assert_eq(guest_input(r, &more, 1, 20), 0u);
}

static bool quits_within_patience(struct rig *r)
{
	for (int i = 0; i < PATIENCE_MS && atomic_load(&r->quits) == 0; i++)
		usleep(1000);
	return atomic_load(&r->quits) == 1;
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void fill(char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)('!' + i % 89);
}

#define BIG 200000

struct guest_writer {
	struct rig *r;
	const char *text;
	size_t written;
};

static void *guest_writer(void *opaque)
{
	struct guest_writer *w = opaque;

	w->written = guest_print(w->r, w->text, BIG);
	return NULL;
}

/* More than the buffer holds, through a descriptor pair. */
static void output_arrives(int read_fd, int write_fd)
{
	static char text[BIG];
	static char got[BIG];
	struct rig r;
	struct guest_writer w = {&r, text, 0};
	pthread_t thread;
	int flags = fcntl(write_fd, F_GETFL);

	fill(text, sizeof(text));
	rig_open(&r, -1, write_fd, false);
	cr_assert_eq(pthread_create(&thread, NULL, guest_writer, &w), 0);
	cr_assert_eq(pipe_read(read_fd, got, sizeof(got), 20000), sizeof(got));
	pthread_join(thread, NULL);
	cr_assert_eq(w.written, (size_t)BIG);
	cr_assert_arr_eq(got, text, sizeof(text));
	cr_assert_eq(fcntl(write_fd, F_GETFL), flags, "the shared description is untouched");
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 0u);
	rig_stop(&r);
	rig_close(&r);
}

Test(console, output_through_a_pipe, .timeout = 60)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	output_arrives(fds[0], fds[1]);
}

Test(console, output_through_a_socket, .timeout = 60)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	output_arrives(fds[0], fds[1]);
}

static void open_pty(int *master, int *slave)
{
	struct termios tio;

	*master = posix_openpt(O_RDWR | O_NOCTTY);
	cr_assert(*master >= 0);
	cr_assert_eq(grantpt(*master), 0);
	cr_assert_eq(unlockpt(*master), 0);
	*slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
	cr_assert(*slave >= 0);
	cr_assert_eq(tcgetattr(*slave, &tio), 0);
	cfmakeraw(&tio);
	cr_assert_eq(tcsetattr(*slave, TCSANOW, &tio), 0);
}

Test(console, output_through_a_terminal, .timeout = 60)
{
	int master, slave;

	open_pty(&master, &slave);
	output_arrives(master, slave);
}

/* The master cannot be opened anew: this is the way with poll and bounded writes. */
Test(console, output_without_a_description_of_our_own, .timeout = 60)
{
	int master, slave;

	open_pty(&master, &slave);
	output_arrives(slave, master);
}

Test(console, output_to_a_file_keeps_the_shared_offset, .timeout = 30)
{
	struct rig r;
	char got[64] = "";
	FILE *f = tmpfile();
	int fd = fileno(f);

	cr_assert_eq(write(fd, "before ", 7), 7);
	rig_open(&r, -1, fd, false);
	guest_print(&r, "guest", 5);
	rig_stop(&r);
	console_drain(r.c, 1000);
	cr_assert_eq(write(fd, " after", 6), 6);
	cr_assert_eq(pread(fd, got, sizeof(got) - 1, 0), 18);
	cr_assert_str_eq(got, "before guest after");
	rig_close(&r);
	fclose(f);
}

Test(console, output_to_nowhere_does_not_hold_the_guest_up, .timeout = 30)
{
	static char text[BIG];
	struct rig r;

	fill(text, sizeof(text));
	rig_open(&r, -1, -1, false);
	cr_assert_eq(guest_print(&r, text, sizeof(text)), sizeof(text));
	rig_stop(&r);
	rig_close(&r);
}

Test(console, a_reader_that_goes_away_is_one_line_and_no_stop, .timeout = 30)
{
	static char text[BIG];
	struct rig r;
	int fds[2];

	fill(text, sizeof(text));
	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, -1, fds[1], false);
	close(fds[0]);
	cr_assert_eq(guest_print(&r, text, sizeof(text)), sizeof(text));
	rig_stop(&r);
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 1u);
	rig_close(&r);
	close(fds[1]);
}

Test(console, a_full_disk_is_one_line_and_no_stop, .timeout = 30)
{
	static char text[BIG];
	struct rig r;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	fill(text, sizeof(text));
	cr_assert(fd >= 0);
	rig_open(&r, -1, fd, false);
	cr_assert_eq(guest_print(&r, text, sizeof(text)), sizeof(text));
	rig_stop(&r);
	cr_assert_eq(pipe_lines(r.log_pipe[0]), 1u);
	rig_close(&r);
	close(fd);
}

Test(console, a_stalled_reader_is_back_pressure_and_ctrl_a_x_still_works, .timeout = 30)
{
	static char text[BIG];
	struct rig r;
	size_t written;
	int fds[2];
	int keys[2];

	fill(text, sizeof(text));
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(pipe(keys), 0);
	rig_open(&r, keys[0], fds[1], true);
	written = guest_try_print(&r, text, sizeof(text), MOMENT_MS);
	cr_assert_lt(written, sizeof(text), "nobody read");
	/* The guest does not listen either: plenty of typing, then the escape. */
	for (int i = 0; i < 40; i++)
		cr_assert_eq(write(keys[1], text, 4000), 4000);
	cr_assert_eq(write(keys[1], "\001x", 2), 2);
	cr_assert(quits_within_patience(&r));
	rig_stop(&r);
	console_drain(r.c, 50); /* gives up */
	rig_close(&r);
}

Test(console, drain_writes_what_is_left_when_the_reader_comes_back, .timeout = 30)
{
	static char text[BIG];
	static char got[BIG];
	struct rig r;
	size_t written;
	int fds[2], status;
	pid_t reader;

	fill(text, sizeof(text));
	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, -1, fds[1], false);
	written = guest_try_print(&r, text, sizeof(text), MOMENT_MS);
	rig_stop(&r);
	reader = fork();
	if (reader == 0) {
		close(fds[1]);
		usleep(50000);
		_exit(pipe_read(fds[0], got, written, PATIENCE_MS) == written ? 0 : 1);
	}
	console_drain(r.c, PATIENCE_MS);
	cr_assert_eq(serial_tx_peek(r.s, got, sizeof(got)), 0u);
	cr_assert_eq(waitpid(reader, &status, 0), reader);
	cr_assert_eq(status, 0, "the reader got less");
	rig_close(&r);
}

/* --- input --- */

/* Everything written to write_fd reaches the guest, once it has opened its port. */
static void input_arrives(int write_fd, int read_fd, bool escape)
{
	char text[1500];
	char got[sizeof(text)];
	struct rig r;
	int flags = fcntl(read_fd, F_GETFL);

	fill(text, sizeof(text));
	rig_open(&r, read_fd, -1, escape);
	cr_assert_eq(write(write_fd, text, sizeof(text)), (ssize_t)sizeof(text));
	usleep(20000);
	cr_assert_eq(in(&r, LSR) & 0x01, 0, "not before the port is open");
	open_port(&r);
	guest_gets(&r, got, sizeof(text));
	cr_assert_arr_eq(got, text, sizeof(text));
	cr_assert_eq(fcntl(read_fd, F_GETFL), flags);
	rig_stop(&r);
	rig_close(&r);
}

Test(console, input_from_a_pipe, .timeout = 30)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	input_arrives(fds[1], fds[0], false);
}

Test(console, input_from_a_pipe_with_the_escape_key, .timeout = 30)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	input_arrives(fds[1], fds[0], true);
}

Test(console, input_from_a_socket, .timeout = 30)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	input_arrives(fds[1], fds[0], false);
}

Test(console, input_from_a_terminal, .timeout = 30)
{
	int master, slave;

	open_pty(&master, &slave);
	input_arrives(master, slave, true);
}

Test(console, input_from_a_file, .timeout = 30)
{
	char text[5000];
	char got[sizeof(text)];
	struct rig r;
	FILE *f = tmpfile();

	fill(text, sizeof(text));
	cr_assert_eq(fwrite(text, 1, sizeof(text), f), sizeof(text));
	rewind(f);
	rig_open(&r, fileno(f), -1, false);
	open_port(&r);
	guest_gets(&r, got, sizeof(text));
	cr_assert_arr_eq(got, text, sizeof(text));
	rig_stop(&r);
	rig_close(&r);
	fclose(f);
}

Test(console, the_end_of_input_does_not_end_output, .timeout = 30)
{
	char got[8] = "";
	struct rig r;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, null, fds[1], false);
	open_port(&r);
	cr_assert_eq(guest_input(&r, got, 1, 50), 0u);
	cr_assert_eq(guest_print(&r, "bye", 3), 3u);
	cr_assert_eq(pipe_read(fds[0], got, 3, PATIENCE_MS), 3u);
	cr_assert_str_eq(got, "bye");
	rig_stop(&r);
	rig_close(&r);
}

Test(console, a_closed_pipe_does_not_keep_the_loop_busy, .timeout = 30)
{
	uint64_t before;
	struct rig r;
	char got[8];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], "abc", 3), 3);
	close(fds[1]);
	rig_open(&r, fds[0], -1, false);
	before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	usleep(300000); /* the port is shut: hung up, but not read yet */
	cr_assert_lt(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before, 60000000u);
	open_port(&r);
	guest_gets(&r, got, 3);
	rig_stop(&r);
	rig_close(&r);
}

Test(console, bytes_that_the_guest_does_not_take_stay_in_the_pipe, .timeout = 30)
{
	char text[1000];
	struct rig r;
	int fds[2];
	int left = 0;

	fill(text, sizeof(text));
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], text, sizeof(text)), (ssize_t)sizeof(text));
	rig_open(&r, fds[0], -1, false);
	open_port(&r);
	for (int i = 0; i < PATIENCE_MS && ioctl(fds[0], FIONREAD, &left) == 0 && left == 1000; i++)
		usleep(1000);
	loop_call(r.loop, nothing, NULL);
	rig_stop(&r);
	cr_assert_eq(ioctl(fds[0], FIONREAD, &left), 0);
	cr_assert_eq(left, 1000 - 16);
	rig_close(&r);
}

Test(console, endless_input_does_not_starve_output, .timeout = 30)
{
	char got[8] = "";
	struct rig r;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, zero, fds[1], false);
	open_port(&r);
	for (int i = 0; i < 1000; i++)
		in(&r, DATA);
	cr_assert_eq(guest_print(&r, "out", 3), 3u);
	cr_assert_eq(pipe_read(fds[0], got, 3, PATIENCE_MS), 3u);
	rig_stop(&r);
	rig_close(&r);
}

/* --- the escape key --- */

static void type_bytes(int fd, const char *text, size_t len, bool one_by_one)
{
	size_t step = one_by_one ? 1 : len;

	for (size_t i = 0; i < len; i += step) {
		cr_assert_eq(write(fd, text + i, step), (ssize_t)step);
		if (one_by_one)
			usleep(2000);
	}
}

static void escapes(bool one_by_one)
{
	static const char typed[] = "ab\001acd\001\001ef\001zgh\001";
	static const char expected[] = "ab\001cd\001efgh";
	char got[64] = "";
	struct rig r;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, fds[0], -1, true);
	open_port(&r);
	type_bytes(fds[1], typed, sizeof(typed) - 1, one_by_one);
	guest_gets(&r, got, sizeof(expected) - 1);
	cr_assert_str_eq(got, expected);
	cr_assert_eq(atomic_load(&r.quits), 0u);
	type_bytes(fds[1], "x", 1, false); /* the escape key came a chunk earlier */
	cr_assert(quits_within_patience(&r));
	cr_assert_eq(guest_input(&r, got, sizeof(got), 20), 0u);
	rig_stop(&r);
	rig_close(&r);
}

Test(console, escapes_in_one_chunk, .timeout = 30)
{
	escapes(false);
}

Test(console, escapes_byte_by_byte, .timeout = 30)
{
	escapes(true);
}

Test(console, help_goes_to_the_terminal_not_to_the_guest, .timeout = 30)
{
	char got[256] = "";
	struct rig r;
	int keys[2], fds[2];

	cr_assert_eq(pipe(keys), 0);
	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, keys[0], fds[1], true);
	open_port(&r);
	type_bytes(keys[1], "\001h", 2, false);
	cr_assert_eq(guest_input(&r, got, 1, 50), 0u);
	cr_assert(read(fds[0], got, sizeof(got) - 1) > 0);
	cr_assert_not_null(strstr(got, "Ctrl-A x"));
	rig_stop(&r);
	rig_close(&r);
}

Test(console, without_the_option_ctrl_a_is_data, .timeout = 30)
{
	char got[16] = "";
	struct rig r;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	rig_open(&r, fds[0], -1, false);
	open_port(&r);
	type_bytes(fds[1], "\001x", 2, false);
	guest_gets(&r, got, 2);
	cr_assert_str_eq(got, "\001x");
	cr_assert_eq(atomic_load(&r.quits), 0u);
	rig_stop(&r);
	rig_close(&r);
}

/* --- setting up --- */

Test(console, a_closed_descriptor_is_an_error)
{
	struct console_options opt = {.in_fd = 987, .out_fd = -1};
	struct irq_line irq = {.fd = -1};
	struct console *c = NULL;
	struct loop *loop;
	struct err err = {0};

	cr_assert_eq(loop_new(&loop, &err), 0);
	cr_assert_eq(console_new(loop, &irq, &opt, &c, &err), -EBADF);
	cr_assert_eq(strncmp(err.text, "console: input: ", 16), 0, "%s", err.text);
	opt.in_fd = -1;
	opt.out_fd = 987;
	cr_assert_eq(console_new(loop, &irq, &opt, &c, &err), -EBADF);
	console_destroy(NULL);
	loop_free(loop);
}

/* One socket for both directions, as a service manager hands it over. */
Test(console, one_descriptor_for_both, .timeout = 30)
{
	char got[8] = "";
	struct rig r;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	rig_open(&r, fds[0], fds[0], false);
	open_port(&r);
	cr_assert_eq(write(fds[1], "in", 2), 2);
	guest_gets(&r, got, 2);
	cr_assert_eq(guest_print(&r, "out", 3), 3u);
	cr_assert_eq(pipe_read(fds[1], got, 3, PATIENCE_MS), 3u);
	cr_assert_str_eq(got, "out");
	rig_stop(&r);
	rig_close(&r);
}
