/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: kernel formats, processors, memory, and the ways to say what machine is wanted. */
#include "suite.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Work that is scaled down on slow machines, at least one. */
static unsigned scaled(const struct test *t, unsigned n)
{
	return n / t->opt->slow > 0 ? n / t->opt->slow : 1;
}

static void want_string(struct test *t, const struct vm *vm, const char *path, const char *want)
{
	if (strcmp(vm_string(vm, path), want) != 0)
		wrong(t, "statistics say %s is \"%s\", not \"%s\"", path, vm_string(vm, path),
		      want);
}

static void want_at_least(struct test *t, const struct vm *vm, const char *path, long long least)
{
	if (vm_number(vm, path) < least)
		wrong(t, "statistics say %s is %lld, it must be at least %lld", path,
		      vm_number(vm, path), least);
}

/* The most that one boot can show. */
static const char *all_checks(struct test *t, unsigned cpus, unsigned mib)
{
	return text(t,
		    "cpus=%u memory=%u cpuinfo=%u uart time clock forks=%u syscalls=%u "
		    "fpu=%u signals pages",
		    cpus, mib, cpus, scaled(t, 100), scaled(t, 20000), scaled(t, 1000));
}

/* The guest's clock, as it prints it, lies between the start of the VM and now. */
static void want_time(struct test *t, struct vm *vm, long long started)
{
	long long guest, up;

	if (!vm_expect(vm, "time: ") || !vm_expect(vm, "\n"))
		return;
	if (sscanf(strstr(vm->p.out.data, "time: "), "time: %lld up %lld", &guest, &up) != 2 ||
	    guest + 2 < started + up || guest > time(NULL) + 1)
		wrong(t, "wall time: %lld s after the start, of which %lld are uptime; it is %lld",
		      guest - started, up, (long long)time(NULL) - started);
}

void case_bzimage(struct test *t)
{
	const struct vm_request req = {.checks = all_checks(t, 1, 256), .limit_s = 60};
	long long started = time(NULL);
	struct vm vm;

	vm_start(t, &vm, &req);
	want_time(t, &vm, started);
	vm_finish(&vm, 0);
	want_string(t, &vm, "end.reason", "poweroff");
	want_string(t, &vm, "kernel.image", "bzimage-unpacked");
	if (vm_number(&vm, "console.tx_bytes") != (long long)vm.p.out.len)
		wrong(t, "statistics say %lld bytes of console output, there are %zu",
		      vm_number(&vm, "console.tx_bytes"), vm.p.out.len);
	want_at_least(t, &vm, "console.interrupts", 10);
	vm_free(&vm);
}

void case_vmlinux_root(struct test *t)
{
	const struct vm_request req = {
	    .vmlinux = true,
	    .root = "",
	    .cpus = 2,
	    .checks = text(t, "files=/root cpus=2 uart clock forks=%u fpu=%u", scaled(t, 20),
			   scaled(t, 1000)),
	    .limit_s = 60,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	want_string(t, &vm, "kernel.image", "elf");
	want_string(t, &vm, "disks.0.name", "disk0");
	want_at_least(t, &vm, "disks.0.requests", 10);
	want_at_least(t, &vm, "disks.0.read_bytes", 1 << 20);
	want_at_least(t, &vm, "disks.0.written_bytes", 1 << 20);
	want_at_least(t, &vm, "disks.0.flushes", 1);
	want_at_least(t, &vm, "disks.0.interrupts", 1);
	if (vm_number(&vm, "disks.0.malformed") > 0 || vm_number(&vm, "disks.0.refused") > 0)
		wrong(t, "the stock driver did something that the device refused");
	vm_free(&vm);
}

void case_four_cpus(struct test *t)
{
	const struct vm_request req = {.cpus = 4, .checks = all_checks(t, 4, 256), .limit_s = 60};

	vm_run(t, &req, 0);
}

void case_many_cpus(struct test *t)
{
	const struct vm_request req = {.cpus = 16,
				       .memory = "512M",
				       .checks = "cpus=16 cpuinfo=16 memory=512 uart clock",
				       .limit_s = 120};

	/* 1,600 timer ticks a second, each some thousand emulated instructions. */
	if (t->opt->emulating && sysconf(_SC_NPROCESSORS_ONLN) < 4) {
		t->skip = "kernel mode is emulated, and there are fewer than 4 processors for it";
		return;
	}
	vm_run(t, &req, 0);
}

void case_memory_small(struct test *t)
{
	const struct vm_request req = {.memory = "64M", .checks = "memory=64 forks=5"};

	vm_run(t, &req, 0);
}

void case_memory_hole(struct test *t)
{
	const struct vm_request req = {.memory = "3G", .checks = "memory=3072", .limit_s = 90};

	vm_run(t, &req, 0);
}

void case_memory_high(struct test *t)
{
	const struct vm_request req = {
	    .memory = "5G", .cpus = 2, .checks = "memory=5120 forks=5", .limit_s = 90};

	vm_run(t, &req, 0);
}

void case_config_file(struct test *t)
{
	const char *disk = scratch_path(t, "disk"), *ini = scratch_path(t, "vm.ini");
	const struct vm_request req = {
	    .whole_argv = true,
	    .checks = "",
	    .args = {"--config", ini, "--memory", "200M"},
	};
	FILE *f = fopen(disk, "wb");

	if (f && fseek(f, (1 << 20) - 1, SEEK_SET) == 0)
		fputc(0, f);
	if (!f || fclose(f) || !(f = fopen(ini, "w"))) {
		wrong(t, "no scratch files");
		return;
	}
	fprintf(f,
		"; all that the command line can say\n"
		"[boot]\nkernel = %s\ninitrd = %s\n"
		"cmdline = quiet minivm.exec=/usr/bin/checks -- slow=%u cpus=2 memory=200 "
		"blk=/dev/vda,1048576,ro,data\n"
		"[machine]\ncpus = 2\nmemory = 4G\nassist = auto\ndescribe = auto\ngrace = 7\n"
		"[console]\nmode = serial\n"
		"[disk data]\npath = disk\nreadonly = yes\n"
		"[log]\nlevel = warn\n",
		t->opt->kernel_full, t->opt->test_initrd, t->opt->slow);
	fclose(f);
	vm_run(t, &req, 0);
}

void case_assist_on(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--assist", "on"},
	    .assist = true,
	    .cpus = 2,
	    .checks = text(t, "cpus=2 forks=%u syscalls=%u fpu=%u signals pages", scaled(t, 20),
			   scaled(t, 5000), scaled(t, 500)),
	    .limit_s = 60,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (vm.stats &&
	    !json_is_true(json_object_get(json_object_get(vm.stats, "assist"), "enabled")))
		wrong(t, "statistics say that the assist is off");
	vm_free(&vm);
}

/* Where KVM emulates kernel mode the words that a kernel cannot do without are the user's, too. */
void case_cmdline_only(struct test *t)
{
	const char *must =
	    t->opt->emulating ? "noxsave GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F" : "";
	const struct vm_request req = {
	    .whole_argv = true,
	    .checks = "",
	    .args = {"--kernel", t->opt->kernel, "--initrd", t->opt->test_initrd, "--cmdline-only",
		     text(t,
			  "console=ttyS0 quiet reboot=k %s minivm.exec=/usr/bin/checks own=word -- "
			  "slow=%u cmdline=own=word cmdline=reboot=k",
			  must, t->opt->slow)},
	};

	vm_run(t, &req, 0);
}
