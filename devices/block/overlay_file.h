/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that hold an overlay's blocks; the format of a kept one is docs/overlay.md.
 */
#ifndef MINIVM_OVERLAY_FILE_H
#define MINIVM_OVERLAY_FILE_H

#include <stdint.h>

#include "minivm/block.h"
#include "minivm/err.h"

#define OVERLAY_BLOCK	  4096u
#define OVERLAY_MAP_PAGE  4096u /* the bitmap is written in such pieces */
#define OVERLAY_MAP_START 4096u

struct overlay_layout {
	uint64_t blocks;
	uint64_t map_bytes;  /* whole pages */
	uint64_t data_start; /* in the file */
	uint64_t file_bytes;
};

/* How a disk of `size` bytes lies in a layer file. */
struct overlay_layout overlay_layout(uint64_t size);

/* An unlinked file under $TMPDIR or /var/tmp, without header and bitmap. */
int overlay_file_temporary(int *fd, struct err *err);

/*
 * Opens the layer of `base` at `path` and locks it, or makes it. The bitmap is not looked at.
 * `base_path` is for messages.
 */
int overlay_file_open(const char *path, const struct block *base, const char *base_path, int *fd,
		      struct err *err);

/* An existing layer of `base`, for reading, shared with other readers. */
int overlay_file_open_saved(const char *path, const struct block *base, const char *base_path,
			    int *fd, struct err *err);

#endif
