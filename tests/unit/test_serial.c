/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A: what the data sheet says, what Linux looks at to find one, and that no interrupt is lost.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "minivm/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR

#define TX_CAPACITY 64

struct rig {
	struct serial *s;
	struct irq_line irq;
	atomic_uint tx_ready;
	atomic_uint rx_room;
};

static void on_tx_ready(void *opaque)
{
	struct rig *r = opaque;

	atomic_fetch_add(&r->tx_ready, 1);
}

static void on_rx_room(void *opaque)
{
	struct rig *r = opaque;

	atomic_fetch_add(&r->rx_room, 1);
}

static void rig_open(struct rig *r)
{
	struct serial_host host = {on_tx_ready, on_rx_room, r};
	struct err err = {0};

	memset(r, 0, sizeof(*r));
	cr_assert_eq(irq_line_open(&r->irq, COM1_GSI, &err), 0);
	cr_assert_eq(serial_new(&r->irq, &host, TX_CAPACITY, &r->s, &err), 0);
}

static void rig_close(struct rig *r)
{
	serial_destroy(r->s);
	irq_line_close(&r->irq);
}

static uint8_t in(struct rig *r, unsigned reg)
{
	return (uint8_t)serial_io_ops.read(r->s, reg, 1);
}

static void out(struct rig *r, unsigned reg, uint8_t value)
{
	serial_io_ops.write(r->s, reg, 1, value);
}

static uint64_t pulses(struct rig *r)
{
	uint64_t n = 0;

	return read(r->irq.fd, &n, sizeof(n)) == (ssize_t)sizeof(n) ? n : 0;
}

/* As a driver has it when the port is open. */
static void open_port(struct rig *r, uint8_t ier)
{
	out(r, FCR, 0x81); /* FIFOs on, trigger level 8 */
	out(r, LCR, 0x03);
	out(r, MCR, 0x0b); /* DTR, RTS, OUT2 */
	out(r, IER, ier);
	in(r, MSR);
	pulses(r);
}

static size_t push(struct rig *r, const char *text)
{
	return serial_rx_push(r->s, text, strlen(text));
}

/* --- detection, as Linux autoconfig() does it --- */

Test(serial, passes_the_ier_scratch_test)
{
	struct rig r;

	rig_open(&r);
	out(&r, IER, 0);
	cr_assert_eq(in(&r, IER), 0);
	out(&r, IER, 0xff);
	cr_assert_eq(in(&r, IER), 0x0f, "only four bits exist, no UUE bit");
	rig_close(&r);
}

Test(serial, loopback_maps_modem_outputs_to_inputs)
{
	struct rig r;

	rig_open(&r);
	out(&r, MCR, 0x1a);
	cr_assert_eq(in(&r, MSR) & 0xf0, 0x90);
	out(&r, MCR, 0x15);
	cr_assert_eq(in(&r, MSR) & 0xf0, 0x60);
	out(&r, MCR, 0xff);
	cr_assert_eq(in(&r, MCR), 0x1f);
	rig_close(&r);
}

Test(serial, is_a_16550a_and_nothing_newer)
{
	struct rig r;

	rig_open(&r);
	/* 0xbf reaches an EFR on later chips; here it only sets DLAB, offset 2 stays FCR/IIR. */
	out(&r, LCR, 0xbf);
	out(&r, FCR, 0);
	out(&r, LCR, 0);
	out(&r, FCR, 0x01);
	cr_assert_eq(in(&r, IIR) >> 6, 3);
	out(&r, LCR, 0x80);
	cr_assert_neq(in(&r, IIR), 0, "no EFR with DLAB");
	out(&r, LCR, 0xbf);
	cr_assert_neq(in(&r, IIR), 0, "no EFR with 0xbf");
	out(&r, LCR, 0);
	out(&r, FCR, 0x21);
	cr_assert_eq(in(&r, IIR) & 0x20, 0, "no 64-byte FIFO");
	out(&r, FCR, 0);
	cr_assert_eq(in(&r, IIR), 0x01);
	rig_close(&r);
}

