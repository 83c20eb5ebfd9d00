/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures minivm beside a floor and its rivals: docs/benchmarks.md.
 *
 *	bench --minivm PATH --floor PATH --floor-restore PATH --first ELF --exits ELF --bzimage FILE
 *	      --vmlinux FILE --root IMAGE --work DIR [--qemu PATH] [--kvmtool PATH] [--firecracker
 *PATH]
 *	      [--rounds N] [--json FILE] [--host TEXT] [--emulated] [--counts] [--verbose]
 *	      [--only syscalls|start|restore|memory|exits|round-trip|net] [--net-rate ELF]
 *
 * --counts: only what does not depend on time (system calls, memory, exits), once each, and the
 * result as test lines: a regression of these fails the tests. Exit status: 0 if everything could
 * be measured (with --counts: and no target was missed), else 1. A static program that wants
 * /dev/kvm and nothing else.
 */
#include "bench.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "tap.h"

struct options {
	struct bench bench;
	const char *json;
	const char *host;
	const char *only;
};

void bench_fail(struct bench *b, const char *fmt, ...)
{
	va_list ap;

	b->failed = true;
	fprintf(stderr, "bench: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
}

/* --- command line --- */

enum {
	OPT_FLOOR_RESTORE = 256,
	OPT_FIRST,
	OPT_EXITS,
	OPT_NET_RATE,
	OPT_BZIMAGE,
	OPT_VMLINUX,
	OPT_ROOT,
	OPT_WORK,
	OPT_ROUNDS,
	OPT_JSON,
	OPT_HOST,
	OPT_EMULATED,
	OPT_COUNTS,
	OPT_VERBOSE,
	OPT_ONLY,
};

/* Programs have their own number as value. */
static const struct option long_options[] = {
    {"minivm", required_argument, NULL, WHO_MINIVM},
    {"floor", required_argument, NULL, WHO_FLOOR},
    {"qemu", required_argument, NULL, WHO_QEMU},
    {"kvmtool", required_argument, NULL, WHO_KVMTOOL},
    {"firecracker", required_argument, NULL, WHO_FIRECRACKER},
    {"floor-restore", required_argument, NULL, OPT_FLOOR_RESTORE},
    {"first", required_argument, NULL, OPT_FIRST},
    {"exits", required_argument, NULL, OPT_EXITS},
    {"net-rate", required_argument, NULL, OPT_NET_RATE},
    {"bzimage", required_argument, NULL, OPT_BZIMAGE},
    {"vmlinux", required_argument, NULL, OPT_VMLINUX},
    {"root", required_argument, NULL, OPT_ROOT},
    {"work", required_argument, NULL, OPT_WORK},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"json", required_argument, NULL, OPT_JSON},
    {"host", required_argument, NULL, OPT_HOST},
    {"emulated", no_argument, NULL, OPT_EMULATED},
    {"counts", no_argument, NULL, OPT_COUNTS},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"only", required_argument, NULL, OPT_ONLY},
    {NULL, 0, NULL, 0},
};

static bool take_option(struct options *o, int option)
{
	struct bench *b = &o->bench;

	switch (option) {
	case OPT_FLOOR_RESTORE:
		b->floor_restore = optarg;
		break;
	case OPT_FIRST:
		b->first = optarg;
		break;
	case OPT_EXITS:
		b->exits = optarg;
		break;
	case OPT_NET_RATE:
		b->net_rate = optarg;
		break;
	case OPT_BZIMAGE:
		b->bzimage = optarg;
		break;
	case OPT_VMLINUX:
		b->vmlinux = optarg;
		break;
	case OPT_ROOT:
		b->root = optarg;
		break;
	case OPT_WORK:
		b->work = optarg;
		break;
	case OPT_ROUNDS:
		b->rounds = (unsigned)strtoul(optarg, NULL, 10);
		break;
	case OPT_JSON:
		o->json = optarg;
		break;
	case OPT_HOST:
		o->host = optarg;
		break;
	case OPT_EMULATED:
		b->emulated = true;
		break;
	case OPT_COUNTS:
		b->counts = true;
		break;
	case OPT_VERBOSE:
		b->verbose = true;
		break;
	case OPT_ONLY:
		o->only = optarg;
		break;
	default:
		if (option < 0 || option >= WHO_COUNT)
			return false;
		b->program[option] = optarg;
	}
	return true;
}

static bool parse(int argc, char *argv[], struct options *o)
{
	const struct bench *b = &o->bench;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!take_option(o, option))
			return false;
	}
	return optind == argc && b->program[WHO_MINIVM] && b->program[WHO_FLOOR] &&
	       b->floor_restore && b->first && b->exits && b->bzimage && b->vmlinux && b->root &&
	       b->work && b->rounds > 0;
}

/* --- the run --- */

static void describe(const struct options *o, char *head, size_t size)
{
	time_t now = time(NULL);
	struct utsname u;
	char date[32];

	strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&now));
	uname(&u);
	snprintf(head, size, "%s, Linux %s, %s%u rounds\n", date, u.release, o->host ? o->host : "",
		 o->bench.rounds);
}

/* Each judgement is a test; a figure without one says nothing. */
static int report_counts(const struct bench *b, const struct results *r)
{
	struct tap tap = {0};

	for (unsigned i = 0; i < r->count; i++) {
		const struct row *row = &r->row[i];

		for (unsigned k = 0; k < row->judgements; k++) {
			const struct judgement *j = &row->judgement[k];

			if (judgement_met(j))
				tap_ok(&tap, "%s: %g, at most %g", row->name, j->value, j->target);
			else
				tap_fail(&tap, "%s: %g, at most %g", row->name, j->value,
					 j->target);
		}
	}
	if (b->failed)
		tap_fail(&tap, "bench: something could not be measured, see above");
	return tap_done(&tap);
}

static const struct figure {
	const char *name;
	void (*measure)(struct bench *b, struct results *r);
	bool timed; /* not with --counts */
} figures[] = {
    {"syscalls", figure_syscalls, false},
    {"start", figure_start, true},
    {"syscalls", figure_restore_syscalls, false},
    {"restore", figure_restore, true},
    {"memory", figure_memory, false},
    {"exits", figure_exits, false},
    {"round-trip", figure_round_trip, true},
    {"net", figure_net, true},
};

static void measure(struct options *o, struct results *r)
{
	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		if ((o->only && strcmp(o->only, figures[i].name) != 0) ||
		    (o->bench.counts && figures[i].timed))
			continue;
		figures[i].measure(&o->bench, r);
	}
}

int main(int argc, char *argv[])
{
	struct options o = {.bench.rounds = 10};
	static struct results results;
	struct bench *b = &o.bench;
	char head[256], cache[256];

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "bench: see the head of tests/bench/bench.c for its options\n");
		return 2;
	}
	/* minivm's cache of kernels is ours, and begins empty. */
	snprintf(cache, sizeof(cache), "%s/cache", b->work);
	mkdir(cache, 0700);
	setenv("XDG_CACHE_HOME", cache, 1);
	setenv("XDG_RUNTIME_DIR", b->work, 1);
	describe(&o, head, sizeof(head));

	measure(&o, &results);
	if (b->counts)
		return report_counts(b, &results);
	results_print(&results, head, b->emulated);
	if (o.json && results_json(&results, head, b->emulated, o.json))
		bench_fail(b, "%s: cannot be written", o.json);
	return b->failed;
}
