/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as the header of an entry in the kernel cache, its checksum made right so that
 * the fields are reached. What is accepted stays within the file and within what elf_parse()
 * promises, and is written back as it was read.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "minivm/kcache.h"

#define FILE_LEN (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int true_)
{
	if (!true_)
		abort();
}

static void check(const struct kcache_entry *e)
{
	uint64_t end = BOOT_LOW_END;
	int entered = 0;

	must(e->fd == -1 && e->image.count <= ELF_SEGMENTS_MAX && e->image.info.compression);
	must(e->image.setup_len <= IMAGE_SETUP_MAX);
	for (unsigned i = 0; i < e->image.count; i++) {
		const struct kernel_segment *s = &e->image.segment[i];
		uint64_t bytes = s->paddr % GUEST_PAGE_SIZE + s->data.len;

		must(s->paddr >= end && s->data.len <= s->memsz && !s->data.data);
		end = s->paddr + s->memsz;
		must(end > s->paddr);
		must(!s->data.len ||
		     (e->offset[i] % GUEST_PAGE_SIZE == 0 && e->offset[i] <= FILE_LEN &&
		      bytes <= FILE_LEN - e->offset[i]));
		entered |= e->image.info.entry >= s->paddr && e->image.info.entry < end;
		entered |= e->image.info.pvh_entry >= s->paddr && e->image.info.pvh_entry < end;
	}
	must(entered && end == e->image.info.kernel_end);
}

static void good_header(uint8_t header[KCACHE_HEADER_LEN])
{
	static const uint8_t code[3 * GUEST_PAGE_SIZE];
	struct kernel_image image = {
	    .info = {.image = BOOT_IMAGE_BZIMAGE_UNPACKED,
		     .compression = "lz4",
		     .entry = 0x200000,
		     .kernel_end = 0x300000},
	    .setup_len = 100,
	    .count = 3,
	    .segment = {{0x200000, 0x3000, {code, 0x2345}},
			{0x203000, 0x2000, {NULL, 0}},
			{0x205010, 0xfaff0, {code, 0x1000}}},
	};
	uint64_t offset[ELF_SEGMENTS_MAX];

	kcache_encode(&image, offset, kcache_layout(&image, offset), header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t header[KCACHE_HEADER_LEN], again[KCACHE_HEADER_LEN];
	struct kcache_entry entry;

	good_header(header);
	for (size_t i = 0; i + 3 <= size; i += 3)
		header[(data[i] | data[i + 1] << 8) % KCACHE_HEADER_LEN] = data[i + 2];
	kcache_seal(header, FILE_LEN);
	if (!kcache_decode(header, FILE_LEN, &entry))
		return 0;
	check(&entry);
	kcache_encode(&entry.image, entry.offset, FILE_LEN, again);
	must(kcache_decode(again, FILE_LEN, &entry));
	check(&entry);
	return 0;
}
