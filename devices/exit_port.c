/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exit port: a byte written to port 0xf4 powers the machine off with that byte as exit status. It
 * is how a payload or our guest's init hands the status of its work to the process on the host;
 * QEMU's isa-debug-exit sits at the same port, though it mangles the value. Reads give all ones, as
 * where no device is, so that probing it is harmless.
 */
#include "minivm/platform.h"

#include <errno.h>
#include <stdlib.h>

struct exit_port {
	struct vm_end_sink end;
};

static uint64_t exit_port_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return UINT64_MAX;
}

static void exit_port_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	const struct exit_port *port = dev;

	(void)off;
	(void)len;
	vm_end(&port->end, VM_END_POWEROFF, (uint8_t)value);
}

const struct io_ops exit_port_io_ops = {
    .name = "exit port",
    .read = exit_port_read,
    .write = exit_port_write,
    .destroy = free,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};

int exit_port_new(const struct vm_end_sink *end, void **out, struct err *err)
{
	struct exit_port *port = calloc(1, sizeof(*port));

	if (!port)
		return err_sys(err, ENOMEM, "exit port");
	port->end = *end;
	*out = port;
	return 0;
}
