/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes through the console, both ways. The host has the same content and compares. */
#include <errno.h>
#include <fcntl.h>
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

/* A line of a port; nobody may be at its other end yet: then there is nothing to read. */
static size_t port_read(int fd, char *line, size_t size, uint64_t end)
{
	size_t len = 0;

	while (len < size && (len == 0 || line[len - 1] != '\n') && now_ns() < end) {
		ssize_t n = read(fd, line + len, size - len);

		if (n > 0)
			len += (size_t)n;
		else
			usleep(20000);
	}
	return len;
}

/* Linux may have the bytes before it has the news that somebody is there: EAGAIN then. */
static bool port_write(int fd, const char *line, size_t len, uint64_t end)
{
	ssize_t n;

	while ((n = write(fd, line, len)) < 0 && errno == EAGAIN && now_ns() < end)
		usleep(20000);
	return n == (ssize_t)len;
}

void group_port(struct checks *c, char *arg)
{
	uint64_t end = now_ns() + 20000000000ull * c->slow;
	char path[64], line[128];
	bool sent;
	size_t len;
	int fd;

	snprintf(path, sizeof(path), "/dev/virtio-ports/%s", next_field(&arg));
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (!check(c, fd >= 0, "a port", "%s: %s", path, strerror(errno)))
		return;
	say("port: waiting");
	len = port_read(fd, line, sizeof(line), end);
	sent = len > 0 && port_write(fd, line, len, end);
	check(c, sent, "a line through a port", "%zu bytes, %s", len, strerror(errno));
	close(fd);
}
