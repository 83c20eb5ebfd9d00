/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setup errors: a code plus a context chain that ends in one line.
 *
 * Every function that can fail while the machine is being set up takes a `struct err *` last and
 * returns 0 or -errno. The callee that notices the failure sets the text, each caller on the way
 * out may put its own context in front, and main() prints the line:
 *
 *	minivm: disk root.img: open: Permission denied; is it readable by you?
 *
 * An `err` is never NULL. The text is truncated, never overrun.
 */
#ifndef MINIVM_ERR_H
#define MINIVM_ERR_H

#define ERR_TEXT_MAX 1024

struct err {
	int code;		 /* negative errno, 0 = no error */
	char text[ERR_TEXT_MAX]; /* one line, no newline at the end */
};

/* Sets the text. `code` is a positive errno value. Returns -code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set(), with ": " and strerror(code) appended. Returns -code. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the text. Returns err->code (negative). */
int err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Appends "; hint": what to try. Returns err->code (negative). */
int err_hint(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Tells the analyzer what it cannot see from here: these never return 0. */
#ifdef __clang_analyzer__
#define err_set(err, code, ...) (err_set(err, code, __VA_ARGS__), -1)
#define err_sys(err, code, ...) (err_sys(err, code, __VA_ARGS__), -1)
#endif

#endif
