/* SPDX-License-Identifier: Apache-2.0 */
#include "console_driver.h"

struct console_test ct;

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

const struct virtio_console_host vc_host_ops = {host_output, host_input_room, host_opened};

struct call {
	unsigned port;
	const char *text;
	size_t result;
	unsigned a, b;
};

static void call_push(void *opaque)
{
	struct call *c = opaque;

	c->result = virtio_console_rx_push(ct.vc, c->port, c->text, strlen(c->text));
}

size_t vc_push(unsigned port, const char *text)
{
	struct call c = {.port = port, .text = text};

	loop_call(ct.drv.loop, call_push, &c);
	return c.result;
}

static void call_ready(void *opaque)
{
	struct call *c = opaque;

	c->result = virtio_console_rx_ready(ct.vc, c->port);
}

bool vc_ready(unsigned port)
{
	struct call c = {.port = port};

	loop_call(ct.drv.loop, call_ready, &c);
	return c.result;
}

static void call_resume(void *opaque)
{
	struct call *c = opaque;

	ct.hosts[c->port].room = c->a;
	virtio_console_tx_resume(ct.vc, c->port);
}

void vc_resume(unsigned port, unsigned room)
{
	struct call c = {.port = port, .a = room};

	loop_call(ct.drv.loop, call_resume, &c);
}

static void call_open(void *opaque)
{
	struct call *c = opaque;

	virtio_console_set_open(ct.vc, c->port, c->a);
}

void vc_set_open(unsigned port, bool open)
{
	struct call c = {.port = port, .a = open};

	loop_call(ct.drv.loop, call_open, &c);
}

static void call_resize(void *opaque)
{
	struct call *c = opaque;

	virtio_console_resize(ct.vc, (uint16_t)c->a, (uint16_t)c->b);
}

void vc_resize(unsigned cols, unsigned rows)
{
	struct call c = {.a = cols, .b = rows};

	loop_call(ct.drv.loop, call_resize, &c);
}

void *vc_buffer_at(unsigned q, unsigned i)
{
	return vqueue_buffer_at(&ct.queues, q, i);
}

void vc_kick(unsigned q)
{
	vqueue_kick(&ct.queues, q);
}

void vc_start(uint64_t features, unsigned count)
{
	vqueues_start(&ct.queues, &ct.drv, features, count);
}

void vc_make(unsigned named, unsigned cols, unsigned rows)
{
	struct virtio_console_port_options port[] = {{"one", &vc_host_ops, &ct.hosts[1]},
						     {"two", &vc_host_ops, &ct.hosts[2]}};
	struct virtio_console_options opt = {.named = named,
					     .port = port,
					     .cols = (uint16_t)cols,
					     .rows = (uint16_t)rows,
					     .log = &ct.drv.log};
	struct err err = {0};

	memset(ct.hosts, 0, sizeof(ct.hosts));
	for (unsigned i = 0; i < 3; i++)
		ct.hosts[i].room = sizeof(ct.hosts[i].got);
	if (named == 0)
		port[0] = (struct virtio_console_port_options){NULL, &vc_host_ops, &ct.hosts[0]};
	cr_assert_eq(virtio_console_new(&opt, &ct.vc, &err), 0, "%s", err.text);
	vdriver_init(&ct.drv, &virtio_console_ops, ct.vc, QUEUE_SIZE);
}

void vc_make_console(void)
{
	vc_make(0, 80, 25);
}

void vc_make_ports(void)
{
	vc_make(2, 0, 0);
}

void vc_teardown(void)
{
	vdriver_fini(&ct.drv);
}

void vc_offer(unsigned q, unsigned i, uint32_t len, bool writable)
{
	vqueue_offer(&ct.queues, q, i, len, writable);
}

void vc_print(unsigned q, unsigned i, const char *text)
{
	memcpy(vc_buffer_at(q, i), text, strlen(text));
	vc_offer(q, i, (uint32_t)strlen(text), false);
	vc_kick(q);
}

unsigned vc_used(unsigned q)
{
	return vqueue_used(&ct.queues, q);
}

void vc_want_got(const struct host *h, const char *text)
{
	cr_assert_eq(h->got_len, strlen(text), "%zu bytes", h->got_len);
	cr_assert_eq(memcmp(h->got, text, h->got_len), 0);
}

struct virtio_console_counters vc_counters(void)
{
	struct virtio_console_counters count;

	virtio_console_counters(ct.vc, &count);
	return count;
}

void vc_say(uint32_t id, unsigned event, unsigned value)
{
	struct control msg = {.id = id, .event = (uint16_t)event, .value = (uint16_t)value};
	unsigned i = ct.queues.ring[3].avail_idx % QUEUE_SIZE;

	memcpy(vc_buffer_at(3, i), &msg, 8);
	vc_offer(3, i, 8, false);
	vc_kick(3);
	cr_assert_eq(vc_used(3), 1);
}

void vc_give_control_buffers(unsigned n, uint32_t len)
{
	while (n-- > 0)
		vc_offer(2, ct.queues.ring[2].avail_idx % QUEUE_SIZE, len, true);
	vc_kick(2);
}

struct control vc_hear(void)
{
	struct control msg = {.id = UINT32_MAX};
	uint32_t id, len;

	if (!ring_take(&ct.queues.ring[2], &id, &len))
		return msg;
	cr_assert_leq(len, sizeof(msg) - 1);
	memcpy(&msg, vc_buffer_at(2, id), len);
	return msg;
}

void vc_want_control(uint32_t id, unsigned event, unsigned value)
{
	struct control msg = vc_hear();

	cr_assert_eq(msg.id, id, "port %u", msg.id);
	cr_assert_eq(msg.event, event, "event %u", msg.event);
	cr_assert_eq(msg.value, value, "value %u", msg.value);
}

void vc_want_silence(void)
{
	struct control msg = vc_hear();

	cr_assert_eq(msg.id, UINT32_MAX, "port %u, event %u", msg.id, msg.event);
}

void vc_start_ports(void)
{
	vc_start(ALL | F_MULTIPORT, QUEUES);
	vc_give_control_buffers(16, 64);
	vc_say(0, DEVICE_READY, 1);
	vc_want_control(1, DEVICE_ADD, 1);
	vc_want_control(2, DEVICE_ADD, 1);
	vc_want_silence();
}

void vc_start_port_1(void)
{
	vc_start_ports();
	vc_say(1, PORT_READY, 1);
	vc_want_control(1, NAME, 1);
	vc_say(1, PORT_OPEN, 1);
}
