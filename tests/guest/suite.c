/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the payloads of suite_table.c under minivm, and judges exit status, output and disks.
 *
 *	guest-suite --minivm PATH --payloads DIR [--filter TEXT] [--verbose]
 *
 * Each "ok"/"not ok" line of a payload counts as one test, and so does each run as a whole: right
 * status, in time, no line lost, disks as they must be. Without /dev/kvm every run is skipped.
 * A static program that needs /tmp and /dev/kvm, so that it runs from an initrd too.
 */
#include "suite.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "http_ask.h"
#include "proc.h"
#include "tap.h"
#include "net_peer.h"
#include "vsock_peer.h"

#define ARGV_MAX 32

/* For each step of saving a machine. */
#define SAVE_MS 10000

struct options {
	const char *minivm;
	const char *payloads;
	const char *filter;
	bool verbose;
};

struct job {
	const struct options *opt;
	const struct suite_case *c;
	struct tap *tap;
	char dir[128];
	char kernel[4096];
	char cpus[16];
	char disk[SUITE_DISKS_MAX][256];     /* path */
	char disk_arg[SUITE_DISKS_MAX][320]; /* path and options */
	char vsock_arg[256];
	char net_arg[256];
	char tap_name[16]; /* "" without a tap */
	int net_fd;	   /* the tap's file; 0: minivm opens it */
	pid_t net_peer;
	const char *skip; /* the host lacks something */
	pid_t vsock_peer;
	char port_arg[256];
	char stats[256]; /* path */
	const char *argv[ARGV_MAX];
	unsigned argc;
	struct run_result result;
	unsigned guest_ok;
	unsigned guest_failed;
	char why[512]; /* the first thing that is wrong with the run */
};

