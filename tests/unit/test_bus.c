/* SPDX-License-Identifier: Apache-2.0 */
/* Buses: order, overlap, edges, unclaimed accesses. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "minivm/bus.h"

struct probe {
	uint64_t off;
	unsigned len;
	uint64_t value;
	unsigned calls;
};

static uint64_t probe_read(void *dev, uint64_t off, unsigned len)
{
	struct probe *p = dev;

	p->off = off;
	p->len = len;
	p->calls++;
	return p->value;
}

static void probe_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	struct probe *p = dev;

	p->off = off;
	p->len = len;
	p->value = value;
	p->calls++;
}

static const struct io_ops probe_ops = {.name = "probe", .read = probe_read, .write = probe_write};

Test(bus, dispatches_to_the_range_that_holds_the_access)
{
	struct bus bus;
	struct probe dev[3] = {0};
	struct err err = {0};
	uint64_t value;

	bus_init(&bus, "port I/O");
	/* Out of order on purpose; the first two touch. */
	cr_assert_eq(bus_add(&bus, 0x3f8, 8, &probe_ops, &dev[1], &err), 0);
	cr_assert_eq(bus_add(&bus, 0x3f0, 8, &probe_ops, &dev[0], &err), 0);
	cr_assert_eq(bus_add(&bus, 0x505, 1, &probe_ops, &dev[2], &err), 0);

	cr_assert(bus_write(&bus, 0x3ff, 1, 0x5a));
	cr_assert_eq(dev[1].off, 7u);
	cr_assert_eq(dev[1].value, 0x5au);
	cr_assert(bus_write(&bus, 0x3f0, 4, 0x11223344));
	cr_assert_eq(dev[0].len, 4u);
	dev[2].value = 3;
	cr_assert(bus_read(&bus, 0x505, 1, &value));
	cr_assert_eq(value, 3u);
	cr_assert_eq(dev[2].off, 0u);
}

Test(bus, unclaimed_reads_are_all_ones)
{
	struct bus bus;
	struct probe dev = {0};
	struct err err = {0};
	uint64_t value = 0;

	bus_init(&bus, "MMIO");
	cr_assert(!bus_read(&bus, 0x1000, 4, &value));
	cr_assert_eq(value, UINT64_MAX);
	cr_assert_eq(bus_add(&bus, 0x1000, 0x10, &probe_ops, &dev, &err), 0);
	cr_assert(!bus_read(&bus, 0xfff, 1, &value));
	cr_assert(!bus_read(&bus, 0x1010, 1, &value));
	cr_assert(!bus_write(&bus, 0x2000, 8, 1));
	cr_assert_eq(dev.calls, 0u);
}

Test(bus, an_access_across_an_edge_reaches_nobody)
{
	struct bus bus;
	struct probe a = {0};
	struct probe b = {0};
	struct err err = {0};
	uint64_t value;

	bus_init(&bus, "MMIO");
	cr_assert_eq(bus_add(&bus, 0x1000, 0x10, &probe_ops, &a, &err), 0);
	cr_assert_eq(bus_add(&bus, 0x1010, 0x10, &probe_ops, &b, &err), 0);
	cr_assert(!bus_read(&bus, 0x100e, 4, &value)); /* a into b */
	cr_assert(!bus_write(&bus, 0xffe, 4, 0));      /* nothing into a */
	cr_assert(!bus_write(&bus, 0x101c, 8, 0));     /* b into nothing */
	cr_assert_eq(a.calls + b.calls, 0u);
}

Test(bus, odd_lengths_are_unclaimed)
{
	struct bus bus;
	struct probe dev = {0};
	struct err err = {0};
	uint64_t value;

	bus_init(&bus, "MMIO");
	cr_assert_eq(bus_add(&bus, 0, 0x100, &probe_ops, &dev, &err), 0);
	for (unsigned len = 0; len < 12; len++) {
		bool ok = len == 1 || len == 2 || len == 4 || len == 8;

		cr_assert_eq(bus_read(&bus, 0x10, len, &value), ok);
		cr_assert_eq(bus_write(&bus, 0x10, len, 0), ok);
	}
}

Test(bus, the_end_of_the_address_space)
{
	struct bus bus;
	struct probe dev = {0};
	struct err err = {0};
	uint64_t value;

	bus_init(&bus, "MMIO");
	cr_assert_eq(bus_add(&bus, UINT64_MAX - 7, 8, &probe_ops, &dev, &err), 0);
	cr_assert(bus_read(&bus, UINT64_MAX, 1, &value));
	cr_assert(bus_read(&bus, UINT64_MAX - 7, 8, &value));
	cr_assert(!bus_read(&bus, UINT64_MAX, 2, &value));
	cr_assert(!bus_read(&bus, UINT64_MAX - 3, 8, &value));
	cr_assert_eq(bus_add(&bus, UINT64_MAX - 15, 16, &probe_ops, &dev, &err), -EEXIST);
	cr_assert_eq(bus_add(&bus, UINT64_MAX - 100, 200, &probe_ops, &dev, &err), -EINVAL);
}

Test(bus, overlap_and_nonsense_are_refused)
{
	struct bus bus;
	struct probe dev = {0};
	struct err err = {0};

	bus_init(&bus, "port I/O");
	cr_assert_eq(bus_add(&bus, 0x100, 0x10, &probe_ops, &dev, &err), 0);
	cr_assert_eq(bus_add(&bus, 0x100, 0x10, &probe_ops, &dev, &err), -EEXIST);
	cr_assert_eq(bus_add(&bus, 0xff, 2, &probe_ops, &dev, &err), -EEXIST);
	cr_assert_eq(bus_add(&bus, 0x10f, 1, &probe_ops, &dev, &err), -EEXIST);
	cr_assert_eq(bus_add(&bus, 0, 0x1000, &probe_ops, &dev, &err), -EEXIST);
	cr_assert_not_null(strstr(err.text, "probe"));
	cr_assert_eq(bus_add(&bus, 0x200, 0, &probe_ops, &dev, &err), -EINVAL);
	cr_assert_eq(bus.count, 1u);
}

Test(bus, a_full_table_says_so)
{
	struct bus bus;
	struct probe dev = {0};
	struct err err = {0};

	bus_init(&bus, "MMIO");
	for (unsigned i = BUS_RANGES_MAX; i-- > 0;)
		cr_assert_eq(bus_add(&bus, i * 0x1000ull, 0x1000, &probe_ops, &dev, &err), 0);
	cr_assert_eq(bus_add(&bus, 0x100000, 1, &probe_ops, &dev, &err), -ENOSPC);
	for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
		cr_assert_eq(bus.range[i].base, i * 0x1000ull);
}
