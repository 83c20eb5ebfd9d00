/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved machines from an enemy, through `minivm restore` itself: states with bytes changed, cut
 * short, or of a newer minivm, their checksums made to fit so that the parser is reached; and files
 * that are not what they should be.
 *
 * A live Linux with a disk, two consoles, a balloon and an entropy device is saved once. Each
 * mutated state is restored: it must be refused as everything else in this suite, or it is one that
 * can be (register contents may be anything), and then the machine must run for a moment. What it
 * does is its own affair; minivm must not die of a signal, grow, hang before the guest runs, or
 * touch a file.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "minivm/state.h"

#define BOOT_MS	   60000
#define COMMAND_MS 60000
/* From the start of a restore to its end or the guest's first instruction. */
#define RESTORE_MS 3000
/* How long a mutant that can run does so. */
#define RUN_MS 20
/* 64 MiB of guest, what minivm and the tests' sanitizers need beside it, and no more. */
#define RESIDENT_MAX_KIB (256u << 10)

#define NAME	 "hostile"
#define READY	 "hostile-ready"
#define SECTIONS 512

/* Offsets in the state file, docs/snapshot.md. */
#define HEADER_FORMAT	8
#define HEADER_LENGTH	16
#define HEADER_HASH	24
#define SECTION_VERSION 4
#define SECTION_LENGTH	8

struct saved {
	struct suite *s;
	uint8_t *state;
	size_t len;
	/* Where the sections' heads are, those inside others as well. */
	size_t section[SECTIONS];
	unsigned sections;
	uint32_t random;
	unsigned refused, ran;
};

/* --- the machine that is saved --- */

static bool command(struct suite *s, const char *word, const char *a, const char *b)
{
	const char *argv[] = {s->minivm, word, a, b, NULL};
	const struct proc_request req = {.argv = argv, .in_file = "/dev/null"};
	struct proc p;
	int status = -1;

	if (proc_start(&p, &req))
		return false;
	proc_wait(&p, COMMAND_MS * s->opt.slow, &status);
	if (status != 0)
		tap_note(p.err.data);
	proc_free(&p);
	return status == 0;
}

static bool save(struct suite *s)
{
	static const char words[] =
	    "quiet loglevel=1 minivm.sh=\"echo " READY "; exec sleep 1000\"";
	char disk[ARG_PATH_MAX];
	const char *argv[] = {
	    s->minivm,	    "--name",	 NAME,	     "--kernel", s->opt.kernel,
	    "--disk",	    disk,	 "--memory", "64M",	 "--rng=on",
	    "--balloon=on", "--console", "virtio",   "--port",	 "log=file:/dev/null",
	    "--cmdline",    words,	 NULL};
	const struct proc_request req = {.argv = argv, .in_file = "/dev/null"};
	struct proc p;
	bool ok;

	snprintf(disk, sizeof(disk), "%s,overlay", s->opt.root);
	if (mkdir(fixture(s, "run"), 0700) || setenv("XDG_RUNTIME_DIR", fixture(s, "run"), 1) ||
	    proc_start(&p, &req))
		return false;
	ok = proc_expect(&p, READY, BOOT_MS * s->opt.slow) &&
	     command(s, "snapshot", NAME, fixture(s, "saved"));
	if (!ok)
		tap_note(p.err.data);
	proc_signal(&p, SIGTERM); /* twice: at once */
	proc_signal(&p, SIGTERM);
	proc_free(&p);
	return ok;
}

static bool read_state(struct saved *saved)
{
	FILE *f = fopen(fixture(saved->s, "saved/state"), "rb");
	struct stat st;
	bool ok = f && fstat(fileno(f), &st) == 0;

	if (ok) {
		saved->len = (size_t)st.st_size;
		saved->state = malloc(saved->len);
		ok = saved->state && fread(saved->state, 1, saved->len, f) == saved->len;
	}
	if (f)
		fclose(f);
	return ok;
}