Test(serial, fifo_holds_sixteen_bytes_in_loopback_and_nothing_leaks)
{
	struct rig r;
	char buf[8];
	int n = 0;

	rig_open(&r);
	out(&r, FCR, 0x07);
	out(&r, MCR, 0x10);
	for (int i = 0; i < 256; i++)
		out(&r, DATA, (uint8_t)i);
	cr_assert_eq(in(&r, LSR) & 0x02, 0x02, "overrun");
	cr_assert_eq(in(&r, LSR) & 0x02, 0, "reading clears it");
	while (in(&r, LSR) & 0x01)
		cr_assert_eq(in(&r, DATA), n++);
	cr_assert_eq(n, 16);
	cr_assert_eq(serial_tx_peek(r.s, buf, sizeof(buf)), 0u);
	cr_assert_eq(atomic_load(&r.tx_ready), 0u);
	/* And the host's bytes do not get in. */
	out(&r, MCR, 0x12);
	cr_assert_eq(push(&r, "x"), 0u);
	cr_assert_eq(serial_rx_space(r.s), 0u);
	rig_close(&r);
}

Test(serial, without_fifo_an_overrun_keeps_the_newest_byte)
{
	struct rig r;

	rig_open(&r);
	out(&r, MCR, 0x10);
	out(&r, DATA, 'a');
	out(&r, DATA, 'b');
	cr_assert_eq(in(&r, LSR) & 0x03, 0x03);
	cr_assert_eq(in(&r, DATA), 'b');
	cr_assert_eq(in(&r, LSR) & 0x01, 0);
	rig_close(&r);
}

Test(serial, divisor_latch_and_scratch)
{
	struct rig r;

	rig_open(&r);
	out(&r, IER, 0x05);
	out(&r, LCR, 0x83);
	out(&r, DATA, 0x34);
	out(&r, IER, 0x12);
	cr_assert_eq(in(&r, DATA), 0x34);
	cr_assert_eq(in(&r, IER), 0x12);
	out(&r, LCR, 0x03);
	cr_assert_eq(in(&r, IER), 0x05);
	cr_assert_eq(in(&r, LCR), 0x03);
	out(&r, SCR, 0xa5);
	cr_assert_eq(in(&r, SCR), 0xa5);
	cr_assert_eq(atomic_load(&r.tx_ready), 0u, "the divisor is not output");
	rig_close(&r);
}

Test(serial, only_bytes_are_decoded)
{
	struct rig r;

	rig_open(&r);
	cr_assert_eq(serial_io_ops.read(r.s, 0, 2), UINT64_MAX);
	cr_assert_eq(serial_io_ops.read(r.s, 0, 8), UINT64_MAX);
	serial_io_ops.write(r.s, SCR - 3, 4, 0xffffffff);
	serial_io_ops.write(r.s, 0, 2, 0x4141);
	cr_assert_eq(atomic_load(&r.tx_ready), 0u);
	cr_assert_eq(in(&r, SCR), 0);
	rig_close(&r);
}

Test(serial, reset_is_the_power_on_state)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x0f);
	push(&r, "abc");
	out(&r, SCR, 1);
	serial_io_ops.reset(r.s);
	cr_assert_eq(in(&r, IER), 0);
	cr_assert_eq(in(&r, IIR), 0x01);
	cr_assert_eq(in(&r, LCR), 0);
	cr_assert_eq(in(&r, MCR), 0);
	cr_assert_eq(in(&r, LSR), 0x60);
	cr_assert_eq(in(&r, MSR), 0xb0);
	cr_assert_eq(in(&r, SCR), 0);
	rig_close(&r);
}

/* --- transmitter --- */

Test(serial, output_comes_out_in_order)
{
	struct rig r;
	char buf[TX_CAPACITY];
	char next_in = 0;
	char next_out = 0;

	rig_open(&r);
	/* Round and round the ring, with odd sizes. */
	for (int round = 0; round < 100; round++) {
		size_t n;

		for (int i = 0; i < 13; i++)
			out(&r, DATA, (uint8_t)next_in++);
		n = serial_tx_peek(r.s, buf, 7);
		for (size_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], (char)(next_out + (char)i));
		n = serial_tx_peek(r.s, buf, sizeof(buf));
		cr_assert_eq(n, 13u);
		for (size_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], next_out++);
		serial_tx_consume(r.s, n);
	}
	cr_assert_eq(atomic_load(&r.tx_ready), 100u, "told once per filling");
	serial_tx_consume(r.s, 1000);
	cr_assert_eq(serial_tx_peek(r.s, buf, sizeof(buf)), 0u);
	rig_close(&r);
}

