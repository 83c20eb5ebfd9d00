/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that are cut short at many lengths, damaged, or made up. */
#include "suite.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BAD	 "bad-kernel"
#define ELF_CODE 64 /* bytes of code in the ELF below */

static void refuse_bytes(struct suite *s, const char *name, const void *data, size_t len)
{
	const struct refusal r = {.name = name,
				  .args = {"--kernel", "@" BAD, "--console", "file=@new-console"},
				  .want = "@" BAD,
				  .kvm = true};

	if (!selected(s, name))
		return;
	if (fixture_write(s, BAD, data, len))
		tap_fail(&s->tap, "%s: no room for it", name);
	else
		refuse(s, &r);
	unlink(fixture(s, BAD));
}

static uint8_t *read_kernel(const struct suite *s, size_t *len)
{
	struct stat st;
	uint8_t *data = NULL;
	FILE *f = fopen(s->opt.kernel, "rb");

	if (f && fstat(fileno(f), &st) == 0 && (data = malloc((size_t)st.st_size)) != NULL) {
		*len = (size_t)st.st_size;
		if (fread(data, 1, *len, f) != *len) {
			free(data);
			data = NULL;
		}
	}
	if (f)
		fclose(f);
	return data;
}

/* Places in the file, from its begin or, if negative, from its end. */
static void truncated_kernels(struct suite *s, const uint8_t *kernel, size_t len)
{
	static const long lengths[] = {1,      2,	64,	 0x1f0,	 0x1f1, 0x1ff, 0x200, 0x202,
				       0x206,  0x210,	0x238,	 0x264,	 0x268, 1024,  4096,  16384,
				       0x4200, 0x10000, 1 << 20, -65536, -4096, -512,  -64,   -17};
	char name[64];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = lengths[i] > 0 ? (size_t)lengths[i] : len - (size_t)-lengths[i];

		snprintf(name, sizeof(name), "kernel cut short at %zu of %zu", n, len);
		refuse_bytes(s, name, kernel, n < len ? n : len);
	}
}

/* boot.rst "The Real-Mode Kernel Header": fields that lead a careless reader out of the file. */
static void damaged_kernels(struct suite *s, uint8_t *kernel, size_t len)
{
	static const struct {
		const char *name;
		unsigned offset, size;
		uint32_t value;
	} damage[] = {
	    {"kernel with no boot flag", 0x1fe, 2, 0},
	    {"kernel with no magic", 0x202, 4, 0},
	    {"kernel of an old protocol", 0x206, 2, 0x0204},
	    {"kernel without 64-bit entry", 0x236, 2, 0},
	    {"kernel with a payload behind its end", 0x248, 4, 0x7fffffff},
	    {"kernel with a payload before its begin", 0x248, 4, 0xffffff00},
	    {"kernel with an endless payload", 0x24c, 4, 0xffffffff},
	    {"kernel with all of it in its setup", 0x1f1, 1, 0xff},
	};

	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		uint8_t *at = kernel + damage[i].offset;
		uint32_t old;

		memcpy(&old, at, sizeof(old));
		memcpy(at, &damage[i].value, damage[i].size);
		refuse_bytes(s, damage[i].name, kernel, len);
		memcpy(at, &old, sizeof(old));
	}
	/* LZ4 has no checksum, but this much cannot be taken for data. */
	memset(kernel + len / 2, 0xff, len / 8);
	refuse_bytes(s, "kernel with a damaged payload", kernel, len);
}

struct tiny_elf {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;
	uint8_t code[ELF_CODE];
};

/* It would run: cli; hlt, at 1 MiB. */
static struct tiny_elf tiny_elf(void)
{
	struct tiny_elf e = {
	    .ehdr = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				 EV_CURRENT},
		     .e_type = ET_EXEC,
		     .e_machine = EM_X86_64,
		     .e_version = EV_CURRENT,
		     .e_entry = 0x100000,
		     .e_phoff = offsetof(struct tiny_elf, phdr),
		     .e_ehsize = sizeof(Elf64_Ehdr),
		     .e_phentsize = sizeof(Elf64_Phdr),
		     .e_phnum = 1},
	    .phdr = {.p_type = PT_LOAD,
		     .p_flags = PF_R | PF_X,
		     .p_offset = offsetof(struct tiny_elf, code),
		     .p_vaddr = 0x100000,
		     .p_paddr = 0x100000,
		     .p_filesz = ELF_CODE,
		     .p_memsz = ELF_CODE,
		     .p_align = 1},
	    .code = {0xfa, 0xf4},
	};

	return e;
}

