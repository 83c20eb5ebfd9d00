/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (VIRTIO 1.2 §5.10) from ring 3, against the services of tests/lib/vsock_peer.c:
 * bytes and connections in quantity, memory that stays flat, and drivers that lie.
 */
#include "rt.h"
#include "time.h"
#include "vsock_services.h"
#include "vvsock.h"

#define FEATURES  (VF_INDIRECT_DESC | VF_EVENT_IDX)
#define WAIT_MS	  10000
#define BUF_ALLOC (1u << 20) /* what we say of ourselves */
#define PORT	  5000u	     /* of ours, where there is one connection */

#define STREAM_BYTES (64ul << 20)
#define AT_ONCE	     1000u
#define IN_TURN	     10000u
#define IN_TURN_MS   20000u /* machines in software do not come so far */
/* KiB by which minivm's memory may differ when nothing has changed but time. */
#define MEMORY_SLACK 128u

struct conn {
	uint32_t guest_port, host_port;
	uint32_t received, told;
	uint32_t sent, peer_alloc, peer_fwd;
	bool no_more; /* RST or SHUTDOWN came */
};

static struct vvsock v;
static uint32_t next_port = 20000;

#define OPEN() EXPECT(vvsock_open(&v, FEATURES))

static struct vvsock_hdr header(struct conn *c, unsigned op)
{
	struct vvsock_hdr h = vvsock_header(&v, op, c->guest_port, c->host_port);

	h.buf_alloc = BUF_ALLOC;
	h.fwd_cnt = c->received;
	return h;
}

/* The packet is sent, and with it what we say of ourselves. */
static void submit(struct conn *c, int slot, const struct vvsock_hdr *h)
{
	c->told = h->fwd_cnt;
	c->sent += h->len;
	vvsock_submit(&v, slot, h, true);
}

static void say(struct conn *c, unsigned op, uint32_t flags)
{
	struct vvsock_hdr h = header(c, op);

	h.flags = flags;
	c->told = h.fwd_cnt;
	vvsock_send(&v, &h);
}

static uint32_t credit(const struct conn *c)
{
	return c->peer_alloc - (c->sent - c->peer_fwd);
}

/* What every packet of a connection says. */
static void heed(struct conn *c, const struct vvsock_packet *p)
{
	if (p->hdr.op == VSOCK_OP_RST || p->hdr.op == VSOCK_OP_SHUTDOWN)
		c->no_more = true;
	if (p->hdr.op == VSOCK_OP_RST)
		return;
	c->peer_alloc = p->hdr.buf_alloc;
	c->peer_fwd = p->hdr.fwd_cnt;
	if (p->hdr.op == VSOCK_OP_RW)
		c->received += p->hdr.len;
}

static bool belongs(const struct conn *c, const struct vvsock_packet *p)
{
	return p->hdr.src_cid == VVSOCK_HOST_CID && p->hdr.src_port == c->host_port &&
	       p->hdr.dst_port == c->guest_port && p->hdr.type == 1;
}

/* One packet, if there is one: what it says of this connection. */
static void listen_to(struct conn *c)
{
	struct vvsock_packet p;

	if (!vvsock_poll(&v, &p))
		return;
	if (belongs(c, &p))
		heed(c, &p);
	vvsock_done(&v, &p);
}

/*
 * The connection's next packet but for credit, which is to be of this kind; its buffer is given
 * back. What comes late for others is lost.
 */
static bool expect(struct conn *c, unsigned op)
{
	struct vvsock_packet p;
	bool mine;

	do {
		if (!vvsock_wait(&v, WAIT_MS, &p))
			return false;
		mine = belongs(c, &p);
		if (mine)
			heed(c, &p);
		vvsock_done(&v, &p);
	} while (!mine || p.hdr.op == VSOCK_OP_CREDIT_UPDATE);
	return p.hdr.op == op;
}

static bool dial(struct conn *c, uint32_t guest_port, uint32_t host_port)
{
	*c = (struct conn){.guest_port = guest_port, .host_port = host_port};
	say(c, VSOCK_OP_REQUEST, 0);
	return expect(c, VSOCK_OP_RESPONSE);
}

