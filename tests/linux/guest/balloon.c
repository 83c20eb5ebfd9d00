/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes back to the host. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checks.h"

/* The host looks, for as long as it takes, and then says a line. */
static void wait_for_the_host(void)
{
	char line[16];

	(void)!fgets(line, sizeof(line), stdin);
}

/* MIB: uses so much, says so, frees it, says so. */
void group_balloon(struct checks *c, char *arg)
{
	uint64_t bytes = next_number(&arg) << 20;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!check(c, p != MAP_FAILED, "balloon: memory", "no %llu bytes",
		   (unsigned long long)bytes))
		return;
	memset(p, 0x5a, bytes);
	say("balloon: used");
	wait_for_the_host();
	munmap(p, bytes);
	say("balloon: freed");
	wait_for_the_host();
}

/* KiB in /proc/meminfo; 0: there is no such line. */
static uint64_t meminfo(const char *name)
{
	char text[4096];
	const char *at = read_text("/proc/meminfo", text, sizeof(text)) ? strstr(text, name) : NULL;

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

#define TOTAL	  "MemTotal:"
#define AVAILABLE "MemAvailable:"

/* A tenth of a second, so often. */
static unsigned patience(const struct checks *c)
{
	return 300 * (c->slow ? c->slow : 1);
}

/*
 * MIB: the driver has put so much into the balloon; the machine's memory is less by that, and the
 * kernel's own from the beginning: it is waited until it does not change any more.
 */
void group_inflated(struct checks *c, char *arg)
{
	uint64_t want = next_number(&arg) << 20, max = next_number(&arg) << 10;
	uint64_t total = 0, before = 0;
	unsigned still = 0;

	for (unsigned i = 0; i < patience(c) && still < 10; i++) {
		before = total;
		total = meminfo(TOTAL);
		still = total <= max - (want >> 10) && total == before ? still + 1 : 0;
		usleep(100000);
	}
	check(c, total != 0 && total <= max - (want >> 10), "balloon: inflated", "MemTotal %llu kB",
	      (unsigned long long)total);
}

/* The disk stays open: what is cached goes when nobody has it open. */
static bool fill_cache(void)
{
	static char block[1 << 16];
	int fd = open("/dev/vda", O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, block, sizeof(block))) > 0)
		;
	return n == 0;
}

/* Waits until more (or less) than `kib` can be had. */
static bool available(const struct checks *c, bool more, uint64_t kib)
{
	for (unsigned i = 0; i < patience(c); i++) {
		if ((meminfo(AVAILABLE) > kib) == more)
			return true;
		usleep(100000);
	}
	return false;
}

/* Every page is the program's own, all at once. */
static bool usable(uint64_t bytes)
{
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool good = p != MAP_FAILED;

	for (uint64_t i = 0; good && i < bytes; i += 4096)
		memcpy(p + i, &i, sizeof(i));
	for (uint64_t i = 0; good && i < bytes; i += 4096)
		good = memcmp(p + i, &i, sizeof(i)) == 0;
	if (p != MAP_FAILED)
		munmap(p, bytes);
	return good;
}

/*
 * MIB: memory is full of a disk's cache, so that the balloon has to take pages that are in use; the
 * host inflates it by so much when we say so, and then lets it go.
 */
void group_squeeze(struct checks *c, char *arg)
{
	uint64_t want = next_number(&arg) << 10, before;

	if (!check(c, fill_cache(), "balloon: cache", "/dev/vda cannot be read"))
		return;
	before = meminfo(AVAILABLE);
	say("balloon: full, %llu KiB available", (unsigned long long)before);
	check(c, available(c, false, before - want / 4 * 3), "balloon: squeezed",
	      "MemAvailable %llu kB, before %llu", (unsigned long long)meminfo(AVAILABLE),
	      (unsigned long long)before);
	say("balloon: the host may look");
	check(c, available(c, true, before - want / 4), "balloon: let go",
	      "MemAvailable %llu kB, before %llu", (unsigned long long)meminfo(AVAILABLE),
	      (unsigned long long)before);
	check(c, usable(want << 10), "balloon: memory is there again", "it is not");
}
