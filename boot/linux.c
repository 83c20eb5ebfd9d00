/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_linux(): a kernel, its initrd and its command line into guest memory (boot.rst).
 *
 * Theory of operation, in this order:
 *  1. identify() looks at the kernel file: an ELF as it is; a bzImage, whose payload is unpacked
 *     here to the vmlinux inside and entered directly at its link address, unrelocated (so no
 *     KASLR); or, where the payload is in no format that we unpack, the bzImage itself, which
 *     unpacks and relocates itself in the guest.
 *  2. place() decides whether everything fits and where the initrd goes: page-aligned at the top
 *     of low memory or of what the kernel can address.
 *  3. Only then guest memory is written: kernel, initrd, command line, zero page.
 */
#include "minivm/boot.h"

#include <errno.h>
#include <string.h>

#include "minivm/image.h"

#define MIB (1ull << 20)

/* boot.rst "64-bit Boot Protocol": the 64-bit entry point of the protected-mode part. */
#define ENTRY_64_OFFSET 0x200

/* Where a bzImage that is not relocatable has to be loaded. */
#define BZIMAGE_LOAD 0x100000

/* A vmlinux file is hardly larger than what it fills; this is for relocations and the like. */
#define UNPACK_EXTRA (64 * MIB)
#define UNPACK_MAX   (1024 * MIB)

/* A vmlinux linked at the usual 16 MiB ends above that; freestanding payloads do not. */
#define LINUX_END_MIN (16 * MIB)

struct image {
	struct boot_result res;
	struct bzimage bz;
	bool has_bz;
	struct unpacked unpacked;
	struct bytes elf_file;
	struct elf_image elf;
	uint64_t load; /* BOOT_IMAGE_BZIMAGE_RAW: where bz.kernel goes */
};