Test(serial, a_stalled_host_is_back_pressure_not_loss)
{
	struct rig r;
	struct serial_counters n;
	int written = 0;

	rig_open(&r);
	open_port(&r, 0x02);
	in(&r, IIR);
	while (in(&r, LSR) & 0x20) {
		/* A driver fills the FIFO when it has seen THRE. */
		for (int i = 0; i < 16; i++)
			out(&r, DATA, 'x');
		written += 16;
	}
	cr_assert_eq(written, TX_CAPACITY);
	cr_assert_eq(in(&r, LSR) & 0x60, 0);
	serial_counters(r.s, &n);
	cr_assert_eq(n.tx_dropped, 0u);
	cr_assert_eq(n.tx_bytes, (uint64_t)TX_CAPACITY);
	in(&r, IIR);
	pulses(&r);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x01, "no THRE interrupt while it is busy");

	out(&r, DATA, 'y');
	serial_counters(r.s, &n);
	cr_assert_eq(n.tx_dropped, 1u, "a driver that does not look loses its byte");

	serial_tx_consume(r.s, 15);
	cr_assert_eq(pulses(&r), 0u, "no room for a FIFO's worth yet");
	serial_tx_consume(r.s, 1);
	cr_assert_eq(pulses(&r), 1u);
	cr_assert_eq(in(&r, LSR) & 0x60, 0x60);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x02);
	rig_close(&r);
}

Test(serial, thre_interrupt_follows_the_data_sheet)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0);
	/* Enabling it with THR empty raises it, each time: Linux tests for this. */
	for (int i = 0; i < 2; i++) {
		out(&r, IER, 0x02);
		cr_assert_eq(pulses(&r), 1u);
		cr_assert_eq(in(&r, IIR) & 0x0f, 0x02);
		cr_assert_eq(in(&r, IIR) & 0x0f, 0x01, "reading IIR clears it");
		out(&r, IER, 0);
	}
	out(&r, IER, 0x02);
	pulses(&r);
	out(&r, IER, 0x02);
	cr_assert_eq(pulses(&r), 0u, "it was enabled before");
	/* It is not cleared by an IIR read that reports something else. */
	out(&r, IER, 0x03);
	push(&r, "abcdefgh");
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x04);
	for (int i = 0; i < 8; i++)
		in(&r, DATA);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x02);
	rig_close(&r);
}

/* The handler loops until IIR says none: it needs no more calls than one. */
Test(serial, a_looping_handler_is_not_called_for_what_it_has_seen)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x02);
	for (int pass = 0; pass < 3; pass++) {
		cr_assert_eq(in(&r, IIR) & 0x0f, 0x02);
		for (int i = 0; i < 16; i++)
			out(&r, DATA, 'x');
	}
	out(&r, IER, 0);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x01);
	serial_tx_consume(r.s, 48);
	cr_assert_eq(pulses(&r), 0u);
	rig_close(&r);
}

/* A handler that never reads IIR still learns that THR is empty again. */
Test(serial, a_handler_that_does_not_loop_is_called_once_the_line_took_the_bytes)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x02);
	for (int i = 0; i < 5; i++) {
		out(&r, DATA, 'x');
		cr_assert_eq(pulses(&r), 0u);
		serial_tx_consume(r.s, 1);
		cr_assert_eq(pulses(&r), 1u);
	}
	rig_close(&r);
}

/* --- receiver --- */

Test(serial, input_waits_for_rts)
{
	struct rig r;

	rig_open(&r);
	cr_assert_eq(push(&r, "early"), 0u);
	cr_assert_eq(in(&r, LSR) & 0x01, 0);
	out(&r, MCR, 0x01);
	cr_assert_eq(atomic_load(&r.rx_room), 0u);
	out(&r, MCR, 0x03);
	cr_assert_eq(atomic_load(&r.rx_room), 1u);
	cr_assert_eq(push(&r, "early"), 1u, "no FIFO yet");
	cr_assert_eq(in(&r, DATA), 'e');
	rig_close(&r);
}

