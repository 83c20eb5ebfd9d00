/* SPDX-License-Identifier: Apache-2.0 */
/* ELF executables: what is loaded where, and that no header is believed. */
#include <criterion/criterion.h>

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot_images.h"

#define MIB 0x100000ull

static int parse(const struct blob *file, struct elf_image *elf, struct err *err)
{
	int rc = elf_parse(blob_bytes(file), elf, err);

	cr_assert_eq(rc == 0, err->text[0] == '\0', "an error, and only an error, has a text");
	return rc;
}

/* Asserts -ENOEXEC and that the text holds `word`. */
static void refuse(const struct blob *file, const char *word)
{
	struct err err = {0};
	struct elf_image elf;

	cr_assert_eq(parse(file, &elf, &err), -ENOEXEC, "expected: %s", word);
	cr_assert_not_null(strstr(err.text, word), "'%s' in: %s", word, err.text);
}

static Elf64_Ehdr *header(struct blob *file)
{
	return (Elf64_Ehdr *)(void *)file->data;
}

static Elf64_Phdr *program_header(struct blob *file, unsigned i)
{
	return (Elf64_Phdr *)(void *)(file->data + sizeof(Elf64_Ehdr)) + i;
}

static int load(const struct blob *file, const struct guest_mem *mem, struct err *err)
{
	struct kernel_image kernel;
	int rc = kernel_image_parse(blob_bytes(file), guest_mem_low_end(mem), &kernel, err);

	cr_assert_eq(rc, 0, "%s", err->text);
	rc = kernel_image_load(&kernel, mem, err);
	kernel_image_free(&kernel);
	return rc;
}

Test(boot_elf, segments_go_to_their_physical_addresses)
{
	/* As vmlinux: text high, a per-CPU segment with p_vaddr 0; out of order in the file. */
	struct fake_segment seg[] = {
	    {4 * MIB, 0, 0x1001, 0x1001, 2},
	    {2 * MIB, 0xffffffff81000000, 0x1234, 0x3000, 1},
	};
	struct blob file = fake_elf(seg, 2, 2 * MIB + 0x10);
	struct guest_mem mem;
	struct err err = {0};
	struct elf_image elf;
	uint8_t *ram;

	cr_assert_eq(parse(&file, &elf, &err), 0, "%s", err.text);
	cr_assert_eq(elf.count, 2);
	cr_assert_eq(elf.entry, 2 * MIB + 0x10);
	cr_assert_eq(elf.end, 4 * MIB + 0x1001);
	cr_assert_eq(guest_mem_map(&mem, 8 * MIB, &err), 0);
	ram = guest_mem_slice(&mem, GPA(0), 8 * MIB);
	memset(ram, 0xee, 8 * MIB);
	cr_assert_eq(load(&file, &mem, &err), 0, "%s", err.text);
	cr_assert_eq(ram[2 * MIB - 1], 0xee);
	cr_assert_eq(ram[2 * MIB], 1);
	cr_assert_eq(ram[2 * MIB + 0x1233], 1);
	cr_assert_eq(ram[2 * MIB + 0x1234], 0, "bss begins right behind the file's bytes");
	cr_assert_eq(ram[2 * MIB + 0x2fff], 0);
	cr_assert_eq(ram[2 * MIB + 0x3000], 0xee);
	cr_assert_eq(ram[4 * MIB + 0x1000], 2);
	cr_assert_eq(ram[4 * MIB + 0x1001], 0xee);
	guest_mem_unmap(&mem);
	blob_free(&file);
}

Test(boot_elf, a_virtual_entry_point_is_translated)
{
	struct fake_segment seg = {2 * MIB, 0xffffffff80200000, 0x1000, 0x2000, 1};
	struct blob file = fake_elf(&seg, 1, 0xffffffff80200123);
	struct err err = {0};
	struct elf_image elf;

	cr_assert_eq(parse(&file, &elf, &err), 0, "%s", err.text);
	cr_assert_eq(elf.entry, 2 * MIB + 0x123);
	blob_free(&file);
}

Test(boot_elf, an_entry_point_outside_of_the_file_is_refused)
{
	struct fake_segment seg = {2 * MIB, 2 * MIB, 0x1000, 0x2000, 1};
	const uint64_t bad[] = {0, 2 * MIB - 1, 2 * MIB + 0x1000, UINT64_MAX};

	for (unsigned i = 0; i < 4; i++) {
		struct blob file = fake_elf(&seg, 1, bad[i]);

		refuse(&file, "entry point");
		blob_free(&file);
	}
}

Test(boot_elf, bytes_behind_the_segments_are_ignored)
{
	struct blob file = fake_kernel(2 * MIB);
	struct err err = {0};
	struct elf_image elf;

	blob_append(&file, "relocations", 11);
	cr_assert_eq(parse(&file, &elf, &err), 0, "%s", err.text);
	blob_free(&file);
}

