/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static ELF-64 executables: vmlinux and freestanding payloads.
 *
 * Theory of operation: only the program headers count, and the notes that they name. Segments go to
 * p_paddr, as vmlinux's per-CPU segment has p_vaddr 0. The file is checked whole, against itself:
 * segments against the file and against each other. Below 1 MiB lie our own boot structures and the
 * legacy hole, no segment may.
 *
 * Linux's e_entry is physical already; other linkers' output may hold a virtual one, which the
 * segments translate.
 */
#include "minivm/image.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool elf_probe(struct bytes file)
{
	return file.len >= SELFMAG && !memcmp(file.data, ELFMAG, SELFMAG);
}

static int check_header(struct bytes file, const Elf64_Ehdr *eh, struct err *err)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64)
		return err_set(err, ENOEXEC, "an ELF file, but not for x86-64");
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return err_set(err, ENOEXEC, "an ELF file, but no executable");
	if (eh->e_phnum == 0 || eh->e_phentsize != sizeof(Elf64_Phdr))
		return err_set(err, ENOEXEC, "an ELF file without program headers");
	if (eh->e_phoff > file.len ||
	    (uint64_t)eh->e_phnum * sizeof(Elf64_Phdr) > file.len - eh->e_phoff)
		return err_set(err, ENOEXEC, "truncated: it ends within the program headers");
	return 0;
}

static int add_segment(struct bytes file, const Elf64_Phdr *ph, unsigned index,
		       struct elf_image *out, struct err *err)
{
	if (ph->p_offset > file.len || ph->p_filesz > file.len - ph->p_offset)
		return err_set(err, ENOEXEC,
			       "truncated: segment %u (%llu bytes at %llu) exceeds the %zu bytes",
			       index, (unsigned long long)ph->p_filesz,
			       (unsigned long long)ph->p_offset, file.len);
	if (ph->p_filesz > ph->p_memsz)
		return err_set(err, ENOEXEC, "corrupt: segment %u is larger in the file", index);
	if (ph->p_memsz > UINT64_MAX - ph->p_paddr)
		return err_set(err, ENOEXEC, "corrupt: segment %u ends beyond all memory", index);
	if (ph->p_paddr < BOOT_LOW_END)
		return err_set(err, ENOEXEC, "segment %u lies at %#llx; link it at 1 MiB or above",
			       index, (unsigned long long)ph->p_paddr);
	if (out->count == ELF_SEGMENTS_MAX)
		return err_set(err, ENOEXEC, "more than %d segments", ELF_SEGMENTS_MAX);
	out->segment[out->count++] = (struct elf_segment){
	    .offset = ph->p_offset,
	    .filesz = ph->p_filesz,
	    .paddr = ph->p_paddr,
	    .memsz = ph->p_memsz,
	    .vaddr = ph->p_vaddr,
	};
	return 0;
}

static int by_paddr(const void *a, const void *b)
{
	const struct elf_segment *x = a, *y = b;

	return (x->paddr > y->paddr) - (x->paddr < y->paddr);
}

static int check_order(struct elf_image *elf, struct err *err)
{
	qsort(elf->segment, elf->count, sizeof(elf->segment[0]), by_paddr);
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *s = &elf->segment[i];

		if (s->paddr < elf->end)
			return err_set(err, ENOEXEC, "corrupt: segments overlap at %#llx",
				       (unsigned long long)s->paddr);
		elf->end = s->paddr + s->memsz;
	}
	return 0;
}

/* Is it the address of a byte that comes from the file? */
static bool is_loaded(const struct elf_image *elf, uint64_t paddr)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *s = &elf->segment[i];

		if (paddr >= s->paddr && paddr - s->paddr < s->filesz)
			return true;
	}
	return false;
}

/* The physical address of e_entry, or 0. */
static uint64_t find_entry(const struct elf_image *elf, uint64_t entry)
{
	if (is_loaded(elf, entry))
		return entry;
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *s = &elf->segment[i];

		if (entry >= s->vaddr && entry - s->vaddr < s->filesz)
			return s->paddr + (entry - s->vaddr);
	}
	return 0;
}

static int find_entries(struct elf_image *elf, uint64_t entry, struct err *err)
{
	elf->entry = find_entry(elf, entry);
	if (!is_loaded(elf, elf->pvh_entry))
		elf->pvh_entry = 0;
	if (elf->entry == 0 && elf->pvh_entry == 0)
		return err_set(err, ENOEXEC, "corrupt: the entry point %#llx lies in no segment",
			       (unsigned long long)entry);
	return 0;
}

static void look_for_pvh(struct bytes file, const Elf64_Phdr *ph, struct elf_image *out)
{
	if (ph->p_offset > file.len || ph->p_filesz > file.len - ph->p_offset)
		return;
	if (out->pvh_entry == 0)
		out->pvh_entry =
		    pvh_find_note((struct bytes){file.data + ph->p_offset, ph->p_filesz});
}

int elf_parse(struct bytes file, struct elf_image *out, struct err *err)
{
	Elf64_Ehdr eh;
	int rc;

	*out = (struct elf_image){0};
	if (!elf_probe(file))
		return err_set(err, ENOEXEC, "not an ELF file");
	if (file.len < sizeof(eh))
		return err_set(err, ENOEXEC, "truncated: it ends within the ELF header");
	memcpy(&eh, file.data, sizeof(eh));
	rc = check_header(file, &eh, err);
	if (rc)
		return rc;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, file.data + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_NOTE)
			look_for_pvh(file, &ph, out);
		if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		rc = add_segment(file, &ph, i, out, err);
		if (rc)
			return rc;
	}
	if (out->count == 0)
		return err_set(err, ENOEXEC, "an ELF file with nothing to load");
	rc = check_order(out, err);
	if (rc)
		return rc;
	return find_entries(out, eh.e_entry, err);
}
