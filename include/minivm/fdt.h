/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device tree that describes the machine (boot/fdt.c, pure), for Linux's arch/x86.
 *
 * References: Devicetree Specification 0.3; Linux Documentation/devicetree/bindings
 * (x86/ce4100.txt, interrupt-controller/intel,ce4100-*, virtio/mmio, serial/8250,
 * misc/pvpanic-mmio).
 */
#ifndef MINIVM_FDT_H
#define MINIVM_FDT_H

#include <stddef.h>
#include <stdint.h>

#include "minivm/boot.h"
#include "minivm/err.h"
#include "minivm/memory.h"

/*
 * The tree lies where ACPI tables would be, in [FDT_GPA, +FDT_MAX): the setup_data header of
 * boot.rst (type SETUP_DTB, the only one of the list), then the flattened tree.
 */
#define FDT_GPA 0xe0000
#define FDT_MAX 0x4000

struct fdt_request {
	unsigned cpus; /* 1 to CONFIG_CPUS_MAX; their APIC ids are 0, 1, ... */
	unsigned virtio_count;
	struct boot_virtio virtio[BOOT_VIRTIO_MAX]; /* in the order in which Linux will name them */
};

/*
 * Processors, local APIC, I/O APIC, COM1, RTC, pvpanic and the virtio devices. No memory: x86
 * kernels take it from the e820 map. *setup_data: what goes into boot_request. -EINVAL for a bad
 * count and for two devices at one address; -EFAULT without guest memory there.
 */
int fdt_write(const struct guest_mem *mem, const struct fdt_request *req, gpa_t *setup_data,
	      struct err *err);

#endif
