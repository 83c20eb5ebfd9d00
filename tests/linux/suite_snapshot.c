/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases: a live Linux is paused, saved, and goes on: the one that was saved, and restored ones, one
 * after the other and several at once. The guest keeps a disk busy and a timer ticking; what counts
 * is that it answers, with the right checksum (tests/linux/guest/ping.c).
 */
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "content.h"
#include "http_ask.h"
#include "minivm/end.h"
#include "pattern.h"
#include "vsock_peer.h"

#define SEED	     7
#define PING_BYTES   (64u << 10)
#define DISK_SECTORS 2048u
#define CLONES_MAX   20
/*
 * Memory that an idle clone may have beyond what it shares with the others, if there are so many:
 * pages of the snapshot that only one has looked at become fewer with each.
 */
#define CLONE_KIB_MAX	  3072
#define CLONES_THAT_SHARE 8
/* The start's code goes back by then (vmm/trim.c). */
#define CLONE_SETTLE_MS 500

#define LIMIT_MS 30000

/* --- the commands --- */

/* `minivm ARGS...` to its end, which must be with `status`. */
static void command(struct test *t, int status, const char *const *args)
{
	const char *argv[8] = {t->opt->minivm};
	struct proc_request req = {.argv = argv};
	struct proc p;
	int got = -1;

	for (unsigned i = 0; i < 6 && args[i]; i++)
		argv[i + 1] = args[i];
	if (proc_start(&p, &req)) {
		wrong(t, "cannot start %s", argv[0]);
		return;
	}
	if (!proc_wait(&p, LIMIT_MS * t->opt->slow, &got) || got != status)
		wrong(t, "`minivm %s`: status %d, want %d: %s", args[0], got, status, p.err.data);
	proc_free(&p);
}

#define COMMAND(t, status, ...) command(t, status, (const char *const[]){__VA_ARGS__, NULL})

/* --- pings --- */

#define LINE_MAX_BYTES 64

static void pong(char line[LINE_MAX_BYTES], unsigned n)
{
	static uint8_t data[PING_BYTES];

	pattern_fill(data, SEED, 0, PING_BYTES / PATTERN_SECTOR);
	snprintf(line, LINE_MAX_BYTES, "pong %u %016llx", n,
		 (unsigned long long)content_hash(CONTENT_HASH_START, data, PING_BYTES));
}

/* What became of a machine that does not do what it is asked: its status, if it has ended. */
static const char *fate(struct test *t, struct proc *p)
{
	int status;

	if (!proc_wait(p, 100, &status))
		return text(t, "it runs; %s%s", p->out.data, p->err.data);
	return text(t, "it ended with status %d; %s%s", status, p->out.data, p->err.data);
}

static void send_ping(struct test *t, struct proc *p, unsigned n)
{
	char line[LINE_MAX_BYTES];

	snprintf(line, sizeof(line), "ping %u\n", n);
	if (!proc_send(p, line, strlen(line), LIMIT_MS))
		wrong(t, "it does not take ping %u: %s", n, fate(t, p));
}

static void expect_pong(struct test *t, struct proc *p, const char *what, unsigned n)
{
	char line[LINE_MAX_BYTES];

	pong(line, n);
	if (!proc_expect(p, line, LIMIT_MS * t->opt->slow))
		wrong(t, "%s does not answer ping %u: %s", what, n, fate(t, p));
}

/* --- the machine that is saved --- */

static const char *machine_name(struct test *t)
{
	return text(t, "test-%d", (int)getpid());
}

static void start_source(struct test *t, struct vm *vm, struct vm_request *req)
{
	/* Sockets in the case's own directory. */
	setenv("XDG_RUNTIME_DIR", t->dir, 1);
	req->disk[0] = text(t, "%s,overlay", make_disk(t, "busy.img", DISK_SECTORS, SEED));
	req->checks = "ping=/dev/vda";
	req->memory = "128M";
	req->args[0] = "--name";
	req->args[1] = machine_name(t);
	vm_start(t, vm, req);
	if (!vm_expect(vm, "ready"))
		return;
	send_ping(t, &vm->p, 0);
	expect_pong(t, &vm->p, "the machine", 0);
}

/* A paused machine does not move; a resumed one goes on with what came meanwhile. */
static void check_pause(struct test *t, struct vm *vm)
{
	COMMAND(t, 0, "pause", machine_name(t));
	send_ping(t, &vm->p, 1);
	proc_idle(&vm->p, 300);
	if (strstr(vm->p.out.data, "pong 1"))
		wrong(t, "it answers while it is paused");
	COMMAND(t, 0, "resume", machine_name(t));
	expect_pong(t, &vm->p, "the resumed machine", 1);
}

