/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch directories and disk images with known content (pattern.h). 0 or -errno. */
#ifndef TEST_DISK_H
#define TEST_DISK_H

#include <stddef.h>
#include <stdint.h>

/* Makes a directory below $TMPDIR or /tmp; `path` gets its name. */
int scratch_make(char *path, size_t size);
/* Removes the directory and the plain files in it; directories inside are left, with -ENOTEMPTY. */
int scratch_remove(const char *path);

/* A sparse file of zeroes; an existing one is replaced. */
int disk_create(const char *path, uint64_t bytes);
int disk_fill(const char *path, uint64_t seed, uint64_t sector, uint64_t count);
/*
 * Are these sectors the pattern of `seed`? *bad: the first that is not (count: all are).
 * disk_zero asks the same of zeroes.
 */
int disk_check(const char *path, uint64_t seed, uint64_t sector, uint64_t count, uint64_t *bad);
int disk_zero(const char *path, uint64_t sector, uint64_t count, uint64_t *bad);

#endif