Test(serial, fifo_and_host_side_agree_on_room)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0);
	cr_assert_eq(serial_rx_space(r.s), 16u);
	cr_assert_eq(push(&r, "0123456789abcdefXYZ"), 16u);
	cr_assert_eq(serial_rx_space(r.s), 0u);
	for (int i = 0; i < 15; i++)
		in(&r, DATA);
	cr_assert_eq(atomic_load(&r.rx_room), 0u, "one call per FIFO, not per byte");
	cr_assert_eq(in(&r, DATA), 'f');
	cr_assert_eq(atomic_load(&r.rx_room), 1u);
	cr_assert_eq(in(&r, DATA), 0);
	push(&r, "a");
	in(&r, DATA);
	cr_assert_eq(atomic_load(&r.rx_room), 1u, "nobody waits");
	rig_close(&r);
}

Test(serial, fifo_reset_makes_room)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0);
	push(&r, "0123456789abcdefX");
	out(&r, FCR, 0x83);
	cr_assert_eq(in(&r, LSR) & 0x01, 0);
	cr_assert_eq(atomic_load(&r.rx_room), 1u);
	rig_close(&r);
}

Test(serial, trigger_levels_and_time_out)
{
	static const struct {
		uint8_t fcr;
		unsigned level;
	} cases[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};

	for (unsigned c = 0; c < 4; c++) {
		struct rig r;

		rig_open(&r);
		open_port(&r, 0x01);
		out(&r, FCR, cases[c].fcr);
		for (unsigned i = 1; i <= 16; i++) {
			cr_assert_eq(push(&r, "x"), 1u);
			cr_assert_eq(in(&r, IIR), i >= cases[c].level ? 0xc4 : 0xcc);
			cr_assert(pulses(&r) > 0 || i > cases[c].level);
		}
		for (unsigned i = 15; i > 0; i--) {
			in(&r, DATA);
			cr_assert_eq(in(&r, IIR), i >= cases[c].level ? 0xc4 : 0xcc);
			cr_assert(pulses(&r) > 0 || i >= cases[c].level,
				  "a handler that reads one byte per call is called again");
		}
		in(&r, DATA);
		cr_assert_eq(in(&r, IIR), 0xc1);
		rig_close(&r);
	}
}

Test(serial, out2_gates_the_interrupt)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x01);
	out(&r, MCR, 0x03);
	push(&r, "x");
	cr_assert_eq(pulses(&r), 0u);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x0c, "IIR tells all the same");
	out(&r, MCR, 0x0b);
	cr_assert_eq(pulses(&r), 1u, "what is pending comes through when the gate opens");
	rig_close(&r);
}

Test(serial, line_status_has_priority_and_is_cleared_by_lsr)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x0f);
	out(&r, FCR, 0x01);
	out(&r, MCR, 0x11); /* CTS and DCD fall, then rise again */
	for (int i = 0; i < 17; i++)
		out(&r, DATA, 'x');
	out(&r, MCR, 0x0b);
	cr_assert(pulses(&r) > 0);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x06);
	in(&r, LSR);
	cr_assert(pulses(&r) > 0, "the next source is announced anew");
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x04);
	for (int i = 0; i < 16; i++)
		in(&r, DATA);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x02);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x00, "modem status: loopback moved the inputs");
	in(&r, MSR);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x01);
	rig_close(&r);
}

Test(serial, dsr_falls_with_a_modem_status_interrupt)
{
	struct rig r;

	rig_open(&r);
	open_port(&r, 0x08);
	cr_assert_eq(in(&r, MSR), 0xb0);
	serial_set_dsr(r.s, false);
	cr_assert_eq(pulses(&r), 1u);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x00);
	cr_assert_eq(in(&r, MSR), 0x92);
	cr_assert_eq(in(&r, MSR), 0x90);
	cr_assert_eq(in(&r, IIR) & 0x0f, 0x01);
	serial_set_dsr(r.s, false);
	cr_assert_eq(pulses(&r), 0u);
	serial_set_dsr(r.s, true);
	cr_assert_eq(in(&r, MSR), 0xb2);
	rig_close(&r);
}