static const char *save(struct test *t, struct vm *vm)
{
	const char *dir = scratch_path(t, "snap");

	COMMAND(t, 0, "snapshot", machine_name(t), dir);
	COMMAND(t, 0, "snapshot", "verify", dir);
	send_ping(t, &vm->p, 2);
	expect_pong(t, &vm->p, "the machine that was saved", 2);
	return dir;
}

static void end_source(struct vm *vm)
{
	vm_send(vm, "stop\n");
	vm_finish(vm, 0);
	vm_free(vm);
}

/* --- restored machines --- */

/* With a name for the commands, or NULL. */
static bool start_clone(struct test *t, struct proc *p, const char *dir, const char *name)
{
	const char *argv[] = {t->opt->minivm, "restore", dir, name ? "--name" : NULL, name, NULL};
	const struct proc_request req = {.argv = argv};

	if (proc_start(p, &req) == 0)
		return true;
	wrong(t, "cannot start %s", argv[0]);
	return false;
}

/*
 * To its orderly end. Not by our init where QEMU emulates the processor (7.2): it takes ports away
 * from user mode when the task register holds a busy TSS, which is what KVM_GET_SREGS says of it.
 * There the kernel powers off, by ACPI.
 */
static void stop_clone(struct test *t, struct proc *p)
{
	const char *word = t->opt->emulating ? "stop\n" : "off\n";
	int status = -1;

	if (!proc_send(p, word, strlen(word), LIMIT_MS) ||
	    !proc_wait(p, LIMIT_MS * t->opt->slow, &status) || status != 0)
		wrong(t, "a restored machine ended with status %d: %s%s", status, p->out.data,
		      p->err.data);
	if (!strstr(p->out.data, "ok - no write was lost"))
		wrong(t, "a restored machine lost a write");
}

static void restore_in_a_row(struct test *t, const char *dir, unsigned times)
{
	for (unsigned i = 0; i < times && !*t->why; i++) {
		struct proc p;

		if (!start_clone(t, &p, dir, NULL))
			return;
		send_ping(t, &p, 100 + i);
		expect_pong(t, &p, "a restored machine", 100 + i);
		if (i == 0)
			stop_clone(t, &p);
		proc_free(&p);
	}
}

/* A number of /proc/PID/smaps_rollup in KiB. */
static unsigned memory_of(pid_t pid, const char *what)
{
	char name[64], line[256];
	unsigned kib = 0, n;
	FILE *in;

	snprintf(name, sizeof(name), "/proc/%d/smaps_rollup", (int)pid);
	in = fopen(name, "re");
	while (in && fgets(line, sizeof(line), in)) {
		if (strncmp(line, what, strlen(what)) == 0 &&
		    sscanf(line + strlen(what), ": %u", &n) == 1)
			kib = n;
	}
	if (in)
		fclose(in);
	return kib;
}

/*
 * Beyond shared pages of files: its share of anonymous memory, which is guest memory that it has
 * written and its own, and pages of files that no other process has mapped. 0: it is gone.
 */
static unsigned own_memory(const struct proc *p)
{
	unsigned private = memory_of(p->pid, "Private_Clean") + memory_of(p->pid, "Private_Dirty");
	unsigned share = memory_of(p->pid, "Pss_Anon") + memory_of(p->pid, "Pss_Shmem") +
			 memory_of(p->pid, "Private_Clean");

	return share > private ? share : private;
}

