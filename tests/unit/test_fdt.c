/* SPDX-License-Identifier: Apache-2.0 */
/* The device tree as a kernel finds it: by setup_data, and read with libfdt by path and property.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <asm/bootparam.h>
#include <libfdt.h>

#include "minivm/config.h"
#include "minivm/fdt.h"

static uint8_t low[0x100000];

static struct guest_mem fake(uint64_t bytes)
{
	struct guest_mem mem = {.count = 1};

	memset(low, 0xee, sizeof(low));
	mem.region[0] = (struct guest_region){GPA(0), bytes, low};
	return mem;
}

static struct fdt_request machine(unsigned cpus, unsigned devices)
{
	struct fdt_request req = {.cpus = cpus, .virtio_count = devices};

	for (unsigned i = 0; i < devices; i++)
		req.virtio[i] = (struct boot_virtio){0xc0001000 + i * 0x1000, 3 + i};
	return req;
}

static const struct setup_data *header_at(gpa_t gpa)
{
	return (const void *)(low + gpa.v);
}

/* Writes the tree and finds it as a kernel does. */
static const void *tree(const struct fdt_request *req)
{
	struct guest_mem mem = fake(sizeof(low));
	const struct setup_data *header;
	struct err err = {0};
	gpa_t gpa;

	cr_assert_eq(fdt_write(&mem, req, &gpa, &err), 0, "%s", err.text);
	cr_assert(gpa.v >= BOOT_EBDA_GPA && gpa.v < BOOT_LOW_END, "in reserved memory");
	header = header_at(gpa);
	cr_assert_eq(header->next, 0, "the only one");
	cr_assert_eq(header->type, SETUP_DTB);
	cr_assert_eq(header->len, fdt_totalsize(header->data));
	cr_assert_eq(fdt_check_full(header->data, header->len), 0);
	cr_assert_eq(low[FDT_GPA - 1], 0xee);
	cr_assert_eq(low[FDT_GPA + FDT_MAX], 0xee);
	return header->data;
}

static int node(const void *fdt, const char *path)
{
	int at = fdt_path_offset(fdt, path);

	cr_assert_geq(at, 0, "%s: %s", path, fdt_strerror(at));
	return at;
}

/* The property has just these cells. */
static void want_cells(const void *fdt, const char *path, const char *name, unsigned count,
		       const uint32_t *want)
{
	int len;
	const fdt32_t *have = fdt_getprop(fdt, node(fdt, path), name, &len);

	cr_assert_not_null(have, "%s: no %s", path, name);
	cr_assert_eq((unsigned)len, count * 4, "%s of %s has %d bytes", name, path, len);
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fdt32_to_cpu(have[i]), want[i], "%s of %s, cell %u: %#x", name, path,
			     i, fdt32_to_cpu(have[i]));
}

#define WANT_CELLS(fdt, path, name, ...)                                                           \
	want_cells(fdt, path, name, sizeof((uint32_t[]){__VA_ARGS__}) / 4,                         \
		   (const uint32_t[]){__VA_ARGS__})

static void want_text(const void *fdt, const char *path, const char *name, const char *want)
{
	int len;
	const char *have = fdt_getprop(fdt, node(fdt, path), name, &len);

	cr_assert_not_null(have, "%s: no %s", path, name);
	cr_assert(fdt_stringlist_contains(have, len, want), "%s of %s is not %s", name, path, want);
}

static unsigned count_children(const void *fdt, const char *path, const char *prefix)
{
	unsigned n = 0;
	int child;

	fdt_for_each_subnode(child, fdt, node(fdt, path))
	{
		if (strncmp(fdt_get_name(fdt, child, NULL), prefix, strlen(prefix)) == 0)
			n++;
	}
	return n;
}

Test(fdt, a_processor_for_each_apic_id)
{
	const unsigned counts[] = {1, 2, CONFIG_CPUS_MAX};

	for (unsigned k = 0; k < 3; k++) {
		const struct fdt_request req = machine(counts[k], 0);
		const void *fdt = tree(&req);

		cr_assert_eq(count_children(fdt, "/cpus", "cpu@"), counts[k]);
		WANT_CELLS(fdt, "/cpus", "#address-cells", 1);
		WANT_CELLS(fdt, "/cpus", "#size-cells", 0);
		for (unsigned i = 0; i < counts[k]; i++) {
			char path[32];

			snprintf(path, sizeof(path), "/cpus/cpu@%x", i);
			WANT_CELLS(fdt, path, "reg", i);
			want_text(fdt, path, "device_type", "cpu");
		}
	}
}