static bool hang_up(struct conn *c)
{
	say(c, VSOCK_OP_SHUTDOWN, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	return expect(c, VSOCK_OP_RST);
}

/* At most VVSOCK_TX_BYTES, and there is credit. */
static void send_bytes(struct conn *c, const void *bytes, uint32_t len)
{
	struct vvsock_hdr h = header(c, VSOCK_OP_RW);
	int slot;

	while ((slot = vvsock_slot(&v)) < 0)
		cpu_pause();
	memcpy(vvsock_payload(&v, slot), bytes, len);
	h.len = len;
	submit(c, slot, &h);
}

/* The next bytes of the connection, in packets of any size; what others get is lost. */
static bool receive_bytes(struct conn *c, void *bytes, uint32_t len)
{
	uint8_t *to = bytes;

	while (len > 0) {
		struct vvsock_packet p;
		bool mine, data;

		if (!vvsock_wait(&v, WAIT_MS, &p))
			return false;
		mine = belongs(c, &p);
		data = mine && p.hdr.op == VSOCK_OP_RW && p.hdr.len <= len;
		if (mine)
			heed(c, &p);
		if (data) {
			memcpy(to, p.data, p.hdr.len);
			to += p.hdr.len;
			len -= p.hdr.len;
		}
		vvsock_done(&v, &p);
		if (mine && !data && p.hdr.op != VSOCK_OP_CREDIT_UPDATE)
			return false;
	}
	return true;
}

/* KiB of minivm's memory; 0: not told. */
static uint64_t host_memory(void)
{
	struct conn c;
	uint64_t kib = 0;

	if (!dial(&c, next_port++, SERVICE_MEMORY) || !receive_bytes(&c, &kib, sizeof(kib)) ||
	    !expect(&c, VSOCK_OP_SHUTDOWN))
		return 0;
	say(&c, VSOCK_OP_RST, 0);
	return kib;
}

static bool flat(uint64_t before, uint64_t after)
{
	if (before != 0 && after != 0 && after <= before + MEMORY_SLACK)
		return true;
	print("# memory: %lu KiB, then %lu KiB\n", before, after);
	return false;
}

/* Bytes there and back. */
static bool echoes(struct conn *c, uint64_t word)
{
	uint64_t back = 0;

	send_bytes(c, &word, sizeof(word));
	return receive_bytes(c, &back, sizeof(back)) && back == word;
}

/* Another connection works. */
static bool alive(void)
{
	struct conn c;

	return dial(&c, next_port++, SERVICE_ECHO) && echoes(&c, 0x1234567890abcdef) && hang_up(&c);
}

/* --- connections --- */

static void identity(void)
{
	OPEN();
	EXPECT_EQ(vdev_offered(&v.dev), VF_VERSION_1 | FEATURES | 1);
	EXPECT_EQ(v.cid, 3);
	EXPECT_EQ(vreg(&v.dev, VREG_CONFIG + 4), 0);
	vreg_set(&v.dev, VREG_QUEUE_SEL, 3);
	EXPECT_EQ(vreg(&v.dev, VREG_QUEUE_NUM_MAX), 0);
}

static void there_and_back(void)
{
	struct conn c;

	OPEN();
	EXPECT(dial(&c, PORT, SERVICE_ECHO));
	for (uint64_t i = 1; i < 500; i++)
		EXPECT(echoes(&c, i));
	EXPECT(hang_up(&c));
}

static void nobody_there(void)
{
	struct conn c = {.guest_port = PORT, .host_port = SERVICE_NOBODY};

	OPEN();
	say(&c, VSOCK_OP_REQUEST, 0);
	EXPECT(expect(&c, VSOCK_OP_RST));
	EXPECT(alive());
}

/* --- bytes in quantity --- */

struct stream {
	struct conn c;
	uint64_t out, in;		    /* bytes so far */
	uint64_t out_sum, in_sum, want_sum; /* of what was sent, what came, what should come */
	uint8_t verdict[8];		    /* the host's sum */
};

/* One packet, if there is a slot and credit. */
static bool stream_out(struct stream *s)
{
	struct vvsock_hdr h = header(&s->c, VSOCK_OP_RW);
	uint64_t left = STREAM_BYTES - s->out;
	uint32_t len = left < VVSOCK_TX_BYTES ? (uint32_t)left : VVSOCK_TX_BYTES;
	int slot = len && credit(&s->c) >= len ? vvsock_slot(&v) : -1;
	uint8_t *to;

	if (slot < 0)
		return false;
	to = vvsock_payload(&v, slot);
	for (uint32_t i = 0; i < len; i++)
		to[i] = vsock_byte(1, s->out + i);
	s->out_sum = vsock_sum(s->out_sum, to, len);
	s->out += len;
	h.len = len;
	submit(&s->c, slot, &h);
	return true;
}

static void stream_take(struct stream *s, const uint8_t *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++, s->in++) {
		uint8_t want;

		if (s->in >= STREAM_BYTES) {
			s->verdict[(s->in - STREAM_BYTES) & 7] = data[i];
			continue;
		}
		want = vsock_byte(0, s->in);
		s->in_sum = vsock_sum(s->in_sum, &data[i], 1);
		s->want_sum = vsock_sum(s->want_sum, &want, 1);
	}
}

