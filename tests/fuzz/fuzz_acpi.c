/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI: the AML builder by a stream of calls into a buffer that may be too small, and the tables of
 * a machine whose numbers are the input's. Either way what comes out must read back.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "../unit/aml_walk.h"
#include "minivm/acpi.h"
#include "minivm/aml.h"
#include "minivm/config.h"
#include "input.h"

static uint8_t low[0x100000];

/* --- builder --- */

static bool in_template(const struct aml *a)
{
	return a->depth > 0 && a->open[a->depth - 1].template;
}

static void resource(struct aml *a, struct input *in, unsigned op)
{
	if (op % 3 == 0)
		aml_resource_io(a, (uint16_t)next_number(in, 2), (uint8_t)next_number(in, 1));
	else if (op % 3 == 1)
		aml_resource_memory(a, next_number(in, 4), next_number(in, 4));
	else
		aml_resource_interrupt(a, next_number(in, 4));
}

static void string(struct aml *a, struct input *in)
{
	char text[300];
	size_t n = next_number(in, 2) % sizeof(text);

	memset(text, 'x', n);
	text[n ? n - 1 : 0] = '\0';
	aml_name_string(a, "_HID", text);
}

static void term(struct aml *a, struct input *in, unsigned op)
{
	const uint32_t values[] = {next_number(in, 4), next_number(in, 2), next_number(in, 1)};

	switch (op % 6) {
	case 0:
		aml_name_integer(a, "_UID", values[0]);
		break;
	case 1:
		string(a, in);
		break;
	case 2:
		aml_name_package(a, "PKG", values, (uint8_t)(values[2] % 4));
		break;
	case 3:
		aml_name_eisa_id(a, "_HID", "PNP0501");
		break;
	case 4:
		aml_notify(a, "DEV", values[0]);
		break;
	case 5:
		aml_current_resources(a);
		break;
	}
}

static void open_one(struct aml *a, struct input *in, unsigned op)
{
	if (op % 4 == 0)
		aml_scope(a, "_SB");
	else if (op % 4 == 1)
		aml_device(a, "DEV");
	else if (op % 4 == 2)
		aml_method(a, "_EVT", op / 4 % 8);
	else
		aml_if_arg_equal(a, op / 4 % 7, next_number(in, 4));
}

static void fuzz_builder(struct input *in)
{
	static uint8_t code[8192];
	size_t cap = next_number(in, 2) % sizeof(code), len;
	struct aml_walk w;
	struct err err = {0};
	struct aml a;

	memset(code, 0xee, sizeof(code));
	aml_init(&a, code, cap);
	while (in->len) {
		unsigned op = next_number(in, 1), kind = op >> 6;

		if (kind == 0 && a.depth > 0)
			aml_end(&a);
		else if (in_template(&a))
			resource(&a, in, op);
		else if (kind == 1 && a.depth < AML_DEPTH_MAX - 1)
			open_one(&a, in, op);
		else if (a.depth < AML_DEPTH_MAX)
			term(&a, in, op & 0x3f);
	}
	while (a.depth > 0)
		aml_end(&a);
	for (size_t i = cap; i < sizeof(code); i++)
		assert(code[i] == 0xee);
	if (aml_finish(&a, &len, &err) == 0)
		assert(aml_walk(&w, code, len));
	else
		assert(err.code == -E2BIG);
}

/* --- tables --- */

static const uint8_t *table_at(uint32_t gpa, const char *signature)
{
	const uint8_t *t = low + gpa;
	uint8_t sum = 0;

	assert(gpa >= ACPI_TABLES_GPA && gpa < ACPI_TABLES_GPA + ACPI_TABLES_MAX - 36);
	assert(memcmp(t, signature, 4) == 0);
	assert(walk_le(t + 4, 4) <= ACPI_TABLES_GPA + ACPI_TABLES_MAX - gpa);
	for (uint32_t i = 0; i < walk_le(t + 4, 4); i++)
		sum += t[i];
	assert(sum == 0);
	return t;
}

static void check_tables(const struct acpi_request *req, uint32_t rsdp)
{
	const uint8_t *xsdt = table_at(walk_le(low + rsdp + 24, 4), "XSDT");
	const uint8_t *fadt = table_at(walk_le(xsdt + 36, 4), "FACP");
	const uint8_t *madt = table_at(walk_le(xsdt + 44, 4), "APIC");
	const uint8_t *dsdt = table_at(walk_le(fadt + 140, 4), "DSDT");
	unsigned virtio = 0;
	struct aml_walk w;

	assert(walk_le(madt + 4, 4) == 44 + req->cpus * 8 + 12);
	assert(aml_walk(&w, dsdt + 36, walk_le(dsdt + 4, 4) - 36));
	assert(w.events == 2);
	assert(w.event[0].if_value == req->button_gsi);
	assert(w.event[1].if_value == req->generation_gsi);
	for (unsigned i = 0; i < w.count; i++) {
		if (strcmp(w.device[i].hid, "LNRO0005") != 0)
			continue;
		assert(w.device[i].memory == req->virtio[virtio].base);
		assert(w.device[i].gsi == req->virtio[virtio].gsi);
		virtio++;
	}
	assert(virtio == req->virtio_count);
}

static void fuzz_tables(struct input *in)
{
	struct guest_mem mem = {.count = 1, .region = {{GPA(0), next_number(in, 1) << 12, low}}};
	struct acpi_request req = {.cpus = next_number(in, 1), .button_gsi = next_number(in, 4)};
	struct err err = {0};
	gpa_t rsdp;
	int rc;

	req.generation_gsi = next_number(in, 4);
	req.virtio_count = next_number(in, 1);
	for (unsigned i = 0; i < BOOT_VIRTIO_MAX; i++)
		req.virtio[i] = (struct boot_virtio){next_number(in, 4), next_number(in, 4)};
	memset(low + ACPI_TABLES_GPA, 0, ACPI_TABLES_MAX);
	rc = acpi_write(&mem, &req, &rsdp, &err);
	if (rc == 0)
		check_tables(&req, (uint32_t)rsdp.v);
	else if (req.cpus - 1 < CONFIG_CPUS_MAX && req.virtio_count <= BOOT_VIRTIO_MAX)
		assert(rc == -EFAULT && mem.region[0].len < ACPI_TABLES_GPA + ACPI_TABLES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (next_number(&in, 1) & 1)
		fuzz_builder(&in);
	else
		fuzz_tables(&in);
	return 0;
}
