/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that answers while a lot goes on in it: for machines that are saved and go on elsewhere.
 * A child keeps the disk busy, a timer ticks; each ping is answered once both have gone on since,
 * with a checksum over 64 KiB that are read from the disk for it. "busy" and "busycheck" have the
 * same going on around other groups.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../content.h"
#include "checks.h"
#include "pattern.h"

#define READ_BYTES (64u << 10)
#define BUSY_BYTES 4096u
#define BUSY_SLOTS 64u /* behind what is read for pings */

struct shared {
	unsigned rounds; /* of the child's writes and reads */
	unsigned ticks;	 /* of its timer */
	bool bad;	 /* it did not find what it had written */
};

/* The child's: what the parent waits in is not interrupted. */
static struct shared *ticking;

static void on_tick(int sig)
{
	(void)sig;
	__atomic_add_fetch(&ticking->ticks, 1, __ATOMIC_RELAXED);
}

static void start_ticking(struct shared *shared)
{
	const struct itimerval every = {{0, 100000}, {0, 100000}};
	struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};

	ticking = shared;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void *buffer(size_t size)
{
	void *p = NULL;

	return posix_memalign(&p, 4096, size) == 0 ? p : NULL;
}

static void fill_slot(uint64_t *data, unsigned round)
{
	for (unsigned i = 0; i < BUSY_BYTES / 8; i++)
		data[i] = (uint64_t)round << 32 | i;
}

static bool slot_is(int fd, off_t at, const uint64_t *data, uint64_t *in)
{
	return pread(fd, in, BUSY_BYTES, at) == BUSY_BYTES && memcmp(in, data, BUSY_BYTES) == 0;
}

/* 7 and BUSY_SLOTS have no divisor in common: each place once in BUSY_SLOTS rounds. */
static unsigned slot_of(unsigned round)
{
	return round * 7 % BUSY_SLOTS;
}

/* As if the rounds before the first had been, by one write. */
static bool fill_slots(int fd)
{
	uint64_t *all = buffer((size_t)BUSY_SLOTS * BUSY_BYTES);
	bool ok;

	for (unsigned n = 1; all && n <= BUSY_SLOTS; n++)
		fill_slot(all + (size_t)slot_of(n) * (BUSY_BYTES / 8), n - BUSY_SLOTS);
	ok = all && pwrite(fd, all, (size_t)BUSY_SLOTS * BUSY_BYTES, READ_BYTES) ==
			(ssize_t)BUSY_SLOTS * BUSY_BYTES;
	free(all);
	return ok;
}

/*
 * Writes its own number all over the place and finds it again, at once and when the place's turn
 * comes next: a disk that is of another moment than memory has other numbers there.
 */
static void keep_busy(int fd, struct shared *shared)
{
	uint64_t *out = buffer(BUSY_BYTES), *in = buffer(BUSY_BYTES);

	start_ticking(shared);
	shared->bad = !fill_slots(fd);
	for (unsigned n = 1; out && in && !shared->bad; n++) {
		off_t at = READ_BYTES + (off_t)slot_of(n) * BUSY_BYTES;

		fill_slot(out, n - BUSY_SLOTS);
		shared->bad = !slot_is(fd, at, out, in);
		fill_slot(out, n);
		if (pwrite(fd, out, BUSY_BYTES, at) != BUSY_BYTES || !slot_is(fd, at, out, in) ||
		    (n % 8 == 0 && fsync(fd) < 0))
			shared->bad = true;
		__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
	}
	_exit(1);
}

