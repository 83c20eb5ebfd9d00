/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-suite --minivm PATH --kernel BZIMAGE --vmlinux PATH --root IMAGE --initrd CPIO --checks
 *PATH
 *	[--debian DIR] [--packed DIR] [--filter TEXT] [--slow N] [--direct] [--long] [--verbose]
 *
 * Boots Linux under minivm, many times. --slow: time limits grow by this factor, work shrinks.
 * --direct: only the cases that are worth their time on a host whose KVM emulates kernel mode;
 * --long: those that take long as well. Without /dev/kvm all is skipped. A static program that
 * needs /tmp and /dev/kvm, so that it runs from an initrd too.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

enum {
	DIRECT = 1, /* also with --direct */
	LONG = 2,   /* only with --long */
	/* Not in a run of all cases inside the outer machine: restores make its kernel panic now
	   and then. By --filter, in a machine of their own. */
	APART = 4,
};

struct linux_case {
	const char *name;
	case_fn *run;
	unsigned flags;
};

static const struct linux_case cases[] = {
    {"bzimage", case_bzimage, DIRECT},
    {"vmlinux-root-2-cpus", case_vmlinux_root, DIRECT},
    {"4-cpus", case_four_cpus, 0},
    {"16-cpus", case_many_cpus, LONG},
    {"memory-64M", case_memory_small, LONG},
    {"memory-3G", case_memory_hole, LONG},
    {"memory-5G", case_memory_high, 0},
    {"config-file", case_config_file, 0},
    {"assist-on", case_assist_on, 0},
    {"cmdline-only", case_cmdline_only, 0},

    {"rng", case_rng, 0},
    {"rng-no-driver", case_rng_no_driver, 0},
    {"vsock", case_vsock, 0},
    {"net-tap", case_net_tap, 0},
    {"net-tap-gone", case_net_tap_gone, 0},
    {"net-user", case_net_user, 0},
    {"balloon-reporting", case_balloon_reporting, 0},
    {"balloon-target", case_balloon_target, 0},
    {"balloon-resized", case_balloon_resized, 0},

    {"snapshot", case_snapshot, DIRECT | APART},
    {"snapshot-2-cpus", case_snapshot_two_cpus, APART},
    {"snapshot-generation", case_snapshot_generation, APART},
    {"snapshot-agent", case_snapshot_agent, APART},
    {"snapshot-load", case_snapshot_load, APART},
    {"snapshot-again", case_snapshot_again, APART},
    {"snapshot-side-by-side", case_snapshot_side_by_side, APART},
    {"snapshot-refused", case_snapshot_refused, APART},
    {"snapshot-net", case_snapshot_net, APART},
    {"snapshot-vsock", case_snapshot_vsock, APART},
    {"snapshot-devices", case_snapshot_devices, APART},

    {"kernel-cache", case_cache, 0},
    {"kernel-cache-cut", case_cache_cut, 0},
    {"kernel-cache-dir", case_cache_named, 0},
    {"timeline", case_timeline, DIRECT},
    {"hugepages-thp", case_hugepages_thp, 0},
    {"hugepages-2M", case_hugepages_2m, 0},

    {"acpi", case_acpi, 0},
    {"acpi-2-cpus", case_acpi_two_cpus, 0},
    {"acpi-poweroff", case_acpi_poweroff, 0},
    {"acpi-reset", case_acpi_reset, 0},
    {"acpi-pvpanic", case_acpi_pvpanic, 0},
    {"acpi-panic-word", case_acpi_panic_word, 0},
    {"acpi-button", case_acpi_button, 0},
    {"mptable", case_mptable, 0},
    {"mptable-2-cpus", case_mptable_two_cpus, 0},
    {"mptable-panic", case_mptable_panic, 0},
    {"mptable-reset", case_mptable_reset, 0},
    {"fdt", case_fdt, 0},
    {"fdt-2-cpus", case_fdt_two_cpus, 0},
    {"fdt-pvpanic", case_fdt_pvpanic, 0},
    {"fdt-panic-word", case_fdt_panic_word, 0},
    {"fdt-reset", case_fdt_reset, 0},
    {"fdt-sigterm", case_fdt_sigterm, 0},

    {"pvh", case_pvh, 0},
    {"pvh-2-cpus", case_pvh_two_cpus, 0},
    {"pvh-mptable", case_pvh_mptable, 0},
    {"pvh-refused", case_pvh_refused, 0},

    {"debian-kernel", case_debian, 0},
    {"debian-4-cpus-5G", case_debian_smp, LONG},
    {"debian-button", case_debian_button, LONG},
    {"debian-generic", case_debian_generic, LONG},
    {"debian-generic-4-cpus-5G", case_debian_generic_smp, LONG},
    {"debian-login", case_debian_login, 0},
    {"debian-login-button", case_debian_login_button, LONG},
    {"debian-login-generic", case_debian_login_generic, LONG},

    {"packed-gzip", case_packed, LONG},
    {"packed-xz", case_packed, LONG},
    {"packed-lzma", case_packed, LONG},
    {"packed-lz4", case_packed, LONG},
    {"packed-zstd", case_packed, 0},
    {"packed-bzip2", case_packed, 0},
    {"packed-lzo", case_packed, LONG},

    {"disk-kinds", case_disk_kinds, DIRECT},
    {"disk-eight", case_disk_eight, 0},
    {"disk-ext4", case_disk_ext4, 0},
    {"disk-killed", case_disk_killed, 0},
    {"disk-host-full", case_host_full, 0},
    {"disk-file-limit", case_file_limit, 0},
    {"overlay-kept", case_overlay_kept, 0},
    {"overlay-killed", case_overlay_killed, 0},
    {"shared-base", case_shared_base, 0},
    {"locks", case_locks, 0},

    {"exit-status", case_exit_status, DIRECT},
    {"exit-signal", case_exit_signal, 0},
    {"not-found", case_not_found, 0},
    {"not-executable", case_not_executable, 0},
    {"poweroff", case_poweroff, 0},
    {"reboot-by-init", case_reboot_init, 0},
    {"reboot", case_reboot, 0},
    {"panic", case_panic, 0},
    {"panic-init-dies", case_init_dies, 0},
    {"triple-fault", case_triple_fault, 0},
    {"sigterm", case_sigterm, DIRECT},
    {"sigterm-root", case_sigterm_root, 0},
    {"sigterm-early", case_sigterm_early, 0},
    {"sigint-shell", case_sigint_shell, 0},
    {"sighup", case_sighup, LONG},
    {"sigterm-twice", case_sigterm_twice, 0},
    {"grace", case_grace, 0},

    {"stdin-dialogue", case_stdin_dialogue, DIRECT},
    {"stdin-early", case_stdin_early, 0},
    {"stdin-early-uart", case_stdin_early_uart, LONG},
    {"stdin-file", case_stdin_file, 0},
    {"stdin-null", case_stdin_null, 0},
    {"stdin-bulk", case_stdin_bulk, 0},
    {"stdout-lines", case_stdout_lines, 0},
    {"stdout-closed", case_stdout_closed, 0},
    {"stdout-stuck", case_stdout_stuck, 0},
    {"terminal", case_terminal, 0},
    {"terminal-sigterm", case_terminal_sigterm, 0},
    {"terminal-fatal", case_terminal_fatal, 0},
    {"terminal-escape", case_terminal_escape, 0},
    {"hvc-auto", case_hvc_auto, 0},
    {"hvc-order", case_hvc_order, 0},
    {"hvc-terminal", case_hvc_terminal, 0},
    {"hvc-stuck", case_hvc_stuck, 0},
    {"hvc-full", case_hvc_full, 0},
    {"ports", case_ports, 0},
    {"console-file", case_console_file, 0},
    {"console-none", case_console_none, 0},
    {"stats-stdout", case_stats_stdout, 0},
};

