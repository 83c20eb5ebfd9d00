/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time line of a run (docs/minivm.1 "TIME LINE"): when each step of it came first, from the
 * start of main() to the end.
 */
#ifndef MINIVM_TIMELINE_H
#define MINIVM_TIMELINE_H

#include <stdatomic.h>
#include <stdint.h>

#include <jansson.h>

enum timeline_event {
	TIMELINE_EXEC,	     /* main() begins */
	TIMELINE_CONFIG,     /* command line and file are read */
	TIMELINE_VM,	     /* KVM has made the VM */
	TIMELINE_MEMORY,     /* guest memory is mapped */
	TIMELINE_KERNEL,     /* kernel, initrd and tables are in it */
	TIMELINE_DEVICES,    /* vCPUs and devices are made */
	TIMELINE_FIRST_RUN,  /* KVM_RUN is called for the first time */
	TIMELINE_FIRST_BYTE, /* the first byte of the guest's left for the console */
	TIMELINE_INIT,	     /* the guest wrote to the mark port: our init does so first of all */
	TIMELINE_END,	     /* somebody reported the end */
	TIMELINE_EVENTS,
};

/* All zero: nothing happened yet. */
struct timeline {
	_Atomic uint64_t ns[TIMELINE_EVENTS]; /* CLOCK_MONOTONIC; 0: not (yet) */
	/* The process's CPU time then, the guest's included. What a host that emulates spends on a
	   guest's boot is here, whatever else it does meanwhile. 0 at TIMELINE_EXEC. */
	_Atomic uint64_t cpu_ns[TIMELINE_EVENTS];
};

/* Notes the time, if it is the first time. Any thread. NULL is fine: nobody wants to know. */
void timeline_mark(struct timeline *t, enum timeline_event event);

/*
 * {"start_ns": absolute, "events": {"exec": 0, "config": ns after start, ...}, "cpu_ns": {"exec":
 * ns of CPU time, ...}}, without what did not happen; a new object, or NULL without memory.
 */
json_t *timeline_json(const struct timeline *t);

#endif
