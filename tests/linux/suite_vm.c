/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM of a case: minivm's command line from a request, and the judgement of its end. Every VM
 * writes statistics, so that each boot also shows that they are well-formed, that they name the end
 * as the exit status does, and that no assist fires on an ordinary host.
 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/end.h"

#define ARGV_MAX 64

struct argv {
	const char *arg[ARGV_MAX];
	unsigned n;
};

static void add(struct argv *a, const char *arg)
{
	if (a->n + 1 < ARGV_MAX)
		a->arg[a->n++] = arg;
}

static void add2(struct argv *a, const char *option, const char *value)
{
	add(a, option);
	add(a, value);
}

/* --- command line --- */

/* Messages off: only the program's lines are wanted on the console. */
#define QUIET "quiet loglevel=1"

/* Kernel words for a guest program that is in the initrd, or on /dev/vdb. */
static const char *kernel_words(struct test *t, const struct vm_request *req)
{
	const char *words = req->words ? req->words : "";

	if (!req->checks)
		return text(t, QUIET " %s", words);
	if (req->root)
		return text(t,
			    QUIET " %s minivm.sh=\"cat /dev/vdb >/run/checks; chmod 755 "
				  "/run/checks; exec /run/checks slow=%u %s\"",
			    words, t->opt->slow, req->checks);
	return text(t, QUIET " minivm.exec=/usr/bin/checks %s -- slow=%u %s", words, t->opt->slow,
		    req->checks);
}

/* What is about COM1, or counts virtio devices, has no virtio console. */
static bool wants_serial(const struct vm_request *req)
{
	return req->checks && (strstr(req->checks, "uart") || strstr(req->checks, "describe="));
}

static void make_argv(struct vm *vm, struct argv *a)
{
	struct test *t = vm->t;
	const struct vm_request *req = vm->req;
	const struct options *opt = t->opt;

	add(a, opt->minivm);
	if (!req->whole_argv) {
		const char *own = req->vmlinux ? opt->vmlinux : opt->kernel;

		add2(a, "--kernel", req->kernel ? req->kernel : own);
		add2(a, "--cmdline", kernel_words(t, req));
		add2(a, "--stats", vm->stats_path);
		if (req->cpus)
			add2(a, "--cpus", text(t, "%u", req->cpus));
		if (req->memory)
			add2(a, "--memory", req->memory);
		if (wants_serial(req))
			add2(a, "--console", "serial");
		if (!req->root) {
			add2(a, "--initrd", opt->test_initrd);
		} else {
			add2(a, "--disk",
			     *req->root ? req->root : text(t, "%s,overlay", opt->root));
			add2(a, "--disk", text(t, "%s,ro", opt->checks_disk));
		}
	}
	for (unsigned i = 0; i < VM_DISKS_MAX && req->disk[i]; i++)
		add2(a, "--disk", req->disk[i]);
	for (unsigned i = 0; i < VM_ARGS_MAX && req->args[i]; i++)
		add(a, req->args[i]);
	add(a, NULL);
}

/* --- life --- */

static unsigned limit_ms(const struct vm *vm)
{
	return (vm->req->limit_s ? vm->req->limit_s : 60) * 1000 * vm->t->opt->slow;
}

void vm_start(struct test *t, struct vm *vm, const struct vm_request *req)
{
	struct argv a = {.n = 0};
	struct proc_request start = {.argv = a.arg,
				     .tty = req->tty,
				     .in_file = req->in_file,
				     .prepare = req->prepare,
				     .opaque = req->opaque};
	int rc;

	*vm = (struct vm){.t = t, .req = req, .status = -1};
	vm->stats_path = text(t, "%s/stats%u.json", t->dir, t->vms++);
	make_argv(vm, &a);
	rc = proc_start(&vm->p, &start);
	if (rc)
		wrong(t, "cannot start %s: %s", t->opt->minivm, strerror(-rc));
	vm->started = rc == 0;
}

bool vm_expect(struct vm *vm, const char *line_part)
{
	if (vm->started && proc_expect(&vm->p, line_part, limit_ms(vm)))
		return true;
	wrong(vm->t, "no \"%s\" on its console", line_part);
	return false;
}

void vm_send(struct vm *vm, const char *input)
{
	if (vm->started && !proc_send(&vm->p, input, strlen(input), limit_ms(vm)))
		wrong(vm->t, "it does not take its input");
}

void vm_interrupt(struct vm *vm)
{
	vm_send(vm, "sh -c 'echo asleep; exec sleep 1000'\r");
	vm_expect(vm, "\nasleep");
	vm_send(vm, "\x03");
	vm_expect(vm, "# ");
	vm_send(vm, "echo status $?\r");
	vm_expect(vm, "\nstatus 130");
}

void vm_signal(struct vm *vm, int sig)
{
	if (vm->started)
		proc_signal(&vm->p, sig);
}

void vm_free(struct vm *vm)
{
	if (!vm->started)
		return;
	proc_free(&vm->p);
	json_decref(vm->stats);
	vm->stats = NULL;
	vm->started = false;
}

/* --- judgement --- */

struct count {
	unsigned passed;
	unsigned failed;
	bool done;
};

