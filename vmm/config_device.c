/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of the configuration, whatever their kind: the value of an option like `--disk`, and what
 * their names have in common.
 *
 * A comma ends a part; a comma that belongs to a path or value is written twice. Read from left to
 * right: `a,,b` is "a,b", `a,,,ro` is "a," and the word ro.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/config.h"

const struct config_kind *const config_device_kinds[CONFIG_DEVICE_KINDS] = {
    &config_disk_kind,
    &config_net_kind,
};

int config_parse_yes_no(const char *text, bool *out, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	if (text == NULL || strcmp(text, "yes") == 0)
		*out = true;
	else if (strcmp(text, "no") == 0)
		*out = false;
	else
		return err_set(err, EINVAL, "%s is not yes or no", config_quote(quoted, text));
	return 0;
}

/* --- names --- */

int config_set_device_id(char **id, const char *what, const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	size_t len = strlen(text);

	if (len > CONFIG_DISK_ID_MAX || strspn(text, CONFIG_NAME_ALPHABET) != len)
		return err_set(
		    err, EINVAL,
		    "%s is not %s's name; it has 1 to %d letters, digits, \".\", \"_\", \"-\"",
		    config_quote(quoted, text), what, CONFIG_DISK_ID_MAX);
	return config_copy_path(id, text, NULL, err);
}

static int check_ids(const struct vm_config *config, const struct config_kind *kind,
		     struct err *err)
{
	for (unsigned i = 0; i < kind->count(config); i++) {
		for (unsigned j = 0; j < i; j++) {
			if (strcmp(kind->id(config, i), kind->id(config, j)) == 0)
				return err_set(err, EINVAL,
					       "two %ss have the id \"%s\"; give one of them "
					       "another: id=NAME "
					       "(a %s without one is \"%sN\", counted from 0)",
					       kind->name, kind->id(config, i), kind->name,
					       kind->name);
		}
	}
	return 0;
}

int config_name_devices(struct vm_config *config, const struct config_kind *kind, struct err *err)
{
	for (unsigned i = 0; i < kind->count(config); i++) {
		char name[CONFIG_DISK_ID_MAX + 1];
		int rc;

		if (kind->id(config, i) != NULL)
			continue;
		snprintf(name, sizeof(name), "%s%u", kind->name, i);
		rc = kind->set_id(kind->at(config, i), name, NULL, err);
		if (rc < 0)
			return rc;
	}
	return check_ids(config, kind, err);
}

/* --- the value of an option --- */

/* For config_suggest(): the words of the option, those that are keys only left out. */
static const char *word_name(const void *ctx, size_t i)
{
	const struct config_kind *kind = ctx;

	for (size_t k = 0; k < kind->word_count; k++) {
		if (kind->words[k].word != NULL && i-- == 0)
			return kind->words[k].word;
	}
	return NULL;
}

/* "ro, id=NAME, overlay[=FILE]" */
static const char *list_words(char *buf, size_t size, const struct config_kind *kind)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < kind->word_count && used < size; i++) {
		const struct device_word *w = &kind->words[i];
		const char *arg = w->arg != NULL ? w->arg : "";

		if (w->word == NULL)
			continue;
		used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s", used > 0 ? ", " : "",
					 w->word,
					 *arg == '\0'  ? ""
					 : *arg == '[' ? "[="
						       : "=",
					 *arg == '[' ? arg + 1 : arg);
	}
	return buf;
}

static int unknown_word(const struct config_kind *kind, const char *word, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX], list[256];
	const char *guess = config_suggest(word, word_name, kind);

	err_set(err, EINVAL, "%s is not one of %s", config_quote(quoted, word),
		list_words(list, sizeof(list), kind));
	if (guess != NULL)
		err_hint(err, "did you mean %s?", guess);
	return kind->hint != NULL ? err_hint(err, "%s", kind->hint) : err->code;
}

static int apply_word(void *device, const struct device_word *w, const char *value, const char *dir,
		      struct err *err)
{
	bool optional = w->arg != NULL && w->arg[0] == '[';
	int rc;

