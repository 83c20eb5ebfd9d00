/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH, the x86/HVM direct boot ABI: where an ELF says that it can be entered, and the start info
 * that it then finds (Xen public/elfnote.h, public/arch-x86/hvm/start_info.h).
 *
 * The entry point is the content of an ELF note; no other place in the file counts. Notes are
 * padded to 4 bytes. Every length in them is the file's claim and is checked against what is left.
 *
 * Start info, module list and memory map lie together in one page. The ABI carries no more than
 * this: no setup_data, so no device tree.
 */
#include "minivm/image.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define NOTE_OWNER	  "Xen"
#define NOTE_PHYS32_ENTRY 18
#define NOTE_ALIGN	  4u

#define INFO_MAGIC   0x336ec578u
#define INFO_VERSION 1 /* the first with a memory map */

struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags; /* SIF_*: for Xen's own domains */
	uint32_t modules;
	uint64_t module_list;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memory_map;
	uint32_t memory_map_entries;
	uint32_t reserved;
};

struct module {
	uint64_t address;
	uint64_t size;
	uint64_t cmdline;
	uint64_t reserved;
};

struct map_entry {
	uint64_t address;
	uint64_t size;
	uint32_t type; /* as in the e820 map */
	uint32_t reserved;
};

/* As they lie in the page. */
struct info_page {
	struct start_info info;
	struct module initrd;
	struct map_entry map[BOOT_MAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct module) == 32 &&
		   sizeof(struct map_entry) == 24,
	       "sizes of the ABI");
_Static_assert(BOOT_PVH_INFO_GPA + sizeof(struct info_page) <= BOOT_ZERO_PAGE_GPA, "one page");

/* Cuts `len` bytes and what pads them off the front. False when there are not so many left. */
static bool cut(struct bytes *rest, uint64_t len, struct bytes *piece)
{
	uint64_t padded = (len + NOTE_ALIGN - 1) & ~(uint64_t)(NOTE_ALIGN - 1);

	if (len > rest->len)
		return false;
	if (padded > rest->len) /* the last one's padding may be missing */
		padded = rest->len;
	*piece = (struct bytes){rest->data, len};
	rest->data += padded;
	rest->len -= padded;
	return true;
}

/* An address of 4 or 8 bytes, as the linker's output is ELF-32 or ELF-64 at heart. */
static uint64_t address(struct bytes desc)
{
	uint64_t v = 0;

	if (desc.len == 4 || desc.len == 8)
		memcpy(&v, desc.data, desc.len);
	return v;
}

uint64_t pvh_find_note(struct bytes notes)
{
	struct bytes head, name, desc;
	Elf64_Nhdr note;

	while (cut(&notes, sizeof(note), &head)) {
		memcpy(&note, head.data, sizeof(note));
		if (!cut(&notes, note.n_namesz, &name) || !cut(&notes, note.n_descsz, &desc))
			return 0;
		if (note.n_type == NOTE_PHYS32_ENTRY && name.len == sizeof(NOTE_OWNER) &&
		    memcmp(name.data, NOTE_OWNER, sizeof(NOTE_OWNER)) == 0)
			return address(desc);
	}
	return 0;
}

static unsigned fill_map(struct map_entry *map, const struct guest_mem *mem)
{
	struct boot_e820_entry e820[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(mem, e820);

	for (unsigned i = 0; i < n; i++)
		map[i] = (struct map_entry){
		    .address = e820[i].addr, .size = e820[i].size, .type = e820[i].type};
	return n;
}

int pvh_write_info(const struct pvh_request *req, struct err *err)
{
	struct info_page page = {
	    .info = {.magic = INFO_MAGIC,
		     .version = INFO_VERSION,
		     .cmdline = BOOT_CMDLINE_GPA,
		     .rsdp = req->rsdp.v,
		     .memory_map = BOOT_PVH_INFO_GPA + offsetof(struct info_page, map)},
	};

	page.info.memory_map_entries = fill_map(page.map, req->mem);
	if (req->initrd_len) {
		page.initrd = (struct module){.address = req->initrd.v, .size = req->initrd_len};
		page.info.modules = 1;
		page.info.module_list = BOOT_PVH_INFO_GPA + offsetof(struct info_page, initrd);
	}
	if (guest_mem_write(req->mem, GPA(BOOT_PVH_INFO_GPA), &page, sizeof(page)))
		return err_set(err, ENOMEM, "memory: none for the PVH start info");
	return 0;
}
