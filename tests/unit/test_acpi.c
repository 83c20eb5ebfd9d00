/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables as a guest finds them, the AML builder's edges, sleep and reset registers. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "aml_walk.h"
#include "minivm/acpi.h"
#include "minivm/aml.h"
#include "minivm/config.h"

static uint8_t low[0x100000];

static struct guest_mem fake(void)
{
	struct guest_mem mem = {.count = 1};

	memset(low, 0, sizeof(low));
	mem.region[0] = (struct guest_region){GPA(0), sizeof(low), low};
	return mem;
}

static struct acpi_request machine(unsigned cpus, unsigned devices)
{
	struct acpi_request req = {
	    .cpus = cpus, .button_gsi = 23, .generation_gsi = 22, .virtio_count = devices};

	for (unsigned i = 0; i < devices; i++)
		req.virtio[i] = (struct boot_virtio){0xc0001000 + i * 0x1000, 200 + i};
	return req;
}

static uint64_t le64(const uint8_t *p)
{
	return walk_le(p, 4) | (uint64_t)walk_le(p + 4, 4) << 32;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

static const uint8_t *table_at(uint64_t gpa, const char *signature)
{
	const uint8_t *t = low + gpa;

	cr_assert_lt(gpa, sizeof(low));
	cr_assert_arr_eq(t, signature, 4);
	cr_assert_leq(gpa + walk_le(t + 4, 4), ACPI_TABLES_GPA + ACPI_TABLES_MAX);
	cr_assert_eq(sum(t, walk_le(t + 4, 4)), 0, "checksum of %s", signature);
	return t;
}

/* Writes the tables and follows RSDP and XSDT. */
static const uint8_t *find(const struct acpi_request *req, const char *signature)
{
	struct guest_mem mem = fake();
	struct err err = {0};
	const uint8_t *r, *xsdt;
	gpa_t rsdp;

	cr_assert_eq(acpi_write(&mem, req, &rsdp, &err), 0, "%s", err.text);
	cr_assert_eq(rsdp.v, 0xe0000, "where kernels look that are not told");
	r = low + rsdp.v;
	cr_assert_arr_eq(r, "RSD PTR ", 8);
	cr_assert_eq(sum(r, 20), 0);
	cr_assert_eq(sum(r, 36), 0);
	cr_assert_eq(r[15], 2);
	cr_assert_eq(walk_le(r + 16, 4), 0, "no RSDT");
	cr_assert_eq(walk_le(r + 20, 4), 36);
	xsdt = table_at(le64(r + 24), "XSDT");
	for (unsigned at = 36; at < walk_le(xsdt + 4, 4); at += 8) {
		uint64_t gpa = le64(xsdt + at);

		if (memcmp(low + gpa, signature, 4) == 0)
			return table_at(gpa, signature);
	}
	cr_assert_fail("no %s", signature);
	return NULL;
}

static void check_port(const uint8_t *gas, unsigned port)
{
	cr_assert_eq(gas[0], 1, "system I/O");
	cr_assert_eq(gas[1], 8, "bits");
	cr_assert_eq(gas[2], 0);
	cr_assert_eq(gas[3], 1, "byte access");
	cr_assert_eq(le64(gas + 4), port);
}

Test(acpi, fadt_is_hardware_reduced_with_sleep_and_reset)
{
	const struct acpi_request req = machine(1, 0);
	const uint8_t *f = find(&req, "FACP");
	uint32_t flags = walk_le(f + 112, 4);

	cr_assert_geq(f[8], 5, "revision");
	cr_assert_eq(walk_le(f + 4, 4), 276);
	cr_assert(flags & 1u << 20, "HW_REDUCED_ACPI");
	cr_assert(flags & 1u << 10, "RESET_REG_SUP");
	cr_assert(flags & 1u << 4, "no fixed power button");
	cr_assert_eq(walk_le(f + 109, 2) & 2, 0, "no keyboard controller to probe");
	cr_assert_eq(walk_le(f + 109, 2) & 0x20, 0, "there is an RTC");
	check_port(f + 116, ACPI_POWER_PORT + ACPI_RESET);
	cr_assert_eq(f[128], ACPI_RESET_VALUE);
	check_port(f + 244, ACPI_POWER_PORT + ACPI_SLEEP_CONTROL);
	check_port(f + 256, ACPI_POWER_PORT + ACPI_SLEEP_STATUS);
	/* §4.1: none of the fixed hardware: SCI, SMI, PM1, PM timer, GPE, in either form. */
	cr_assert_eq(sum(f + 46, 109 - 46), 0);
	for (unsigned i = 148; i < 244; i++)
		cr_assert_eq(f[i], 0);
	table_at(le64(f + 140), "DSDT");
}

static void check_madt(unsigned cpus)
{
	const struct acpi_request req = machine(cpus, 0);
	const uint8_t *t = find(&req, "APIC");
	unsigned seen = 0, ioapics = 0;

	cr_assert_eq(walk_le(t + 36, 4), 0xfee00000);
	cr_assert_eq(walk_le(t + 40, 4), 0, "no 8259s");
	for (unsigned at = 44; at < walk_le(t + 4, 4); at += t[at + 1]) {
		const uint8_t *e = t + at;

		if (e[0] == 0) {
			cr_assert_eq(e[1], 8);
			cr_assert_eq(e[2], seen, "processor UIDs in order");
			cr_assert_eq(e[3], seen, "APIC ids in order");
			cr_assert_eq(walk_le(e + 4, 4), 1, "enabled");
			seen++;
		} else {
			cr_assert_eq(e[0], 1);
			cr_assert_eq(e[1], 12);
			cr_assert_eq(e[2], cpus, "an id that no processor has");
			cr_assert_eq(walk_le(e + 4, 4), 0xfec00000);
			cr_assert_eq(walk_le(e + 8, 4), 0, "first GSI");
			ioapics++;
		}
	}
	cr_assert_eq(seen, cpus);
	cr_assert_eq(ioapics, 1);
}

Test(acpi, madt_has_each_processor_and_one_io_apic)
{
	check_madt(1);
	check_madt(2);
	check_madt(CONFIG_CPUS_MAX);
}

static const struct walk_device *device(const struct aml_walk *w, const char *hid, unsigned uid)
{
	for (unsigned i = 0; i < w->count; i++)
		if (!strcmp(w->device[i].hid, hid) && w->device[i].uid == uid)
			return &w->device[i];
	cr_assert_fail("no %s %u", hid, uid);
	return NULL;
}

static void walk_dsdt(const struct acpi_request *req, struct aml_walk *w)
{
	const uint8_t *fadt = find(req, "FACP");
	const uint8_t *dsdt = table_at(le64(fadt + 140), "DSDT");

	cr_assert_geq(dsdt[8], 2, "64-bit integers");
	cr_assert(aml_walk(w, dsdt + 36, walk_le(dsdt + 4, 4) - 36));
}

#define PLATFORM_DEVICES 6

static void check_event(const struct aml_walk *w, unsigned index, uint32_t gsi, const char *name)
{
	cr_assert_gt(w->events, index);
	cr_assert_eq(w->event[index].if_value, gsi);
	cr_assert_str_eq(w->event[index].notify_name, name);
	cr_assert_eq(w->event[index].notify_value, 0x80);
}

Test(acpi, dsdt_describes_the_platform)
{
	const struct acpi_request req = machine(2, 0);
	const struct walk_device *d;
	struct aml_walk w;

	walk_dsdt(&req, &w);
	cr_assert_eq(w.s5, ACPI_SLEEP_TYPE_S5);
	d = device(&w, "PNP0501", 0);
	cr_assert_eq(d->io, 0x3f8);
	cr_assert_eq(d->io_len, 8);
	cr_assert_eq(d->gsi, 4);
	d = device(&w, "PNP0B00", 0);
	cr_assert_eq(d->io, 0x70);
	d = device(&w, "QEMU0001", 0);
	cr_assert_eq(d->io, 0x505);
	cr_assert_eq(d->io_len, 1);
	d = device(&w, "ACPI0013", 0);
	cr_assert_eq(d->previous_gsi, 23);
	cr_assert_eq(d->gsi, 22);
	check_event(&w, 0, 23, device(&w, "PNP0C0C", 0)->name);
	check_event(&w, 1, 22, device(&w, "MNVM0001", 0)->name);
	cr_assert_eq(w.events, 2);
	cr_assert_eq(w.count, PLATFORM_DEVICES, "nothing else");
}

/* Linux's vmgenid.c: a compatible id, and a package of two halves. */
Test(acpi, generation_id_is_where_no_table_and_no_ram_is)
{
	const struct acpi_request req = machine(1, 0);
	const struct walk_device *d;
	struct aml_walk w;

	walk_dsdt(&req, &w);
	d = device(&w, "MNVM0001", 0);
	cr_assert_str_eq(d->cid, "VM_Gen_Counter");
	cr_assert_eq(d->addr, ACPI_GENERATION_GPA);
	cr_assert_eq(d->addr % 4096, 0);
	cr_assert_geq(d->addr, ACPI_TABLES_GPA + ACPI_TABLES_MAX);
	cr_assert_leq(d->addr + 4096, 0x100000);
	cr_assert_eq(d->resources, 0);
}

Test(acpi, the_generation_id_and_nothing_else_is_written)
{
	static const uint8_t want[ACPI_GENERATION_LEN] = "0123456789abcde";
	struct guest_mem mem = fake(), none = {0};
	uint8_t *id = low + ACPI_GENERATION_GPA;
	struct err err = {0};

	cr_assert_eq(acpi_write_generation(&mem, want, &err), 0, "%s", err.text);
	cr_assert_arr_eq(id, want, sizeof(want));
	memset(id, 0, sizeof(want));
	cr_assert_eq(sum(low, sizeof(low)), 0);
	cr_assert_eq(acpi_write_generation(&none, want, &err), -EFAULT);
}

static void check_virtio(unsigned count)
{
	const struct acpi_request req = machine(1, count);
	struct aml_walk w;

	walk_dsdt(&req, &w);
	cr_assert_eq(w.count, PLATFORM_DEVICES + count);
	for (unsigned i = 0; i < count; i++) {
		const struct walk_device *d = device(&w, "LNRO0005", i);

		cr_assert_eq(d->memory, req.virtio[i].base);
		cr_assert_eq(d->memory_len, 0x200);
		cr_assert_eq(d->gsi, req.virtio[i].gsi);
		cr_assert_eq(d->resources, 2);
		for (unsigned j = 0; j < PLATFORM_DEVICES + count; j++)
			cr_assert(d == &w.device[j] || strcmp(d->name, w.device[j].name) != 0,
				  "two devices are called %s", d->name);
	}
}

Test(acpi, dsdt_describes_each_virtio_device)
{
	check_virtio(1);
	check_virtio(8);
	check_virtio(BOOT_VIRTIO_MAX);
}

Test(acpi, bad_requests_are_refused)
{
	struct acpi_request req = machine(0, 0);
	struct guest_mem mem = fake(), none = {0};
	struct err err = {0};
	gpa_t rsdp;

	cr_assert_eq(acpi_write(&mem, &req, &rsdp, &err), -EINVAL);
	req.cpus = CONFIG_CPUS_MAX + 1;
	cr_assert_eq(acpi_write(&mem, &req, &rsdp, &err), -EINVAL);
	req.cpus = 1;
	req.virtio_count = BOOT_VIRTIO_MAX + 1;
	cr_assert_eq(acpi_write(&mem, &req, &rsdp, &err), -EINVAL);
	cr_assert_eq(sum(low, sizeof(low)), 0, "nothing was written");
	req.virtio_count = 0;
	cr_assert_eq(acpi_write(&none, &req, &rsdp, &err), -EFAULT);
}

/* --- AML --- */

/* A scope around a string of n characters: all widths of lengths. */
static void check_scope(size_t n)
{
	static uint8_t code[70000];
	static char string[66000];
	struct aml_walk w;
	struct err err = {0};
	struct aml a;
	size_t len;

	memset(string, 'x', n);
	string[n] = '\0';
	aml_init(&a, code, sizeof(code));
	aml_scope(&a, "_SB");
	aml_name_string(&a, "TEXT", string);
	aml_end(&a);
	cr_assert_eq(aml_finish(&a, &len, &err), 0);
	cr_assert_eq(len, 1 + (size_t)(code[1] >> 6) + 1 + 4 + 6 + n + 1);
	cr_assert(aml_walk(&w, code, len), "%zu characters", n);
}

Test(acpi, aml_lengths_of_every_width)
{
	for (size_t n = 0; n < 100; n++)
		check_scope(n);
	for (size_t n = 4000; n < 4200; n++)
		check_scope(n);
	check_scope(65500);
}

Test(acpi, aml_integers_of_every_width)
{
	static const uint32_t values[] = {0, 1, 2, 0xff, 0x100, 0xffff, 0x10000, 0xffffffff};
	uint8_t code[64];
	struct aml_walk w;
	struct err err = {0};
	struct aml a;
	size_t len;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		aml_init(&a, code, sizeof(code));
		aml_device(&a, "DEV");
		aml_name_integer(&a, "_UID", values[i]);
		aml_end(&a);
		cr_assert_eq(aml_finish(&a, &len, &err), 0);
		cr_assert(aml_walk(&w, code, len));
		cr_assert_eq(w.device[0].uid, values[i]);
	}
}

