/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write overlay: reads come from the layer where it has the block, else from the base;
 * writes go to the layer only.
 *
 * Theory of operation. The disk is a row of 4 KiB blocks; `map` has a bit for each that the layer
 * holds. A transfer is cut into runs of blocks that are treated alike, each run being one system
 * call. A block enters the layer whole: either the write covers it, or the rest is copied from the
 * base first. Its bit is set in memory once its data has been written, and in a kept layer's file
 * only by flush, behind an fdatasync of the data (docs/overlay.md, "What a crash leaves").
 *
 * The map is as large as the disk demands (32 KiB a GiB), but its pages are touched only where the
 * layer has blocks.
 *
 * System calls: those of io.c and overlay_file.c, ftruncate, fdatasync, close.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "minivm/block.h"
#include "minivm/file.h"
#include "overlay_file.h"

struct overlay {
	struct block block;
	struct block *base;
	int fd;
	bool kept;
	bool sync_failed;
	bool sized; /* the file is as long as the disk: holes at its end can be read */
	uint64_t data_start;
	uint64_t map_pages;
	uint8_t *map;	 /* a bit per block */
	bool *map_dirty; /* per page of the map: has bits that the file does not have */
};

/* --- the map --- */

static bool has(const struct overlay *o, uint64_t block)
{
	return (o->map[block / 8] & 1u << block % 8) != 0;
}

static void set_range(struct overlay *o, uint64_t from, uint64_t to)
{
	for (uint64_t block = from; block < to; block++) {
		if (has(o, block))
			continue;
		o->map[block / 8] |= (uint8_t)(1u << block % 8);
		o->map_dirty[block / 8 / OVERLAY_MAP_PAGE] = true;
	}
}

/* One past the last byte of the block on the disk; the last block may be short. */
static uint64_t block_end(const struct overlay *o, uint64_t block)
{
	uint64_t end = (block + 1) * OVERLAY_BLOCK;

	return end < o->block.size ? end : o->block.size;
}

/* --- reading --- */

static int read_base(struct overlay *o, struct block_cursor *c, size_t len, uint64_t off)
{
	struct iovec iov[BLOCK_IOV_MAX];
	size_t bytes;
	unsigned n = block_cursor_peek(c, len, iov, &bytes);
	int ret = o->base->ops->readv(o->base, iov, n, off);

	/* The whole transfer has no more buffers than that, so a part of it fits. */
	block_cursor_advance(c, bytes);
	return ret;
}

/* The end of the run that begins at `off`: blocks that all are, or all are not, in the layer. */
static uint64_t read_run_end(const struct overlay *o, uint64_t off, uint64_t end)
{
	uint64_t block = off / OVERLAY_BLOCK;
	bool here = has(o, block);
	uint64_t run = block_end(o, block);

	while (run < end && has(o, ++block) == here)
		run = block_end(o, block);
	return run < end ? run : end;
}

static int overlay_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct overlay *o = (struct overlay *)b;
	struct block_cursor c = {.iov = iov, .n = n};
	uint64_t end = off + block_iov_bytes(iov, n);
	int ret = 0;

	while (ret == 0 && off < end) {
		uint64_t run = read_run_end(o, off, end);
		size_t len = (size_t)(run - off);

		if (has(o, off / OVERLAY_BLOCK))
			ret = block_io_read(o->fd, &c, len, o->data_start + off);
		else
			ret = read_base(o, &c, len, off);
		off = run;
	}
	return ret;
}

/* --- writing --- */

/* May bytes [off, end) of one block go straight to the layer? */
static bool writes_in_place(const struct overlay *o, uint64_t off, uint64_t end)
{
	uint64_t block = off / OVERLAY_BLOCK;

	return has(o, block) || (off % OVERLAY_BLOCK == 0 && end >= block_end(o, block));
}

/* The end of the run from `off` that can be written in place; `off` itself if its block cannot. */
static uint64_t write_run_end(const struct overlay *o, uint64_t off, uint64_t end)
{
	while (off < end && writes_in_place(o, off, end)) {
		uint64_t next = block_end(o, off / OVERLAY_BLOCK);

		off = next < end ? next : end;
	}
	return off;
}

