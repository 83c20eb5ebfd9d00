/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the console's bytes, readers and writers that misbehave, terminals. */
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "content.h"
#include "minivm/end.h"

/* --- input --- */

void case_stdin_dialogue(struct test *t)
{
	const struct vm_request req = {.checks = "echo=2"};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "ready"))
		vm_send(&vm, "first line\n");
	if (vm_expect(&vm, "echo: first line"))
		vm_send(&vm, "second line\n");
	vm_expect(&vm, "echo: second line");
	vm_finish(&vm, 0);
	vm_free(&vm);
}

#define EARLY_LINES 40

/* 64 characters each; together they fit into the line discipline's buffer, but not the UART's. */
static void early_input(char *buf, size_t size)
{
	char line[CONTENT_LINE_MAX];
	size_t at = 0;

	for (unsigned i = 0; i < EARLY_LINES; i++) {
		content_line(line, i);
		at += (size_t)snprintf(buf + at, size - at, "%s\n", line);
	}
}

static void want_echoes(struct vm *vm)
{
	char line[CONTENT_LINE_MAX], echo[CONTENT_LINE_MAX + 8];

	for (unsigned i = 0; i < EARLY_LINES; i++) {
		content_line(line, i);
		snprintf(echo, sizeof(echo), "echo: %s", line);
		if (!vm_expect(vm, echo))
			return;
	}
}

/* All of the input is in the pipe, and the pipe is closed, before the guest has begun. */
static void stdin_early(struct test *t, const char *words)
{
	const struct vm_request req = {.checks = text(t, "echo=%u%s", EARLY_LINES, words)};
	char input[EARLY_LINES * CONTENT_LINE_MAX];
	struct vm vm;

	early_input(input, sizeof(input));
	vm_start(t, &vm, &req);
	vm_send(&vm, input);
	proc_close_in(&vm.p);
	want_echoes(&vm);
	vm_finish(&vm, 0);
	vm_free(&vm);
}

void case_stdin_early(struct test *t)
{
	stdin_early(t, "");
}

void case_stdin_early_uart(struct test *t)
{
	stdin_early(t, " uart");
}

void case_stdin_file(struct test *t)
{
	const char *path = scratch_path(t, "input");
	const struct vm_request req = {.in_file = path,
				       .checks = text(t, "echo=%u uart", EARLY_LINES)};
	char input[EARLY_LINES * CONTENT_LINE_MAX];
	FILE *f = fopen(path, "w");
	struct vm vm;

	early_input(input, sizeof(input));
	if (!f || fputs(input, f) < 0 || fclose(f))
		wrong(t, "no scratch file");
	vm_start(t, &vm, &req);
	want_echoes(&vm);
	vm_finish(&vm, 0);
	vm_free(&vm);
}

void case_stdin_null(struct test *t)
{
	const struct vm_request req = {
	    .in_file = "/dev/null", .checks = "uart clock exit=5", .no_done = true};

	vm_run(t, &req, 5);
}

/* Far more than all buffers on the way hold: no byte may be lost for want of room. */
void case_stdin_bulk(struct test *t)
{
	enum { BYTES = 65536 };
	const struct vm_request req = {.checks = text(t, "sum=%u", BYTES), .limit_s = 60};
	char *input = malloc(BYTES + CONTENT_LINE_MAX);
	size_t len = 0;
	struct vm vm;

	if (!input) {
		wrong(t, "no memory");
		return;
	}
	for (unsigned i = 0; len < BYTES; i++) {
		content_line(input + len, i);
		len += strlen(input + len);
	}
	input[BYTES] = '\0';
	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "ready"))
		vm_send(&vm, input);
	vm_expect(&vm, text(t, "sum: %u bytes %016llx", BYTES,
			    (unsigned long long)content_hash(CONTENT_HASH_START, input, BYTES)));
	vm_finish(&vm, 0);
	vm_free(&vm);
	free(input);
}

/* --- output --- */

