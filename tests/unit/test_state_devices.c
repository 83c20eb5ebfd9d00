/* SPDX-License-Identifier: Apache-2.0 */
/* Each device goes on where it was saved, and refuses what cannot be. */
#include <errno.h>
#include <stdlib.h>

#include "minivm/acpi.h"
#include "minivm/platform.h"
#include "minivm/serial.h"
#include "state_rig.h"

/* --- serial --- */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR

struct port {
	struct serial *s;
	struct irq_line irq;
	unsigned tx_ready;
	unsigned rx_room;
};

static void on_tx_ready(void *opaque)
{
	((struct port *)opaque)->tx_ready++;
}

static void on_rx_room(void *opaque)
{
	((struct port *)opaque)->rx_room++;
}

static void port_open(struct port *p)
{
	struct serial_host host = {on_tx_ready, on_rx_room, p};
	struct err err = {0};

	memset(p, 0, sizeof(*p));
	cr_assert_eq(irq_line_open(&p->irq, COM1_GSI, &err), 0);
	cr_assert_eq(serial_new(&p->irq, &host, 64, &p->s, &err), 0);
}

static void port_close(struct port *p)
{
	serial_destroy(p->s);
	irq_line_close(&p->irq);
}

static void out(struct port *p, unsigned reg, uint8_t value)
{
	serial_io_ops.write(p->s, reg, 1, value);
}

static uint8_t in(struct port *p, unsigned reg)
{
	return (uint8_t)serial_io_ops.read(p->s, reg, 1);
}

static uint64_t pulses(struct port *p)
{
	uint64_t n = 0;

	return read(p->irq.fd, &n, sizeof(n)) == (ssize_t)sizeof(n) ? n : 0;
}

/* FIFOs on with a trigger of 8, all interrupts but modem status, bytes both ways. */
static void port_in_use(struct port *p)
{
	out(p, LCR, 0x80);
	out(p, DATA, 0x0c);
	out(p, IER, 0x01);
	out(p, LCR, 0x03);
	out(p, FCR, 0x81);
	out(p, MCR, 0x0b);
	out(p, IER, 0x07);
	out(p, SCR, 0x5a);
	out(p, DATA, 'x');
	out(p, DATA, 'y');
	cr_assert_eq(serial_rx_push(p->s, "abc", 3), 3);
}

Test(state_devices, serial_goes_on)
{
	struct port a, b;
	struct state_writer w, again;
	struct err err = {0};
	char printed[4];

	port_open(&a);
	port_open(&b);
	port_in_use(&a);
	device_save(&serial_io_ops, a.s, &w);
	cr_assert_eq(device_restore(&serial_io_ops, b.s, w.data, w.len, &err), 0, "%s", err.text);
	device_save(&serial_io_ops, b.s, &again);
	cr_assert_eq(again.len, w.len);
	cr_assert_arr_eq(again.data, w.data, w.len);
	cr_assert_gt(pulses(&b), 0, "a pulse that was under way is made again");
	cr_assert_gt(b.tx_ready, 0, "what was printed wakes the host side");
	cr_assert_eq(serial_tx_peek(b.s, printed, sizeof(printed)), 2);
	cr_assert_arr_eq(printed, "xy", 2);
	cr_assert_eq(in(&b, IIR), 0xcc, "character time-out: three bytes below the trigger");
	cr_assert_eq(in(&b, DATA), 'a');
	cr_assert_eq(in(&b, DATA), 'b');
	cr_assert_eq(in(&b, DATA), 'c');
	cr_assert_eq(in(&b, SCR), 0x5a);
	cr_assert_eq(in(&b, MCR), 0x0b);
	cr_assert_eq(in(&b, LCR), 0x03);
	state_writer_free(&w);
	state_writer_free(&again);
	port_close(&a);
	port_close(&b);
}

Test(state_devices, serial_refuses_truncations)
{
	struct port a, b;
	struct state_writer w;

	port_open(&a);
	port_open(&b);
	port_in_use(&a);
	device_save(&serial_io_ops, a.s, &w);
	expect_truncations_refused(&serial_io_ops, b.s, &w);
	state_writer_free(&w);
	port_close(&a);
	port_close(&b);
}