/* --- for the cases --- */

void wrong(struct test *t, const char *fmt, ...)
{
	va_list ap;

	if (*t->why)
		return;
	va_start(ap, fmt);
	vsnprintf(t->why, sizeof(t->why), fmt, ap);
	va_end(ap);
}

const char *text(struct test *t, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	if (!s || t->text_count == TEST_TEXTS_MAX) {
		wrong(t, "the test has no memory for its texts");
		free(s);
		return "";
	}
	t->texts[t->text_count++] = s;
	return s;
}

const char *scratch_path(struct test *t, const char *name)
{
	return text(t, "%s/%s", t->dir, name);
}

/* --- one case --- */

static void run_case(const struct options *opt, const struct linux_case *c, struct tap *tap)
{
	struct test t = {.opt = opt, .tap = tap, .name = c->name};
	unsigned failed = tap->failed;

	if (scratch_make(t.dir, sizeof(t.dir))) {
		tap_fail(tap, "%s: no scratch directory: %s", c->name, strerror(errno));
		return;
	}
	c->run(&t);
	if (t.skip)
		tap_skip(tap, t.skip, "%s", c->name);
	else if (*t.why)
		tap_fail(tap, "%s: %s", c->name, t.why);
	else if (tap->failed != failed)
		tap_fail(tap, "%s: a check in the guest failed", c->name);
	else
		tap_ok(tap, "%s", c->name);
	for (unsigned i = 0; i < t.text_count; i++)
		free(t.texts[i]);
	scratch_remove(t.dir);
}

