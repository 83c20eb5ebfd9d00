/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random rings through vq_pop() and vq_push(), with guest memory changing in between.
 *
 * Input: queue size and features, then operations: the driver's (descriptors, heads, any byte of
 * ring memory) and the device's. Checked beside what the sanitizers see: every buffer lies in guest
 * memory, the sums are right, and each head that was taken comes back exactly once.
 */
#include <string.h>

#include "minivm/virtqueue.h"
#include "input.h"

#define RAM   0x2000u
#define DESC  0x000u
#define AVAIL 0x200u
#define USED  0x300u
#define TABLE 0x400u /* where indirect tables mostly lie */
#define OUT   4u     /* chains that are out at a time */

static uint8_t ram[RAM] __attribute__((aligned(4096)));
static uint8_t high[64];

static bool inside(const struct iovec *iov, const uint8_t *region, size_t size)
{
	const uint8_t *p = iov->iov_base;

	return p >= region && p <= region + size && iov->iov_len <= (size_t)(region + size - p);
}

static void check_chain(const struct virtqueue *vq, const struct vq_chain *c)
{
	uint64_t readable = 0, writable = 0;

	require(c->head < vq->size);
	require(c->n_readable + c->n_writable <= VQ_SIZE_MAX);
	for (unsigned i = 0; i < c->n_readable + c->n_writable; i++) {
		const struct iovec *iov = &c->iov[i];

		require(inside(iov, ram, sizeof(ram)) || inside(iov, high, sizeof(high)));
		if (i < c->n_readable)
			readable += iov->iov_len;
		else
			writable += iov->iov_len;
	}
	require(readable == c->readable_len && writable == c->writable_len);
	require(readable + writable <= UINT32_MAX);
}

/* Every head that was taken is either out or was completed. */
static void check_counts(const struct virtqueue *vq, unsigned out)
{
	uint16_t taken = (uint16_t)(vq->count.chains + vq->count.malformed);

	require(vq->next_avail == taken);
	require((uint16_t)(vq->next_used + out) == taken);
}

/* A descriptor of the ring or of a table; its parts are often, not always, sensible. */
static void put_descriptor(struct input *in)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d;
	uint8_t where = next(in), how = next(in);

	d.addr = next(in) * 64u;
	d.len = next(in);
	d.flags = how & 7;
	d.next = (uint16_t)(next(in) % 20);
	if (how & 0x08)
		d.addr |= 1ull << 32;
	if (how & 0x10)
		d.len *= 16;
	if (how & 0x20)
		d.addr = TABLE + 16u * (uint8_t)d.addr;
	if ((how & 0xc0) == 0xc0)
		d.len = 0xfffffff0u + d.len;
	memcpy(ram + (where & 0x80 ? TABLE : DESC) + 16u * (where & 31), &d, sizeof(d));
}

static void offer(const struct virtqueue *vq, uint16_t head)
{
	uint16_t idx;

	memcpy(&idx, ram + AVAIL + 2, sizeof(idx));
	memcpy(ram + AVAIL + 4 + 2 * (idx % vq->size), &head, sizeof(head));
	idx++;
	memcpy(ram + AVAIL + 2, &idx, sizeof(idx));
}

static void operate(struct virtqueue *vq, struct input *in)
{
	static struct vq_chain chain[OUT];
	unsigned out = 0;

	while (in->len > 0) {
		uint8_t op = next(in);

		switch (op % 8) {
		case 0:
			if (out < OUT && vq_pop(vq, &chain[out]) == 1)
				check_chain(vq, &chain[out++]);
			break;
		case 1:
			if (out > 0)
				vq_push(vq, &chain[--out], next(in) * 77u);
			break;
		case 2:
			(void)vq_should_signal(vq);
			break;
		case 3:
			(void)vq_enable_notify(vq);
			break;
		case 4:
			vq_disable_notify(vq);
			break;
		case 5:
			offer(vq, op >> 3);
			break;
		case 6:
			put_descriptor(in);
			break;
		default:
			ram[(next(in) | (unsigned)op << 5) % 0x800] = next(in);
			break;
		}
		check_counts(vq, out);
	}
}

/* A layout of the input's own; whatever is accepted must be safe to use. */
static void any_layout(struct input *in, const struct guest_mem *mem)
{
	static struct vq_chain chain;
	struct virtqueue vq = {0};
	uint8_t how = next(in);
	struct vq_layout layout = {
	    .size = (uint16_t)(next(in) << how % 10),
	    .desc = GPA((uint64_t)next(in) << (how & 16 ? 8 : 3)),
	    .avail = GPA((uint64_t)next(in) << 5),
	    .used = GPA((uint64_t)next(in) << 5 | (how & 32 ? 1ull << 32 : 0)),
	};

	if (vq_start(&vq, mem, &layout, how & 64, true) < 0)
		return;
	while (in->len > 0) {
		ram[(next(in) << 5 | next(in)) % RAM] = next(in);
		if (vq_pop(&vq, &chain) == 1) {
			check_chain(&vq, &chain);
			vq_push(&vq, &chain, next(in));
			(void)vq_should_signal(&vq);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct guest_mem mem = {
	    .count = 2,
	    .region = {{GPA(0), sizeof(ram), ram}, {GPA(1ull << 32), sizeof(high), high}},
	};
	struct virtqueue vq = {0};
	uint8_t first = next(&in);
	struct vq_layout layout = {
	    .size = (uint16_t)(1u << (first >> 4) % 5),
	    .desc = GPA(DESC),
	    .avail = GPA(AVAIL),
	    .used = GPA(USED),
	};

	memset(ram, 0, sizeof(ram));
	if (first & 4) {
		any_layout(&in, &mem);
		return 0;
	}
	require(vq_start(&vq, &mem, &layout, first & 1, first & 2) == 0);
	operate(&vq, &in);
	vq_stop(&vq);
	return 0;
}
