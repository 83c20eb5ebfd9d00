/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as an ELF file: whatever elf_parse() accepts must hold what image.h promises and
 * load without touching anything but guest RAM.
 */
#include <stdlib.h>
#include <string.h>

#include "minivm/image.h"

#define RAM (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int true_)
{
	if (!true_)
		abort();
}

static void check(const struct elf_image *elf, size_t size)
{
	uint64_t end = BOOT_LOW_END;
	int entered = 0;

	must(elf->count > 0 && elf->count <= ELF_SEGMENTS_MAX);
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *s = &elf->segment[i];

		must(s->paddr >= end);
		must(s->filesz <= s->memsz && s->offset <= size && s->filesz <= size - s->offset);
		end = s->paddr + s->memsz;
		must(end > s->paddr);
		entered |= elf->entry >= s->paddr && elf->entry < end;
		entered |= elf->pvh_entry >= s->paddr && elf->pvh_entry < end;
	}
	must(end == elf->end && entered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t ram[RAM];
	const struct guest_mem mem = {
	    .count = 1,
	    .region = {{.gpa = GPA(0), .len = sizeof(ram), .host = ram}},
	};
	struct bytes file = {data, size};
	struct kernel_image kernel;
	struct elf_image elf;
	struct err err = {0};

	if (elf_parse(file, &elf, &err) == 0) {
		check(&elf, size);
		must(kernel_image_parse(file, RAM, &kernel, &err) == 0);
		kernel_image_load(&kernel, &mem, &err);
		kernel_image_free(&kernel);
	} else {
		must(err.code < 0 && err.text[0]);
	}
	return 0;
}