int files_make_elf(const struct suite *s)
{
	const struct tiny_elf e = tiny_elf();

	return fixture_write(s, "elf", &e, sizeof(e));
}

static void truncated_elfs(struct suite *s)
{
	const struct tiny_elf e = tiny_elf();
	char name[64];

	for (size_t n = 1; n < sizeof(e); n += 11) {
		snprintf(name, sizeof(name), "ELF cut short at %zu of %zu", n, sizeof(e));
		refuse_bytes(s, name, &e, n);
	}
}

static void refuse_elf(struct suite *s, const char *name, const struct tiny_elf *e)
{
	refuse_bytes(s, name, e, sizeof(*e));
}

static void damaged_elfs(struct suite *s)
{
	struct tiny_elf e;

	e = tiny_elf();
	e.ehdr.e_machine = EM_AARCH64;
	refuse_elf(s, "ELF of another machine", &e);
	e = tiny_elf();
	e.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
	refuse_elf(s, "32-bit ELF", &e);
	e = tiny_elf();
	e.ehdr.e_type = ET_REL;
	refuse_elf(s, "ELF object file", &e);
	e = tiny_elf();
	e.ehdr.e_phnum = 0;
	refuse_elf(s, "ELF without segments", &e);
	e = tiny_elf();
	e.ehdr.e_phnum = 0xffff;
	refuse_elf(s, "ELF with too many segments", &e);
	e = tiny_elf();
	e.ehdr.e_phoff = UINT64_MAX - 8;
	refuse_elf(s, "ELF with segment headers nowhere", &e);
	e = tiny_elf();
	e.phdr.p_offset = UINT64_MAX - 16;
	refuse_elf(s, "ELF with a segment nowhere in the file", &e);
	e = tiny_elf();
	e.phdr.p_filesz = ELF_CODE * 2;
	refuse_elf(s, "ELF with a segment that is cut short", &e);
	e = tiny_elf();
	e.phdr.p_memsz = 1;
	refuse_elf(s, "ELF with less memory than file", &e);
	e = tiny_elf();
	e.phdr.p_paddr = 0x1000;
	refuse_elf(s, "ELF below 1 MiB", &e);
	e = tiny_elf();
	e.phdr.p_paddr = UINT64_MAX - 16;
	refuse_elf(s, "ELF at the end of the address space", &e);
	e = tiny_elf();
	e.phdr.p_memsz = 1ull << 40;
	refuse_elf(s, "ELF that is larger than memory", &e);
	e = tiny_elf();
	e.ehdr.e_entry = 0x200000;
	refuse_elf(s, "ELF with its entry elsewhere", &e);
}

/* Random bytes that look like a bzImage, or an ELF, to a first glance. */
static void made_up_kernels(struct suite *s)
{
	static uint8_t buf[65536];
	uint64_t seed = 0x2545f4914f6cdd1dull;
	char name[64];

	for (unsigned i = 0; i < 8; i++) {
		for (size_t k = 0; k < sizeof(buf); k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			buf[k] = (uint8_t)(seed >> 24);
		}
		if (i % 2) {
			memcpy(buf + 0x1fe, "\x55\xaa", 2);
			memcpy(buf + 0x202, "HdrS\x0f\x02", 6);
		} else {
			memcpy(buf, ELFMAG "\2\1\1", 7);
		}
		snprintf(name, sizeof(name), "made-up kernel %u", i);
		refuse_bytes(s, name, buf, sizeof(buf));
	}
}

void run_files(struct suite *s)
{
	size_t len = 0;
	uint8_t *kernel = read_kernel(s, &len);

	if (kernel && len > 2 << 20) {
		truncated_kernels(s, kernel, len);
		damaged_kernels(s, kernel, len);
	} else {
		tap_fail(&s->tap, "kernel files: %s cannot be read", s->opt.kernel);
	}
	free(kernel);
	truncated_elfs(s);
	damaged_elfs(s);
	made_up_kernels(s);
}
