/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole files into memory: kernel, initrd, configuration. And files that are written: console log,
 * statistics, snapshots.
 */
#ifndef MINIVM_FILE_H
#define MINIVM_FILE_H

#include <stdint.h>
#include <sys/stat.h>

#include "minivm/boot.h"
#include "minivm/err.h"

/*
 * Reads the regular file `path` of 1 to `max` bytes. `what` ("kernel") begins the error line. The
 * bytes are private memory, not a mapping of the file: the file may change or shrink afterwards.
 * The caller ends them with file_free(). -ENOENT, -EACCES, -EISDIR, -EINVAL (not a regular file,
 * empty), -EFBIG, -ENOMEM, -EIO.
 */
int file_read(const char *what, const char *path, uint64_t max, struct bytes *out, struct err *err);
void file_free(struct bytes *b);

/* The two steps of file_read(): the descriptor (the caller's) or -errno; then all st->st_size
 * bytes. */
int file_open(const char *what, const char *path, uint64_t max, struct stat *st, struct err *err);
int file_read_open(const char *what, const char *path, int fd, const struct stat *st,
		   struct bytes *out, struct err *err);

/* Exactly len bytes from there: 0, -errno, or -EIO when the file ends before. */
int file_read_at(int fd, void *buf, size_t len, uint64_t offset);
/* Exactly len bytes to there: 0 or -errno, after which some may have been written. */
int file_write_at(int fd, const void *buf, size_t len, uint64_t offset);

/*
 * Can `path` be written, by all that can be told without making or changing it? For files that are
 * opened late: a user is not to find that out when much has been done. -EISDIR, -EACCES, -ENOENT...
 */
int file_check(const char *what, const char *path, struct err *err);

/*
 * Opens `path` for writing, made or emptied; never waits (a FIFO needs a reader). Returns the
 * descriptor, which is the caller's, or -errno.
 */
int file_create(const char *what, const char *path, struct err *err);

/*
 * Makes the entry `path` in its directory durable, as a new or renamed file's name is not by
 * fsync(2) of the file. 0 or -errno, of which EACCES (a directory that may not be read) is one.
 */
int file_sync_name(const char *path);

#endif
