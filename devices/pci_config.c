/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2) of a machine without a PCI
 * function: the address register at 0xcf8 can be found, the data register reads as where no device
 * is. ACPI needs a Linux with PCI, and such a kernel calls it fatal if there is no way to
 * configuration space at all. A kernel looks for the register by writing only the enable bit and
 * reading it back; that is what a read gives always, as no address makes a difference.
 */
#include "minivm/platform.h"

#define ADDRESS_ENABLE 0x80000000u

static uint64_t pci_config_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	return off == 0 && len == 4 ? ADDRESS_ENABLE : UINT64_MAX;
}

static void pci_config_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	(void)dev;
	(void)off;
	(void)len;
	(void)value;
}

const struct io_ops pci_config_io_ops = {
    .name = "PCI configuration",
    .read = pci_config_read,
    .write = pci_config_write,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};
