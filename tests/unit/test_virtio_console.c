/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console as a driver sees it, between a driver with several queues and host sides that take
 * as much as they are told to.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "minivm/virtio_console.h"
#include "state_rig.h"
#include "vqueues.h"

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)
#define ALL	    (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX)

#define QUEUES	   8u
#define QUEUE_SIZE 32u

/* PORT_* are guest's and host's, DEVICE_READY the guest's, DEVICE_ADD the host's. */
enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, NAME };

struct control {
	uint32_t id;
	uint16_t event, value;
	char name[40];
};

/* --- a host side; touched on the loop's thread, or when it has settled --- */

struct host {
	unsigned port;
	size_t room;
	char got[1 << 17];
	size_t got_len;
	_Atomic unsigned rooms; /* calls of input_room */
	_Atomic unsigned opens, closes;
};

static struct host hosts[3];
static struct vdriver drv;
static struct virtio_console *vc;
static struct vqueues queues;

static size_t host_output(void *opaque, const struct iovec *iov, unsigned n, size_t len)
{
	struct host *h = opaque;
	size_t taken = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t part = iov[i].iov_len < h->room ? iov[i].iov_len : h->room;

		cr_assert_leq(h->got_len + part, sizeof(h->got));
		memcpy(h->got + h->got_len, iov[i].iov_base, part);
		h->got_len += part;
		h->room -= part;
		taken += part;
	}
	cr_assert_leq(taken, len);
	return taken;
}

static void host_input_room(void *opaque)
{
	((struct host *)opaque)->rooms++;
}

static void host_opened(void *opaque, bool open)
{
	struct host *h = opaque;

	if (open)
		h->opens++;
	else
		h->closes++;
}

static const struct virtio_console_host host_ops = {host_output, host_input_room, host_opened};

/* --- calls of the host side, on the loop --- */

struct call {
	unsigned port;
	const char *text;
	size_t result;
	unsigned a, b;
};

static void call_push(void *opaque)
{
	struct call *c = opaque;

	c->result = virtio_console_rx_push(vc, c->port, c->text, strlen(c->text));
}

static size_t push(unsigned port, const char *text)
{
	struct call c = {.port = port, .text = text};

	loop_call(drv.loop, call_push, &c);
	return c.result;
}

static void call_ready(void *opaque)
{
	struct call *c = opaque;

	c->result = virtio_console_rx_ready(vc, c->port);
}

static bool ready(unsigned port)
{
	struct call c = {.port = port};

	loop_call(drv.loop, call_ready, &c);
	return c.result;
}

static void call_resume(void *opaque)
{
	struct call *c = opaque;

	hosts[c->port].room = c->a;
	virtio_console_tx_resume(vc, c->port);
}

static void resume(unsigned port, unsigned room)
{
	struct call c = {.port = port, .a = room};

	loop_call(drv.loop, call_resume, &c);
}

static void call_open(void *opaque)
{
	struct call *c = opaque;

	virtio_console_set_open(vc, c->port, c->a);
}

static void set_open(unsigned port, bool open)
{
	struct call c = {.port = port, .a = open};

	loop_call(drv.loop, call_open, &c);
}

static void call_resize(void *opaque)
{
	struct call *c = opaque;

	virtio_console_resize(vc, (uint16_t)c->a, (uint16_t)c->b);
}

static void resize(unsigned cols, unsigned rows)
{
	struct call c = {.a = cols, .b = rows};

	loop_call(drv.loop, call_resize, &c);
}

/* --- the driver --- */

static void *buffer_at(unsigned q, unsigned i)
{
	return vqueue_buffer_at(&queues, q, i);
}

static void kick(unsigned q)
{
	vqueue_kick(&queues, q);
}

static void start(uint64_t features, unsigned count)
{
	vqueues_start(&queues, &drv, features, count);
}

static void make(unsigned named, unsigned cols, unsigned rows)
{
	struct virtio_console_port_options port[] = {{"one", &host_ops, &hosts[1]},
						     {"two", &host_ops, &hosts[2]}};
	struct virtio_console_options opt = {.named = named,
					     .port = port,
					     .cols = (uint16_t)cols,
					     .rows = (uint16_t)rows,
					     .log = &drv.log};
	struct err err = {0};

	memset(hosts, 0, sizeof(hosts));
	for (unsigned i = 0; i < 3; i++)
		hosts[i].room = sizeof(hosts[i].got);
	if (named == 0)
		port[0] = (struct virtio_console_port_options){NULL, &host_ops, &hosts[0]};
	cr_assert_eq(virtio_console_new(&opt, &vc, &err), 0, "%s", err.text);
	vdriver_init(&drv, &virtio_console_ops, vc, QUEUE_SIZE);
}

