/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4; section numbers are its own) for a hardware-reduced machine.
 *
 * Theory of operation: the tables are put together in one buffer, each aligned to 16 bytes, whose
 * first byte will be at ACPI_TABLES_GPA, and go into guest memory in one piece:
 *
 *	RSDP -> XSDT -> FADT -> DSDT
 *		     -> MADT
 *
 * The area is the PC's BIOS area, no RAM in the e820 map, so no kernel puts anything there. Kernels
 * that are given the RSDP's address find it at once; the others look at each 16 bytes from
 * 0xe0000 on, and find it at the first.
 *
 * The DSDT says what cannot be probed: COM1, clock, pvpanic, virtio-mmio devices, and power button
 * and generation id with the event device (GED, §5.6.9) that speaks for them. All interrupts are
 * edge-triggered, active high and unshared: that is what an irqfd without resampling is.
 */
#include "minivm/acpi.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "minivm/aml.h"
#include "minivm/boot.h"
#include "minivm/config.h"
#include "minivm/platform.h"
#include "minivm/serial.h"
#include "minivm/virtio_mmio.h"

#define OEM_ID	     "MINIVM"
#define OEM_TABLE_ID "MINIVM  "
#define TABLE_ALIGN  16

struct __attribute__((packed)) rsdp { /* §5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first RSDP_V1_LEN bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t ext_checksum; /* of all */
	uint8_t reserved[3];
};

#define RSDP_V1_LEN   20
#define RSDP_REVISION 2

struct __attribute__((packed)) header { /* §5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};

struct __attribute__((packed)) xsdt { /* §5.2.8 */
	struct header header;
	uint64_t fadt;
	uint64_t madt;
};

#define XSDT_REVISION 1

struct __attribute__((packed)) gas { /* §5.2.3.2 Generic Address Structure */
	uint8_t space;
	uint8_t bits;
	uint8_t bit_offset;
	uint8_t access;
	uint64_t address;
};

#define GAS_SYSTEM_IO	1
#define GAS_BYTE_ACCESS 1

struct __attribute__((packed)) fadt { /* §5.2.9; the fields that hardware-reduced machines lack */
	struct header header;
	uint8_t firmware_ctrl_to_boot_arch[109 - 36]; /* ... are 0 */
	uint16_t boot_arch;
	uint8_t reserved;
	uint32_t flags;
	struct gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_firmware_ctrl; /* no FACS: §5.2.9 lets hardware-reduced machines do without */
	uint64_t x_dsdt;
	uint8_t x_pm1a_evt_to_gpe1[8 * sizeof(struct gas)];
	struct gas sleep_control;
	struct gas sleep_status;
	char hypervisor[8];
};

#define FADT_REVISION 6
#define FADT_MINOR    3 /* ACPI 6.3, the newest that iasl 20200925 knows; 6.4 is the same here */

/* §5.2.9.3 IA-PC Boot Architecture Flags. Not set: 8042 (there is no keyboard), "no CMOS RTC". */
#define BOOT_ARCH_LEGACY_DEVICES 0x0001 /* COM1, RTC */
#define BOOT_ARCH_NO_VGA	 0x0004

/* §5.2.9 Fixed ACPI Description Table Fixed Feature Flags */
#define FADT_WBINVD	   (1u << 0)
#define FADT_C1		   (1u << 2)
#define FADT_NO_FIX_PWR	   (1u << 4) /* the power button is a device, if there is one */
#define FADT_NO_FIX_SLP	   (1u << 5)
#define FADT_NO_FIX_RTC	   (1u << 6) /* the RTC wakes nobody */
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HEADLESS	   (1u << 12)
#define FADT_HW_REDUCED	   (1u << 20)

struct __attribute__((packed)) madt { /* §5.2.12 */
	struct header header;
	uint32_t lapic;
	uint32_t flags; /* 0: no PCAT_COMPAT, there are no 8259s to be masked */
};

#define MADT_REVISION 5

struct __attribute__((packed)) madt_lapic { /* §5.2.12.2 */
	uint8_t type;
	uint8_t length;
	uint8_t uid;
	uint8_t apic_id;
	uint32_t flags;
};

struct __attribute__((packed)) madt_ioapic { /* §5.2.12.3 */
	uint8_t type;
	uint8_t length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
};

enum {
	MADT_LAPIC = 0,
	MADT_IOAPIC = 1,
};

#define MADT_LAPIC_ENABLED 1

#define DSDT_REVISION 2 /* integers are 64 bits wide */

static_assert(sizeof(struct rsdp) == 36 && sizeof(struct header) == 36 &&
		  sizeof(struct gas) == 12 && sizeof(struct fadt) == 276 &&
		  offsetof(struct fadt, boot_arch) == 109 && offsetof(struct fadt, x_dsdt) == 140 &&
		  offsetof(struct fadt, sleep_control) == 244 && sizeof(struct madt) == 44,
	      "ACPI 6.4 sizes");

struct tables {
	uint8_t *data; /* ACPI_TABLES_MAX bytes */
	size_t len;
};

