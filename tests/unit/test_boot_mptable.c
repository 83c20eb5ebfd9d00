/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table as a guest parses it: MP 1.4 §4, byte by byte. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "minivm/boot.h"

static uint8_t low[0x100000];

static struct guest_mem fake(void)
{
	struct guest_mem mem = {.count = 1};

	memset(low, 0, sizeof(low));
	mem.region[0] = (struct guest_region){GPA(0), sizeof(low), low};
	return mem;
}

static uint32_t le(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

/* Counts what it has seen; one function for each entry type. */
struct seen {
	unsigned cpus, buses, ioapics, irqs, locals, entries;
	uint32_t pins;
};

static unsigned see_entry(const uint8_t *e, unsigned cpus, struct seen *s)
{
	s->entries++;
	switch (e[0]) {
	case 0:
		cr_assert_eq(e[1], s->cpus, "APIC ids in order");
		cr_assert_eq(e[3], s->cpus == 0 ? 3 : 1, "enabled; the first boots");
		s->cpus++;
		return 20;
	case 1:
		cr_assert_arr_eq(e + 2, "ISA   ", 6);
		s->buses++;
		return 8;
	case 2:
		cr_assert_eq(e[1], cpus);
		cr_assert_eq(e[3], 1);
		cr_assert_eq(le(e + 4, 4), 0xfec00000);
		s->ioapics++;
		return 8;
	case 3:
		cr_assert_eq(e[1], 0, "INT");
		cr_assert_eq(le(e + 2, 2), 5, "active high, edge");
		cr_assert_eq(e[4], 0, "the ISA bus");
		cr_assert_eq(e[5], e[7], "identity");
		cr_assert_eq(e[6], cpus, "the I/O APIC");
		cr_assert_eq(s->pins & 1u << e[7], 0);
		s->pins |= 1u << e[7];
		s->irqs++;
		return 8;
	case 4:
		cr_assert_eq(e[1], s->locals == 0 ? 3 : 1, "ExtINT on LINT0, NMI on LINT1");
		cr_assert_eq(e[7], s->locals);
		s->locals++;
		return 8;
	}
	cr_assert_fail("entry type %u", e[0]);
	return 0;
}

static void check_table(unsigned cpus)
{
	struct guest_mem mem = fake();
	struct err err = {0};
	struct seen s = {0};
	const uint8_t *f = low + BOOT_MPTABLE_GPA, *h;
	unsigned at = 44, type = 0;

	cr_assert_eq(mptable_write(&mem, cpus, &err), 0, "%s", err.text);
	cr_assert_arr_eq(f, "_MP_", 4);
	cr_assert_eq(f[8], 1);
	cr_assert_eq(f[9], 4);
	cr_assert_eq(f[11], 0, "no default configuration");
	cr_assert_eq(sum(f, 16), 0);
	cr_assert_arr_eq(low + 0x10, f, 16, "the copy for the first probe");
	cr_assert_lt(le(f + 4, 4), 0xa0000);
	h = low + le(f + 4, 4);
	cr_assert_arr_eq(h, "PCMP", 4);
	cr_assert_eq(h[6], 4);
	cr_assert_eq(sum(h, le(h + 4, 2)), 0);
	cr_assert_eq(le(h + 36, 4), 0xfee00000);
	while (at < le(h + 4, 2)) {
		cr_assert_geq(h[at], type, "entries sorted by type");
		type = h[at];
		at += see_entry(h + at, cpus, &s);
	}
	cr_assert_eq(at, le(h + 4, 2));
	cr_assert_eq(s.entries, le(h + 34, 2));
	cr_assert_eq(s.cpus, cpus);
	cr_assert_eq(s.buses, 1);
	cr_assert_eq(s.ioapics, 1);
	cr_assert_eq(s.pins, 0xfffffb, "all pins but the cascade");
	cr_assert_eq(s.locals, 2);
	cr_assert_leq(h + at - low, 0xa0000, "below the VGA memory");
	cr_assert_eq(sum(low + 0xa0000, 0x60000), 0);
}

Test(boot_mptable, one_processor)
{
	check_table(1);
}

Test(boot_mptable, two_processors)
{
	check_table(2);
}

Test(boot_mptable, thirty_two_processors)
{
	check_table(32);
}

Test(boot_mptable, bad_requests)
{
	struct guest_mem mem = fake(), none = {0};
	struct err err = {0};

	cr_assert_eq(mptable_write(&mem, 0, &err), -EINVAL);
	cr_assert_eq(mptable_write(&mem, 33, &err), -EINVAL);
	cr_assert_eq(mptable_write(&none, 1, &err), -EFAULT);
}
