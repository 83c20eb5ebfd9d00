/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART under any sequence of register accesses and host-side calls. Beside what the sanitizers
 * see: bounds of both buffers, and that no interrupt is lost: once a handler has found "none" in
 * IIR, a source may show there only after another pulse.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/serial.h"

#define TX_CAPACITY 40
#define MCR_OUT2    0x08
#define MCR_LOOP    0x10

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct rig {
	struct serial *s;
	uint64_t handled; /* pulses when the handler last found "none" */
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static uint8_t in(struct rig *r, uint8_t reg)
{
	return (uint8_t)serial_io_ops.read(r->s, reg, 1);
}

static void do_read(struct rig *r, uint8_t arg)
{
	unsigned len = 1u << (arg >> 6);
	uint64_t value = serial_io_ops.read(r->s, arg & 7, len);

	check(len == 1 ? value <= 0xff : value == UINT64_MAX);
}

static void do_consume(struct rig *r, uint8_t arg)
{
	uint8_t buf[256];
	size_t n = serial_tx_peek(r->s, buf, arg);

	check(n <= arg && n <= TX_CAPACITY);
	serial_tx_consume(r->s, n);
}

static void do_push(struct rig *r, uint8_t arg)
{
	uint8_t buf[256];
	size_t space = serial_rx_space(r->s);

	memset(buf, arg, sizeof(buf));
	check(space <= SERIAL_FIFO);
	check(serial_rx_push(r->s, buf, arg) == (arg < space ? arg : space));
}

static uint64_t pulses(struct rig *r)
{
	struct serial_counters n;

	serial_counters(r->s, &n);
	return n.interrupts;
}

/* The host side catches up, then the guest's handler runs until IIR says "none". */
static void do_settle(struct rig *r, uint8_t arg)
{
	uint8_t mcr = in(r, 4);
	uint8_t lcr = in(r, 3);
	int turns = 0;

	(void)arg;
	serial_tx_consume(r->s, TX_CAPACITY);
	if (!(mcr & MCR_OUT2) || mcr & MCR_LOOP)
		return;
	check(in(r, 2) & 1 || pulses(r) != r->handled);
	serial_io_ops.write(r->s, 3, 1, lcr & 0x7f);
	while (!(in(r, 2) & 1)) {
		check(turns++ < 64);
		in(r, 5);
		in(r, 6);
		in(r, 0);
	}
	serial_io_ops.write(r->s, 3, 1, lcr);
	r->handled = pulses(r);
}

static void do_pin_or_reset(struct rig *r, uint8_t arg)
{
	if (arg == 0xff)
		serial_io_ops.reset(r->s);
	else
		serial_set_dsr(r->s, arg & 1);
}

static void (*const actions[8])(struct rig *r, uint8_t arg) = {
    do_push, do_consume, do_pin_or_reset, do_settle, do_read, do_read, do_read, do_read,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct irq_line irq = {.fd = -1};
	const struct serial_host host = {ignore, ignore, NULL};
	struct rig r = {0};
	struct err err;

	if (serial_new(&irq, &host, TX_CAPACITY, &r.s, &err) < 0)
		return 0;
	/* A pair of bytes is a step. The first one: write a register (and which, how wide), or act.
	 */
	for (; size >= 2; data += 2, size -= 2) {
		if (data[0] & 0x80)
			serial_io_ops.write(r.s, data[0] & 7, data[0] & 0x40 ? 4 : 1, data[1]);
		else
			actions[data[0] & 7](&r, data[1]);
	}
	do_settle(&r, 0);
	serial_destroy(r.s);
	return 0;
}
