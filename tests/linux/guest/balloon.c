/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes back to the host. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checks.h"

/* MIB: uses so much, says so, frees it, and says when the host may look: after SECONDS. */
void group_balloon(struct checks *c, char *arg)
{
	uint64_t bytes = next_number(&arg) << 20;
	unsigned seconds = (unsigned)next_number(&arg);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!check(c, p != MAP_FAILED, "balloon: memory", "no %llu bytes",
		   (unsigned long long)bytes))
		return;
	memset(p, 0x5a, bytes);
	say("balloon: used");
	sleep(seconds); /* the host looks */
	munmap(p, bytes);
	say("balloon: freed");
	/* Linux reports what has been free for two seconds. */
	sleep(seconds + 6 * c->slow);
	say("balloon: waited");
	sleep(seconds);
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
	char text[4096], *at;

	for (unsigned i = 0; i < 100 * (c->slow ? c->slow : 1) && still < 10; i++) {
		before = total;
		if (read_text("/proc/meminfo", text, sizeof(text)) &&
		    (at = strstr(text, "MemTotal:"))) {
			total = 0;
			for (at += 9; *at == ' '; at++)
				;
			for (; *at >= '0' && *at <= '9'; at++)
				total = total * 10 + (uint64_t)(*at - '0');
		}
		still = total <= max - (want >> 10) && total == before ? still + 1 : 0;
		usleep(100000);
	}
	check(c, total != 0 && total <= max - (want >> 10), "balloon: inflated", "MemTotal %llu kB",
	      (unsigned long long)total);
}
