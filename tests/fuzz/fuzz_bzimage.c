/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a kernel through boot_linux(). The first byte chooses: the rest is the file
 * itself, or the header fields and the payload of a bzImage whose magic numbers are right, so that
 * header checks and the five decoders are reached at once.
 */
#include <stdlib.h>
#include <string.h>

#include "minivm/image.h"

#define RAM	   (32u << 20)
#define SETUP	   1024u
#define HEADER_OFF 0x1f1u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int true_)
{
	if (!true_)
		abort();
}

static void boot(struct bytes file, const struct guest_mem *mem)
{
	static const uint8_t initrd[5000];
	struct kernel_image image;
	struct boot_request req = {
	    .mem = mem,
	    .kernel = &image,
	    .initrd = {initrd, sizeof(initrd)},
	    .cmdline = "console=ttyS0",
	};
	struct boot_result res = {0};
	struct err err = {0};
	int rc = kernel_image_parse(file, guest_mem_low_end(mem), &image, &err);

	if (rc == 0) {
		rc = boot_linux(&req, &res, &err);
		kernel_image_free(&image);
	}
	if (rc == 0) {
		uint64_t entry = res.pvh ? res.pvh_entry : res.entry;

		must(entry >= BOOT_LOW_END && entry < res.kernel_end);
		must(res.kernel_end <= RAM && res.compression);
	} else {
		must(err.code < 0 && err.text[0]);
	}
}

/* The input's first bytes are the header, magic numbers aside; the rest is the kernel proper. */
static void boot_around(const uint8_t *data, size_t size, const struct guest_mem *mem)
{
	struct setup_header hdr = {0};
	size_t head = size < sizeof(hdr) ? size : sizeof(hdr);
	struct bytes kernel = {NULL, SETUP + (size - head)};
	uint8_t *file = calloc(1, kernel.len);

	must(file != NULL);
	memcpy(&hdr, data, head);
	hdr.setup_sects = 1;
	hdr.syssize = (size - head) / 16;
	hdr.boot_flag = 0xaa55;
	hdr.jump |= 0xff00;
	hdr.header = 0x53726448;
	hdr.version |= 0x0f00;
	hdr.loadflags |= LOADED_HIGH;
	hdr.xloadflags |= XLF_KERNEL_64;
	hdr.cmdline_size |= 0x100;
	if (hdr.payload_offset % 3 == 0) { /* often: all of it is the payload */
		hdr.payload_offset = 1;
		hdr.payload_length = size - head ? size - head - 1 : 0;
	}
	memcpy(file + HEADER_OFF, &hdr, sizeof(hdr));
	memcpy(file + SETUP, data + head, size - head);
	kernel.data = file;
	boot(kernel, mem);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t ram[RAM];
	const struct guest_mem mem = {
	    .count = 1,
	    .region = {{.gpa = GPA(0), .len = sizeof(ram), .host = ram}},
	};

	if (size == 0)
		return 0;
	if (data[0] & 1)
		boot_around(data + 1, size - 1, &mem);
	else
		boot((struct bytes){data + 1, size - 1}, &mem);
	return 0;
}
