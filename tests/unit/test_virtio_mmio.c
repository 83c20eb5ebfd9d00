/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio state machine through MMIO registers, with a device that only echoes: every chain is
 * completed with its writable length.
 */
#include <errno.h>
#include <stdatomic.h>

#include "vdriver.h"

#define ECHO_FEATURE (1ull << 5)
#define FEATURES     (F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | ECHO_FEATURE)

struct echo {
	struct virtio *virtio;
	uint64_t features;
	unsigned active; /* the loop's */
	_Atomic unsigned activations;
	_Atomic unsigned resets;
	_Atomic unsigned notified[2];
	_Atomic unsigned stray; /* called while it should not be */
	_Atomic bool destroyed;
	uint8_t config[12];
	struct vq_chain chain;
};

static struct echo echo;
static struct vdriver drv;

static uint64_t echo_features(void *dev)
{
	(void)dev;
	return ECHO_FEATURE;
}

static void echo_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	struct echo *e = dev;

	memcpy(out, e->config + off, len);
}

static void echo_config_write(void *dev, uint32_t off, unsigned len, const void *in)
{
	struct echo *e = dev;

	memcpy(e->config + off, in, len);
}

static void echo_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct echo *e = dev;

	e->stray += e->active != 0;
	e->active++;
	e->virtio = virtio;
	e->features = features;
	e->activations++;
}

static void echo_notify(void *dev, unsigned queue)
{
	struct echo *e = dev;
	struct virtqueue *vq;
	int ret;

	e->stray += e->active != 1;
	e->notified[queue]++;
	vq = virtio_queue(e->virtio, queue);
	do {
		while ((ret = vq_pop(vq, &e->chain)) == 1)
			vq_push(vq, &e->chain, e->chain.writable_len);
	} while (ret == 0 && vq_enable_notify(vq));
	if (ret < 0)
		virtio_needs_reset(e->virtio);
	virtio_signal_queue(e->virtio, queue);
}

static void echo_reset(void *dev)
{
	struct echo *e = dev;

	e->stray += e->active != 1;
	e->active--;
	e->resets++;
}

static void echo_destroy(void *dev)
{
	struct echo *e = dev;

	e->destroyed = true;
}

static const struct virtio_ops echo_ops = {
    .name = "virtio-echo",
    .guest_kconfig = "CONFIG_VIRTIO_ECHO",
    .device_id = 42,
    .queues = 2,
    .queue_size_max = 64,
    .config_len = sizeof(echo.config),
    .features = echo_features,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
    .activate = echo_activate,
    .notify = echo_notify,
    .reset = echo_reset,
    .destroy = echo_destroy,
};

static void setup(void)
{
	memset(&echo, 0, sizeof(echo));
	vdriver_init(&drv, &echo_ops, &echo, 16);
}

static void teardown(void)
{
	vdriver_fini(&drv);
	cr_expect(echo.destroyed);
	cr_expect_eq(echo.stray, 0);
	cr_expect_eq(echo.active, 0, "destroyed while active");
}

#define MmioTest(name, ...) Test(virtio_mmio, name, .init = setup, .fini = teardown, ##__VA_ARGS__)

static uint64_t refused(void)
{
	struct virtio_counters c;

	virtio_counters(drv.virtio, &c);
	return c.refused;
}

/* --- registers --- */

MmioTest(identity)
{
	cr_expect_eq(rd(&drv, R_MAGIC), 0x74726976);
	cr_expect_eq(rd(&drv, R_VERSION), 2);
	cr_expect_eq(rd(&drv, R_DEVICE_ID), 42);
	cr_expect_neq(rd(&drv, R_VENDOR_ID), 0);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	cr_expect_eq(rd(&drv, R_ISR), 0);
	cr_expect_eq(vdriver_offered(&drv), FEATURES);
	for (uint64_t off = R_SHM_LEN; off <= R_SHM_BASE + 4; off += 4)
		cr_expect_eq(rd(&drv, off), 0xffffffff);
}

