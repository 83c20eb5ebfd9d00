/* SPDX-License-Identifier: Apache-2.0 */
/* boot_linux(): what is in guest memory afterwards, and what is refused with which words. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot_images.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

struct machine {
	struct guest_mem mem;
	struct bytes file;
	struct boot_request req;
	struct boot_result res;
	struct err err;
};

static void machine_open(struct machine *m, uint64_t bytes, const struct blob *kernel)
{
	*m = (struct machine){0};
	cr_assert_eq(guest_mem_map(&m->mem, bytes, &m->err), 0, "%s", m->err.text);
	m->req.mem = &m->mem;
	m->file = blob_bytes(kernel);
	m->req.cmdline = "console=ttyS0";
}

static int machine_boot(struct machine *m)
{
	struct kernel_image kernel;
	int rc = kernel_image_parse(m->file, guest_mem_low_end(&m->mem), &kernel, &m->err);

	if (rc == 0) {
		m->req.kernel = &kernel;
		rc = boot_linux(&m->req, &m->res, &m->err);
		kernel_image_free(&kernel);
	}
	cr_assert_eq(rc == 0, m->err.text[0] == '\0', "%d: %s", rc, m->err.text);
	return rc;
}

static void must_boot(struct machine *m)
{
	cr_assert_eq(machine_boot(m), 0, "%s", m->err.text);
}

static const struct boot_params *zero_page(const struct machine *m)
{
	return guest_mem_slice(&m->mem, GPA(BOOT_ZERO_PAGE_GPA), sizeof(struct boot_params));
}

static const uint8_t *ram(const struct machine *m, uint64_t gpa, uint64_t len)
{
	const uint8_t *p = guest_mem_slice(&m->mem, GPA(gpa), len);

	cr_assert_not_null(p);
	return p;
}

static void refuse(uint64_t bytes, const struct blob *kernel, int code, const char *word)
{
	struct machine m;

	machine_open(&m, bytes, kernel);
	cr_assert_eq(machine_boot(&m), code, "%d instead of %d: %s", m.err.code, code, m.err.text);
	cr_assert_not_null(strstr(m.err.text, word), "'%s' in: %s", word, m.err.text);
	guest_mem_unmap(&m.mem);
}

Test(boot_linux, a_small_elf_runs_in_16_mib)
{
	struct blob kernel = fake_kernel(2 * MIB);
	struct machine m;
	const struct boot_params *bp;

	machine_open(&m, 16 * MIB, &kernel);
	must_boot(&m);
	cr_assert_eq(m.res.image, BOOT_IMAGE_ELF);
	cr_assert_str_eq(m.res.compression, "none");
	cr_assert_eq(m.res.entry, 2 * MIB);
	cr_assert_eq(m.res.kernel_end, 2 * MIB + 0x4000);
	cr_assert_eq(ram(&m, 2 * MIB, 1)[0], 0x90);
	cr_assert_str_eq((const char *)ram(&m, BOOT_CMDLINE_GPA, 64), "console=ttyS0");
	bp = zero_page(&m);
	cr_assert_eq(bp->sentinel, 0);
	cr_assert_eq(bp->hdr.header, 0x53726448);
	cr_assert_eq(bp->hdr.boot_flag, 0xaa55);
	cr_assert_geq(bp->hdr.version, 0x020c);
	cr_assert_eq(bp->hdr.type_of_loader, 0xff);
	cr_assert_eq(bp->hdr.loadflags & LOADED_HIGH, LOADED_HIGH);
	cr_assert_eq(bp->hdr.cmd_line_ptr, BOOT_CMDLINE_GPA);
	cr_assert_eq(bp->hdr.ramdisk_image, 0);
	cr_assert_eq(bp->hdr.ramdisk_size, 0);
	cr_assert_eq(bp->acpi_rsdp_addr, 0);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
}

Test(boot_linux, the_vmlinux_inside_a_bzimage_is_entered)
{
	struct blob elf = fake_kernel(16 * MIB);
	struct blob tail = fake_kernel(16 * MIB);

	blob_append(&tail, "relocation data behind the ELF", 30);
	for (unsigned p = 0; p < PACKINGS; p++) {
		struct blob packed = pack_with_size(p, p & 1 ? &elf : &tail);
		struct blob kernel = fake_bzimage(&packed, NULL);
		struct machine m;

		machine_open(&m, 64 * MIB, &kernel);
		m.req.rsdp = GPA(0xe0000);
		must_boot(&m);
		cr_assert_eq(m.res.image, BOOT_IMAGE_BZIMAGE_UNPACKED);
		cr_assert_str_eq(m.res.compression, packing_names[p]);
		cr_assert_eq(m.res.entry, 16 * MIB);
		cr_assert_eq(ram(&m, 16 * MIB, 1)[0], 0x90);
		/* The file's own header, not one byte of the set-up code around it. */
		cr_assert_eq(zero_page(&m)->hdr.version, 0x020f);
		cr_assert_eq(zero_page(&m)->hdr.init_size, 0x800000);
		cr_assert_eq(zero_page(&m)->hdr.type_of_loader, 0xff);
		cr_assert_eq(zero_page(&m)->sentinel, 0);
		cr_assert_eq(zero_page(&m)->_pad7[0], 0);
		cr_assert_eq(zero_page(&m)->acpi_rsdp_addr, 0xe0000);
		guest_mem_unmap(&m.mem);
		blob_free(&packed);
		blob_free(&kernel);
	}
	blob_free(&elf);
	blob_free(&tail);
}

