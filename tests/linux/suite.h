/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux suite: suite.c has the table of cases and runs them, suite_vm.c starts a VM for a case
 * and judges how it went, the other files hold the cases.
 *
 * A case is a function over a struct test. The first thing that is wrong is its verdict; what goes
 * on after that does no harm, so cases need not check every step. Guest programs' result lines
 * (tests/linux/guest) are counted as tests of their own.
 */
#ifndef LINUX_SUITE_H
#define LINUX_SUITE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "proc.h"
#include "tap.h"

struct options {
	const char *minivm;
	const char *kernel; /* bzImage */
	const char *vmlinux;
	const char *root;   /* ext4 image with our init */
	const char *initrd; /* the same as a cpio archive */
	const char *checks; /* the guest's program */
	const char *debian; /* directory with Debian's kernels and root image, or NULL */
	const char *packed; /* directory with the kernel in other packings, or NULL */
	const char *filter;
	unsigned slow; /* how many times slower than usual machines are */
	bool direct;
	bool long_run;
	bool verbose;
	bool emulating;		/* minivm's doctor says so: assists are expected to work */
	char dir[128];		/* scratch of the whole run */
	char kernel_full[4096]; /* the bzImage's path from the root directory */
	char test_initrd[160];	/* initrd and checks */
	char checks_disk[160];	/* checks, as a raw disk */
};

/* suite_images.c: what all cases share, from the options' files into opt->dir. 0 or -errno. */
int images_make(struct options *opt);
void images_remove(const struct options *opt);

#define TEST_WHY_MAX   512
#define TEST_TEXTS_MAX 64

struct test {
	const struct options *opt;
	struct tap *tap;
	const char *name;
	char dir[128]; /* scratch of this case */
	char why[TEST_WHY_MAX];
	const char *skip; /* why it cannot be run here, or NULL */
	unsigned vms;	  /* started so far */
	char *texts[TEST_TEXTS_MAX];
	unsigned text_count;
};

