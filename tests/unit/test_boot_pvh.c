/* SPDX-License-Identifier: Apache-2.0 */
/* PVH: the note in an ELF, which entry is taken, the start info, the state of the processor. */
#include <criterion/criterion.h>

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "boot_images.h"

#define MIB 0x100000ull
#define GIB 0x40000000ull

/* --- notes --- */

static void want_note(struct blob b, uint64_t want)
{
	cr_assert_eq(pvh_find_note(blob_bytes(&b)), want);
	blob_free(&b);
}

Test(boot_pvh, a_note_of_either_size)
{
	want_note(pvh_note(0x1000500, 4), 0x1000500);
	want_note(pvh_note(0x1000500, 8), 0x1000500);
}

Test(boot_pvh, the_note_is_found_among_others)
{
	const uint64_t address = 0x200000;
	struct blob b = {0};

	append_note(&b, 3, "GNU", 4, "build id of 20 bytes", 20);
	append_note(&b, 18, "GNU", 4, &b.len, 8);   /* another owner's */
	append_note(&b, 18, "Xena", 5, &b.len, 8);  /* and of a longer name */
	append_note(&b, 17, "Xen", 4, &b.len, 8);   /* another type */
	append_note(&b, 0x100, "Linux", 6, "x", 1); /* both padded */
	append_note(&b, 18, "Xen", 4, &address, 8);
	append_note(&b, 18, "Xen", 4, &b.len, 8); /* the first one counts */
	want_note(b, address);
}

Test(boot_pvh, notes_that_make_no_sense)
{
	struct blob good = pvh_note(0x200000, 8), b;

	want_note((struct blob){0}, 0);
	want_note(pvh_note(0x200000, 0), 0);
	want_note(pvh_note(0x200000, 3), 0);
	b = pvh_note(0x200000, 8);
	b.data[4] = 12; /* n_descsz runs past the end */
	want_note(b, 0);
	b = pvh_note(0x200000, 8);
	memset(b.data, 0xff, 8); /* both lengths are absurd */
	want_note(b, 0);
	for (size_t n = 0; n < good.len; n++)
		want_note(blob_cut(&good, n), 0);
	blob_free(&good);
}

/* --- the ELF --- */

static void want_entries(struct blob file, uint64_t entry, uint64_t pvh)
{
	struct elf_image elf;
	struct err err = {0};

	cr_assert_eq(elf_parse(blob_bytes(&file), &elf, &err), 0, "%s", err.text);
	cr_assert_eq(elf.entry, entry);
	cr_assert_eq(elf.pvh_entry, pvh);
	blob_free(&file);
}

Test(boot_pvh, entries_of_an_elf)
{
	want_entries(fake_pvh_kernel(2 * MIB, 2 * MIB + 0x100), 2 * MIB, 2 * MIB + 0x100);
	want_entries(fake_pvh_kernel(0, 2 * MIB + 0x100), 0, 2 * MIB + 0x100);
	want_entries(fake_kernel(2 * MIB), 2 * MIB, 0);
}

Test(boot_pvh, a_note_that_names_no_byte_of_the_file_counts_as_none)
{
	const uint64_t bad[] = {0, 2 * MIB - 1, 2 * MIB + 0x2000, 1ull << 40, UINT64_MAX};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		want_entries(fake_pvh_kernel(2 * MIB, bad[i]), 2 * MIB, 0);
}

Test(boot_pvh, notes_beyond_the_file_count_as_none)
{
	const uint64_t bad[][2] = {
	    {UINT64_MAX, 8}, {0x100000, 8}, {64, UINT64_MAX}, {64, UINT64_MAX - 63}};

	for (unsigned i = 0; i < 4; i++) {
		struct blob file = fake_pvh_kernel(2 * MIB, 2 * MIB + 0x100);
		Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(file.data + sizeof(Elf64_Ehdr)) + 1;

		ph->p_offset = bad[i][0];
		ph->p_filesz = bad[i][1];
		want_entries(file, 2 * MIB, 0);
	}
}

