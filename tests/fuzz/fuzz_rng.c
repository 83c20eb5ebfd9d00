/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-rng device, with and without a rate, over a source that
 * can be told to fail and a clock that the input moves (virtio_guest.h).
 *
 * Checked beside what the sanitizers see: the source is asked for pieces of bounded size, no more
 * bytes are given out than the rate allows, a device that was reset touches nothing.
 */
#include <errno.h>

#include "minivm/virtio_rng.h"
#include "virtio_guest.h"

#define DATA   0x1000u
#define SECOND 1000000000ull

struct machine {
	struct guest guest;
	struct virtio_rng *rng;
	uint64_t rate;
	uint64_t now;
	int fail;
	uint64_t given; /* since the start, the byte of virtio_rng_new() left out */
};

static int source_fill(void *opaque, void *buf, size_t len)
{
	struct machine *m = opaque;

	require(len > 0 && len <= VIRTIO_RNG_REQUEST_MAX);
	if (m->fail)
		return m->fail;
	memset(buf, 0xa5, len);
	m->given += len;
	return 0;
}

static uint64_t source_now(void *opaque)
{
	return ((struct machine *)opaque)->now;
}

static void machine_make(struct machine *m, uint64_t rate)
{
	const struct virtio_rng_source source = {
	    .fill = source_fill, .now = source_now, .opaque = m};
	struct virtio_rng_options opt = {.source = &source, .rate = rate};
	struct err err;

	guest_make(&m->guest);
	opt.loop = m->guest.loop;
	opt.log = &m->guest.log;
	m->rate = rate;
	require(virtio_rng_new(&opt, &m->rng, &err) == 0);
	m->given = 0;
	guest_plug(&m->guest, &virtio_rng_ops, m->rng);
}

/* Buffers to fill; with odd values a malformed chain, which is fine. */
static void request(struct input *in)
{
	uint8_t how = next(in);
	unsigned table = how & 1 ? TABLE : DESC;

	put_descriptor(table, DATA, next(in) * 64u, how & 2 ? 3 : 2, 1);
	put_descriptor(table + 16, DATA + next(in), next(in), how & 4 ? 1 : 3, 2);
	put_descriptor(table + 32, DATA + 0x2000, how & 8 ? 0x2000 : 0x1000, 2, 0);
	if (how & 1)
		put_descriptor(DESC, TABLE, how & 16 ? 47 : 48, 4, 0);
	for (unsigned n = how & 32 ? SIZE : 1; n > 0; n--)
		offer(0);
}

static void operate(struct machine *m, struct input *in)
{
	for (unsigned steps = 0; in->len > 0 && steps < 512; steps++) {
		unsigned op = next(in);

		switch (op % 8) {
		case 0:
			any_access(&m->guest, in);
			break;
		case 1:
			start(&m->guest, (uint8_t)(op >> 3), 0, op & 64 ? next(in) : 0);
			break;
		case 2:
			request(in);
			break;
		case 3:
			m->fail = op & 8 ? -EIO : 0;
			m->now += (uint64_t)next(in) << (op >> 4 & 15) << 10;
			break;
		case 4:
			virtio_rng_ops.notify(m->rng, 0);
			break;
		case 5:
			reset_and_kick(&m->guest, &virtio_rng_ops, m->rng, 1);
			break;
		default:
			scribble(in, op >> 3);
			break;
		}
		if (m->rate)
			require(m->given <= m->rate + m->rate * (m->now / SECOND + 1));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t rates[] = {0, 1, 1000, 1u << 20};
	static struct machine m;
	struct input in = {data, size};
	uint8_t first = next(&in);

	memset(&m, 0, sizeof(m));
	machine_make(&m, rates[first & 3]);
	start(&m.guest, first >> 2, 0, 0);
	operate(&m, &in);
	guest_end(&m.guest);
	return 0;
}