MmioTest(feature_halves_beyond_the_second)
{
	wr(&drv, R_DEVICE_SEL, 2);
	cr_expect_eq(rd(&drv, R_DEVICE_FEATURES), 0);
	wr(&drv, R_DEVICE_SEL, 0xffffffff);
	cr_expect_eq(rd(&drv, R_DEVICE_FEATURES), 0);
}

MmioTest(queue_sizes)
{
	wr(&drv, R_QUEUE_SEL, 0);
	cr_expect_eq(rd(&drv, R_QUEUE_NUM_MAX), 64);
	wr(&drv, R_QUEUE_SEL, 1);
	cr_expect_eq(rd(&drv, R_QUEUE_NUM_MAX), 64);
	wr(&drv, R_QUEUE_SEL, 2);
	cr_expect_eq(rd(&drv, R_QUEUE_NUM_MAX), 0);
	wr(&drv, R_QUEUE_SEL, 0xffffffff);
	cr_expect_eq(rd(&drv, R_QUEUE_NUM_MAX), 0);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0);
	wr(&drv, R_QUEUE_READY, 1);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0);
}

MmioTest(wrong_width_or_place)
{
	uint64_t before = refused();

	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_MAGIC, 1), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_MAGIC, 2), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_MAGIC, 8), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_MAGIC + 2, 4), 0);
	virtio_mmio_io_ops.write(drv.mmio, R_STATUS, 1, S_ACKNOWLEDGE);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	cr_expect_eq(rd(&drv, R_QUEUE_NOTIFY), 0, "write-only");
	wr(&drv, R_MAGIC, 0); /* read-only */
	cr_expect_eq(rd(&drv, 0x03c), 0, "legacy");
	wr(&drv, R_STATUS, 0x101);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	cr_expect_eq(refused(), before + 9);
}

MmioTest(config_space)
{
	for (unsigned i = 0; i < sizeof(echo.config); i++)
		echo.config[i] = (uint8_t)(0x10 + i);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG, 8), 0x1716151413121110);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 8, 4), 0x1b1a1918);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 3, 2), 0x1413);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 11, 1), 0x1b);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 11, 2), 0, "over the end");
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG + 12, 1), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, 0x1f8, 8), 0);
	virtio_mmio_io_ops.write(drv.mmio, R_CONFIG + 4, 2, 0xabcd);
	virtio_mmio_io_ops.write(drv.mmio, R_CONFIG + 8, 8, 0);
	cr_expect_eq(virtio_mmio_io_ops.read(drv.mmio, R_CONFIG, 8), 0x1716abcd13121110);
	cr_expect_eq(echo.config[8], 0x18);
}

MmioTest(config_change)
{
	uint32_t generation = rd(&drv, R_GENERATION);

	virtio_signal_config(drv.virtio);
	cr_expect(vdriver_interrupt(&drv, 1000));
	cr_expect_eq(rd(&drv, R_ISR), 2);
	cr_expect_neq(rd(&drv, R_GENERATION), generation);
	wr(&drv, R_ISR_ACK, 2);
	cr_expect_eq(rd(&drv, R_ISR), 0);
}

/* §4.2.2.1: also before the device says that something has changed. */
MmioTest(generation_follows_the_contents)
{
	uint32_t generation = rd(&drv, R_GENERATION);

	cr_expect_eq(rd(&drv, R_GENERATION), generation);
	echo.config[sizeof(echo.config) - 1] ^= 0x40;
	cr_expect_neq(rd(&drv, R_GENERATION), generation);
	generation = rd(&drv, R_GENERATION);
	cr_expect_eq(rd(&drv, R_GENERATION), generation);
}

/* --- negotiation --- */

