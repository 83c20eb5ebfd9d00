/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures of a restore: exec to the first KVM_RUN of a saved machine, and the system calls
 * before it, beside the floor that sets the same state (floor_restore.c).
 *
 * The machine of the two sizes is a payload in ring 3 with a disk, a second after its start: what
 * is restored of it does not depend on its size, and a Linux with 4 GiB takes minutes on hosts that
 * emulate kernel mode. A live Linux of 128 MiB, whose devices are all in use, is measured as well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "proc.h"

#define MIB_SMALL 128
#define MIB_LARGE 4096

#define NAME	    "bench-restore"
#define READY	    "bench-ready"
#define BOOT_MS	    300000
#define COMMAND_MS  60000
#define PUBLISHED   "Firecracker's published: 2 to 9 ms (512 MiB)"
#define DIR_LEN_MAX 256

/* --- the snapshots --- */

struct saved {
	const char *file;  /* name of its directory below the work directory */
	const char *ready; /* the machine may be saved when it has printed this */
	struct vm vm;
	char dir[DIR_LEN_MAX];
};

static bool snapshot(const struct bench *b, const char *dir)
{
	const char *argv[] = {b->program[WHO_MINIVM], "snapshot", NAME, dir, NULL};
	const struct proc_request req = {.argv = argv, .in_file = "/dev/null"};
	struct proc p;
	int status = -1;

	if (proc_start(&p, &req))
		return false;
	proc_wait(&p, COMMAND_MS, &status);
	fputs(p.err.data, stderr);
	proc_free(&p);
	return status == 0;
}

static bool save(struct bench *b, struct saved *s)
{
	struct proc p;
	bool ok;

	snprintf(s->dir, sizeof(s->dir), "%s/%s", b->work, s->file);
	s->vm.name = NAME;
	if (!vm_start(b, WHO_MINIVM, &s->vm, &p))
		return false;
	ok = proc_expect(&p, s->ready, BOOT_MS) && snapshot(b, s->dir);
	if (!ok)
		bench_fail(b, "%s: cannot be saved: %s%s", s->file, p.out.data, p.err.data);
	proc_free(&p);
	return ok;
}

/* Prints a line and goes on for longer than anybody waits. */
static bool save_payload(struct bench *b, const char *file, unsigned mib, struct saved *s)
{
	*s = (struct saved){.file = file,
			    .ready = "mmio",
			    .vm = {.kernel = b->exits,
				   .mib = mib,
				   .disk = b->root,
				   .disk_ro = true,
				   .words = "exits=1000 batches=1000000000"}};
	return save(b, s);
}

static bool save_linux(struct bench *b, struct saved *s)
{
	*s = (struct saved){
	    .file = "saved-linux",
	    .ready = READY,
	    .vm = {.kernel = b->bzimage,
		   .mib = MIB_SMALL,
		   .disk = b->root,
		   .disk_ro = true,
		   .words = "quiet loglevel=1 minivm.sh=\"echo " READY "; exec sleep 1000\""}};
	return save(b, s);
}

/* --- figures --- */

typedef void sample_fn(struct bench *b, enum who who, const char *const *argv, struct row *row);

/* One sample of minivm's and one of the floor's. */
static void sample_both(struct bench *b, const struct saved *s, sample_fn *sample, struct row *row)
{
	const char *const ours[] = {b->program[WHO_MINIVM], "restore", s->dir, NULL};
	const char *const floor[] = {b->floor_restore, s->dir, NULL};

	sample(b, WHO_MINIVM, ours, row);
	sample(b, WHO_FLOOR, floor, row);
}

void figure_restore(struct bench *b, struct results *r)
{
	struct row *small = results_row(r, "ms", true, "restore, exec to KVM_RUN, 128 MiB");
	struct row *large = results_row(r, "ms", true, "restore, exec to KVM_RUN, 4 GiB");
	struct row *live = results_row(r, "ms", true, "restore, exec to KVM_RUN, Linux");
	struct saved of_small, of_large, of_linux;
	struct row ignored = {0};

	if (!save_payload(b, "saved-small", MIB_SMALL, &of_small) ||
	    !save_payload(b, "saved-large", MIB_LARGE, &of_large) || !save_linux(b, &of_linux))
		return;
	sample_both(b, &of_small, sample_first_run, &ignored);
	for (unsigned i = 0; i < b->rounds; i++) {
		sample_both(b, &of_small, sample_first_run, small);
		sample_both(b, &of_large, sample_first_run, large);
		sample_both(b, &of_linux, sample_first_run, live);
	}
	judge_ratio(small, WHO_FLOOR, 2, 0);
	judge_ratio(large, WHO_FLOOR, 2, 0);
	judge_rows(large, small, WHO_MINIVM, "minivm, 4 GiB / 128 MiB", 1.2);
	judge_rows(large, small, WHO_FLOOR, "floor, 4 GiB / 128 MiB", 0);
	judge_ratio(live, WHO_FLOOR, 2, 0);
	small->note = large->note = live->note = PUBLISHED;
}

#define SYSCALL_RUNS 7

void figure_restore_syscalls(struct bench *b, struct results *r)
{
	struct row *row = results_row(r, "", false, "system calls before KVM_RUN, restored");
	struct saved s;

	if (!save_payload(b, "saved-syscalls", MIB_LARGE, &s))
		return;
	for (unsigned i = 0; i < SYSCALL_RUNS; i++)
		sample_both(b, &s, sample_syscalls, row);
	/* All threads have no limit: how far the others come is the scheduler's. */
	judge_value(row, b->counts ? 125 : 0, 0);
}
