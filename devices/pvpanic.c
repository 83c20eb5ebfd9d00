/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic: one byte through which a guest kernel says that it has panicked. A read tells which
 * events the device knows, the driver then writes one of them. "Crash loaded" (bit 1) means that
 * the guest goes on into its own crash kernel, so it does not end the machine.
 */
#include "minivm/platform.h"

#include <errno.h>
#include <stdlib.h>

#define PVPANIC_PANICKED     0x01
#define PVPANIC_CRASH_LOADED 0x02

struct pvpanic {
	struct vm_end_sink end;
};

static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	const struct pvpanic *pvpanic = dev;

	(void)off;
	(void)len;
	if (value & PVPANIC_PANICKED)
		vm_end(&pvpanic->end, VM_END_PANIC, 0);
}

const struct io_ops pvpanic_io_ops = {
    .name = "pvpanic",
    .read = pvpanic_read,
    .write = pvpanic_write,
    .destroy = free,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};

int pvpanic_new(const struct vm_end_sink *end, void **out, struct err *err)
{
	struct pvpanic *pvpanic = calloc(1, sizeof(*pvpanic));

	if (!pvpanic)
		return err_sys(err, ENOMEM, "pvpanic");
	pvpanic->end = *end;
	*out = pvpanic;
	return 0;
}
