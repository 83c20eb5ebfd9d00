/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on standard error: "minivm: warning: text". There is no global log: the object is made
 * by main() and handed down. All functions may be called from any thread; a line is one write(2).
 */
#ifndef MINIVM_LOG_H
#define MINIVM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

struct log {
	int fd;		      /* where the lines go, usually 2 */
	enum log_level level; /* lines above it are dropped */
	bool crlf; /* end lines with CR LF: the terminal is in raw mode (term_raw() said so) */
};

/*
 * For messages that a guest can cause: at most LOG_LIMIT_BURST lines per limit object and second;
 * what was dropped is said in the next line that goes through. Zero-initialise.
 */
#define LOG_LIMIT_BURST 5
struct log_limit {
	_Atomic uint64_t window; /* CLOCK_MONOTONIC_COARSE second of the current window */
	_Atomic uint32_t used;	 /* lines in this window */
	_Atomic uint64_t dropped;
};

/* The text is cut at 1 KiB; control characters in it become '?': it may quote a guest or a path. */
void log_msg(const struct log *log, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A line that the descriptor would not take at once is dropped and counted: it never blocks. */
void log_guest(const struct log *log, struct log_limit *limit, enum log_level level,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* "error", "warn", "info", "debug" <-> level; returns -1 / NULL when unknown. */
int log_level_parse(const char *name);
const char *log_level_name(enum log_level level);

#endif