/* Notes what is wrong, if nothing was before. */
void wrong(struct test *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The path of a file in the case's scratch directory; as text(). */
const char *scratch_path(struct test *t, const char *name);
/* Formats into a new string that lives until the case is over. */
const char *text(struct test *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* suite_disk.c: a disk whose sectors have the pattern of `seed`; 0: zeroes. Returns its path. */
const char *make_disk(struct test *t, const char *name, uint64_t sectors, uint64_t seed);

/* --- a VM --- */

#define VM_DISKS_MAX 8
#define VM_ARGS_MAX  12

struct vm_request {
	bool vmlinux;	    /* the kernel; else the bzImage */
	const char *kernel; /* another one, if it is not NULL */
	/*
	 * Where the root is: the initrd; or with `root` a disk, /dev/vda: "" is the root image
	 * under a throw-away layer, else these words of --disk. Then /dev/vdb is taken too.
	 */
	const char *root;
	unsigned cpus;	    /* 0: one */
	const char *memory; /* NULL: the default */
	const char *words;  /* more words for the kernel */
	const char *checks; /* groups for the guest's program; NULL: it is not run */
	const char *disk[VM_DISKS_MAX];
	const char *args[VM_ARGS_MAX];
	bool whole_argv; /* args are all there is, after the path of minivm */
	/* How its input, output and environment are, see proc.h. */
	bool tty;
	const char *in_file;
	int (*prepare)(void *opaque);
	void *opaque;
	/* What is expected of it. */
	bool no_done;	  /* the program in the guest does not come to its end */
	bool noisy;	  /* standard error may have lines (beginning with "minivm: ") */
	bool others;	  /* and such of processes that minivm starts */
	bool ignore_out;  /* its output does not matter */
	bool assist;	  /* it runs with --assist on */
	bool disk_errors; /* its first disk may have some */
	unsigned limit_s; /* of wall time for each wait on an ordinary machine; 0: 60 */
};

struct vm {
	struct proc p;
	struct test *t;
	const struct vm_request *req; /* the case's, outlives the VM */
	const char *stats_path;
	json_t *stats; /* after the end; NULL if there are none */
	int status;
	bool started;
};

/* The VM must be ended by vm_finish() or vm_free(). */
void vm_start(struct test *t, struct vm *vm, const struct vm_request *req);
/* Waits for `line_part` in its output; false, and wrong, if it does not come. */
bool vm_expect(struct vm *vm, const char *line_part);
void vm_send(struct vm *vm, const char *input);
/* At the prompt of a shell on a terminal: Ctrl-C is the guest's, and ends what runs there. */
void vm_interrupt(struct vm *vm);
void vm_signal(struct vm *vm, int sig);
/* Waits for the end, counts the guest's results, checks status, output and statistics. */
void vm_finish(struct vm *vm, int want_status);
/* Kills it; as vm_finish(), but there are no statistics. */
void vm_kill(struct vm *vm, int sig);
/* As vm_finish(), for one that refuses to start: status 125 and no statistics. */
void vm_finish_refused(struct vm *vm);
void vm_free(struct vm *vm);
/* Start, end, free. */
void vm_run(struct test *t, const struct vm_request *req, int want_status);

/* A number in the statistics by its path, such as "disks.0.requests"; -1 if it is not there. */
long long vm_number(const struct vm *vm, const char *path);
/* The same for a string; "" if it is not there. */
const char *vm_string(const struct vm *vm, const char *path);

/* suite_hvc.c: the host's end of a port; what comes must be `text`. */
int connect_to(struct test *t, const char *path);
void want_reply(struct test *t, int fd, const char *text);

/*
 * suite_snapshot.c: a request to a control socket. The answer's status, 0: none; `part` must be in
 * it.
 */
int ask_api(struct test *t, const char *path, const char *method, const char *target,
	    const char *body, const char *part);

/* --- cases --- */

typedef void case_fn(struct test *t);

/* suite_machine.c */
case_fn case_bzimage, case_vmlinux_root, case_four_cpus, case_many_cpus, case_memory_small,
    case_memory_hole, case_memory_high, case_config_file, case_assist_on, case_cmdline_only;
/* suite_rng.c */
case_fn case_rng, case_rng_no_driver;
/* suite_vsock.c */
case_fn case_vsock;
/* suite_snapshot.c */
case_fn case_snapshot, case_snapshot_two_cpus, case_snapshot_again, case_snapshot_side_by_side,
    case_snapshot_refused, case_snapshot_vsock, case_snapshot_generation, case_snapshot_agent,
    case_snapshot_load;
/* suite_moved.c */
case_fn case_snapshot_devices;
/* suite_net.c */
case_fn case_net_tap, case_net_tap_gone, case_net_user, case_snapshot_net;
/* suite_balloon.c */
case_fn case_balloon_reporting, case_balloon_target, case_balloon_resized;
/* suite_start.c */
case_fn case_cache, case_cache_cut, case_cache_named, case_timeline, case_hugepages_thp,
    case_hugepages_2m;
/* suite_describe.c */
case_fn case_acpi, case_acpi_two_cpus, case_mptable, case_mptable_two_cpus, case_acpi_poweroff,
    case_acpi_reset, case_acpi_pvpanic, case_acpi_panic_word, case_acpi_button, case_mptable_panic,
    case_mptable_reset, case_fdt, case_fdt_two_cpus, case_fdt_pvpanic, case_fdt_panic_word,
    case_fdt_reset, case_fdt_sigterm, case_pvh, case_pvh_two_cpus, case_pvh_mptable,
    case_pvh_refused;
/* suite_debian.c */
case_fn case_debian, case_debian_smp, case_debian_button, case_debian_generic,
    case_debian_generic_smp, case_debian_login, case_debian_login_button, case_debian_login_generic;
/* suite_packed.c */
case_fn case_packed;
/* suite_disk.c */
case_fn case_disk_kinds, case_disk_eight, case_disk_ext4, case_overlay_kept, case_overlay_killed,
    case_disk_killed, case_shared_base, case_locks, case_host_full, case_file_limit;
/* suite_end.c */
case_fn case_exit_status, case_exit_signal, case_not_found, case_not_executable, case_poweroff,
    case_reboot_init, case_reboot, case_panic, case_init_dies, case_triple_fault, case_sigterm,
    case_sigterm_root, case_sigterm_early, case_sigint_shell, case_sighup, case_sigterm_twice,
    case_grace;
/* suite_console.c */
case_fn case_stdin_dialogue, case_stdin_early, case_stdin_early_uart, case_stdin_file,
    case_stdin_null, case_stdin_bulk, case_stdout_lines, case_stdout_closed, case_stdout_stuck,
    case_terminal, case_terminal_sigterm, case_terminal_fatal, case_terminal_escape,
    case_console_file, case_console_none, case_stats_stdout;
/* suite_hvc.c */
case_fn case_hvc_auto, case_hvc_order, case_hvc_terminal, case_hvc_stuck, case_hvc_full, case_ports;

#endif
