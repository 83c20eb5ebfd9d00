/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flattened device tree, as arch/x86/kernel/devicetree.c of Linux 6.1 reads it.
 *
 * Theory of operation: the tree is written front to back by libfdt's sequential functions into one
 * buffer, behind the setup_data header by which the zero page points to it. The first error of
 * libfdt sticks, so that nobody but finish() has to look.
 *
 *	/aliases, /chosen	ttyS0 is COM1, and the console where the command line names none
 *	/cpus/cpu@N		Linux makes a processor of each, by the APIC id in `reg`; this is
 *				all that SMP needs, there is no MP table beside the tree
 *	/soc			the APICs, and what is memory-mapped: virtio-mmio
 *	/isa@0			what is on I/O ports, each at its own number: COM1, RTC, pvpanic
 *
 * Linux on x86 knows interrupt controllers only by the names of the SoC for which it learned to
 * read device trees, Intel's CE4100; they are ordinary APICs. The second cell of an interrupt is
 * read by the table of_ioapic_type[] in devicetree.c, where 3 is "edge, active high", which is what
 * an irqfd is. The binding's text has 0 there, and 3 for the falling edge; but a kernel obeys its
 * code, and KVM's I/O APIC takes no notice of the polarity. "intel,virtual-wire-mode", which newer
 * kernels read, says what LINT0 is out of reset; without it they assume PIC mode, as 6.1 always
 * does.
 */
#include "minivm/fdt.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <asm/bootparam.h>
#include <libfdt.h>

#include "minivm/config.h"
#include "minivm/platform.h"
#include "minivm/serial.h"
#include "minivm/virtio_mmio.h"

#define IOAPIC_PHANDLE 1
#define APIC_LEN       0x1000
#define IRQ_EDGE_HIGH  3

/* PC COM ports: the divisor 1 is 115200 baud. */
#define COM1_BAUD  115200
#define COM1_CLOCK (16 * COM1_BAUD)

#define ISA_NODE   "isa" /* Linux knows the bus by this name */
#define ISA_IO	   1	 /* the first cell of an address on the ISA bus; 0 would be memory */
#define ISA_IO_LEN 0x10000

#define CELLS_MAX 5

struct tree {
	void *blob;
	int rc; /* libfdt's first error, or 0 */
};

static void keep(struct tree *t, int rc)
{
	if (t->rc == 0)
		t->rc = rc;
}

/* --- nodes and properties; after an error they do nothing --- */

static void begin(struct tree *t, const char *name)
{
	if (t->rc == 0)
		keep(t, fdt_begin_node(t->blob, name));
}

/* "NAME@ADDRESS" */
static void begin_at(struct tree *t, const char *name, uint64_t address)
{
	char full[64];

	snprintf(full, sizeof(full), "%s@%llx", name, (unsigned long long)address);
	begin(t, full);
}

static void end(struct tree *t)
{
	if (t->rc == 0)
		keep(t, fdt_end_node(t->blob));
}

static void text(struct tree *t, const char *name, const char *value)
{
	if (t->rc == 0)
		keep(t, fdt_property_string(t->blob, name, value));
}

static void flag(struct tree *t, const char *name)
{
	if (t->rc == 0)
		keep(t, fdt_property(t->blob, name, NULL, 0));
}

static void cells(struct tree *t, const char *name, unsigned count, const uint32_t *value)
{
	fdt32_t big[CELLS_MAX];

	assert(count <= CELLS_MAX);
	for (unsigned i = 0; i < count; i++)
		big[i] = cpu_to_fdt32(value[i]);
	if (t->rc == 0)
		keep(t, fdt_property(t->blob, name, big, (int)(count * sizeof(big[0]))));
}

#define CELLS(t, name, ...)                                                                        \
	cells(t, name, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),                 \
	      (const uint32_t[]){__VA_ARGS__})

/* How children of this node write addresses and sizes. */
static void address_cells(struct tree *t, uint32_t address, uint32_t size)
{
	CELLS(t, "#address-cells", address);
	CELLS(t, "#size-cells", size);
}

/* --- the machine --- */

static void add_cpus(struct tree *t, unsigned cpus)
{
	begin(t, "cpus");
	address_cells(t, 1, 0);
	for (uint32_t i = 0; i < cpus; i++) {
		begin_at(t, "cpu", i);
		text(t, "device_type", "cpu");
		text(t, "compatible", "intel,ce4100");
		CELLS(t, "reg", i);
		end(t);
	}
	end(t);
}

static void add_interrupt_controller(struct tree *t, const char *compatible, uint32_t base)
{
	begin_at(t, "interrupt-controller", base);
	text(t, "compatible", compatible);
	flag(t, "interrupt-controller");
	CELLS(t, "#interrupt-cells", 2);
	CELLS(t, "#address-cells", 0); /* no interrupt map goes by addresses */
	CELLS(t, "reg", base, APIC_LEN);
}

