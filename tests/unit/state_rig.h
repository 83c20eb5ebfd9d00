/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a device and restoring the bytes into another one, for unit tests. */
#ifndef TESTS_STATE_RIG_H
#define TESTS_STATE_RIG_H

#include <criterion/criterion.h>

#include "minivm/bus.h"
#include "minivm/state.h"
#include "vdriver.h"

/* The device's state in a sealed file of its own; ended with state_writer_free(). */
static inline void device_save(const struct io_ops *ops, void *dev, struct state_writer *w)
{
	struct err err = {0};
	struct bus bus;

	bus_init(&bus, "test");
	state_writer_init(w);
	cr_assert_eq(bus_add(&bus, 0x1000, 0x1000, ops, dev, &err), 0, "%s", err.text);
	cr_assert_eq(bus_save(&bus, w, &err), 0, "%s", err.text);
	cr_assert_eq(state_seal(w, &err), 0, "%s", err.text);
}

/* What the restore says: 0, or -errno with `err` set. */
static inline int device_restore(const struct io_ops *ops, void *dev, const void *data, size_t len,
				 struct err *err)
{
	struct state_reader r;
	struct bus bus;
	int ret;

	bus_init(&bus, "test");
	cr_assert_eq(bus_add(&bus, 0x1000, 0x1000, ops, dev, err), 0, "%s", err->text);
	ret = state_open(data, len, &r, err);
	return ret ? ret : bus_restore(&bus, &r, err);
}

/* Pauses `from` and takes its state; it stays paused. */
static inline void vdriver_save(struct vdriver *from, struct state_writer *w)
{
	virtio_pause(from->virtio);
	device_save(&virtio_mmio_io_ops, from->mmio, w);
}

/*
 * Puts the saved state and the guest memory of `from` into the device of `to`, just made by
 * vdriver_init() with the same ops; its driver goes on where the other one was.
 */
static inline int vdriver_restore(struct vdriver *from, const struct state_writer *w,
				  struct vdriver *to, struct err *err)
{
	memcpy(ring_at(&to->ring, 0), ring_at(&from->ring, 0), RING_RAM);
	to->ring.size = from->ring.size;
	to->ring.avail_idx = from->ring.avail_idx;
	to->ring.used_seen = from->ring.used_seen;
	return device_restore(&virtio_mmio_io_ops, to->mmio, w->data, w->len, err);
}

/*
 * A save of what was restored gives the same bytes. Call it before the restored driver does
 * anything, on a device that had no work left.
 */
static inline void vdriver_expect_same(struct vdriver *to, const struct state_writer *w)
{
	struct state_writer again;

	vdriver_settle(to);
	vdriver_save(to, &again);
	cr_assert_eq(again.len, w->len);
	cr_assert_arr_eq(again.data, w->data, w->len);
	state_writer_free(&again);
	virtio_resume(to->virtio);
}

/* `w` cut short at every length and resealed, so that the parser is reached: all refused. */
static inline void expect_truncations_refused(const struct io_ops *ops, void *dev,
					      const struct state_writer *w)
{
	for (size_t len = STATE_HEADER_LEN; len < w->len; len++) {
		struct state_writer cut;
		struct err err = {0};

		state_writer_init(&cut);
		state_put_bytes(&cut, w->data + STATE_HEADER_LEN, len - STATE_HEADER_LEN);
		cr_assert_eq(state_seal(&cut, &err), 0);
		cr_expect_lt(device_restore(ops, dev, cut.data, cut.len, &err), 0, "length %zu",
			     len);
		state_writer_free(&cut);
	}
}

#endif