Test(boot_elf, every_truncation_is_noticed)
{
	struct blob file = fake_kernel(2 * MIB);
	struct err err;
	struct elf_image elf;

	for (size_t n = 0; n < file.len; n += n < 256 || n + 4 > file.len ? 1 : 61) {
		struct blob cut = blob_cut(&file, n);

		err.text[0] = '\0';
		cr_assert_eq(parse(&cut, &elf, &err), -ENOEXEC, "%zu bytes", n);
		if (n >= SELFMAG)
			cr_assert_not_null(strstr(err.text, "truncated"), "%s", err.text);
		blob_free(&cut);
	}
	blob_free(&file);
}

Test(boot_elf, other_elf_files_are_refused)
{
	struct blob file = fake_kernel(2 * MIB);

	header(&file)->e_machine = EM_AARCH64;
	refuse(&file, "x86-64");
	header(&file)->e_machine = EM_X86_64;
	header(&file)->e_ident[EI_CLASS] = ELFCLASS32;
	refuse(&file, "x86-64");
	header(&file)->e_ident[EI_CLASS] = ELFCLASS64;
	header(&file)->e_type = ET_REL;
	refuse(&file, "no executable");
	header(&file)->e_type = ET_EXEC;
	header(&file)->e_phnum = 0;
	refuse(&file, "program headers");
	header(&file)->e_phnum = 1;
	header(&file)->e_phentsize = 32;
	refuse(&file, "program headers");
	header(&file)->e_phentsize = sizeof(Elf64_Phdr);
	program_header(&file, 0)->p_type = PT_NOTE;
	refuse(&file, "nothing to load");
	blob_free(&file);
}

Test(boot_elf, absurd_numbers_are_refused)
{
	struct blob file = fake_kernel(2 * MIB);
	Elf64_Phdr good = *program_header(&file, 0), *ph = program_header(&file, 0);

	header(&file)->e_phoff = UINT64_MAX - 8;
	refuse(&file, "truncated");
	header(&file)->e_phoff = sizeof(Elf64_Ehdr);
	header(&file)->e_phnum = 0xffff;
	refuse(&file, "truncated");
	header(&file)->e_phnum = 1;

	ph->p_offset = UINT64_MAX;
	refuse(&file, "truncated");
	*ph = good;
	ph->p_filesz = UINT64_MAX - 0xfff;
	ph->p_memsz = UINT64_MAX;
	refuse(&file, "truncated");
	*ph = good;
	ph->p_memsz = ph->p_filesz - 1;
	refuse(&file, "corrupt");
	*ph = good;
	ph->p_memsz = UINT64_MAX;
	refuse(&file, "corrupt");
	*ph = good;
	ph->p_paddr = UINT64_MAX - 0x100;
	refuse(&file, "corrupt");
	blob_free(&file);
}

Test(boot_elf, segments_below_1_mib_are_refused)
{
	struct blob file = fake_kernel(MIB - 0x1000);

	refuse(&file, "1 MiB");
	blob_free(&file);
	file = fake_kernel(0);
	refuse(&file, "1 MiB");
	blob_free(&file);
}

Test(boot_elf, overlapping_segments_are_refused)
{
	struct fake_segment seg[] = {
	    {3 * MIB, 0, 0x1000, 0x1000, 2},
	    {2 * MIB, 0, 0x1000, MIB + 1, 1},
	};
	struct blob file = fake_elf(seg, 2, 2 * MIB);
	struct err err = {0};
	struct elf_image elf;

	refuse(&file, "overlap");
	blob_free(&file);
	seg[1].memsz = MIB;
	file = fake_elf(seg, 2, 2 * MIB);
	cr_assert_eq(parse(&file, &elf, &err), 0, "adjoining segments are fine: %s", err.text);
	blob_free(&file);
}

Test(boot_elf, too_many_segments_are_refused)
{
	struct fake_segment seg[ELF_SEGMENTS_MAX + 1];
	struct blob file;
	struct err err = {0};
	struct elf_image elf;

	for (unsigned i = 0; i <= ELF_SEGMENTS_MAX; i++)
		seg[i] = (struct fake_segment){2 * MIB + i * 0x1000, 0, 16, 16, 1};
	file = fake_elf(seg, ELF_SEGMENTS_MAX, 2 * MIB);
	cr_assert_eq(parse(&file, &elf, &err), 0, "%s", err.text);
	blob_free(&file);
	file = fake_elf(seg, ELF_SEGMENTS_MAX + 1, 2 * MIB);
	refuse(&file, "segments");
	blob_free(&file);
}

Test(boot_elf, no_memory_under_a_segment)
{
	struct blob file = fake_kernel(16 * MIB - 0x3000);
	struct guest_mem mem;
	struct err err = {0};

	cr_assert_eq(guest_mem_map(&mem, 16 * MIB, &err), 0);
	cr_assert_eq(load(&file, &mem, &err), -ENOMEM);
	guest_mem_unmap(&mem);
	blob_free(&file);
}