/* By these names and properties arch/x86/kernel/devicetree.c finds them. */
Test(fdt, interrupt_controllers)
{
	const struct fdt_request req = machine(1, 0);
	const void *fdt = tree(&req);
	static const char ioapic[] = "/soc/interrupt-controller@fec00000";
	static const char lapic[] = "/soc/interrupt-controller@fee00000";

	want_text(fdt, ioapic, "compatible", "intel,ce4100-ioapic");
	want_text(fdt, lapic, "compatible", "intel,ce4100-lapic");
	WANT_CELLS(fdt, ioapic, "reg", 0xfec00000, 0x1000);
	WANT_CELLS(fdt, lapic, "reg", 0xfee00000, 0x1000);
	WANT_CELLS(fdt, ioapic, "#interrupt-cells", 2);
	cr_assert_not_null(fdt_getprop(fdt, node(fdt, ioapic), "interrupt-controller", NULL));
	cr_assert_eq(fdt_node_offset_by_phandle(fdt, fdt_get_phandle(fdt, node(fdt, ioapic))),
		     node(fdt, ioapic));
	WANT_CELLS(fdt, "/", "interrupt-parent", fdt_get_phandle(fdt, node(fdt, ioapic)));
	want_text(fdt, "/soc", "compatible", "intel,ce4100-cp");
}

Test(fdt, virtio_devices_in_order)
{
	const struct fdt_request req = machine(1, 17);
	const void *fdt = tree(&req);
	unsigned n = 0;
	int child;

	fdt_for_each_subnode(child, fdt, node(fdt, "/soc"))
	{
		char path[64];

		if (fdt_node_check_compatible(fdt, child, "virtio,mmio") != 0)
			continue;
		cr_assert_eq(fdt_get_path(fdt, child, path, sizeof(path)), 0);
		WANT_CELLS(fdt, path, "reg", req.virtio[n].base, 0x200);
		WANT_CELLS(fdt, path, "interrupts", req.virtio[n].gsi, 3); /* rising edge */
		n++;
	}
	cr_assert_eq(n, 17);
}

Test(fdt, devices_on_ports)
{
	const struct fdt_request req = machine(1, 0);
	const void *fdt = tree(&req);

	WANT_CELLS(fdt, "/isa@0", "#address-cells", 2);
	WANT_CELLS(fdt, "/isa@0", "ranges", 1, 0, 0, 0x10000);
	WANT_CELLS(fdt, "/isa@0/serial@i3f8", "reg", 1, 0x3f8, 8);
	WANT_CELLS(fdt, "/isa@0/serial@i3f8", "interrupts", 4, 3);
	WANT_CELLS(fdt, "/isa@0/serial@i3f8", "clock-frequency", 1843200);
	want_text(fdt, "/isa@0/serial@i3f8", "compatible", "ns16550a");
	WANT_CELLS(fdt, "/isa@0/rtc@i70", "reg", 1, 0x70, 2);
	want_text(fdt, "/isa@0/rtc@i70", "compatible", "motorola,mc146818");
	WANT_CELLS(fdt, "/isa@0/pvpanic@i505", "reg", 1, 0x505, 1);
	want_text(fdt, "/isa@0/pvpanic@i505", "compatible", "qemu,pvpanic-mmio");
	want_text(fdt, "/chosen", "stdout-path", "/isa@0/serial@i3f8");
	want_text(fdt, "/aliases", "serial0", "/isa@0/serial@i3f8");
}

/* Linux on x86 6.1 stops at a memory node that it looks at; the map in the zero page counts. */
Test(fdt, no_memory_node)
{
	const struct fdt_request req = machine(1, 1);
	const void *fdt = tree(&req);

	cr_assert_lt(fdt_node_offset_by_prop_value(fdt, -1, "device_type", "memory", 7), 0);
}

Test(fdt, the_largest_machine_fits)
{
	const struct fdt_request req = machine(CONFIG_CPUS_MAX, BOOT_VIRTIO_MAX);

	cr_assert_eq(count_children(tree(&req), "/soc", "virtio@"), BOOT_VIRTIO_MAX);
}

static void refuse(const struct fdt_request *req, uint64_t bytes, int code, const char *word)
{
	struct guest_mem mem = fake(bytes);
	struct err err = {0};
	gpa_t gpa = GPA(0);

	cr_assert_eq(fdt_write(&mem, req, &gpa, &err), code, "%s", err.text);
	cr_assert_not_null(strstr(err.text, word), "'%s' in: %s", word, err.text);
	cr_assert_eq(gpa.v, 0);
	cr_assert_eq(low[FDT_GPA], 0xee, "nothing was written");
}

Test(fdt, what_is_no_machine_is_refused)
{
	struct fdt_request req = machine(0, 0);

	refuse(&req, sizeof(low), -EINVAL, "processors");
	req = machine(CONFIG_CPUS_MAX + 1, 0);
	refuse(&req, sizeof(low), -EINVAL, "processors");
	req = machine(1, 2);
	req.virtio_count = BOOT_VIRTIO_MAX + 1;
	refuse(&req, sizeof(low), -EINVAL, "virtio devices");
	req = machine(1, 2);
	req.virtio[1].base = req.virtio[0].base;
	refuse(&req, sizeof(low), -EINVAL, "two virtio devices at 0xc0001000");
	req = machine(1, 2);
	refuse(&req, FDT_GPA, -EFAULT, "memory");
	refuse(&req, FDT_GPA + 512, -EFAULT, "memory");
}
