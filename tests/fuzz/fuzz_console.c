/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-console device with named ports, or with a console:
 * register accesses, rings and control messages of its making, while the host sides come, go, stall
 * and give input. Nobody runs the loop, so all happens on this thread, and a kick is a call of
 * notify.
 *
 * Checked beside what the sanitizers see: host sides are opened and closed in turn; control
 * messages name ports that are there, and none is added twice; after a reset nothing is touched.
 */
#include <string.h>

#include <linux/virtio_console.h>
#include <linux/virtio_mmio.h>

#include "minivm/virtio_console.h"
#include "minivm/virtio_mmio.h"
#include "input.h"

#define NAMED	2u
#define PORTS	(NAMED + 1)
#define QUEUES	(2 + 2 * PORTS)
#define SIZE	4u /* entries of each queue */
#define AREA	0x400u
#define AVAIL	0x40u
#define USED	0x80u
#define TABLE	0x100u
#define BUFFERS 0x200u
#define RAM	(16 * AREA)

struct host {
	size_t room;
	bool open;
};

struct machine {
	struct guest_mem mem;
	struct loop *loop;
	struct log log;
	struct virtio_console *vc;
	struct virtio *virtio;
	struct virtio_mmio *mmio;
	struct host host[PORTS];
	bool added[PORTS];
	uint16_t control_seen;
};

static uint8_t ram[RAM] __attribute__((aligned(4096)));

/* --- host sides --- */

static size_t host_output(void *opaque, const struct iovec *iov, unsigned n, size_t len)
{
	struct host *h = opaque;
	size_t sum = 0, taken;
	uint8_t byte = 0;

	for (unsigned i = 0; i < n; i++) {
		for (size_t k = 0; k < iov[i].iov_len; k++)
			byte ^= ((const volatile uint8_t *)iov[i].iov_base)[k];
		sum += iov[i].iov_len;
	}
	(void)byte;
	require(sum == len && len > 0);
	taken = len < h->room ? len : h->room;
	h->room -= taken;
	return taken;
}

static void host_input_room(void *opaque)
{
	(void)opaque;
}

static void host_opened(void *opaque, bool open)
{
	struct host *h = opaque;

	require(h->open != open);
	h->open = open;
}

static const struct virtio_console_host host_ops = {host_output, host_input_room, host_opened};

/* --- the machine --- */

static void machine_make(struct machine *m, unsigned named)
{
	const struct irq_line irq = {.fd = -1};
	const struct virtio_console_port_options port[NAMED] = {
	    {named > 0 ? "first" : NULL, &host_ops, &m->host[named > 0]},
	    {"second", &host_ops, &m->host[2]}};
	const struct virtio_console_options opt = {
	    .named = named, .port = port, .cols = 80, .rows = 25, .log = &m->log};
	struct virtio_env env = {.mem = &m->mem, .log = &m->log};
	struct err err;

	m->mem.count = 1;
	m->mem.region[0] = (struct guest_region){.gpa = GPA(0), .len = RAM, .host = ram};
	m->log = (struct log){.fd = -1, .level = LOG_LEVEL_ERROR};
	require(loop_new(&m->loop, &err) == 0);
	env.loop = m->loop;
	require(virtio_console_new(&opt, &m->vc, &err) == 0);
	require(virtio_new(&virtio_console_ops, m->vc, &env, &m->virtio, &err) == 0);
	require(virtio_mmio_new(m->virtio, &irq, &m->mmio, &err) == 0);
}

static void wr(struct machine *m, uint64_t off, uint64_t value)
{
	virtio_mmio_io_ops.write(m->mmio, off, 4, value);
}

