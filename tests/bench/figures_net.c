/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through a tap, and through a stream socket as passt's: the payload net_rate.c sends and
 * receives, tests/lib/net_peer.c is at the other end. Both monitors use the same tap, one after the
 * other, in a network namespace of ours; of the socket, each has a peer of its own. Time is the
 * payload's; processor time is what the monitor's threads have used, those that run vCPUs aside: on
 * these the guest's own time would count.
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
    {"send 1514", "sent, 1514 bytes"},
    {"send 65000", "sent, 65000 bytes"},
    {"receive 1514", "received, 1514 bytes"},
    {"receive 65000", "received, 65000 bytes"},
};
#define LEGS (sizeof(legs) / sizeof(legs[0]))

enum way {
	WAY_TAP,
	WAY_SOCKET,
	WAYS,
};

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

/* To the end of the machine. */
static void measure_machine(struct bench *b, enum who who, const struct vm *vm, struct rows *rows)
{
	struct proc p;
	bool ok = true;
	int status;

	if (!vm_start(b, who, vm, &p))
		return;
	for (unsigned i = 0; ok && i < LEGS; i++)
		ok = measure_leg(&p, i, who, rows);
	if (!ok || !proc_wait(&p, LEG_MS, &status))
		bench_fail(b, "%s: network: %s%s", who_name(who), p.out.data, p.err.data);
	proc_free(&p);
}

static void measure_tap(struct bench *b, enum who who, struct vm *vm, struct rows *rows)
{
	vm->tap = TAP;
	measure_machine(b, who, vm, rows);
}

static void measure_socket(struct bench *b, enum who who, struct vm *vm, struct rows *rows)
{
	char path[256];
	pid_t peer;

	snprintf(path, sizeof(path), "%s/net.socket", b->work);
	peer = net_peer_socket(path);
	if (peer < 0) {
		bench_fail(b, "%s: %s", path, strerror(-peer));
		return;
	}
	vm->passt = path;
	measure_machine(b, who, vm, rows);
	net_peer_stop(peer, NULL);
	unlink(path);
}

/* --- the figure --- */

static const struct {
	const char *name;
	void (*measure)(struct bench *b, enum who who, struct vm *vm, struct rows *rows);
} ways[WAYS] = {
    [WAY_TAP] = {"tap", measure_tap},
    [WAY_SOCKET] = {"socket", measure_socket},
};

static void add_rows(struct results *r, enum way way, struct rows *rows)
{
	for (unsigned i = 0; i < LEGS; i++) {
		rows->ns[i] =
		    results_row(r, "ns", true, "%s, %s, a frame", ways[way].name, legs[i].text);
		rows->cpu[i] = results_row(r, "ms", true, "  processor time of the monitor, a GiB");
	}
}

static void judge_rows_of(struct rows *rows)
{
	for (unsigned i = 0; i < LEGS; i++) {
		judge_ratio(rows->ns[i], WHO_QEMU, 1.0, 0);
		judge_ratio(rows->cpu[i], WHO_QEMU, 1.0, 0);
	}
}

/* `first` is the first way: there may be no tap to be had. */
static void measure_ways(struct bench *b, struct results *r, enum way first)
{
	static const enum who whom[] = {WHO_MINIVM, WHO_QEMU};
	struct rows rows[WAYS];
	char words[32];

	snprintf(words, sizeof(words), "mib=%d", b->emulated ? LEG_MIB_SMALL : LEG_MIB);
	for (enum way way = first; way < WAYS; way++)
		add_rows(r, way, &rows[way]);
	for (unsigned i = 0; i < b->rounds * (WAYS - first); i++) {
		enum way way = first + i % (WAYS - first);

		for (unsigned k = 0; k < sizeof(whom) / sizeof(whom[0]); k++) {
			struct vm vm = {.kernel = b->net_rate,
					.mib = NET_MIB,
					.words = words,
					.no_assist = true};

			ways[way].measure(b, whom[k], &vm, &rows[way]);
		}
	}
	for (enum way way = first; way < WAYS; way++)
		judge_rows_of(&rows[way]);
}

static void measure_with_tap(struct bench *b, struct results *r)
{
	pid_t peer = net_peer_tap(TAP);

	if (peer < 0)
		bench_fail(b, "no tap: %s", strerror(-peer));
	measure_ways(b, r, peer < 0 ? WAY_SOCKET : WAY_TAP);
	net_peer_stop(peer, TAP);
}

void figure_net(struct bench *b, struct results *r)
{
	int home;

	if (!b->net_rate)
		return;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0 || unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "bench: no network namespace to be had: the tap is left out\n");
		measure_ways(b, r, WAY_SOCKET);
	} else {
		measure_with_tap(b, r);
		if (setns(home, CLONE_NEWNET) < 0)
			bench_fail(b, "cannot leave the network namespace: %s", strerror(errno));
	}
	close(home);
}
