/* SPDX-License-Identifier: Apache-2.0 */
/* The MultiProcessor Specification 1.4 table, as a guest finds and believes it. */
#ifndef RT_MP_H
#define RT_MP_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

struct mp_info {
	uint64_t floating; /* address of the floating pointer structure */
	uint64_t table;
	bool sums_right; /* both checksums, and the entries fill the table's length exactly */
	uint8_t revision;
	uint32_t lapic;
	unsigned cpus;
	uint8_t apic_id[CPUS_MAX]; /* enabled processors, in table order */
	unsigned bsps;
	uint8_t bsp_id;
	unsigned ioapics;
	uint8_t ioapic_id;
	uint32_t ioapic;
	uint16_t isa_irqs; /* bit per ISA IRQ that has an entry */
	uint8_t isa_pin[16];
	unsigned local_ints;
};

/* Looks in all the places of MP 1.4 §4; NULL: there is none. Parsed once. */
const struct mp_info *mp_find(void);
/* The I/O APIC pin of an ISA interrupt; without a table: PIT on 2, others one to one. */
unsigned mp_isa_pin(unsigned irq);

#endif
