/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in a kernel file (boot.rst, ELF-64): the pieces to load and where to enter.
 *
 * Theory of operation: an ELF as it is; a bzImage, whose payload is unpacked here to the vmlinux
 * inside and entered directly at its link address, unrelocated (so no KASLR); or, where the payload
 * is in no format that we unpack, the bzImage itself, which unpacks and relocates itself in the
 * guest. The result refers to the file's bytes, or to what was unpacked, which it owns.
 */
#include "minivm/image.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define MIB (1ull << 20)

/* boot.rst "64-bit Boot Protocol": the 64-bit entry point of the protected-mode part. */
#define ENTRY_64_OFFSET 0x200

/* Where a bzImage that is not relocatable has to be loaded. */
#define BZIMAGE_LOAD 0x100000

/* A vmlinux file is hardly larger than what it fills; this is for relocations and the like. */
#define UNPACK_EXTRA (64 * MIB)
#define UNPACK_MAX   (1024 * MIB)

static int use_elf(struct kernel_image *k, struct bytes file, enum boot_image kind,
		   const char *compression, struct err *err)
{
	struct elf_image elf;
	int rc = elf_parse(file, &elf, err);

	if (rc)
		return rc;
	for (unsigned i = 0; i < elf.count; i++) {
		const struct elf_segment *s = &elf.segment[i];

		k->segment[i] = (struct kernel_segment){
		    .paddr = s->paddr,
		    .memsz = s->memsz,
		    .data = {file.data + s->offset, s->filesz},
		};
	}
	k->count = elf.count;
	k->info = (struct boot_result){
	    .image = kind,
	    .compression = compression,
	    .entry = elf.entry,
	    .pvh_entry = elf.pvh_entry,
	    .kernel_end = elf.end,
	};
	return 0;
}

static int use_unpacked(struct kernel_image *k, struct bytes payload, uint64_t low_end,
			const char *compression, struct err *err)
{
	uint64_t max = low_end + UNPACK_EXTRA < UNPACK_MAX ? low_end + UNPACK_EXTRA : UNPACK_MAX;
	int rc = unpack(payload, max, &k->unpacked, err);

	if (rc == -E2BIG && max < UNPACK_MAX)
		return err_set(err, ENOMEM,
			       "too large for %llu MiB of memory: its %s data unpacks to more than "
			       "%llu MiB",
			       (unsigned long long)(low_end / MIB), compression,
			       (unsigned long long)(max / MIB));
	if (rc)
		return rc;
	rc = use_elf(k, k->unpacked.bytes, BOOT_IMAGE_BZIMAGE_UNPACKED, compression, err);
	if (rc)
		err_context(err, "the vmlinux inside the bzImage");
	return rc;
}

/* boot.rst "pref_address", "init_size": the memory from there on is needed until it is unpacked. */
static int use_raw(struct kernel_image *k, const struct bzimage *bz, struct err *err)
{
	const struct setup_header *hdr = &bz->hdr;
	uint64_t run = hdr->pref_address > BZIMAGE_LOAD ? hdr->pref_address : BZIMAGE_LOAD;
	uint64_t load = hdr->relocatable_kernel ? run : BZIMAGE_LOAD;
	uint64_t end;

	if (run > BOOT_MAPPED_END || bz->kernel.len > BOOT_MAPPED_END)
		return err_set(err, ENOEXEC, "corrupt: it wants to run at %#llx",
			       (unsigned long long)run);
	if (bz->kernel.len <= ENTRY_64_OFFSET)
		return err_set(err, ENOEXEC, "truncated: no room for its entry point");
	end = load + bz->kernel.len;
	if (end < run + hdr->init_size)
		end = run + hdr->init_size;
	k->count = 1;
	k->segment[0] =
	    (struct kernel_segment){.paddr = load, .memsz = bz->kernel.len, .data = bz->kernel};
	k->info = (struct boot_result){
	    .image = BOOT_IMAGE_BZIMAGE_RAW,
	    .compression = "unknown",
	    .entry = load + ENTRY_64_OFFSET,
	    .kernel_end = end,
	};
	return 0;
}

static int use_bzimage(struct kernel_image *k, struct bytes file, uint64_t low_end, struct err *err)
{
	const char *compression;
	struct bzimage bz;
	int rc = bzimage_parse(file, &bz, err);

	if (rc)
		return rc;
	assert(bz.setup.len <= sizeof(k->setup));
	memcpy(k->setup, bz.setup.data, bz.setup.len);
	k->setup_len = bz.setup.len;
	k->cmdline_max = bz.hdr.cmdline_size;
	k->initrd_max = bz.hdr.initrd_addr_max;
	compression = unpack_name(bz.payload);
	return compression ? use_unpacked(k, bz.payload, low_end, compression, err)
			   : use_raw(k, &bz, err);
}

static int identify(struct kernel_image *k, struct bytes file, uint64_t low_end, struct err *err)
{
	const char *compression;

	if (file.len == 0)
		return err_set(err, ENOEXEC, "the file is empty");
	if (elf_probe(file))
		return use_elf(k, file, BOOT_IMAGE_ELF, "none", err);
	if (bzimage_probe(file))
		return use_bzimage(k, file, low_end, err);
	compression = unpack_name(file);
	if (compression)
		return err_set(err, ENOEXEC,
			       "the file is %s data; unpack it to a bzImage or vmlinux",
			       compression);
	return err_set(err, ENOEXEC, "neither a bzImage nor an ELF file");
}

/* `len` counts the NUL: the whole string. */
static bool has_string(const struct kernel_image *k, const char *string, size_t len)
{
	for (unsigned i = 0; i < k->count; i++) {
		struct bytes b = k->segment[i].data;

		if (b.len >= len && memmem(b.data, b.len, string, len))
			return true;
	}
	return false;
}

/*
 * Names by which the drivers register, as long as they exist: drivers/char/virtio_console.c its
 * character device, drivers/virtio/virtio_mmio.c itself. They are in the kernel's read-only data if
 * the driver is built in, and in a module's file if not. Of a kernel that is packed in a way that
 * we do not know nothing is found.
 */
static bool has_virtio_console(const struct kernel_image *k)
{
	static const char console[] = "virtio-portsdev", bus[] = "virtio-mmio";

	return has_string(k, console, sizeof(console)) && has_string(k, bus, sizeof(bus));
}

int kernel_image_parse(struct bytes file, uint64_t low_end, struct kernel_image *out,
		       struct err *err)
{
	int rc;

	*out =
	    (struct kernel_image){.cmdline_max = IMAGE_CMDLINE_MAX, .initrd_max = IMAGE_INITRD_MAX};
	rc = identify(out, file, low_end, err);
	if (rc) {
		kernel_image_free(out);
		return rc;
	}
	out->info.virtio_console = has_virtio_console(out);
	return 0;
}

void kernel_image_free(struct kernel_image *k)
{
	unpack_free(&k->unpacked);
}

int kernel_image_load(const struct kernel_image *k, const struct guest_mem *mem, struct err *err)
{
	for (unsigned i = 0; i < k->count; i++) {
		const struct kernel_segment *s = &k->segment[i];

		if (guest_mem_write(mem, GPA(s->paddr), s->data.data, s->data.len) ||
		    guest_mem_zero(mem, GPA(s->paddr + s->data.len), s->memsz - s->data.len))
			return err_set(err, ENOMEM, "no guest memory at %#llx-%#llx",
				       (unsigned long long)s->paddr,
				       (unsigned long long)(s->paddr + s->memsz - 1));
	}
	return 0;
}
