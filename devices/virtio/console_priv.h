/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of struct virtio_console, for console.c (data) and console_control.c (§5.3.6.2). */
#ifndef VIRTIO_CONSOLE_PRIV_H
#define VIRTIO_CONSOLE_PRIV_H

#include <stdatomic.h>

#include "minivm/virtio_console.h"
#include "minivm/counter.h"

#define CONSOLE_CONTROL_RX 2u
#define CONSOLE_CONTROL_TX 3u

/*
 * A port. What the guest still has to be told of it follows from these flags, so that there is no
 * queue of messages: each flag says what was said, and a message is due while it differs from what
 * is.
 */
struct console_port {
	struct virtio_console_port_options opt; /* host NULL: no such port */
	char name[VIRTIO_CONSOLE_NAME_MAX + 1];
	/* The loop's. */
	bool host_open; /* somebody is there on the host; what the guest is to know */
	bool added;	/* it was told of the port, at most once (§5.3.6.2.1) */
	bool ready;	/* it has said that it can use it */
	bool named;	/* it was told the name */
	bool told_open; /* it was told that somebody is there */
	bool guest_open;
	uint32_t skip; /* bytes of the next chain that were taken already */
};

struct virtio_console {
	const struct log *log;
	struct log_limit log_limit;
	bool multiport; /* offered: the device's shape */
	unsigned ports; /* elements of port[] */

	/* columns | rows << 16; 0: not known. Read by vCPUs. */
	_Atomic uint32_t size;

	/* The loop's. */
	struct virtio *virtio; /* NULL: not active */
	uint64_t features;     /* negotiated */
	bool device_ready;     /* the driver has asked for the ports */
	bool paused;	       /* queues are left alone, whatever the host sides want */

	_Atomic uint64_t tx_bytes;
	_Atomic uint64_t rx_bytes;
	_Atomic uint64_t control_in;
	_Atomic uint64_t control_out;
	_Atomic uint64_t control_wrong;

	struct console_port port[];
};

/* Opened by the guest or closed; tells the host side if that is news. */
void console_port_opened(struct console_port *p, bool open);

/* --- console_control.c --- */

/* The driver kicked the control queue that it sends on. Bounded work. */
void console_control_take(struct virtio_console *vc);
/* Tells the guest what is due, as far as it has buffers. */
void console_control_tell(struct virtio_console *vc);
/* After a reset nothing was said. */
void console_control_forget(struct virtio_console *vc);

#endif