static bool is_section(const uint8_t *p, size_t left)
{
	static const char ids[][5] = {"CONF", "LAYR", "MEM ", "MACH", "DISK", "HOST", "CPUI",
				      "VCPU", "KVM ", "CLCK", "BUS ", "DEV ", "VIRT", "VDEV"};
	uint64_t len;

	memcpy(&len, p + SECTION_LENGTH, sizeof(len));
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (memcmp(p, ids[i], 4) == 0)
			return p[SECTION_VERSION] > 0 && p[5] == 0 && p[6] == 0 && p[7] == 0 &&
			       len <= left - STATE_SECTION_LEN;
	}
	return false;
}

/* By their heads, so that those inside others are found without knowing what is before them. */
static void find_sections(struct saved *saved)
{
	for (size_t at = STATE_HEADER_LEN; at + STATE_SECTION_LEN <= saved->len; at++) {
		if (is_section(saved->state + at, saved->len - at) && saved->sections < SECTIONS)
			saved->section[saved->sections++] = at;
	}
}

/* --- a state that is wrong, in its place beside a good memory file --- */

/* `fit`: its length and checksum are made to fit. */
static bool put_state(const struct saved *saved, uint8_t *state, size_t len, bool fit)
{
	uint64_t body = len - STATE_HEADER_LEN;

	if (fit) {
		memcpy(state + HEADER_LENGTH, &body, sizeof(body));
		state_digest(state + STATE_HEADER_LEN, body, state + HEADER_HASH);
	}
	return fixture_write(saved->s, "mutant/state", state, len) == 0;
}

/* --- a mutant that may run --- */

/* Its vCPU has a thread: the guest runs. */
static bool is_running(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	return stat(path, &st) == 0 && st.st_nlink > 2 + 1;
}

static unsigned resident_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "VmHWM: %u", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib;
}

static const char *judge_end(struct saved *saved, struct proc *p)
{
	const char *said = proc_complaints(p);

	if (strncmp(said, "minivm: ", *said ? 8 : 0) != 0)
		return "its line does not begin with \"minivm: \"";
	if (*said && strchr(said, '\n') != said + strlen(said) - 1)
		return "it says more than one line";
	saved->refused++;
	return *said ? NULL : "it says nothing";
}

static const char *judge_mutant(struct saved *saved, struct proc *p)
{
	unsigned limit = RESTORE_MS * saved->s->opt.slow;
	int status;

	while (limit-- > 0 && !proc_ended(p) && !is_running(p->pid))
		proc_idle(p, 1);
	if (!proc_ended(p) && !is_running(p->pid))
		return "it neither ends nor runs";
	proc_idle(p, proc_ended(p) ? 0 : RUN_MS);
	if (!proc_ended(p)) {
		saved->ran++;
		return resident_kib(p->pid) > RESIDENT_MAX_KIB ? "it grows" : NULL;
	}
	proc_wait(p, RESTORE_MS, &status);
	if (strstr(proc_complaints(p), "Sanitizer") || strstr(proc_complaints(p), "runtime error"))
		return "a sanitizer has found something";
	if (status > 128)
		return "it died of a signal";
	if (status != 125) { /* by the guest's doing */
		saved->ran++;
		return NULL;
	}
	return judge_end(saved, p);
}

/* NULL, or what is wrong. */
static const char *try_mutant(struct saved *saved)
{
	char dir[ARG_PATH_MAX];
	const char *argv[] = {saved->s->minivm, "restore", dir, NULL};
	const struct proc_request req = {
	    .argv = argv, .in_file = "/dev/null", .prepare = enter_cwd, .opaque = saved->s};
	uint64_t before = fixtures_hash(saved->s);
	const char *why;
	struct proc p;

	snprintf(dir, sizeof(dir), "%s", fixture(saved->s, "mutant"));
	if (proc_start(&p, &req))
		return "cannot start it";
	why = judge_mutant(saved, &p);
	if (why)
		tap_note(p.err.data);
	proc_free(&p);
	if (!why && fixtures_hash(saved->s) != before)
		why = "a file was made, changed or removed";
	return why;
}

