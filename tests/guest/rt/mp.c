/* SPDX-License-Identifier: Apache-2.0 */
/* MP 1.4 §4. Read with care: the table is what we test, so nothing runs past its length. */
#include "mp.h"

#include "rt.h"
#include "x86.h"

struct floating {
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, feature[5];
} __attribute__((packed));

struct header {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_size, entries;
	uint32_t lapic;
	uint16_t ext_length;
	uint8_t ext_checksum, reserved;
} __attribute__((packed));

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO_INT, ENTRY_LOCAL_INT, ENTRY_TYPES };
static const uint8_t entry_len[ENTRY_TYPES] = {20, 8, 8, 8, 8};

static struct mp_info info;
static bool looked;
static uint8_t isa_bus = 0xff;

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static void parse_entry(const uint8_t *e)
{
	switch (e[0]) {
	case ENTRY_CPU:
		if (!(e[3] & 1) || info.cpus >= CPUS_MAX)
			break;
		info.apic_id[info.cpus++] = e[1];
		if (e[3] & 2) {
			info.bsps++;
			info.bsp_id = e[1];
		}
		break;
	case ENTRY_BUS:
		if (!memcmp(e + 2, "ISA   ", 6))
			isa_bus = e[1];
		break;
	case ENTRY_IOAPIC:
		if (!(e[3] & 1))
			break;
		info.ioapics++;
		info.ioapic_id = e[1];
		info.ioapic = *(const uint32_t *)(const void *)(e + 4);
		break;
	case ENTRY_IO_INT:
		if (e[1] == 0 && e[4] == isa_bus && e[5] < 16) {
			info.isa_irqs |= (uint16_t)(1u << e[5]);
			info.isa_pin[e[5]] = e[7];
		}
		break;
	case ENTRY_LOCAL_INT:
		info.local_ints++;
		break;
	}
}

static void parse_table(const struct floating *f)
{
	const uint8_t *base = (const uint8_t *)(uint64_t)f->table;
	const struct header *h = (const void *)base;
	uint64_t at = sizeof(*h);

	info.floating = (uint64_t)f;
	info.table = f->table;
	info.revision = f->revision;
	info.lapic = h->lapic;
	for (unsigned i = 0; i < h->entries && at < h->length; i++) {
		if (base[at] >= ENTRY_TYPES)
			return;
		parse_entry(base + at);
		at += entry_len[base[at]];
	}
	info.sums_right =
	    !memcmp(h->signature, "PCMP", 4) && sum(base, h->length) == 0 && at == h->length;
}

static bool look(uint64_t from, uint64_t len)
{
	for (uint64_t at = from; at < from + len; at += 16) {
		const struct floating *f = (const void *)at;

		if (*(const uint32_t *)at != 0x5f504d5f || f->length != 1) /* "_MP_" */
			continue;
		if (sum((const void *)at, 16) || !f->table)
			continue;
		parse_table(f);
		return true;
	}
	return false;
}

const struct mp_info *mp_find(void)
{
	uint64_t ebda = (uint64_t)mmio_read16(0x40e) << 4;

	if (!looked) {
		looked = true;
		if ((!ebda || ebda >= 0xa0000 || !look(ebda, 1024)) && !look(0x9fc00, 1024))
			look(0xf0000, 0x10000);
	}
	return info.table ? &info : NULL;
}

unsigned mp_isa_pin(unsigned irq)
{
	const struct mp_info *mp = mp_find();

	if (mp && mp->isa_irqs & 1u << irq)
		return mp->isa_pin[irq];
	return irq == 0 ? 2 : irq;
}
