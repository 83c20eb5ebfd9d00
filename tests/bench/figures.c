/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures. In every round each monitor has its turn, one at a time, so that whatever else the
 * host does meets all of them. Targets and aims are those of docs/benchmarks.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "count.h"
#include "pss.h"
#include "watch.h"

#define MIB_SMALL 128
#define MIB_LARGE 8192

#define START_LIMIT_MS 60000
#define BOOT_LIMIT_MS  300000 /* an emulating host that is busy */

/* --- exec to the first KVM_RUN --- */

void sample_first_run(struct bench *b, enum who who, const char *const *argv, struct row *row)
{
	struct watch w;
	double ms;
	int rc = watch_start(&w, argv, WATCH_FIRST_RUN);

	if (rc) {
		bench_fail(b, "%s: cannot be watched: %s", who_name(who), strerror(-rc));
		return;
	}
	ms = watch_first_run_ms(&w, START_LIMIT_MS);
	if (ms < 0)
		bench_fail(b, "%s: no KVM_RUN; it says: %s", who_name(who), w.p.err.data);
	else
		series_add(&row->s[who], ms);
	watch_stop(&w);
}

/* As root all of the page cache goes, else at least what minivm and the floor read. */
static void drop_caches(const struct bench *b)
{
	const char *const files[] = {b->program[WHO_MINIVM], b->program[WHO_FLOOR], b->first};
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd >= 0 && write(fd, "3", 1) == 1) {
		close(fd);
		return;
	}
	close_fd(&fd);
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		fd = open(files[i], O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			close(fd);
		}
	}
}

static void start_round(struct bench *b, const struct vm *vm, unsigned who_mask, bool cold,
			struct row *row)
{
	struct argv argv;

	for (unsigned who = 0; who < WHO_COUNT; who++) {
		if (!(who_mask & 1u << who) || !vm_argv(b, who, vm, &argv))
			continue;
		if (cold)
			drop_caches(b);
		sample_first_run(b, who, argv.arg, row);
	}
}

void figure_start(struct bench *b, struct results *r)
{
	const struct vm small = {
	    .kernel = b->first, .mib = MIB_SMALL, .disk = b->root, .disk_ro = true};
	struct vm large = small;
	const unsigned all = (1u << WHO_COUNT) - 1, ours = 1u << WHO_MINIVM | 1u << WHO_FLOOR;
	struct row *warm = results_row(r, "ms", true, "exec to KVM_RUN, 128 MiB, warm");
	struct row *wide = results_row(r, "ms", true, "exec to KVM_RUN, 8 GiB, warm");
	struct row *cold = results_row(r, "ms", true, "exec to KVM_RUN, 128 MiB, cold");
	struct row ignored = {0};

	large.mib = MIB_LARGE;
	/* The first one fills the page cache, and minivm's own cache of kernels. */
	start_round(b, &small, all, false, &ignored);
	for (unsigned i = 0; i < b->rounds; i++) {
		start_round(b, &small, all, false, warm);
		start_round(b, &large, ours, false, wide);
	}
	for (unsigned i = 0; i < (b->rounds + 2) / 3; i++)
		start_round(b, &small, all, true, cold);
	judge_ratio(warm, WHO_FLOOR, 1.5, 0);
	judge_ratio(warm, WHO_QEMU, 0, 0.1);
	judge_ratio(wide, WHO_FLOOR, 1.5, 0);
	judge_rows(wide, warm, WHO_MINIVM, "minivm, 8 GiB / 128 MiB", 1.1);
	judge_ratio(cold, WHO_FLOOR, 0, 0);
	judge_ratio(cold, WHO_QEMU, 0, 0);
}

/* --- system calls before it --- */

#define SYSCALL_RUNS 7

void sample_syscalls(struct bench *b, enum who who, const char *const *argv, struct row *row)
{
	struct syscall_count count;
	int rc = count_syscalls(argv, &count);

	if (rc)
		bench_fail(b, "%s: system calls: %s", who_name(who), strerror(-rc));
	else
		series_add(&row->s[who], b->counts ? count.way : count.total);
}