static struct header make_header(const char *signature, uint8_t revision)
{
	struct header h = {.revision = revision, .oem_revision = 1, .creator_revision = 1};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, "MNVM", sizeof(h.creator_id));
	return h;
}

static void append(struct tables *t, const void *bytes, size_t len)
{
	assert(len <= ACPI_TABLES_MAX - t->len);
	memcpy(t->data + t->len, bytes, len);
	t->len += len;
}

/* The table from `at` to the end is complete. Returns its guest address; the next is aligned. */
static uint64_t finish_table(struct tables *t, size_t at)
{
	struct header h;

	memcpy(&h, t->data + at, sizeof(h));
	h.length = (uint32_t)(t->len - at);
	memcpy(t->data + at, &h, sizeof(h));
	h.checksum = boot_checksum(t->data + at, h.length);
	memcpy(t->data + at, &h, sizeof(h));
	t->len = (t->len + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);
	return ACPI_TABLES_GPA + at;
}

/* --- DSDT --- */

static void add_com1(struct aml *a)
{
	aml_device(a, "COM1");
	aml_name_eisa_id(a, "_HID", "PNP0501"); /* 16550A-compatible */
	aml_name_integer(a, "_UID", 0);
	aml_current_resources(a);
	aml_resource_io(a, COM1_PORT, COM1_LEN);
	aml_resource_interrupt(a, COM1_GSI);
	aml_end(a);
	aml_end(a);
}

/* Without an interrupt: ours has no alarm. */
static void add_rtc(struct aml *a)
{
	aml_device(a, "RTC");
	aml_name_eisa_id(a, "_HID", "PNP0B00");
	aml_current_resources(a);
	aml_resource_io(a, RTC_PORT, RTC_LEN);
	aml_end(a);
	aml_end(a);
}

static void add_pvpanic(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name_string(a, "_HID", "QEMU0001");
	aml_current_resources(a);
	aml_resource_io(a, PVPANIC_PORT, PVPANIC_LEN);
	aml_end(a);
	aml_end(a);
}

/* §4.8.2.2.1.2 Control Method Power Button */
static void add_button(struct aml *a)
{
	aml_device(a, "PWRB");
	aml_name_eisa_id(a, "_HID", "PNP0C0C");
	aml_end(a);
}

/*
 * As Microsoft's paper has it: found by its compatible id, ADDR is where the id lies (low and high
 * half). Linux's driver (vmgenid.c) reseeds its random number generator when it has changed.
 */
static void add_generation(struct aml *a)
{
	static const uint32_t address[] = {ACPI_GENERATION_GPA, 0};

	aml_device(a, "VGEN");
	aml_name_string(a, "_HID", "MNVM0001");
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_string(a, "_DDN", "VM_Gen_Counter");
	aml_name_package(a, "ADDR", address, 2);
	aml_end(a);
}

/* 0x80: the button was pressed (§5.6.6); the generation id has changed. */
static void add_events(struct aml *a, const struct acpi_request *req)
{
	aml_device(a, "GED");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_integer(a, "_UID", 0);
	aml_current_resources(a);
	aml_resource_interrupt(a, req->button_gsi);
	aml_resource_interrupt(a, req->generation_gsi);
	aml_end(a);
	aml_method(a, "_EVT", 1);
	aml_if_arg_equal(a, 0, req->button_gsi);
	aml_notify(a, "PWRB", 0x80);
	aml_end(a);
	aml_if_arg_equal(a, 0, req->generation_gsi);
	aml_notify(a, "VGEN", 0x80);
	aml_end(a);
	aml_end(a);
	aml_end(a);
}

static void add_virtio(struct aml *a, unsigned index, const struct boot_virtio *v)
{
	char name[5];

	snprintf(name, sizeof(name), "VR%02u", index % 100);
	aml_device(a, name);
	aml_name_string(a, "_HID", "LNRO0005"); /* Linux's name for virtio-mmio */
	aml_name_integer(a, "_UID", index);
	aml_current_resources(a);
	aml_resource_memory(a, v->base, VIRTIO_MMIO_LEN);
	aml_resource_interrupt(a, v->gsi);
	aml_end(a);
	aml_end(a);
}

static int add_dsdt(struct tables *t, const struct acpi_request *req, uint64_t *gpa,
		    struct err *err)
{
	/* §7.4.2 \_Sx: type for sleep control; the rest is for machines with PM1 registers. */
	static const uint32_t s5[] = {ACPI_SLEEP_TYPE_S5, 0, 0, 0};
	struct header h = make_header("DSDT", DSDT_REVISION);
	size_t at = t->len, len;
	struct aml a;
	int rc;

	append(t, &h, sizeof(h));
	aml_init(&a, t->data + t->len, ACPI_TABLES_MAX - TABLE_ALIGN - t->len);
	aml_name_package(&a, "_S5", s5, 4);
	aml_scope(&a, "_SB");
	add_com1(&a);
	add_rtc(&a);
	add_pvpanic(&a);
	add_button(&a);
	add_generation(&a);
	add_events(&a, req);
	for (unsigned i = 0; i < req->virtio_count; i++)
		add_virtio(&a, i, &req->virtio[i]);
	aml_end(&a);
	rc = aml_finish(&a, &len, err);
	if (rc)
		return rc;
	t->len += len;
	*gpa = finish_table(t, at);
	return 0;
}

