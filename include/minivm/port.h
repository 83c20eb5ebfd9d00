/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a named virtio-console port (--port): a file, a socket or a pair of FIFOs.
 *
 * Back-pressure both ways: what the host does not take stays in the guest's ring, what the guest
 * does not take stays in the socket or FIFO. A file has no back-pressure: on a full disk, bytes are
 * dropped, and counted, until there is room again.
 */
#ifndef MINIVM_PORT_H
#define MINIVM_PORT_H

#include <stdint.h>

#include "minivm/config.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/virtio_console.h"

struct port;

/*
 * Opens the port's file, FIFOs or listening socket; `config` is borrowed. All that follows happens
 * on `loop`, which is the device's; SIGPIPE must be ignored. A FIFO that is not there is made, a
 * socket that nobody listens on any more is replaced, a file is emptied. -errno with the path.
 */
int port_open(const struct port_config *config, struct loop *loop, const struct log *log,
	      struct port **out, struct err *err);
/* Can port_open() do that, by all that can be told without changing anything? */
int port_check(const struct port_config *config, struct err *err);

/* For the device: as the `opaque` of port_host, the port; then attach it to what was made. */
extern const struct virtio_console_host port_host;
void port_attach(struct port *port, struct virtio_console *virtio, unsigned id);

/* The device is gone, no thread runs the loop. The socket's file is removed. NULL is fine. */
void port_close(struct port *port);

/* Bytes that a file did not take. Any thread. */
uint64_t port_dropped(const struct port *port);

#endif