static int write_in_place(struct overlay *o, struct block_cursor *c, uint64_t off, uint64_t end)
{
	int ret = block_io_write(o->fd, c, (size_t)(end - off), o->data_start + off);

	if (ret == 0)
		set_range(o, off / OVERLAY_BLOCK, (end - 1) / OVERLAY_BLOCK + 1);
	return ret;
}

/* The first write to a block, a part of it: the rest comes from the base. */
static int write_copying(struct overlay *o, struct block_cursor *c, uint64_t off, uint64_t end)
{
	uint64_t block = off / OVERLAY_BLOCK;
	uint64_t start = block * OVERLAY_BLOCK;
	size_t len = (size_t)(block_end(o, block) - start);
	uint8_t data[OVERLAY_BLOCK];
	struct iovec whole = {.iov_base = data, .iov_len = len};
	struct iovec part[BLOCK_IOV_MAX];
	uint8_t *p = data + (off - start);
	size_t bytes;
	unsigned n;
	int ret;

	ret = o->base->ops->readv(o->base, &whole, 1, start);
	if (ret < 0)
		return ret;
	n = block_cursor_peek(c, (size_t)(end - off), part, &bytes);
	for (unsigned i = 0; i < n; i++) {
		memcpy(p, part[i].iov_base, part[i].iov_len);
		p += part[i].iov_len;
	}
	block_cursor_advance(c, bytes);
	ret = file_write_at(o->fd, data, len, o->data_start + start);
	if (ret == 0)
		set_range(o, block, block + 1);
	return ret;
}

static int overlay_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct overlay *o = (struct overlay *)b;
	struct block_cursor c = {.iov = iov, .n = n};
	uint64_t end = off + block_iov_bytes(iov, n);
	int ret = 0;

	while (ret == 0 && off < end) {
		uint64_t run = write_run_end(o, off, end);

		if (run > off) {
			ret = write_in_place(o, &c, off, run);
		} else {
			run = block_end(o, off / OVERLAY_BLOCK);
			if (run > end)
				run = end;
			ret = write_copying(o, &c, off, run);
		}
		off = run;
	}
	return ret;
}

/* --- zeroes --- */

/* The whole blocks of [*off, *end); false: there are none. */
static bool whole_blocks(const struct overlay *o, uint64_t *off, uint64_t *end)
{
	*off = (*off + OVERLAY_BLOCK - 1) / OVERLAY_BLOCK * OVERLAY_BLOCK;
	if (*end < o->block.size)
		*end = *end / OVERLAY_BLOCK * OVERLAY_BLOCK;
	return *off < *end;
}

/* Blocks that the layer has become holes in it. Where it has none there is nothing to give back. */
static int overlay_discard(struct block *b, uint64_t off, uint64_t len)
{
	struct overlay *o = (struct overlay *)b;
	uint64_t end = off + len;
	int ret = 0;

	if (whole_blocks(o, &off, &end))
		ret = block_io_punch(o->fd, o->data_start + off, end - off);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

/* A part of one block. */
static int zero_part(struct overlay *o, uint64_t off, uint64_t end)
{
	static const uint8_t zeroes[OVERLAY_BLOCK];
	/* writev does not write to it. */
	struct iovec iov = {(void *)(uintptr_t)zeroes, (size_t)(end - off)};

	return off < end ? overlay_writev(&o->block, &iov, 1, off) : 0;
}

/* A throw-away layer grows as it is written, which holes do not bring about. */
static int make_room(struct overlay *o)
{
	if (o->kept || o->sized)
		return 0;
	if (ftruncate(o->fd, (off_t)(o->data_start + o->block.size)) < 0)
		return -errno;
	o->sized = true;
	return 0;
}

/* Whole blocks enter the layer as zeroes; the ones at both ends as any write does. */
static int overlay_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	struct overlay *o = (struct overlay *)b;
	uint64_t end = off + len, from = off, to = end;
	int ret;

	if (!whole_blocks(o, &from, &to)) {
		/* Of one block, or of two. */
		uint64_t middle = block_end(o, off / OVERLAY_BLOCK);

		if (middle > end)
			middle = end;
		ret = zero_part(o, off, middle);
		return ret ? ret : zero_part(o, middle, end);
	}
	ret = zero_part(o, off, from);
	if (ret == 0)
		ret = make_room(o);
	if (ret == 0)
		ret = block_io_zero(o->fd, o->data_start + from, to - from, unmap);
	if (ret == 0) {
		set_range(o, from / OVERLAY_BLOCK, (to - 1) / OVERLAY_BLOCK + 1);
		ret = zero_part(o, to, end);
	}
	return ret;
}