/*
 * Of all threads: what a start costs the host. The main thread starts the vCPUs and goes on with
 * the devices' threads, so a few calls of it are before or after the first KVM_RUN as the scheduler
 * likes. The median is judged; where only counts are wanted, on a machine that may be busy, the
 * calls on the way of the thread that enters, which are always the same.
 */
void figure_syscalls(struct bench *b, struct results *r)
{
	const struct vm vm = {
	    .kernel = b->first, .mib = MIB_SMALL, .disk = b->root, .disk_ro = true};
	struct row *row = results_row(r, "", false, "system calls before KVM_RUN");
	struct row ignored = {0};

	for (unsigned i = 0; i < (1 + SYSCALL_RUNS) * WHO_COUNT; i++) {
		enum who who = i % WHO_COUNT;
		struct argv argv;

		/* The first one fills minivm's cache of kernels. */
		if (vm_argv(b, who, &vm, &argv))
			sample_syscalls(b, who, argv.arg, i < WHO_COUNT ? &ignored : row);
	}
	judge_value(row, 100, 0);
}

/* --- memory beside the guest's --- */

#define READY "bench-ready"

/* Messages off: each would cost exits that have nothing to do with the monitor. */
#define QUIET "quiet loglevel=1 "

/* Time for what happens once at the end of a start to have happened. */
#define SETTLE_MS 2000

static void memory_once(struct bench *b, enum who who, struct row *row)
{
	const struct vm vm = {.kernel = b->bzimage,
			      .mib = MIB_SMALL,
			      .disk = b->root,
			      .disk_ro = true,
			      .words = QUIET "minivm.sh=\"echo " READY "; exec sleep 1000\""};
	struct argv argv;
	struct watch w;
	struct pss pss;
	int rc;

	if (!vm_argv(b, who, &vm, &argv))
		return;
	rc = watch_start(&w, argv.arg, WATCH_MEMORY);
	if (rc) {
		bench_fail(b, "%s: cannot be watched: %s", who_name(who), strerror(-rc));
		return;
	}
	if (!proc_expect(&w.p, READY, BOOT_LIMIT_MS)) {
		bench_fail(b, "%s: the guest did not come up: %s%s", who_name(who), w.p.out.data,
			   w.p.err.data);
	} else {
		proc_idle(&w.p, SETTLE_MS);
		rc = pss_read(&w, b->verbose, &pss);
		if (rc)
			bench_fail(b, "%s: smaps: %s", who_name(who), strerror(-rc));
		else
			series_add(&row->s[who], pss.beside_kib);
	}
	watch_stop(&w);
}

void figure_memory(struct bench *b, struct results *r)
{
	struct row *row = results_row(r, "KiB", false, "PSS beside guest memory, booted");

	for (unsigned i = 0; i < (b->counts ? 1 : 3); i++) {
		for (unsigned who = 0; who < WHO_COUNT; who++) {
			if (who != WHO_FLOOR) /* it cannot boot Linux */
				memory_once(b, who, row);
		}
	}
	/* Held where it was brought to. */
	judge_value(row, b->counts ? 512 : 768, 512);
}

/* --- exits to user space, from entry to the end of init --- */

/* All exits, and by reason where a row for it is given. */
static void take_exits(struct bench *b, const char *path, struct row *all, struct row *io,
		       struct row *mmio)
{
	json_t *stats = json_load_file(path, 0, NULL);
	json_t *exits =
	    json_object_get(json_array_get(json_object_get(stats, "vcpus"), 0), "exits");
	const char *reason;
	json_t *count;
	double sum = 0;

	json_object_foreach(exits, reason, count)
	{
		sum += (double)json_integer_value(count);
		if (strcmp(reason, "io") == 0)
			series_add(&io->s[WHO_MINIVM], (double)json_integer_value(count));
		if (strcmp(reason, "mmio") == 0)
			series_add(&mmio->s[WHO_MINIVM], (double)json_integer_value(count));
	}
	if (sum > 0)
		series_add(&all->s[WHO_MINIVM], sum);
	else
		bench_fail(b, "minivm: no exits in its statistics %s", path);
	json_decref(stats);
}

