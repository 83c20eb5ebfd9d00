/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bus: address ranges, sorted by base, each with the device that answers there.
 *
 * The table is filled before the vCPUs start and does not change while they run, so dispatch takes
 * no lock: a binary search over at most BUS_RANGES_MAX entries, then the device's own op. What no
 * device claims behaves like an open bus of a PC: reads are all ones, writes vanish. Probing
 * drivers rely on it.
 */
#include "minivm/bus.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void bus_init(struct bus *bus, const char *name)
{
	memset(bus, 0, sizeof(*bus));
	bus->name = name;
}

/* The index of the first range whose base is above addr; it may be `count`. */
static unsigned bus_upper(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0;
	unsigned hi = bus->count;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (bus->range[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int bus_overlap(const struct bus *bus, const struct bus_range *new,
		       const struct bus_range *old, struct err *err)
{
	return err_set(err, EEXIST, "%s: %s at 0x%llx+0x%llx overlaps %s at 0x%llx+0x%llx",
		       bus->name, new->ops->name, (unsigned long long)new->base,
		       (unsigned long long)new->len, old->ops->name, (unsigned long long)old->base,
		       (unsigned long long)old->len);
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct io_ops *ops, void *dev,
	    struct err *err)
{
	const struct bus_range new = {.base = base, .len = len, .ops = ops, .dev = dev};
	unsigned at;

	if (len == 0 || base + (len - 1) < base)
		return err_set(err, EINVAL, "%s: %s has no valid range at 0x%llx+0x%llx", bus->name,
			       ops->name, (unsigned long long)base, (unsigned long long)len);
	if (bus->count == BUS_RANGES_MAX)
		return err_set(err, ENOSPC, "%s: no room for %s: more than %d ranges", bus->name,
			       ops->name, BUS_RANGES_MAX);

	at = bus_upper(bus, base);
	if (at > 0 && base - bus->range[at - 1].base < bus->range[at - 1].len)
		return bus_overlap(bus, &new, &bus->range[at - 1], err);
	if (at < bus->count && bus->range[at].base - base < len)
		return bus_overlap(bus, &new, &bus->range[at], err);

	memmove(&bus->range[at + 1], &bus->range[at], (bus->count - at) * sizeof(bus->range[0]));
	bus->range[at] = new;
	bus->count++;
	return 0;
}

/* The range that holds all of [addr, addr + len), or NULL. */
static const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned len)
{
	unsigned at = bus_upper(bus, addr);
	const struct bus_range *r;

	if (at == 0)
		return NULL;
	r = &bus->range[at - 1];
	/* addr >= base, so neither difference wraps. */
	if (addr - r->base >= r->len || len > r->len - (addr - r->base))
		return NULL;
	return r;
}

static bool bus_len_ok(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

bool bus_read(const struct bus *bus, uint64_t addr, unsigned len, uint64_t *value)
{
	const struct bus_range *r = bus_len_ok(len) ? bus_find(bus, addr, len) : NULL;

	if (!r) {
		*value = UINT64_MAX;
		return false;
	}
	*value = r->ops->read(r->dev, addr - r->base, len);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, unsigned len, uint64_t value)
{
	const struct bus_range *r = bus_len_ok(len) ? bus_find(bus, addr, len) : NULL;

	if (!r)
		return false;
	r->ops->write(r->dev, addr - r->base, len, value);
	return true;
}

/* --- saved state --- */

#define DEVICE_STATE STATE_ID('D', 'E', 'V', ' ')

static int range_save(const struct bus_range *range, struct state_writer *w, struct err *err)
{
	const struct io_ops *ops = range->ops;
	int ret;

	if (!ops->save || !ops->restore)
		return err_set(err, ENOTSUP, "a machine with %s cannot be saved yet", ops->name);
	state_begin(w, DEVICE_STATE, ops->state_version);
	state_put_u64(w, range->base);
	state_put_string(w, ops->name);
	ret = ops->save(range->dev, w, err);
	state_end(w);
	return ret;
}

int bus_save(const struct bus *bus, struct state_writer *w, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < bus->count; i++)
		ret = range_save(&bus->range[i], w, err);
	return ret;
}

/* The same device at the same address? */
static int range_check(const struct bus *bus, const struct bus_range *range, struct state_reader *r,
		       struct err *err)
{
	uint64_t base = state_get_u64(r);
	char *name = state_get_string(r);
	int ret = 0;

	if (!name || base != range->base || strcmp(name, range->ops->name) != 0)
		ret = state_bad(err, "%s: %s at 0x%llx where the machine has %s at 0x%llx",
				bus->name, name ? name : "nothing", (unsigned long long)base,
				range->ops->name, (unsigned long long)range->base);
	free(name);
	return ret;
}

static int range_restore(const struct bus *bus, const struct bus_range *range,
			 struct state_reader *r, struct err *err)
{
	const struct io_ops *ops = range->ops;
	struct state_reader section;
	int ret;

	if (!ops->save || !ops->restore)
		return err_set(err, ENOTSUP, "%s cannot be restored", ops->name);
	ret = state_enter(r, DEVICE_STATE, ops->state_version, &section, err);
	if (!ret)
		ret = range_check(bus, range, &section, err);
	if (!ret)
		ret = ops->restore(range->dev, &section, err);
	if (!ret)
		ret = state_leave(&section, err);
	return ret ? err_context(err, "%s", ops->name) : 0;
}

int bus_restore(const struct bus *bus, struct state_reader *r, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < bus->count; i++)
		ret = range_restore(bus, &bus->range[i], r, err);
	return ret;
}
