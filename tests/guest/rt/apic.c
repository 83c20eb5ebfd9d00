/* SPDX-License-Identifier: Apache-2.0 */
/* AMD APM vol. 2 chapter 16; Intel 82093AA data sheet for the I/O APIC. */
#include "apic.h"

#include "cpu.h"
#include "trap.h"
#include "x86.h"

/* Per processor: while they are switched over, some are in one mode and some in the other. */
static bool in_x2apic(void)
{
	return this_cpu()->x2apic;
}

static void ioapic_redirect(unsigned pin, uint64_t entry)
{
	/* masked while it is half written */
	ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
	ioapic_write(0x11 + 2 * pin, (uint32_t)(entry >> 32));
	ioapic_write(0x10 + 2 * pin, (uint32_t)entry);
}

void apic_init(void)
{
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	lapic_enable();
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic_mask(pin);
}

void lapic_enable(void)
{
	if (cpu_by_index(0)->x2apic)
		lapic_use_x2apic();
	else
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_EN);
	lapic_write(LAPIC_SVR, 0x100 | VEC_SPURIOUS);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_TPR, 0);
}

bool lapic_use_x2apic(void)
{
	if (!(cpuid(1, 0).ecx & 1u << 21))
		return false;
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_EN);
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_EN | APIC_BASE_EXTD);
	this_cpu()->x2apic = true;
	return true;
}

uint32_t lapic_read(unsigned reg)
{
	return in_x2apic() ? (uint32_t)rdmsr(MSR_X2APIC + reg / 16) : mmio_read32(LAPIC_BASE + reg);
}

void lapic_write(unsigned reg, uint32_t value)
{
	if (in_x2apic())
		wrmsr(MSR_X2APIC + reg / 16, value);
	else
		mmio_write32(LAPIC_BASE + reg, value);
}

uint32_t lapic_id(void)
{
	uint32_t id = lapic_read(LAPIC_ID);

	return in_x2apic() ? id : id >> 24;
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

void lapic_send(uint32_t apic_id, uint32_t command)
{
	if (in_x2apic()) {
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (uint64_t)apic_id << 32 | command);
		return;
	}
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, command);
	while (lapic_read(LAPIC_ICR) & ICR_PENDING)
		cpu_pause();
}

uint32_t ioapic_read(unsigned reg)
{
	mmio_write32(IOAPIC_BASE, reg);
	return mmio_read32(IOAPIC_BASE + 0x10);
}

void ioapic_write(unsigned reg, uint32_t value)
{
	mmio_write32(IOAPIC_BASE, reg);
	mmio_write32(IOAPIC_BASE + 0x10, value);
}

void ioapic_route(unsigned pin, unsigned vector, uint32_t apic_id, uint32_t flags)
{
	ioapic_redirect(pin, (uint64_t)apic_id << 56 | flags | vector);
}

void ioapic_mask(unsigned pin)
{
	ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
}