static bool selected(const struct options *opt, const struct linux_case *c)
{
	if (opt->filter)
		return strstr(c->name, opt->filter) != NULL;
	if (opt->direct && !opt->long_run && !(c->flags & DIRECT))
		return false;
	if (!opt->direct && (c->flags & APART))
		return false;
	return opt->long_run || !(c->flags & LONG);
}

/* --- the run --- */

static bool have_kvm(const char **why)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	*why = fd < 0 ? strerror(errno) : NULL;
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* By the probe that minivm itself goes by; the one that takes the time is misled by a busy machine.
 */
static bool host_emulates(const struct options *opt)
{
	const char *const argv[] = {opt->minivm, "doctor", "--json", NULL};
	const struct proc_request req = {.argv = argv};
	struct proc p;
	bool emulates = false;
	int status;

	if (proc_start(&p, &req))
		return false;
	if (proc_wait(&p, 20000 * opt->slow, &status))
		emulates = strstr(p.out.data, "\"emulating_by_cpuid\": true") != NULL;
	proc_free(&p);
	return emulates;
}

static int run_cases(struct options *opt, struct tap *tap)
{
	const char *why;
	int rc = 0;

	if (!have_kvm(&why)) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			if (selected(opt, &cases[i]))
				tap_skip(tap, why, "%s", cases[i].name);
		return 0;
	}
	rc = images_make(opt);
	if (rc)
		return rc;
	opt->emulating = host_emulates(opt);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (selected(opt, &cases[i]))
			run_case(opt, &cases[i], tap);
	images_remove(opt);
	return 0;
}

static const struct option long_options[] = {
    {"minivm", required_argument, NULL, 'm'},  {"kernel", required_argument, NULL, 'k'},
    {"vmlinux", required_argument, NULL, 'v'}, {"root", required_argument, NULL, 'r'},
    {"initrd", required_argument, NULL, 'i'},  {"checks", required_argument, NULL, 'c'},
    {"debian", required_argument, NULL, 'D'},  {"packed", required_argument, NULL, 'p'},
    {"filter", required_argument, NULL, 'f'},  {"slow", required_argument, NULL, 's'},
    {"direct", no_argument, NULL, 'd'},	       {"long", no_argument, NULL, 'l'},
    {"verbose", no_argument, NULL, 'V'},       {NULL, 0, NULL, 0},
};

static bool take_option(struct options *opt, int c)
{
	switch (c) {
	case 'm':
		opt->minivm = optarg;
		return true;
	case 'k':
		opt->kernel = optarg;
		return true;
	case 'v':
		opt->vmlinux = optarg;
		return true;
	case 'r':
		opt->root = optarg;
		return true;
	case 'i':
		opt->initrd = optarg;
		return true;
	case 'c':
		opt->checks = optarg;
		return true;
	case 'D':
		opt->debian = optarg;
		return true;
	case 'p':
		opt->packed = optarg;
		return true;
	case 'f':
		opt->filter = optarg;
		return true;
	case 's':
		opt->slow = (unsigned)atoi(optarg);
		return opt->slow > 0;
	case 'd':
		return opt->direct = true;
	case 'l':
		return opt->long_run = true;
	case 'V':
		return opt->verbose = true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct options opt = {.slow = 1};
	struct tap tap = {0};
	int c, rc;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!take_option(&opt, c))
			return 2;
	}
	if (!opt.minivm || !opt.kernel || !opt.vmlinux || !opt.root || !opt.initrd || !opt.checks ||
	    optind != argc) {
		fprintf(stderr,
			"usage: linux-suite --minivm PATH --kernel BZIMAGE --vmlinux PATH "
			"--root IMAGE --initrd CPIO --checks PATH [--debian DIR] [--packed DIR] "
			"[--filter TEXT] [--slow N] [--direct] [--long] [--verbose]\n");
		return 2;
	}
	rc = run_cases(&opt, &tap);
	if (rc)
		tap_fail(&tap, "images: cannot be made: %s", strerror(-rc));
	return tap_done(&tap);
}
