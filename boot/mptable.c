/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP configuration table (Intel MultiProcessor Specification 1.4): processors and interrupt
 * wiring for kernels that do not use ACPI.
 *
 * Theory of operation: floating pointer and table lie together in the last KiB of conventional
 * memory, one of the places that §4 names; even with 32 processors they fit. Linux first probes
 * every 16 bytes of the first KiB and maps memory for each probe, which is slow where a guest's
 * kernel mode is emulated, so a copy of the floating pointer lies near the start (0x10, in the
 * unused real-mode interrupt table; not 0, which some code takes for "not found").
 *
 * All device interrupts are edge-triggered: virtio-mmio's are eventfds (irqfd), COM1's and the
 * RTC's are ISA. Hence one ISA bus with 24 IRQs, each on the pin of its own number as KVM routes
 * them by default; pins 16..23 are no ISA IRQs of a real PC, but the table may say so.
 */
#include "minivm/boot.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "minivm/config.h"
#include "minivm/irq.h"

#define MP_FLOATING_COPY_GPA 0x10

#define LAPIC_VERSION  0x14 /* integrated */
#define IOAPIC_VERSION 0x11

#define IRQ_CASCADE 2

enum {
	MP_PROCESSOR = 0, /* §4.3: entry types, in this order */
	MP_BUS = 1,
	MP_IOAPIC = 2,
	MP_IRQ = 3,
	MP_LOCAL_IRQ = 4,
};

enum {
	MP_INT = 0, /* §4.3.4: interrupt types */
	MP_NMI = 1,
	MP_EXTINT = 3,
};

#define MP_POLARITY_HIGH 0x1
#define MP_TRIGGER_EDGE	 0x4
#define MP_ALL_APICS	 0xff

#define MP_ENABLED	0x1
#define MP_BOOT_CPU	0x2
#define MP_APIC_USABLE	0x1
#define MP_SPEC_1_4	4
#define MP_CPU_SIGN	0x600 /* family 6; nobody looks, CPUID counts */
#define MP_CPU_FEATURES 0x201 /* APIC, FPU */

/* §4.1 to §4.3; all fields are naturally aligned little-endian. */
struct mp_floating {
	char signature[4];
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t spec;
	uint8_t checksum;
	uint8_t features[5]; /* 0: a table is present; virtual wire mode */
};

struct mp_header {
	char signature[4];
	uint16_t length;
	uint8_t spec;
	uint8_t checksum;
	char oem[8];
	char product[12];
	uint32_t oem_table;
	uint16_t oem_size;
	uint16_t entries;
	uint32_t lapic;
	uint16_t ext_length;
	uint8_t ext_checksum;
	uint8_t reserved;
};

struct mp_processor {
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
};

struct mp_bus {
	uint8_t type;
	uint8_t id;
	char name[6];
};

struct mp_ioapic {
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t base;
};

struct mp_irq { /* also the local one: destination LAPIC and LINTIN pin */
	uint8_t type;
	uint8_t kind;
	uint16_t flags;
	uint8_t bus;
	uint8_t bus_irq;
	uint8_t dest_apic;
	uint8_t dest_pin;
};

/* Everything in one place, in this order in guest memory. */
struct mp_table {
	struct mp_floating floating;
	struct mp_header header;
	uint8_t entry[CONFIG_CPUS_MAX * sizeof(struct mp_processor) + sizeof(struct mp_bus) +
		      sizeof(struct mp_ioapic) + (IRQ_PINS + 2) * sizeof(struct mp_irq)];
	size_t used; /* bytes of entry[] */
};

static_assert(sizeof(struct mp_floating) == 16 && sizeof(struct mp_header) == 44 &&
		  sizeof(struct mp_processor) == 20 && sizeof(struct mp_bus) == 8 &&
		  sizeof(struct mp_ioapic) == 8 && sizeof(struct mp_irq) == 8,
	      "MP 1.4 sizes");
static_assert(BOOT_MPTABLE_GPA + offsetof(struct mp_table, used) <= 0xa0000,
	      "32 processors must fit below the VGA memory");