/* --- flushing --- */

static int write_dirty_map(struct overlay *o, bool *wrote)
{
	*wrote = false;
	for (uint64_t page = 0; page < o->map_pages; page++) {
		uint64_t off = page * OVERLAY_MAP_PAGE;
		int ret;

		if (!o->map_dirty[page])
			continue;
		ret = file_write_at(o->fd, o->map + off, OVERLAY_MAP_PAGE, OVERLAY_MAP_START + off);
		if (ret < 0)
			return ret;
		o->map_dirty[page] = false;
		*wrote = true;
	}
	return 0;
}

/* Once this has failed, the kernel may have dropped data and call the next attempt a success. */
static int sync_layer(struct overlay *o)
{
	if (o->sync_failed)
		return -EIO;
	if (fdatasync(o->fd) == 0)
		return 0;
	o->sync_failed = true;
	return -errno;
}

/*
 * Data before the map that names it. A throw-away layer does not outlive us: there is nothing to
 * make durable.
 */
static int overlay_flush(struct block *b)
{
	struct overlay *o = (struct overlay *)b;
	bool wrote;
	int ret;

	if (!o->kept)
		return 0;
	ret = sync_layer(o);
	if (ret == 0)
		ret = write_dirty_map(o, &wrote);
	if (ret == 0 && wrote)
		ret = sync_layer(o);
	return ret;
}

/* --- snapshots --- */

#define COPY_BYTES (64u << 10)

/* Blocks [block, end) of one layer file into another. */
static int copy_blocks(int from, uint64_t from_start, int to, uint64_t to_start, uint64_t off,
		       uint64_t end)
{
	uint8_t *buf = malloc(COPY_BYTES);
	int ret = buf ? 0 : -ENOMEM;

	while (ret == 0 && off < end) {
		size_t len = end - off < COPY_BYTES ? (size_t)(end - off) : COPY_BYTES;

		ret = file_read_at(from, buf, len, from_start + off);
		if (ret == 0)
			ret = file_write_at(to, buf, len, to_start + off);
		off += len;
	}
	free(buf);
	return ret;
}

/* Where runs of blocks that the layer has begin and end, from `off` on; false: there are no more.
 */
static bool next_run(const struct overlay *o, uint64_t *off, uint64_t *end)
{
	while (*off < o->block.size && !has(o, *off / OVERLAY_BLOCK))
		*off = block_end(o, *off / OVERLAY_BLOCK);
	*end = *off < o->block.size ? read_run_end(o, *off, o->block.size) : *off;
	return *end > *off;
}

