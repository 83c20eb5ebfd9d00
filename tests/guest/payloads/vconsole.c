/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (VIRTIO 1.2 §5.3) from ring 3. The first device is the console, whose output comes
 * out between the lines that this payload prints on COM1; the second has the named ports "loop",
 * which gives back what is written to it, and "full", a file on a full disk.
 *
 * via=uart, via=hvc: only 64 KiB that way, for whoever counts exits.
 */
#include "rt.h"
#include "time.h"
#include "vring.h"

#define CONSOLE_DEVICE_ID 3
#define QUEUE		  32
#define WAIT_MS		  5000
#define BULK		  (64u << 10)
#define CHUNK		  4096u

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)
#define ALL	    (VF_INDIRECT_DESC | VF_EVENT_IDX | F_SIZE | F_MULTIPORT)

enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, NAME };
enum { LOOP = 1, FULL = 2, PORTS = 3 };

struct control {
	uint32_t id;
	uint16_t event, value;
	char name[56];
};

static struct vdev dev;
static struct vring rx[PORTS], tx[PORTS], control_rx, control_tx;
static uint8_t *buf; /* 256 KiB */
static struct control *heard, *said;

static bool start(unsigned queues)
{
	struct vring *q[] = {&rx[0],	&tx[0],	   &control_rx, &control_tx,
			     &rx[LOOP], &tx[LOOP], &rx[FULL],	&tx[FULL]};

	if (!vdev_negotiate(&dev, ALL))
		return false;
	for (unsigned i = 0; i < queues; i++) {
		vring_clear(q[i]);
		if (!vring_enable(q[i]))
			return false;
	}
	vdev_add_status(&dev, VSTATUS_DRIVER_OK);
	return vdev_status(&dev) == 15;
}

static bool open_device(unsigned n, unsigned queues)
{
	struct vring *q[] = {&rx[0],	&tx[0],	   &control_rx, &control_tx,
			     &rx[LOOP], &tx[LOOP], &rx[FULL],	&tx[FULL]};

	if (!vdev_find(CONSOLE_DEVICE_ID, n, &dev) || !vdev_negotiate(&dev, ALL))
		return false;
	for (unsigned i = 0; i < queues; i++)
		vring_alloc(q[i], &dev, i, QUEUE);
	buf = dma_alloc(256 << 10, 4096);
	heard = dma_alloc(QUEUE * sizeof(*heard), 4096);
	said = dma_alloc(sizeof(*said), 64);
	return start(queues);
}

#define OPEN_CONSOLE() EXPECT(open_device(0, 2))
#define OPEN_PORTS()   EXPECT(open_device(1, 8))

/* Offers a buffer; its head, or -1. */
static int offer(struct vring *q, void *at, uint32_t len, bool write)
{
	const struct vseg seg = {(uint64_t)at, len, write};
	int head = vring_chain(q, &seg, 1);

	if (head >= 0)
		vring_offer(q, (uint16_t)head);
	return head;
}

/* The used length of the next buffer that comes back; ~0: none does. */
static uint32_t take(struct vring *q, unsigned ms)
{
	uint32_t id, len;

	if (!vring_take_wait(q, ms, &id, &len))
		return ~0u;
	vring_free(q, (uint16_t)id);
	return len;
}

static bool send(struct vring *q, const void *bytes, uint32_t len)
{
	memcpy(buf, bytes, len);
	if (offer(q, buf, len, false) < 0)
		return false;
	vring_kick(q);
	return take(q, WAIT_MS) == 0;
}

/* --- 64 KiB --- */

static void fill_lines(void)
{
	for (unsigned i = 0; i < BULK; i++)
		buf[i] = i % 64 == 63 ? '\n' : (uint8_t)('a' + i % 26);
}

static void bulk_uart(void)
{
	buf = dma_alloc(BULK, 4096);
	fill_lines();
	print_bytes((const char *)buf, BULK);
}

static void bulk_hvc(void)
{
	OPEN_CONSOLE();
	fill_lines();
	for (unsigned at = 0; at < BULK; at += CHUNK) {
		EXPECT(offer(&tx[0], buf + at, CHUNK, false) >= 0);
		vring_kick(&tx[0]);
		EXPECT_EQ(take(&tx[0], WAIT_MS), 0);
	}
}

/* --- the console --- */

static void identity(void)
{
	OPEN_CONSOLE();
	EXPECT_EQ(vdev_offered(&dev), VF_VERSION_1 | VF_INDIRECT_DESC | VF_EVENT_IDX | F_SIZE);
	vreg_set(&dev, VREG_QUEUE_SEL, 2);
	EXPECT_EQ(vreg(&dev, VREG_QUEUE_NUM_MAX), 0);
}

