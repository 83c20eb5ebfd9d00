/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images: the pieces that boot_linux() is made of, each a pure function over the bytes of a
 * file. Nothing in a file is trusted; every parser keeps pointers into the caller's bytes only.
 *
 * References: Linux x86 boot protocol (Documentation/x86/boot.rst), ELF-64 object file format, PVH
 * (see minivm/boot.h).
 */
#ifndef MINIVM_IMAGE_H
#define MINIVM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/bootparam.h>

#include "minivm/boot.h"
#include "minivm/err.h"
#include "minivm/memory.h"

/* --- boot/bzimage.c --- */

struct bzimage {
	struct setup_header hdr;
	struct bytes setup;   /* the file's setup header, from offset 0x1f1: for the zero page */
	struct bytes kernel;  /* the protected-mode part: what runs at its load address */
	struct bytes payload; /* the compressed kernel inside it; len 0: the header names none */
};

/* Does it look like a bzImage (or zImage)? No other check. */
bool bzimage_probe(struct bytes file);

/* `out` points into `file`. -ENOEXEC with what is wrong. */
int bzimage_parse(struct bytes file, struct bzimage *out, struct err *err);

/* --- boot/unpack.c --- */

struct unpacked {
	struct bytes bytes;
	uint8_t *map; /* owned; ended by unpack_free() */
	size_t map_len;
};

/* "gzip", "xz", "lzma", "lz4" or "zstd" by the first bytes; NULL for anything else. */
const char *unpack_name(struct bytes packed);

/*
 * Unpacks a whole stream that unpack_name() knows, to at most `max` bytes. A 4-byte little-endian
 * size word behind it (the kernel's build appends one) is checked when it is there. -ENOEXEC: the
 * data is truncated or corrupt; -E2BIG: more than `max`; -ENOMEM: no host memory. Ended with
 * unpack_free(), which may also be called on a zeroed structure and after a failure.
 */
int unpack(struct bytes packed, uint64_t max, struct unpacked *out, struct err *err);
void unpack_free(struct unpacked *u);

/* --- boot/elf.c --- */

#define ELF_SEGMENTS_MAX 32

struct elf_segment {
	uint64_t offset; /* in the file */
	uint64_t filesz;
	uint64_t paddr; /* filesz bytes from the file, then zeroes up to memsz */
	uint64_t memsz;
	uint64_t vaddr;
};

struct elf_image {
	unsigned count;
	struct elf_segment segment[ELF_SEGMENTS_MAX]; /* PT_LOAD with memsz > 0, sorted by paddr */
	uint64_t entry;				      /* physical; 0: none */
	uint64_t pvh_entry;			      /* 0: none */
	uint64_t end;				      /* first byte behind the last segment */
};

bool elf_probe(struct bytes file);

/*
 * Checks a static x86-64 executable: segments inside the file, apart from each other, at 1 MiB or
 * above; the entry point inside one of them. An e_entry that is no physical address of a segment
 * but a virtual one is translated; with a PVH entry it may also be neither. A PVH note that names
 * no byte of a segment, or cannot be read, counts as none. Bytes behind the segments are ignored.
 * -ENOEXEC.
 */
int elf_parse(struct bytes file, struct elf_image *out, struct err *err);

/* --- boot/kernel.c --- */

/* What a vmlinux without a setup header is taken to say, as all x86-64 kernels do. */
#define IMAGE_INITRD_MAX  0x7fffffffu /* last byte an initrd may have */
#define IMAGE_CMDLINE_MAX 2047u	      /* NUL not included; a longer line would be cut silently */

/* The setup header ends where boot_params keeps something else again. */
#define IMAGE_SETUP_MAX                                                                            \
	(offsetof(struct boot_params, edd_mbr_sig_buffer) - offsetof(struct boot_params, hdr))

struct kernel_segment {
	uint64_t paddr;
	uint64_t memsz;	   /* data, then zeroes up to this */
	struct bytes data; /* data.len <= memsz */
};

/* A kernel file, understood. */
struct kernel_image {
	struct boot_result info;
	uint8_t setup[IMAGE_SETUP_MAX]; /* a bzImage's setup header, from 0x1f1 */
	size_t setup_len;		/* 0: a plain ELF, which has none */
	uint32_t cmdline_max;		/* longest command line, without the NUL */
	uint32_t initrd_max;		/* last byte an initrd may have */
	unsigned count;
	struct kernel_segment segment[ELF_SEGMENTS_MAX]; /* sorted by paddr, apart */
	struct unpacked unpacked;			 /* owned */
};

/*
 * Finds out what `file` is and unpacks it; `out` refers to its bytes, and is ended with
 * kernel_image_free(). `low_end` (guest_mem_low_end()) bounds how much unpacking makes sense.
 * -ENOEXEC (image), -ENOMEM (it cannot fit, or no host memory), -E2BIG; "kernel: ...".
 */
int kernel_image_parse(struct bytes file, uint64_t low_end, struct kernel_image *out,
		       struct err *err);
void kernel_image_free(struct kernel_image *k);

/* Copies the segments. -ENOMEM when one lies outside of guest RAM. */
int kernel_image_load(const struct kernel_image *k, const struct guest_mem *mem, struct err *err);

/* --- boot/pvh.c --- */

/*
 * The address in the first note of type XEN_ELFNOTE_PHYS32_ENTRY; 0: there is none. `notes` is what
 * a PT_NOTE segment holds.
 */
uint64_t pvh_find_note(struct bytes notes);

struct pvh_request {
	const struct guest_mem *mem;
	gpa_t initrd;
	uint64_t initrd_len; /* 0: none */
	gpa_t rsdp;	     /* 0: none */
};

/* Writes the start info, version 1, at BOOT_PVH_INFO_GPA. -ENOMEM without memory there. */
int pvh_write_info(const struct pvh_request *req, struct err *err);

/* --- boot/zeropage.c --- */

/* The memory map as both protocols want it. Returns how many entries there are. */
#define BOOT_MAP_MAX (GUEST_REGIONS_MAX + 2)
unsigned boot_memory_map(const struct guest_mem *mem, struct boot_e820_entry map[BOOT_MAP_MAX]);

struct zero_page_request {
	const struct guest_mem *mem;
	const struct kernel_image *kernel; /* setup_len 0: the setup header is made up */
	gpa_t initrd;
	uint64_t initrd_len; /* 0: none */
	gpa_t rsdp;
	gpa_t setup_data; /* first of the list; 0: none */
};

/* Fills `bp`: setup header, e820 map, and where command line, initrd, RSDP and setup_data are. */
void zero_page_fill(struct boot_params *bp, const struct zero_page_request *req);

#endif
