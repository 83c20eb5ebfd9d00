/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes through the console, both ways. The host has the same content and compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "checks.h"
#include "../content.h"

void group_echo(struct checks *c, char *arg)
{
	uint64_t count = next_number(&arg);
	char line[4096];

	say("ready");
	for (uint64_t i = 0; i < count; i++) {
		if (!fgets(line, sizeof(line), stdin)) {
			check(c, false, "lines from the console", "end of input after %llu lines",
			      (unsigned long long)i);
			return;
		}
		line[strcspn(line, "\r\n")] = '\0';
		say("echo: %s", line);
	}
}

/* Raw, or the terminal would hold back what is no whole line and answer for us. */
static bool raw(struct termios *old)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, old))
		return false;
	t = *old;
	t.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT);
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
	return tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
}

void group_sum(struct checks *c, char *arg)
{
	uint64_t want = next_number(&arg), got = 0, hash = CONTENT_HASH_START;
	struct termios old;
	char buf[4096];

	if (!check(c, raw(&old), "the console is a terminal", "tcgetattr() or tcsetattr() failed"))
		return;
	say("ready");
	while (got < want) {
		size_t len = want - got < sizeof(buf) ? (size_t)(want - got) : sizeof(buf);
		ssize_t n = read(STDIN_FILENO, buf, len);

		if (n <= 0)
			break;
		hash = content_hash(hash, buf, (size_t)n);
		got += (uint64_t)n;
	}
	tcsetattr(STDIN_FILENO, TCSANOW, &old);
	say("sum: %llu bytes %016llx", (unsigned long long)got, (unsigned long long)hash);
}

void group_lines(struct checks *c, char *arg)
{
	uint64_t count = next_number(&arg);
	char line[CONTENT_LINE_MAX];

	(void)c;
	for (uint64_t i = 0; i < count; i++) {
		content_line(line, i);
		say("%s", line);
	}
}

void group_flood(struct checks *c, char *arg)
{
	(void)c;
	(void)arg;
	for (;;)
		say("flood: the quick brown fox jumps over the lazy dog, again and again");
}