static void make_console(void)
{
	make(0, 80, 25);
}

static void make_ports(void)
{
	make(2, 0, 0);
}

static void teardown(void)
{
	vdriver_fini(&drv);
}

#define ConsoleTest(name, ...)                                                                     \
	Test(virtio_console, name, .init = make_console, .fini = teardown, ##__VA_ARGS__)
#define PortsTest(name, ...)                                                                       \
	Test(virtio_console, name, .init = make_ports, .fini = teardown, ##__VA_ARGS__)

static void offer(unsigned q, unsigned i, uint32_t len, bool writable)
{
	vqueue_offer(&queues, q, i, len, writable);
}

static void print(unsigned q, unsigned i, const char *text)
{
	memcpy(buffer_at(q, i), text, strlen(text));
	offer(q, i, (uint32_t)strlen(text), false);
	kick(q);
}

static unsigned used(unsigned q)
{
	return vqueue_used(&queues, q);
}

static void want_got(const struct host *h, const char *text)
{
	cr_assert_eq(h->got_len, strlen(text), "%zu bytes", h->got_len);
	cr_assert_eq(memcmp(h->got, text, h->got_len), 0);
}

static struct virtio_console_counters counters(void)
{
	struct virtio_console_counters count;

	virtio_console_counters(vc, &count);
	return count;
}

/* --- the console --- */

ConsoleTest(shape)
{
	cr_assert_eq(rd(&drv, R_DEVICE_ID), 3);
	cr_assert_eq(vdriver_offered(&drv), ALL | F_SIZE);
	for (unsigned q = 0; q < 3; q++) {
		wr(&drv, R_QUEUE_SEL, q);
		cr_assert_eq(rd(&drv, R_QUEUE_NUM_MAX), q < 2 ? QUEUE_SIZE : 0);
	}
	cr_assert_eq(rd(&drv, R_CONFIG), 80 | 25 << 16);
	cr_assert_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 2, 2), 25);
}

/* A size that is not known is not told, until it is. */
Test(virtio_console, no_size_yet, .fini = teardown)
{
	make(0, 0, 0);
	start(ALL | F_SIZE, 2);
	cr_assert_eq(rd(&drv, R_CONFIG), 0);
	resize(0, 0);
	cr_assert_eq(rd(&drv, R_ISR), 0);
	resize(80, 25);
	cr_assert_eq(rd(&drv, R_CONFIG), 80 | 25 << 16);
	cr_assert_eq(rd(&drv, R_ISR), 2);
}

ConsoleTest(output)
{
	start(ALL, 2);
	cr_assert_eq(hosts[0].opens, 1);
	print(1, 0, "hello, ");
	print(1, 1, "world");
	cr_assert_eq(used(1), 2);
	want_got(&hosts[0], "hello, world");
	/* The interrupt comes when the host side comes back, one for both. */
	cr_assert_not(vdriver_interrupt(&drv, 20));
	resume(0, 0);
	cr_assert(vdriver_interrupt(&drv, 1000));
	cr_assert_eq(counters().tx_bytes, 12);
}

ConsoleTest(output_in_pieces)
{
	uint32_t id, len;

	start(ALL, 2);
	memcpy(buffer_at(1, 0), "abc", 3);
	memcpy(buffer_at(1, 1), "def", 3);
	ring_set(&queues.ring[1], 0, vqueue_buffer(1, 0), 3, D_NEXT, 1);
	ring_set(&queues.ring[1], 1, vqueue_buffer(1, 5), 0, D_NEXT, 2);
	ring_set(&queues.ring[1], 2, vqueue_buffer(1, 1), 3, D_NEXT, 3);
	ring_set(&queues.ring[1], 3, vqueue_buffer(1, 6), 9, D_WRITE, 0); /* has no business here */
	ring_offer(&queues.ring[1], 0);
	kick(1);
	cr_assert(ring_take(&queues.ring[1], &id, &len));
	cr_assert_eq(len, 0);
	want_got(&hosts[0], "abcdef");
}