static const struct blob unknown = {(uint8_t *)(uintptr_t) "BZh91AY&SY", 10};

static void not_relocatable(struct setup_header *hdr)
{
	hdr->relocatable_kernel = 0;
}

Test(boot_linux, an_unknown_payload_unpacks_in_the_guest)
{
	struct blob kernel = fake_bzimage(&unknown, NULL);
	struct machine m;

	machine_open(&m, 64 * MIB, &kernel);
	must_boot(&m);
	cr_assert_eq(m.res.image, BOOT_IMAGE_BZIMAGE_RAW);
	cr_assert_eq(m.res.entry, 16 * MIB + 0x200);
	cr_assert_eq(m.res.kernel_end, 16 * MIB + 0x800000, "pref_address + init_size");
	cr_assert_eq(ram(&m, 16 * MIB, 1)[0], 0xf4);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);

	kernel = fake_bzimage(&unknown, not_relocatable);
	machine_open(&m, 64 * MIB, &kernel);
	must_boot(&m);
	cr_assert_eq(m.res.entry, 1 * MIB + 0x200);
	cr_assert_eq(m.res.kernel_end, 16 * MIB + 0x800000, "it moves itself there");
	cr_assert_eq(ram(&m, 1 * MIB, 1)[0], 0xf4);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
}

static void absurd_address(struct setup_header *hdr)
{
	hdr->pref_address = UINT64_MAX - 0xfff;
}

static void absurd_init_size(struct setup_header *hdr)
{
	hdr->init_size = UINT32_MAX;
}

Test(boot_linux, absurd_load_addresses_are_refused)
{
	struct blob kernel = fake_bzimage(&unknown, absurd_address);

	refuse(64 * MIB, &kernel, -ENOEXEC, "wants to run at");
	blob_free(&kernel);
	kernel = fake_bzimage(&unknown, absurd_init_size);
	refuse(64 * MIB, &kernel, -ENOEXEC, "it ends at");
	blob_free(&kernel);
	kernel = fake_kernel(2 * GIB);
	refuse(3 * GIB, &kernel, -ENOEXEC, "it ends at");
	blob_free(&kernel);
}

static void check_e820(uint64_t bytes, const uint64_t (*want)[3], unsigned count)
{
	struct blob kernel = fake_kernel(2 * MIB);
	struct machine m;
	const struct boot_params *bp;

	machine_open(&m, bytes, &kernel);
	must_boot(&m);
	bp = zero_page(&m);
	cr_assert_eq(bp->e820_entries, count, "%u entries", bp->e820_entries);
	for (unsigned i = 0; i < count; i++) {
		struct boot_e820_entry e = bp->e820_table[i];

		cr_assert_eq(e.addr, want[i][0], "entry %u", i);
		cr_assert_eq(e.addr + e.size, want[i][1], "entry %u", i);
		cr_assert_eq(e.type, want[i][2], "entry %u", i);
	}
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
}

Test(boot_linux, e820_map)
{
	const uint64_t low[][3] = {
	    {0, 0x9fc00, 1}, {0x9fc00, MIB, 2}, {MIB, 16 * MIB, 1}, {4 * GIB, 6 * GIB, 1}};
	uint64_t want[4][3];

	memcpy(want, low, sizeof(want));
	check_e820(16 * MIB, want, 3);
	want[2][1] = 3 * GIB;
	check_e820(3 * GIB, want, 3);
	check_e820(5 * GIB, want, 4);
	want[3][1] = 9 * GIB;
	check_e820(8 * GIB, want, 4);
}