Test(serial, ring_indicator_counts_its_trailing_edge_only)
{
	struct rig r;

	rig_open(&r);
	out(&r, MCR, 0x10);
	in(&r, MSR);
	out(&r, MCR, 0x14);
	cr_assert_eq(in(&r, MSR), 0x40);
	out(&r, MCR, 0x10);
	cr_assert_eq(in(&r, MSR), 0x04);
	rig_close(&r);
}

/* --- several threads --- */

#define STRESS_BYTES 20000

struct stress {
	struct rig rig;
	atomic_bool done;
};

/* The guest: interrupt-driven like Linux' driver, so a lost edge ends in the time-out. */
static void *stress_guest(void *opaque)
{
	struct stress *st = opaque;
	struct rig *r = &st->rig;
	unsigned sent = 0;
	unsigned received = 0;

	out(r, IER, 0x03);
	while (sent < STRESS_BYTES || received < STRESS_BYTES) {
		uint8_t iir;

		while (pulses(r) == 0)
			sched_yield();
		while (!((iir = in(r, IIR)) & 0x01)) {
			while (in(r, LSR) & 0x01) {
				cr_assert_eq(in(r, DATA), (uint8_t)received);
				received++;
			}
			if (!(in(r, LSR) & 0x20))
				continue;
			for (int i = 0; i < 16 && sent < STRESS_BYTES; i++)
				out(r, DATA, (uint8_t)sent++);
			if (sent == STRESS_BYTES)
				out(r, IER, 0x01);
		}
	}
	return NULL;
}

/* Another vCPU that looks at registers without side effects on the driver. */
static void *stress_hammer(void *opaque)
{
	struct stress *st = opaque;

	while (!atomic_load(&st->done)) {
		out(&st->rig, SCR, 0x55);
		in(&st->rig, SCR);
		in(&st->rig, MCR);
		serial_set_dsr(st->rig.s, false);
		serial_set_dsr(st->rig.s, true);
		sched_yield();
	}
	return NULL;
}

/* The loop: acts only when it was told to. */
static void *stress_host(void *opaque)
{
	struct stress *st = opaque;
	struct rig *r = &st->rig;
	unsigned received = 0;
	unsigned sent = 0;
	unsigned tx_seen = 0;
	unsigned rx_seen = 0;
	bool room = true;
	uint8_t buf[64];

	while (received < STRESS_BYTES || sent < STRESS_BYTES) {
		unsigned tx = atomic_load(&r->tx_ready);
		unsigned rx = atomic_load(&r->rx_room);

		if (tx == tx_seen && rx == rx_seen && !room) {
			sched_yield();
			continue;
		}
		while (tx != tx_seen) {
			size_t n = serial_tx_peek(r->s, buf, sizeof(buf));

			tx_seen += n == 0;
			if (n == 0)
				continue;
			for (size_t i = 0; i < n; i++)
				cr_assert_eq(buf[i], (uint8_t)received++);
			serial_tx_consume(r->s, n);
		}
		room = room || rx != rx_seen;
		rx_seen = rx;
		while (room && sent < STRESS_BYTES) {
			for (unsigned i = 0; i < 5; i++)
				buf[i] = (uint8_t)(sent + i);
			size_t taken = serial_rx_push(r->s, buf, 5);
			sent += (unsigned)taken;
			room = taken == 5;
		}
		room = room && sent < STRESS_BYTES;
	}
	return NULL;
}

Test(serial, no_byte_and_no_edge_is_lost_between_threads, .timeout = 60)
{
	struct stress st;
	pthread_t guest, hammer, host;

	rig_open(&st.rig);
	atomic_init(&st.done, false);
	open_port(&st.rig, 0);
	cr_assert_eq(pthread_create(&guest, NULL, stress_guest, &st), 0);
	cr_assert_eq(pthread_create(&hammer, NULL, stress_hammer, &st), 0);
	cr_assert_eq(pthread_create(&host, NULL, stress_host, &st), 0);
	pthread_join(guest, NULL);
	pthread_join(host, NULL);
	atomic_store(&st.done, true);
	pthread_join(hammer, NULL);
	rig_close(&st.rig);
}