static void add(struct mp_table *t, const void *entry, size_t len)
{
	assert(t->used + len <= sizeof(t->entry));
	memcpy(t->entry + t->used, entry, len);
	t->used += len;
	t->header.entries++;
}

static void add_processors(struct mp_table *t, unsigned cpus)
{
	for (unsigned i = 0; i < cpus; i++) {
		struct mp_processor p = {
		    .type = MP_PROCESSOR,
		    .apic_id = i,
		    .apic_version = LAPIC_VERSION,
		    .flags = MP_ENABLED | (i == 0 ? MP_BOOT_CPU : 0),
		    .signature = MP_CPU_SIGN,
		    .features = MP_CPU_FEATURES,
		};

		add(t, &p, sizeof(p));
	}
}

static void add_interrupts(struct mp_table *t, unsigned ioapic)
{
	static const uint8_t local_kind[2] = {MP_EXTINT, MP_NMI}; /* LINT0, LINT1 */

	for (unsigned i = 0; i < IRQ_PINS; i++) {
		struct mp_irq irq = {
		    .type = MP_IRQ,
		    .kind = MP_INT,
		    .flags = MP_POLARITY_HIGH | MP_TRIGGER_EDGE,
		    .bus_irq = i,
		    .dest_apic = ioapic,
		    .dest_pin = i,
		};

		if (i != IRQ_CASCADE)
			add(t, &irq, sizeof(irq));
	}
	for (unsigned i = 0; i < 2; i++) {
		struct mp_irq irq = {
		    .type = MP_LOCAL_IRQ,
		    .kind = local_kind[i],
		    .dest_apic = MP_ALL_APICS,
		    .dest_pin = i,
		};

		add(t, &irq, sizeof(irq));
	}
}

static void build(struct mp_table *t, unsigned cpus)
{
	struct mp_bus bus = {.type = MP_BUS, .name = {'I', 'S', 'A', ' ', ' ', ' '}};
	struct mp_ioapic ioapic = {
	    .type = MP_IOAPIC,
	    .id = cpus,
	    .version = IOAPIC_VERSION,
	    .flags = MP_APIC_USABLE,
	    .base = BOOT_IOAPIC_GPA,
	};

	add_processors(t, cpus);
	add(t, &bus, sizeof(bus));
	add(t, &ioapic, sizeof(ioapic));
	add_interrupts(t, cpus);

	memcpy(t->header.signature, "PCMP", 4);
	memcpy(t->header.oem, "MINIVM  ", 8);
	memcpy(t->header.product, "MINIVM      ", 12);
	t->header.spec = MP_SPEC_1_4;
	t->header.lapic = BOOT_LAPIC_GPA;
	t->header.length = sizeof(t->header) + t->used;
	t->header.checksum = boot_checksum(&t->header, t->header.length);

	memcpy(t->floating.signature, "_MP_", 4);
	t->floating.table = BOOT_MPTABLE_GPA + offsetof(struct mp_table, header);
	t->floating.length = sizeof(t->floating) / 16;
	t->floating.spec = MP_SPEC_1_4;
	t->floating.checksum = boot_checksum(&t->floating, sizeof(t->floating));
}

int mptable_write(const struct guest_mem *mem, unsigned cpus, struct err *err)
{
	struct mp_table t = {0};

	if (cpus == 0 || cpus > CONFIG_CPUS_MAX)
		return err_set(err, EINVAL, "MP table: %u processors, at most %d are possible",
			       cpus, CONFIG_CPUS_MAX);
	build(&t, cpus);
	if (guest_mem_write(mem, GPA(BOOT_MPTABLE_GPA), &t,
			    offsetof(struct mp_table, entry) + t.used) ||
	    guest_mem_write(mem, GPA(MP_FLOATING_COPY_GPA), &t.floating, sizeof(t.floating)))
		return err_set(err, EFAULT, "MP table: no guest memory below 1 MiB");
	return 0;
}
