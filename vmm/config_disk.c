/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of the configuration: `--disk PATH[,WORD[=VALUE]]...` and the keys of [disk NAME] sections.
 */
#include "minivm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int set_path(void *device, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = device;

	return config_copy_path(&disk->path, text, dir, err);
}

static int set_readonly(void *device, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = device;

	(void)dir;
	return config_parse_yes_no(text, &disk->readonly, err);
}

static int set_id(void *device, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = device;

	(void)dir;
	return config_set_device_id(&disk->id, "a disk", text, err);
}

/* Formats are said, never guessed from contents that a guest can write; there is one so far. */
static int set_format(void *device, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	(void)device;
	(void)dir;
	if (strcmp(text, "raw") != 0)
		return err_set(err, EINVAL, "%s is not a format that minivm knows; it knows raw",
			       config_quote(quoted, text));
	return 0;
}

static int set_overlay(void *device, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = device;

	(void)dir;
	return config_parse_yes_no(text, &disk->overlay, err);
}

static int set_overlay_file(void *device, const char *text, const char *dir, struct err *err)
{
	struct disk_config *disk = device;

	disk->overlay = true;
	return config_copy_path(&disk->overlay_file, text, dir, err);
}

static int set_overlay_word(void *device, const char *text, const char *dir, struct err *err)
{
	return text != NULL ? set_overlay_file(device, text, dir, err)
			    : set_overlay(device, text, dir, err);
}

static const struct device_word disk_words[] = {
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
	.set = set_id,
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

static int check_disk(const void *device, struct err *err)
{
	const struct disk_config *disk = device;

	if (disk->path == NULL)
		return err_set(err, EINVAL, "no path is given");
	if (disk->overlay_file != NULL && !disk->overlay)
		return err_set(err, EINVAL, "overlay = no and overlay-file exclude each other");
	if (disk->readonly && disk->overlay)
		return err_set(err, EINVAL,
			       "a read-only disk has no overlay: nothing would be written to it");
	return 0;
}

static unsigned disk_count(const struct vm_config *config)
{
	return config->disk_count;
}

static void *disk_at(struct vm_config *config, unsigned i)
{
	return &config->disk[i];
}

static const char *disk_id(const struct vm_config *config, unsigned i)
{
	return config->disk[i].id;
}

static void *add_disk(struct vm_config *config, struct err *err)
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

/* It keeps its id, and how it is written if nothing was said. */
static int replace_disk(void *device, void *with, struct err *err)
{
	struct disk_config *disk = device, *fresh = with;
	char *id = disk->id;

	(void)err;
	if (!fresh->readonly && !fresh->overlay) {
		fresh->readonly = disk->readonly;
		fresh->overlay = disk->overlay;
	}
	free(disk->path);
	free(disk->overlay_file);
	*disk = *fresh;
	disk->id = id;
	*fresh = (struct disk_config){0};
	return 0;
}

const struct config_kind config_disk_kind = {
    .name = "disk",
    .words = disk_words,
    .word_count = sizeof(disk_words) / sizeof(disk_words[0]),
    .first = set_path,
    .hint = "a comma in a path is written twice",
    .count = disk_count,
    .at = disk_at,
    .id = disk_id,
    .set_id = set_id,
    .add = add_disk,
    .check = check_disk,
    .replacement = "PATH",
    .replace = replace_disk,
    .clear = config_clear_disks,
};

int config_set_disk(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	return config_add_device(config, &config_disk_kind, text, dir, err);
}

void config_clear_disks(struct vm_config *config)
{
	for (unsigned i = 0; i < config->disk_count; i++) {
		free(config->disk[i].path);
		free(config->disk[i].id);
		free(config->disk[i].overlay_file);
		config->disk[i] = (struct disk_config){0};
	}
	config->disk_count = 0;
}

int config_replace_disk(struct vm_config *config, const char *text, const char *dir,
			struct err *err)
{
	return config_replace_device(config, &config_disk_kind, text, dir, err);
}

int config_check_disks(const struct vm_config *config, struct err *err)
{
	for (unsigned i = 0; i < config->disk_count; i++) {
		const char *file = config->disk[i].overlay_file;

		for (unsigned j = 0; file && j < i; j++) {
			const char *other = config->disk[j].overlay_file;

			if (other && strcmp(file, other) == 0)
				return err_set(err, EINVAL,
					       "two disks have the overlay file %s; a layer serves "
					       "one disk",
					       file);
		}
	}
	return 0;
}