ConsoleTest(output_is_kept_back)
{
	start(ALL, 2);
	hosts[0].room = 4;
	print(1, 0, "0123456789");
	print(1, 1, "abc");
	cr_assert_eq(used(1), 0);
	want_got(&hosts[0], "0123");
	resume(0, 0);
	cr_assert_eq(used(1), 0);
	resume(0, 7);
	cr_assert_eq(used(1), 1);
	want_got(&hosts[0], "0123456789a");
	resume(0, 100);
	cr_assert_eq(used(1), 1);
	want_got(&hosts[0], "0123456789abc");
	cr_assert_eq(counters().tx_bytes, 13);
	print(1, 2, "!");
	want_got(&hosts[0], "0123456789abc!");
}

/* The driver cuts a chain short, of which a part was taken. */
ConsoleTest(output_shrinks)
{
	start(ALL, 2);
	hosts[0].room = 8;
	print(1, 0, "0123456789");
	ring_set(&queues.ring[1], 0, vqueue_buffer(1, 0), 3, 0, 0);
	resume(0, 100);
	cr_assert_eq(used(1), 1);
	print(1, 1, "xyz");
	want_got(&hosts[0], "01234567xyz");
}

/* More than a turn's worth of chains: none is left behind. */
ConsoleTest(output_many)
{
	start(ALL, 2);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < QUEUE_SIZE; i++) {
			memset(buffer_at(1, i), 'a' + (int)(i % 26), 100);
			offer(1, i, 100, false);
		}
		kick(1);
		for (unsigned done = 0, ms = 0; done < QUEUE_SIZE; done += used(1), ms++) {
			cr_assert_lt(ms, 5000);
			usleep(1000);
		}
	}
	cr_assert_eq(hosts[0].got_len, 20 * QUEUE_SIZE * 100);
}

ConsoleTest(input)
{
	uint32_t id, len;

	start(ALL, 2);
	cr_assert_not(ready(0));
	cr_assert_eq(push(0, "lost?"), 0);
	offer(0, 0, 4, true);
	offer(0, 1, 100, true);
	kick(0);
	cr_assert_eq(hosts[0].rooms, 1);
	cr_assert(ready(0));
	cr_assert_eq(push(0, "012345"), 6);
	cr_assert(ring_take(&queues.ring[0], &id, &len));
	cr_assert_eq(len, 4);
	cr_assert(ring_take(&queues.ring[0], &id, &len));
	cr_assert_eq(len, 2);
	cr_assert_eq(memcmp(buffer_at(0, 0), "0123", 4), 0);
	cr_assert_eq(memcmp(buffer_at(0, 1), "45", 2), 0);
	cr_assert_not(ready(0));
	cr_assert_eq(counters().rx_bytes, 6);
}

/* Buffers without room, and such that can only be read, are given back. */
ConsoleTest(input_odd_buffers)
{
	start(ALL, 2);
	offer(0, 0, 0, true);
	offer(0, 1, 10, false);
	offer(0, 2, 3, true);
	kick(0);
	cr_assert_eq(push(0, "abcd"), 3);
	cr_assert_eq(used(0), 3);
	cr_assert_eq(memcmp(buffer_at(0, 2), "abc", 3), 0);
	offer(0, 3, 10, true);
	kick(0);
	cr_assert_eq(hosts[0].rooms, 2);
}

ConsoleTest(size)
{
	uint32_t generation;

	start(ALL | F_SIZE, 2);
	/* Said once by itself, for Linux does not look otherwise. */
	cr_assert_eq(rd(&drv, R_ISR), 2);
	wr(&drv, R_ISR_ACK, 2);
	generation = rd(&drv, R_GENERATION);
	resize(132, 43);
	cr_assert_eq(rd(&drv, R_ISR), 2);
	cr_assert_eq(rd(&drv, R_CONFIG), 132 | 43 << 16);
	cr_assert_neq(rd(&drv, R_GENERATION), generation);
}

ConsoleTest(size_of_a_driver_that_does_not_care)
{
	start(ALL, 2);
	resize(132, 43);
	cr_assert_eq(rd(&drv, R_ISR), 0);
	cr_assert_eq(rd(&drv, R_CONFIG), 132 | 43 << 16);
}

