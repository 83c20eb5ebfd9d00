/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts in a bad state: no KVM, no rights, no room, no descriptors, images that others use. */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUEST_SECONDS 30
#define K	      "--kernel", "@elf"

/* --- KVM is not there, not ours, or not KVM --- */

static int empty_dev(void *suite)
{
	(void)suite;
	return own_mounts() || mount("tmpfs", "/dev", "tmpfs", 0, "size=64k");
}

static int empty_dev_no_input(void *suite)
{
	return close(STDIN_FILENO) || empty_dev(suite);
}

/* A file in the place of the device; `mode` as others see it. */
static int put_kvm(const char *target, const char *source)
{
	return own_mounts() || mount(source, target, NULL, MS_BIND, NULL);
}

static int null_as_kvm(void *suite)
{
	(void)suite;
	return put_kvm("/dev/kvm", "/dev/null");
}

static int text_as_kvm(void *suite)
{
	return put_kvm("/dev/kvm", fixture(suite, "text"));
}

static int forbidden_kvm(void *suite)
{
	return put_kvm("/dev/kvm", fixture(suite, "noread")) || become_nobody(suite);
}

static void kvm_cases(struct suite *s)
{
	static const struct refusal missing = {
	    "no /dev/kvm", {K}, .want = "/dev/kvm", .root = true, .prepare = empty_dev};
	static const struct refusal no_null = {"no standard input, nor a /dev/null for it",
					       {K},
					       .want = "closed standard descriptor",
					       .root = true,
					       .prepare = empty_dev_no_input};
	/* These need a place to put the other file. */
	static const struct refusal others[] = {
	    {"another device as /dev/kvm",
	     {K},
	     .want = "/dev/kvm",
	     .root = true,
	     .prepare = null_as_kvm},
	    {"a file as /dev/kvm", {K}, .want = "/dev/kvm", .root = true, .prepare = text_as_kvm},
	    {"/dev/kvm of another user",
	     {K},
	     .want = "ermission",
	     .root = true,
	     .prepare = forbidden_kvm},
	};

	refuse(s, &missing);
	refuse(s, &no_null);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (s->have_kvm)
			refuse(s, &others[i]);
		else if (selected(s, others[i].name))
			tap_skip(&s->tap, "no /dev/kvm to put another file on", "%s",
				 others[i].name);
	}
}

/* --- limits --- */

static int set_limit(int resource, rlim_t value)
{
	const struct rlimit limit = {value, value};

	return setrlimit(resource, &limit);
}

static int little_address_space(void *suite)
{
	(void)suite;
	return set_limit(RLIMIT_AS, 128u << 20);
}

static int few_files(void *suite)
{
	(void)suite;
	return set_limit(RLIMIT_NOFILE, 6);
}

static int full_output(void *suite)
{
	int fd = open("/dev/full", O_WRONLY);

	(void)suite;
	return fd < 0 || dup2(fd, 1) < 0 || close(fd);
}

static void limit_cases(struct suite *s)
{
	static const struct refusal limits[] = {
	    {"too little address space",
	     {K, "--memory", "512M"},
	     .want = "emory",
	     .kvm = true,
	     .prepare = little_address_space},
	    {"too few file descriptors",
	     {K, "--disk", "@disk", "--disk", "@disk2"},
	     .want = "ulimit -n",
	     .kvm = true,
	     .prepare = few_files},
	    {"no room for the help", {"--help"}, .want = "standard output", .prepare = full_output},
	    {"no room for the version",
	     {"--version"},
	     .want = "standard output",
	     .prepare = full_output},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		refuse(s, &limits[i]);
}

/* --- somebody else has the image --- */

static void lock_cases(struct suite *s)
{
	static const struct refusal locked[] = {
	    {"locked disk", {K, "--disk", "@disk"}, .want = "@disk", .kvm = true},
	    {"locked read-only disk", {K, "--disk", "@disk,ro"}, .want = "@disk", .kvm = true},
	    {"locked base of an overlay",
	     {K, "--disk", "@disk,overlay=@new-layer"},
	     .want = "@disk",
	     .kvm = true},
	};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(fixture(s, "disk"), O_RDWR | O_CLOEXEC);

	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock))
		tap_fail(&s->tap, "locked disk: cannot lock it: %s", strerror(errno));
	else
		for (size_t i = 0; i < sizeof(locked) / sizeof(locked[0]); i++)
			refuse(s, &locked[i]);
	if (fd >= 0)
		close(fd);
}

