/* SPDX-License-Identifier: Apache-2.0 */
/* Lines are flushed at once, so that a run that is cut short shows how far it came. */
#include "tap.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void line(const char *prefix, const char *fmt, va_list ap)
{
	fputs(prefix, stdout);
	vprintf(fmt, ap);
}

void tap_ok(struct tap *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line("ok - ", fmt, ap);
	va_end(ap);
	puts("");
	fflush(stdout);
	t->passed++;
}

void tap_fail(struct tap *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line("not ok - ", fmt, ap);
	va_end(ap);
	puts("");
	fflush(stdout);
	t->failed++;
}

void tap_skip(struct tap *t, const char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line("ok - ", fmt, ap);
	va_end(ap);
	printf(" # skipped: %s\n", why);
	fflush(stdout);
	t->skipped++;
}

void tap_note(const char *text)
{
	bool at_start = true;

	for (; text && *text; text++) {
		if (*text == '\r')
			continue;
		if (at_start)
			fputs("# ", stdout);
		putchar(*text);
		at_start = *text == '\n';
	}
	if (!at_start)
		putchar('\n');
	fflush(stdout);
}

int tap_done(const struct tap *t)
{
	printf("%u passed, %u failed, %u skipped\n", t->passed, t->failed, t->skipped);
	fflush(stdout);
	return t->failed ? 1 : 0;
}
