/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine ends. Devices that can end it (reset controller, exit port, pvpanic) hold a
 * vm_end_sink; the first end that is reported wins. The process exit statuses are documented in
 * docs/minivm.1 and stay stable.
 */
#ifndef MINIVM_END_H
#define MINIVM_END_H

#include <stdint.h>

enum vm_end_reason {
	VM_END_NONE,	     /* still running */
	VM_END_POWEROFF,     /* guest powered off: its status from the exit port, else 0 */
	VM_END_REBOOT,	     /* guest asked for a reset */
	VM_END_PANIC,	     /* guest kernel panic (pvpanic, or the warm-reset word) */
	VM_END_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
	VM_END_STOPPED,	     /* stopped from outside before the guest had shut down */
	VM_END_ERROR,	     /* the VMM could not go on: emulation failure, KVM error */
};

enum {
	VM_STATUS_REBOOT = 120,
	VM_STATUS_PANIC = 121,
	VM_STATUS_TRIPLE_FAULT = 122,
	VM_STATUS_STOPPED = 123,
	VM_STATUS_TIME_LIMIT = 124, /* reserved for `minivm run` */
	VM_STATUS_ERROR = 125,	    /* VMM failure or bad use */
};

struct vm_end_sink {
	/* From any thread. `status` counts for VM_END_POWEROFF only. Must not block. */
	void (*end)(void *opaque, enum vm_end_reason reason, uint8_t status);
	void *opaque;
};

static inline void vm_end(const struct vm_end_sink *sink, enum vm_end_reason reason, uint8_t status)
{
	sink->end(sink->opaque, reason, status);
}

/* "running" for VM_END_NONE, "poweroff", "reboot", "panic", "triple-fault", "stopped", "error". */
const char *vm_end_reason_name(enum vm_end_reason reason);

/* The process exit status that stands for this end; VM_STATUS_ERROR for VM_END_NONE. */
int vm_end_exit_status(enum vm_end_reason reason, uint8_t status);

#endif