/* The others write no statistics: their KVM_RUN calls are counted from outside. */
static void count_runs(struct bench *b, enum who who, const struct vm *vm, struct row *row)
{
	struct argv argv;
	struct watch w;
	int status, rc;

	if (!vm_argv(b, who, vm, &argv))
		return;
	rc = watch_start(&w, argv.arg, who == WHO_MINIVM ? WATCH_MEMORY : WATCH_RUNS);
	if (rc) {
		bench_fail(b, "%s: cannot be watched: %s", who_name(who), strerror(-rc));
		return;
	}
	if (!proc_wait(&w.p, BOOT_LIMIT_MS, &status))
		bench_fail(b, "%s: the guest came to no end: %s%s", who_name(who), w.p.out.data,
			   w.p.err.data);
	else if (who != WHO_MINIVM)
		series_add(&row->s[who], (double)atomic_load(&w.runs));
	watch_stop(&w);
}

void figure_exits(struct bench *b, struct results *r)
{
	struct row *all = results_row(r, "", false, "exits from entry to the end of init");
	struct row *io = results_row(r, "", false, "  of them port I/O");
	struct row *mmio = results_row(r, "", false, "  of them MMIO");
	char stats[256];
	struct vm vm = {.kernel = b->bzimage,
			.mib = MIB_SMALL,
			.disk = b->root,
			.disk_ro = true,
			.words = QUIET "minivm.sh=exit",
			.stats = stats};

	snprintf(stats, sizeof(stats), "%s/stats.json", b->work);
	for (unsigned i = 0; i < (b->counts ? 1 : 3); i++) {
		for (unsigned who = 0; who < WHO_COUNT; who++) {
			if (who == WHO_FLOOR)
				continue;
			count_runs(b, who, &vm, all);
			if (who == WHO_MINIVM)
				take_exits(b, stats, all, io, mmio);
		}
	}
	judge_value(all, 400, 150);
}

/* --- one exit, there and back --- */

static void take_line(const char *line, enum who who, struct row *pio, struct row *mmio)
{
	unsigned long ticks;

	if (sscanf(line, "pio %lu", &ticks) == 1)
		series_add(&pio->s[who], (double)ticks);
	else if (sscanf(line, "mmio %lu", &ticks) == 1)
		series_add(&mmio->s[who], (double)ticks);
}

static void round_trip_once(struct bench *b, enum who who, struct row *pio, struct row *mmio)
{
	/* minivm's first virtio-mmio device is the payload's default; QEMU microvm's disk: */
	const struct vm vm = {.kernel = b->exits,
			      .no_assist = true,
			      .mib = MIB_SMALL,
			      .disk = b->root,
			      .disk_ro = true,
			      .words = who == WHO_QEMU ? "mmio=0xfeb02e00" : NULL};
	struct proc p;
	int status;

	if (!vm_start(b, who, &vm, &p))
		return;
	if (!proc_wait(&p, START_LIMIT_MS, &status) || !strstr(p.out.data, "mmio "))
		bench_fail(b, "%s: round trips, status %d: %s%s", who_name(who), status, p.out.data,
			   p.err.data);
	for (char *line = strtok(p.out.data, "\r\n"); line; line = strtok(NULL, "\r\n"))
		take_line(line, who, pio, mmio);
	proc_free(&p);
}

void figure_round_trip(struct bench *b, struct results *r)
{
	const unsigned who_mask = 1u << WHO_MINIVM | 1u << WHO_FLOOR | 1u << WHO_QEMU;
	struct row *pio = results_row(r, "TSC", true, "port read from ring 3, round trip");
	struct row *mmio = results_row(r, "TSC", true, "MMIO read from ring 3, round trip");

	for (unsigned i = 0; i < b->rounds; i++) {
		for (unsigned who = 0; who < WHO_COUNT; who++) {
			if (who_mask & 1u << who)
				round_trip_once(b, who, pio, mmio);
		}
	}
	judge_ratio(pio, WHO_FLOOR, 1.1, 0);
	judge_ratio(mmio, WHO_FLOOR, 1.1, 0);
}