ConsoleTest(reset)
{
	start(ALL, 2);
	hosts[0].room = 2;
	print(1, 0, "abcd");
	offer(0, 0, 10, true);
	wr(&drv, R_STATUS, 0);
	cr_assert_eq(hosts[0].closes, 1);
	cr_assert_not(ready(0));
	cr_assert_eq(push(0, "x"), 0);
	resume(0, 100);
	want_got(&hosts[0], "ab");
	start(ALL, 2);
	cr_assert_eq(hosts[0].opens, 2);
	print(1, 0, "abcd");
	want_got(&hosts[0], "ababcd");
}

ConsoleTest(broken_ring)
{
	start(ALL, 2);
	ring_offer(&queues.ring[1], QUEUE_SIZE + 3);
	kick(1);
	cr_assert(rd(&drv, R_STATUS) & S_NEEDS_RESET);
	start(ALL, 2);
	print(1, 0, "well");
	want_got(&hosts[0], "well");
}

/* --- named ports: queues 2 and 3 are for control, 4 to 7 those of ports 1 and 2 --- */

static void say(uint32_t id, unsigned event, unsigned value)
{
	struct control msg = {.id = id, .event = (uint16_t)event, .value = (uint16_t)value};
	unsigned i = queues.ring[3].avail_idx % QUEUE_SIZE;

	memcpy(buffer_at(3, i), &msg, 8);
	offer(3, i, 8, false);
	kick(3);
	cr_assert_eq(used(3), 1);
}

static void give_control_buffers(unsigned n, uint32_t len)
{
	while (n-- > 0)
		offer(2, queues.ring[2].avail_idx % QUEUE_SIZE, len, true);
	kick(2);
}

static struct control hear(void)
{
	struct control msg = {.id = UINT32_MAX};
	uint32_t id, len;

	if (!ring_take(&queues.ring[2], &id, &len))
		return msg;
	cr_assert_leq(len, sizeof(msg) - 1);
	memcpy(&msg, buffer_at(2, id), len);
	return msg;
}

static void want_control(uint32_t id, unsigned event, unsigned value)
{
	struct control msg = hear();

	cr_assert_eq(msg.id, id, "port %u", msg.id);
	cr_assert_eq(msg.event, event, "event %u", msg.event);
	cr_assert_eq(msg.value, value, "value %u", msg.value);
}

static void want_silence(void)
{
	struct control msg = hear();

	cr_assert_eq(msg.id, UINT32_MAX, "port %u, event %u", msg.id, msg.event);
}

static void start_ports(void)
{
	start(ALL | F_MULTIPORT, QUEUES);
	give_control_buffers(16, 64);
	say(0, DEVICE_READY, 1);
	want_control(1, DEVICE_ADD, 1);
	want_control(2, DEVICE_ADD, 1);
	want_silence();
}

static void start_port_1(void)
{
	start_ports();
	say(1, PORT_READY, 1);
	want_control(1, NAME, 1);
	say(1, PORT_OPEN, 1);
}

PortsTest(ports_shape)
{
	cr_assert_eq(vdriver_offered(&drv), ALL | F_MULTIPORT);
	wr(&drv, R_QUEUE_SEL, 7);
	cr_assert_eq(rd(&drv, R_QUEUE_NUM_MAX), QUEUE_SIZE);
	wr(&drv, R_QUEUE_SEL, 8);
	cr_assert_eq(rd(&drv, R_QUEUE_NUM_MAX), 0);
	cr_assert_eq(rd(&drv, R_CONFIG + 4), 3);
}

PortsTest(ports_come_to_be)
{
	struct control msg;

	set_open(2, true);
	start_ports();
	say(2, PORT_READY, 1);
	msg = hear();
	cr_assert_eq(msg.event, NAME);
	cr_assert_eq(msg.id, 2);
	cr_assert_str_eq(msg.name, "two");
	want_control(2, PORT_OPEN, 1);
	say(1, PORT_READY, 1);
	want_control(1, NAME, 1);
	want_silence();
	set_open(1, true);
	want_control(1, PORT_OPEN, 1);
	want_silence();
}

PortsTest(port_bytes)
{
	start_port_1();
	cr_assert_eq(hosts[1].opens, 1);
	print(5, 0, "to one");
	print(7, 0, "to two");
	want_got(&hosts[1], "to one");
	want_got(&hosts[2], "to two");
	offer(4, 0, 100, true);
	kick(4);
	cr_assert_eq(hosts[1].rooms, 1);
	cr_assert_eq(push(1, "hello"), 5);
	cr_assert_eq(memcmp(buffer_at(4, 0), "hello", 5), 0);
	/* Nobody has opened it: nothing is given. */
	offer(6, 0, 100, true);
	kick(6);
	cr_assert_not(ready(2));
	cr_assert_eq(push(2, "hello"), 0);
	say(1, PORT_OPEN, 0);
	cr_assert_eq(hosts[1].closes, 1);
	cr_assert_not(ready(1));
}

