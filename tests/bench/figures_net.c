/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through a tap: the payload net_rate.c sends and receives, tests/lib/net_peer.c is at the
 * other end, and both monitors use the same tap, one after the other, in a network namespace of
 * ours. Time is the payload's; processor time is what the monitor's threads have used, those that
 * run vCPUs aside: on these the guest's own time would count.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "net_peer.h"
#include "proc.h"

#define TAP	      "bench0"
#define NET_MIB	      16 /* of memory, the payload's DMA memory among it */
#define LEG_MS	      60000
#define LEG_MIB	      256
#define LEG_MIB_SMALL 16 /* where KVM is emulated */

static const struct leg {
	const char *name; /* as the payload calls it */
	const char *text;
} legs[] = {
    {"send 1514", "net, sent, 1514 bytes"},
    {"send 65000", "net, sent, 65000 bytes"},
    {"receive 1514", "net, received, 1514 bytes"},
    {"receive 65000", "net, received, 65000 bytes"},
};
#define LEGS (sizeof(legs) / sizeof(legs[0]))

struct rows {
	struct row *ns[LEGS];  /* a frame */
	struct row *cpu[LEGS]; /* ms of processor time a GiB */
};

/* --- processor time --- */

/* The first line of a file of a thread's, without its newline. */
static void read_thread(pid_t pid, int tid, const char *file, char line[64])
{
	char path[80];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, tid, file);
	f = fopen(path, "re");
	if (!f || !fgets(line, 64, f))
		line[0] = '\0';
	if (f)
		fclose(f);
}

static double thread_ms(pid_t pid, int tid)
{
	unsigned long long ns = 0;
	char line[64];

	read_thread(pid, tid, "comm", line);
	/* minivm's and QEMU's; the latter with debug-threads=on */
	if (strncmp(line, "vcpu", 4) == 0 || strncmp(line, "CPU ", 4) == 0)
		return 0;
	read_thread(pid, tid, "schedstat", line);
	return sscanf(line, "%llu", &ns) == 1 ? (double)ns / 1e6 : 0;
}

/* Of all threads but the vCPUs'. */
static double device_ms(pid_t pid)
{
	const struct dirent *entry;
	double sum = 0;
	char path[64];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		int tid = atoi(entry->d_name);

		if (tid > 0)
			sum += thread_ms(pid, tid);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

/* --- one machine --- */

/* False: it did not come to the leg's end. */
static bool measure_leg(struct proc *p, unsigned i, enum who who, struct rows *rows)
{
	unsigned len = 0, frames = 0;
	char ready[64], done[64];
	unsigned long long ns = 0;
	const char *line;
	double before;

	snprintf(ready, sizeof(ready), "ready %s", legs[i].name);
	snprintf(done, sizeof(done), "done %s", legs[i].name);
	if (!proc_expect(p, ready, LEG_MS))
		return false;
	before = device_ms(p->pid);
	/* The whole line: it ends before the next thing is said. */
	if (!proc_expect(p, done, LEG_MS) || !proc_expect(p, "\n", LEG_MS))
		return false;
	line = strstr(p->out.data, done);
	if (sscanf(line, "done %*s %u %u %llu", &len, &frames, &ns) != 3 || frames == 0)
		return false;
	series_add(&rows->ns[i]->s[who], (double)ns / frames);
	series_add(&rows->cpu[i]->s[who],
		   (device_ms(p->pid) - before) / ((double)len * frames / (1 << 30)));
	return true;
}

static void measure_machine(struct bench *b, enum who who, const char *words, struct rows *rows)
{
	const struct vm vm = {
	    .kernel = b->net_rate, .mib = NET_MIB, .tap = TAP, .words = words, .no_assist = true};
	struct proc p;
	bool ok = true;
	int status;

	if (!vm_start(b, who, &vm, &p))
		return;
	for (unsigned i = 0; ok && i < LEGS; i++)
		ok = measure_leg(&p, i, who, rows);
	if (!ok || !proc_wait(&p, LEG_MS, &status))
		bench_fail(b, "%s: network: %s%s", who_name(who), p.out.data, p.err.data);
	proc_free(&p);
}

/* --- the figure --- */

static void measure_all(struct bench *b, struct rows *rows)
{
	static const enum who whom[] = {WHO_MINIVM, WHO_QEMU};
	char words[32];

	snprintf(words, sizeof(words), "mib=%d", b->emulated ? LEG_MIB_SMALL : LEG_MIB);
	for (unsigned i = 0; i < b->rounds; i++) {
		for (unsigned k = 0; k < sizeof(whom) / sizeof(whom[0]); k++)
			measure_machine(b, whom[k], words, rows);
	}
}

void figure_net(struct bench *b, struct results *r)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct rows rows;
	pid_t peer;

	if (!b->net_rate)
		return;
	if (home < 0 || unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "bench: no network namespace to be had: net is left out\n");
		close(home);
		return;
	}
	peer = net_peer_tap(TAP);
	if (peer < 0) {
		bench_fail(b, "no tap: %s", strerror(-peer));
	} else {
		for (unsigned i = 0; i < LEGS; i++) {
			rows.ns[i] = results_row(r, "ns", true, "%s, a frame", legs[i].text);
			rows.cpu[i] =
			    results_row(r, "ms", true, "  processor time of the monitor, a GiB");
		}
		measure_all(b, &rows);
		for (unsigned i = 0; i < LEGS; i++) {
			judge_ratio(rows.ns[i], WHO_QEMU, 1.0, 0);
			judge_ratio(rows.cpu[i], WHO_QEMU, 1.0, 0);
		}
		net_peer_stop(peer, TAP);
	}
	if (setns(home, CLONE_NEWNET) < 0)
		bench_fail(b, "cannot leave the network namespace: %s", strerror(errno));
	close(home);
}
