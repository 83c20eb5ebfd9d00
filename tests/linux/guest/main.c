/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checks GROUP[=ARG]...: runs the groups in their order. Exit status 0: all is well, 1: a check
 * failed, 2: bad use. Some groups do not return (exit, die, hang, ...).
 *
 * "slow=N" in front tells how many times slower than usual the machine is: time limits grow with
 * it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"

struct group {
	const char *name;
	group_fn *run;
};

static void group_slow(struct checks *c, char *arg)
{
	c->slow = (unsigned)next_number(&arg);
	if (c->slow == 0)
		c->slow = 1;
}

static const struct group groups[] = {
    {"slow", group_slow},	{"cpus", group_cpus},		{"memory", group_memory},
    {"cpuinfo", group_cpuinfo}, {"uart", group_uart},		{"time", group_time},
    {"clock", group_clock},	{"forks", group_forks},		{"syscalls", group_syscalls},
    {"fpu", group_fpu},		{"signals", group_signals},	{"pages", group_pages},
    {"blk", group_blk},		{"blkrw", group_blkrw},		{"blkcheck", group_blkcheck},
    {"blkfill", group_blkfill}, {"blkro", group_blkro},		{"blkfull", group_blkfull},
    {"files", group_files},	{"mount", group_mount},		{"echo", group_echo},
    {"sum", group_sum},		{"lines", group_lines},		{"flood", group_flood},
    {"print", group_print},	{"exit", group_exit},		{"die", group_die},
    {"sysrq", group_sysrq},	{"reboot", group_reboot},	{"pid1", group_pid1},
    {"wait", group_wait},	{"term", group_term},		{"hang", group_hang},
    {"cmdline", group_cmdline}, {"describe", group_describe},	{"poweroff", group_poweroff},
    {"button", group_button},	{"unbind", group_unbind},	{"hwrng", group_hwrng},
    {"vsock", group_vsock},	{"vsockmove", group_vsockmove}, {"ping", group_ping},
    {"net", group_net},		{"netserve", group_netserve},	{"netdown", group_netdown},
    {"balloon", group_balloon}, {"inflated", group_inflated},	{"busy", group_busy},
    {"port", group_port},	{"busycheck", group_busycheck}, {"blkzero", group_blkzero},
    {"squeeze", group_squeeze},
};

static void put(const char *prefix, const char *fmt, va_list ap)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "%s", prefix);

	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	for (int done = 0; done < n;) {
		ssize_t w = write(STDOUT_FILENO, line + done, (size_t)(n - done));

		if (w < 0)
			return;
		done += (int)w;
	}
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put("", fmt, ap);
	va_end(ap);
}

bool check(struct checks *c, bool good, const char *name, const char *fmt, ...)
{
	char prefix[256];
	va_list ap;

	if (good) {
		c->passed++;
		say("ok - %s", name);
		return true;
	}
	c->failed++;
	snprintf(prefix, sizeof(prefix), "not ok - %s: ", name);
	va_start(ap, fmt);
	put(prefix, fmt, ap);
	va_end(ap);
	return false;
}

bool read_text(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && len + 1 < size) {
		ssize_t n = read(fd, buf + len, size - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

uint64_t read_number(const char *path, uint64_t none)
{
	char text[64];

	return read_text(path, text, sizeof(text)) && *text ? strtoull(text, NULL, 10) : none;
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

char *next_field(char **arg)
{
	char *field = *arg;
	char *end = field + strcspn(field, ",");

	*arg = *end ? end + 1 : end;
	*end = '\0';
	return field;
}

uint64_t next_number(char **arg)
{
	return strtoull(next_field(arg), NULL, 0);
}

static group_fn *find(const char *name)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (!strcmp(groups[i].name, name))
			return groups[i].run;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct checks c = {.slow = 1};
	static char none[] = "";

	/* group_forks() starts us again to see that exec works. */
	if (argc == 3 && !strcmp(argv[1], "child"))
		return atoi(argv[2]);
	for (int i = 1; i < argc; i++) {
		char *arg = strchr(argv[i], '=');
		group_fn *run;

		if (arg)
			*arg++ = '\0';
		run = find(argv[i]);
		if (!run) {
			say("checks: there is no group \"%s\"", argv[i]);
			return 2;
		}
		run(&c, arg ? arg : none);
	}
	say("done %u %u", c.passed, c.failed);
	return c.failed ? 1 : 0;
}