static void start(struct machine *m, uint8_t features, uint8_t missing)
{
	wr(m, VIRTIO_MMIO_STATUS, 0);
	memset(ram, 0, sizeof(ram));
	memset(m->added, 0, sizeof(m->added));
	m->control_seen = 0;
	wr(m, VIRTIO_MMIO_STATUS, 3);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES,
	   (uint32_t)(features & 3) << 28 |
	       (virtio_device_features(m->virtio, 0) & (features >> 2 & 3)));
	wr(m, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		wr(m, VIRTIO_MMIO_QUEUE_SEL, q);
		wr(m, VIRTIO_MMIO_QUEUE_NUM, SIZE);
		wr(m, VIRTIO_MMIO_QUEUE_DESC_LOW, q * AREA);
		wr(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, q * AREA + AVAIL);
		wr(m, VIRTIO_MMIO_QUEUE_USED_LOW, q * AREA + USED);
		wr(m, VIRTIO_MMIO_QUEUE_READY, !(missing & 1u << q));
	}
	wr(m, VIRTIO_MMIO_STATUS, 15);
}

static uint16_t word(unsigned at)
{
	uint16_t v;

	memcpy(&v, ram + at, sizeof(v));
	return v;
}

/* What the device has said on an honest control queue since the last call. */
static void check_control(struct machine *m)
{
	unsigned q = 2 * AREA;

	while (m->control_seen != word(q + USED + 2)) {
		unsigned element = q + USED + 4 + 8 * (m->control_seen++ % SIZE);
		struct virtio_console_control msg;

		if (word(element + 4) == 0)
			continue;
		memcpy(&msg, ram + q + BUFFERS + 64 * word(element), sizeof(msg));
		require(msg.id > 0 && msg.id < PORTS);
		if (msg.event == VIRTIO_CONSOLE_PORT_ADD) {
			require(!m->added[msg.id]);
			m->added[msg.id] = true;
		}
		require(m->added[msg.id]);
	}
}

static void put_descriptor(unsigned at, uint64_t addr, uint32_t len, unsigned flags, unsigned to)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {addr, len, (uint16_t)flags, (uint16_t)to};

	memcpy(ram + at, &d, sizeof(d));
}

static void offer(unsigned q, unsigned head)
{
	unsigned avail = q * AREA + AVAIL;
	uint16_t idx = word(avail + 2), value = (uint16_t)head;

	memcpy(ram + avail + 4 + 2 * (idx % SIZE), &value, sizeof(value));
	idx++;
	memcpy(ram + avail + 2, &idx, sizeof(idx));
}

/* Chains of one to three descriptors, direct or not, mostly of the kind that the queue wants. */
static void any_chain(unsigned q, struct input *in)
{
	uint8_t how = next(in);
	unsigned head = how % SIZE;
	unsigned base = q * AREA;
	unsigned table = how & 16 ? base + TABLE : base + 16 * head;
	unsigned write = (q % 2 == 0) != (how >> 7) ? 2 : 0;

	put_descriptor(table, base + BUFFERS + head * 64, next(in), write | (how & 32 ? 1 : 0),
		       how & 16 ? 1 : (head + 1) % SIZE);
	if (how & 16) {
		put_descriptor(table + 16, base + BUFFERS, next(in), write | (how & 64 ? 1 : 0), 2);
		put_descriptor(table + 32, base + BUFFERS + 4, (uint32_t)next(in) << 24, write, 0);
		put_descriptor(base + 16 * head, table, how & 64 ? 48 : 32, 4, 0);
	}
	offer(q, head);
}

/* A control message as drivers send it, of a port that may be there. */
static void control(struct machine *m, struct input *in)
{
	struct virtio_console_control msg = {
	    .id = next(in) % (PORTS + 1), .event = next(in) % 8, .value = next(in) & 1};
	unsigned head = word(3 * AREA + AVAIL + 2) % SIZE;

	memcpy(ram + 3 * AREA + BUFFERS + 64 * head, &msg, sizeof(msg));
	put_descriptor(3 * AREA + 16 * head, 3 * AREA + BUFFERS + 64 * head, sizeof(msg), 0, 0);
	offer(3, head);
	head = word(2 * AREA + AVAIL + 2) % SIZE;
	if (word(2 * AREA + AVAIL + 2) - word(2 * AREA + USED + 2) < (int)SIZE) {
		put_descriptor(2 * AREA + 16 * head, 2 * AREA + BUFFERS + 64 * head, 64, 2, 0);
		offer(2, head);
	}
	wr(m, VIRTIO_MMIO_QUEUE_NOTIFY, 3);
	virtio_console_ops.notify(m->vc, 3);
}