/* Port 0 has no host side; its bytes are gone, but its buffers come back. */
PortsTest(port_0_is_nobody)
{
	start_ports();
	print(1, 0, "hello?");
	cr_assert_eq(used(1), 1);
	offer(0, 0, 100, true);
	kick(0);
	cr_assert_eq(used(0), 0);
	say(0, PORT_READY, 1);
	say(0, PORT_OPEN, 1);
	cr_assert_eq(counters().control_wrong, 2);
	want_silence();
}

/* However often the host side comes and goes while the guest does not listen, it is one message. */
PortsTest(comings_and_goings)
{
	start(ALL | F_MULTIPORT, QUEUES);
	say(0, DEVICE_READY, 1);
	give_control_buffers(2, 64);
	want_control(1, DEVICE_ADD, 1);
	want_control(2, DEVICE_ADD, 1);
	say(1, PORT_READY, 1);
	for (unsigned i = 0; i < 1001; i++)
		set_open(1, i % 2 == 0);
	give_control_buffers(16, 64);
	want_control(1, NAME, 1);
	want_control(1, PORT_OPEN, 1);
	want_silence();
	set_open(1, false);
	want_control(1, PORT_OPEN, 0);
	want_silence();
}

/* §5.3.6.2.1: no port is added that exists. */
PortsTest(hostile_control)
{
	start_ports();
	for (unsigned i = 0; i < 100; i++)
		say(i, DEVICE_READY, 1);
	want_silence();
	say(1, PORT_READY, 1);
	say(1, PORT_READY, 1);
	say(1, PORT_READY, 0);
	say(1, PORT_READY, 1);
	want_control(1, NAME, 1);
	want_silence();
	cr_assert_eq(counters().control_wrong, 0);
	for (unsigned event = 0; event < 300; event++) {
		if (event != DEVICE_READY)
			say(77, event, 1);
	}
	say(UINT32_MAX, PORT_OPEN, 1);
	say(3, PORT_OPEN, 1);
	say(1, NAME, 1);
	say(1, DEVICE_REMOVE, 1);
	say(1, RESIZE, 1);
	cr_assert_eq(counters().control_wrong, 304);
	offer(3, 0, 7, false); /* too short */
	offer(3, 1, 0, false);
	offer(3, 2, 8, true); /* nothing to be read in it */
	kick(3);
	cr_assert_eq(used(3), 3);
	cr_assert_eq(counters().control_wrong, 307);
	cr_assert_eq(hosts[1].opens + hosts[2].opens, 0);
	want_silence();
}

PortsTest(control_buffers_too_small)
{
	start(ALL | F_MULTIPORT, QUEUES);
	give_control_buffers(1, 7);
	give_control_buffers(1, 64);
	say(0, DEVICE_READY, 1);
	cr_assert_eq(hear().id, UINT32_MAX); /* empty */
	want_control(2, DEVICE_ADD, 1);
	cr_assert_eq(counters().control_wrong, 1);
}

PortsTest(ports_reset)
{
	start_port_1();
	wr(&drv, R_STATUS, 0);
	cr_assert_eq(hosts[1].closes, 1);
	start_port_1();
	cr_assert_eq(hosts[1].opens, 2);
}

/* Without MULTIPORT there is just port 0, which is nobody. */
PortsTest(driver_without_multiport)
{
	const struct control msg = {.event = DEVICE_READY, .value = 1};

	start(ALL, QUEUES);
	memcpy(buffer_at(3, 0), &msg, 8);
	offer(3, 0, 8, false);
	kick(3);
	cr_assert_eq(used(3), 0);
	give_control_buffers(4, 64);
	want_silence();
	print(5, 0, "x");
	cr_assert_eq(hosts[1].got_len, 0);
}

/* --- saved and restored --- */

static struct vdriver saved_drv;
static struct state_writer saved;

