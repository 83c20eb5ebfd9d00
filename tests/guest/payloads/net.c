/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net from ring 3, with the services of tests/lib/net_peer.c at the other end of a tap or of
 * a passt socket (word "stream"): frames of all sizes, in quantity, over rings that are full, and
 * what no driver may send.
 */
#include "rt.h"
#include "time.h"
#include "vnet.h"

#define FEATURES  (VF_INDIRECT_DESC | VF_EVENT_IDX | VNET_F_MAC | VNET_F_STATUS | VNET_F_MRG_RXBUF)
#define WAIT_MS	  10000
#define TX_FRAMES 16u /* of the largest size, in memory at once */

static struct vnet v;

/* The frame follows its header at once, and is aligned. */
struct tx_frame {
	uint8_t pad[4];
	struct vnet_hdr hdr;
	struct net_frame frame;
	uint8_t rest[NET_SERVICE_FRAME - sizeof(struct net_frame)];
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct tx_frame, frame) == offsetof(struct tx_frame, hdr) + VNET_HDR, "");

static struct tx_frame *tx;
static union {
	struct net_frame frame;
	uint8_t bytes[VNET_FRAME_MAX];
} rx;
static struct vnet_hdr rx_hdr;

#define OPEN(features)                                                                             \
	do {                                                                                       \
		EXPECT(vnet_open(&v, 0, features));                                                \
		tx = dma_alloc(TX_FRAMES * sizeof(*tx), 16);                                       \
		vnet_refill(&v);                                                                   \
		EXPECT(synchronize());                                                             \
	} while (0)

/* --- frames --- */

/* From us to anybody: a service and its first number. The rest of the frame is the pattern. */
static struct net_frame *prepare(unsigned slot, enum net_service service, uint32_t len,
				 uint32_t number)
{
	struct net_frame *f = &tx[slot].frame;

	tx[slot].hdr = (struct vnet_hdr){.flags = 0};
	*f = (struct net_frame){.dst = {2, 0, 0, 0, 0, 0x99},
				.type = {NET_ETHERTYPE >> 8, NET_ETHERTYPE & 0xff},
				.service = (uint8_t)service,
				.number = number};
	memcpy(f->src, v.mac, 6);
	net_fill(f, len);
	return f;
}

static bool transmit(unsigned slot, uint32_t len)
{
	if (!vnet_offer(&v, &tx[slot].hdr, len))
		return false;
	vring_kick(&v.tx);
	return true;
}

/* The next frame of this service and number; others are an error. */
static int expect(enum net_service service, uint32_t number)
{
	int len = vnet_receive(&v, &rx_hdr, &rx.frame, WAIT_MS);

	vnet_refill(&v);
	if (len <= 0) {
		print("# net: no frame %u of service %u\n", number, service);
		return -1;
	}
	if (rx.frame.service != service || rx.frame.number != number) {
		print("# net: service %u, number %u; want %u, %u\n", rx.frame.service,
		      rx.frame.number, service, number);
		return -1;
	}
	return len;
}

/* What an earlier case had asked for is thrown away, and what it had counted. */
static bool synchronize(void)
{
	uint32_t number = (uint32_t)rdtsc() | 0x80000000;
	int len;

	prepare(0, NET_REPORT, 64, number);
	if (!transmit(0, 64))
		return false;
	do {
		len = vnet_receive(&v, &rx_hdr, &rx.frame, WAIT_MS);
		vnet_refill(&v);
	} while (len > 0 && (rx.frame.service != NET_REPORT || rx.frame.number != number));
	return len > 0 && vnet_sent(&v, 0, WAIT_MS);
}

static bool pattern_right(const struct net_frame *f, uint32_t len)
{
	static union {
		struct net_frame frame;
		uint8_t bytes[VNET_FRAME_MAX];
	} want;

	want.frame = *f;
	net_fill(&want.frame, len);
	return memcmp(&want, f, len) == 0;
}

static bool echo(uint32_t len, uint32_t number)
{
	prepare(0, NET_ECHO, len, number);
	return transmit(0, len) && expect(NET_ECHO, number) == (int)len &&
	       memcmp(rx.frame.dst, v.mac, 6) == 0 && pattern_right(&rx.frame, len) &&
	       vnet_sent(&v, 0, WAIT_MS);
}

/* --- cases --- */