	if (value != NULL && w->arg == NULL)
		return err_set(err, EINVAL, "%s takes no value", w->word);
	if (value == NULL && w->arg != NULL && !optional)
		return err_set(err, EINVAL, "%s needs a value: %s=%s", w->word, w->word, w->arg);
	if (value != NULL && *value == '\0')
		return err_set(err, EINVAL, "%s= has an empty value", w->word);
	rc = w->set(device, value, dir, err);
	return rc < 0 ? err_context(err, "%s", w->word) : 0;
}

/* One word with its value; `seen` has a bit for each that was there already. */
static int parse_part(const struct config_kind *kind, void *device, char *part, uint32_t *seen,
		      const char *dir, struct err *err)
{
	char *value = strchr(part, '=');

	if (*part == '\0')
		return err_set(err, EINVAL, "there is nothing behind a comma");
	if (value != NULL)
		*value++ = '\0';
	for (size_t i = 0; i < kind->word_count; i++) {
		const struct device_word *w = &kind->words[i];

		if (w->word == NULL || strcmp(part, w->word) != 0)
			continue;
		if ((*seen & 1u << i) && !w->repeat)
			return err_set(err, EINVAL, "%s is there twice", part);
		*seen |= 1u << i;
		return apply_word(device, w, value, dir, err);
	}
	return unknown_word(kind, part, err);
}

static int parse_first(const struct config_kind *kind, void *device, char *part, uint32_t *seen,
		       const char *dir, struct err *err)
{
	if (*part == '\0')
		return err_set(err, EINVAL, "the %s in front of the first comma is empty",
			       kind->first != NULL ? "path" : "word");
	return kind->first != NULL ? kind->first(device, part, dir, err)
				   : parse_part(kind, device, part, seen, dir, err);
}

int config_add_device(struct vm_config *config, const struct config_kind *kind, const char *text,
		      const char *dir, struct err *err)
{
	void *device = kind->add(config, err);
	char quoted[CONFIG_QUOTE_MAX];
	char *copy, *rest, *part;
	uint32_t seen = 0;
	int rc;

	if (device == NULL)
		return err->code;
	copy = strdup(text);
	if (copy == NULL)
		return err_sys(err, ENOMEM, "a %s", kind->name);
	rest = copy;
	rc = parse_first(kind, device, config_next_part(&rest), &seen, dir, err);
	while (rc == 0 && (part = config_next_part(&rest)) != NULL)
		rc = parse_part(kind, device, part, &seen, dir, err);
	if (rc == 0)
		rc = kind->check(device, err);
	free(copy);
	return rc < 0 ? err_context(err, "%s", config_quote(quoted, text)) : 0;
}

/* --- a restored machine's --- */

static void *find_device(struct vm_config *config, const struct config_kind *kind, const char *id,
			 size_t len)
{
	for (unsigned i = 0; i < kind->count(config); i++) {
		const char *has = kind->id(config, i);

		if (has != NULL && strncmp(has, id, len) == 0 && has[len] == '\0')
			return kind->at(config, i);
	}
	return NULL;
}

int config_replace_device(struct vm_config *config, const struct config_kind *kind,
			  const char *text, const char *dir, struct err *err)
{
	const char *equals = strchr(text, '=');
	char quoted[CONFIG_QUOTE_MAX];
	struct vm_config scratch = {0};
	void *device;
	int rc;

	if (equals == NULL || equals == text || equals[1] == '\0')
		return err_set(err, EINVAL, "%s is not ID=%s", config_quote(quoted, text),
			       kind->replacement);
	device = find_device(config, kind, text, (size_t)(equals - text));
	if (device == NULL)
		return err_set(err, EINVAL, "%s: the saved machine has no such %s",
			       config_quote(quoted, text), kind->name);
	rc = config_add_device(&scratch, kind, equals + 1, dir, err);
	if (rc == 0 && kind->id(&scratch, 0) != NULL)
		rc = err_set(err, EINVAL, "%s: a %s keeps its id", config_quote(quoted, text),
			     kind->name);
	if (rc == 0)
		rc = kind->replace(device, kind->at(&scratch, 0), err);
	kind->clear(&scratch);
	return rc;
}