static void load_initrd(struct machine *m, size_t len, uint64_t want_gpa)
{
	const struct boot_params *bp;
	uint8_t *initrd = malloc(len);

	cr_assert_not_null(initrd);
	memset(initrd, 0xa5, len);
	m->req.initrd = (struct bytes){initrd, len};
	must_boot(m);
	bp = zero_page(m);
	cr_assert_eq(bp->hdr.ramdisk_image, want_gpa, "%#x", bp->hdr.ramdisk_image);
	cr_assert_eq(bp->hdr.ramdisk_size, len);
	cr_assert_eq(bp->ext_ramdisk_image | bp->ext_ramdisk_size, 0);
	cr_assert_arr_eq(ram(m, want_gpa, len), initrd, len);
	cr_assert_eq(m->res.initrd.v, want_gpa);
	free(initrd);
}

/* Then the caller is told where its bytes go, and nothing is written there. */
Test(boot_linux, an_initrd_that_the_caller_fills_in)
{
	struct blob kernel = fake_kernel(2 * MIB);
	const struct boot_params *bp;
	struct machine m;

	machine_open(&m, 64 * MIB, &kernel);
	m.req.initrd = (struct bytes){NULL, 0x1801};
	must_boot(&m);
	bp = zero_page(&m);
	cr_assert_eq(m.res.initrd.v, 64 * MIB - 0x2000);
	cr_assert_eq(bp->hdr.ramdisk_image, 64 * MIB - 0x2000);
	cr_assert_eq(bp->hdr.ramdisk_size, 0x1801u);
	cr_assert_eq(*ram(&m, m.res.initrd.v, 1), 0);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
}

static void old_initrd_max(struct setup_header *hdr)
{
	hdr->initrd_addr_max = 0x37ffffff;
}

Test(boot_linux, initrd_at_the_top_of_what_the_kernel_reaches)
{
	struct blob elf = fake_kernel(16 * MIB), packed = pack_with_size(PACK_LZ4, &elf);
	struct blob kernel = fake_bzimage(&packed, NULL);
	struct machine m;

	machine_open(&m, 64 * MIB, &kernel);
	load_initrd(&m, 0x1801, 64 * MIB - 0x2000);
	guest_mem_unmap(&m.mem);
	machine_open(&m, 5 * GIB, &kernel);
	load_initrd(&m, 0x1000, 2 * GIB - 0x1000);
	guest_mem_unmap(&m.mem);
	machine_open(&m, 5 * GIB, &elf);
	load_initrd(&m, 1, 2 * GIB - 0x1000);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);

	kernel = fake_bzimage(&packed, old_initrd_max);
	machine_open(&m, 5 * GIB, &kernel);
	load_initrd(&m, 0x1000, 0x38000000 - 0x1000);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
	blob_free(&packed);
	blob_free(&elf);
}

static void low_initrd_max(struct setup_header *hdr)
{
	hdr->initrd_addr_max = 17 * MIB;
}

static void no_initrd_max(struct setup_header *hdr)
{
	hdr->initrd_addr_max = 0;
}

Test(boot_linux, an_initrd_that_does_not_fit)
{
	struct blob elf = fake_kernel(16 * MIB), packed = pack_with_size(PACK_LZ4, &elf);
	static uint8_t initrd[2 * MIB];
	void (*const change[])(struct setup_header * hdr) = {low_initrd_max, no_initrd_max};

	for (unsigned i = 0; i < 2; i++) {
		struct blob kernel = fake_bzimage(&packed, change[i]);
		struct machine m;

		machine_open(&m, 64 * MIB, &kernel);
		m.req.initrd = (struct bytes){initrd, sizeof(initrd)};
		cr_assert_eq(machine_boot(&m), -E2BIG);
		cr_assert_eq(strncmp(m.err.text, "initrd: ", 8), 0, "%s", m.err.text);
		guest_mem_unmap(&m.mem);
		blob_free(&kernel);
	}
	blob_free(&packed);
	blob_free(&elf);
}

Test(boot_linux, linux_needs_room_beyond_itself)
{
	/* Ends at 16 MiB + 16 KiB: with 16 MiB more and in whole MiB that is 33. */
	struct blob elf = fake_kernel(16 * MIB), packed = pack_with_size(PACK_XZ, &elf);
	struct blob kernel = fake_bzimage(&packed, NULL);
	struct machine m;
	static uint8_t initrd[MIB];

	refuse(16 * MIB, &elf, -ENOMEM, "33 MiB");
	refuse(32 * MIB, &kernel, -ENOMEM, "33 MiB");
	machine_open(&m, 33 * MIB, &kernel);
	must_boot(&m);
	m.req.initrd = (struct bytes){initrd, sizeof(initrd)};
	cr_assert_eq(machine_boot(&m), -ENOMEM);
	cr_assert_not_null(strstr(m.err.text, "34 MiB"), "%s", m.err.text);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
	blob_free(&packed);
	blob_free(&elf);
}