static void configuration(void)
{
	static const uint8_t mac[6] = {2, 0, 0, 0x12, 0x34, 0x56};
	uint64_t offered;

	OPEN(FEATURES);
	EXPECT_EQ(memcmp(v.mac, mac, 6), 0);
	EXPECT_EQ(*(volatile uint16_t *)(v.dev.base + VREG_CONFIG + 6), 1); /* link up */
	offered = vdev_offered(&v.dev);
	EXPECT_EQ(offered & VNET_F_OFFLOADS, cmdline_has("stream") ? 0 : VNET_F_OFFLOADS);
}

static void echo_sizes(void)
{
	static const uint32_t sizes[] = {48,   60,   61,   1513,  1514,	 1515, 4084,
					 4085, 8180, 8181, 20000, 65000, 65500};

	OPEN(FEATURES);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
			EXPECT(echo(sizes[i], round * 100 + i));
	}
	EXPECT_EQ(rx_hdr.num_buffers, (VNET_HDR + 65500 + VNET_BUF - 1) / VNET_BUF);
	EXPECT_EQ(rx_hdr.flags | rx_hdr.gso_type, 0);
}

/* A frame in many descriptors of odd sizes, a header cut by them. */
static void gather(void)
{
	struct vseg seg[40];
	uint32_t left = VNET_HDR + 3000, n = 0;
	uint64_t at;
	int head;

	OPEN(FEATURES);
	prepare(0, NET_ECHO, 3000, 7);
	at = (uint64_t)&tx[0].hdr;
	while (left) {
		uint32_t len = n < 4 ? 5 : 101;

		len = len < left ? len : left;
		seg[n++] = (struct vseg){at, len, false};
		at += len;
		left -= len;
	}
	head = vring_chain(&v.tx, seg, n);
	EXPECT(head >= 0);
	vring_offer(&v.tx, (uint16_t)head);
	vring_kick(&v.tx);
	EXPECT_EQ(expect(NET_ECHO, 7), 3000);
	EXPECT(pattern_right(&rx.frame, 3000));
}

/* --- in quantity --- */

static void print_rate(const char *what, uint64_t bytes, uint64_t frames, uint64_t ticks)
{
	uint64_t us = tsc_to_us(ticks);

	print("# net: %s %lu MiB in %lu frames, %lu ms: %lu MiB/s\n", what, bytes >> 20, frames,
	      us / 1000, us ? (bytes >> 20) * 1000000 / us : 0);
}

/* Frames of `len` to the peer, as fast as they go; what arrived is what was sent. */
static void send_many(uint32_t len, uint64_t bytes)
{
	/* A tap's reader may lose what it cannot keep up with; it says so at each window's end. */
	uint32_t window = len > 10000 ? 64 : 200;
	uint64_t frames = (bytes + len - 1) / len, sum = 0, ticks = 0;
	uint32_t sent = 0;

	for (unsigned i = 0; i < TX_FRAMES - 1; i++)
		prepare(i, NET_SINK, len, i);
	while (sent < frames) {
		uint32_t n = frames - sent < window ? (uint32_t)(frames - sent) : window;
		uint64_t before = rdtsc();

		sum = 0;
		for (uint32_t i = 0; i < n; i++) {
			unsigned slot = i % (TX_FRAMES - 1);

			EXPECT(vnet_sent(&v, 200, WAIT_MS));
			EXPECT(vnet_offer(&v, &tx[slot].hdr, len));
			if (i % 16 == 15 || i + 1 == n)
				vring_kick(&v.tx);
		}
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
		ticks += rdtsc() - before;
		for (uint32_t i = 0; i < n; i++)
			sum += net_sum(&tx[i % (TX_FRAMES - 1)].frame, len);
		prepare(TX_FRAMES - 1, NET_REPORT, 64, sent);
		EXPECT(transmit(TX_FRAMES - 1, 64));
		EXPECT(expect(NET_REPORT, sent) > 0);
		EXPECT_EQ(rx.frame.frames, n);
		EXPECT_EQ(rx.frame.bytes, (uint64_t)n * len);
		EXPECT_EQ(rx.frame.sum, sum);
		sent += n;
	}
	print_rate("sent", bytes, frames, ticks);
}