Test(acpi, aml_that_does_not_fit_is_an_error_and_stays_inside)
{
	uint8_t code[64];
	struct err err = {0};
	struct aml a;
	size_t len;
	unsigned good = 0;

	for (size_t cap = 0; cap < sizeof(code); cap++) {
		memset(code, 0xee, sizeof(code));
		aml_init(&a, code, cap);
		aml_device(&a, "DEV");
		aml_current_resources(&a);
		aml_resource_memory(&a, 0xc0000000, 0x1000);
		aml_resource_interrupt(&a, 5);
		aml_end(&a);
		aml_end(&a);
		if (aml_finish(&a, &len, &err) == 0)
			good++;
		else
			cr_assert_eq(aml_finish(&a, &len, &err), -E2BIG);
		for (size_t i = cap; i < sizeof(code); i++)
			cr_assert_eq(code[i], 0xee);
	}
	cr_assert_gt(good, 0);
	cr_assert_lt(good, sizeof(code));
}

/* --- sleep and reset registers --- */

struct seen {
	unsigned calls;
	enum vm_end_reason reason;
	uint8_t status;
};

static void on_end(void *opaque, enum vm_end_reason reason, uint8_t status)
{
	struct seen *seen = opaque;

	seen->calls++;
	seen->reason = reason;
	seen->status = status;
}

