/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repack-bzimage BZIMAGE PACKED OUT: the bzImage with another payload. PACKED is its vmlinux,
 * packed anew, as the kernel's build would put it in; it is appended and named in the setup header.
 * The old payload stays where the decompressor in the bzImage, which is linked to it, looks: so an
 * image whose new payload the host cannot unpack still boots, by unpacking itself in the guest.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/file.h"
#include "minivm/image.h"

#define FILE_MAX   (1ull << 30)
#define PARAGRAPH  16u
#define HEADER_OFF 0x1f1u

/* The setup header's syssize counts paragraphs. */
static uint64_t padding(uint64_t len)
{
	return -len % PARAGRAPH;
}

static int write_image(const char *path, struct bytes old, const struct bzimage *bz,
		       struct bytes packed)
{
	static const uint8_t zeroes[PARAGRAPH];
	struct setup_header hdr = bz->hdr;
	uint64_t at = bz->kernel.len + padding(bz->kernel.len);
	uint64_t end = at + packed.len + padding(packed.len);
	FILE *f = fopen(path, "wb");
	int bad;

	hdr.payload_offset = (uint32_t)at;
	hdr.payload_length = (uint32_t)packed.len;
	hdr.syssize = (uint32_t)(end / PARAGRAPH);
	bad = !f || fwrite(old.data, 1, HEADER_OFF, f) != HEADER_OFF ||
	      fwrite(&hdr, 1, bz->setup.len, f) != bz->setup.len;
	if (!bad) {
		fwrite(bz->setup.data + bz->setup.len, 1, old.len - HEADER_OFF - bz->setup.len, f);
		fwrite(zeroes, 1, padding(bz->kernel.len), f);
		fwrite(packed.data, 1, packed.len, f);
		fwrite(zeroes, 1, padding(packed.len), f);
		bad = ferror(f);
	}
	if (f && fclose(f))
		bad = 1;
	if (bad)
		perror(path);
	return bad;
}

int main(int argc, char **argv)
{
	struct bytes old = {0}, packed = {0};
	struct bzimage bz;
	struct err err = {0};
	int rc = 1;

	if (argc != 4) {
		fprintf(stderr, "usage: repack-bzimage BZIMAGE PACKED OUT\n");
		return 2;
	}
	if (file_read("kernel", argv[1], FILE_MAX, &old, &err) ||
	    file_read("payload", argv[2], FILE_MAX, &packed, &err) || bzimage_parse(old, &bz, &err))
		fprintf(stderr, "repack-bzimage: %s\n", err.text);
	else
		rc = write_image(argv[3], old, &bz, packed);
	file_free(&packed);
	file_free(&old);
	return rc;
}
