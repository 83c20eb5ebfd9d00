/* SPDX-License-Identifier: Apache-2.0 */
/* One run of minivm with a payload: what it is given and what must come of it. */
#ifndef GUEST_SUITE_H
#define GUEST_SUITE_H

#include <stdbool.h>
#include <stdint.h>

#include "run.h"

#define SUITE_DISKS_MAX 3
#define SUITE_LINES_MAX 4
#define SUITE_ARGS_MAX	4

enum suite_host {
	HOST_ANY,
	HOST_ORDINARY,	  /* not where KVM emulates guest kernel mode */
	HOST_BREAKPOINTS, /* not inside of QEMU's TCG, whose VMRUN ignores the guest's DR7 */
};

struct suite_disk {
	uint32_t sectors; /* 0: no such disk */
	uint32_t seed;
	const char *options; /* ",ro" ... */
	/* afterwards: these sectors hold the pattern of written_seed, those below `scratch` (and
	 * not written) are as before, the others may hold anything */
	uint32_t written, written_count, written_seed;
	uint32_t scratch;
};

enum suite_net {
	SUITE_NET_NONE,
	SUITE_NET_TAP,
	SUITE_NET_FD, /* the tap's file, opened by us */
	SUITE_NET_PASST,
};

struct suite_case {
	const char *name;
	const char *payload; /* NULL: as the name */
	const char *words;   /* command line for the payload, or NULL */
	unsigned cpus;	     /* 0: 1 */
	const char *memory;  /* NULL: 16M */
	const char *args[SUITE_ARGS_MAX];
	bool vsock;	    /* --vsock with CID 3, and the services of vsock_peer.h behind it */
	bool restored;	    /* saved when it says "ready"; what comes of it is what is judged */
	bool ports;	    /* --port loop, FIFOs that are one, and full, a file on a full disk */
	enum suite_net net; /* --net, and the services of net_peer.h behind it */
	struct suite_disk disk[SUITE_DISKS_MAX];
	const struct run_step *steps; /* for standard input */
	unsigned step_count;
	int status;
	bool no_done;			    /* ends otherwise than by "done N M" */
	const char *lines[SUITE_LINES_MAX]; /* must be in the output */
	const char *says;		    /* must be on standard error, or NULL */
	const char *err_once; /* in exactly one line of standard error; NULL: not looked at */
	/* of the vCPUs, by --stats; 0: not looked at */
	unsigned exits_min;
	unsigned exits_max;
	unsigned limit_s;
	enum suite_host host;
};

extern const struct suite_case suite_cases[];
extern const unsigned suite_case_count;

#endif
