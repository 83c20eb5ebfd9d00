/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the virtio console as Linux's hvc0, and named ports. */
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HVC "--console", "virtio"

static void want_hvc_bytes(const struct vm *vm, long long at_least)
{
	long long bytes = vm_number(vm, "devices.0.tx_bytes");

	if (vm->started && bytes < at_least)
		wrong(vm->t, "%lld bytes went by hvc0, not %lld", bytes, at_least);
	if (vm_number(vm, "devices.0.refused") > 0 || vm_number(vm, "devices.0.malformed") > 0)
		wrong(vm->t, "the stock driver did something that the device refused");
}

/* --console auto takes it for this kernel, and leaves it where the command line says otherwise. */
void case_hvc_auto(struct test *t)
{
	const struct vm_request hvc = {.args = {"--console", "auto"},
				       .words = "minivm.sh=\"tty; cat /proc/consoles\"",
				       .no_done = true};
	const struct vm_request uart = {
	    .args = {"--console", "auto"}, .words = "console=ttyS0 minivm.sh=tty", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &hvc);
	vm_expect(&vm, "/dev/hvc0");
	vm_expect(&vm, "hvc0");
	vm_finish(&vm, 0);
	want_hvc_bytes(&vm, 10);
	if (strstr(vm.p.out.data, "Linux version"))
		wrong(t, "quiet, but what came before the early console is printed");
	vm_free(&vm);
	vm_start(t, &vm, &uart);
	vm_expect(&vm, "/dev/ttyS0");
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.tx_bytes") >= 0)
		wrong(t, "there is a virtio console that nobody asked for");
	vm_free(&vm);
}

/* The kernel's messages, on COM1 first and then on hvc0: each once, in their order. */
static void want_messages_in_order(struct test *t, const char *out)
{
	double last = -1, now;
	unsigned lines = 0;

	for (const char *p = out; p && *p; p = strchr(p, '\n'), p += p != NULL) {
		if (sscanf(p, "[%lf]", &now) != 1)
			continue;
		if (now < last)
			wrong(t, "the message of %.6f stands behind that of %.6f", now, last);
		last = now;
		lines++;
	}
	if (lines < 50)
		wrong(t, "%u messages only", lines);
}

void case_hvc_order(struct test *t)
{
	const struct vm_request req = {.args = {HVC},
				       .words = "ignore_loglevel minivm.sh=\"echo the end\"",
				       .no_done = true,
				       .limit_s = 60};
	const char *first;
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "console [hvc0] enabled");
	vm_expect(&vm, "the end");
	vm_finish(&vm, 0);
	want_messages_in_order(t, vm.p.out.data);
	first = vm.p.out.data ? strstr(vm.p.out.data, "Linux version") : NULL;
	if (!first || strstr(first + 1, "Linux version"))
		wrong(t, "its first message is not there once");
	if (vm_number(&vm, "console.tx_bytes") < 1000)
		wrong(t, "%lld bytes went by COM1", vm_number(&vm, "console.tx_bytes"));
	want_hvc_bytes(&vm, 200);
	vm_free(&vm);
}

/* A shell with job control that sees the terminal's size, and its change. */
void case_hvc_terminal(struct test *t)
{
	const struct vm_request req = {.args = {HVC}, .tty = true, .no_done = true};
	struct winsize size = {.ws_row = 33, .ws_col = 101};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "# ");
	vm_send(&vm, "tty\r");
	vm_expect(&vm, "/dev/hvc0");
	if (vm.started && ioctl(vm.p.tty, TIOCSWINSZ, &size))
		wrong(t, "TIOCSWINSZ: %s", strerror(errno));
	/* It is not minivm's controlling terminal, so the kernel does not tell it. */
	vm_signal(&vm, SIGWINCH);
	vm_send(&vm, "until stty size | grep 101; do sleep 1; done\r");
	vm_expect(&vm, "\n33 101\r\n");
	vm_interrupt(&vm);
	vm_send(&vm, "exit 3\r");
	vm_finish(&vm, 3);
	vm_free(&vm);
}

/*
 * Nobody reads, and the guest prints more than all buffers hold: it comes to its end all the same,
 * with one line in the log.
 */
void case_hvc_stuck(struct test *t)
{
	const struct vm_request req = {.args = {HVC},
				       .checks = "print=begin lines=7000 exit=5",
				       .no_done = true,
				       .noisy = true,
				       .ignore_out = true,
				       .limit_s = 120};
	const char *line = "nobody reads the output", *at;
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "begin");
	vm.p.ignore_out = true;
	vm_finish(&vm, 5);
	if (vm_number(&vm, "console.dropped") < 1000)
		wrong(t, "%lld bytes were dropped", vm_number(&vm, "console.dropped"));
	at = vm.p.err.data ? strstr(vm.p.err.data, line) : NULL;
	if (!at || strstr(at + 1, line))
		wrong(t, "the log does not say once that %s", line);
	vm_free(&vm);
}

void case_hvc_full(struct test *t)
{
	const struct vm_request req = {.args = {"--console", "file=/dev/full"},
				       .checks = "lines=100 exit=5",
				       .no_done = true,
				       .noisy = true};
	const char *line = "cannot write output: No space left on device", *at;
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 5);
	at = vm.p.err.data ? strstr(vm.p.err.data, line) : NULL;
	if (!at || strstr(at + 1, line))
		wrong(t, "the log does not say once: %s", line);
	vm_free(&vm);
}

/* --- ports --- */

int connect_to(struct test *t, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		wrong(t, "%s: %s", path, strerror(errno));
	return fd;
}

void want_reply(struct test *t, int fd, const char *text)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char got[64];
	size_t n = 0;

	while (n < strlen(text) && poll(&p, 1, (int)(30000 * t->opt->slow)) == 1) {
		ssize_t part = read(fd, got + n, strlen(text) - n);

		if (part <= 0)
			break;
		n += (size_t)part;
	}
	if (n != strlen(text) || memcmp(got, text, n) != 0)
		wrong(t, "\"%s\" did not come from the guest", text);
}

static void want_file(struct test *t, const char *path, const char *want)
{
	char got[64] = "";
	FILE *f = fopen(path, "r");

	if (f) {
		got[fread(got, 1, sizeof(got) - 1, f)] = '\0';
		fclose(f);
	}
	if (strcmp(got, want) != 0)
		wrong(t, "%s has \"%s\" in it", path, got);
}

void case_ports(struct test *t)
{
	const char *log = scratch_path(t, "log"), *sock = scratch_path(t, "sock");
	const struct vm_request req = {
	    .args = {"--port", text(t, "log=file:%s", log), "--port",
		     text(t, "talk=unix:%s", sock)},
	    .words = "minivm.sh=\"cd /dev/virtio-ports; ls; echo to the file >log; echo listening; "
		     "until read x <talk; do sleep 1; done; echo got $x; "
		     "echo answer to $x >talk\"",
	    .no_done = true};
	struct vm vm;
	int fd;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "log");
	vm_expect(&vm, "talk");
	vm_expect(&vm, "listening");
	fd = connect_to(t, sock);
	if (write(fd, "question\n", 9) != 9)
		wrong(t, "%s: %s", sock, strerror(errno));
	vm_expect(&vm, "got question");
	want_reply(t, fd, "answer to question\n");
	close(fd);
	vm_finish(&vm, 0);
	want_file(t, log, "to the file\n");
	if (access(sock, F_OK) == 0)
		wrong(t, "the socket is still there");
	vm_free(&vm);
}