/* --- boot_linux() --- */

struct machine {
	struct guest_mem mem;
	struct boot_request req;
	struct boot_result res;
	struct err err;
};

static int boot(struct machine *m, uint64_t bytes, struct blob file)
{
	struct kernel_image kernel;
	int rc = guest_mem_map(&m->mem, bytes, &m->err);

	cr_assert_eq(rc, 0, "%s", m->err.text);
	m->req.mem = &m->mem;
	m->req.cmdline = "console=ttyS0";
	rc = kernel_image_parse(blob_bytes(&file), guest_mem_low_end(&m->mem), &kernel, &m->err);
	if (rc == 0) {
		m->req.kernel = &kernel;
		rc = boot_linux(&m->req, &m->res, &m->err);
		kernel_image_free(&kernel);
	}
	blob_free(&file);
	return rc;
}

static void want_entry(enum entry_mode mode, struct blob file, bool pvh)
{
	struct machine m = {.req.entry = mode};

	cr_assert_eq(boot(&m, 16 * MIB, file), 0, "%s", m.err.text);
	cr_assert_eq(m.res.pvh, pvh, "mode %d", mode);
	guest_mem_unmap(&m.mem);
}

static void refuse_entry(enum entry_mode mode, gpa_t setup_data, struct blob file, int code,
			 const char *word)
{
	struct machine m = {.req.entry = mode, .req.setup_data = setup_data};

	cr_assert_eq(boot(&m, 16 * MIB, file), code, "%s", m.err.text);
	cr_assert_not_null(strstr(m.err.text, word), "'%s' in: %s", word, m.err.text);
	guest_mem_unmap(&m.mem);
}

Test(boot_pvh, which_entry_is_taken)
{
	const uint64_t at = 2 * MIB, pvh = 2 * MIB + 0x100;

	want_entry(ENTRY_AUTO, fake_kernel(at), false);
	want_entry(ENTRY_AUTO, fake_pvh_kernel(at, pvh), false);
	want_entry(ENTRY_AUTO, fake_pvh_kernel(0, pvh), true);
	want_entry(ENTRY_LINUX, fake_pvh_kernel(at, pvh), false);
	want_entry(ENTRY_PVH, fake_pvh_kernel(at, pvh), true);
	refuse_entry(ENTRY_PVH, GPA(0), fake_kernel(at), -ENOEXEC, "has no PVH entry");
	refuse_entry(ENTRY_LINUX, GPA(0), fake_pvh_kernel(0, pvh), -ENOEXEC, "--entry pvh");
}

Test(boot_pvh, a_device_tree_cannot_go_with_it)
{
	const uint64_t at = 2 * MIB, pvh = 2 * MIB + 0x100;

	refuse_entry(ENTRY_PVH, GPA(0xe0000), fake_pvh_kernel(at, pvh), -EINVAL, "device tree");
	refuse_entry(ENTRY_AUTO, GPA(0xe0000), fake_pvh_kernel(0, pvh), -EINVAL, "device tree");
}

Test(boot_pvh, setup_data_is_in_the_zero_page_otherwise)
{
	struct machine m = {.req.setup_data = GPA(0xe0000)};
	const struct boot_params *bp;

	cr_assert_eq(boot(&m, 16 * MIB, fake_pvh_kernel(2 * MIB, 2 * MIB)), 0, "%s", m.err.text);
	bp = guest_mem_slice(&m.mem, GPA(BOOT_ZERO_PAGE_GPA), sizeof(*bp));
	cr_assert_eq(bp->hdr.setup_data, 0xe0000);
	guest_mem_unmap(&m.mem);
}

