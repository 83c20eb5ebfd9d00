/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help for messages about the user's words: quoting what was typed, guessing what was meant. And
 * paths, which are relative to the place that named them, and values of several parts.
 */
#include "minivm/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *config_quote(char buf[CONFIG_QUOTE_MAX], const char *text)
{
	const size_t room = CONFIG_QUOTE_MAX - sizeof("\"...\"");

	if (strlen(text) <= room)
		snprintf(buf, CONFIG_QUOTE_MAX, "\"%s\"", text);
	else
		snprintf(buf, CONFIG_QUOTE_MAX, "\"%.*s...\"", (int)room, text);
	return buf;
}

#define SUGGEST_MAX 32 /* longer words are no slips of ours */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein distance, one row at a time; both strings are at most SUGGEST_MAX bytes long. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[SUGGEST_MAX + 1];
	size_t len_b = strlen(b);

	for (size_t j = 0; j <= len_b; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i + 1;
		for (size_t j = 0; j < len_b; j++) {
			unsigned above = row[j + 1];

			row[j + 1] = min3(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
			diagonal = above;
		}
	}
	return row[len_b];
}

const char *config_suggest(const char *text, config_name_fn *name, const void *ctx)
{
	const char *best = NULL;
	size_t len = strlen(text);
	unsigned best_distance = 1 + (unsigned)len / 3; /* what still counts as a slip */

	if (len == 0 || len > SUGGEST_MAX)
		return NULL;
	for (size_t i = 0; name(ctx, i) != NULL; i++) {
		const char *n = name(ctx, i);
		unsigned d = strlen(n) <= SUGGEST_MAX ? distance(text, n) : best_distance + 1;

		if (len >= 3 && strncmp(n, text, len) == 0)
			d = 0; /* the beginning of a name: "mem" for "memory" */
		if (d <= best_distance && (best == NULL || d < best_distance)) {
			best = n;
			best_distance = d;
		}
	}
	return best;
}

static bool is_double(config_name_fn *name, const void *ctx, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(name(ctx, k), name(ctx, i)) == 0)
			return true;
	}
	return false;
}

const char *config_list_names(char *buf, size_t size, config_name_fn *name, const void *ctx)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; name(ctx, i) != NULL && used < size; i++) {
		if (is_double(name, ctx, i))
			continue;
		used += (size_t)snprintf(buf + used, size - used, "%s%s", used > 0 ? ", " : "",
					 name(ctx, i));
	}
	return buf;
}

int config_copy_path(char **field, const char *text, const char *dir, struct err *err)
{
	char *path;

	if (dir == NULL || text[0] == '/')
		path = strdup(text);
	else if (asprintf(&path, "%s/%s", dir, text) < 0)
		path = NULL;
	if (path == NULL)
		return err_sys(err, ENOMEM, "a path");
	free(*field);
	*field = path;
	return 0;
}

char *config_next_part(char **rest)
{
	char *part = *rest, *to = *rest;

	if (part == NULL)
		return NULL;
	for (char *from = part; *from != '\0'; from++) {
		if (*from == ',' && from[1] != ',') {
			*rest = from + 1;
			*to = '\0';
			return part;
		}
		if (*from == ',')
			from++;
		*to++ = *from;
	}
	*to = '\0';
	*rest = NULL;
	return part;
}
