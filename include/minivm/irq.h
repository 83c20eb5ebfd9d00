/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts. A device holds an irq_line and raises it; behind the line is an eventfd that
 * KVM_IRQFD ties to a GSI (edge), so raising it is one write(2) from any thread. In unit tests the
 * eventfd is tied to nothing and is read back.
 */
#ifndef MINIVM_IRQ_H
#define MINIVM_IRQ_H

#include <stdint.h>

#include "minivm/err.h"

struct irq_line {
	int fd;	      /* eventfd, non-blocking, close-on-exec; -1 = not connected */
	unsigned gsi; /* global system interrupt, for the guest's tables */
};

/* Makes the eventfd. The caller owns it until irq_line_close(). */
int irq_line_open(struct irq_line *line, unsigned gsi, struct err *err);
void irq_line_close(struct irq_line *line);

/* Pulses the line. Never blocks: a full eventfd counter already means "pending". */
void irq_line_raise(const struct irq_line *line);

/* --- allocation, used by the machine only --- */

#define IRQ_PINS 24 /* one I/O APIC */
#define IRQ_FPU	 13

struct irq_alloc {
	uint32_t used; /* bit per pin */
};

/* All pins free but 0 (timer), 1, 2 (cascade), 4 (COM1), 8 (RTC), 13 (FPU). */
void irq_alloc_init(struct irq_alloc *a);
/* The next free pin, or -ENOSPC. GSIs are never shared. */
int irq_alloc_pin(struct irq_alloc *a, unsigned *gsi, struct err *err);

#endif
