/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block back ends: what virtio-blk reads and writes. One ops table per format. A back end is used
 * by one thread at a time. Offsets and lengths are bytes, inside [0, size), multiples of 512.
 */
#ifndef MINIVM_BLOCK_H
#define MINIVM_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "minivm/err.h"

#define BLOCK_SECTOR_SIZE 512u
#define BLOCK_IOV_MAX	  256u /* buffers of one transfer */

struct block; /* a back end's own state starts with struct block */

/*
 * All return 0 or -errno; a short transfer is finished or turned into an error by the back end.
 * n <= BLOCK_IOV_MAX. writev, discard and zero are not called on a read-only back end.
 */
struct block_ops {
	const char *name;
	int (*readv)(struct block *b, const struct iovec *iov, unsigned n, uint64_t off);
	int (*writev)(struct block *b, const struct iovec *iov, unsigned n, uint64_t off);
	/*
	 * Everything written before is on stable storage when it returns (fdatasync). Once it has
	 * failed it fails for ever: the kernel may have dropped what it could not write.
	 */
	int (*flush)(struct block *b);
	/*
	 * [off, off + len) is not needed: its space may be given back to the host. What is read
	 * there afterwards may be anything that was there before, or zeroes. NULL: not known.
	 */
	int (*discard)(struct block *b, uint64_t off, uint64_t len);
	/*
	 * The range reads as zeroes. `unmap`: its space may be given back, else it is kept where
	 * the host can do that. NULL: not known.
	 */
	int (*zero)(struct block *b, uint64_t off, uint64_t len, bool unmap);
	void (*close)(struct block *b);
	/*
	 * For a snapshot: everything written is in the image, or in a copy of the layer that is
	 * made at layer_path; b->mtime_ns is what the image has now. *layer: such a copy was made.
	 */
	int (*save)(struct block *b, const char *layer_path, bool *layer, struct err *err);
};

struct block {
	const struct block_ops *ops;
	uint64_t size; /* bytes, a multiple of 512, not 0 */
	bool readonly;
	uint32_t physical_block; /* bytes, power of 2 >= 512: topology for the guest */
	uint32_t optimal_io;	 /* bytes, 0 = not known */
	int64_t
	    mtime_ns; /* when the image was last written, at the time of opening; 0 = not known */
};

/*
 * Opens a raw image or block device. readonly opens O_RDONLY and takes a shared lock (OFD), else an
 * exclusive one. Errors name the path and say what to try: directory, empty, size no multiple of
 * 512, permission, locked by another process.
 */
int block_raw_open(const char *path, bool readonly, struct block **out, struct err *err);

/*
 * A copy-on-write layer over `base` (read-only, and taken over if this returns 0). layer_path NULL:
 * a throw-away layer in an unlinked file under $TMPDIR or /var/tmp; else a kept layer file, made if
 * it is missing, whose format is docs/overlay.md. The base is never written. Errors name the path
 * and say what to try: not a layer file, made for another or a changed base, in use, damaged.
 */
int block_overlay_open(struct block *base, const char *base_path, const char *layer_path,
		       struct block **out, struct err *err);

/*
 * Puts what is in the layer file `saved` (made by save, for this very base) into a layer that was
 * just opened and is empty. The file is only read.
 */
int block_overlay_load(struct block *overlay, const char *saved, const char *base_path,
		       struct err *err);

/* A kept overlay is flushed first. NULL is fine. */
void block_close(struct block *b);

#endif
