/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases: Debian's stock kernels as their packages ship them, which know no other description than
 * ACPI and have virtio in modules: with the suite's own program, and with a Debian of its own up to
 * the login prompt (tests/linux/debian).
 */
#include "suite.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "minivm/end.h"

/* False, and the case is skipped, if one of them is not there. */
static bool have(struct test *t, const char *flavour, bool root)
{
	if (t->opt->debian && !access(text(t, "%s/%s/initrd", t->opt->debian, flavour), R_OK) &&
	    (!root || !access(text(t, "%s/root.img", t->opt->debian), R_OK)))
		return true;
	t->skip = root ? "no Debian kernel and root image were given (tests/linux/debian)"
		       : "no Debian kernel was given (tests/linux/debian)";
	return false;
}

/* A machine that says as much as a user's would. */
static void stock(struct test *t, struct vm_request *req, const char *flavour, const char *cpus,
		  const char *memory)
{
	const char *dir = text(t, "%s/%s", t->opt->debian, flavour);

	*req = (struct vm_request){
	    .whole_argv = true,
	    .args = {"--kernel", text(t, "%s/vmlinuz", dir), "--initrd", text(t, "%s/initrd", dir),
		     "--cpus", cpus, "--memory", memory, "--cmdline"},
	    .no_done = true,
	    .limit_s = 120,
	};
}

/* Appends the command line; there is room for one more argument. */
static void add_cmdline(struct vm_request *req, const char *words)
{
	unsigned n = 0;

	while (req->args[n])
		n++;
	req->args[n] = words;
}

/* --- the program of the suite, from a disk --- */

static bool checks_request(struct test *t, struct vm_request *req, const char *flavour,
			   const char *cpus, const char *memory, const char *checks)
{
	if (!have(t, flavour, false))
		return false;
	stock(t, req, flavour, cpus, memory);
	add_cmdline(req, text(t, "quiet loglevel=1 checks=\"slow=%u %s\"", t->opt->slow, checks));
	req->disk[0] = text(t, "%s,ro", t->opt->checks_disk);
	req->checks = checks;
	return true;
}

static void run_checks(struct test *t, const char *flavour, const char *cpus, const char *memory,
		       const char *checks)
{
	struct vm_request req;

	if (checks_request(t, &req, flavour, cpus, memory, checks))
		vm_run(t, &req, 0);
}

/* The bzImage of the package, modular virtio, power-off by ACPI. */
void case_debian(struct test *t)
{
	run_checks(t, "cloud", "2", "256M", "describe=acpi,1 cpus=2 uart clock poweroff");
}

/* Memory beyond the hole below 4 GiB, too. */
void case_debian_smp(struct test *t)
{
	run_checks(t, "cloud", "4", "5G",
		   "describe=acpi,1 cpus=4 cpuinfo=4 memory=5120 forks=5 poweroff");
}

void case_debian_generic(struct test *t)
{
	run_checks(t, "generic", "1", "512M",
		   "describe=acpi,1 cpus=1 cpuinfo=1 memory=512 uart clock poweroff");
}

void case_debian_generic_smp(struct test *t)
{
	run_checks(t, "generic", "4", "5G",
		   "describe=acpi,1 cpus=4 cpuinfo=4 memory=5120 uart clock forks=5 poweroff");
}

void case_debian_button(struct test *t)
{
	struct vm_request req;
	struct vm vm;

	if (!checks_request(t, &req, "cloud", "1", "256M", "button"))
		return;
	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "waiting"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 0);
	vm_free(&vm);
}

/* --- a Debian --- */

/* Boots it to its login prompt and logs in; the caller ends the VM. */
static bool log_in(struct test *t, struct vm *vm, struct vm_request *req, const char *flavour,
		   const char *cpus)
{
	if (!have(t, flavour, true))
		return false;
	stock(t, req, flavour, cpus, "512M");
	add_cmdline(req, "root=/dev/vda rw quiet");
	req->disk[0] = text(t, "%s/root.img,overlay", t->opt->debian);
	req->limit_s = 240;
	vm_start(t, vm, req);
	if (vm_expect(vm, "debian login: "))
		vm_send(vm, "root\r");
	vm_expect(vm, "root@debian:~# ");
	return true;
}

/*
 * A user's session: what the system says of itself, a file that reaches the disk, and the command
 * that everybody types in the end.
 */
static void session(struct test *t, const char *flavour, const char *cpus)
{
	struct vm_request req;
	struct vm vm;

	if (!log_in(t, &vm, &req, flavour, cpus))
		return;
	vm_send(&vm, "echo state=$(systemctl is-system-running --wait) cpus=$(nproc)\r");
	vm_expect(&vm, text(t, "state=running cpus=%s", cpus));
	vm_send(&vm, "findmnt -no SOURCE,OPTIONS /; dd if=/dev/urandom of=/x bs=1M count=4 "
		     "conv=fsync status=none && echo written=$?\r");
	vm_expect(&vm, "/dev/vda rw");
	vm_expect(&vm, "written=0");
	vm_send(&vm, "poweroff\r");
	vm_finish(&vm, 0);
	vm_free(&vm);
}

void case_debian_login(struct test *t)
{
	session(t, "cloud", "2");
}

void case_debian_login_generic(struct test *t)
{
	session(t, "generic", "4");
}

/* SIGTERM presses the power button, which systemd-logind heeds. */
void case_debian_login_button(struct test *t)
{
	struct vm_request req;
	struct vm vm;

	if (!log_in(t, &vm, &req, "cloud", "1"))
		return;
	vm_send(&vm, "echo logind=$(systemctl is-active systemd-logind)\r");
	if (vm_expect(&vm, "logind=active"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 0);
	vm_free(&vm);
}
