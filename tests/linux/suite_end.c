/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: how a machine ends, by the guest's will or by a signal to minivm, and with which status.
 */
#include "suite.h"

#include <signal.h>
#include <string.h>

#include "minivm/end.h"

/* --- by the guest --- */

static void run_to_end(struct test *t, const struct vm_request *req, int status, const char *reason)
{
	struct vm vm;

	vm_start(t, &vm, req);
	vm_finish(&vm, status);
	if (vm.stats && strcmp(vm_string(&vm, "end.reason"), reason) != 0)
		wrong(t, "statistics say it ended by %s, not %s", vm_string(&vm, "end.reason"),
		      reason);
	vm_free(&vm);
}

void case_exit_status(struct test *t)
{
	const struct vm_request req = {.checks = "exit=42", .no_done = true};

	run_to_end(t, &req, 42, "poweroff");
}

void case_exit_signal(struct test *t)
{
	const struct vm_request req = {.checks = "die=9", .no_done = true};

	run_to_end(t, &req, 128 + SIGKILL, "poweroff");
}

void case_not_found(struct test *t)
{
	const struct vm_request req = {.words = "minivm.exec=/no/such/program"};

	run_to_end(t, &req, 127, "poweroff");
}

void case_not_executable(struct test *t)
{
	const struct vm_request req = {.words = "minivm.exec=/etc/passwd"};

	run_to_end(t, &req, 126, "poweroff");
}

/* What busybox's poweroff sends to init. */
void case_poweroff(struct test *t)
{
	const struct vm_request req = {.checks = "pid1=12", .no_done = true};

	run_to_end(t, &req, 0, "poweroff");
}

/* What its reboot sends. */
void case_reboot_init(struct test *t)
{
	const struct vm_request req = {.checks = "pid1=15", .no_done = true};

	run_to_end(t, &req, VM_STATUS_REBOOT, "reboot");
}

void case_reboot(struct test *t)
{
	const struct vm_request req = {.checks = "reboot", .no_done = true, .cpus = 2};

	run_to_end(t, &req, VM_STATUS_REBOOT, "reboot");
}

void case_panic(struct test *t)
{
	const struct vm_request req = {.checks = "sysrq=c", .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

/* The program is PID 1 itself, and ends. */
void case_init_dies(struct test *t)
{
	const struct vm_request req = {
	    .words = "rdinit=/usr/bin/checks", .checks = "exit=3", .no_done = true, .cpus = 2};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

/* The kernel's last resort for a reset: an exception without an IDT. */
void case_triple_fault(struct test *t)
{
	const struct vm_request req = {.words = "reboot=t", .checks = "reboot", .no_done = true};

	run_to_end(t, &req, VM_STATUS_TRIPLE_FAULT, "triple-fault");
}

/* --- by signals --- */

static void signal_when_waiting(struct test *t, const struct vm_request *req, int sig, int status)
{
	struct vm vm;

	vm_start(t, &vm, req);
	if (vm_expect(&vm, "waiting"))
		vm_signal(&vm, sig);
	vm_finish(&vm, status);
	vm_free(&vm);
}

/* The guest's command takes no care and dies of init's SIGTERM. */
void case_sigterm(struct test *t)
{
	const struct vm_request req = {.checks = "wait", .no_done = true};

	signal_when_waiting(t, &req, SIGTERM, 128 + SIGTERM);
}

void case_sighup(struct test *t)
{
	const struct vm_request req = {.checks = "term=9", .no_done = true};

	signal_when_waiting(t, &req, SIGHUP, 9);
}

/* Nobody gave a command: an interactive shell, whose end on request is a good one. */
void case_sigint_shell(struct test *t)
{
	const struct vm_request req = {0};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "# "))
		vm_signal(&vm, SIGINT);
	vm_finish(&vm, 0);
	vm_free(&vm);
}

/* A request that comes while the guest is still booting is not lost. */
void case_sigterm_early(struct test *t)
{
	const struct vm_request req = {
	    .whole_argv = true,
	    .args = {"--kernel", t->opt->kernel, "--initrd", t->opt->test_initrd, "--cmdline",
		     "minivm.exec=/usr/bin/checks -- wait", "--grace",
		     text(t, "%u", 10 * t->opt->slow)},
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "Linux version"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 128 + SIGTERM);
	vm_free(&vm);
}

/* The program is PID 1, and heeds nothing. */
static const struct vm_request *hanging(struct vm_request *req)
{
	req->words = "rdinit=/usr/bin/checks";
	req->checks = "hang";
	req->no_done = true;
	req->noisy = true;
	return req;
}

void case_sigterm_twice(struct test *t)
{
	struct vm_request req = {.args = {"--grace", "3600"}};
	struct vm vm;

	vm_start(t, &vm, hanging(&req));
	if (vm_expect(&vm, "hanging"))
		vm_signal(&vm, SIGTERM);
	/* Two that come before minivm looks are one. */
	for (unsigned i = 0; i < 20 && !proc_ended(&vm.p); i++) {
		proc_idle(&vm.p, 500);
		vm_signal(&vm, SIGTERM);
	}
	vm_finish(&vm, VM_STATUS_STOPPED);
	if (vm.stats && strcmp(vm_string(&vm, "end.reason"), "stopped") != 0)
		wrong(t, "statistics say it ended by %s", vm_string(&vm, "end.reason"));
	vm_free(&vm);
}

void case_grace(struct test *t)
{
	struct vm_request req = {.args = {"--grace", "1"}};
	struct vm vm;

	vm_start(t, &vm, hanging(&req));
	if (vm_expect(&vm, "hanging"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, VM_STATUS_STOPPED);
	if (!strstr(vm.p.err.data, "1 s"))
		wrong(t, "it does not say that the grace time was over: %s", vm.p.err.data);
	vm_free(&vm);
}
