/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdt-dump FILE CPUS DEVICES: writes the device tree of a machine with so many processors and
 * virtio devices into FILE, as it lies in guest memory behind its setup_data header, for dtc and
 * fdtdump.
 */
#include <stdio.h>
#include <stdlib.h>

#include <asm/bootparam.h>
#include <libfdt.h>

#include "minivm/fdt.h"

static uint8_t low[0x100000];

static int write_file(const char *path, const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "wb");
	int rc;

	if (!f) {
		perror(path);
		return 1;
	}
	rc = fwrite(data, 1, len, f) != len;
	return fclose(f) || rc;
}

int main(int argc, char **argv)
{
	const struct guest_mem mem = {.count = 1, .region = {{GPA(0), sizeof(low), low}}};
	struct fdt_request req = {0};
	const struct setup_data *header;
	struct err err = {0};
	gpa_t setup_data;

	if (argc != 4) {
		fprintf(stderr, "usage: fdt-dump FILE CPUS DEVICES\n");
		return 2;
	}
	req.cpus = (unsigned)atoi(argv[2]);
	req.virtio_count = (unsigned)atoi(argv[3]);
	for (unsigned i = 0; i < req.virtio_count && i < BOOT_VIRTIO_MAX; i++)
		req.virtio[i] = (struct boot_virtio){.base = 0xc0001000 + i * 0x1000, .gsi = i};
	if (fdt_write(&mem, &req, &setup_data, &err)) {
		fprintf(stderr, "fdt-dump: %s\n", err.text);
		return 1;
	}
	header = (const void *)(low + setup_data.v);
	if (header->type != SETUP_DTB || fdt_check_full(header->data, header->len)) {
		fprintf(stderr, "fdt-dump: no valid tree\n");
		return 1;
	}
	return write_file(argv[1], header->data, header->len);
}
