/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART with 16-byte FIFOs (TI/National PC16550D data sheet), as COM1 of a PC.
 *
 * Registers are touched by vCPU threads. Output bytes go into a bounded buffer that the host side
 * (vmm/console.c) empties; when fewer than 16 bytes fit, the transmitter reports "not empty" and
 * raises its interrupt once there is room again (back-pressure), what a guest writes all the same
 * is dropped and counted when nothing fits.
 *
 * Input follows the flow control of a real line: the receiver takes bytes only while the guest
 * holds RTS (MCR bit 1), which drivers raise when they have opened the port. So what is typed or
 * piped in while the guest boots waits instead of being lost to the guest's FIFO resets. A guest
 * that polls for input sets RTS first. Interrupts reach the guest only while OUT2 (MCR bit 3) is
 * set, as on PCs.
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

/*
 * Where the chip tells its host side that there is something to do. Called on the thread that
 * caused it, usually a vCPU, with the chip's lock NOT held; must not block.
 */
struct serial_host {
	void (*tx_ready)(void *opaque); /* the output buffer became non-empty */
	void (*rx_room)(void *opaque);	/* the receiver takes bytes again, after it refused some */
	void *opaque;
};

struct serial_counters {
	uint64_t tx_bytes;
	uint64_t tx_dropped; /* overruns: the guest wrote while the transmitter was full */
	uint64_t rx_bytes;
	uint64_t interrupts;
};

/* destroy is NULL: the console owns the chip. Wider than a byte: reads are ones, writes vanish. */
extern const struct io_ops serial_io_ops;

/*
 * `irq` and `host` are copied, the descriptor in `irq` stays the caller's. tx_capacity: bytes of
 * output buffer, at least SERIAL_FIFO. Errors: -ENOMEM.
 */
#define SERIAL_FIFO 16
int serial_new(const struct irq_line *irq, const struct serial_host *host, size_t tx_capacity,
	       struct serial **out, struct err *err);
void serial_destroy(struct serial *s); /* NULL is fine */

/*
 * Host side, any thread. Output: peek copies the oldest bytes, consume removes at most `len` of
 * them; whoever handles tx_ready ends with a consume, since that is when the line has taken the
 * bytes.
 */
size_t serial_tx_peek(struct serial *s, void *buf, size_t len);
void serial_tx_consume(struct serial *s, size_t len);

/*
 * Input: how many bytes the receiver takes now, and hand it some; push returns how many it took.
 * When space is 0, or push took less than it was offered, rx_room will be called.
 */
size_t serial_rx_space(struct serial *s);
size_t serial_rx_push(struct serial *s, const void *buf, size_t len);

/*
 * The DSR input (modem status bit 5), asserted at the start. Our guest init takes its fall for
 * "please shut down" (docs/architecture.md).
 */
void serial_set_dsr(struct serial *s, bool asserted);

void serial_counters(struct serial *s, struct serial_counters *out);

#endif