static uint64_t page_up(uint64_t v)
{
	return (v + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
}

static int use_elf(struct image *im, struct bytes file, enum boot_image kind,
		   const char *compression, struct err *err)
{
	int rc = elf_parse(file, &im->elf, err);

	if (rc)
		return rc;
	im->elf_file = file;
	im->res = (struct boot_result){
	    .image = kind,
	    .compression = compression,
	    .entry = im->elf.entry,
	    .kernel_end = im->elf.end,
	};
	return 0;
}

static int use_unpacked(struct image *im, const struct guest_mem *mem, const char *compression,
			struct err *err)
{
	uint64_t low = guest_mem_low_end(mem);
	uint64_t max = low + UNPACK_EXTRA < UNPACK_MAX ? low + UNPACK_EXTRA : UNPACK_MAX;
	int rc = unpack(im->bz.payload, max, &im->unpacked, err);

	if (rc == -E2BIG && max < UNPACK_MAX)
		return err_set(err, ENOMEM,
			       "too large for %llu MiB of memory: its %s data unpacks to more than "
			       "%llu MiB",
			       low / MIB, compression, (unsigned long long)(max / MIB));
	if (rc)
		return rc;
	rc = use_elf(im, im->unpacked.bytes, BOOT_IMAGE_BZIMAGE_UNPACKED, compression, err);
	if (rc)
		err_context(err, "the vmlinux inside the bzImage");
	return rc;
}

/* boot.rst "pref_address", "init_size": the memory from there on is needed until it is unpacked. */
static int use_raw(struct image *im, struct err *err)
{
	const struct setup_header *hdr = &im->bz.hdr;
	uint64_t run = hdr->pref_address > BZIMAGE_LOAD ? hdr->pref_address : BZIMAGE_LOAD;
	uint64_t end;

	im->load = hdr->relocatable_kernel ? run : BZIMAGE_LOAD;
	if (run > BOOT_MAPPED_END || im->bz.kernel.len > BOOT_MAPPED_END)
		return err_set(err, ENOEXEC, "corrupt: it wants to run at %#llx",
			       (unsigned long long)run);
	if (im->bz.kernel.len <= ENTRY_64_OFFSET)
		return err_set(err, ENOEXEC, "truncated: no room for its entry point");
	end = im->load + im->bz.kernel.len;
	if (end < run + hdr->init_size)
		end = run + hdr->init_size;
	im->res = (struct boot_result){
	    .image = BOOT_IMAGE_BZIMAGE_RAW,
	    .compression = "unknown",
	    .entry = im->load + ENTRY_64_OFFSET,
	    .kernel_end = end,
	};
	return 0;
}

static int identify(struct image *im, const struct boot_request *req, struct err *err)
{
	const char *compression;
	int rc;

	if (req->kernel.len == 0)
		return err_set(err, ENOEXEC, "the file is empty");
	if (elf_probe(req->kernel))
		return use_elf(im, req->kernel, BOOT_IMAGE_ELF, "none", err);
	if (!bzimage_probe(req->kernel)) {
		compression = unpack_name(req->kernel);
		if (compression)
			return err_set(err, ENOEXEC,
				       "the file is %s data; unpack it to a bzImage or vmlinux",
				       compression);
		return err_set(err, ENOEXEC, "neither a bzImage nor an ELF file");
	}
	rc = bzimage_parse(req->kernel, &im->bz, err);
	if (rc)
		return rc;
	im->has_bz = true;
	compression = unpack_name(im->bz.payload);
	return compression ? use_unpacked(im, req->mem, compression, err) : use_raw(im, err);
}

static int check_cmdline(const struct image *im, size_t len, struct err *err)
{
	size_t max = im->has_bz ? im->bz.hdr.cmdline_size : IMAGE_CMDLINE_MAX;

	if (max > BOOT_CMDLINE_MAX - 1)
		max = BOOT_CMDLINE_MAX - 1;
	if (len > max)
		return err_set(err, E2BIG,
			       "command line: %zu bytes long, this kernel takes at most %zu", len,
			       max);
	return 0;
}

static uint64_t slack(const struct boot_result *res)
{
	return res->image != BOOT_IMAGE_ELF || res->kernel_end >= LINUX_END_MIN ? BOOT_LINUX_SLACK
										: 0;
}

/* Does it all fit, and where does the initrd go? */
static int place(const struct image *im, const struct boot_request *req, gpa_t *initrd,
		 struct err *err)
{
	uint64_t low = guest_mem_low_end(req->mem) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	uint64_t limit = im->has_bz ? im->bz.hdr.initrd_addr_max : IMAGE_INITRD_MAX;
	uint64_t kernel_top = page_up(im->res.kernel_end);
	uint64_t initrd_len, need;

	if (im->res.kernel_end > BOOT_MAPPED_END)
		return err_set(err, ENOEXEC, "kernel: it ends at %#llx, beyond %llu MiB",
			       (unsigned long long)im->res.kernel_end, BOOT_MAPPED_END / MIB);
	if (req->initrd.len > GUEST_MMIO_HOLE_START)
		return err_set(err, E2BIG, "initrd: %zu MiB are too large",
			       (size_t)(req->initrd.len / MIB));
	initrd_len = page_up(req->initrd.len);
	need = kernel_top + initrd_len + slack(&im->res);
	if (need > low && need <= GUEST_MMIO_HOLE_START)
		return err_set(
		    err, ENOMEM, "memory: this kernel%s needs at least %llu MiB, there are %llu",
		    initrd_len ? " with its initrd" : "",
		    (unsigned long long)((need + MIB - 1) / MIB), (unsigned long long)(low / MIB));
	limit = (limit + 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	if (limit > low)
		limit = low;
	if (initrd_len && limit < kernel_top + initrd_len)
		return err_set(err, E2BIG,
			       "initrd: %llu MiB do not fit between the kernel's end (%#llx) and "
			       "%#llx",
			       (unsigned long long)(initrd_len / MIB),
			       (unsigned long long)kernel_top, (unsigned long long)limit);
	*initrd = GPA(limit - initrd_len);
	return 0;
}

static int load_kernel(const struct image *im, const struct guest_mem *mem, struct err *err)
{
	int rc = 0;

	if (im->res.image != BOOT_IMAGE_BZIMAGE_RAW)
		rc = elf_load(&im->elf, im->elf_file, mem, err);
	else if (guest_mem_write(mem, GPA(im->load), im->bz.kernel.data, im->bz.kernel.len))
		rc = err_set(err, ENOMEM, "no guest memory at %#llx", (unsigned long long)im->load);
	if (rc)
		err_context(err, "kernel");
	return rc;
}

static int write_parameters(const struct image *im, const struct boot_request *req, gpa_t initrd,
			    struct err *err)
{
	struct zero_page_request zp = {
	    .mem = req->mem,
	    .bz = im->has_bz ? &im->bz : NULL,
	    .initrd = initrd,
	    .initrd_len = req->initrd.len,
	    .rsdp = req->rsdp,
	};
	struct boot_params bp;

	zero_page_fill(&bp, &zp);
	if (guest_mem_write(req->mem, initrd, req->initrd.data, req->initrd.len) ||
	    guest_mem_write(req->mem, GPA(BOOT_CMDLINE_GPA), req->cmdline,
			    strlen(req->cmdline) + 1) ||
	    guest_mem_write(req->mem, GPA(BOOT_ZERO_PAGE_GPA), &bp, sizeof(bp)))
		return err_set(err, ENOMEM, "memory: none for the boot parameters");
	return 0;
}

int boot_linux(const struct boot_request *req, struct boot_result *res, struct err *err)
{
	struct image im = {0};
	gpa_t initrd = GPA(0);
	int rc;

	rc = identify(&im, req, err);
	if (rc) {
		err_context(err, "kernel");
		goto out;
	}
	rc = check_cmdline(&im, strlen(req->cmdline), err);
	if (rc)
		goto out;
	rc = place(&im, req, &initrd, err);
	if (rc)
		goto out;
	rc = load_kernel(&im, req->mem, err);
	if (rc)
		goto out;
	rc = write_parameters(&im, req, initrd, err);
	if (rc)
		goto out;
	*res = im.res;
out:
	unpack_free(&im.unpacked);
	return rc;
}
