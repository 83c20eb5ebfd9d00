/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's disks: image, copy-on-write layer, virtio-blk device and the thread that serves it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "machine_priv.h"

int board_plan_disks(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->config->disk_count; i++) {
		ret = board_slot_take(m, &m->disk[i].slot, err);
		if (ret)
			err_context(err, "disk %s", m->config->disk[i].path);
	}
	return ret;
}

/*
 * A restored machine believes that its disks are as they were. Of an image that the user has put in
 * the place of the saved one only the user can know.
 */
static int check_image(const struct disk_config *config, const struct block *image,
		       const struct snapshot_disk *saved, struct err *err)
{
	if (strcmp(config->path, saved->path) != 0 || image->mtime_ns == saved->mtime_ns)
		return 0;
	err_set(err, ESTALE, "disk %s: it was written since the machine was saved", config->path);
	return err_hint(err, "--disk %s=PATH takes a copy that was made at that time", config->id);
}

int board_open_images(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->config->disk_count; i++) {
		const struct disk_config *config = &m->config->disk[i];

		ret = block_raw_open(config->path, config->readonly || config->overlay,
				     &m->disk[i].image, err);
		if (!ret && m->restore)
			ret = check_image(config, m->disk[i].image, &m->restore->disk[i], err);
	}
	return ret;
}

/* Puts the layer over the image, if there is to be one. */
static int add_layer(const struct disk_config *config, struct board_disk *disk, struct err *err)
{
	struct block *layered;
	int ret;

	if (!config->overlay)
		return 0;
	ret = block_overlay_open(disk->image, config->path, config->overlay_file, &layered, err);
	if (!ret)
		disk->image = layered;
	return ret;
}

/*
 * A restored disk gets a layer of its own that begins as a copy of the saved one: a throw-away
 * layer, whatever the saved machine had, unless this command line names a file for it.
 */
static int restore_layer(const struct disk_config *config, struct board_disk *disk,
			 const struct snapshot_disk *saved, struct err *err)
{
	int ret;

	if (config->overlay_file && access(config->overlay_file, F_OK) == 0)
		return err_set(err, EEXIST,
			       "overlay %s: is there already; a restored disk begins a new one",
			       config->overlay_file);
	ret = add_layer(config, disk, err);
	if (ret || !config->overlay || !saved->layer)
		return ret;
	return block_overlay_load(disk->image, saved->layer, config->path, err);
}

static int add_disk(struct machine *m, unsigned index, struct err *err)
{
	const struct disk_config *config = &m->config->disk[index];
	struct board_disk *disk = &m->disk[index];
	struct virtio_blk_options opt = {.id = config->id, .log = m->log};
	char name[16];
	int ret = m->restore ? restore_layer(config, disk, &m->restore->disk[index], err)
			     : add_layer(config, disk, err);

	if (ret)
		return ret;
	snprintf(name, sizeof(name), "disk%u", index);
	ret = iothread_init(&disk->io, name, err);
	if (ret)
		return ret;
	opt.backend = disk->image;
	ret = virtio_blk_new(&opt, &disk->blk, err);
	if (ret) {
		iothread_destroy(&disk->io);
		return ret;
	}
	disk->image = NULL;	   /* the device's now */
	m->disk_count = index + 1; /* from here board_remove_disks() takes it down */
	return board_slot_plug(m, disk->slot, &virtio_blk_ops, disk->blk, disk->io.loop, err);
}

int board_add_disks(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->config->disk_count; i++) {
		ret = add_disk(m, i, err);
		if (ret)
			err_context(err, "disk %s", m->config->disk[i].path);
	}
	return ret;
}

int board_start_disks(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && i < m->disk_count; i++)
		ret = iothread_start(&m->disk[i].io, err);
	return ret;
}

void board_stop_disks(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->disk_count; i++)
		iothread_stop(&m->disk[i].io);
}

void board_remove_disks(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->disk_count; i++) {
		board_slot_unplug(m->disk[i].slot);
		iothread_destroy(&m->disk[i].io);
	}
	for (i = 0; i < m->config->disk_count; i++)
		block_close(m->disk[i].image);
}