static bool stream_in(struct stream *s)
{
	struct vvsock_packet p;

	if (!vvsock_poll(&v, &p))
		return false;
	if (belongs(&s->c, &p)) {
		heed(&s->c, &p);
		if (p.hdr.op == VSOCK_OP_RW)
			stream_take(s, p.data, p.hdr.len);
	}
	vvsock_done(&v, &p);
	if (p.hdr.op == VSOCK_OP_CREDIT_REQUEST || s->c.received - s->c.told > BUF_ALLOC / 4)
		say(&s->c, VSOCK_OP_CREDIT_UPDATE, 0);
	return true;
}

static void both_ways(void)
{
	struct stream s = {
	    .out_sum = VSOCK_SUM_START, .in_sum = VSOCK_SUM_START, .want_sum = VSOCK_SUM_START};
	const uint64_t total = STREAM_BYTES;
	uint64_t end, sum;

	OPEN();
	EXPECT(dial(&s.c, PORT, SERVICE_STREAM));
	send_bytes(&s.c, &total, sizeof(total));
	end = deadline_ms(WAIT_MS);
	while (s.in < STREAM_BYTES + 8 && !s.c.no_more) {
		bool moved = stream_out(&s);

		moved = stream_in(&s) || moved;
		if (moved)
			end = deadline_ms(WAIT_MS);
		if (expired(end))
			print("# stands still: %lu out, %lu in; credit %u, slots %x\n", s.out, s.in,
			      credit(&s.c), v.tx_free);
		EXPECT(!expired(end));
		if (!moved)
			cpu_pause();
	}
	EXPECT_EQ(s.in, STREAM_BYTES + 8);
	EXPECT_EQ(s.out, STREAM_BYTES);
	memcpy(&sum, s.verdict, sizeof(sum));
	EXPECT_EQ(s.in_sum, s.want_sum);
	EXPECT_EQ(sum, s.out_sum);
	print("# %lu MiB each way, sums %lx and %lx; %lu kicks\n", STREAM_BYTES >> 20, s.in_sum,
	      s.out_sum, v.rx.kicks + v.tx.kicks);
	EXPECT(hang_up(&s.c));
}

/* --- connections in quantity --- */

/* Waits until this packet has come once for each of n connections from `first` on. */
static bool expect_all(struct conn *c, unsigned n, unsigned op)
{
	for (unsigned i = 0; i < n; i++) {
		struct vvsock_packet p;
		uint32_t index;

		if (!vvsock_wait(&v, WAIT_MS, &p))
			return false;
		vvsock_done(&v, &p);
		index = p.hdr.dst_port - c[0].guest_port;
		if (index >= n || !belongs(&c[index], &p) || p.hdr.op != op)
			return false;
		heed(&c[index], &p);
	}
	return true;
}

static void a_thousand_at_once(void)
{
	struct conn *c = dma_alloc(AT_ONCE * sizeof(*c), 16);
	uint64_t before = 0, after;

	OPEN();
	/* The first round is warming up. */
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			c[i] = (struct conn){.guest_port = 30000 + i, .host_port = SERVICE_ECHO};
			say(&c[i], VSOCK_OP_REQUEST, 0);
			EXPECT_OK_SO_FAR();
		}
		EXPECT(expect_all(c, AT_ONCE, VSOCK_OP_RESPONSE));
		for (uint64_t i = 0; i < AT_ONCE; i++)
			send_bytes(&c[i], &i, sizeof(i));
		EXPECT(expect_all(c, AT_ONCE, VSOCK_OP_RW));
		after = host_memory();
		for (unsigned i = 0; i < AT_ONCE; i++) {
			EXPECT_EQ(c[i].received, 8);
			say(&c[i], VSOCK_OP_SHUTDOWN, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
		}
		EXPECT(expect_all(c, AT_ONCE, VSOCK_OP_RST));
		EXPECT(round == 0 || flat(before, after));
		if (round == 0)
			before = after;
	}
	print("# %u connections at once: memory %lu KiB, then %lu KiB\n", AT_ONCE, before, after);
}

