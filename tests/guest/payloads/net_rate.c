/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What frames cost: many of one size to the peer (tests/lib/net_peer.c), and as many from it, for
 * tests/bench. Before and after each lot there is a pause, begun by a line, in which whoever
 * measures can look at the monitor's processor time:
 *
 *	ready send 1514
 *	done send 1514 FRAMES NANOSECONDS
 *
 * The time is that of the transfers, without what the payload does to check them: that the number
 * of frames is right. What is in them is for net.c.
 *
 * Words: mib=N each way and size; leg=N: only this one of legs[].
 */
#include "cpu.h"
#include "rt.h"
#include "time.h"
#include "vnet.h"

#define FEATURES (VF_INDIRECT_DESC | VF_EVENT_IDX | VNET_F_MAC | VNET_F_STATUS | VNET_F_MRG_RXBUF)
#define WAIT_MS	 10000
#define PAUSE_MS 300
#define BATCH	 16u /* frames a kick */

static struct vnet v;
static uint8_t *tx; /* header and frame */
static union {
	struct net_frame frame;
	uint8_t bytes[VNET_FRAME_MAX];
} rx;

static struct net_frame *prepare(enum net_service service)
{
	struct net_frame *f = (void *)(tx + VNET_HDR);

	*f = (struct net_frame){.dst = {2, 0, 0, 0, 0, 0x99},
				.type = {NET_ETHERTYPE >> 8, NET_ETHERTYPE & 0xff},
				.service = (uint8_t)service};
	memcpy(f->src, v.mac, 6);
	return f;
}

static bool offer(uint32_t len)
{
	return vnet_sent(&v, VNET_QUEUE - 1, WAIT_MS) && vnet_offer(&v, (void *)tx, len);
}

static struct net_frame *receive(void)
{
	struct vnet_hdr hdr;

	if (vnet_receive(&v, &hdr, &rx.frame, WAIT_MS) <= 0)
		return NULL;
	vnet_refill(&v);
	return &rx.frame;
}

/* `n` frames, and the peer's word that it has them; ticks without that. 0: it has not. */
static uint64_t send_window(uint32_t len, uint32_t n)
{
	const struct net_frame *f;
	uint64_t start, ticks;

	prepare(NET_SINK);
	start = rdtsc();
	for (uint32_t i = 0; i < n; i++) {
		if (!offer(len))
			return 0;
		if (i % BATCH == BATCH - 1 || i + 1 == n)
			vring_kick(&v.tx);
	}
	if (!vnet_sent(&v, 0, WAIT_MS))
		return 0;
	ticks = rdtsc() - start;
	prepare(NET_REPORT);
	if (!offer(64))
		return 0;
	vring_kick(&v.tx);
	f = receive();
	return f && f->service == NET_REPORT && f->frames == n ? ticks : 0;
}

static uint64_t receive_window(uint32_t len, uint32_t n)
{
	struct net_frame *f = prepare(NET_SOURCE);
	uint64_t start = rdtsc();

	f->arg = n;
	f->size = len;
	if (!offer(64))
		return 0;
	vring_kick(&v.tx);
	for (uint32_t i = 0; i < n; i++) {
		f = receive();
		if (!f || f->service != NET_DATA || f->number != i)
			return 0;
	}
	return rdtsc() - start;
}

static const struct leg {
	const char *name;
	uint32_t len;
	uint32_t window; /* frames that the peer, or a tap's queue, can hold */
	uint64_t (*run)(uint32_t len, uint32_t n);
} legs[] = {
    {"send", 1514, 512, send_window},
    {"send", 65000, 128, send_window},
    {"receive", 1514, 400, receive_window},
    {"receive", 65000, 128, receive_window},
};

static bool run_leg(const struct leg *leg, uint64_t bytes)
{
	uint64_t frames = bytes / leg->len, done, ticks = 0;

	print("ready %s %u\n", leg->name, leg->len);
	delay_us(PAUSE_MS * 1000);
	for (done = 0; done < frames; done += leg->window) {
		uint64_t t = leg->run(leg->len, leg->window);

		if (!t) {
			print("lost: %s %u, frames %lu and on\n", leg->name, leg->len, done);
			return false;
		}
		ticks += t;
	}
	print("done %s %u %lu %lu\n", leg->name, leg->len, done, tsc_to_us(ticks) * 1000);
	delay_us(PAUSE_MS * 1000);
	return true;
}

static long run(void *arg)
{
	uint64_t bytes = cmdline_number("mib", 256) << 20;
	uint64_t only = cmdline_number("leg", ARRAY_SIZE(legs));
	bool ok = vnet_open(&v, 0, FEATURES);

	(void)arg;
	if (!ok)
		return 1;
	tx = dma_alloc(VNET_HDR + VNET_FRAME_MAX, 16);
	vnet_refill(&v);
	for (unsigned i = 0; ok && i < ARRAY_SIZE(legs); i++)
		ok = (only < ARRAY_SIZE(legs) && i != only) || run_leg(&legs[i], bytes);
	return ok ? 0 : 1;
}

int payload_main(void)
{
	return (int)run_user(run, NULL);
}