static unsigned read_count(const unsigned *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* Both go on within a time that is long for any machine. */
static bool goes_on(struct checks *c, struct shared *shared)
{
	unsigned rounds = read_count(&shared->rounds);
	unsigned ticks = read_count(&shared->ticks);
	uint64_t end = now_ns() + 10000000000ull * c->slow;

	while (now_ns() < end) {
		if (read_count(&shared->rounds) != rounds && read_count(&shared->ticks) != ticks)
			return true;
		usleep(2000);
	}
	return false;
}

static void answer(struct checks *c, int fd, struct shared *shared, const char *word)
{
	static void *data;
	uint64_t hash = CONTENT_HASH_START;

	if (!data)
		data = buffer(READ_BYTES);
	if (!data || pread(fd, data, READ_BYTES, 0) != READ_BYTES) {
		say("pong %s: reading the disk: %s", word, strerror(errno));
		return;
	}
	hash = content_hash(hash, data, READ_BYTES);
	if (shared->bad)
		say("pong %s: the disk lost a write", word);
	else if (!goes_on(c, shared))
		say("pong %s: stuck", word);
	else
		say("pong %s %016llx", word, (unsigned long long)hash);
}

/* --- what a copied machine has of its own --- */

/* Bytes of the kernel's generator: machines that are copies of each other would get the same. */
static void tell_random(struct checks *c)
{
	uint64_t word[2] = {0};

	(void)c;
	if (getrandom(word, sizeof(word), 0) == (ssize_t)sizeof(word))
		say("random %016llx%016llx", (unsigned long long)word[0],
		    (unsigned long long)word[1]);
	else
		say("random: %s", strerror(errno));
}

/* How often the kernel's log, which is read anew, says it. */
static unsigned count_reseeds(void)
{
	static const char said[] = "crng reseeded due to virtual machine fork";
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8192];
	unsigned count = 0;
	ssize_t n;

	/* EPIPE: records that were overwritten meanwhile. */
	while (fd >= 0 && ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		record[n > 0 ? n : 0] = '\0';
		count += strstr(record, said) != NULL;
	}
	if (fd >= 0)
		close(fd);
	return count;
}

/* The event that the generation id has changed is on its way: waits for it. */
static void tell_reseeded(struct checks *c)
{
	uint64_t end = now_ns() + 10000000000ull * c->slow;

	while (count_reseeds() == 0 && now_ns() < end)
		usleep(10000);
	say("reseeded %u", count_reseeds());
}

/* Name, first network address, wall time. */
static void tell_who(struct checks *c)
{
	char name[65] = "", mac[32];

	(void)c;
	gethostname(name, sizeof(name) - 1);
	read_text("/sys/class/net/eth0/address", mac, sizeof(mac));
	mac[strcspn(mac, "\n")] = '\0';
	say("who %s %s %lld", name, *mac ? mac : "-", (long long)time(NULL));
}

static const struct question {
	const char *word;
	void (*answer)(struct checks *c);
} questions[] = {
    {"random", tell_random},
    {"reseeded", tell_reseeded},
    {"who", tell_who},
};

static void ask(struct checks *c, const char *word)
{
	for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
		if (!strcmp(questions[i].word, word))
			questions[i].answer(c);
	}
}

/* Until "stop" or "off"; true: "off". */
static bool serve(struct checks *c, int fd, struct shared *shared)
{
	char line[128];

	say("ready");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (!strcmp(line, "stop") || !strcmp(line, "off"))
			return line[0] == 'o';
		if (!strncmp(line, "ping ", 5))
			answer(c, fd, shared, line + 5);
		else
			ask(c, line);
	}
	return false;
}

/* --- the groups --- */

struct busy {
	int fd;
	struct shared *shared;
	pid_t child;
};

static bool start_busy(struct checks *c, const char *dev, struct busy *b)
{
	b->shared = mmap(NULL, sizeof(*b->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	b->fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (!check(c, b->fd >= 0 && b->shared != MAP_FAILED, "the disk to be busy with", "%s: %s",
		   dev, strerror(errno)))
		return false;
	b->child = fork();
	if (b->child == 0)
		keep_busy(b->fd, b->shared);
	return true;
}

static void stop_busy(struct checks *c, struct busy *b)
{
	kill(b->child, SIGKILL);
	waitpid(b->child, NULL, 0);
	check(c, !b->shared->bad, "no write was lost", "one was");
	close(b->fd);
}

void group_ping(struct checks *c, char *arg)
{
	struct busy b;
	bool off;

	if (!start_busy(c, next_field(&arg), &b))
		return;
	off = serve(c, b.fd, b.shared);
	stop_busy(c, &b);
	if (off) {
		char none[] = "";

		group_poweroff(c, none);
	}
}

static struct busy between; /* from "busy" to "busycheck" */

void group_busy(struct checks *c, char *arg)
{
	if (start_busy(c, next_field(&arg), &between))
		check(c, goes_on(c, between.shared), "timer and disk are busy", "they stand still");
}

void group_busycheck(struct checks *c, char *arg)
{
	(void)arg;
	if (!between.shared)
		return;
	check(c, goes_on(c, between.shared), "timer and disk go on", "they stand still");
	stop_busy(c, &between);
}
