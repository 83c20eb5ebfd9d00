/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi-dump DIR CPUS DEVICES: writes the tables of a machine with so many processors and virtio
 * devices into DIR, each as it lies in guest memory (rsdp.dat, xsdt.dat, facp.dat, ...), for iasl.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/acpi.h"

static uint8_t low[0x100000];

static uint32_t le32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static int write_file(const char *dir, const char *name, const uint8_t *data, size_t len)
{
	char path[4096];
	FILE *f;
	int rc;

	snprintf(path, sizeof(path), "%s/%.4s.dat", dir, name);
	f = fopen(path, "wb");
	if (!f) {
		perror(path);
		return 1;
	}
	rc = fwrite(data, 1, len, f) != len;
	return fclose(f) || rc;
}

static int dump_table(const char *dir, uint32_t gpa)
{
	char name[4];

	for (int i = 0; i < 4; i++)
		name[i] = (char)(low[gpa + (uint32_t)i] | 0x20); /* capitals to small letters */
	return write_file(dir, name, low + gpa, le32(low + gpa + 4));
}

/* The pointers of each: RSDP 24, XSDT 36 and on, FADT 140. */
static int dump_all(const char *dir, uint32_t rsdp)
{
	uint32_t xsdt = le32(low + rsdp + 24);
	int rc =
	    write_file(dir, "rsdp", low + rsdp, le32(low + rsdp + 20)) || dump_table(dir, xsdt);

	for (uint32_t at = 36; !rc && at < le32(low + xsdt + 4); at += 8) {
		uint32_t table = le32(low + xsdt + at);

		rc = dump_table(dir, table);
		if (!rc && memcmp(low + table, "FACP", 4) == 0)
			rc = dump_table(dir, le32(low + table + 140));
	}
	return rc;
}

int main(int argc, char **argv)
{
	const struct guest_mem mem = {.count = 1, .region = {{GPA(0), sizeof(low), low}}};
	struct acpi_request req = {.button_gsi = 23, .generation_gsi = 22};
	struct err err = {0};
	gpa_t rsdp;

	if (argc != 4) {
		fprintf(stderr, "usage: acpi-dump DIR CPUS DEVICES\n");
		return 2;
	}
	req.cpus = (unsigned)atoi(argv[2]);
	req.virtio_count = (unsigned)atoi(argv[3]);
	for (unsigned i = 0; i < req.virtio_count && i < BOOT_VIRTIO_MAX; i++)
		req.virtio[i] = (struct boot_virtio){.base = 0xc0001000 + i * 0x1000, .gsi = i};
	if (acpi_write(&mem, &req, &rsdp, &err)) {
		fprintf(stderr, "acpi-dump: %s\n", err.text);
		return 1;
	}
	return dump_all(argv[1], (uint32_t)rsdp.v);
}
