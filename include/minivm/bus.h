/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain devices and the two buses (port I/O and MMIO) that reach them.
 *
 * Registers are read and written from vCPU threads, several at once; a device that has state locks
 * it itself. A device never sees the machine: it was given memory, an interrupt line and an event
 * loop when it was made.
 */
#ifndef MINIVM_BUS_H
#define MINIVM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/state.h"

/*
 * `off` is relative to the base of the range, off + len lies inside the range, len is 1, 2, 4 or 8.
 * Values are little-endian in the low len bytes; a read's upper bytes are ignored. reset puts the
 * device back to its power-on state; destroy frees it. reset and destroy may be NULL where there is
 * nothing to do; read and write may not. A device without save and restore makes its machine one
 * that cannot be saved; one that has nothing to keep says so with state_save_nothing.
 */
struct io_ops {
	const char *name;
	uint64_t (*read)(void *dev, uint64_t off, unsigned len);
	void (*write)(void *dev, uint64_t off, unsigned len, uint64_t value);
	void (*reset)(void *dev);
	void (*destroy)(void *dev);
	uint16_t state_version; /* of what save writes; from 1 */
	state_save_fn *save;
	state_restore_fn *restore;
};

struct bus_range {
	uint64_t base;
	uint64_t len;
	const struct io_ops *ops;
	void *dev; /* borrowed: the machine owns it */
};

#define BUS_RANGES_MAX 48

struct bus {
	const char *name; /* "port I/O" or "MMIO", for messages */
	unsigned count;
	struct bus_range range[BUS_RANGES_MAX]; /* sorted by base */
};

void bus_init(struct bus *bus, const char *name);

/* Adds a range, before the machine runs. -EEXIST on overlap, -ENOSPC, -EINVAL (empty or wraps). */
int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct io_ops *ops, void *dev,
	    struct err *err);

/*
 * Dispatch. An access that no range holds wholly is unclaimed: a read is all ones, a write is
 * dropped; both return false so that the caller can count it. len is 1 to 8; lengths other than
 * 1, 2, 4, 8 are unclaimed.
 */
bool bus_read(const struct bus *bus, uint64_t addr, unsigned len, uint64_t *value);
bool bus_write(const struct bus *bus, uint64_t addr, unsigned len, uint64_t value);

/*
 * All devices of the bus, a section each, in the order of their addresses. No vCPU runs and the
 * devices are paused. -ENOTSUP names the device that cannot be saved; what a device's op returns.
 */
int bus_save(const struct bus *bus, struct state_writer *w, struct err *err);
/* Into the same devices at the same addresses, before the machine runs. */
int bus_restore(const struct bus *bus, struct state_reader *r, struct err *err);

#endif
