/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile-suite --minivm PATH --kernel BZIMAGE --root IMAGE [--filter TEXT] [--slow N]
 *	[--mutations N] [--verbose]
 *
 * Runs with and without /dev/kvm; what needs it, or root, is skipped where it is missing. Static,
 * needs only a scratch directory, so that it runs from an initrd too.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSAL_MS 10000 /* it is at once, but the host may be busy */
#define MUTATIONS  300

bool selected(const struct suite *s, const char *name)
{
	return !s->opt.filter || strstr(name, s->opt.filter) != NULL;
}

/* Puts the directory where an "@" is. Arguments that are longer than any path stay as they are. */
static const char *expand(const struct suite *s, const char *in, char *out)
{
	size_t at = 0;

	if (strlen(in) + strlen(s->dir) + 2 >= ARG_PATH_MAX || !strchr(in, '@'))
		return in;
	for (; *in && at + strlen(s->dir) + 2 < ARG_PATH_MAX; in++) {
		if (*in == '@')
			at += (size_t)snprintf(out + at, ARG_PATH_MAX - at, "%s/", s->dir);
		else
			out[at++] = *in;
	}
	out[at] = '\0';
	return out;
}

struct child {
	struct suite *suite;
	const struct refusal *refusal;
};

int enter_cwd(void *suite)
{
	const char *cwd = fixture(suite, "cwd");

	return chdir(cwd) || setenv("TMPDIR", cwd, 1);
}

static int prepare(void *opaque)
{
	const struct child *c = opaque;

	if (enter_cwd(c->suite))
		return -1;
	return c->refusal->prepare ? c->refusal->prepare(c->suite) : 0;
}

static const char *judge_line(const struct suite *s, const struct refusal *r, const char *line,
			      const char *want)
{
	if (!*line)
		return "it says nothing";
	if (strchr(line, '\n') != line + strlen(line) - 1)
		return "it says more than one line, or less";
	if (strncmp(line, "minivm: ", 8) != 0)
		return "its line does not begin with \"minivm: \"";
	if (want && !strstr(line, want) && !(r->kvm && !s->have_kvm && strstr(line, "/dev/kvm")))
		return "its line does not name what is wrong";
	return NULL;
}

static void report(struct suite *s, const struct refusal *r, const struct proc *p, const char *why,
		   int status)
{
	if (why || s->opt.verbose)
		tap_note(p->err.data);
	if (why)
		tap_fail(&s->tap, "%s: %s (status %d)", r->name, why, status);
	else
		tap_ok(&s->tap, "%s", r->name);
}

void refuse(struct suite *s, const struct refusal *r)
{
	char expanded[ARGS_MAX][ARG_PATH_MAX], want[ARG_PATH_MAX];
	const char *argv[ARGS_MAX + 2] = {s->minivm};
	struct child child = {s, r};
	const struct proc_request req = {.argv = argv, .prepare = prepare, .opaque = &child};
	uint64_t before;
	const char *why = NULL;
	struct proc p;
	int status, rc;

	if (!selected(s, r->name))
		return;
	if (r->root && !s->is_root) {
		tap_skip(&s->tap, "needs root", "%s", r->name);
		return;
	}
	for (unsigned i = 0; i < ARGS_MAX && r->args[i]; i++)
		argv[i + 1] = expand(s, r->args[i], expanded[i]);
	before = fixtures_hash(s);
	rc = proc_start(&p, &req);
	if (rc) {
		tap_fail(&s->tap, "%s: cannot start: %s", r->name, strerror(-rc));
		return;
	}
	proc_close_in(&p);
	if (!proc_wait(&p, REFUSAL_MS * s->opt.slow, &status))
		why = "it does not end soon";
	else if (status != 125)
		why = "exit status is not 125";
	else if (p.out.len)
		why = "it writes to standard output";
	else
		why = judge_line(s, r, p.err.data, r->want ? expand(s, r->want, want) : NULL);
	if (!why && fixtures_hash(s) != before)
		why = "a file was made, changed or removed";
	report(s, r, &p, why, status);
	proc_free(&p);
}

static const struct option long_options[] = {
    {"minivm", required_argument, NULL, 'm'}, {"kernel", required_argument, NULL, 'k'},
    {"root", required_argument, NULL, 'r'},   {"filter", required_argument, NULL, 'f'},
    {"slow", required_argument, NULL, 's'},   {"mutations", required_argument, NULL, 'M'},
    {"verbose", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
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
	case 'r':
		opt->root = optarg;
		return true;
	case 'f':
		opt->filter = optarg;
		return true;
	case 's':
		opt->slow = (unsigned)atoi(optarg);
		return opt->slow > 0;
	case 'M':
		opt->mutations = (unsigned)atoi(optarg);
		return opt->mutations > 0;
	case 'V':
		return opt->verbose = true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct suite s = {.opt.slow = 1, .opt.mutations = MUTATIONS};
	int c, rc, fd;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!take_option(&s.opt, c))
			return 2;
	}
	if (!s.opt.minivm || !s.opt.kernel || !s.opt.root || optind != argc) {
		fprintf(stderr, "usage: hostile-suite --minivm PATH --kernel BZIMAGE --root IMAGE "
				"[--filter TEXT] [--slow N] [--mutations N] [--verbose]\n");
		return 2;
	}
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	s.have_kvm = fd >= 0;
	if (fd >= 0)
		close(fd);
	s.is_root = geteuid() == 0;
	rc = fixtures_make(&s);
	if (rc) {
		tap_fail(&s.tap, "fixtures: %s", strerror(-rc));
	} else {
		run_table(&s);
		run_files(&s);
		run_host(&s);
		run_snapshots(&s);
	}
	fixtures_remove(&s);
	return tap_done(&s.tap);
}