Test(boot_pvh, inside_a_bzimage)
{
	struct blob elf = fake_pvh_kernel(2 * MIB, 2 * MIB + 0x100);
	struct blob packed = pack_with_size(PACK_LZ4, &elf), file = fake_bzimage(&packed, NULL);
	struct machine m = {.req.entry = ENTRY_PVH};

	cr_assert_eq(boot(&m, 64 * MIB, file), 0, "%s", m.err.text);
	cr_assert_eq(m.res.image, BOOT_IMAGE_BZIMAGE_UNPACKED);
	cr_assert_eq(m.res.pvh_entry, 2 * MIB + 0x100);
	guest_mem_unmap(&m.mem);
	blob_free(&packed);
	blob_free(&elf);
}

/* A bzImage that unpacks itself can only be entered as Linux. */
Test(boot_pvh, not_for_a_bzimage_that_unpacks_itself)
{
	static const struct blob unknown = {(uint8_t *)(uintptr_t) "BZh91AY&SY", 10};
	struct machine m = {.req.entry = ENTRY_PVH};

	cr_assert_eq(boot(&m, 64 * MIB, fake_bzimage(&unknown, NULL)), -ENOEXEC);
	cr_assert_not_null(strstr(m.err.text, "has no PVH entry"), "%s", m.err.text);
	guest_mem_unmap(&m.mem);
}

/* --- start info, field by field as the ABI has them --- */

static uint64_t field(const struct machine *m, uint64_t gpa, unsigned bytes)
{
	uint64_t v = 0;

	cr_assert_eq(guest_mem_read(&m->mem, GPA(gpa), &v, bytes), 0);
	return v;
}

static uint64_t info(const struct machine *m, unsigned at, unsigned bytes)
{
	return field(m, BOOT_PVH_INFO_GPA + at, bytes);
}

static void want_map(const struct machine *m, const uint64_t (*want)[3], unsigned count)
{
	uint64_t map = info(m, 40, 8);

	cr_assert_eq(info(m, 48, 4), count);
	for (unsigned i = 0; i < count; i++) {
		cr_assert_eq(field(m, map + i * 24, 8), want[i][0], "entry %u", i);
		cr_assert_eq(field(m, map + i * 24 + 8, 8), want[i][1] - want[i][0], "entry %u", i);
		cr_assert_eq(field(m, map + i * 24 + 16, 4), want[i][2], "entry %u", i);
		cr_assert_eq(field(m, map + i * 24 + 20, 4), 0);
	}
}

Test(boot_pvh, start_info)
{
	const uint64_t map[][3] = {{0, 0x9fc00, 1}, {0x9fc00, MIB, 2}, {MIB, 16 * MIB, 1}};
	struct machine m = {.req.entry = ENTRY_PVH, .req.rsdp = GPA(0xe0000)};
	char line[32];

	cr_assert_eq(boot(&m, 16 * MIB, fake_pvh_kernel(2 * MIB, 2 * MIB)), 0, "%s", m.err.text);
	cr_assert_eq(info(&m, 0, 4), 0x336ec578);
	cr_assert_eq(info(&m, 4, 4), 1);
	cr_assert_eq(info(&m, 8, 4), 0);
	cr_assert_eq(info(&m, 12, 4), 0, "no module");
	cr_assert_eq(info(&m, 16, 8), 0);
	cr_assert_eq(guest_mem_read(&m.mem, GPA(info(&m, 24, 8)), line, sizeof(line)), 0);
	cr_assert_str_eq(line, "console=ttyS0");
	cr_assert_eq(info(&m, 32, 8), 0xe0000);
	cr_assert_eq(info(&m, 52, 4), 0);
	want_map(&m, map, 3);
	guest_mem_unmap(&m.mem);
}