/* The suite looks for the whole line. */
static void order(void)
{
	OPEN_CONSOLE();
	print("order: one ");
	EXPECT(send(&tx[0], "two ", 4));
	print("three ");
	EXPECT(send(&tx[0], "four\n", 5));
}

static void input(void)
{
	static const char line[] = "# vconsole: send me a line\n";

	OPEN_CONSOLE();
	EXPECT(offer(&rx[0], buf, 5, true) >= 0);
	EXPECT(offer(&rx[0], buf + CHUNK, CHUNK, true) >= 0);
	vring_kick(&rx[0]);
	/* By hvc0, from which on input is its. */
	EXPECT(send(&tx[0], line, sizeof(line) - 1));
	EXPECT_EQ(take(&rx[0], WAIT_MS), 5);
	EXPECT_EQ(take(&rx[0], WAIT_MS), 6);
	EXPECT_EQ(memcmp(buf, "hello", 5), 0);
	EXPECT_EQ(memcmp(buf + CHUNK, ", hvc\n", 6), 0);
}

/* Buffers that have no business in a queue, or no bytes. */
static void odd_buffers(void)
{
	const struct vseg mixed[] = {
	    {(uint64_t)buf, 0, false}, {(uint64_t)buf, 1, false}, {(uint64_t)buf + 64, 16, true}};
	int head;

	OPEN_CONSOLE();
	buf[0] = '\n';
	buf[64] = 0x5a;
	EXPECT(offer(&tx[0], buf, 16, true) >= 0);
	EXPECT(offer(&tx[0], buf, 0, false) >= 0);
	head = vring_chain(&tx[0], mixed, ARRAY_SIZE(mixed));
	EXPECT(head >= 0);
	vring_offer(&tx[0], (uint16_t)head);
	vring_kick(&tx[0]);
	for (unsigned i = 0; i < 3; i++)
		EXPECT_EQ(take(&tx[0], WAIT_MS), 0);
	EXPECT_EQ(buf[64], 0x5a);
}

static void broken_ring(void)
{
	OPEN_CONSOLE();
	vring_offer(&tx[0], QUEUE + 1);
	vring_kick_always(&tx[0]);
	EXPECT(vdev_status(&dev) & VSTATUS_NEEDS_RESET);
	EXPECT(start(2));
	EXPECT(send(&tx[0], "\n", 1));
}

/* Buffers outside of memory: each comes back, and the device lives. */
static void outside(void)
{
	static const uint64_t where[] = {0xc0000000ull, 0xfee00000ull, ~0ull, 1ull << 40};

	OPEN_CONSOLE();
	for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
		EXPECT(offer(&tx[0], (void *)where[i], CHUNK, false) >= 0);
		vring_kick_always(&tx[0]);
		EXPECT_EQ(take(&tx[0], WAIT_MS), 0);
	}
	EXPECT(send(&tx[0], "\n", 1));
}

/* --- named ports --- */

static bool say(uint32_t id, unsigned event, unsigned value)
{
	*said = (struct control){.id = id, .event = (uint16_t)event, .value = (uint16_t)value};
	if (offer(&control_tx, said, 8, false) < 0)
		return false;
	vring_kick(&control_tx);
	return take(&control_tx, WAIT_MS) == 0;
}

static void listen(void)
{
	for (unsigned i = 0; i < QUEUE; i++)
		offer(&control_rx, &heard[i], sizeof(heard[i]), true);
	vring_kick(&control_rx);
}

/* The next message; NULL: none comes. Its buffer is not given back: there are enough. */
static const struct control *hear(unsigned ms)
{
	uint32_t id, len;

	if (!vring_take_wait(&control_rx, ms, &id, &len) || len < 8)
		return NULL;
	return (const struct control *)control_rx.desc[id].addr;
}

static bool hear_this(uint32_t id, unsigned event, unsigned value)
{
	const struct control *c = hear(WAIT_MS);

	return c && c->id == id && c->event == event && c->value == value;
}

static bool open_port(uint32_t id, const char *name)
{
	const struct control *c;

	if (!say(id, PORT_READY, 1))
		return false;
	c = hear(WAIT_MS);
	if (!c || c->id != id || c->event != NAME || memcmp(c->name, name, strlen(name)) != 0)
		return false;
	return hear_this(id, PORT_OPEN, 1) && say(id, PORT_OPEN, 1);
}