static int by_size(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

/*
 * While all of them are there, and have nothing to do but their timers and a disk. What each has
 * written counts for itself; pages that it alone has looked at so far are there or not as they take
 * turns, so of all there is of a clone's own the middle one of them is judged.
 */
static void check_memory(struct test *t, struct proc *p, unsigned count)
{
	unsigned own[CLONES_MAX], most_written = 0;

	for (unsigned i = 0; i < count; i++)
		proc_idle(&p[i], CLONE_SETTLE_MS / count);
	for (unsigned i = 0; i < count; i++) {
		unsigned written = memory_of(p[i].pid, "Pss_Anon");

		own[i] = own_memory(&p[i]);
		if (own[i] == 0)
			wrong(t, "a restored machine is gone: %s", p[i].err.data);
		most_written = written > most_written ? written : most_written;
	}
	qsort(own, count, sizeof(own[0]), by_size);
	tap_note(text(t, "%u clones at once have %u KiB of their own, the largest %u; %u written",
		      count, own[count / 2], own[count - 1], most_written));
	if (count >= CLONES_THAT_SHARE &&
	    (own[count / 2] > CLONE_KIB_MAX || most_written > CLONE_KIB_MAX))
		wrong(t, "clones have %u KiB of their own, one has written %u; at most %u may be",
		      own[count / 2], most_written, CLONE_KIB_MAX);
}

static void restore_at_once(struct test *t, const char *dir, unsigned count)
{
	static struct proc p[CLONES_MAX];
	unsigned started = 0;

	while (started < count && start_clone(t, &p[started], dir, NULL))
		started++;
	for (unsigned i = 0; i < started; i++)
		send_ping(t, &p[i], 200 + i);
	for (unsigned i = 0; i < started && !*t->why; i++)
		expect_pong(t, &p[i], "one of several restored machines", 200 + i);
	if (!*t->why)
		check_memory(t, p, started);
	for (unsigned i = 0; i < started; i++)
		proc_free(&p[i]);
}

static void run_snapshot(struct test *t, struct vm_request *req, unsigned in_a_row,
			 unsigned at_once)
{
	const char *dir;
	struct vm vm;

	start_source(t, &vm, req);
	check_pause(t, &vm);
	dir = save(t, &vm);
	restore_in_a_row(t, dir, in_a_row);
	restore_at_once(t, dir, at_once);
	end_source(&vm);
}

/* --- cases --- */

void case_snapshot(struct test *t)
{
	struct vm_request req = {0};

	run_snapshot(t, &req, t->opt->long_run ? 100 : 30, t->opt->long_run ? 20 : 8);
}

void case_snapshot_two_cpus(struct test *t)
{
	struct vm_request req = {.cpus = 2};

	run_snapshot(t, &req, 5, 2);
}

/* What a restored machine answers to `word`, in the test's text; NULL: nothing. */
static const char *answer_of(struct test *t, struct proc *p, const char *word)
{
	const char *question = text(t, "%s\n", word);
	const char *prefix = text(t, "%s ", word);
	const char *found;

	if (!proc_send(p, question, strlen(question), LIMIT_MS) ||
	    !proc_expect(p, prefix, LIMIT_MS * t->opt->slow) ||
	    !proc_expect(p, "\n", LIMIT_MS * t->opt->slow)) {
		wrong(t, "no answer to \"%s\": %s%s", word, p->out.data, p->err.data);
		return NULL;
	}
	found = strstr(p->out.data, prefix);
	return text(t, "%.*s", (int)strcspn(found, "\r\n"), found);
}

/*
 * Two copies of one machine: each is told that it is one, by its generation id, before it is asked
 * for random bytes; these would be the same otherwise. The machine that was saved is told nothing.
 */
void case_snapshot_generation(struct test *t)
{
	struct vm_request req = {.args = {[2] = "--describe", [3] = "acpi"}};
	const char *random[2] = {0}, *dir;
	struct vm vm;

	start_source(t, &vm, &req);
	dir = save(t, &vm);
	for (unsigned i = 0; i < 2 && !*t->why; i++) {
		struct proc p;
		const char *said;

		if (!start_clone(t, &p, dir, NULL))
			break;
		said = answer_of(t, &p, "reseeded");
		if (said && strcmp(said, "reseeded 1") != 0)
			wrong(t, "a restored machine was not told that it is one: %s", said);
		random[i] = answer_of(t, &p, "random");
		proc_free(&p);
	}
	if (random[0] && random[1] && strcmp(random[0], random[1]) == 0)
		wrong(t, "two machines have the same random bytes: %s", random[0]);
	if (random[0])
		tap_note(text(t, "%s, %s", random[0], random[1] ? random[1] : "nothing"));
	end_source(&vm);
}

/* --- by the control socket --- */

int ask_api(struct test *t, const char *path, const char *method, const char *target,
	    const char *body, const char *part)
{
	char answer[1024];
	int status = 0;

	http_ask(path, method, target, body, LIMIT_MS / 1000 * t->opt->slow, answer,
		 sizeof(answer));
	sscanf(answer, "HTTP/1.1 %d ", &status);
	if (!strstr(answer, part))
		wrong(t, "%s %s: \"%s\" is not in the answer: %s", method, target, part, answer);
	return status;
}

static void want_status(struct test *t, int want, int status, const char *what)
{
	if (status != want)
		wrong(t, "%s: status %d, want %d", what, status, want);
}

/* `minivm --api-sock PATH`, when it listens. */
static bool start_waiting(struct test *t, struct proc *p, const char *path)
{
	const char *argv[] = {t->opt->minivm, "--api-sock", path, NULL};
	const struct proc_request req = {.argv = argv};
	char answer[512];

	if (proc_start(p, &req)) {
		wrong(t, "cannot start %s", argv[0]);
		return false;
	}
	for (unsigned ms = 0; ms < LIMIT_MS; ms += 10) {
		if (http_ask(path, "GET", "/", "", 5, answer, sizeof(answer)))
			break;
		proc_idle(p, 10);
	}
	ask_api(t, path, "GET", "/", "", "Not started");
	return true;
}

static const char *load_body(struct test *t, const char *dir, const char *more)
{
	return text(t,
		    "{\"snapshot_path\":\"%s/state\",\"mem_backend\":{\"backend_type\":\"File\","
		    "\"backend_path\":\"%s/memory\"}%s}",
		    dir, dir, more);
}

/* What cannot be loaded is refused, and the process waits on. Then one that begins paused. */
static void load_paused(struct test *t, struct proc *p, const char *path, const char *dir)
{
	const char *nowhere = load_body(t, scratch_path(t, "nowhere"), "");
	const char *body = load_body(t, dir, "");

	want_status(t, 400, ask_api(t, path, "PUT", "/snapshot/load", nowhere, "fault_message"),
		    "loading nothing");
	want_status(t, 204, ask_api(t, path, "PUT", "/snapshot/load", body, ""), "loading");
	ask_api(t, path, "GET", "/", "", "Paused");
	want_status(t, 400, ask_api(t, path, "PUT", "/snapshot/load", body, "already"),
		    "loading again");
	send_ping(t, p, 5);
	proc_idle(p, 500);
	if (strstr(p->out.data, "pong 5"))
		wrong(t, "it runs though nobody has resumed it");
	want_status(t, 204, ask_api(t, path, "PATCH", "/vm", "{\"state\":\"Resumed\"}", ""),
		    "resuming");
	expect_pong(t, p, "the loaded machine", 5);
	stop_clone(t, p);
}

/* A damaged one first; the good one then runs at once. */
static void load_running(struct test *t, struct proc *p, const char *path, const char *dir)
{
	const char *damaged = text(t,
				   "{\"snapshot_path\":\"%s/state\",\"mem_file_path\":"
				   "\"%s/state\"}",
				   dir, dir);
	const char *body = load_body(t, dir, ",\"resume_vm\":true");

	want_status(t, 400, ask_api(t, path, "PUT", "/snapshot/load", damaged, "fault_message"),
		    "loading another memory");
	want_status(t, 204, ask_api(t, path, "PUT", "/snapshot/load", body, ""), "loading");
	ask_api(t, path, "GET", "/", "", "Running");
	send_ping(t, p, 6);
	expect_pong(t, p, "the machine that was loaded and resumed", 6);
}

/* A process that waits for a snapshot, with --api-sock alone. */
void case_snapshot_load(struct test *t)
{
	const char *path = scratch_path(t, "api");
	struct vm_request req = {0};
	int status = -1;
	const char *dir;
	struct vm vm;
	struct proc p;

	start_source(t, &vm, &req);
	dir = save(t, &vm);
	end_source(&vm);
	if (!start_waiting(t, &p, path))
		return;
	load_paused(t, &p, path, dir);
	proc_free(&p);
	if (!start_waiting(t, &p, path))
		return;
	load_running(t, &p, path, dir);
	proc_free(&p); /* killed: its socket stays, and is replaced */
	if (!start_waiting(t, &p, path))
		return;
	proc_signal(&p, SIGTERM);
	if (!proc_wait(&p, LIMIT_MS, &status) || status != VM_STATUS_STOPPED)
		wrong(t, "SIGTERM while it waits: status %d", status);
	if (access(path, F_OK) == 0)
		wrong(t, "its socket is still there");
	proc_free(&p);
}

/* --- the agent --- */

struct who {
	char name[65], mac[20];
	long long seconds;
	long long from, to; /* the host's, around these */
	const char *random;
};

static void ask_who(struct test *t, struct proc *p, struct who *who)
{
	const char *said;

	who->from = time(NULL);
	said = answer_of(t, p, "who");
	who->to = time(NULL);
	if (said && sscanf(said, "who %64s %19s %lld", who->name, who->mac, &who->seconds) != 3)
		wrong(t, "\"%s\" is no answer", said);
	who->random = answer_of(t, p, "random");
}

/* Where machines find the other end of their network device: nobody reads there. */
static int listen_for_nets(struct test *t, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
		wrong(t, "%s: %s", path, strerror(errno));
	return fd;
}

/* Restored with these words; until its agent has told what it was told. */
static bool start_told(struct test *t, struct proc *p, const char *dir, const char *word,
		       const char *value)
{
	const char *argv[] = {t->opt->minivm, "restore", dir,	"--log-level",
			      "info",	      word,	 value, NULL};
	const struct proc_request req = {.argv = argv};

	if (proc_start(p, &req)) {
		wrong(t, "cannot start %s", argv[0]);
		return false;
	}
	if (proc_expect_err(p, "the guest knows that it was restored", LIMIT_MS * t->opt->slow))
		return true;
	wrong(t, "a restored machine's agent does not answer: %s%s", p->out.data, p->err.data);
	proc_free(p);
	return false;
}

static void judge_clone(struct test *t, const struct who *who, const struct who *other,
			const char *name)
{
	if (strcmp(who->name, name) != 0)
		wrong(t, "its name is %s and not %s", who->name, name);
	if (strcmp(who->mac, other->mac) == 0)
		wrong(t, "%s has the address %s of another machine", name, who->mac);
	if (who->random && other->random && strcmp(who->random, other->random) == 0)
		wrong(t, "%s has the same random bytes as another machine", name);
	if (who->seconds < who->from - 3 || who->seconds > who->to + 3)
		wrong(t, "the clock of %s says %lld between %lld and %lld", name, who->seconds,
		      who->from, who->to);
}

/*
 * Without ACPI two copies of one machine are told by their agents that they are: name, address,
 * random bytes and time are their own.
 */
void case_snapshot_agent(struct test *t)
{
	const char *socket_path = scratch_path(t, "net");
	struct vm_request req = {.args = {[2] = "--describe",
					  "mptable",
					  "--agent",
					  "on",
					  "--net",
					  text(t, "passt=%s", socket_path)}};
	const char *const told[2][2] = {{"--name", "clone-0"}, {"--hostname", "clone-1"}};
	int listener = listen_for_nets(t, socket_path);
	struct who who[3] = {0};
	const char *dir;
	struct vm vm;

	start_source(t, &vm, &req);
	dir = save(t, &vm);
	ask_who(t, &vm.p, &who[0]);
	end_source(&vm);
	if (t->opt->emulating)
		sleep(5); /* its clock stands still meanwhile */
	for (unsigned i = 0; i < 2 && !*t->why; i++) {
		struct proc p;

		if (!start_told(t, &p, dir, told[i][0], told[i][1]))
			break;
		ask_who(t, &p, &who[i + 1]);
		judge_clone(t, &who[i + 1], &who[i], told[i][1]);
		proc_free(&p);
	}
	for (unsigned i = 0; i < 3; i++)
		tap_note(text(t, "%s %s %s", who[i].name, who[i].mac,
			      who[i].random ? who[i].random : "-"));
	close(listener);
}

static void create_by_api(struct test *t, const char *sock, const char *dir, const char *name)
{
	const char *body =
	    text(t, "{\"snapshot_path\":\"%s/%s\",\"mem_file_path\":\"%s/%s.memory\"}", dir, name,
		 dir, name);

	want_status(t, 204, ask_api(t, sock, "PUT", "/snapshot/create", body, ""), name);
}

/* That one of them is whole shows when the machine that comes from it looks for all its writes. */
static void load_by_name(struct test *t, const char *dir, const char *name, unsigned ping)
{
	const char *path = scratch_path(t, "api");
	const char *body = text(t,
				"{\"snapshot_path\":\"%s/%s\",\"mem_file_path\":\"%s/%s.memory\","
				"\"resume_vm\":true}",
				dir, name, dir, name);
	struct proc p;

	if (!start_waiting(t, &p, path))
		return;
	want_status(t, 204, ask_api(t, path, "PUT", "/snapshot/load", body, ""), name);
	send_ping(t, &p, ping);
	expect_pong(t, &p, name, ping);
	stop_clone(t, &p);
	proc_free(&p);
}

/* Several snapshots share a directory: each has the disks of its own moment. */
void case_snapshot_side_by_side(struct test *t)
{
	const char *dir = scratch_path(t, "all");
	const char *sock = text(t, "%s/minivm/%s.sock", t->dir, machine_name(t));
	struct vm_request req = {0};
	struct vm vm;

	if (mkdir(dir, 0700))
		wrong(t, "mkdir");
	start_source(t, &vm, &req);
	create_by_api(t, sock, dir, "first");
	send_ping(t, &vm.p, 1);
	expect_pong(t, &vm.p, "the machine that was saved", 1);
	create_by_api(t, sock, dir, "second");
	create_by_api(t, sock, dir, "second"); /* over the old one */
	end_source(&vm);
	load_by_name(t, dir, "first", 2);
	load_by_name(t, dir, "second", 3);
}

/* A machine that was restored is saved, and what comes from that is restored. */
void case_snapshot_again(struct test *t)
{
	struct vm_request req = {0};
	const char *dir, *second = scratch_path(t, "second");
	const char *name = text(t, "again-%d", (int)getpid());
	struct vm vm;
	struct proc p;

	start_source(t, &vm, &req);
	dir = save(t, &vm);
	end_source(&vm);
	if (!start_clone(t, &p, dir, name))
		return;
	send_ping(t, &p, 3);
	expect_pong(t, &p, "a restored machine", 3);
	COMMAND(t, 0, "snapshot", name, second);
	COMMAND(t, 0, "snapshot", name, second); /* over the old one */
	COMMAND(t, 0, "snapshot", "verify", second);
	stop_clone(t, &p);
	proc_free(&p);
	restore_in_a_row(t, second, 1);
}

/* What cannot be: one line, and status 125. */
void case_snapshot_refused(struct test *t)
{
	struct vm_request req = {0};
	const char *dir, *state, *memory;
	struct vm vm;

	start_source(t, &vm, &req);
	dir = save(t, &vm);
	COMMAND(t, 125, "snapshot", "nobody", dir);
	COMMAND(t, 125, "pause", "nobody");
	COMMAND(t, 125, "snapshot", machine_name(t), t->dir); /* no snapshot there */
	COMMAND(t, 0, "ps");
	end_source(&vm);
	COMMAND(t, 125, "restore", scratch_path(t, "nothing"));
	COMMAND(t, 125, "restore", dir, "--disk", "disk9=/dev/null");
	state = text(t, "%s/state", dir);
	memory = text(t, "%s/memory", dir);
	if (truncate(memory, 64 << 20))
		wrong(t, "truncate");
	COMMAND(t, 125, "restore", dir);
	COMMAND(t, 125, "snapshot", "verify", dir);
	if (truncate(state, 1000))
		wrong(t, "truncate");
	COMMAND(t, 125, "restore", dir);
}

/* Connections end with the machine that was saved; the restored one makes new ones, by its CID. */
void case_snapshot_vsock(struct test *t)
{
	const char *here = scratch_path(t, "here"), *there = scratch_path(t, "there");
	const char *dir = scratch_path(t, "snap");
	const struct vm_request req = {
	    .memory = "128M",
	    .checks = "vsockmove=5,6",
	    .args = {"--name", machine_name(t), "--vsock", text(t, "cid=5,uds=%s", here)},
	    .no_done = true,
	};
	const char *argv[] = {
	    t->opt->minivm, "restore", dir, "--vsock", text(t, "cid=6,uds=%s", there), NULL};
	const struct proc_request restore = {.argv = argv};
	pid_t peers[] = {vsock_peer_start(here), vsock_peer_start(there)};
	struct vm vm;
	struct proc p = {0};

	setenv("XDG_RUNTIME_DIR", t->dir, 1);
	vm_start(t, &vm, &req);
	vm_expect(&vm, "vsock: connected");
	COMMAND(t, 0, "snapshot", machine_name(t), dir);
	if (proc_start(&p, &restore) || !proc_expect(&p, "vsock: moved", LIMIT_MS * t->opt->slow))
		wrong(t, "the restored machine does not come so far");
	if (p.out.data && strstr(p.out.data, "not ok"))
		wrong(t, "in the restored machine: %s", p.out.data);
	if (strstr(vm.p.out.data, "vsock: reset"))
		wrong(t, "the machine that was saved lost its connection");
	proc_free(&p);
	vm_kill(&vm, SIGKILL);
	vm_free(&vm);
	for (unsigned i = 0; i < 2; i++)
		vsock_peer_stop(peers[i]);
}