static void add_soc(struct tree *t, const struct fdt_request *req)
{
	static const char compatible[] = "intel,ce4100-cp\0simple-bus";

	begin(t, "soc");
	if (t->rc == 0)
		keep(t, fdt_property(t->blob, "compatible", compatible, sizeof(compatible)));
	address_cells(t, 1, 1);
	flag(t, "ranges"); /* addresses are the processor's */
	add_interrupt_controller(t, "intel,ce4100-ioapic", BOOT_IOAPIC_GPA);
	CELLS(t, "phandle", IOAPIC_PHANDLE);
	end(t);
	add_interrupt_controller(t, "intel,ce4100-lapic", BOOT_LAPIC_GPA);
	flag(t, "intel,virtual-wire-mode");
	end(t);
	for (unsigned i = 0; i < req->virtio_count; i++) {
		begin_at(t, "virtio", req->virtio[i].base);
		text(t, "compatible", "virtio,mmio");
		CELLS(t, "reg", req->virtio[i].base, VIRTIO_MMIO_LEN);
		CELLS(t, "interrupts", req->virtio[i].gsi, IRQ_EDGE_HIGH);
		flag(t, "dma-coherent");
		end(t);
	}
	end(t);
}

/* IEEE 1275's ISA binding: a port is "i" and its number. */
static void begin_port(struct tree *t, const char *name, uint32_t port, uint32_t len,
		       const char *compatible)
{
	char full[64];

	snprintf(full, sizeof(full), "%s@i%x", name, port);
	begin(t, full);
	text(t, "compatible", compatible);
	CELLS(t, "reg", ISA_IO, port, len);
}

/* The RTC is without an interrupt: ours has no alarm. */
static void add_isa(struct tree *t)
{
	begin_at(t, ISA_NODE, 0);
	text(t, "compatible", "isa");
	address_cells(t, 2, 1);
	CELLS(t, "ranges", ISA_IO, 0, 0, ISA_IO_LEN);
	begin_port(t, "serial", COM1_PORT, COM1_LEN, "ns16550a");
	CELLS(t, "clock-frequency", COM1_CLOCK);
	CELLS(t, "current-speed", COM1_BAUD);
	CELLS(t, "interrupts", COM1_GSI, IRQ_EDGE_HIGH);
	end(t);
	begin_port(t, "rtc", RTC_PORT, RTC_LEN, "motorola,mc146818");
	end(t);
	begin_port(t, "pvpanic", PVPANIC_PORT, PVPANIC_LEN, "qemu,pvpanic-mmio");
	end(t);
	end(t);
}

static void add_root(struct tree *t, const struct fdt_request *req)
{
	char com1[64];

	snprintf(com1, sizeof(com1), "/" ISA_NODE "@0/serial@i%x", COM1_PORT);
	begin(t, "");
	text(t, "compatible", "minivm");
	text(t, "model", "minivm");
	address_cells(t, 1, 1);
	CELLS(t, "interrupt-parent", IOAPIC_PHANDLE);
	begin(t, "aliases");
	text(t, "serial0", com1);
	end(t);
	begin(t, "chosen");
	text(t, "stdout-path", com1);
	end(t);
	add_cpus(t, req->cpus);
	add_soc(t, req);
	add_isa(t);
	end(t);
}

static int check_request(const struct fdt_request *req, struct err *err)
{
	if (req->cpus == 0 || req->cpus > CONFIG_CPUS_MAX)
		return err_set(err, EINVAL, "device tree: %u processors, at most %d are possible",
			       req->cpus, CONFIG_CPUS_MAX);
	if (req->virtio_count > BOOT_VIRTIO_MAX)
		return err_set(err, EINVAL,
			       "device tree: %u virtio devices, at most %d are possible",
			       req->virtio_count, BOOT_VIRTIO_MAX);
	/* A node's name is its address: two of a name make a tree that nobody has to read. */
	for (unsigned i = 0; i < req->virtio_count; i++) {
		for (unsigned k = 0; k < i; k++) {
			if (req->virtio[i].base == req->virtio[k].base)
				return err_set(err, EINVAL,
					       "device tree: two virtio devices at %#x",
					       req->virtio[i].base);
		}
	}
	return 0;
}

int fdt_write(const struct guest_mem *mem, const struct fdt_request *req, gpa_t *setup_data,
	      struct err *err)
{
	/* Room for the header in front, aligned for both. */
	_Alignas(8) uint8_t data[FDT_MAX] = {0};
	struct setup_data header = {.type = SETUP_DTB};
	const size_t blob_at = offsetof(struct setup_data, data);
	struct tree t = {.blob = data + blob_at};
	int rc = check_request(req, err);

	if (rc)
		return rc;
	static_assert(offsetof(struct setup_data, data) % 8 == 0, "a tree is aligned to 8 bytes");
	keep(&t, fdt_create(t.blob, (int)(sizeof(data) - blob_at)));
	if (t.rc == 0)
		keep(&t, fdt_finish_reservemap(t.blob));
	add_root(&t, req);
	if (t.rc == 0)
		keep(&t, fdt_finish(t.blob));
	if (t.rc)
		return err_set(err, EINVAL, "device tree: %s", fdt_strerror(t.rc));
	header.len = fdt_totalsize(t.blob);
	memcpy(data, &header, blob_at);
	if (guest_mem_write(mem, GPA(FDT_GPA), data, blob_at + header.len))
		return err_set(err, EFAULT, "device tree: no guest memory below 1 MiB");
	*setup_data = GPA(FDT_GPA);
	return 0;
}