/* --- machines that run, with trouble around them --- */

struct run {
	const char *name;
	const char
	    *args[8]; /* behind kernel, root disk and a command that prints and exits with 6 */
	int status;
	const char *want; /* in the one line on standard error; NULL: it must be silent */
	int (*prepare)(void *suite);
};

static int close_all(void *suite)
{
	(void)suite;
	return close(0) || close(1) || close(2);
}

static void judge_run(struct suite *s, const struct run *r, struct proc *p)
{
	const char *text;
	bool in_time, said;
	int status;

	proc_close_in(p);
	in_time = proc_wait(p, GUEST_SECONDS * 1000 * s->opt.slow, &status);
	text = proc_complaints(p);
	said = r->want ? strstr(text, r->want) && !strncmp(text, "minivm: ", 8) : !*text;
	if (in_time && said && status == r->status) {
		tap_ok(&s->tap, "%s", r->name);
		return;
	}
	tap_note(p->out.data);
	tap_note(p->err.data);
	tap_fail(&s->tap, "%s: %s, status %d, want %d", r->name,
		 !in_time ? "it does not end"
		 : said	  ? "it goes on"
			  : "it does not say what it should",
		 status, r->status);
}

static void run_one(struct suite *s, const struct run *r)
{
	char root[512];
	const char *argv[24] = {s->minivm,
				"--kernel",
				fixture(s, "kernel"),
				"--cmdline",
				"quiet minivm.sh=\"echo hello; echo hello; exit 6\"",
				"--disk",
				root,
				"--disk",
				fixture(s, "disk")};
	const struct proc_request req = {.argv = argv, .prepare = r->prepare, .opaque = s};
	unsigned n = 0;
	uint64_t before;
	struct proc p;

	if (!selected(s, r->name))
		return;
	if (!s->have_kvm) {
		tap_skip(&s->tap, "no /dev/kvm", "%s", r->name);
		return;
	}
	snprintf(root, sizeof(root), "%s,overlay", s->opt.root);
	while (argv[n])
		n++;
	for (unsigned i = 0; r->args[i]; i++)
		argv[n++] = r->args[i];
	before = fixtures_hash(s);
	if (proc_start(&p, &req)) {
		tap_fail(&s->tap, "%s: cannot start", r->name);
		return;
	}
	judge_run(s, r, &p);
	proc_free(&p);
	if (fixtures_hash(s) != before)
		tap_fail(&s->tap, "%s: a file was made, changed or removed", r->name);
}

static void run_cases(struct suite *s)
{
	static const struct run runs[] = {
	    /* Or the console would be written to the disk that got descriptor 1. */
	    {"no standard descriptors", {NULL}, 6, NULL, close_all},
	    {"no room for the console on standard output",
	     {NULL},
	     6,
	     "console: cannot write output: No space left",
	     full_output},
	    {"no room for the console file",
	     {"--console", "file=/dev/full"},
	     6,
	     "console: cannot write output: No space left",
	     NULL},
	    {"no room for the statistics",
	     {"--stats", "/dev/full", "--console", "none"},
	     125,
	     "/dev/full",
	     NULL},
	};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		run_one(s, &runs[i]);
}

void run_host(struct suite *s)
{
	kvm_cases(s);
	limit_cases(s);
	lock_cases(s);
	run_cases(s);
}
