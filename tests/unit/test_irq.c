/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt lines and pin allocation. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "minivm/irq.h"

static uint64_t pulses(const struct irq_line *line)
{
	uint64_t n = 0;

	return read(line->fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

Test(irq, raising_is_seen_by_who_holds_the_eventfd)
{
	struct irq_line line;
	struct err err = {0};

	cr_assert_eq(irq_line_open(&line, 5, &err), 0, "%s", err.text);
	cr_assert_eq(line.gsi, 5u);
	cr_assert_eq(pulses(&line), 0u);
	irq_line_raise(&line);
	irq_line_raise(&line);
	cr_assert_eq(pulses(&line), 2u);
	irq_line_close(&line);
	cr_assert_eq(line.fd, -1);
}

Test(irq, a_full_counter_does_not_block, .timeout = 5)
{
	const uint64_t full = UINT64_MAX - 1;
	struct irq_line line;
	struct err err = {0};

	cr_assert_eq(irq_line_open(&line, 5, &err), 0);
	cr_assert_eq(write(line.fd, &full, sizeof(full)), (ssize_t)sizeof(full));
	irq_line_raise(&line);
	cr_assert(pulses(&line) > 0);
	irq_line_close(&line);
}

Test(irq, an_unconnected_line_is_silent)
{
	struct irq_line line = {.fd = -1};

	irq_line_raise(&line);
	irq_line_close(&line);
}

Test(irq, pins_are_unique_free_of_legacy_ones_and_finite)
{
	struct irq_alloc a;
	struct err err = {0};
	uint32_t seen = 0;
	unsigned gsi;
	int n = 0;

	irq_alloc_init(&a);
	while (irq_alloc_pin(&a, &gsi, &err) == 0) {
		cr_assert_lt(gsi, (unsigned)IRQ_PINS);
		cr_assert(!(seen & 1u << gsi));
		seen |= 1u << gsi;
		n++;
	}
	cr_assert_eq(err.code, -ENOSPC);
	cr_assert(strlen(err.text) > 0);
	cr_assert_eq(n, 18);
	for (unsigned i = 0; i < 6; i++) {
		static const unsigned legacy[] = {0, 1, 2, 4, 8, 13};

		cr_assert(!(seen & 1u << legacy[i]));
	}
}
