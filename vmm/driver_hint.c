/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the end of a run: virtio devices that no driver in the guest has ever started. Nothing else
 * tells the user that a kernel lacks an option; a guest whose root is on such a disk just panics.
 */
#include <stdio.h>

#include "machine_priv.h"

/* Ends by which a guest has said all that it has to say. */
static bool ended_by_itself(enum vm_end_reason reason)
{
	return reason == VM_END_POWEROFF || reason == VM_END_REBOOT || reason == VM_END_PANIC;
}

static bool started(const struct board_slot *slot)
{
	struct virtio_counters count;

	virtio_counters(slot->virtio, &count);
	return count.activations > 0;
}

static const struct virtio_ops *slot_ops(const struct machine *m, unsigned i)
{
	return virtio_device_ops(m->slot[i].virtio);
}

/* One of this kind was started. */
static bool kind_started(const struct machine *m, const struct virtio_ops *ops)
{
	for (unsigned i = 0; i < m->slot_count; i++) {
		if (slot_ops(m, i) == ops && started(&m->slot[i]))
			return true;
	}
	return false;
}

static bool first_of_kind(const struct machine *m, unsigned slot)
{
	for (unsigned i = 0; i < slot; i++) {
		if (slot_ops(m, i) == slot_ops(m, slot))
			return false;
	}
	return true;
}

/* What lets Linux find a virtio-mmio device in this description of the machine. */
static const char *transport_option(const struct machine *m)
{
	return m->describe == DESCRIBE_MPTABLE ? "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"
					       : "CONFIG_VIRTIO_MMIO";
}

static void hint(const struct machine *m, const struct virtio_ops *ops, bool any_started)
{
	char transport[64] = "";

	if (!any_started)
		snprintf(transport, sizeof(transport), "%s and ", transport_option(m));
	log_msg(m->log, LOG_LEVEL_WARN,
		"%s was never started by a driver in the guest; a Linux kernel needs %s%s, built "
		"in or as a module that is loaded",
		ops->name, transport, ops->guest_kconfig);
}

void machine_hint_drivers(const struct machine *m)
{
	bool any_started = false;
	int status;

	if (!ended_by_itself(machine_end(m, &status)))
		return;
	for (unsigned i = 0; i < m->slot_count; i++)
		any_started = any_started || started(&m->slot[i]);
	for (unsigned i = 0; i < m->slot_count; i++) {
		if (first_of_kind(m, i) && !kind_started(m, slot_ops(m, i)))
			hint(m, slot_ops(m, i), any_started);
	}
}