/* Of a transmitter larger than ours. */
Test(state_devices, serial_refuses_what_does_not_fit)
{
	struct port a, b;
	struct state_writer w;
	struct err err = {0};
	struct serial_host host = {on_tx_ready, on_rx_room, &a};

	port_open(&a);
	port_open(&b);
	serial_destroy(a.s);
	cr_assert_eq(serial_new(&a.irq, &host, 128, &a.s, &err), 0);
	for (unsigned i = 0; i < 65; i++)
		out(&a, DATA, 'z');
	device_save(&serial_io_ops, a.s, &w);
	cr_assert_eq(device_restore(&serial_io_ops, b.s, w.data, w.len, &err), -EINVAL);
	state_writer_free(&w);
	port_close(&a);
	port_close(&b);
}

/* --- rtc --- */

Test(state_devices, rtc_goes_on)
{
	struct state_writer w;
	struct err err = {0};
	void *a, *b;

	cr_assert_eq(rtc_new(&a, &err), 0);
	cr_assert_eq(rtc_new(&b, &err), 0);
	rtc_io_ops.write(a, 0, 1, 0x0b);
	rtc_io_ops.write(a, 1, 1, 0x04); /* binary */
	device_save(&rtc_io_ops, a, &w);
	cr_assert_eq(device_restore(&rtc_io_ops, b, w.data, w.len, &err), 0, "%s", err.text);
	cr_assert_eq(rtc_io_ops.read(b, 1, 1), 0x06, "index 0x0b: 24 hours, binary");
	expect_truncations_refused(&rtc_io_ops, b, &w);
	state_writer_free(&w);
	rtc_io_ops.destroy(a);
	rtc_io_ops.destroy(b);
}

/* --- those without state --- */

static void end(void *opaque, enum vm_end_reason reason, uint8_t status)
{
	(void)opaque;
	(void)reason;
	(void)status;
}

typedef int make_fn(const struct vm_end_sink *sink, void **out_dev, struct err *err);

static void expect_stateless(const struct io_ops *ops, make_fn *make)
{
	const struct vm_end_sink sink = {.end = end};
	struct state_writer w;
	struct err err = {0};
	void *dev;

	cr_assert_eq(make(&sink, &dev, &err), 0);
	device_save(ops, dev, &w);
	cr_expect_eq(device_restore(ops, dev, w.data, w.len, &err), 0, "%s: %s", ops->name,
		     err.text);
	expect_truncations_refused(ops, dev, &w);
	state_writer_free(&w);
	ops->destroy(dev);
}

Test(state_devices, devices_without_state)
{
	expect_stateless(&i8042_io_ops, i8042_new);
	expect_stateless(&pvpanic_io_ops, pvpanic_new);
	expect_stateless(&exit_port_io_ops, exit_port_new);
	expect_stateless(&acpi_power_io_ops, acpi_power_new);
}

/* --- the bus --- */

static uint64_t nothing_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return 0;
}

static void nothing_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	(void)dev;
	(void)off;
	(void)len;
	(void)value;
}

static const struct io_ops unsaved_ops = {
    .name = "abacus", .read = nothing_read, .write = nothing_write};

Test(state_devices, bus_names_what_cannot_be_saved)
{
	struct state_writer w;
	struct err err = {0};
	struct bus bus;

	bus_init(&bus, "test");
	cr_assert_eq(bus_add(&bus, 0, 1, &unsaved_ops, NULL, &err), 0);
	state_writer_init(&w);
	cr_assert_eq(bus_save(&bus, &w, &err), -ENOTSUP);
	cr_assert_not_null(strstr(err.text, "abacus"));
	state_writer_free(&w);
}

Test(state_devices, bus_refuses_another_machine)
{
	struct state_writer w;
	struct state_reader r;
	struct err err = {0};
	struct bus bus;
	void *rtc;

	cr_assert_eq(rtc_new(&rtc, &err), 0);
	device_save(&rtc_io_ops, rtc, &w);
	bus_init(&bus, "test");
	cr_assert_eq(bus_add(&bus, 0x70, 2, &rtc_io_ops, rtc, &err), 0);
	cr_assert_eq(state_open(w.data, w.len, &r, &err), 0);
	cr_assert_eq(bus_restore(&bus, &r, &err), -EINVAL, "another address");
	bus_init(&bus, "test");
	cr_assert_eq(bus_add(&bus, 0x1000, 2, &pvpanic_io_ops, rtc, &err), 0);
	cr_assert_eq(state_open(w.data, w.len, &r, &err), 0);
	cr_assert_eq(bus_restore(&bus, &r, &err), -EINVAL, "another device");
	state_writer_free(&w);
	rtc_io_ops.destroy(rtc);
}