MmioTest(features_ok)
{
	cr_expect(vdriver_negotiate(&drv, F_VERSION_1));
	cr_expect(vdriver_negotiate(&drv, FEATURES));
	cr_assert_not(vdriver_negotiate(&drv, FEATURES & ~F_VERSION_1), "legacy driver");
	cr_assert_not(vdriver_negotiate(&drv, F_VERSION_1 | 1), "bit 0 was not offered");
	cr_assert_not(vdriver_negotiate(&drv, F_VERSION_1 | 1ull << 63));
	cr_expect_eq(rd(&drv, R_STATUS), S_ACKNOWLEDGE | S_DRIVER);
	/* The driver may think again without a reset. */
	wr(&drv, R_DRIVER_SEL, 1);
	wr(&drv, R_DRIVER_FEATURES, 1);
	wr(&drv, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
	cr_expect_eq(rd(&drv, R_STATUS), S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
}

MmioTest(features_stand_after_features_ok)
{
	cr_assert(vdriver_negotiate(&drv, F_VERSION_1));
	wr(&drv, R_DRIVER_SEL, 0);
	wr(&drv, R_DRIVER_FEATURES, 0xffffffff);
	vdriver_go(&drv);
	cr_expect_eq(echo.activations, 1);
	cr_expect_eq(echo.features, F_VERSION_1);
}

MmioTest(no_short_cuts)
{
	wr(&drv, R_STATUS, S_DRIVER_OK);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	wr(&drv, R_DRIVER_SEL, 1);
	wr(&drv, R_DRIVER_FEATURES, 1);
	wr(&drv, R_STATUS, S_FEATURES_OK);
	cr_expect_eq(rd(&drv, R_STATUS), 0, "FEATURES_OK without DRIVER");
	vdriver_go(&drv); /* all bits at once: FEATURES_OK was never read back */
	cr_expect_eq(rd(&drv, R_STATUS) & S_DRIVER_OK, 0);
	cr_expect_eq(echo.activations, 0);
	/* Bits of ours are not the driver's to set. */
	wr(&drv, R_STATUS, 0);
	wr(&drv, R_STATUS, S_NEEDS_RESET | 0x30);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
}

MmioTest(status_bits_do_not_go_back)
{
	vdriver_start(&drv, F_VERSION_1);
	wr(&drv, R_STATUS, S_ACKNOWLEDGE);
	cr_expect_eq(rd(&drv, R_STATUS), 15);
	wr(&drv, R_STATUS, 15 | S_FAILED);
	cr_expect_eq(rd(&drv, R_STATUS), 15 | S_FAILED);
	vdriver_go(&drv);
	cr_expect_eq(echo.activations, 1, "DRIVER_OK twice activates once");
}

/* --- queues --- */

static void offer_one(void)
{
	ring_set(&drv.ring, 0, RING_BUFFERS, 64, D_WRITE, 0);
	ring_offer(&drv.ring, 0);
}

static void expect_served(void)
{
	uint32_t id = 0, len = 0;

	cr_assert(vdriver_used(&drv, &id, &len));
	cr_expect_eq(len, 64);
}

MmioTest(kick_by_register_and_by_eventfd)
{
	const uint64_t one = 1;
	struct virtio_counters c;

	vdriver_start(&drv, F_VERSION_1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
	offer_one();
	cr_assert_eq(write(virtio_kick_fd(drv.virtio, 0), &one, sizeof(one)), sizeof(one));
	expect_served();
	virtio_counters(drv.virtio, &c);
	cr_expect_eq(c.kicks, 2);
	cr_expect_eq(c.interrupts, 2);
	cr_expect_eq(c.activations, 1);
	cr_expect_eq(virtio_kick_fd(drv.virtio, 2), -1);
	wr(&drv, R_QUEUE_NOTIFY, 2);
	wr(&drv, R_QUEUE_NOTIFY, 0xffffffff);
	cr_expect_eq(refused(), 2);
}

MmioTest(interrupt_status)
{
	vdriver_start(&drv, F_VERSION_1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_interrupt(&drv, 5000));
	cr_expect_eq(rd(&drv, R_ISR), 1);
	wr(&drv, R_ISR_ACK, 2);
	cr_expect_eq(rd(&drv, R_ISR), 1);
	wr(&drv, R_ISR_ACK, 1);
	cr_expect_eq(rd(&drv, R_ISR), 0);
}

MmioTest(a_kick_before_driver_ok_is_kept)
{
	struct vq_layout l = ring_layout(&drv.ring);

	cr_assert(vdriver_negotiate(&drv, F_VERSION_1));
	vdriver_layout(&drv, 0, &l);
	wr(&drv, R_QUEUE_READY, 1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	vdriver_settle(&drv);
	cr_expect_eq(ring_used_idx(&drv.ring), 0, "served before DRIVER_OK");
	cr_expect_eq(rd(&drv, R_ISR), 0);
	cr_expect(!vdriver_interrupt(&drv, 20));
	vdriver_go(&drv);
	expect_served();
}

/* CVE-2026-5747's class: nothing that is written later reaches a queue that is ready or running. */
MmioTest(queue_configuration_is_frozen)
{
	struct vq_layout l = ring_layout(&drv.ring);
	struct vq_layout evil = {
	    .size = 64, .desc = GPA(0), .avail = GPA(RING_RAM), .used = GPA(0)};

	cr_assert(vdriver_negotiate(&drv, F_VERSION_1));
	vdriver_layout(&drv, 0, &l);
	wr(&drv, R_QUEUE_READY, 1);
	vdriver_layout(&drv, 0, &evil); /* ready */
	vdriver_go(&drv);
	vdriver_layout(&drv, 0, &evil); /* running */
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
	/* A queue that was left out cannot come later. */
	vdriver_layout(&drv, 1, &l);
	wr(&drv, R_QUEUE_READY, 1);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0);
	cr_expect_eq(refused(), 7 + 7 + 7 + 1);
}

MmioTest(unready_stops_a_queue)
{
	vdriver_start(&drv, F_VERSION_1);
	wr(&drv, R_QUEUE_SEL, 0);
	wr(&drv, R_QUEUE_READY, 0);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	vdriver_settle(&drv);
	cr_expect_eq(ring_used_idx(&drv.ring), 0);
	wr(&drv, R_QUEUE_READY, 1);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0, "not while the device runs");
	vdriver_start(&drv, F_VERSION_1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
}

MmioTest(a_queue_that_is_nowhere)
{
	const struct vq_layout bad[] = {
	    {.size = 16, .desc = GPA(RING_RAM), .avail = GPA(0x3000), .used = GPA(0x4000)},
	    {.size = 16, .desc = GPA(0x1008), .avail = GPA(0x3000), .used = GPA(0x4000)},
	    {.size = 0, .desc = GPA(0x1000), .avail = GPA(0x3000), .used = GPA(0x4000)},
	    {.size = 128, .desc = GPA(0x1000), .avail = GPA(0x3000), .used = GPA(0x4000)},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(vdriver_negotiate(&drv, F_VERSION_1));
		vdriver_layout(&drv, 0, &bad[i]);
		wr(&drv, R_QUEUE_READY, 1);
		vdriver_go(&drv);
		cr_expect_eq(rd(&drv, R_STATUS) & S_NEEDS_RESET, S_NEEDS_RESET, "case %zu", i);
		cr_expect(vdriver_interrupt(&drv, 1000));
		cr_expect_eq(rd(&drv, R_ISR), 2);
		wr(&drv, R_QUEUE_NOTIFY, 0);
	}
	cr_expect_eq(echo.activations, 0);
	vdriver_start(&drv, F_VERSION_1);
}

MmioTest(a_broken_ring_needs_a_reset)
{
	vdriver_start(&drv, F_VERSION_1);
	__atomic_store_n(ring_u16(&drv.ring, RING_AVAIL + 2), 1000, __ATOMIC_RELEASE);
	wr(&drv, R_QUEUE_NOTIFY, 0);
	cr_assert(vdriver_interrupt(&drv, 5000));
	cr_expect_eq(rd(&drv, R_ISR), 2);
	cr_expect_eq(rd(&drv, R_STATUS), 15 | S_NEEDS_RESET);
	wr(&drv, R_QUEUE_NOTIFY, 0);
	cr_expect(!vdriver_interrupt(&drv, 50), "said once");
	/* A driver that writes the bit back does not trip over it. */
	wr(&drv, R_STATUS, 15 | S_NEEDS_RESET | S_FAILED);
	cr_expect_eq(rd(&drv, R_STATUS), 15 | S_NEEDS_RESET | S_FAILED);
	vdriver_start(&drv, F_VERSION_1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
}

/* --- reset --- */

MmioTest(reset_clears_and_stops)
{
	vdriver_start(&drv, FEATURES);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
	virtio_signal_config(drv.virtio);
	wr(&drv, R_STATUS, 0);
	cr_expect_eq(echo.resets, 1);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	cr_expect_eq(rd(&drv, R_ISR), 0);
	wr(&drv, R_QUEUE_SEL, 0);
	cr_expect_eq(rd(&drv, R_QUEUE_READY), 0);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	vdriver_settle(&drv);
	cr_expect_eq(ring_used_idx(&drv.ring), 1, "served after a reset");
	wr(&drv, R_STATUS, 0);
	cr_expect_eq(echo.resets, 1, "the device was not active");
}

MmioTest(machine_reset)
{
	vdriver_start(&drv, FEATURES);
	virtio_mmio_io_ops.reset(drv.mmio);
	cr_expect_eq(echo.resets, 1);
	cr_expect_eq(rd(&drv, R_STATUS), 0);
	vdriver_start(&drv, FEATURES);
	cr_expect_eq(echo.activations, 2);
}

MmioTest(destroyed_while_active)
{
	vdriver_start(&drv, FEATURES);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
}

/* --- several vCPUs at once --- */

struct racer {
	pthread_t thread;
	unsigned seed;
	unsigned rounds;
};

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

/* Reads and writes all over the registers, valid sequences and nonsense. */
static void *race(void *opaque)
{
	static const uint16_t statuses[] = {0, 1, 3, 11, 15, 15, 11, 3, 128, 4};
	struct racer *r = opaque;

	for (unsigned i = 0; i < r->rounds; i++) {
		unsigned x = next_random(&r->seed);

		switch (x % 8) {
		case 0:
			wr(&drv, R_STATUS, statuses[x / 8 % 10]);
			break;
		case 1:
			wr(&drv, R_DRIVER_SEL, 1);
			wr(&drv, R_DRIVER_FEATURES, 1);
			break;
		case 2:
			wr(&drv, R_QUEUE_READY, x / 8 % 4 != 0);
			break;
		case 3:
			wr(&drv, R_QUEUE_NOTIFY, x / 8 % 3);
			break;
		case 4:
			wr(&drv, R_ISR_ACK, rd(&drv, R_ISR));
			break;
		case 5:
			(void)virtio_mmio_io_ops.read(drv.mmio, R_CONFIG, 8);
			virtio_mmio_io_ops.write(drv.mmio, R_CONFIG, 4, x);
			break;
		case 6: {
			struct vq_layout l = ring_layout(&drv.ring);

			vdriver_layout(&drv, x / 8 % 2, &l);
			break;
		}
		default:
			(void)rd(&drv, (x / 8 % 64) * 4);
			break;
		}
	}
	return NULL;
}

MmioTest(vcpus_race, .timeout = 60)
{
	struct racer racer[4];

	/* Nothing is offered in the ring, so the echo device has only indices to look at. */
	for (unsigned i = 0; i < 4; i++) {
		racer[i] = (struct racer){.seed = 77 + i, .rounds = 4000};
		pthread_create(&racer[i].thread, NULL, race, &racer[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(racer[i].thread, NULL);
	/* The device is still in order. */
	vdriver_start(&drv, F_VERSION_1);
	offer_one();
	wr(&drv, R_QUEUE_NOTIFY, 0);
	expect_served();
}

/* A reset that comes while the loop works waits for it, and nothing is written afterwards. */
MmioTest(reset_races_with_work, .timeout = 60)
{
	for (unsigned round = 0; round < 300; round++) {
		uint16_t used;

		vdriver_start(&drv, FEATURES);
		for (uint16_t i = 0; i < 16; i++) {
			ring_set(&drv.ring, i, RING_BUFFERS, 64, D_WRITE, 0);
			ring_offer(&drv.ring, i);
			wr(&drv, R_QUEUE_NOTIFY, 0);
		}
		wr(&drv, R_STATUS, 0);
		used = ring_used_idx(&drv.ring);
		vdriver_settle(&drv);
		cr_assert_eq(ring_used_idx(&drv.ring), used);
	}
}