Test(boot_pvh, the_initrd_is_a_module)
{
	static const uint8_t initrd[5000] = {1, 2, 3};
	struct machine m = {.req.entry = ENTRY_PVH, .req.initrd = {initrd, sizeof(initrd)}};
	uint64_t list;

	cr_assert_eq(boot(&m, 16 * MIB, fake_pvh_kernel(2 * MIB, 2 * MIB)), 0, "%s", m.err.text);
	cr_assert_eq(info(&m, 12, 4), 1);
	list = info(&m, 16, 8);
	cr_assert_eq(field(&m, list, 8), 16 * MIB - 8192);
	cr_assert_eq(field(&m, list + 8, 8), sizeof(initrd));
	cr_assert_eq(field(&m, list + 16, 8), 0, "it has no command line");
	cr_assert_eq(field(&m, list + 24, 8), 0);
	cr_assert_eq(field(&m, 16 * MIB - 8192, 4), 0x030201);
	guest_mem_unmap(&m.mem);
}

Test(boot_pvh, the_map_of_a_large_machine)
{
	const uint64_t map[][3] = {
	    {0, 0x9fc00, 1}, {0x9fc00, MIB, 2}, {MIB, 3 * GIB, 1}, {4 * GIB, 6 * GIB, 1}};
	struct machine m = {.req.entry = ENTRY_PVH};

	cr_assert_eq(boot(&m, 5 * GIB, fake_pvh_kernel(2 * MIB, 2 * MIB)), 0, "%s", m.err.text);
	want_map(&m, map, 4);
	guest_mem_unmap(&m.mem);
}

/* --- registers --- */

static void want_flat(const struct kvm_segment *s, unsigned type)
{
	cr_assert_eq(s->base, 0);
	cr_assert_eq(s->limit, 0xffffffff);
	cr_assert_eq(s->type, type);
	cr_assert(s->db && s->g && s->s && s->present && !s->l && !s->unusable && s->dpl == 0);
}

Test(boot_pvh, registers)
{
	struct kvm_sregs sregs = {.cr0 = 0x60000010, .cr4 = 0x40, .apic_base = 0xfee00900};
	struct kvm_regs regs;
	struct guest_mem mem;
	struct err err = {0};
	uint64_t gdt[8];

	memset(&regs, 0xff, sizeof(regs));
	cr_assert_eq(guest_mem_map(&mem, 16 * MIB, &err), 0);
	cr_assert_eq(boot_regs_pvh(&mem, 0x1000500, &regs, &sregs, &err), 0, "%s", err.text);
	cr_assert_eq(regs.rip, 0x1000500);
	cr_assert_eq(regs.rbx, BOOT_PVH_INFO_GPA);
	cr_assert_eq(regs.rflags, 2);
	cr_assert_eq(sregs.cr0, 0x11, "PE, and ET, which is always 1");
	cr_assert_eq(sregs.cr4 | sregs.efer | sregs.cr3, 0);
	cr_assert_eq(sregs.apic_base, 0xfee00900, "left alone");
	want_flat(&sregs.cs, 0xb);
	want_flat(&sregs.ds, 3);
	want_flat(&sregs.es, 3);
	want_flat(&sregs.ss, 3);
	cr_assert(sregs.tr.base == 0 && sregs.tr.limit == 0x67 && sregs.tr.type == 0xb);
	cr_assert(sregs.tr.present && !sregs.tr.s);
	cr_assert_eq(guest_mem_read(&mem, GPA(sregs.gdt.base), gdt, sizeof(gdt)), 0);
	cr_assert_eq(gdt[sregs.cs.selector / 8], 0x00cf9b000000ffff);
	cr_assert_eq(gdt[sregs.ds.selector / 8], 0x00cf93000000ffff);
	cr_assert_eq(gdt[sregs.tr.selector / 8], 0x00008b0000000067);
	guest_mem_unmap(&mem);
}

Test(boot_pvh, registers_without_memory)
{
	struct guest_mem none = {0};
	struct kvm_sregs sregs = {0};
	struct kvm_regs regs;
	struct err err = {0};

	cr_assert_eq(boot_regs_pvh(&none, 0x1000500, &regs, &sregs, &err), -EFAULT);
}