static bool open_ports(void)
{
	listen();
	return say(0, DEVICE_READY, 1) && hear_this(LOOP, DEVICE_ADD, 1) &&
	       hear_this(FULL, DEVICE_ADD, 1) && open_port(LOOP, "loop") && open_port(FULL, "full");
}

static void port_names(void)
{
	OPEN_PORTS();
	EXPECT_EQ(vreg(&dev, VREG_CONFIG + 4), PORTS);
	EXPECT(open_ports());
}

/*
 * 256 KiB through the FIFO and back. It holds 64 KiB: the rest waits in our own ring, and nothing
 * is lost or turned around.
 */
static void port_loop(void)
{
	uint8_t *in = dma_alloc(256 << 10, 4096);
	unsigned done = 0, got = 0;

	OPEN_PORTS();
	EXPECT(open_ports());
	for (unsigned i = 0; i < 256u << 10; i++)
		buf[i] = (uint8_t)(i * 13 + i / 257);
	for (unsigned at = 0; at < 256u << 10; at += 16u << 10)
		EXPECT(offer(&tx[LOOP], buf + at, 16u << 10, false) >= 0);
	vring_kick(&tx[LOOP]);
	/* The FIFO's part, however long it takes; then it stands still. */
	while (take(&tx[LOOP], done < 3 ? WAIT_MS : 200) == 0)
		done++;
	EXPECT(done >= 3 && done < 8);
	while (got < 256u << 10) {
		uint32_t len;

		EXPECT(offer(&rx[LOOP], in + got, (256u << 10) - got, true) >= 0);
		vring_kick(&rx[LOOP]);
		len = take(&rx[LOOP], WAIT_MS);
		EXPECT(len >= 1 && len <= (256u << 10) - got);
		got += len;
	}
	while (done < 16 && take(&tx[LOOP], WAIT_MS) == 0)
		done++;
	EXPECT_EQ(done, 16);
	EXPECT_EQ(memcmp(in, buf, 256 << 10), 0);
}

/* Every buffer comes back, however full the disk is; the suite counts the lines in the log. */
static void port_full(void)
{
	OPEN_PORTS();
	EXPECT(open_ports());
	for (unsigned i = 0; i < 64; i++) {
		EXPECT(offer(&tx[FULL], buf, CHUNK, false) >= 0);
		vring_kick(&tx[FULL]);
		EXPECT_EQ(take(&tx[FULL], WAIT_MS), 0);
	}
}

static void hostile_control(void)
{
	static const uint32_t ids[] = {0, LOOP, FULL, PORTS, 77, 0x80000000, ~0u};

	OPEN_PORTS();
	EXPECT(open_ports());
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		for (unsigned event = 0; event < 16; event++)
			EXPECT(say(ids[i], event, event != PORT_OPEN));
	}
	for (uint32_t len = 0; len < 8; len++) {
		EXPECT(offer(&control_tx, said, len, false) >= 0);
		vring_kick(&control_tx);
		EXPECT_EQ(take(&control_tx, WAIT_MS), 0);
	}
	/* Nothing of it makes the device say a thing, least of all add a port again. */
	EXPECT(hear(100) == NULL);
	EXPECT(say(FULL, PORT_OPEN, 1));
	EXPECT(send(&tx[FULL], "alive", 5));
}

/* A driver that never gives a buffer for control messages, and asks all the same. */
static void no_control_buffers(void)
{
	OPEN_PORTS();
	for (unsigned i = 0; i < 1000; i++)
		EXPECT(say(0, DEVICE_READY, 1));
	listen();
	EXPECT(hear_this(LOOP, DEVICE_ADD, 1));
	EXPECT(hear_this(FULL, DEVICE_ADD, 1));
	EXPECT(hear(100) == NULL);
}

static const struct test_case cases[] = {
    {"identity", identity, 3},
    {"order", order, 3},
    {"input", input, 3},
    {"odd_buffers", odd_buffers, 3},
    {"broken_ring", broken_ring, 3},
    {"outside", outside, 3},
    {"port_names", port_names, 3},
    {"port_loop", port_loop, 3},
    {"port_full", port_full, 3},
    {"hostile_control", hostile_control, 3},
    {"no_control_buffers", no_control_buffers, 3},
};

static const struct test_case uart_case[] = {{"bulk_uart", bulk_uart, 3}};
static const struct test_case hvc_case[] = {{"bulk_hvc", bulk_hvc, 3}};

int payload_main(void)
{
	const char *via = cmdline_word("via", 0);

	if (via)
		return run_cases("vconsole", *via == 'u' ? uart_case : hvc_case, 1);
	return run_cases("vconsole", cases, ARRAY_SIZE(cases));
}
