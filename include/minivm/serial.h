/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART with 16-byte FIFOs (TI/National PC16550D data sheet) and its host side.
 *
 * Registers are touched by vCPU threads. Output bytes go into a bounded buffer that the loop's
 * thread writes to `out_fd`; when the buffer is full the transmitter reports "not empty" and raises
 * its interrupt once there is room again (back-pressure), what a guest writes all the same is
 * dropped and counted. Input is read from `in_fd` only while the receiver has room.
 */
#ifndef MINIVM_SERIAL_H
#define MINIVM_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/bus.h"
#include "minivm/err.h"
#include "minivm/irq.h"
#include "minivm/log.h"
#include "minivm/loop.h"

#define COM1_PORT 0x3f8
#define COM1_LEN  8
#define COM1_GSI  4

struct serial; /* devices/serial.c: the chip */

/* Where the chip's bytes go and what it tells its host side; called with the chip's lock NOT held. */
struct serial_host {
	void (*tx_ready)(void *opaque); /* the output buffer became non-empty */
	void (*rx_room)(void *opaque);  /* the receiver has room again after it was full */
	void *opaque;
};

struct serial_counters {
	uint64_t tx_bytes;
	uint64_t tx_dropped; /* overruns: the guest wrote while the transmitter was full */
	uint64_t rx_bytes;
	uint64_t interrupts;
};

extern const struct io_ops serial_io_ops;

/* `irq` is copied, its descriptor stays the caller's. tx_capacity: bytes of output buffer. */
int serial_new(const struct irq_line *irq, const struct serial_host *host, size_t tx_capacity,
	       struct serial **out, struct err *err);
void serial_destroy(struct serial *s);

/* Host side, any thread. */
size_t serial_tx_peek(struct serial *s, void *buf, size_t len); /* oldest bytes, not consumed */
void serial_tx_consume(struct serial *s, size_t len);
size_t serial_rx_push(struct serial *s, const void *buf, size_t len); /* returns what was taken */
size_t serial_rx_space(struct serial *s);

/*
 * The DSR input (modem status bit 5), asserted at the start. Our guest init takes its fall for
 * "please shut down" (docs/architecture.md).
 */
void serial_set_dsr(struct serial *s, bool asserted);

void serial_counters(struct serial *s, struct serial_counters *out);

#endif
