/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI: the tables that describe the machine (boot/acpi.c, pure) and the registers behind sleep
 * and reset (devices/acpi_power.c).
 *
 * The machine is of the hardware-reduced kind (ACPI 6.4 §4.1): no legacy PIC, PIT or PM timer, no
 * SCI. The power button and a new generation id are events of a Generic Event Device: each has an
 * interrupt that means just that.
 */
#ifndef MINIVM_ACPI_H
#define MINIVM_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "minivm/boot.h"
#include "minivm/bus.h"
#include "minivm/end.h"
#include "minivm/err.h"
#include "minivm/memory.h"

/* --- tables --- */

/* All tables lie in [ACPI_TABLES_GPA, +ACPI_TABLES_MAX), the root pointer (RSDP) first. */
#define ACPI_TABLES_GPA 0xe0000
#define ACPI_TABLES_MAX 0x4000

/*
 * The generation id (Microsoft, "Virtual Machine Generation ID"): 16 bytes at the start of a page
 * of its own, in the BIOS area like the tables. It changes when the machine is not the one that it
 * was.
 */
#define ACPI_GENERATION_GPA (ACPI_TABLES_GPA + ACPI_TABLES_MAX)
#define ACPI_GENERATION_LEN 16

struct acpi_request {
	unsigned cpus; /* 1 to CONFIG_CPUS_MAX; their APIC ids are 0, 1, ... */
	unsigned button_gsi;
	unsigned generation_gsi; /* it says that the generation id has changed; not button_gsi */
	unsigned virtio_count;
	struct boot_virtio virtio[BOOT_VIRTIO_MAX]; /* in the order in which Linux will name them */
};

/*
 * RSDP, XSDT, FADT, MADT and DSDT: the processors, one I/O APIC, COM1, RTC, pvpanic, power button,
 * generation id and the virtio devices. *rsdp: what goes into boot_request. -EINVAL for a bad
 * count, -EFAULT without guest memory there.
 */
int acpi_write(const struct guest_mem *mem, const struct acpi_request *req, gpa_t *rsdp,
	       struct err *err);

/* Writes a generation id, which no machine has had before. -EFAULT without memory there. */
int acpi_write_generation(const struct guest_mem *mem, const uint8_t id[ACPI_GENERATION_LEN],
			  struct err *err);

/* --- sleep and reset registers --- */

/*
 * I/O ports, one byte each: they work from a kernel's first instruction to its panic, without a
 * mapping.
 *	+0 sleep control (§4.8.3.7): SLP_EN with type ACPI_SLEEP_TYPE_S5 powers off
 *	+1 sleep status (§4.8.3.8): reads as 0, there is no sleep to wake from
 *	+2 reset (§4.8.3.6): ACPI_RESET_VALUE reboots
 */
#define ACPI_POWER_PORT	   0x600
#define ACPI_POWER_LEN	   3
#define ACPI_SLEEP_CONTROL 0
#define ACPI_SLEEP_STATUS  1
#define ACPI_RESET	   2

#define ACPI_SLEEP_TYPE_S5 5
#define ACPI_RESET_VALUE   1

extern const struct io_ops acpi_power_io_ops;
int acpi_power_new(const struct vm_end_sink *end, void **out, struct err *err);

#endif