static void ten_thousand_in_turn(void)
{
	uint64_t before = 0, after, end = deadline_ms(IN_TURN_MS);
	unsigned i;

	OPEN();
	for (i = 0; i < IN_TURN && (i <= IN_TURN / 10 || !expired(end)); i++) {
		struct conn c;

		if (i == IN_TURN / 20)
			before = host_memory();
		EXPECT(dial(&c, PORT + i % 7, SERVICE_ECHO));
		EXPECT(echoes(&c, i));
		EXPECT(hang_up(&c));
	}
	after = host_memory();
	EXPECT(flat(before, after));
	print("# %u connections in turn: memory %lu KiB, then %lu KiB\n", i, before, after);
	if (i < IN_TURN)
		SKIP("too slow a machine for all of them");
}

/* The host calls: connections to a port of ours. */
static void the_host_calls(void)
{
	const uint32_t order[2] = {7777, 200};
	struct conn *c = dma_alloc(order[1] * sizeof(*c), 16);
	struct vvsock_packet p;
	struct conn ask;

	OPEN();
	EXPECT(dial(&ask, PORT, SERVICE_CALL));
	send_bytes(&ask, order, sizeof(order));
	for (unsigned n = 0; n < order[1];) {
		EXPECT(vvsock_wait(&v, WAIT_MS, &p));
		vvsock_done(&v, &p);
		if (belongs(&ask, &p)) {
			/* It closes this connection. */
			EXPECT_EQ(p.hdr.op, VSOCK_OP_SHUTDOWN);
			say(&ask, VSOCK_OP_RST, 0);
			continue;
		}
		EXPECT_EQ(p.hdr.op, VSOCK_OP_REQUEST);
		EXPECT_EQ(p.hdr.dst_port, 7777);
		c[n] = (struct conn){.guest_port = 7777, .host_port = p.hdr.src_port};
		heed(&c[n], &p);
		say(&c[n], VSOCK_OP_RESPONSE, 0);
		n++;
	}
	for (unsigned i = 0; i < order[1]; i++) {
		EXPECT(echoes(&c[i], i));
		EXPECT(hang_up(&c[i]));
	}
}

/* --- hosts that misbehave --- */

static void a_reader_that_stalls(void)
{
	struct conn c, go;
	struct {
		uint64_t count, sum;
	} heard;
	uint64_t sum = VSOCK_SUM_START, end, still;
	struct vvsock_packet p;

	OPEN();
	EXPECT(dial(&c, PORT, SERVICE_STALL));
	/* Until there is no credit, for a while. */
	end = deadline_ms(WAIT_MS);
	for (still = deadline_ms(300); !expired(still) && !expired(end);) {
		struct vvsock_hdr h = header(&c, VSOCK_OP_RW);
		uint32_t len = credit(&c) < VVSOCK_TX_BYTES ? credit(&c) : VVSOCK_TX_BYTES;
		int slot = len ? vvsock_slot(&v) : -1;

		if (len)
			still = deadline_ms(300);
		if (slot >= 0) {
			memset(vvsock_payload(&v, slot), (int)(c.sent >> 12), len);
			sum = vsock_sum(sum, vvsock_payload(&v, slot), len);
			h.len = len;
			submit(&c, slot, &h);
		}
		if (vvsock_poll(&v, &p)) {
			EXPECT(belongs(&c, &p) && p.hdr.op == VSOCK_OP_CREDIT_UPDATE);
			heed(&c, &p);
			vvsock_done(&v, &p);
		}
	}
	EXPECT_EQ(credit(&c), 0);
	print("# the host took %u bytes of %u\n", c.peer_fwd, c.sent);
	EXPECT(alive());
	say(&c, VSOCK_OP_SHUTDOWN, VSOCK_NO_SEND);
	go = (struct conn){.guest_port = PORT + 1, .host_port = SERVICE_GO};
	say(&go, VSOCK_OP_REQUEST, 0);
	EXPECT(receive_bytes(&c, &heard, sizeof(heard)));
	EXPECT_EQ(heard.count, c.sent);
	EXPECT_EQ(heard.sum, sum);
}