/* Saves the device; `drv` is another one then, just made, with the state in it. */
static int save_and_restore(unsigned named, struct err *err)
{
	int ret;

	vdriver_save(&drv, &saved);
	saved_drv = drv;
	queues.drv = &drv;
	make(named, 100, 50);
	ret = vdriver_restore(&saved_drv, &saved, &drv, err);
	for (unsigned q = 0; q < QUEUES; q++)
		queues.ring[q].mem.region[0].host = ring_at(&drv.ring, (uint64_t)q * VQUEUE_AREA);
	return ret;
}

static void forget_saved(void)
{
	state_writer_free(&saved);
	virtio_resume(saved_drv.virtio);
	vdriver_fini(&saved_drv);
}

/* In the middle of a chain: the rest comes, once; and the terminal is another. */
ConsoleTest(console_restored)
{
	struct err err = {0};

	start(ALL | F_SIZE, 2);
	wr(&drv, R_ISR_ACK, 3);
	hosts[0].room = 4;
	print(1, 0, "0123456789");
	offer(0, 0, 100, true);
	kick(0);
	cr_assert_eq(save_and_restore(0, &err), 0, "%s", err.text);
	cr_assert_eq(hosts[0].opens, 1);
	resume(0, 100);
	want_got(&hosts[0], "456789");
	cr_assert_eq(used(1), 1);
	cr_assert_eq(push(0, "input"), 5);
	cr_assert_eq(memcmp(buffer_at(0, 0), "input", 5), 0);
	cr_assert_eq(rd(&drv, R_ISR) & 2, 2);
	cr_assert_eq(rd(&drv, R_CONFIG), 100 | 50 << 16);
	forget_saved();
}

PortsTest(ports_restored)
{
	struct err err = {0};

	set_open(1, true);
	start_ports();
	say(1, PORT_READY, 1);
	want_control(1, NAME, 1);
	want_control(1, PORT_OPEN, 1);
	say(1, PORT_OPEN, 1);
	say(2, PORT_READY, 1);
	want_control(2, NAME, 1);
	cr_assert_eq(save_and_restore(2, &err), 0, "%s", err.text);
	cr_assert_eq(hosts[1].opens, 1);
	cr_assert_eq(hosts[2].opens, 0);
	/* Its host side is not there any more, and that of the other is. */
	set_open(2, true);
	for (unsigned ms = 0; queues.ring[2].used_seen == ring_used_idx(&queues.ring[2]); ms++) {
		cr_assert_lt(ms, 5000);
		usleep(1000);
	}
	want_control(1, PORT_OPEN, 0);
	want_control(2, PORT_OPEN, 1);
	want_silence();
	print(5, 0, "to one");
	want_got(&hosts[1], "to one");
	forget_saved();
}

/* While it is paused, host sides reach nothing; what they wanted happens afterwards. */
PortsTest(paused)
{
	start_port_1();
	hosts[1].room = 0;
	print(5, 0, "waits");
	offer(4, 0, 100, true);
	kick(4);
	virtio_pause(drv.virtio);
	resume(1, 100);
	set_open(1, true);
	cr_assert_eq(push(1, "x"), 0);
	cr_assert_not(ready(1));
	cr_assert_eq(hosts[1].got_len, 0);
	want_silence();
	virtio_resume(drv.virtio);
	want_got(&hosts[1], "waits");
	want_control(1, PORT_OPEN, 1);
	cr_assert_eq(push(1, "x"), 1);
}

PortsTest(restored_into_other_ports)
{
	struct err err = {0};

	start_ports();
	cr_assert_lt(save_and_restore(1, &err), 0);
	cr_assert_not_null(strstr(err.text, "queues"), "%s", err.text);
	forget_saved();
}

PortsTest(restored_from_parts)
{
	start_port_1();
	vdriver_save(&drv, &saved);
	saved_drv = drv;
	make(2, 0, 0);
	expect_truncations_refused(&virtio_mmio_io_ops, drv.mmio, &saved);
	forget_saved();
}

Test(virtio_console, names)
{
	char name[VIRTIO_CONSOLE_NAME_MAX + 2];
	struct virtio_console_port_options port = {"", &host_ops, NULL};
	struct virtio_console_options opt = {.named = 1, .port = &port};
	struct err err = {0};

	cr_assert_eq(virtio_console_new(&opt, &vc, &err), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	port.name = name;
	cr_assert_eq(virtio_console_new(&opt, &vc, &err), -EINVAL);
	name[sizeof(name) - 2] = '\0';
	cr_assert_eq(virtio_console_new(&opt, &vc, &err), 0);
	virtio_console_ops.destroy(vc);
}
