/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-balloon device (virtio_guest.h), its rings in pages that
 * it may give up.
 *
 * Checked beside what the sanitizers see: a device that was reset touches nothing.
 */
#include "minivm/virtio_balloon.h"
#include "virtio_guest.h"

#define DATA 0x1000u

struct machine {
	struct guest guest;
	struct virtio_balloon *balloon;
};

static void machine_make(struct machine *m, uint64_t target, uint64_t stats_ns)
{
	struct virtio_balloon_options opt = {.target = target, .stats_ns = stats_ns};
	struct err err;

	guest_make(&m->guest);
	opt.mem = &m->guest.mem;
	opt.loop = m->guest.loop;
	opt.log = &m->guest.log;
	require(virtio_balloon_new(&opt, &m->balloon, &err) == 0);
	guest_plug(&m->guest, &virtio_balloon_ops, m->balloon);
}

/* Page numbers, ranges or statistics, by what the queue takes them for. */
static void request(struct input *in)
{
	unsigned how = next(in);

	for (unsigned i = 0; i < 8; i++) {
		uint32_t pfn = next(in) & (how & 1 ? 0xff : 7);

		memcpy(ram + DATA + 4 * i, &pfn, sizeof(pfn));
	}
	put_descriptor(DESC, how & 2 ? next(in) * 64u : DATA, next(in) << (how >> 2 & 7),
		       (how & 32 ? 2 : 0) | (how & 64 ? 1 : 0), 1);
	put_descriptor(DESC + 16, DATA + next(in) * 32u, next(in) * 64u, 2, 0);
	for (unsigned n = how & 128 ? SIZE : 1; n > 0; n--)
		offer(0);
}

/* What the host asks for while the guest does what it likes. */
static void control(struct machine *m, struct input *in)
{
	uint64_t target = (uint64_t)next(in) << 12;
	uint64_t stats_ns = next(in) * 1000000000ull;
	struct virtio_balloon_counters c;

	if (virtio_balloon_set_target(m->balloon, target) == 0) {
		virtio_balloon_counters(m->balloon, &c);
		require(c.target == target && target < guest_mem_bytes(&m->guest.mem));
	}
	virtio_balloon_set_stats(m->balloon, stats_ns);
}

static void operate(struct machine *m, struct input *in)
{
	for (unsigned steps = 0; in->len > 0 && steps < 512; steps++) {
		unsigned op = next(in);

		switch (op % 9) {
		case 0:
			any_access(&m->guest, in);
			break;
		case 1:
			start(&m->guest, (uint8_t)(op >> 3), next(in) & 0x26,
			      op & 64 ? next(in) : 0);
			break;
		case 2:
			request(in);
			break;
		case 3:
			virtio_pause(m->guest.virtio);
			virtio_resume(m->guest.virtio);
			break;
		case 4:
		case 5:
			virtio_balloon_ops.notify(m->balloon,
						  (op >> 3) % virtio_balloon_ops.queues);
			break;
		case 6:
			reset_and_kick(&m->guest, &virtio_balloon_ops, m->balloon, 1);
			break;
		case 7:
			control(m, in);
			break;
		default:
			scribble(in, op >> 3);
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};
	uint8_t first = next(&in);

	memset(&m, 0, sizeof(m));
	machine_make(&m, (uint64_t)first << 12, first & 1 ? 1000000000ull : 0);
	start(&m.guest, first >> 2, 0x26, 0);
	operate(&m, &in);
	guest_end(&m.guest);
	return 0;
}