static void wrong(struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void wrong(struct job *j, const char *fmt, ...)
{
	va_list ap;

	if (*j->why)
		return;
	va_start(ap, fmt);
	vsnprintf(j->why, sizeof(j->why), fmt, ap);
	va_end(ap);
}

static void arg(struct job *j, const char *text)
{
	if (j->argc + 1 < ARGV_MAX)
		j->argv[j->argc++] = text;
}

static void make_disk(struct job *j, unsigned i)
{
	const struct suite_disk *d = &j->c->disk[i];
	int rc;

	snprintf(j->disk[i], sizeof(j->disk[i]), "%s/disk%u.img", j->dir, i);
	snprintf(j->disk_arg[i], sizeof(j->disk_arg[i]), "%s%s", j->disk[i], d->options);
	rc = disk_create(j->disk[i], (uint64_t)d->sectors * 512);
	if (!rc)
		rc = disk_fill(j->disk[i], d->seed, 0, d->sectors);
	if (rc)
		wrong(j, "cannot make %s: %s", j->disk[i], strerror(-rc));
	arg(j, "--disk");
	arg(j, j->disk_arg[i]);
}

static void make_vsock(struct job *j)
{
	snprintf(j->vsock_arg, sizeof(j->vsock_arg), "cid=3,uds=%s/vsock", j->dir);
	j->vsock_peer = vsock_peer_start(strstr(j->vsock_arg, "/"));
	if (j->vsock_peer < 0)
		wrong(j, "no services for vsock: %s", strerror(-j->vsock_peer));
	arg(j, "--vsock");
	arg(j, j->vsock_arg);
}

/* The two FIFOs of the port are the same one. */
static void make_ports(struct job *j)
{
	char in[256], out[256];

	snprintf(in, sizeof(in), "%s/loop.in", j->dir);
	snprintf(out, sizeof(out), "%s/loop.out", j->dir);
	snprintf(j->port_arg, sizeof(j->port_arg), "loop=pipe:%s/loop", j->dir);
	if (mkfifo(in, 0600) || symlink("loop.in", out))
		wrong(j, "no FIFO in %s: %s", j->dir, strerror(errno));
	arg(j, "--port");
	arg(j, j->port_arg);
	arg(j, "--port");
	arg(j, "full=file:/dev/full");
}

static void make_stats(struct job *j)
{
	snprintf(j->stats, sizeof(j->stats), "%s/stats.json", j->dir);
	arg(j, "--stats");
	arg(j, j->stats);
}

#define NET_MAC ",mac=02:00:00:12:34:56"

static void make_net_tap(struct job *j)
{
	snprintf(j->tap_name, sizeof(j->tap_name), "mvt%d", (int)getpid());
	snprintf(j->net_arg, sizeof(j->net_arg), "tap=%s" NET_MAC, j->tap_name);
	j->net_peer = net_peer_tap(j->tap_name);
	if (j->net_peer == -EPERM || j->net_peer == -EACCES || j->net_peer == -ENOENT ||
	    j->net_peer == -ENODEV)
		j->skip = "no tap interfaces here";
}

static void make_net_fd(struct job *j)
{
	make_net_tap(j);
	if (j->net_peer < 0)
		return;
	j->net_fd = net_peer_tap_file(j->tap_name);
	if (j->net_fd < 0)
		wrong(j, "cannot open tap %s: %s", j->tap_name, strerror(-j->net_fd));
	snprintf(j->net_arg, sizeof(j->net_arg), "fd=%d" NET_MAC, j->net_fd);
}

static void make_net_socket(struct job *j)
{
	snprintf(j->net_arg, sizeof(j->net_arg), "passt=%s/net" NET_MAC, j->dir);
	*strstr(j->net_arg, NET_MAC) = '\0';
	j->net_peer = net_peer_socket(strstr(j->net_arg, "/"));
	strcat(j->net_arg, NET_MAC);
}

static void make_net(struct job *j)
{
	if (j->c->net == SUITE_NET_TAP)
		make_net_tap(j);
	else if (j->c->net == SUITE_NET_FD)
		make_net_fd(j);
	else
		make_net_socket(j);
	if (j->net_peer < 0 && !j->skip)
		wrong(j, "no services for the network: %s", strerror(-j->net_peer));
	arg(j, "--net");
	arg(j, j->net_arg);
}

static void make_argv(struct job *j)
{
	const struct suite_case *c = j->c;

	snprintf(j->kernel, sizeof(j->kernel), "%s/%s.elf", j->opt->payloads,
		 c->payload ? c->payload : c->name);
	snprintf(j->cpus, sizeof(j->cpus), "%u", c->cpus ? c->cpus : 1);
	arg(j, j->opt->minivm);
	arg(j, "--kernel");
	arg(j, j->kernel);
	arg(j, "--memory");
	arg(j, c->memory ? c->memory : "16M");
	arg(j, "--cpus");
	arg(j, j->cpus);
	/* Payloads read the MP table and the words of the command line. */
	arg(j, "--describe");
	arg(j, "mptable");
	if (c->words) {
		arg(j, "--cmdline");
		arg(j, c->words);
	}
	for (unsigned i = 0; i < SUITE_DISKS_MAX && c->disk[i].sectors; i++)
		make_disk(j, i);
	for (unsigned i = 0; i < SUITE_ARGS_MAX && c->args[i]; i++)
		arg(j, c->args[i]);
	if (c->vsock)
		make_vsock(j);
	if (c->ports)
		make_ports(j);
	if (c->exits_min || c->exits_max)
		make_stats(j);
	if (c->net)
		make_net(j);
}

/* Hands the payload's verdicts on to our own count. */
static void guest_line(struct job *j, const char *line, int len)
{
	unsigned passed, failed;

	if (!strncmp(line, "ok - ", 5)) {
		const char *skip = memmem(line, (size_t)len, " # skipped: ", 12);

		j->guest_ok++;
		if (skip)
			tap_skip(j->tap, "said by the payload", "%s: %.*s", j->c->name, len - 5,
				 line + 5);
		else
			tap_ok(j->tap, "%s: %.*s", j->c->name, len - 5, line + 5);
	} else if (!strncmp(line, "not ok - ", 9)) {
		j->guest_failed++;
		tap_fail(j->tap, "%s: %.*s", j->c->name, len - 9, line + 9);
	} else if (sscanf(line, "done %u %u", &passed, &failed) == 2) {
		if (passed != j->guest_ok || failed != j->guest_failed)
			wrong(j, "the payload counted %u passed, %u failed; its lines say %u, %u",
			      passed, failed, j->guest_ok, j->guest_failed);
	}
}

static void judge_output(struct job *j)
{
	const char *p = j->result.out;

	while (p && *p) {
		int n = (int)strcspn(p, "\r\n");

		guest_line(j, p, n);
		p += n;
		p += strspn(p, "\r\n");
	}
	for (unsigned i = 0; i < SUITE_LINES_MAX && j->c->lines[i]; i++) {
		if (!run_has_line(j->result.out, j->c->lines[i]))
			wrong(j, "no line '%s' in its output", j->c->lines[i]);
	}
	if (j->c->says && (!j->result.err || !strstr(j->result.err, j->c->says)))
		wrong(j, "no \"%s\" on standard error", j->c->says);
	if (!j->c->no_done && (!j->result.out || !strstr(j->result.out, "\ndone ")))
		wrong(j, "the payload did not come to its end");
}

static void judge_errors(struct job *j)
{
	const char *p = j->c->err_once ? j->result.err : NULL;
	unsigned times = 0;

	while (p && (p = strstr(p, j->c->err_once))) {
		times++;
		p += strlen(j->c->err_once);
	}
	if (j->c->err_once && times != 1)
		wrong(j, "'%s' is on standard error %u times, not once", j->c->err_once, times);
}

/* All of the first vCPU's: "exits": {"io": 12, "mmio": 3}. */
static unsigned long read_exits(const struct job *j)
{
	static char text[65536];
	FILE *f = fopen(j->stats, "re");
	size_t len = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	const char *p, *end;
	unsigned long sum = 0;

	if (f)
		fclose(f);
	text[len] = '\0';
	p = strstr(text, "\"exits\"");
	p = p ? strchr(p, '{') : NULL;
	end = p ? strchr(p, '}') : NULL;
	while (end && (p = strchr(p, ':')) && p < end)
		sum += strtoul(++p, NULL, 10);
	return sum;
}

static void judge_exits(struct job *j)
{
	unsigned long exits = *j->stats ? read_exits(j) : 0;

	if (!*j->stats)
		return;
	printf("# %s: %lu\n", j->c->name, exits);
	if (exits == 0 || exits < j->c->exits_min || (j->c->exits_max && exits > j->c->exits_max))
		wrong(j, "%lu exits; %u to %u are wanted", exits, j->c->exits_min, j->c->exits_max);
}

static void judge_range(struct job *j, unsigned i, uint32_t seed, uint32_t from, uint32_t to)
{
	uint64_t bad = 0;
	int rc;

	if (from >= to)
		return;
	rc = disk_check(j->disk[i], seed, from, to - from, &bad);
	if (rc)
		wrong(j, "disk %u cannot be read afterwards: %s", i, strerror(-rc));
	else if (bad != to - from)
		wrong(j, "disk %u: sector %lu is not what it must be", i,
		      (unsigned long)(from + bad));
}

static void judge_disks(struct job *j)
{
	for (unsigned i = 0; i < SUITE_DISKS_MAX && j->c->disk[i].sectors; i++) {
		const struct suite_disk *d = &j->c->disk[i];
		uint32_t end = d->written + d->written_count;

		judge_range(j, i, d->seed, 0, d->written_count ? d->written : d->scratch);
		judge_range(j, i, d->written_seed, d->written, end);
		if (d->written_count)
			judge_range(j, i, d->seed, end, d->scratch);
	}
}

static void report(struct job *j)
{
	if (*j->why || j->opt->verbose || j->guest_failed) {
		tap_note("standard output:");
		tap_note(j->result.out);
		tap_note("standard error:");
		tap_note(j->result.err);
	}
	if (*j->why)
		tap_fail(j->tap, "%s: %s (status %d, %u ms)", j->c->name, j->why, j->result.status,
			 j->result.ms);
	else if (!j->guest_failed)
		tap_ok(j->tap, "%s (status %d, %u ms)", j->c->name, j->result.status, j->result.ms);
}

/* --- saved machines --- */

static bool ask(const char *sock, const char *method, const char *target, const char *body)
{
	char answer[512];

	return http_ask(sock, method, target, body, SAVE_MS / 1000, answer, sizeof(answer)) &&
	       strstr(answer, "HTTP/1.1 204");
}

/* Runs the case as it is until it is ready, saves it and kills it. */
static bool save(struct job *j, const char *sock)
{
	const struct proc_request req = {.argv = j->argv, .in_file = "/dev/null"};
	char body[512];
	struct proc p;
	bool ok;

	snprintf(body, sizeof(body),
		 "{\"snapshot_path\":\"%s/state\",\"mem_file_path\":\"%s/memory\"}", j->dir,
		 j->dir);
	if (proc_start(&p, &req))
		return false;
	ok = proc_expect(&p, "ready", SAVE_MS) &&
	     ask(sock, "PATCH", "/vm", "{\"state\":\"Paused\"}") &&
	     ask(sock, "PUT", "/snapshot/create", body);
	proc_free(&p);
	return ok;
}

/* From here on the case is what is restored. */
static void make_restored(struct job *j)
{
	char sock[160];

	snprintf(sock, sizeof(sock), "%s/api", j->dir);
	arg(j, "--api-sock");
	arg(j, sock);
	if (!*j->why && !save(j, sock))
		wrong(j, "cannot be saved");
	memset(j->argv, 0, sizeof(j->argv));
	j->argc = 0;
	arg(j, j->opt->minivm);
	arg(j, "restore");
	arg(j, j->dir);
}

static void run_and_judge(struct job *j)
{
	struct run_request req = {
	    .argv = j->argv,
	    .steps = j->c->steps,
	    .step_count = j->c->step_count,
	    .timeout_ms = j->c->limit_s * 1000,
	};
	int rc = *j->why ? 0 : run_program(&req, &j->result);

	if (rc)
		wrong(j, "cannot run %s: %s", j->opt->minivm, strerror(-rc));
	if (j->result.timed_out)
		wrong(j, "stopped after %u s", j->c->limit_s);
	judge_output(j);
	if (j->result.status != j->c->status + (j->guest_failed ? 1 : 0))
		wrong(j, "exit status %d, want %d", j->result.status, j->c->status);
	judge_errors(j);
	judge_exits(j);
	judge_disks(j);
}

static void run_case(const struct options *opt, const struct suite_case *c, struct tap *tap)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j || scratch_make(j->dir, sizeof(j->dir))) {
		tap_fail(tap, "%s: no scratch directory: %s", c->name, strerror(errno));
		free(j);
		return;
	}
	j->opt = opt;
	j->c = c;
	j->tap = tap;
	make_argv(j);
	if (!j->skip && c->restored)
		make_restored(j);
	if (!j->skip)
		run_and_judge(j);
	vsock_peer_stop(j->vsock_peer);
	if (j->net_fd > 0)
		close(j->net_fd);
	net_peer_stop(j->net_peer, *j->tap_name ? j->tap_name : NULL);
	if (j->skip)
		tap_skip(tap, j->skip, "%s", c->name);
	else
		report(j);
	scratch_remove(j->dir);
	run_result_free(&j->result);
	free(j);
}

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
	const char *argv[] = {opt->minivm, "doctor", "--json", NULL};
	struct run_request req = {.argv = argv, .timeout_ms = 20000};
	struct run_result result;
	bool emulates = false;

	if (run_program(&req, &result) == 0)
		emulates = result.out && strstr(result.out, "\"emulating_by_cpuid\": true");
	run_result_free(&result);
	return emulates;
}

