/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of the configuration: `--disk PATH[,WORD[=VALUE]]...` and the keys of [disk NAME] sections.
 * One table of words serves both, and the man page.
 *
 * A comma ends a part; a comma that belongs to a path or value is written twice. Read from left to
 * right: `a,,b` is the path "a,b", `a,,,ro` is the path "a," and the word ro.
 */
#include "minivm/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_yes_no(const char *text, bool *out, struct err *err)
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

static int set_path(struct disk_config *disk, const char *text, const char *dir, struct err *err)
{
	return config_copy_path(&disk->path, text, dir, err);
}

static int set_readonly(struct disk_config *disk, const char *text, const char *dir,
			struct err *err)
{
	(void)dir;
	return parse_yes_no(text, &disk->readonly, err);
}

int config_set_disk_id(struct disk_config *disk, const char *text, const char *dir, struct err *err)
{
	static const char alphabet[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	char quoted[CONFIG_QUOTE_MAX];
	size_t len = strlen(text);

	(void)dir;
	if (len > CONFIG_DISK_ID_MAX || strspn(text, alphabet) != len)
		return err_set(
		    err, EINVAL,
		    "%s is not a disk's name; it has 1 to %d letters, digits, \".\", \"_\", \"-\"",
		    config_quote(quoted, text), CONFIG_DISK_ID_MAX);
	return config_copy_path(&disk->id, text, NULL, err);
}

/* Formats are said, never guessed from contents that a guest can write; there is one so far. */
static int set_format(struct disk_config *disk, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	(void)disk;
	(void)dir;
	if (strcmp(text, "raw") != 0)
		return err_set(err, EINVAL, "%s is not a format that minivm knows; it knows raw",
			       config_quote(quoted, text));
	return 0;
}

static int set_overlay(struct disk_config *disk, const char *text, const char *dir, struct err *err)
{
	(void)dir;
	return parse_yes_no(text, &disk->overlay, err);
}

static int set_overlay_file(struct disk_config *disk, const char *text, const char *dir,
			    struct err *err)
{
	disk->overlay = true;
	return config_copy_path(&disk->overlay_file, text, dir, err);
}

static int set_overlay_word(struct disk_config *disk, const char *text, const char *dir,
			    struct err *err)
{
	return text != NULL ? set_overlay_file(disk, text, dir, err)
			    : set_overlay(disk, text, dir, err);
}

static const struct disk_word disk_words[] = {
    {
	.key = "path",
	.values = "FILE",
	.help = "the image file or block device",
	.set = set_path,
    },
    {
	.word = "ro",
	.key = "readonly",
	.values = "yes|no",
	.help = "the guest may only read; enforced on the host, the file is not opened for writing",
	.set = set_readonly,
    },
    {
	.word = "id",
	.arg = "NAME",
	.help = "the disk's serial number in the guest (/dev/disk/by-id/virtio-NAME), at most 20 "
		"letters, digits, \".\", \"_\", \"-\"; without it disk0, disk1, ...",
	.set = config_set_disk_id,
    },
    {
	.word = "format",
	.key = "format",
	.arg = "raw",
	.values = "raw",
	.help = "the format of the image; raw is the only one and the default. It is never guessed",
	.set = set_format,
    },
    {
	.word = "overlay",
	.arg = "[FILE]",
	.help =
	    "writes go to a layer, the image itself is never written; without FILE the layer is "
	    "thrown away at the end, with FILE it is kept there, and made if it is missing",
	.set = set_overlay_word,
    },
    {
	.key = "overlay",
	.values = "yes|no",
	.help = "writes go to a layer that is thrown away at the end",
	.set = set_overlay,
    },
    {
	.key = "overlay-file",
	.values = "FILE",
	.help = "writes go to a layer that is kept in this file",
	.set = set_overlay_file,
    },
};

#define DISK_WORDS (sizeof(disk_words) / sizeof(disk_words[0]))

const struct disk_word *config_disk_words(size_t *count)
{
	*count = DISK_WORDS;
	return disk_words;
}

/* For config_suggest(): the words of --disk, those that are keys only left out. */
static const char *word_name(const void *ctx, size_t i)
{
	(void)ctx;
	for (size_t k = 0; k < DISK_WORDS; k++) {
		if (disk_words[k].word != NULL && i-- == 0)
			return disk_words[k].word;
	}
	return NULL;
}

static int unknown_word(const char *word, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	const char *guess = config_suggest(word, word_name, NULL);

	err_set(err, EINVAL, "%s is not one of ro, id=NAME, format=raw, overlay[=FILE]",
		config_quote(quoted, word));
	if (guess != NULL)
		err_hint(err, "did you mean %s?", guess);
	return err_hint(err, "a comma in a path is written twice");
}

static int apply_word(struct disk_config *disk, const struct disk_word *w, const char *value,
		      const char *dir, struct err *err)
{
	bool optional = w->arg != NULL && w->arg[0] == '[';
	int rc;

	if (value != NULL && w->arg == NULL)
		return err_set(err, EINVAL, "%s takes no value", w->word);
	if (value == NULL && w->arg != NULL && !optional)
		return err_set(err, EINVAL, "%s needs a value: %s=%s", w->word, w->word, w->arg);
	if (value != NULL && *value == '\0')
		return err_set(err, EINVAL, "%s= has an empty value", w->word);
	rc = w->set(disk, value, dir, err);
	return rc < 0 ? err_context(err, "%s", w->word) : 0;
}

/* One part behind the path; `seen` has a bit for each word that was there already. */
static int parse_part(struct disk_config *disk, char *part, unsigned *seen, const char *dir,
		      struct err *err)
{
	char *value = strchr(part, '=');

	if (*part == '\0')
		return err_set(err, EINVAL, "there is nothing behind a comma");
	if (value != NULL)
		*value++ = '\0';
	for (size_t i = 0; i < DISK_WORDS; i++) {
		if (disk_words[i].word == NULL || strcmp(part, disk_words[i].word) != 0)
			continue;
		if (*seen & 1u << i)
			return err_set(err, EINVAL, "%s is there twice", part);
		*seen |= 1u << i;
		return apply_word(disk, &disk_words[i], value, dir, err);
	}
	return unknown_word(part, err);
}

int config_check_disk(const struct disk_config *disk, struct err *err)
{
	if (disk->path == NULL)
		return err_set(err, EINVAL, "no path is given");
	if (disk->overlay_file != NULL && !disk->overlay)
		return err_set(err, EINVAL, "overlay = no and overlay-file exclude each other");
	if (disk->readonly && disk->overlay)
		return err_set(err, EINVAL,
			       "a read-only disk has no overlay: nothing would be written to it");
	return 0;
}

struct disk_config *config_add_disk(struct vm_config *config, struct err *err)
{
	struct disk_config *disk;

	if (config->disk_count == CONFIG_DISKS_MAX) {
		err_set(err, EINVAL, "a machine has at most %d disks", CONFIG_DISKS_MAX);
		return NULL;
	}
	disk = &config->disk[config->disk_count++];
	*disk = (struct disk_config){0};
	return disk;
}

int config_set_disk(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = config_add_disk(config, err);
	char quoted[CONFIG_QUOTE_MAX];
	char *copy, *rest, *part;
	unsigned seen = 0;
	int rc;

	if (disk == NULL)
		return err->code;
	copy = strdup(text);
	if (copy == NULL)
		return err_sys(err, ENOMEM, "a disk");
	rest = copy;
	part = config_next_part(&rest);
	rc = *part != '\0' ? set_path(disk, part, dir, err)
			   : err_set(err, EINVAL, "the path in front of the first comma is empty");
	while (rc == 0 && (part = config_next_part(&rest)) != NULL)
		rc = parse_part(disk, part, &seen, dir, err);
	if (rc == 0)
		rc = config_check_disk(disk, err);
	free(copy);
	return rc < 0 ? err_context(err, "%s", config_quote(quoted, text)) : 0;
}