/* --- the others --- */

static struct gas port(unsigned offset)
{
	return (struct gas){.space = GAS_SYSTEM_IO,
			    .bits = 8,
			    .access = GAS_BYTE_ACCESS,
			    .address = ACPI_POWER_PORT + offset};
}

static uint64_t add_fadt(struct tables *t, uint64_t dsdt)
{
	struct fadt fadt = {
	    .header = make_header("FACP", FADT_REVISION),
	    .boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_NO_VGA,
	    .flags = FADT_WBINVD | FADT_C1 | FADT_NO_FIX_PWR | FADT_NO_FIX_SLP | FADT_NO_FIX_RTC |
		     FADT_RESET_REG_SUP | FADT_HEADLESS | FADT_HW_REDUCED,
	    .reset_reg = port(ACPI_RESET),
	    .reset_value = ACPI_RESET_VALUE,
	    .minor = FADT_MINOR,
	    .x_dsdt = dsdt,
	    .sleep_control = port(ACPI_SLEEP_CONTROL),
	    .sleep_status = port(ACPI_SLEEP_STATUS),
	};
	size_t at = t->len;

	memcpy(fadt.hypervisor, OEM_TABLE_ID, sizeof(fadt.hypervisor));
	append(t, &fadt, sizeof(fadt));
	return finish_table(t, at);
}

static uint64_t add_madt(struct tables *t, unsigned cpus)
{
	const struct madt madt = {.header = make_header("APIC", MADT_REVISION),
				  .lapic = BOOT_LAPIC_GPA};
	const struct madt_ioapic ioapic = {
	    .type = MADT_IOAPIC,
	    .length = sizeof(ioapic),
	    .id = (uint8_t)cpus,
	    .address = BOOT_IOAPIC_GPA,
	};
	size_t at = t->len;

	append(t, &madt, sizeof(madt));
	for (unsigned i = 0; i < cpus; i++) {
		const struct madt_lapic lapic = {
		    .type = MADT_LAPIC,
		    .length = sizeof(lapic),
		    .uid = (uint8_t)i,
		    .apic_id = (uint8_t)i,
		    .flags = MADT_LAPIC_ENABLED,
		};

		append(t, &lapic, sizeof(lapic));
	}
	append(t, &ioapic, sizeof(ioapic));
	return finish_table(t, at);
}

static uint64_t add_xsdt(struct tables *t, uint64_t fadt, uint64_t madt)
{
	const struct xsdt xsdt = {
	    .header = make_header("XSDT", XSDT_REVISION), .fadt = fadt, .madt = madt};
	size_t at = t->len;

	append(t, &xsdt, sizeof(xsdt));
	return finish_table(t, at);
}

static void fill_rsdp(struct tables *t, uint64_t xsdt)
{
	struct rsdp rsdp = {.revision = RSDP_REVISION, .length = sizeof(rsdp), .xsdt = xsdt};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = boot_checksum(&rsdp, RSDP_V1_LEN);
	rsdp.ext_checksum = boot_checksum(&rsdp, sizeof(rsdp));
	memcpy(t->data, &rsdp, sizeof(rsdp));
}

static int check_request(const struct acpi_request *req, struct err *err)
{
	if (req->cpus == 0 || req->cpus > CONFIG_CPUS_MAX)
		return err_set(err, EINVAL, "ACPI: %u processors, at most %d are possible",
			       req->cpus, CONFIG_CPUS_MAX);
	if (req->virtio_count > BOOT_VIRTIO_MAX)
		return err_set(err, EINVAL, "ACPI: %u virtio devices, at most %d are possible",
			       req->virtio_count, BOOT_VIRTIO_MAX);
	return 0;
}

int acpi_write(const struct guest_mem *mem, const struct acpi_request *req, gpa_t *rsdp,
	       struct err *err)
{
	uint8_t data[ACPI_TABLES_MAX] = {0};
	struct tables t = {.data = data, .len = 0};
	uint64_t dsdt, fadt, madt;
	int rc = check_request(req, err);

	if (rc)
		return rc;
	t.len = (sizeof(struct rsdp) + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);
	rc = add_dsdt(&t, req, &dsdt, err);
	if (rc)
		return rc;
	fadt = add_fadt(&t, dsdt);
	madt = add_madt(&t, req->cpus);
	fill_rsdp(&t, add_xsdt(&t, fadt, madt));
	if (guest_mem_write(mem, GPA(ACPI_TABLES_GPA), data, t.len))
		return err_set(err, EFAULT, "ACPI: no guest memory below 1 MiB");
	*rsdp = GPA(ACPI_TABLES_GPA);
	return 0;
}

int acpi_write_generation(const struct guest_mem *mem, const uint8_t id[ACPI_GENERATION_LEN],
			  struct err *err)
{
	if (guest_mem_write(mem, GPA(ACPI_GENERATION_GPA), id, ACPI_GENERATION_LEN))
		return err_set(err, EFAULT, "ACPI: no guest memory below 1 MiB");
	return 0;
}
