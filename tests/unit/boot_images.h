/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic kernel images for the boot tests: an ELF of any segments, packed, inside a bzImage. */
#ifndef TESTS_BOOT_IMAGES_H
#define TESTS_BOOT_IMAGES_H

#include <stdint.h>

#include "minivm/boot.h"
#include "minivm/image.h"

/* Bytes of a test, malloc'ed; blob_free() when done. */
struct blob {
	uint8_t *data;
	size_t len;
};

struct bytes blob_bytes(const struct blob *b);
/* A copy of exactly n bytes, so that sanitizers see the first one beyond. */
struct blob blob_cut(const struct blob *b, size_t n);
void blob_append(struct blob *b, const void *data, size_t len);
void blob_free(struct blob *b);

struct fake_segment {
	uint64_t paddr;
	uint64_t vaddr;
	uint64_t filesz;
	uint64_t memsz;
	uint8_t fill; /* every byte of it in the file */
};

/* File: header, program headers, then the segments' bytes one after the other. */
struct blob fake_elf(const struct fake_segment *seg, unsigned count, uint64_t entry);
/* One segment of 8 KiB in the file and 16 in memory at `paddr`, entry at its start. */
struct blob fake_kernel(uint64_t paddr);

/* An ELF note: padded to 4 bytes. */
void append_note(struct blob *b, uint32_t type, const char *name, uint32_t namesz, const void *desc,
		 uint32_t descsz);
/* The note that names a PVH entry, in 4 or 8 bytes. */
struct blob pvh_note(uint64_t address, uint32_t descsz);
/* A kernel with 8 KiB in the file and 16 in memory at FAKE_PVH_LOAD, and a note that names `pvh`.
 */
#define FAKE_PVH_LOAD 0x200000ull
struct blob fake_pvh_kernel(uint64_t entry, uint64_t pvh);

enum packing {
	PACK_GZIP,
	PACK_XZ,
	PACK_LZMA,
	PACK_LZ4,
	PACK_ZSTD,
	PACKINGS,
};

extern const char *const packing_names[PACKINGS];
struct blob pack(enum packing p, const struct blob *plain);
/* What the kernel's build does: all but gzip get the unpacked size appended. */
struct blob pack_with_size(enum packing p, const struct blob *plain);

/* A bzImage of protocol 2.15 around `payload`; `change` may edit its header before it is final. */
struct blob fake_bzimage(const struct blob *payload, void (*change)(struct setup_header *hdr));

#endif
