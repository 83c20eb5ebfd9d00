/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mark port: a byte written to port 0xf5 says "here I am". The first is noted in the time line; our
 * init does it before anything else, which ends the boot as far as a VMM is concerned. Reads give
 * all ones, as where no device is.
 */
#include "minivm/platform.h"

#include <errno.h>
#include <stdlib.h>

struct mark_port {
	void (*mark)(void *opaque);
	void *opaque;
};

static uint64_t mark_port_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return UINT64_MAX;
}

static void mark_port_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	const struct mark_port *port = dev;

	(void)off;
	(void)len;
	(void)value;
	port->mark(port->opaque);
}

const struct io_ops mark_port_io_ops = {
    .name = "mark port",
    .read = mark_port_read,
    .write = mark_port_write,
    .destroy = free,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};

int mark_port_new(void (*mark)(void *opaque), void *opaque, void **out, struct err *err)
{
	struct mark_port *port = calloc(1, sizeof(*port));

	if (!port)
		return err_sys(err, ENOMEM, "mark port");
	port->mark = mark;
	port->opaque = opaque;
	*out = port;
	return 0;
}
