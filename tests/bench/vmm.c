/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How each monitor is told to start the same machine: one vCPU, so much memory, one raw disk, a
 * serial console on standard output, nothing else. Each rival is given the leanest machine it has.
 */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proc.h"

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

/* An argument that is composed; it lives as long as `a`. */
static const char *text(struct argv *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static const char *text(struct argv *a, const char *fmt, ...)
{
	char *at = a->text + a->used;
	va_list ap;

	va_start(ap, fmt);
	a->used += (unsigned)vsnprintf(at, sizeof(a->text) - a->used, fmt, ap) + 1;
	va_end(ap);
	if (a->used > sizeof(a->text)) /* cut short; leave room for the next ones' ends */
		a->used = sizeof(a->text) - 1;
	return at;
}

/* --- minivm --- */

static bool minivm_argv(const struct bench *b, const struct vm *vm, struct argv *a)
{
	(void)b;
	/* As the others have it: --console auto would take a virtio console where there is one. */
	add2(a, "--console", "serial");
	add2(a, "--kernel", vm->kernel);
	add2(a, "--memory", text(a, "%uM", vm->mib));
	if (vm->disk)
		add2(a, "--disk", text(a, "%s%s", vm->disk, vm->disk_ro ? ",ro" : ""));
	if (vm->words)
		add2(a, "--cmdline", vm->words);
	if (vm->no_assist)
		add2(a, "--assist", "off");
	if (vm->stats)
		add2(a, "--stats", vm->stats);
	if (vm->name)
		add2(a, "--name", vm->name);
	if (vm->tap)
		add2(a, "--net", text(a, "tap=%s", vm->tap));
	if (vm->passt)
		add2(a, "--net", text(a, "passt=%s", vm->passt));
	return true;
}

/* --- floor: it has no disk --- */

static bool floor_argv(const struct bench *b, const struct vm *vm, struct argv *a)
{
	(void)b;
	add(a, vm->kernel);
	add(a, text(a, "%u", vm->mib));
	return true;
}

/* --- QEMU microvm --- */

static bool qemu_argv(const struct bench *b, const struct vm *vm, struct argv *a)
{
	(void)b;
	add2(a, "-M", "microvm,accel=kvm,acpi=off,isa-serial=on");
	add2(a, "-cpu", "host,-arch-capabilities"); /* else it fails on emulating hosts */
	add2(a, "-m", text(a, "%u", vm->mib));
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-no-reboot");
	add2(a, "-display", "none");
	add2(a, "-serial", "stdio");
	add2(a, "-global", "virtio-mmio.force-legacy=false");
	add2(a, "-device", "isa-debug-exit,iobase=0xf4,iosize=1");
	add2(a, "-kernel", vm->kernel);
	add2(a, "-append",
	     text(a, "console=ttyS0 reboot=k panic=-1%s %s",
		  vm->disk ? (vm->disk_ro ? " root=/dev/vda ro" : " root=/dev/vda rw") : "",
		  vm->words ? vm->words : ""));
	if (vm->disk) {
		add2(a, "-drive",
		     text(a, "id=d,if=none,format=raw,file=%s%s", vm->disk,
			  vm->disk_ro ? ",readonly=on" : ""));
		add2(a, "-device", "virtio-blk-device,drive=d");
	}
	if (vm->tap)
		add2(a, "-netdev",
		     text(a, "tap,id=n,ifname=%s,script=no,downscript=no,vhost=off", vm->tap));
	if (vm->passt)
		add2(a, "-netdev",
		     text(a, "stream,id=n,server=off,addr.type=unix,addr.path=%s", vm->passt));
	if (vm->tap || vm->passt) {
		/* a vCPU's thread is told by its name */
		add2(a, "-name", "bench,debug-threads=on");
		add2(a, "-device", "virtio-net-device,netdev=n,mac=02:00:00:00:00:01");
	}
	return true;
}

/* --- kvmtool: takes no ELF file --- */

static bool kvmtool_argv(const struct bench *b, const struct vm *vm, struct argv *a)
{
	const char *kernel =
	    strcmp(vm->kernel, b->first) == 0 || strcmp(vm->kernel, b->vmlinux) == 0 ? b->bzimage
										     : vm->kernel;

	if (!kernel || strcmp(kernel, b->exits) == 0)
		return false;
	add(a, "run");
	add2(a, "--kernel", kernel);
	add2(a, "--cpus", "1");
	add2(a, "--mem", text(a, "%u", vm->mib));
	add2(a, "--console", "serial");
	add2(a, "--network", "mode=none");
	if (vm->disk)
		add2(a, "--disk", text(a, "%s%s", vm->disk, vm->disk_ro ? ",ro" : ""));
	add2(a, "--params",
	     text(a, "console=ttyS0 reboot=k panic=-1 root=/dev/vda rw %s",
		  vm->words ? vm->words : ""));
	return true;
}

/* --- Firecracker: takes ELF files only; configured by a JSON file --- */

static bool write_config(const char *path, const struct vm *vm)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	fprintf(f, "{\"boot-source\": {\"kernel_image_path\": \"%s\", \"boot_args\": \"",
		vm->kernel);
	fprintf(f, "console=ttyS0 reboot=k panic=-1 pci=off ");
	for (const char *p = vm->words ? vm->words : ""; *p; p++)
		fprintf(f, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	fprintf(f, "\"}, \"machine-config\": {\"vcpu_count\": 1, \"mem_size_mib\": %u}, ", vm->mib);
	fprintf(f, "\"drives\": [");
	if (vm->disk)
		fprintf(f,
			"{\"drive_id\": \"d\", \"path_on_host\": \"%s\", \"is_root_device\": true, "
			"\"is_read_only\": %s}",
			vm->disk, vm->disk_ro ? "true" : "false");
	fprintf(f, "]}\n");
	ok = !ferror(f);
	return fclose(f) == 0 && ok;
}

static bool firecracker_argv(const struct bench *b, const struct vm *vm, struct argv *a)
{
	const char *config = text(a, "%s/firecracker.json", b->work);
	struct vm elf = *vm;

	if (strcmp(vm->kernel, b->bzimage) == 0)
		elf.kernel = b->vmlinux;
	if (!write_config(config, &elf))
		return false;
	add(a, "--no-api");
	add2(a, "--config-file", config);
	return true;
}

typedef bool argv_fn(const struct bench *b, const struct vm *vm, struct argv *a);

bool vm_argv(const struct bench *b, enum who who, const struct vm *vm, struct argv *a)
{
	static argv_fn *const fns[WHO_COUNT] = {
	    [WHO_MINIVM] = minivm_argv,
	    [WHO_FLOOR] = floor_argv,
	    [WHO_QEMU] = qemu_argv,
	    [WHO_KVMTOOL] = kvmtool_argv,
	    [WHO_FIRECRACKER] = firecracker_argv,
	};

	a->n = a->used = 0;
	if (!b->program[who])
		return false;
	add(a, b->program[who]);
	if (!fns[who](b, vm, a))
		return false;
	a->arg[a->n] = NULL;
	return true;
}

bool vm_start(struct bench *b, enum who who, const struct vm *vm, struct proc *p)
{
	struct proc_request req = {.in_file = "/dev/null"};
	struct argv argv;
	int rc;

	if (!vm_argv(b, who, vm, &argv))
		return false;
	req.argv = argv.arg;
	rc = proc_start(p, &req);
	if (rc)
		bench_fail(b, "%s: %s", who_name(who), strerror(-rc));
	return rc == 0;
}
