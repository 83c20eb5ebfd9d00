/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI sleep and reset registers (ACPI 6.4 §4.8.3.6 to §4.8.3.8), one byte each. The FADT points
 * at them; \_S5 in the DSDT says which sleep type means "off". S5 is the only sleep state there is,
 * so a write with any other type is ignored, as is a write without SLP_EN.
 *
 * After its write a guest polls the sleep status for WAK_STS, which never comes: its vCPUs are
 * about to be stopped.
 */
#include "minivm/acpi.h"

#include <errno.h>
#include <stdlib.h>

#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK	 0x7
#define SLEEP_ENABLE	 0x20

struct acpi_power {
	struct vm_end_sink end;
};

static uint64_t acpi_power_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return 0;
}

static void acpi_power_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	const struct acpi_power *power = dev;

	if (len != 1)
		return;
	if (off == ACPI_SLEEP_CONTROL && (value & SLEEP_ENABLE) &&
	    (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == ACPI_SLEEP_TYPE_S5)
		vm_end(&power->end, VM_END_POWEROFF, 0);
	if (off == ACPI_RESET && (value & 0xff) == ACPI_RESET_VALUE)
		vm_end(&power->end, VM_END_REBOOT, 0);
}

const struct io_ops acpi_power_io_ops = {
    .name = "ACPI power",
    .read = acpi_power_read,
    .write = acpi_power_write,
    .destroy = free,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};

int acpi_power_new(const struct vm_end_sink *end, void **out, struct err *err)
{
	struct acpi_power *power = calloc(1, sizeof(*power));

	if (!power)
		return err_sys(err, ENOMEM, "ACPI power");
	power->end = *end;
	*out = power;
	return 0;
}
