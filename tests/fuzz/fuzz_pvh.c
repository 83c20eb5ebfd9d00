/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF notes: arbitrary bytes as what a PT_NOTE segment holds, alone and inside of a kernel that is
 * then loaded and entered by PVH. What is found must be an address that the bytes hold, and what is
 * entered must be a byte of the kernel.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/image.h"

#define RAM	  (4u << 20)
#define LOAD	  (2u << 20)
#define CODE_LEN  4096u
#define NOTES_MAX 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int true_)
{
	if (!true_)
		abort();
}

/* `address` stands in the bytes, in 4 or 8 of them. */
static int holds(const uint8_t *data, size_t size, uint64_t address)
{
	for (size_t i = 0; i + 4 <= size; i++) {
		if (memcmp(data + i, &address, 4) == 0)
			return 1;
	}
	return 0;
}

struct file {
	Elf64_Ehdr header;
	Elf64_Phdr program[2];
	uint8_t code[CODE_LEN];
	uint8_t notes[NOTES_MAX];
};

static size_t make_kernel(struct file *f, const uint8_t *notes, size_t len)
{
	*f = (struct file){
	    .header = {.e_type = ET_EXEC,
		       .e_machine = EM_X86_64,
		       .e_phoff = offsetof(struct file, program),
		       .e_phnum = 2,
		       .e_phentsize = sizeof(Elf64_Phdr)},
	    .program = {{.p_type = PT_NOTE,
			 .p_offset = offsetof(struct file, notes),
			 .p_filesz = len},
			{.p_type = PT_LOAD,
			 .p_offset = offsetof(struct file, code),
			 .p_paddr = LOAD,
			 .p_vaddr = LOAD,
			 .p_filesz = CODE_LEN,
			 .p_memsz = 2 * CODE_LEN}},
	};
	memcpy(f->header.e_ident, ELFMAG, SELFMAG);
	f->header.e_ident[EI_CLASS] = ELFCLASS64;
	f->header.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(f->notes, notes, len);
	return offsetof(struct file, notes) + len;
}

static void boot(struct bytes file)
{
	static uint8_t ram[RAM];
	const struct guest_mem mem = {
	    .count = 1,
	    .region = {{.gpa = GPA(0), .len = sizeof(ram), .host = ram}},
	};
	struct kernel_image kernel;
	const struct boot_request req = {.mem = &mem, .kernel = &kernel, .cmdline = "x"};
	struct boot_result res;
	struct err err = {0};

	/* There is no other entry. */
	if (kernel_image_parse(file, RAM, &kernel, &err)) {
		must(err.code < 0 && err.text[0]);
		return;
	}
	must(boot_linux(&req, &res, &err) == 0);
	must(res.pvh && res.pvh_entry >= LOAD && res.pvh_entry < LOAD + CODE_LEN);
	must(memcmp(ram + BOOT_PVH_INFO_GPA, "\x78\xc5\x6e\x33", 4) == 0);
	kernel_image_free(&kernel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct file file;
	uint64_t found;

	if (size > NOTES_MAX)
		return 0;
	found = pvh_find_note((struct bytes){data, size});
	must(found == 0 || holds(data, size, found));
	boot((struct bytes){(const uint8_t *)&file, make_kernel(&file, data, size)});
	return 0;
}
