/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line, built word by word. Control characters are refused: Linux would take a
 * newline for a space and print the rest to the console as it is.
 */
#include "minivm/boot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_word(const char *word, struct err *err)
{
	for (const char *p = word; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(err, EINVAL,
				       "command line: control character 0x%02x in '%s'",
				       (unsigned char)*p, word);
	}
	return 0;
}

/* Room for `len` bytes and the NUL. */
static int reserve(struct cmdline *c, size_t len, struct err *err)
{
	size_t cap = c->cap ? c->cap : 256;
	char *text;

	if (len + 1 > BOOT_CMDLINE_MAX)
		return err_set(err, E2BIG, "command line: longer than %d bytes",
			       BOOT_CMDLINE_MAX - 1);
	while (cap < len + 1)
		cap *= 2;
	if (cap == c->cap)
		return 0;
	text = realloc(c->text, cap);
	if (!text)
		return err_set(err, ENOMEM, "command line: no memory");
	c->text = text;
	c->cap = cap;
	return 0;
}

int cmdline_add(struct cmdline *c, struct err *err, const char *fmt, ...)
{
	char *word = NULL;
	size_t word_len, at;
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = vasprintf(&word, fmt, ap);
	va_end(ap);
	if (rc < 0)
		return err_set(err, ENOMEM, "command line: no memory");
	word_len = rc;
	rc = check_word(word, err);
	if (rc || word_len == 0)
		goto out;
	at = c->len ? c->len + 1 : 0;
	rc = reserve(c, at + word_len, err);
	if (rc)
		goto out;
	if (c->len)
		c->text[c->len] = ' ';
	memcpy(c->text + at, word, word_len + 1);
	c->len = at + word_len;
out:
	free(word);
	return rc;
}

void cmdline_free(struct cmdline *c)
{
	free(c->text);
	*c = (struct cmdline){0};
}
