// SPDX-License-Identifier: Apache-2.0
#include "words.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Cut the next word off *@rest, or return NULL. A quote may stand before the word or before its
 * value, and goes; one elsewhere stays, but keeps white space all the same (the kernel's
 * next_arg() does it like this).
 */
static char *next_word(char **rest, char **value)
{
	char *p = *rest, *word, *end, *equals = NULL;
	bool quoted = false, open;

	while (is_space(*p))
		p++;
	if (!*p)
		return NULL;
	if (*p == '"') {
		quoted = true;
		p++;
	}
	word = p;
	for (open = quoted; *p && (open || !is_space(*p)); p++) {
		if (*p == '"')
			open = !open;
		else if (*p == '=' && !equals)
			equals = p;
	}
	end = p;
	*rest = *p ? p + 1 : p;
	*end = '\0';

	*value = NULL;
	if (equals) {
		*equals = '\0';
		*value = equals + 1;
		if (**value == '"') {
			(*value)++;
			quoted = true;
		}
	}
	if (quoted && end > word && end[-1] == '"')
		end[-1] = '\0';
	return word;
}

static bool parse_number(const char *text, unsigned int max, unsigned int *number)
{
	unsigned int n = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = n * 10 + (unsigned int)(*text - '0');
		if (n > max)
			return false;
	}
	*number = n;
	return true;
}

/* The words without a value. */
static bool *flag_of(struct words *w, const char *name)
{
	if (!strcmp(name, "dsr"))
		return &w->dsr;
	if (!strcmp(name, "agent"))
		return &w->agent;
	if (!strcmp(name, "balloon"))
		return &w->balloon;
	return NULL;
}

/* False for a word that is not known or whose value cannot be. */
static bool take_word(struct words *w, const char *name, char *value)
{
	bool *flag = flag_of(w, name);

	if (flag) {
		*flag = !value;
		return !value;
	}
	if (!value || !*value)
		return false;
	if (!strcmp(name, "exec"))
		w->exec = value;
	else if (!strcmp(name, "sh"))
		w->sh = value;
	else if (!strcmp(name, "hostname"))
		w->hostname = value;
	else if (!strcmp(name, "console"))
		w->console = value;
	else if (!strcmp(name, "grace"))
		return parse_number(value, WORDS_MAX_GRACE, &w->grace);
	else if (!strcmp(name, "ports"))
		return parse_number(value, WORDS_MAX_PORTS, &w->ports);
	else
		return false;
	return true;
}

void words_parse(struct words *w, char *line)
{
	static const char prefix[] = "minivm.";
	char *word, *value;

	memset(w, 0, sizeof(*w));
	w->grace = WORDS_DEFAULT_GRACE;
	while ((word = next_word(&line, &value))) {
		if (!value && !strcmp(word, "--"))
			break;
		if (strncmp(word, prefix, sizeof(prefix) - 1) != 0)
			continue;
		if (!take_word(w, word + sizeof(prefix) - 1, value) && !w->bad)
			w->bad = word;
	}
	while (word && next_word(&line, &value))
		w->args++;
}

int words_exit_status(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return EXIT_SIGNAL_BASE + WTERMSIG(wait_status);
	return WEXITSTATUS(wait_status);
}

int words_exec_failure(int err)
{
	return err == ENOENT || err == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}