static void receive_many(uint32_t len, uint64_t bytes)
{
	uint32_t window = len > 10000 ? 64 : 500;
	uint64_t frames = (bytes + len - 1) / len, ticks = 0;
	uint32_t got = 0;

	while (got < frames) {
		uint32_t n = frames - got < window ? (uint32_t)(frames - got) : window;
		struct net_frame *f = prepare(0, NET_SOURCE, 64, got);
		uint64_t before = rdtsc();

		f->arg = n;
		f->size = len;
		EXPECT(transmit(0, 64));
		for (uint32_t i = 0; i < n; i++, got++) {
			EXPECT_EQ(expect(NET_DATA, got), len);
			/* Every byte of some, the first ones of all. */
			if (i % 16 == 0)
				EXPECT(pattern_right(&rx.frame, len));
		}
		ticks += rdtsc() - before;
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
	}
	print_rate("received", bytes, frames, ticks);
}

static uint64_t quantity(void)
{
	return cmdline_number("mib", 16) << 20;
}

static void send_large(void)
{
	OPEN(FEATURES);
	send_many(65000, quantity());
}

static void send_small(void)
{
	OPEN(FEATURES);
	send_many(1514, quantity() / 4);
}

static void receive_large(void)
{
	OPEN(FEATURES);
	receive_many(65000, quantity());
}

static void receive_small(void)
{
	OPEN(FEATURES);
	receive_many(1514, quantity() / 4);
}

/* --- full rings --- */

/* The peer sends while we have no buffers: it waits outside, none is lost. */
static void no_buffers(void)
{
	uint64_t end;

	OPEN(FEATURES);
	for (unsigned round = 0; round < 5; round++) {
		struct net_frame *f = prepare(0, NET_SOURCE, 64, round * 600);

		f->arg = 600; /* more than the ring has, less than the queue of our tap */
		f->size = 1500;
		EXPECT(transmit(0, 64));
		end = deadline_ms(50);
		while (!expired(end))
			cpu_pause();
		for (unsigned i = 0; i < 600; i++)
			EXPECT_EQ(expect(NET_DATA, round * 600 + i), 1500);
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
	}
}

/* A peer that does not read: on a stream our ring fills up and drains again, in order. */
static void slow_reader(void)
{
	struct net_frame *f;
	uint64_t sum = 0;
	uint32_t n = 200;

	OPEN(FEATURES);
	f = prepare(TX_FRAMES - 1, NET_HOLD, 64, 0);
	f->arg = 200;
	EXPECT(transmit(TX_FRAMES - 1, 64));
	EXPECT(vnet_sent(&v, 0, WAIT_MS));
	for (unsigned i = 0; i < TX_FRAMES - 1; i++)
		prepare(i, NET_SINK, 60000, i);
	for (uint32_t i = 0; i < n; i++) {
		EXPECT(vnet_offer(&v, &tx[i % (TX_FRAMES - 1)].hdr, 60000));
		vring_kick(&v.tx);
		sum += net_sum(&tx[i % (TX_FRAMES - 1)].frame, 60000);
	}
	print("# net: %u of %u frames wait for the reader\n", vnet_reap(&v), n);
	EXPECT(vnet_sent(&v, 0, WAIT_MS));
	prepare(TX_FRAMES - 1, NET_REPORT, 64, 1);
	EXPECT(transmit(TX_FRAMES - 1, 64));
	EXPECT(expect(NET_REPORT, 1) > 0);
	EXPECT_EQ(rx.frame.frames, n);
	EXPECT_EQ(rx.frame.sum, sum);
}

/* --- what no driver may send --- */

static void malformed_headers(void)
{
	static const struct vnet_hdr bad[] = {
	    {.flags = 1, .csum_start = 34, .csum_offset = 2000},
	    {.flags = 1, .csum_start = 65535, .csum_offset = 65535},
	    {.flags = 1, .csum_start = 0, .csum_offset = 0},
	    {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .hdr_len = 54},
	    {.flags = 1, .csum_start = 34, .gso_type = 1, .gso_size = 1, .hdr_len = 65535},
	    {.flags = 1, .csum_start = 34, .gso_type = 3, .gso_size = 100, .hdr_len = 42},
	    {.flags = 1, .csum_start = 34, .gso_type = 5, .gso_size = 100, .hdr_len = 42},
	    {.flags = 1, .csum_start = 34, .gso_type = 0x7f, .gso_size = 100, .hdr_len = 42},
	    {.flags = 1, .csum_start = 34, .gso_type = 0x80, .gso_size = 100, .hdr_len = 42},
	    {.gso_type = 4, .gso_size = 1, .hdr_len = 54},
	    {.flags = 0xff,
	     .gso_type = 0xff,
	     .hdr_len = 0xffff,
	     .gso_size = 0xffff,
	     .csum_start = 0xffff,
	     .csum_offset = 0xffff,
	     .num_buffers = 0xffff},
	};

	OPEN(FEATURES | VNET_F_OFFLOADS);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		prepare(0, NET_ECHO, 1000, 1000 + i);
		tx[0].hdr = bad[i];
		EXPECT(transmit(0, 1000));
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
	}
	EXPECT(echo(1000, 1)); /* and none of the others came back */
}