static void want_lines(struct test *t, const char *output, unsigned count)
{
	const char *p = strstr(output, "line 00000000 ");
	char line[CONTENT_LINE_MAX];

	for (unsigned i = 0; i < count; i++) {
		content_line(line, i);
		if (!p || strncmp(p, line, strlen(line)) != 0) {
			wrong(t, "line %u of its output is not what it must be", i);
			return;
		}
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
}

void case_stdout_lines(struct test *t)
{
	const struct vm_request req = {.checks = "lines=1024", .limit_s = 60};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	want_lines(t, vm.p.out.data, 1024);
	vm_free(&vm);
}

/* The reader goes away: the guest goes on, and its status counts. */
void case_stdout_closed(struct test *t)
{
	const struct vm_request req = {
	    .checks = "print=hello lines=100 exit=5", .no_done = true, .noisy = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "hello");
	proc_close_out(&vm.p);
	vm_finish(&vm, 5);
	vm_free(&vm);
}

/* Nobody reads: the guest's output stands still, minivm does not. */
void case_stdout_stuck(struct test *t)
{
	const struct vm_request req = {.checks = "flood", .no_done = true, .ignore_out = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "flood");
	vm.p.ignore_out = true;
	proc_idle(&vm.p, 3000 * t->opt->slow);
	vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 128 + SIGTERM);
	vm_free(&vm);
}

/* --- terminals --- */

static bool is_raw(const struct vm *vm)
{
	struct termios now;

	return vm->started && tcgetattr(vm->p.tty, &now) == 0 &&
	       !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_iflag & (ICRNL | IXON));
}

static bool same_settings(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

/* What a new terminal has, before minivm has touched it: taken from another one. */
static void want_restored(struct test *t, const struct vm *vm)
{
	static const char *const argv[] = {"/bin/true", NULL};
	const struct proc_request req = {.argv = argv, .tty = true};
	struct termios fresh, now;
	struct proc p;

	if (!vm->started || proc_start(&p, &req))
		return;
	if (tcgetattr(p.tty, &fresh) || tcgetattr(vm->p.tty, &now))
		wrong(t, "no terminal settings");
	else if (!same_settings(&fresh, &now))
		wrong(t, "the terminal's settings were not restored");
	proc_free(&p);
}

void case_terminal(struct test *t)
{
	const struct vm_request req = {.tty = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "# ");
	if (!is_raw(&vm))
		wrong(t, "the terminal is not in raw mode");
	vm_send(&vm, "echo $((6*7))\r");
	vm_expect(&vm, "\n42\r\n");
	vm_interrupt(&vm);
	/* Ctrl-A a is Ctrl-A: the start of the line, for the shell. */
	vm_send(&vm, "3\001aexit \r");
	vm_finish(&vm, 3);
	want_restored(t, &vm);
	vm_free(&vm);
}

void case_terminal_sigterm(struct test *t)
{
	const struct vm_request req = {.tty = true, .checks = "wait", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "waiting");
	if (!is_raw(&vm))
		wrong(t, "the terminal is not in raw mode");
	vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 128 + SIGTERM);
	want_restored(t, &vm);
	vm_free(&vm);
}

/* minivm itself crashes. */
void case_terminal_fatal(struct test *t)
{
	const struct vm_request req = {.tty = true, .checks = "wait", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "waiting");
	vm_kill(&vm, SIGSEGV);
	want_restored(t, &vm);
	vm_free(&vm);
}

void case_terminal_escape(struct test *t)
{
	const struct vm_request req = {
	    .tty = true, .checks = "wait", .no_done = true, .noisy = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "waiting");
	vm_send(&vm, "\001x");
	vm_finish(&vm, VM_STATUS_STOPPED);
	want_restored(t, &vm);
	vm_free(&vm);
}

/* --- other consoles --- */

void case_console_file(struct test *t)
{
	const char *path = scratch_path(t, "console");
	const struct vm_request req = {.args = {"--console", text(t, "file=%s", path)},
				       .checks = "lines=64 exit=4",
				       .no_done = true};
	static char output[65536];
	struct vm vm;
	FILE *f;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 4);
	if (vm.p.out.len)
		wrong(t, "there is output on its standard output");
	f = fopen(path, "rb");
	if (f) {
		output[fread(output, 1, sizeof(output) - 1, f)] = '\0';
		fclose(f);
	}
	want_lines(t, output, 64);
	vm_free(&vm);
}

void case_console_none(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--console", "none"}, .checks = "lines=64 exit=4", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 4);
	if (vm.p.out.len)
		wrong(t, "there is output on its standard output");
	vm_free(&vm);
}

void case_stats_stdout(struct test *t)
{
	const struct vm_request req = {
	    .whole_argv = true,
	    .args = {"--kernel", t->opt->kernel, "--cmdline", "minivm.exec=/no/such", "--initrd",
		     t->opt->test_initrd, "--console=none", "--stats=-"},
	};
	json_error_t error;
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 127);
	vm.stats = vm.started ? json_loads(vm.p.out.data, 0, &error) : NULL;
	if (!vm.stats || vm_number(&vm, "end.status") != 127)
		wrong(t, "its standard output is not its statistics: %s", vm.p.out.data);
	vm_free(&vm);
}
