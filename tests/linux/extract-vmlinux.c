/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extract-vmlinux BZIMAGE VMLINUX: writes the ELF kernel that is packed in a bzImage, by the same
 * code that minivm boots it with. What follows the ELF inside (relocations) stays in the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/file.h"
#include "minivm/image.h"

#define UNPACKED_MAX (1ull << 30)

static int write_file(const char *path, struct bytes b)
{
	FILE *f = fopen(path, "wb");
	int bad = !f || fwrite(b.data, 1, b.len, f) != b.len;

	if (f && fclose(f))
		bad = 1;
	if (bad)
		perror(path);
	return bad;
}

int main(int argc, char **argv)
{
	struct unpacked unpacked = {0};
	struct bytes file = {0};
	struct bzimage bz;
	struct err err = {0};
	int rc = 1;

	if (argc != 3) {
		fprintf(stderr, "usage: extract-vmlinux BZIMAGE VMLINUX\n");
		return 2;
	}
	if (file_read("kernel", argv[1], UNPACKED_MAX, &file, &err) ||
	    bzimage_parse(file, &bz, &err) || unpack(bz.payload, UNPACKED_MAX, &unpacked, &err))
		fprintf(stderr, "extract-vmlinux: %s\n", err.text);
	else
		rc = write_file(argv[2], unpacked.bytes);
	unpack_free(&unpacked);
	file_free(&file);
	return rc;
}
