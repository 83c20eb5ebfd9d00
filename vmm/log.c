/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines. Each is put together on the stack and leaves in one write(2), so that lines of several
 * threads do not mix; there is no lock and no buffer to flush.
 *
 * Lines that a guest can cause go through log_guest(), which bounds them in two ways: a budget per
 * limit object and second, and no waiting for whoever reads standard error (a guest must not be
 * able to stop the VMM by filling a pipe that nobody empties). The counters of a limit are
 * independent relaxed atomics: threads that meet at the turn of a second may let a line more or
 * less through, which does not matter.
 */
#include "minivm/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_TEXT_MAX 1024
#define LOG_NOTE_MAX 64

static const char *const log_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};
#define LOG_LEVELS (sizeof(log_names) / sizeof(log_names[0]))

int log_level_parse(const char *name)
{
	for (unsigned i = 0; i < LOG_LEVELS; i++)
		if (!strcmp(name, log_names[i]))
			return (int)i;
	return -1;
}

const char *log_level_name(enum log_level level)
{
	return (unsigned)level < LOG_LEVELS ? log_names[level] : NULL;
}

/* A line that may be written to a terminal and stays one line. */
static void log_sanitize(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static void log_write(const struct log *log, enum log_level level, const char *fmt, va_list args,
		      uint64_t dropped)
{
	char line[LOG_TEXT_MAX + LOG_NOTE_MAX + 32]; /* and the prefix and the line's end */
	char text[LOG_TEXT_MAX];
	char note[LOG_NOTE_MAX] = "";
	const char *name = level == LOG_LEVEL_WARN ? "warning" : log_names[level];
	int len;

	vsnprintf(text, sizeof(text), fmt, args);
	log_sanitize(text);
	if (dropped > 0)
		snprintf(note, sizeof(note), " (%llu similar lines dropped)",
			 (unsigned long long)dropped);
	len = snprintf(line, sizeof(line), "minivm: %s: %s%s%s", name, text, note,
		       log->crlf ? "\r\n" : "\n");
	/* Nobody can be told that the log is gone. */
	(void)!write(log->fd, line, (size_t)len);
}

void log_msg(const struct log *log, enum log_level level, const char *fmt, ...)
{
	va_list args;

	if (level > log->level)
		return;
	va_start(args, fmt);
	log_write(log, level, fmt, args, 0);
	va_end(args);
}

/* Takes one line from the budget of this second. */
static bool log_limit_take(struct log_limit *limit)
{
	struct timespec now;
	uint64_t window = atomic_load_explicit(&limit->window, memory_order_relaxed);

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (window != (uint64_t)now.tv_sec &&
	    atomic_compare_exchange_strong_explicit(&limit->window, &window, (uint64_t)now.tv_sec,
						    memory_order_relaxed, memory_order_relaxed))
		atomic_store_explicit(&limit->used, 0, memory_order_relaxed);
	/* Read first: a guest must not be able to wrap the count around. */
	if (atomic_load_explicit(&limit->used, memory_order_relaxed) >= LOG_LIMIT_BURST)
		return false;
	return atomic_fetch_add_explicit(&limit->used, 1, memory_order_relaxed) < LOG_LIMIT_BURST;
}

void log_guest(const struct log *log, struct log_limit *limit, enum log_level level,
	       const char *fmt, ...)
{
	struct pollfd pfd = {.fd = log->fd, .events = POLLOUT};
	va_list args;

	if (level > log->level)
		return;
	if (!log_limit_take(limit) || poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT)) {
		atomic_fetch_add_explicit(&limit->dropped, 1, memory_order_relaxed);
		return;
	}
	va_start(args, fmt);
	log_write(log, level, fmt, args,
		  atomic_exchange_explicit(&limit->dropped, 0, memory_order_relaxed));
	va_end(args);
}
