/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of an entry in the kernel cache: a page of header, then the pages of the kernel's
 * segments as they lie in guest memory.
 *
 * The header is this program's own structure, with a version in its magic number and a checksum;
 * entries of other versions or machines are simply not taken. The directory is private to the user,
 * so that an entry is as trustworthy as the user's kernel; the checks are for damage, and bound
 * everything all the same.
 */
#include <string.h>
#include <zlib.h>

#include "minivm/kcache.h"

#define PAGE GUEST_PAGE_SIZE

struct header_segment {
	uint64_t paddr;
	uint64_t memsz;
	uint64_t filesz;
	uint64_t offset;
};

struct header {
	char magic[8];
	uint64_t len; /* of the whole file */
	uint64_t entry;
	uint64_t pvh_entry;
	uint64_t kernel_end;
	uint32_t image;
	uint32_t compression; /* index into compressions[] */
	uint32_t cmdline_max;
	uint32_t initrd_max;
	uint32_t setup_len;
	uint32_t count;
	uint32_t virtio_console;	    /* 0 or 1 */
	uint8_t setup[IMAGE_SETUP_MAX + 1]; /* the next field is aligned */
	struct header_segment segment[ELF_SEGMENTS_MAX];
	uint64_t crc; /* CRC-32 of all before */
};

static const char magic[8] = {'m', 'i', 'n', 'i', 'v', 'm', 'k', '2'};

static const char *const compressions[] = {"none", "gzip", "xz", "lzma", "lz4", "zstd"};
#define COMPRESSIONS (sizeof(compressions) / sizeof(compressions[0]))

_Static_assert(sizeof(struct header) <= KCACHE_HEADER_LEN, "the header is one page");
_Static_assert(KCACHE_HEADER_LEN == PAGE, "segments begin page-aligned");

static uint64_t page_down(uint64_t v)
{
	return v & ~(uint64_t)(PAGE - 1);
}

static uint64_t page_up(uint64_t v)
{
	return page_down(v + PAGE - 1);
}

uint64_t kcache_layout(const struct kernel_image *image, uint64_t offset[ELF_SEGMENTS_MAX])
{
	uint64_t file_end = KCACHE_HEADER_LEN;
	uint64_t page_end = 0; /* of the segment before */

	for (unsigned i = 0; i < image->count; i++) {
		const struct kernel_segment *s = &image->segment[i];
		uint64_t first = page_down(s->paddr);

		if (s->data.len == 0) {
			offset[i] = 0;
			continue;
		}
		/* Two segments may share a page: it is there once, and is mapped by both. */
		offset[i] = first < page_end ? file_end - (page_end - first) : file_end;
		page_end = page_up(s->paddr + s->data.len);
		file_end = offset[i] + (page_end - first);
	}
	return file_end;
}

static uint32_t header_crc(const struct header *h)
{
	return (uint32_t)crc32(0, (const Bytef *)h, offsetof(struct header, crc));
}

void kcache_seal(uint8_t header[KCACHE_HEADER_LEN], uint64_t len)
{
	struct header h;

	memcpy(&h, header, sizeof(h));
	memcpy(h.magic, magic, sizeof(magic));
	h.len = len;
	h.crc = header_crc(&h);
	memcpy(header, &h, sizeof(h));
}

static uint32_t compression_index(const char *name)
{
	uint32_t i = 0;

	while (i < COMPRESSIONS && strcmp(compressions[i], name) != 0)
		i++;
	return i;
}

void kcache_encode(const struct kernel_image *image, const uint64_t offset[ELF_SEGMENTS_MAX],
		   uint64_t len, uint8_t header[KCACHE_HEADER_LEN])
{
	struct header h = {
	    .entry = image->info.entry,
	    .pvh_entry = image->info.pvh_entry,
	    .kernel_end = image->info.kernel_end,
	    .image = image->info.image,
	    .compression = compression_index(image->info.compression),
	    .cmdline_max = image->cmdline_max,
	    .initrd_max = image->initrd_max,
	    .setup_len = (uint32_t)image->setup_len,
	    .count = image->count,
	    .virtio_console = image->info.virtio_console,
	};

	memcpy(h.setup, image->setup, image->setup_len);
	for (unsigned i = 0; i < image->count; i++) {
		const struct kernel_segment *s = &image->segment[i];

		h.segment[i] = (struct header_segment){s->paddr, s->memsz, s->data.len, offset[i]};
	}
	memset(header, 0, KCACHE_HEADER_LEN);
	memcpy(header, &h, sizeof(h));
	kcache_seal(header, len);
}

/* One segment: behind `end` in memory, its pages within the file. */
static bool segment_ok(const struct header_segment *s, uint64_t end, uint64_t len)
{
	uint64_t pages;

	if (s->paddr < end || s->filesz > s->memsz || s->memsz == 0 || s->memsz > BOOT_MAPPED_END ||
	    s->paddr > BOOT_MAPPED_END)
		return false;
	if (s->filesz == 0)
		return true;
	pages = page_up(s->paddr + s->filesz) - page_down(s->paddr);
	return s->offset % PAGE == 0 && s->offset >= KCACHE_HEADER_LEN && s->offset <= len &&
	       pages <= len - s->offset;
}

/* No such entry point, or a byte of a segment. */
static bool entry_ok(const struct header *h, uint64_t entry)
{
	for (unsigned i = 0; entry != 0 && i < h->count; i++) {
		const struct header_segment *s = &h->segment[i];

		if (entry >= s->paddr && entry - s->paddr < s->filesz)
			return true;
	}
	return entry == 0;
}

static bool header_ok(const struct header *h, uint64_t len)
{
	uint64_t end = BOOT_LOW_END;

	if (memcmp(h->magic, magic, sizeof(magic)) != 0 || h->crc != header_crc(h) ||
	    h->len != len || h->count > ELF_SEGMENTS_MAX || h->setup_len > IMAGE_SETUP_MAX ||
	    h->compression >= COMPRESSIONS || h->image > BOOT_IMAGE_BZIMAGE_UNPACKED ||
	    h->virtio_console > 1)
		return false;
	for (unsigned i = 0; i < h->count; i++) {
		const struct header_segment *s = &h->segment[i];

		if (!segment_ok(s, end, len))
			return false;
		end = s->paddr + s->memsz;
	}
	return h->kernel_end == end && (h->entry != 0 || h->pvh_entry != 0) &&
	       entry_ok(h, h->entry) && entry_ok(h, h->pvh_entry);
}

bool kcache_decode(const uint8_t header[KCACHE_HEADER_LEN], uint64_t len, struct kcache_entry *out)
{
	struct header h;

	memcpy(&h, header, sizeof(h));
	if (!header_ok(&h, len))
		return false;
	*out = (struct kcache_entry){.fd = -1};
	out->image.info = (struct boot_result){
	    .image = (enum boot_image)h.image,
	    .compression = compressions[h.compression],
	    .entry = h.entry,
	    .pvh_entry = h.pvh_entry,
	    .kernel_end = h.kernel_end,
	    .virtio_console = h.virtio_console == 1,
	};
	out->image.cmdline_max = h.cmdline_max;
	out->image.initrd_max = h.initrd_max;
	out->image.setup_len = h.setup_len;
	memcpy(out->image.setup, h.setup, h.setup_len);
	out->image.count = h.count;
	for (unsigned i = 0; i < h.count; i++) {
		const struct header_segment *s = &h.segment[i];

		out->image.segment[i] = (struct kernel_segment){
		    .paddr = s->paddr, .memsz = s->memsz, .data = {NULL, s->filesz}};
		out->offset[i] = s->offset;
	}
	return true;
}