static void any_access(struct machine *m, struct input *in)
{
	unsigned how = next(in);
	unsigned len = how & 0x20 ? 4 : 1u << how % 4;
	uint64_t off = (next(in) | (how & 0x80) << 1) & ~(how & 0x40 ? 0u : 3u);
	uint64_t value = next(in) | (uint64_t)next(in) << 24;

	if (off + len > VIRTIO_MMIO_LEN)
		return;
	if (how & 0x10)
		virtio_mmio_io_ops.write(m->mmio, off, len, value);
	else
		(void)virtio_mmio_io_ops.read(m->mmio, off, len);
}

static void host_side(struct machine *m, unsigned ports, struct input *in)
{
	static const uint8_t text[200];
	uint8_t how = next(in);
	unsigned port = how % ports;

	m->host[port].room = (size_t)next(in) * (how & 64 ? 1 : 16);
	virtio_console_tx_resume(m->vc, port);
	if (virtio_console_rx_ready(m->vc, port))
		(void)virtio_console_rx_push(m->vc, port, text, next(in) % sizeof(text));
	if (how & 32)
		virtio_console_set_open(m->vc, port, how & 16);
	if (how & 128)
		virtio_console_resize(m->vc, next(in), next(in));
}

/* Nothing is touched after a reset, whatever the host sides do. */
static void reset(struct machine *m, unsigned ports, struct input *in)
{
	static uint8_t before[RAM];

	wr(m, VIRTIO_MMIO_STATUS, 0);
	for (unsigned i = 0; i < PORTS; i++)
		require(!m->host[i].open);
	memcpy(before, ram, sizeof(ram));
	host_side(m, ports, in);
	for (unsigned q = 0; q < (ports > 1 ? QUEUES : 2); q++)
		virtio_console_ops.notify(m->vc, q);
	require(memcmp(before, ram, sizeof(ram)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};
	uint8_t first = next(&in);
	unsigned ports = first & 1 ? PORTS : 1;
	unsigned queues = first & 1 ? QUEUES : 2;
	bool honest = true; /* the guest has not written over its own control queue */

	memset(&m, 0, sizeof(m));
	machine_make(&m, ports - 1);
	start(&m, first >> 1, 0);
	for (unsigned steps = 0; in.len > 0 && steps < 512; steps++) {
		unsigned op = next(&in), q = (op >> 3) % queues;

		switch (op % 8) {
		case 0:
			any_access(&m, &in);
			honest = false;
			break;
		case 1:
			start(&m, (uint8_t)(op >> 3), op & 64 ? next(&in) : 0);
			honest = !(op & 64);
			break;
		case 2:
		case 3:
			any_chain(q, &in);
			honest = honest && q / 2 != 1;
			break;
		case 4:
			virtio_console_ops.notify(m.vc, q);
			break;
		case 5:
			host_side(&m, ports, &in);
			break;
		case 6:
			if (op & 128)
				reset(&m, ports, &in);
			else if (ports > 1)
				control(&m, &in);
			break;
		default: {
			unsigned at = (next(&in) << 8 | next(&in)) % RAM;

			ram[at] = next(&in);
			honest = honest && at / AREA != 2;
			break;
		}
		}
		if (honest && ports > 1)
			check_control(&m);
	}
	virtio_mmio_io_ops.destroy(m.mmio);
	loop_free(m.loop);
	return 0;
}