/* QEMU's TCG is the machine below us: its CPUID signature. */
static bool inside_tcg(void)
{
	unsigned eax, ebx, ecx, edx;

	__cpuid(0x40000000, eax, ebx, ecx, edx);
	return ebx == 0x54474354 && ecx == 0x43544743 && edx == 0x47435447; /* "TCGTCGTCGTCG" */
}

/* Why this case cannot run here, or NULL. */
static const char *unsuitable(const struct suite_case *c, const char *no_kvm, bool emulates)
{
	if (no_kvm)
		return "no usable /dev/kvm";
	if (c->host == HOST_ORDINARY && emulates)
		return "needs a KVM that runs kernel mode natively";
	if (c->host == HOST_BREAKPOINTS && inside_tcg())
		return "KVM's breakpoints do not work under QEMU's TCG";
	return NULL;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: guest-suite --minivm PATH --payloads DIR [--filter TEXT] [--verbose]\n");
	return 2;
}

static bool parse(int argc, char **argv, struct options *opt)
{
	for (int i = 1; i < argc; i++) {
		bool last = i + 1 == argc;

		if (!strcmp(argv[i], "--verbose"))
			opt->verbose = true;
		else if (!strcmp(argv[i], "--minivm") && !last)
			opt->minivm = argv[++i];
		else if (!strcmp(argv[i], "--payloads") && !last)
			opt->payloads = argv[++i];
		else if (!strcmp(argv[i], "--filter") && !last)
			opt->filter = argv[++i];
		else
			return false;
	}
	return opt->minivm && opt->payloads;
}

int main(int argc, char **argv)
{
	struct options opt = {.minivm = NULL};
	struct tap tap = {.passed = 0};
	const char *no_kvm, *why_not;
	bool emulates = false;

	if (!parse(argc, argv, &opt))
		return usage();
	if (have_kvm(&no_kvm))
		emulates = host_emulates(&opt);
	else
		fprintf(stderr, "guest-suite: /dev/kvm: %s: NOTHING IS TESTED HERE\n", no_kvm);
	for (unsigned i = 0; i < suite_case_count; i++) {
		const struct suite_case *c = &suite_cases[i];

		if (opt.filter && !strstr(c->name, opt.filter))
			continue;
		why_not = unsuitable(c, no_kvm, emulates);
		if (why_not)
			tap_skip(&tap, why_not, "%s", c->name);
		else
			run_case(&opt, c, &tap);
	}
	return tap_done(&tap);
}