/* Hands the guest's verdicts on to our own count. */
static void guest_line(struct vm *vm, const char *line, int len, struct count *count)
{
	struct test *t = vm->t;
	unsigned passed, failed;

	if (!strncmp(line, "ok - ", 5)) {
		count->passed++;
		tap_ok(t->tap, "%s: %.*s", t->name, len - 5, line + 5);
	} else if (!strncmp(line, "not ok - ", 9)) {
		count->failed++;
		tap_fail(t->tap, "%s: %.*s", t->name, len - 9, line + 9);
	} else if (sscanf(line, "done %u %u", &passed, &failed) == 2) {
		count->done = true;
		if (passed != count->passed || failed != count->failed)
			wrong(t,
			      "the guest counted %u and %u results, %u and %u lines came through",
			      passed, failed, count->passed, count->failed);
	}
}

static void judge_output(struct vm *vm)
{
	const char *p = vm->p.out.data;
	struct count count = {0};

	while (*p) {
		int n = (int)strcspn(p, "\r\n");

		guest_line(vm, p, n, &count);
		p += n;
		p += strspn(p, "\r\n");
	}
	if (vm->req->checks && !vm->req->no_done && !count.done)
		wrong(vm->t, "the guest's program did not come to its end");
}

/* What minivm says is from it, and nothing is said when all is well. */
static void judge_errors(struct vm *vm)
{
	const char *p = proc_complaints(&vm->p);

	if (*p && !vm->req->noisy)
		wrong(vm->t, "it said: %.*s", (int)strcspn(p, "\n"), p);
	for (; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (strncmp(p, "minivm: ", 8) != 0 && !vm->req->others)
			wrong(vm->t, "a line on standard error is not minivm's: %.*s",
			      (int)strcspn(p, "\n"), p);
	}
}

/* With --assist on an ordinary host's machine may be armed, but nothing may have needed it. */
static void judge_assist(struct vm *vm)
{
	static const char *const armed[] = {"enabled", "arm", "page_fault", "page_fault_step",
					    "debug_passed"};
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(vm->stats, "assist"), name, value)
	{
		bool quiet = json_integer_value(value) == 0 && !json_is_true(value);

		for (unsigned i = 0; i < sizeof(armed) / sizeof(armed[0]) && vm->req->assist; i++)
			quiet |= !strcmp(name, armed[i]);
		if (!quiet)
			wrong(vm->t, "assist.%s is not zero on a host that needs none", name);
	}
}

static void judge_stats(struct vm *vm)
{
	json_error_t error;

	vm->stats = json_load_file(vm->stats_path, 0, &error);
	if (!vm->stats) {
		wrong(vm->t, "statistics: %s", error.text);
		return;
	}
	if (vm_number(vm, "end.status") != vm->status)
		wrong(vm->t, "statistics say status %lld, it was %d", vm_number(vm, "end.status"),
		      vm->status);
	if (vm_number(vm, "disks.0.errors") > 0 && !vm->req->disk_errors)
		wrong(vm->t, "disk 0 had errors");
	if (vm_number(vm, "console.tx_dropped") > 0)
		wrong(vm->t, "%lld bytes were lost on the console",
		      vm_number(vm, "console.tx_dropped"));
	if (!vm->t->opt->emulating)
		judge_assist(vm);
}

static void show(const struct vm *vm)
{
	tap_note("standard output:");
	tap_note(vm->p.out.data);
	tap_note("standard error:");
	tap_note(vm->p.err.data);
}

static void wait_and_judge(struct vm *vm, int want_status, bool with_stats)
{
	struct test *t = vm->t;
	unsigned failed = t->tap->failed;

	if (!vm->started)
		return;
	if (!proc_wait(&vm->p, limit_ms(vm), &vm->status)) {
		wrong(t, "it did not end within %u s", limit_ms(vm) / 1000);
		with_stats = false;
	}
	if (vm->status != want_status)
		wrong(t, "exit status %d, want %d", vm->status, want_status);
	if (!vm->req->ignore_out)
		judge_output(vm);
	judge_errors(vm);
	if (with_stats && !vm->req->whole_argv)
		judge_stats(vm);
	if (t->opt->verbose || *t->why || t->tap->failed != failed)
		show(vm);
}

void vm_finish(struct vm *vm, int want_status)
{
	wait_and_judge(vm, want_status, true);
}

void vm_kill(struct vm *vm, int sig)
{
	vm_signal(vm, sig);
	wait_and_judge(vm, 128 + sig, false);
}

void vm_finish_refused(struct vm *vm)
{
	wait_and_judge(vm, VM_STATUS_ERROR, false);
}

void vm_run(struct test *t, const struct vm_request *req, int want_status)
{
	struct vm vm;

	vm_start(t, &vm, req);
	vm_finish(&vm, want_status);
	vm_free(&vm);
}

/* --- statistics --- */

static json_t *find(json_t *at, const char *path)
{
	char key[64];

	while (at && *path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key))
				       : json_object_get(at, key);
		path += n + (path[n] == '.');
	}
	return at;
}

long long vm_number(const struct vm *vm, const char *path)
{
	json_t *value = find(vm->stats, path);

	return json_is_integer(value) ? (long long)json_integer_value(value) : -1;
}

const char *vm_string(const struct vm *vm, const char *path)
{
	const char *s = json_string_value(find(vm->stats, path));

	return s ? s : "";
}