/* --- mutations --- */

static uint32_t rnd(struct saved *saved, uint32_t below)
{
	saved->random = saved->random * 1664525u + 1013904223u;
	return (saved->random >> 8) % below;
}

/* Anywhere, or half of the time near the head of a section: most of the file is registers. */
static size_t place(struct saved *saved, size_t len)
{
	size_t at = rnd(saved, 2)
			? saved->section[rnd(saved, saved->sections)] + rnd(saved, 64)
			: STATE_HEADER_LEN + rnd(saved, (uint32_t)(len - STATE_HEADER_LEN));

	return at < len ? at : len - 1;
}

static void mutate(struct saved *saved, uint8_t *state, size_t *len)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
	size_t at = place(saved, *len);

	switch (rnd(saved, 4)) {
	case 0:
		state[at] ^= (uint8_t)(1u << rnd(saved, 8));
		break;
	case 1:
		state[at] = values[rnd(saved, sizeof(values))];
		break;
	case 2: /* a number of 4 bytes */
		for (size_t i = at; i < at + 4 && i < *len; i++)
			state[i] = values[rnd(saved, 2) * 4];
		break;
	default: /* a byte is gone */
		memmove(state + at, state + at + 1, *len - at - 1);
		(*len)--;
		break;
	}
}

static void mutations(struct saved *saved, uint8_t *state)
{
	struct suite *s = saved->s;
	unsigned wrong = 0;

	saved->random = 4711;
	for (unsigned n = 0; n < s->opt.mutations && wrong < 10; n++) {
		size_t len = saved->len;
		const char *why;

		memcpy(state, saved->state, len);
		for (unsigned k = 0; k <= rnd(saved, 3); k++)
			mutate(saved, state, &len);
		why = put_state(saved, state, len, true) ? try_mutant(saved) : "no room for it";
		if (why) {
			tap_fail(&s->tap, "mutated state %u: %s", n, why);
			wrong++;
		}
	}
	if (saved->refused == 0 || saved->ran == 0)
		tap_fail(&s->tap, "mutated states: %u refused, %u ran", saved->refused, saved->ran);
	else if (wrong == 0)
		tap_ok(&s->tap, "mutated states: %u refused, %u ran", saved->refused, saved->ran);
}

/* --- states that must be refused --- */

static void refuse_state(struct saved *saved, const char *name, uint8_t *state, size_t len,
			 bool fit, const char *want)
{
	const struct refusal r = {.name = name, .args = {"restore", "@mutant"}, .want = want};

	if (put_state(saved, state, len, fit))
		refuse(saved->s, &r);
	else
		tap_fail(&saved->s->tap, "%s: no room for it", name);
}

/* With a checksum that fits, and as a write that was cut short leaves it. */
static void truncations(struct saved *saved, uint8_t *state)
{
	const size_t step = saved->len / 40;
	char name[96];

	for (size_t len = STATE_HEADER_LEN; len < saved->len; len += step) {
		memcpy(state, saved->state, saved->len);
		snprintf(name, sizeof(name), "state cut short at %zu of %zu, sealed", len,
			 saved->len);
		refuse_state(saved, name, state, len, true, "saved state");
		memcpy(state, saved->state, saved->len);
		snprintf(name, sizeof(name), "state cut short at %zu of %zu", len, saved->len);
		refuse_state(saved, name, state, len, false, "cut short");
	}
	for (size_t len = 0; len < STATE_HEADER_LEN; len += 11) {
		snprintf(name, sizeof(name), "state of %zu bytes", len);
		refuse_state(saved, name, saved->state, len, false, "@mutant");
	}
}

