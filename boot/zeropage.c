/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zero page, struct boot_params (Documentation/x86/zero-page.rst): what a boot loader tells
 * Linux.
 *
 * The setup header comes from the bzImage, up to its own end, whichever kernel was entered: the
 * kernel reads its own fields back. A plain vmlinux has none, so one is made up as the 64-bit boot
 * protocol asks for it. Everything else starts as zero, `sentinel` included, which tells the kernel
 * that the page is clean.
 */
#include "minivm/image.h"

#include <assert.h>
#include <string.h>

#define E820_RAM      1
#define E820_RESERVED 2

#define LOADER_UNDEFINED 0xff

static_assert(sizeof(struct boot_params) == 4096, "the zero page is one page");
static_assert(BOOT_MAP_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the map fits into the zero page");

static void fill_header(struct boot_params *bp, const struct kernel_image *kernel)
{
	if (kernel->setup_len) {
		assert(kernel->setup_len <= IMAGE_SETUP_MAX);
		memcpy((uint8_t *)bp + offsetof(struct boot_params, hdr), kernel->setup,
		       kernel->setup_len);
	} else {
		bp->hdr.boot_flag = 0xaa55;
		bp->hdr.header = 0x53726448; /* "HdrS" */
		bp->hdr.version = 0x020c;
		bp->hdr.initrd_addr_max = IMAGE_INITRD_MAX;
		bp->hdr.cmdline_size = IMAGE_CMDLINE_MAX;
		bp->hdr.kernel_alignment = 2u << 20;
		bp->hdr.xloadflags = XLF_KERNEL_64;
	}
	bp->hdr.type_of_loader = LOADER_UNDEFINED;
	bp->hdr.loadflags |= LOADED_HIGH;
}

static struct boot_e820_entry range(uint64_t start, uint64_t end, uint32_t type)
{
	assert(start < end);
	return (struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
}

/*
 * EBDA, VGA and BIOS areas are one reserved range: MP and ACPI tables and the device tree lie
 * there, and Linux maps reserved memory without asking.
 */
unsigned boot_memory_map(const struct guest_mem *mem, struct boot_e820_entry map[BOOT_MAP_MAX])
{
	unsigned n = 0;

	map[n++] = range(0, BOOT_EBDA_GPA, E820_RAM);
	map[n++] = range(BOOT_EBDA_GPA, BOOT_LOW_END, E820_RESERVED);
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];
		uint64_t start = r->gpa.v > BOOT_LOW_END ? r->gpa.v : BOOT_LOW_END;

		if (r->gpa.v + r->len > start)
			map[n++] = range(start, r->gpa.v + r->len, E820_RAM);
	}
	return n;
}

void zero_page_fill(struct boot_params *bp, const struct zero_page_request *req)
{
	memset(bp, 0, sizeof(*bp));
	fill_header(bp, req->kernel);
	bp->e820_entries = (uint8_t)boot_memory_map(req->mem, bp->e820_table);
	bp->hdr.cmd_line_ptr = BOOT_CMDLINE_GPA;
	/* Length and address are 64 bits, in two halves (boot protocol 2.12). */
	bp->hdr.ramdisk_image = req->initrd_len ? (uint32_t)req->initrd.v : 0;
	bp->hdr.ramdisk_size = (uint32_t)req->initrd_len;
	bp->ext_ramdisk_image = req->initrd_len ? (uint32_t)(req->initrd.v >> 32) : 0;
	bp->ext_ramdisk_size = (uint32_t)(req->initrd_len >> 32);
	bp->acpi_rsdp_addr = req->rsdp.v;
	bp->hdr.setup_data = req->setup_data.v; /* whatever the file had there */
}