static void wrong_lengths(void)
{
	static const uint32_t lens[] = {0, 1, 11, 12, 13, 25, 12 + 65551, 200000};

	OPEN(FEATURES);
	prepare(0, NET_ECHO, 60000, 9);
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		struct vseg seg = {(uint64_t)&tx[0].hdr, lens[i], false};

		vring_offer(&v.tx, (uint16_t)vring_chain(&v.tx, &seg, 1));
		vring_kick(&v.tx);
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
	}
	EXPECT(echo(1000, 1));
}

/* Receive buffers that are nowhere, read-only or too small, among good ones. */
static void bad_buffers(void)
{
	static const struct vseg bad[] = {
	    {0xfffffffffffff000, VNET_BUF, true},
	    {0x0000100000000000, VNET_BUF, true},
	    {0xc0000000, VNET_BUF, true},
	    {0x1000000, 11, true},
	    {0x100000, 0, true},
	};
	uint32_t id, len;

	EXPECT(vnet_open(&v, 0, FEATURES));
	tx = dma_alloc(TX_FRAMES * sizeof(*tx), 16);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		vring_offer(&v.rx, (uint16_t)vring_chain(&v.rx, &bad[i], 1));
	vring_kick(&v.rx);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT(vring_take_wait(&v.rx, WAIT_MS, &id, &len));
		EXPECT_EQ(len, 0);
		vring_free(&v.rx, (uint16_t)id);
	}
	vnet_refill(&v);
	EXPECT(echo(1514, 1));
}

/* After Status reads 0 no buffer changes, however many frames were on their way (§2.4.1). */
static void reset_in_flight(void)
{
	for (unsigned round = 0; round < 20; round++) {
		struct net_frame *f;
		uint16_t used;

		dma_reset();
		OPEN(FEATURES);
		f = prepare(0, NET_SOURCE, 64, 0);
		f->arg = 100;
		f->size = 1500;
		EXPECT(transmit(0, 64));
		delay_us(round * 50);
		EXPECT(vdev_reset(&v.dev));
		used = v.rx.used->idx;
		memset(v.buf, 0x55, VNET_QUEUE * VNET_BUF);
		delay_us(2000);
		EXPECT_EQ(v.rx.used->idx, used);
		for (unsigned i = 0; i < VNET_QUEUE * VNET_BUF; i += 61)
			EXPECT_EQ(v.buf[i], 0x55);
	}
}

/* --- the link --- */

/* The last case: there is no other end any more. */
static void link_down(void)
{
	uint64_t end;

	OPEN(FEATURES);
	EXPECT(echo(100, 1));
	prepare(0, NET_DROP, 64, 0);
	EXPECT(transmit(0, 64));
	end = deadline_ms(WAIT_MS);
	/* The field changes first, then the interrupt tells of it. */
	while (!(vreg(&v.dev, VREG_INTERRUPT_STATUS) & 2))
		EXPECT(!expired(end));
	EXPECT_EQ(*(volatile uint16_t *)(v.dev.base + VREG_CONFIG + 6), 0);
	for (unsigned i = 0; i < 1000; i++) {
		prepare(0, NET_ECHO, 1000, i);
		EXPECT(transmit(0, 1000));
		EXPECT(vnet_sent(&v, 0, WAIT_MS));
	}
	EXPECT_EQ(vnet_receive(&v, &rx_hdr, &rx.frame, 10), 0);
}

static const struct test_case cases[] = {
    {"configuration", configuration, 3},
    {"echo_sizes", echo_sizes, 3},
    {"gather", gather, 3},
    {"send_large", send_large, 3},
    {"send_small", send_small, 3},
    {"receive_large", receive_large, 3},
    {"receive_small", receive_small, 3},
    {"no_buffers", no_buffers, 3},
    {"slow_reader", slow_reader, 3},
    {"malformed_headers", malformed_headers, 3},
    {"wrong_lengths", wrong_lengths, 3},
    {"bad_buffers", bad_buffers, 3},
    {"reset_in_flight", reset_in_flight, 3},
    {"link_down", link_down, 3},
};

int payload_main(void)
{
	return run_cases("net", cases, ARRAY_SIZE(cases));
}