static void newer_versions(struct saved *saved, uint8_t *state)
{
	char name[96];

	for (unsigned i = 0; i < saved->sections; i++) {
		size_t at = saved->section[i];

		memcpy(state, saved->state, saved->len);
		state[at + SECTION_VERSION] += 17;
		snprintf(name, sizeof(name), "section %.4s at %zu of a newer version",
			 (const char *)state + at, at);
		refuse_state(saved, name, state, saved->len, true, "this minivm reads up to");
		memcpy(state, saved->state, saved->len);
		state[at + SECTION_VERSION] = 0;
		snprintf(name, sizeof(name), "section %.4s at %zu of version 0",
			 (const char *)state + at, at);
		refuse_state(saved, name, state, saved->len, true, "of version 0");
	}
	memcpy(state, saved->state, saved->len);
	state[HEADER_FORMAT]++;
	refuse_state(saved, "state of a newer format", state, saved->len, true, "format 2");
	memcpy(state, saved->state, saved->len);
	state[0] = 'm';
	refuse_state(saved, "state with another magic", state, saved->len, true, "no saved state");
	memcpy(state, saved->state, saved->len);
	state[saved->len / 2] ^= 1;
	refuse_state(saved, "state with one bit wrong", state, saved->len, false, "checksum");
}

/* --- files that are not what they should be --- */

/* A fixture as `name` in the mutant's directory, in the place of what was there. */
static void replace(struct saved *saved, const char *name, const char *with, const char *want)
{
	char label[96], file[64];
	struct refusal r = {.name = label, .args = {"restore", "@mutant"}, .want = want};

	snprintf(label, sizeof(label), "%s in the place of the saved %s", with, name);
	snprintf(file, sizeof(file), "mutant/%s", name);
	unlink(fixture(saved->s, file));
	if (symlink(fixture(saved->s, with), fixture(saved->s, file)))
		tap_fail(&saved->s->tap, "%s: %s", label, strerror(errno));
	else
		refuse(saved->s, &r);
	unlink(fixture(saved->s, file));
}

static void link_good(const struct saved *saved, const char *name)
{
	char from[64], to[64];

	snprintf(from, sizeof(from), "saved/%s", name);
	snprintf(to, sizeof(to), "mutant/%s", name);
	unlink(fixture(saved->s, to));
	if (link(fixture(saved->s, from), fixture(saved->s, to)))
		tap_fail(&saved->s->tap, "%s: %s", to, strerror(errno));
}

static void other_files(struct saved *saved)
{
	static const char *const others[] = {"no-such", "dir",	  "fifo", "socket",
					     "empty",	"random", "loop", "huge"};
	static const char *const parts[] = {"state", "memory", "state.disk0.layer"};

	for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			replace(saved, parts[k], others[i], NULL);
		link_good(saved, parts[k]);
	}
}

/* --- all of it --- */

static bool prepare_files(struct saved *saved)
{
	static const char *const parts[] = {"state", "memory", "state.disk0.layer"};

	if (!save(saved->s) || !read_state(saved) || mkdir(fixture(saved->s, "mutant"), 0755))
		return false;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		link_good(saved, parts[i]);
	find_sections(saved);
	return saved->sections > 0;
}

void run_snapshots(struct suite *s)
{
	struct saved saved = {.s = s};
	const char *filter = s->opt.filter;
	uint8_t *state;

	/* Not in a run of all, which the outer machine is for: see tests/run-all.sh. */
	if (!filter || !selected(s, "snapshots"))
		return;
	if (!s->have_kvm) {
		tap_skip(&s->tap, "needs /dev/kvm", "snapshots");
		return;
	}
	if (!prepare_files(&saved)) {
		tap_fail(&s->tap, "snapshots: there is none to begin with");
		free(saved.state);
		return;
	}
	s->opt.filter = NULL; /* this part goes by one name */
	state = malloc(saved.len);
	if (state) {
		other_files(&saved);
		unlink(fixture(s, "mutant/state")); /* the good one's other name */
		truncations(&saved, state);
		newer_versions(&saved, state);
		mutations(&saved, state);
	}
	s->opt.filter = filter;
	free(state);
	free(saved.state);
}