/* All that is in the layer, into a new file of the kept kind. */
static int write_copy(const struct overlay *o, int fd)
{
	struct overlay_layout l = overlay_layout(o->block.size);
	uint64_t off = 0, end;
	int ret = 0;

	while (ret == 0 && next_run(o, &off, &end)) {
		ret = copy_blocks(o->fd, o->data_start, fd, l.data_start, off, end);
		off = end;
	}
	if (ret == 0)
		ret = file_write_at(fd, o->map, l.map_bytes, OVERLAY_MAP_START);
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

static int overlay_save(struct block *b, const char *layer_path, bool *layer, struct err *err)
{
	struct overlay *o = (struct overlay *)b;
	int fd;
	int ret;

	b->mtime_ns = o->base->mtime_ns;
	*layer = true;
	ret = overlay_file_open(layer_path, o->base, "the disk", &fd, err);
	if (ret < 0)
		return ret;
	ret = write_copy(o, fd);
	close(fd);
	return ret < 0 ? err_sys(err, -ret, "layer %s: write", layer_path) : 0;
}

/* --- life cycle --- */

static void overlay_close(struct block *b)
{
	struct overlay *o = (struct overlay *)b;

	if (o->fd >= 0) {
		(void)overlay_flush(b); /* nobody is left who could be told */
		close(o->fd);
	}
	block_close(o->base);
	free(o->map);
	free(o->map_dirty);
	free(o);
}

static const struct block_ops overlay_ops = {
    .name = "overlay",
    .readv = overlay_readv,
    .writev = overlay_writev,
    .flush = overlay_flush,
    .discard = overlay_discard,
    .zero = overlay_zero,
    .close = overlay_close,
    .save = overlay_save,
};

/* Empty pages of the map stay untouched in memory. */
static int read_map(struct overlay *o, int fd)
{
	static const uint8_t zero[OVERLAY_MAP_PAGE];
	uint8_t page[OVERLAY_MAP_PAGE];

	for (uint64_t i = 0; i < o->map_pages; i++) {
		uint64_t off = i * OVERLAY_MAP_PAGE;
		int ret = file_read_at(fd, page, sizeof(page), OVERLAY_MAP_START + off);

		if (ret < 0)
			return ret;
		if (memcmp(page, zero, sizeof(page)) != 0)
			memcpy(o->map + off, page, sizeof(page));
	}
	return 0;
}

static int open_layer(struct overlay *o, const char *base_path, const char *layer_path,
		      struct err *err)
{
	int ret;

	if (!layer_path)
		return overlay_file_temporary(&o->fd, err);
	ret = overlay_file_open(layer_path, o->base, base_path, &o->fd, err);
	if (ret < 0)
		return ret;
	ret = read_map(o, o->fd);
	return ret < 0 ? err_sys(err, -ret, "overlay %s: read", layer_path) : 0;
}

static struct overlay *overlay_alloc(struct block *base, bool kept)
{
	struct overlay_layout l = overlay_layout(base->size);
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->block.ops = &overlay_ops;
	o->block.size = base->size;
	o->block.physical_block = OVERLAY_BLOCK;
	o->block.optimal_io = base->optimal_io;
	o->base = base;
	o->fd = -1;
	o->kept = kept;
	o->data_start = kept ? l.data_start : 0;
	o->map_pages = l.map_bytes / OVERLAY_MAP_PAGE;
	o->map = calloc(o->map_pages, OVERLAY_MAP_PAGE);
	o->map_dirty = calloc(o->map_pages, sizeof(*o->map_dirty));
	if (o->map && o->map_dirty)
		return o;
	o->base = NULL;
	overlay_close(&o->block);
	return NULL;
}

int block_overlay_open(struct block *base, const char *base_path, const char *layer_path,
		       struct block **out, struct err *err)
{
	struct overlay *o = overlay_alloc(base, layer_path != NULL);

	if (!o)
		return err_sys(err, ENOMEM, "overlay over %s", base_path);
	if (open_layer(o, base_path, layer_path, err) < 0) {
		o->base = NULL;	 /* the caller's still */
		o->kept = false; /* nothing to flush */
		overlay_close(&o->block);
		return err->code;
	}
	*out = &o->block;
	return 0;
}

int block_overlay_load(struct block *overlay, const char *saved, const char *base_path,
		       struct err *err)
{
	struct overlay *o = (struct overlay *)overlay;
	struct overlay_layout l = overlay_layout(o->block.size);
	uint64_t off = 0, end;
	int fd;
	int ret = overlay_file_open_saved(saved, o->base, base_path, &fd, err);

	if (ret < 0)
		return ret;
	ret = read_map(o, fd);
	while (ret == 0 && next_run(o, &off, &end)) {
		ret = copy_blocks(fd, l.data_start, o->fd, o->data_start, off, end);
		off = end;
	}
	close(fd);
	for (uint64_t i = 0; i < o->map_pages; i++)
		o->map_dirty[i] = true;
	return ret < 0 ? err_sys(err, -ret, "layer %s: copy", saved) : 0;
}
