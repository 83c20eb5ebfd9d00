/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines and the allocation of I/O APIC pins.
 *
 * A line is an eventfd. The machine ties it to a GSI with KVM_IRQFD, without a resample eventfd:
 * each signal is a pulse, low to high to low, which the I/O APIC pin takes as an edge. So a device
 * raises the line when its interrupt condition *becomes* true, never to say that it still is.
 * Pulses that KVM has not picked up yet merge in the counter; KVM drains it in the write itself, so
 * the counter cannot fill up while the irqfd is in place.
 *
 * Pins are handed out once and never shared: two edge-triggered devices on one pin lose interrupts.
 */
#include "minivm/irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Timer, keyboard (i8042 drivers claim it), cascade, COM1, RTC, FPU: what a PC has there. */
#define IRQ_PINS_LEGACY (1u << 0 | 1u << 1 | 1u << 2 | 1u << 4 | 1u << 8 | 1u << IRQ_FPU)

int irq_line_open(struct irq_line *line, unsigned gsi, struct err *err)
{
	line->gsi = gsi;
	line->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (line->fd < 0)
		return err_sys(err, errno, "interrupt %u: eventfd", gsi);
	return 0;
}

void irq_line_close(struct irq_line *line)
{
	if (line->fd >= 0)
		close(line->fd);
	line->fd = -1;
}

void irq_line_raise(const struct irq_line *line)
{
	const uint64_t one = 1;

	if (line->fd < 0)
		return;
	/* The only failure is EAGAIN: the counter is full, thus a pulse is pending already. */
	(void)!write(line->fd, &one, sizeof(one));
}

void irq_alloc_init(struct irq_alloc *a)
{
	a->used = IRQ_PINS_LEGACY;
}

int irq_alloc_pin(struct irq_alloc *a, unsigned *gsi, struct err *err)
{
	for (unsigned pin = 0; pin < IRQ_PINS; pin++) {
		if (!(a->used & 1u << pin)) {
			a->used |= 1u << pin;
			*gsi = pin;
			return 0;
		}
	}
	return err_set(err, ENOSPC, "all %u interrupt pins are in use; configure fewer devices",
		       IRQ_PINS);
}
