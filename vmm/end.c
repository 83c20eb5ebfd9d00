/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and exit statuses of the ways a machine ends: one table, so that a new reason cannot get
 * a name without a status. The numbers are a promise to scripts (docs/minivm.1).
 */
#include "minivm/end.h"

struct end_kind {
	const char *name;
	int exit_status; /* VM_END_POWEROFF carries the guest's own instead */
};

static const struct end_kind end_kinds[] = {
    [VM_END_NONE] = {"running", VM_STATUS_ERROR},
    [VM_END_POWEROFF] = {"poweroff", 0},
    [VM_END_REBOOT] = {"reboot", VM_STATUS_REBOOT},
    [VM_END_PANIC] = {"panic", VM_STATUS_PANIC},
    [VM_END_TRIPLE_FAULT] = {"triple-fault", VM_STATUS_TRIPLE_FAULT},
    [VM_END_STOPPED] = {"stopped", VM_STATUS_STOPPED},
    [VM_END_ERROR] = {"error", VM_STATUS_ERROR},
};

const char *vm_end_reason_name(enum vm_end_reason reason)
{
	return end_kinds[reason].name;
}

int vm_end_exit_status(enum vm_end_reason reason, uint8_t status)
{
	if (reason == VM_END_POWEROFF)
		return status;
	return end_kinds[reason].exit_status;
}