Test(acpi, only_s5_with_slp_en_powers_off)
{
	struct seen seen = {0};
	const struct vm_end_sink sink = {on_end, &seen};
	struct err err = {0};
	void *dev;

	cr_assert_eq(acpi_power_new(&sink, &dev, &err), 0);
	for (unsigned value = 0; value < 0x100; value++) {
		unsigned before = seen.calls;
		bool off = (value & 0x20) && (value >> 2 & 7) == ACPI_SLEEP_TYPE_S5;

		acpi_power_io_ops.write(dev, ACPI_SLEEP_CONTROL, 1, value);
		cr_assert_eq(seen.calls, before + off, "%#x", value);
	}
	cr_assert_eq(seen.reason, VM_END_POWEROFF);
	cr_assert_eq(seen.status, 0);
	acpi_power_io_ops.destroy(dev);
}

Test(acpi, reset_register_reboots_and_status_never_wakes)
{
	struct seen seen = {0};
	const struct vm_end_sink sink = {on_end, &seen};
	struct err err = {0};
	void *dev;

	cr_assert_eq(acpi_power_new(&sink, &dev, &err), 0);
	acpi_power_io_ops.write(dev, ACPI_SLEEP_STATUS, 1, 0x80);
	cr_assert_eq(acpi_power_io_ops.read(dev, ACPI_SLEEP_STATUS, 1), 0u);
	acpi_power_io_ops.write(dev, ACPI_RESET, 1, 0);
	acpi_power_io_ops.write(dev, ACPI_RESET, 1, ACPI_RESET_VALUE + 1);
	acpi_power_io_ops.write(dev, ACPI_SLEEP_CONTROL, 2, 0x34);
	cr_assert_eq(seen.calls, 0);
	acpi_power_io_ops.write(dev, ACPI_RESET, 1, ACPI_RESET_VALUE);
	cr_assert_eq(seen.calls, 1);
	cr_assert_eq(seen.reason, VM_END_REBOOT);
	acpi_power_io_ops.destroy(dev);
}
