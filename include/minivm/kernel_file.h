/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file on its way into guest memory: from the kernel cache where it can be, else read and
 * copied.
 */
#ifndef MINIVM_KERNEL_FILE_H
#define MINIVM_KERNEL_FILE_H

#include "minivm/image.h"
#include "minivm/kcache.h"
#include "minivm/log.h"
#include "minivm/memory.h"

/* Smaller kernels (payloads) are copied: a cache entry each would gain nothing. */
#define KERNEL_CACHED_MIN (256u << 10)

struct kernel_file_options {
	bool cached;	   /* use the cache */
	const char *cache; /* its directory; NULL: the default */
	uint64_t low_end;  /* guest_mem_low_end() of the machine to be */
	const struct log *log;
};

struct kernel_file {
	struct kcache_entry entry; /* entry.fd >= 0: from the cache */
	struct kernel_image image; /* else */
	struct bytes file;	   /* what image refers to; owned */
};

/*
 * Finds out what is in the kernel file `path`. The cache is filled on the way, and never the reason
 * of a failure, except where its directory was named and cannot be used. Errors: those of
 * file_read() and kernel_image_parse(). Ended with kernel_file_close(), also after an error.
 */
int kernel_file_open(const char *path, const struct kernel_file_options *options,
		     struct kernel_file *out, struct err *err);
const struct kernel_image *kernel_file_image(const struct kernel_file *k);

/*
 * Puts the segments into fresh guest memory: mapped from the cache, private to this machine, or
 * copied. -ENOMEM, -EIO.
 */
int kernel_file_load(const struct kernel_file *k, struct guest_mem *mem, struct err *err);
void kernel_file_close(struct kernel_file *k);

#endif
