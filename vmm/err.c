/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setup errors (include/minivm/err.h): one line of text that grows from the inside out.
 *
 * Theory of operation: every function formats into a buffer of its own first, so that a caller may
 * pass err->text itself as an argument, then joins the pieces with truncation. File names and other
 * strings of the user end up in the text; control characters in them are replaced, so that an error
 * stays one line and cannot drive the terminal.
 */
#include "minivm/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What err.h tells the analyzer is for callers. */
#undef err_set
#undef err_sys

/* Formats one piece; what a terminal would act upon becomes '?'. */
static void format_piece(char piece[ERR_TEXT_MAX], const char *fmt, va_list ap)
{
	if (vsnprintf(piece, ERR_TEXT_MAX, fmt, ap) < 0)
		piece[0] = '\0';
	for (char *p = piece; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
}

/* text = a + sep + b, truncated. None of the pieces may lie in err->text. */
static void join(struct err *err, const char *a, const char *sep, const char *b)
{
	const char *piece[] = {a, sep, b};
	size_t used = 0;

	for (unsigned i = 0; i < 3; i++) {
		size_t len = strnlen(piece[i], ERR_TEXT_MAX - 1 - used);

		memcpy(err->text + used, piece[i], len);
		used += len;
	}
	err->text[used] = '\0';
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	format_piece(text, fmt, ap);
	va_end(ap);
	err->code = -code;
	join(err, text, "", "");
	return err->code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	char reason_buf[128];
	va_list ap;

	va_start(ap, fmt);
	format_piece(text, fmt, ap);
	va_end(ap);
	err->code = -code;
	/* The GNU variant: thread-safe, returns the string. */
	join(err, text, ": ", strerror_r(code, reason_buf, sizeof(reason_buf)));
	return err->code;
}

int err_context(struct err *err, const char *fmt, ...)
{
	char context[ERR_TEXT_MAX];
	char old[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	format_piece(context, fmt, ap);
	va_end(ap);
	memcpy(old, err->text, sizeof(old));
	join(err, context, ": ", old);
	return err->code;
}

int err_hint(struct err *err, const char *fmt, ...)
{
	char hint[ERR_TEXT_MAX];
	char old[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	format_piece(hint, fmt, ap);
	va_end(ap);
	memcpy(old, err->text, sizeof(old));
	join(err, old, "; ", hint);
	return err->code;
}
