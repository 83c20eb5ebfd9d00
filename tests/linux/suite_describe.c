/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the descriptions of the machine, and the ends that depend on them. */
#include "suite.h"

#include <signal.h>
#include <string.h>

#include "minivm/end.h"

static void want_reason(struct test *t, const struct vm *vm, const char *reason)
{
	if (vm->stats && strcmp(vm_string(vm, "end.reason"), reason) != 0)
		wrong(t, "statistics say it ended by %s, not %s", vm_string(vm, "end.reason"),
		      reason);
}

static void run_to_end(struct test *t, const struct vm_request *req, int status, const char *reason)
{
	struct vm vm;

	vm_start(t, &vm, req);
	vm_finish(&vm, status);
	want_reason(t, &vm, reason);
	vm_free(&vm);
}

/* --- what the kernel finds --- */

/* Two disks that differ in size, so that their order is seen. */
static void describe(struct test *t, const char *how, unsigned cpus)
{
	const struct vm_request req = {
	    .cpus = cpus,
	    .args = {"--describe", how},
	    .disk = {text(t, "%s,id=first", make_disk(t, "first", 64, 0)),
		     text(t, "%s,ro,id=second", make_disk(t, "second", 65, 2))},
	    .checks =
		text(t,
		     "describe=%s,2 cpus=%u cpuinfo=%u uart clock blk=/dev/vda,32768,rw,first "
		     "blkrw=/dev/vda,3 blk=/dev/vdb,33280,ro,second blkcheck=/dev/vdb,2,0,65",
		     how, cpus, cpus),
	};

	vm_run(t, &req, 0);
}

void case_acpi(struct test *t)
{
	describe(t, "acpi", 1);
}

void case_mptable(struct test *t)
{
	describe(t, "mptable", 1);
}

void case_fdt(struct test *t)
{
	describe(t, "fdt", 1);
}

/* From a disk that is written. */
static void describe_root(struct test *t, const char *how, const char *entry, bool vmlinux)
{
	const struct vm_request req = {
	    .vmlinux = vmlinux,
	    .root = "",
	    .cpus = 2,
	    .args = {"--describe", how, "--entry", entry},
	    .checks = text(t, "describe=%s,2 cpus=2 files=/root uart", how),
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (vm_number(&vm, "disks.0.interrupts") < 1 || vm_number(&vm, "disks.0.written_bytes") < 1)
		wrong(t, "the disk was not written, or without interrupts");
	if (strcmp(vm_string(&vm, "kernel.entry"), entry) != 0)
		wrong(t, "statistics say it was entered by \"%s\"", vm_string(&vm, "kernel.entry"));
	vm_free(&vm);
}

void case_acpi_two_cpus(struct test *t)
{
	describe_root(t, "acpi", "linux", false);
}

void case_mptable_two_cpus(struct test *t)
{
	describe_root(t, "mptable", "linux", false);
}

void case_fdt_two_cpus(struct test *t)
{
	describe_root(t, "fdt", "linux", true);
}

void case_pvh_two_cpus(struct test *t)
{
	describe_root(t, "acpi", "pvh", true);
}

/* And the vmlinux inside a bzImage. */
void case_pvh_mptable(struct test *t)
{
	describe_root(t, "mptable", "pvh", false);
}

/* One CPU, and an initrd, which is a module to PVH. */
void case_pvh(struct test *t)
{
	const struct vm_request req = {
	    .vmlinux = true,
	    .args = {"--entry", "pvh", "--describe", "acpi"},
	    .checks = "describe=acpi,0 cpus=1 memory=256 uart clock",
	};

	vm_run(t, &req, 0);
}

void case_pvh_refused(struct test *t)
{
	static const char why[] = "the PVH entry cannot carry a device tree";
	const struct vm_request req = {
	    .whole_argv = true,
	    .args = {"--kernel", t->opt->vmlinux, "--entry", "pvh", "--describe", "fdt"},
	    .noisy = true,
	    .no_done = true,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, VM_STATUS_ERROR);
	if (vm.started && !strstr(vm.p.err.data, why))
		wrong(t, "standard error does not say that %s", why);
	vm_free(&vm);
}

/* --- ends --- */

/* By S5 alone: neither our init nor its exit port have a part in it. */
void case_acpi_poweroff(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "acpi"}, .checks = "poweroff", .no_done = true};

	run_to_end(t, &req, 0, "poweroff");
}

void case_acpi_reset(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "acpi"}, .checks = "reboot", .no_done = true, .cpus = 2};

	run_to_end(t, &req, VM_STATUS_REBOOT, "reboot");
}

/* With panic=0 the kernel would stand still for ever: only its pvpanic driver can end this. */
void case_acpi_pvpanic(struct test *t)
{
	const struct vm_request req = {.args = {"--describe", "acpi"},
				       .words = "panic=0",
				       .checks = "sysrq=c",
				       .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

/* And without the driver: the reset register and the warm-boot word. */
void case_acpi_panic_word(struct test *t)
{
	const struct vm_request req = {.args = {"--describe", "acpi"},
				       .checks = "unbind=pvpanic-mmio,QEMU0001:00 sysrq=c",
				       .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

void case_mptable_panic(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "mptable"}, .checks = "sysrq=c", .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

void case_mptable_reset(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "mptable"}, .checks = "reboot", .no_done = true};

	run_to_end(t, &req, VM_STATUS_REBOOT, "reboot");
}

/* As with ACPI, by the driver alone; and without it, by the i8042 and the warm-boot word. */
void case_fdt_pvpanic(struct test *t)
{
	const struct vm_request req = {.args = {"--describe", "fdt"},
				       .words = "panic=0",
				       .checks = "sysrq=c",
				       .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

void case_fdt_panic_word(struct test *t)
{
	const struct vm_request req = {.args = {"--describe", "fdt"},
				       .checks = "unbind=pvpanic-mmio,505.pvpanic sysrq=c",
				       .no_done = true};

	run_to_end(t, &req, VM_STATUS_PANIC, "panic");
}

void case_fdt_reset(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "fdt"}, .checks = "reboot", .no_done = true, .cpus = 2};

	run_to_end(t, &req, VM_STATUS_REBOOT, "reboot");
}

/* By COM1's DSR line, there is no button. */
void case_fdt_sigterm(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--describe", "fdt"}, .checks = "term=7", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "waiting"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 7);
	vm_free(&vm);
}

/* A guest that knows nothing of DSR, as a distribution's does not. */
void case_acpi_button(struct test *t)
{
	const struct vm_request req = {.args = {"--describe", "acpi"},
				       .words = "rdinit=/usr/bin/checks",
				       .checks = "button",
				       .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "waiting"))
		vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 0);
	want_reason(t, &vm, "poweroff");
	vm_free(&vm);
}
