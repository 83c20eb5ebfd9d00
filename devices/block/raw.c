/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images and block devices: a byte of the disk is a byte of the file.
 *
 * Opening checks everything that would otherwise show as a strange guest later: the file's type,
 * its size, access, and that no other machine uses it (a shared lock for readers, an exclusive one
 * for a writer). Transfers go through the host's page cache; flush is fdatasync(2).
 *
 * System calls: openat, fstat, ioctl (BLKGETSIZE64, BLKPBSZGET, BLKIOOPT), those of io.c,
 * fdatasync, close.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "io.h"
#include "minivm/block.h"

/* More than this makes file system tools in the guest refuse or waste space. */
#define PHYSICAL_BLOCK_MAX 4096u

/*
 * What a file likes to be read in. Linux reads ahead twice as much, 128 KiB where nothing is told:
 * a start from our root image then makes 22 requests instead of 35 (docs/benchmarks.md "Exits").
 */
#define FILE_OPTIMAL_IO (1u << 20)

struct raw {
	struct block block;
	int fd;
	bool flush_failed;
};

static int64_t image_mtime(const struct stat *st)
{
	return st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
}

/* --- operations --- */

static int raw_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct raw *raw = (struct raw *)b;
	struct block_cursor c = {.iov = iov, .n = n};

	return block_io_read(raw->fd, &c, block_iov_bytes(iov, n), off);
}

static int raw_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct raw *raw = (struct raw *)b;
	struct block_cursor c = {.iov = iov, .n = n};

	return block_io_write(raw->fd, &c, block_iov_bytes(iov, n), off);
}

static int raw_flush(struct block *b)
{
	struct raw *raw = (struct raw *)b;

	if (raw->flush_failed)
		return -EIO;
	if (fdatasync(raw->fd) == 0)
		return 0;
	raw->flush_failed = true;
	return -errno;
}

static int raw_discard(struct block *b, uint64_t off, uint64_t len)
{
	int ret = block_io_punch(((struct raw *)b)->fd, off, len);

	return ret == -EOPNOTSUPP ? 0 : ret;
}

static int raw_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	return block_io_zero(((struct raw *)b)->fd, off, len, unmap);
}

static void raw_close(struct block *b)
{
	struct raw *raw = (struct raw *)b;

	if (raw->fd >= 0)
		close(raw->fd);
	free(raw);
}

static int raw_save(struct block *b, const char *layer_path, bool *layer, struct err *err)
{
	struct raw *raw = (struct raw *)b;
	struct stat st;
	int ret = b->readonly ? 0 : raw_flush(b);

	(void)layer_path;
	*layer = false;
	if (ret < 0)
		return err_sys(err, -ret, "disk: flush");
	if (fstat(raw->fd, &st) < 0)
		return err_sys(err, errno, "disk: fstat");
	if (S_ISREG(st.st_mode))
		b->mtime_ns = image_mtime(&st);
	return 0;
}

static const struct block_ops raw_ops = {
    .name = "raw",
    .readv = raw_readv,
    .writev = raw_writev,
    .flush = raw_flush,
    .discard = raw_discard,
    .zero = raw_zero,
    .close = raw_close,
    .save = raw_save,
};

void block_close(struct block *b)
{
	if (b)
		b->ops->close(b);
}

/* --- opening --- */

/* O_NONBLOCK, so that a FIFO does not hold us up; it means nothing to files and block devices. */
static int open_image(struct raw *raw, const char *path, struct err *err)
{
	bool ro = raw->block.readonly;

	raw->fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (raw->fd >= 0)
		return 0;
	err_sys(err, errno, "disk %s: open", path);
	switch (-err->code) {
	case EACCES:
	case EPERM:
		return ro ? err_hint(err, "is it readable by you?")
			  : err_hint(err,
				     "is it writable by you? ,ro or ,overlay leave it as it is");
	case EROFS:
		return err_hint(err, "add ,ro or ,overlay");
	case EISDIR:
		return err_hint(err, "a disk is an image file or a block device");
	default:
		return err->code;
	}
}

static uint32_t usable_physical_block(uint64_t bytes)
{
	if (bytes < BLOCK_SECTOR_SIZE || (bytes & (bytes - 1)) != 0)
		return BLOCK_SECTOR_SIZE;
	return bytes < PHYSICAL_BLOCK_MAX ? (uint32_t)bytes : PHYSICAL_BLOCK_MAX;
}

static int examine_device(struct raw *raw, const char *path, struct err *err)
{
	unsigned physical = 0, optimal = 0;

	if (ioctl(raw->fd, BLKGETSIZE64, &raw->block.size) < 0)
		return err_sys(err, errno, "disk %s: size of the block device", path);
	if (ioctl(raw->fd, BLKPBSZGET, &physical) < 0)
		physical = 0;
	if (ioctl(raw->fd, BLKIOOPT, &optimal) < 0)
		optimal = 0;
	raw->block.physical_block = usable_physical_block(physical);
	raw->block.optimal_io = optimal % BLOCK_SECTOR_SIZE == 0 ? optimal : 0;
	return 0;
}

static void examine_file(struct raw *raw, const struct stat *st)
{
	raw->block.size = (uint64_t)st->st_size;
	raw->block.physical_block = usable_physical_block((uint64_t)st->st_blksize);
	raw->block.optimal_io = FILE_OPTIMAL_IO;
	raw->block.mtime_ns = image_mtime(st);
}

static int examine(struct raw *raw, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(raw->fd, &st) < 0)
		return err_sys(err, errno, "disk %s: fstat", path);
	if (S_ISBLK(st.st_mode)) {
		if (examine_device(raw, path, err) < 0)
			return err->code;
	} else if (S_ISREG(st.st_mode)) {
		examine_file(raw, &st);
	} else {
		return err_set(err, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
			       "disk %s: is %s; a disk is an image file or a block device", path,
			       S_ISDIR(st.st_mode) ? "a directory"
						   : "neither file nor block device");
	}
	if (raw->block.size == 0)
		return err_set(err, EINVAL, "disk %s: is empty; `truncate -s 1G` gives it a size",
			       path);
	if (raw->block.size % BLOCK_SECTOR_SIZE != 0)
		return err_set(
		    err, EINVAL,
		    "disk %s: its size of %llu bytes is no multiple of 512; is it complete, and "
		    "a raw image? `truncate -s %%512` pads it",
		    path, (unsigned long long)raw->block.size);
	return 0;
}

static int lock_image(struct raw *raw, const char *path, struct err *err)
{
	bool ro = raw->block.readonly;
	int ret = block_io_lock(raw->fd, !ro);

	if (ret == 0)
		return 0;
	if (ret != -EAGAIN)
		return err_sys(err, -ret, "disk %s: lock", path);
	if (ro)
		return err_set(
		    err, EAGAIN,
		    "disk %s: another process, or another disk of this machine, has it open for "
		    "writing",
		    path);
	return err_set(
	    err, EAGAIN,
	    "disk %s: in use by another process, or by another disk of this machine; ,ro or "
	    ",overlay can share it",
	    path);
}

int block_raw_open(const char *path, bool readonly, struct block **out, struct err *err)
{
	struct raw *raw = calloc(1, sizeof(*raw));

	if (!raw)
		return err_sys(err, ENOMEM, "disk %s", path);
	raw->block.ops = &raw_ops;
	raw->block.readonly = readonly;
	raw->fd = -1;
	if (open_image(raw, path, err) < 0 || examine(raw, path, err) < 0 ||
	    lock_image(raw, path, err) < 0) {
		raw_close(&raw->block);
		return err->code;
	}
	*out = &raw->block;
	return 0;
}
