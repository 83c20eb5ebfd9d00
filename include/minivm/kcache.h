/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel cache: unpacked kernels, laid out so that they can be mapped into guest memory. A
 * start then neither reads nor unpacks the kernel, and all guests of a kernel share its pages.
 *
 * A directory of the user's own (mode 0700) with
 *	c1-<SHA-256>	an entry, named by the content of the kernel file it was made from
 *	k1-<...>	a hard link to an entry, by that file's device, inode, size, mtime, ctime
 *	t1-<random>	an entry being written
 *
 * An entry is written under a temporary name, synced, linked in, never changed, and evicted by
 * unlink; so what is mapped stays what it was, whatever happens to the user's file.
 *
 * A cache that does not work is no error: every function but kcache_open() of a directory that the
 * user named says why in a debug message, and the caller does without.
 */
#ifndef MINIVM_KCACHE_H
#define MINIVM_KCACHE_H

#include <stdint.h>
#include <sys/stat.h>

#include "minivm/image.h"
#include "minivm/log.h"

/* Kept at most; the least recently used goes first. */
#define KCACHE_ENTRIES_MAX 16
#define KCACHE_BYTES_MAX   (2ull << 30)

struct kcache {
	int dir; /* -1: there is none */
	const struct log *log;
};

/* A kernel in the cache. */
struct kcache_entry {
	int fd;			   /* of the entry, read-only; -1: none */
	struct kernel_image image; /* its segments have no data.data: it is in the file */
	/* Where in the file the page lies that holds the segment's first byte; page-aligned. */
	uint64_t offset[ELF_SEGMENTS_MAX];
};

/*
 * `path` NULL: minivm/ in $XDG_CACHE_HOME or ~/.cache, made if it is not there; without a usable
 * one (cache->dir is -1) 0 is returned all the same. Another path: -errno if it cannot be used.
 * Neither is used when others than its owner, who must be us, may enter. Ended with kcache_close().
 */
int kcache_open(const char *path, const struct log *log, struct kcache *cache, struct err *err);
void kcache_close(struct kcache *cache);

/* By the identity of the kernel file. `out` is ended with kcache_entry_close(). */
bool kcache_find_file(const struct kcache *cache, const struct stat *st, struct kcache_entry *out);

#define KCACHE_HASH_LEN 65
/* SHA-256 of a kernel file, in hexadecimal. */
void kcache_hash(struct bytes file, char hash[KCACHE_HASH_LEN]);

/*
 * By the content of the kernel file, whose identity is noted for the next time; st NULL: not noted,
 * for files that are so fresh that they may still change without a trace.
 */
bool kcache_find_content(const struct kcache *cache, const char *hash, const struct stat *st,
			 struct kcache_entry *out);

/*
 * Adds what kernel_image_parse() made of the file with that hash. Several processes may add the
 * same at once.
 */
bool kcache_add(const struct kcache *cache, const char *hash, const struct stat *st,
		const struct kernel_image *image, struct kcache_entry *out);

/* Harmless on an entry that was not found. */
void kcache_entry_close(struct kcache_entry *entry);

/* --- vmm/kcache_entry.c: the file format --- */

#define KCACHE_HEADER_LEN 4096

/*
 * Lays out the segments of `image`: entry->offset and, returned, the length of the file. Every
 * segment can be mapped from it (file offset = physical address modulo the page size); what lies
 * between a segment's bytes and the ends of its pages is zero in the file.
 */
uint64_t kcache_layout(const struct kernel_image *image, uint64_t offset[ELF_SEGMENTS_MAX]);

/* The header of an entry of that layout. */
void kcache_encode(const struct kernel_image *image, const uint64_t offset[ELF_SEGMENTS_MAX],
		   uint64_t len, uint8_t header[KCACHE_HEADER_LEN]);

/* Its last step: magic number, length and checksum of a header that has all else. */
void kcache_seal(uint8_t header[KCACHE_HEADER_LEN], uint64_t len);

/* `len`: of the file. False if the header is not what kcache_encode() writes; fuzzed. */
bool kcache_decode(const uint8_t header[KCACHE_HEADER_LEN], uint64_t len, struct kcache_entry *out);

#endif
