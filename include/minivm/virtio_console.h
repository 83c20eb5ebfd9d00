/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio console device (VIRTIO 1.2 §5.3), in one of two shapes:
 *
 *  - a console: port 0 alone, two queues, and the terminal's size where it is known. Linux makes
 *    hvc0 of it while it probes the device, so that it is there when /dev/console is opened;
 *  - named ports: VIRTIO_CONSOLE_F_MULTIPORT, port 0 not used, ports 1 to n with a name each. Linux
 *    makes /dev/vportNpM of them (and udev /dev/virtio-ports/NAME), some time after the probe.
 *
 * The host side of a port is somebody else's (vmm/console.c, vmm/port.c): the device hands it what
 * the guest wrote and is handed what the guest shall read. Nothing is buffered here: bytes stay in
 * the guest's ring, or with the host side, until the other can take them.
 *
 * All functions but virtio_console_counters() are called on the device's loop, or while no thread
 * runs it.
 */
#ifndef MINIVM_VIRTIO_CONSOLE_H
#define MINIVM_VIRTIO_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/virtio.h"

#define VIRTIO_CONSOLE_PORTS_MAX 9  /* named ones */
#define VIRTIO_CONSOLE_NAME_MAX	 32 /* bytes of a name */

struct virtio_console;

/* The host side of a port. None of these may block for long. */
struct virtio_console_host {
	/*
	 * `len` bytes of the guest's, scattered; returns how many were taken. 0: no more until
	 * virtio_console_tx_resume(); the guest's buffer stays with us. Less than all: asked again.
	 */
	size_t (*output)(void *opaque, const struct iovec *iov, unsigned n, size_t len);
	/* The guest has buffers again, after virtio_console_rx_ready() or _push() had found none.
	 */
	void (*input_room)(void *opaque);
	/* Somebody in the guest has opened the port, or it was closed (a reset closes it). */
	void (*opened)(void *opaque, bool open);
};

struct virtio_console_port_options {
	const char *name; /* copied; NULL for port 0 */
	const struct virtio_console_host *host;
	void *opaque;
};

struct virtio_console_options {
	/* 0: port[0] is the console. Else port[0 .. named - 1] are ports 1 to `named`. */
	unsigned named;
	const struct virtio_console_port_options *port;
	uint16_t cols; /* of the console; 0: not known yet */
	uint16_t rows;
	const struct log *log;
};

extern const struct virtio_ops virtio_console_ops;

/* -ENOMEM, -EINVAL (a name that is empty or too long). The host sides outlive the device. */
int virtio_console_new(const struct virtio_console_options *opt, struct virtio_console **out,
		       struct err *err);

/* --- for host sides; `port` as the guest counts them: 0 is the console, named ones from 1 --- */

/*
 * Output is taken again: what waits in the ring is handed over now. The console's host side calls
 * it within a few milliseconds of each output that it took, too: that is when the driver is told
 * that it has its buffers back.
 */
void virtio_console_tx_resume(struct virtio_console *vc, unsigned port);

/*
 * At the end, no vCPU runs any more: hands over what waits in all rings, as far as it is taken. A
 * guest does not wait for a named port to have taken its bytes before it powers off.
 */
void virtio_console_drain(struct virtio_console *vc);

/* Is there a buffer for input? If not, input_room will be called. */
bool virtio_console_rx_ready(struct virtio_console *vc, unsigned port);
/* Gives the guest input; returns how much it took. If that is not all, input_room will be called.
 */
size_t virtio_console_rx_push(struct virtio_console *vc, unsigned port, const void *buf,
			      size_t len);

/* The host side of a named port came or went (§5.3.6.2: VIRTIO_CONSOLE_PORT_OPEN). */
void virtio_console_set_open(struct virtio_console *vc, unsigned port, bool open);

/* The terminal has a new size. */
void virtio_console_resize(struct virtio_console *vc, uint16_t cols, uint16_t rows);

struct virtio_console_counters {
	uint64_t tx_bytes;	/* taken from the guest by host sides */
	uint64_t rx_bytes;	/* given to the guest */
	uint64_t control_in;	/* control messages of the guest that were followed */
	uint64_t control_out;	/* control messages to the guest */
	uint64_t control_wrong; /* too short, of an unknown kind, or of a port that is not there */
};

/* Any thread, any time. */
void virtio_console_counters(const struct virtio_console *vc, struct virtio_console_counters *out);

#endif