static void a_host_that_vanishes(void)
{
	static uint8_t bytes[4096];
	uint64_t before;

	OPEN();
	before = host_memory();
	for (unsigned i = 0; i < 200; i++) {
		uint64_t end = deadline_ms(WAIT_MS);
		struct conn c;

		EXPECT(dial(&c, next_port++, SERVICE_VANISH));
		while (!c.no_more) {
			if (credit(&c) >= sizeof(bytes) && c.sent < BUF_ALLOC)
				send_bytes(&c, bytes, sizeof(bytes));
			listen_to(&c);
			EXPECT(!expired(end));
		}
		say(&c, VSOCK_OP_RST, 0);
	}
	EXPECT(vvsock_restart(&v)); /* with what was still on its way */
	EXPECT(flat(before, host_memory()));
}

/* --- drivers that lie --- */

static void more_than_its_credit(void)
{
	uint64_t end = deadline_ms(WAIT_MS);
	static uint8_t bytes[VVSOCK_TX_BYTES];
	struct conn c;

	OPEN();
	EXPECT(dial(&c, PORT, SERVICE_STALL));
	while (!c.no_more) {
		if (c.sent < 4u << 20)
			send_bytes(&c, bytes, sizeof(bytes));
		listen_to(&c);
		EXPECT(!expired(end));
	}
	EXPECT(vvsock_restart(&v));
	EXPECT(alive());
}

static void receiving_what_was_not_sent(void)
{
	struct vvsock_hdr h;
	struct conn c;

	OPEN();
	EXPECT(dial(&c, PORT, SERVICE_ECHO));
	h = header(&c, VSOCK_OP_CREDIT_UPDATE);
	h.fwd_cnt = 1;
	vvsock_send(&v, &h);
	EXPECT(expect(&c, VSOCK_OP_RST));
	EXPECT(alive());
}

static uint32_t seed = 1;

static uint32_t rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* Packets in which anything may stand, some of them nearly right. */
static void random_packets(void)
{
	OPEN();
	for (unsigned i = 0; i < 20000; i++) {
		struct vvsock_packet p;
		int slot = vvsock_slot(&v);
		struct vvsock_hdr h =
		    vvsock_header(&v, rnd() % 10, PORT + rnd() % 4, SERVICE_FIRST + rnd() % 5);

		if (slot >= 0) {
			h.buf_alloc = rnd() % 3 ? BUF_ALLOC : rnd();
			h.fwd_cnt = rnd() % 8 ? 0 : rnd();
			h.len = rnd() % 4 ? 0 : rnd() % VVSOCK_TX_BYTES;
			h.flags = rnd() % 5;
			h.type = rnd() % 8 ? 1 : (uint16_t)rnd();
			h.dst_cid = rnd() % 16 ? VVSOCK_HOST_CID : rnd();
			h.src_cid = rnd() % 16 ? v.cid : rnd();
			vvsock_submit(&v, slot, &h, true);
		}
		if (rnd() % 4 && vvsock_poll(&v, &p))
			vvsock_done(&v, &p);
	}
	EXPECT(!(vdev_status(&v.dev) & VSTATUS_NEEDS_RESET));
	EXPECT(vvsock_restart(&v));
	EXPECT(alive());
}

static void reset_in_the_middle(void)
{
	OPEN();
	for (unsigned i = 0; i < 200; i++) {
		struct conn c;

		EXPECT(dial(&c, PORT, SERVICE_ECHO));
		send_bytes(&c, &c, sizeof(c));
		EXPECT(vvsock_restart(&v));
	}
	EXPECT(alive());
}

static const struct test_case cases[] = {
    {"identity", identity, 3},
    {"there_and_back", there_and_back, 3},
    {"nobody_there", nobody_there, 3},
    {"both_ways", both_ways, 3},
    {"a_thousand_at_once", a_thousand_at_once, 3},
    {"ten_thousand_in_turn", ten_thousand_in_turn, 3},
    {"the_host_calls", the_host_calls, 3},
    {"a_reader_that_stalls", a_reader_that_stalls, 3},
    {"a_host_that_vanishes", a_host_that_vanishes, 3},
    {"more_than_its_credit", more_than_its_credit, 3},
    {"receiving_what_was_not_sent", receiving_what_was_not_sent, 3},
    {"random_packets", random_packets, 3},
    {"reset_in_the_middle", reset_in_the_middle, 3},
};

int payload_main(void)
{
	return run_cases("vsock", cases, ARRAY_SIZE(cases));
}
