/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel maps a program's pages sixteen at a time around each one that is touched, so a start
 * that runs through options, files, tables and the C library's set-up leaves nearly all of a static
 * program mapped: 1.1 MiB, four fifths of what minivm takes beside guest memory. The running
 * machine comes back to a tenth of it.
 *
 * Only segments without write access are given up: what is written to (relocations, data) would
 * fall back to the file's bytes.
 *
 * System calls: madvise.
 */
#include "minivm/trim.h"

#include <elf.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The linker's: our ELF header, which the program headers follow. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

void trim_program(void)
{
	uintptr_t base = (uintptr_t)&__ehdr_start; /* the first segment begins with it, at 0 */
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)(base + __ehdr_start.e_phoff);
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	/* Backwards: the headers lie in the first one. */
	for (unsigned i = __ehdr_start.e_phnum; i-- > 0;) {
		uintptr_t start = (base + phdr[i].p_vaddr) & -page;
		uintptr_t end = base + phdr[i].p_vaddr + phdr[i].p_memsz;

		if (phdr[i].p_type == PT_LOAD && !(phdr[i].p_flags & PF_W))
			madvise((void *)start, end - start, MADV_DONTNEED);
	}
}
