/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_linux(): a kernel, its initrd and its command line into guest memory (boot.rst).
 *
 * Theory of operation: choose_entry() takes the kernel's Linux or PVH entry. place() decides
 * whether everything fits and where the initrd goes, page-aligned at the top of low memory or of
 * what the kernel can address. Only then guest memory is written: kernel (unless the
 * caller does that), initrd (the same), command line, and what the entry wants: zero page or PVH
 * start info.
 */
#include "minivm/boot.h"

#include <errno.h>
#include <string.h>

#include "minivm/image.h"

#define MIB (1ull << 20)

/* A vmlinux linked at the usual 16 MiB ends above that; freestanding payloads do not. */
#define LINUX_END_MIN (16 * MIB)

static uint64_t page_up(uint64_t v)
{
	return (v + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
}

/*
 * The Linux entry is the better one where there is a choice: it carries setup_data and spares the
 * kernel its way from 32-bit mode. e_entry says nothing of the protocol behind it, so a kernel that
 * is not Linux and has both is the user's to tell.
 */
static int choose_entry(const struct boot_request *req, bool *pvh, struct err *err)
{
	const struct boot_result *kernel = &req->kernel->info;

	*pvh = req->entry == ENTRY_PVH || (req->entry == ENTRY_AUTO && kernel->entry == 0);
	if (*pvh && kernel->pvh_entry == 0)
		return err_set(err, ENOEXEC,
			       "it has no PVH entry, which is an ELF note of type 18 and "
			       "owner Xen; without --entry pvh it may run");
	if (!*pvh && kernel->entry == 0)
		return err_set(err, ENOEXEC,
			       "its ELF entry point lies in no segment; it has a PVH entry "
			       "(--entry pvh)");
	if (*pvh && req->setup_data.v)
		return err_set(err, EINVAL,
			       "the PVH entry cannot carry a device tree; --describe acpi or "
			       "mptable can go with it");
	return 0;
}

static int check_cmdline(const struct kernel_image *kernel, size_t len, struct err *err)
{
	size_t max = kernel->cmdline_max;

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
static int place(const struct boot_request *req, gpa_t *initrd, struct err *err)
{
	const struct boot_result *kernel = &req->kernel->info;
	uint64_t low = guest_mem_low_end(req->mem) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	uint64_t limit = req->kernel->initrd_max;
	uint64_t kernel_top = page_up(kernel->kernel_end);
	uint64_t initrd_len, need;

	if (kernel->kernel_end > BOOT_MAPPED_END)
		return err_set(err, ENOEXEC, "it ends at %#llx, beyond %llu MiB",
			       (unsigned long long)kernel->kernel_end, BOOT_MAPPED_END / MIB);
	if (req->initrd.len > GUEST_MMIO_HOLE_START)
		return err_set(err, E2BIG, "initrd: %zu MiB are too large",
			       (size_t)(req->initrd.len / MIB));
	initrd_len = page_up(req->initrd.len);
	need = kernel_top + initrd_len + slack(kernel);
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

static int write_zero_page(const struct boot_request *req, gpa_t initrd, struct err *err)
{
	struct zero_page_request zp = {
	    .mem = req->mem,
	    .kernel = req->kernel,
	    .initrd = initrd,
	    .initrd_len = req->initrd.len,
	    .rsdp = req->rsdp,
	    .setup_data = req->setup_data,
	};
	struct boot_params bp;

	zero_page_fill(&bp, &zp);
	if (guest_mem_write(req->mem, GPA(BOOT_ZERO_PAGE_GPA), &bp, sizeof(bp)))
		return err_set(err, ENOMEM, "memory: none for the zero page");
	return 0;
}

static int write_parameters(const struct boot_request *req, bool pvh, gpa_t initrd, struct err *err)
{
	const struct pvh_request info = {
	    .mem = req->mem,
	    .initrd = initrd,
	    .initrd_len = req->initrd.len,
	    .rsdp = req->rsdp,
	};

	if ((req->initrd.data &&
	     guest_mem_write(req->mem, initrd, req->initrd.data, req->initrd.len)) ||
	    guest_mem_write(req->mem, GPA(BOOT_CMDLINE_GPA), req->cmdline,
			    strlen(req->cmdline) + 1))
		return err_set(err, ENOMEM, "memory: none for initrd and command line");
	return pvh ? pvh_write_info(&info, err) : write_zero_page(req, initrd, err);
}

int boot_linux(const struct boot_request *req, struct boot_result *res, struct err *err)
{
	gpa_t initrd = GPA(0);
	bool pvh;
	int rc;

	rc = choose_entry(req, &pvh, err);
	if (!rc)
		rc = check_cmdline(req->kernel, strlen(req->cmdline), err);
	if (!rc)
		rc = place(req, &initrd, err);
	if (!rc && !req->kernel_in_place)
		rc = kernel_image_load(req->kernel, req->mem, err);
	if (!rc)
		rc = write_parameters(req, pvh, initrd, err);
	if (rc)
		return rc;
	*res = req->kernel->info;
	res->pvh = pvh;
	res->initrd = initrd;
	return 0;
}