Test(boot_linux, a_small_elf_needs_room_for_itself_and_its_initrd)
{
	struct blob kernel = fake_kernel(15 * MIB);
	static uint8_t initrd[MIB];
	struct machine m;

	machine_open(&m, 16 * MIB, &kernel);
	must_boot(&m);
	m.req.initrd = (struct bytes){initrd, sizeof(initrd)};
	cr_assert_eq(machine_boot(&m), -ENOMEM);
	cr_assert_not_null(strstr(m.err.text, "17 MiB"), "%s", m.err.text);
	guest_mem_unmap(&m.mem);
	blob_free(&kernel);
}

Test(boot_linux, a_payload_that_outgrows_the_guest)
{
	struct blob zeroes = {calloc(1, 96 * MIB), 96 * MIB};
	struct blob packed = pack_with_size(PACK_LZ4, &zeroes);
	struct blob kernel = fake_bzimage(&packed, NULL);

	refuse(16 * MIB, &kernel, -ENOMEM, "memory");
	blob_free(&kernel);
	blob_free(&packed);
	blob_free(&zeroes);
}

static void short_cmdline(struct setup_header *hdr)
{
	hdr->cmdline_size = 20;
}

static void endless_cmdline(struct setup_header *hdr)
{
	hdr->cmdline_size = UINT32_MAX;
}

static void check_cmdline(const struct blob *kernel, size_t max)
{
	char *line = malloc(max + 2);
	struct machine m;

	memset(line, 'x', max + 1);
	line[max + 1] = '\0';
	machine_open(&m, 64 * MIB, kernel);
	m.req.cmdline = line;
	cr_assert_eq(machine_boot(&m), -E2BIG);
	cr_assert_not_null(strstr(m.err.text, "command line"), "%s", m.err.text);
	m.err.text[0] = '\0';
	line[max] = '\0';
	must_boot(&m);
	cr_assert_str_eq((const char *)ram(&m, BOOT_CMDLINE_GPA, max + 1), line);
	guest_mem_unmap(&m.mem);
	free(line);
}

Test(boot_linux, command_line_limits)
{
	struct blob elf = fake_kernel(16 * MIB), packed = pack_with_size(PACK_GZIP, &elf);
	struct blob kernel = fake_bzimage(&packed, short_cmdline);

	check_cmdline(&kernel, 20);
	blob_free(&kernel);
	kernel = fake_bzimage(&packed, endless_cmdline);
	check_cmdline(&kernel, BOOT_CMDLINE_MAX - 1);
	blob_free(&kernel);
	check_cmdline(&elf, 2047);
	blob_free(&packed);
	blob_free(&elf);
}

Test(boot_linux, files_that_are_no_kernel)
{
	static const char noise[4096] = "This is no kernel. ";
	struct blob file = {0}, packed;

	refuse(64 * MIB, &file, -ENOEXEC, "the file is empty");
	blob_append(&file, noise, sizeof(noise));
	refuse(64 * MIB, &file, -ENOEXEC, "neither");
	packed = pack(PACK_GZIP, &file);
	refuse(64 * MIB, &packed, -ENOEXEC, "gzip");
	blob_free(&packed);
	blob_free(&file);
}

Test(boot_linux, damage_inside_a_bzimage_is_named)
{
	static uint8_t noise[64];
	struct blob text = {noise, sizeof(noise)};
	struct blob packed = pack_with_size(PACK_XZ, &text), kernel = fake_bzimage(&packed, NULL);

	refuse(64 * MIB, &kernel, -ENOEXEC, "the vmlinux inside the bzImage: not an ELF file");
	blob_free(&kernel);
	packed.data[packed.len / 2] ^= 0x55;
	kernel = fake_bzimage(&packed, NULL);
	refuse(64 * MIB, &kernel, -ENOEXEC, "corrupt: the xz data");
	blob_free(&kernel);
	packed.len /= 2;
	kernel = fake_bzimage(&packed, NULL);
	refuse(64 * MIB, &kernel, -ENOEXEC, "truncated: the xz data");
	blob_free(&kernel);
	blob_free(&packed);
}

Test(boot_linux, too_little_memory_for_anything)
{
	struct blob kernel = fake_kernel(2 * MIB);

	refuse(1 * MIB, &kernel, -ENOMEM, "3 MiB");
	refuse(4096, &kernel, -ENOMEM, "3 MiB");
	blob_free(&kernel);
}
