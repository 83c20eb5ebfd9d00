/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC (as MMIO or as x2APIC MSRs), I/O APIC; the legacy PICs are masked for good.
 * All of it in ring 0 unless said otherwise; the MMIO forms work in ring 3 too.
 */
#ifndef RT_APIC_H
#define RT_APIC_H

#include <stdbool.h>
#include <stdint.h>

#define LAPIC_BASE  0xfee00000u
#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_PINS 24

#define MSR_APIC_BASE	 0x1b
#define APIC_BASE_BSP	 (1u << 8)
#define APIC_BASE_EXTD	 (1u << 10) /* x2APIC */
#define APIC_BASE_EN	 (1u << 11)
#define MSR_X2APIC	 0x800
#define MSR_TSC_DEADLINE 0x6e0

enum { /* register offsets, AMD APM vol. 2 table 16-2 */
       LAPIC_ID = 0x20,
       LAPIC_VERSION = 0x30,
       LAPIC_TPR = 0x80,
       LAPIC_EOI = 0xb0,
       LAPIC_SVR = 0xf0,
       LAPIC_ICR = 0x300,
       LAPIC_ICR_HIGH = 0x310,
       LAPIC_LVT_TIMER = 0x320,
       LAPIC_LVT_LINT0 = 0x350,
       LAPIC_LVT_LINT1 = 0x360,
       LAPIC_LVT_ERROR = 0x370,
       LAPIC_TIMER_INIT = 0x380,
       LAPIC_TIMER_NOW = 0x390,
       LAPIC_TIMER_DIVIDE = 0x3e0,
};

enum {
	LVT_MASKED = 1 << 16,
	LVT_PERIODIC = 1 << 17,
	LVT_TSC_DEADLINE = 2 << 17,
	ICR_INIT = 0x500,
	ICR_STARTUP = 0x600,
	ICR_PENDING = 1 << 12,
	ICR_ASSERT = 1 << 14,
	ICR_LEVEL = 1 << 15,
	ICR_SELF = 1 << 18,
	ICR_ALL_BUT_SELF = 3 << 18,
	IOAPIC_LOW = 1 << 13, /* active low */
	IOAPIC_LEVEL = 1 << 15,
	IOAPIC_MASKED = 1 << 16,
};

/* Masks the PICs and enables this processor's local APIC; on CPU 0 all I/O APIC pins are masked. */
void apic_init(void);
void lapic_enable(void);
/* Switches this processor over; false if CPUID does not have it. There is no way back but reset. */
bool lapic_use_x2apic(void);

uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t value);
uint32_t lapic_id(void);
void lapic_eoi(void);
/* command: vector or ICR_INIT..., plus ICR_* flags; `apic_id` is ignored with a shorthand. */
void lapic_send(uint32_t apic_id, uint32_t command);

uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t value);
/* flags: IOAPIC_*; fixed delivery, physical destination. */
void ioapic_route(unsigned pin, unsigned vector, uint32_t apic_id, uint32_t flags);
void ioapic_mask(unsigned pin);

#endif
