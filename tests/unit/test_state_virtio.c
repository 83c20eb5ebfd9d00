/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device goes on where it was saved: a test device of two queues that completes what it
 * finds, and virtio-blk.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "minivm/virtio_blk.h"
#include "state_rig.h"

#define RING_SIZE 8

/* --- the test device: echoes heads, keeps a number --- */

struct echo {
	struct virtio *virtio;
	uint64_t number;
	_Atomic unsigned notified, paused, resumed;
	_Atomic bool hold; /* leaves everything in its queue */
};

static uint64_t echo_features(void *dev)
{
	(void)dev;
	return 1;
}

static void echo_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	(void)dev;
	memset(out, (int)off, len);
}

static void echo_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	(void)features;
	((struct echo *)dev)->virtio = virtio;
}

static void echo_notify(void *dev, unsigned queue)
{
	struct echo *e = dev;
	struct virtqueue *vq = virtio_queue(e->virtio, queue);
	struct vq_chain chain;

	e->notified++;
	if (e->hold)
		return;
	do {
		while (vq_pop(vq, &chain) == 1) {
			vq_push(vq, &chain, 0);
			e->number++;
		}
	} while (vq_enable_notify(vq));
	virtio_signal_queue(e->virtio, queue);
}

static void echo_reset(void *dev)
{
	((struct echo *)dev)->virtio = NULL;
}

static void echo_pause(void *dev)
{
	((struct echo *)dev)->paused++;
}

static void echo_resume(void *dev)
{
	((struct echo *)dev)->resumed++;
}

static int echo_save(void *dev, struct state_writer *w, struct err *err)
{
	(void)err;
	state_put_u64(w, ((struct echo *)dev)->number);
	return 0;
}

static int echo_restore(void *dev, struct state_reader *r, struct err *err)
{
	(void)err;
	((struct echo *)dev)->number = state_get_u64(r);
	return 0;
}

static void echo_destroy(void *dev)
{
	(void)dev;
}

static const struct virtio_ops echo_ops = {
    .name = "virtio-echo",
    .device_id = 63,
    .queues = 2,
    .queue_size_max = RING_SIZE,
    .config_len = 8,
    .features = echo_features,
    .config_read = echo_config_read,
    .activate = echo_activate,
    .notify = echo_notify,
    .reset = echo_reset,
    .destroy = echo_destroy,
    .pause = echo_pause,
    .resume = echo_resume,
    .state_version = 1,
    .save = echo_save,
    .restore = echo_restore,
};

static struct echo dev_a, dev_b;
static struct vdriver a, b;
static struct state_writer w;

static void setup(void)
{
	memset(&dev_a, 0, sizeof(dev_a));
	memset(&dev_b, 0, sizeof(dev_b));
	vdriver_init(&a, &echo_ops, &dev_a, RING_SIZE);
	vdriver_init(&b, &echo_ops, &dev_b, RING_SIZE);
	vdriver_start(&a, F_VERSION_1 | F_EVENT_IDX | 1);
}

static void teardown(void)
{
	state_writer_free(&w);
	vdriver_fini(&a);
	vdriver_fini(&b);
}

TestSuite(state_virtio, .init = setup, .fini = teardown);

static void offer(struct vdriver *d, uint16_t head)
{
	ring_set(&d->ring, head, RING_BUFFERS, 16, D_WRITE, 0);
	ring_offer(&d->ring, head);
	ring_used_event(&d->ring, d->ring.used_seen);
	wr(d, R_QUEUE_NOTIFY, 0);
}

static void one_round(struct vdriver *d, uint16_t head)
{
	uint32_t id, len;

	offer(d, head);
	cr_assert(vdriver_used(d, &id, &len));
	cr_assert_eq(id, head);
}

Test(state_virtio, goes_on)
{
	struct err err = {0};

	for (uint16_t i = 0; i < 5; i++)
		one_round(&a, i);
	vdriver_settle(&a);
	vdriver_save(&a, &w);
	cr_assert_eq(vdriver_restore(&a, &w, &b, &err), 0, "%s", err.text);
	vdriver_expect_same(&b, &w);
	cr_assert_eq(dev_b.number, 5);
	cr_assert_eq(rd(&b, R_STATUS), S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	wr(&b, R_QUEUE_SEL, 0);
	cr_assert_eq(rd(&b, R_QUEUE_READY), 1);
	for (uint16_t i = 5; i < 20; i++)
		one_round(&b, i % RING_SIZE);
	/* And the one that was saved, too. */
	virtio_resume(a.virtio);
	for (uint16_t i = 5; i < 20; i++)
		one_round(&a, i % RING_SIZE);
	vdriver_settle(&a); /* the loop is done with dev_a */
	cr_assert_eq(dev_a.number, 20);
	cr_assert_eq(dev_a.paused, 1);
	cr_assert_eq(dev_a.resumed, 1);
}

/* What the driver kicked for before the save is found after the restore, without a kick. */
Test(state_virtio, kick_under_way)
{
	struct err err = {0};
	uint32_t id, len;

	dev_a.hold = true;
	offer(&a, 3);
	vdriver_settle(&a);
	vdriver_save(&a, &w);
	cr_assert_eq(vdriver_restore(&a, &w, &b, &err), 0, "%s", err.text);
	cr_assert(vdriver_used(&b, &id, &len));
	cr_assert_eq(id, 3);
	/* The source sees it once it is resumed. */
	dev_a.hold = false;
	virtio_resume(a.virtio);
	cr_assert(vdriver_used(&a, &id, &len));
	cr_assert_eq(id, 3);
}

/* An interrupt whose status bit was not acknowledged yet comes again. */
Test(state_virtio, interrupt_under_way)
{
	struct err err = {0};
	uint32_t id, len;

	offer(&a, 1);
	cr_assert(vdriver_interrupt(&a, 5000));
	vdriver_save(&a, &w);
	cr_assert_eq(vdriver_restore(&a, &w, &b, &err), 0, "%s", err.text);
	cr_assert(vdriver_interrupt(&b, 1000));
	cr_assert_eq(rd(&b, R_ISR), VIRTIO_ISR_QUEUE);
	cr_assert(vdriver_used(&b, &id, &len));
}

Test(state_virtio, paused_means_paused)
{
	unsigned before;

	virtio_pause(a.virtio);
	before = dev_a.notified;
	offer(&a, 2);
	vdriver_settle(&a);
	cr_assert_eq(dev_a.notified, before);
	virtio_resume(a.virtio);
	vdriver_settle(&a);
	cr_assert_gt(dev_a.notified, before);
}

/* Not started by its driver at all, and half-way through. */
Test(state_virtio, before_the_driver)
{
	struct err err = {0};

	wr(&a, R_STATUS, 0);
	wr(&a, R_STATUS, S_ACKNOWLEDGE);
	wr(&a, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
	vdriver_save(&a, &w);
	cr_assert_eq(vdriver_restore(&a, &w, &b, &err), 0, "%s", err.text);
	cr_assert_eq(rd(&b, R_STATUS), S_ACKNOWLEDGE | S_DRIVER);
	cr_assert_null(dev_b.virtio);
	vdriver_start(&b, F_VERSION_1);
	one_round(&b, 0);
}

Test(state_virtio, truncations)
{
	vdriver_save(&a, &w);
	expect_truncations_refused(&virtio_mmio_io_ops, b.mmio, &w);
}

/* Every byte of the state, to any value: refused or taken, but never a crash or a bad access. */
Test(state_virtio, mutations, .timeout = 60)
{
	struct vdriver c;
	struct echo dev_c = {0};

	vdriver_save(&a, &w);
	for (size_t i = STATE_HEADER_LEN; i < w.len; i++) {
		struct err err = {0};
		uint8_t was = w.data[i];

		w.data[i] = (uint8_t)(was ^ (0x81u << (i % 3)));
		cr_assert_eq(state_seal(&w, &err), 0);
		vdriver_init(&c, &echo_ops, &dev_c, RING_SIZE);
		if (vdriver_restore(&a, &w, &c, &err) == 0)
			wr(&c, R_QUEUE_NOTIFY, 0);
		vdriver_fini(&c);
		w.data[i] = was;
	}
}

static void expect_refused(size_t offset_from_virt, uint8_t value, int code)
{
	/* DEV head, address, name, three selectors, VIRT head. */
	size_t at = STATE_HEADER_LEN + 16 + 8 + 4 + strlen("virtio-mmio") + 12 + 16;
	struct err err = {0};

	vdriver_save(&a, &w);
	w.data[at + offset_from_virt] = value;
	cr_assert_eq(state_seal(&w, &err), 0);
	cr_assert_eq(vdriver_restore(&a, &w, &b, &err), code, "%s", err.text);
}

Test(state_virtio, refuses_another_device)
{
	expect_refused(0, 62, -EINVAL);
}

Test(state_virtio, refuses_features_not_on_offer)
{
	expect_refused(9, 3, -ENOTSUP);
}

Test(state_virtio, refuses_driver_ok_without_features)
{
	expect_refused(8, S_ACKNOWLEDGE | S_DRIVER | S_DRIVER_OK, -EINVAL);
}

/* --- virtio-blk --- */

static int no_io(struct block *blk, const struct iovec *iov, unsigned n, uint64_t off)
{
	(void)blk;
	(void)iov;
	(void)n;
	(void)off;
	return 0;
}

static int no_flush(struct block *blk)
{
	(void)blk;
	return 0;
}

static void no_close(struct block *blk)
{
	(void)blk;
}

static const struct block_ops no_disk_ops = {
    .name = "none", .readv = no_io, .writev = no_io, .flush = no_flush, .close = no_close};

static void disk_init(struct vdriver *d, struct block *disk, const char *id)
{
	struct virtio_blk_options opt = {.backend = disk, .id = id, .log = &d->log};
	struct virtio_blk *blk;
	struct err err = {0};

	disk->ops = &no_disk_ops;
	cr_assert_eq(virtio_blk_new(&opt, &blk, &err), 0);
	vdriver_init(d, &virtio_blk_ops, blk, RING_SIZE);
}

static int blk_round_trip(struct block *from, struct block *to, const char *to_id)
{
	struct vdriver d, e;
	struct state_writer disk_w;
	struct err err = {0};
	int ret;

	disk_init(&d, from, "root");
	disk_init(&e, to, to_id);
	vdriver_start(&d, F_VERSION_1);
	vdriver_save(&d, &disk_w);
	ret = vdriver_restore(&d, &disk_w, &e, &err);
	if (ret == 0)
		vdriver_expect_same(&e, &disk_w);
	state_writer_free(&disk_w);
	vdriver_fini(&d);
	vdriver_fini(&e);
	return ret;
}

Test(state_virtio, disk_goes_on)
{
	struct block from = {.size = 65536}, to = {.size = 65536};

	cr_assert_eq(blk_round_trip(&from, &to, "root"), 0);
}

Test(state_virtio, disk_of_another_size)
{
	struct block from = {.size = 65536}, to = {.size = 131072};

	cr_assert_eq(blk_round_trip(&from, &to, "root"), -EINVAL);
}

Test(state_virtio, disk_now_read_only)
{
	struct block from = {.size = 65536}, to = {.size = 65536, .readonly = true};

	cr_assert_eq(blk_round_trip(&from, &to, "root"), -EINVAL);
}

Test(state_virtio, another_disk)
{
	struct block from = {.size = 65536}, to = {.size = 65536};

	cr_assert_eq(blk_round_trip(&from, &to, "data"), -EINVAL);
}

#define F_WCE	  (1ull << 11)
#define F_FLUSH	  (1ull << 9)
#define WRITEBACK (R_CONFIG + 32)

static unsigned writeback(struct vdriver *d)
{
	return (unsigned)virtio_mmio_io_ops.read(d->mmio, WRITEBACK, 1);
}

/* The content of every section that holds the last byte is a byte shorter. */
static void drop_last_byte(struct state_writer *all)
{
	for (size_t at = STATE_HEADER_LEN; at + STATE_SECTION_LEN <= all->len; at++) {
		uint64_t len;

		memcpy(&len, all->data + at + 8, sizeof(len));
		if (len == 0 || at + STATE_SECTION_LEN + len != all->len)
			continue;
		len--;
		memcpy(all->data + at + 8, &len, sizeof(len));
	}
	all->len--;
}

/* As a minivm wrote it that knew no `writeback`: version 1 of the disk's own section. */
static void make_version_1(struct state_writer *all)
{
	uint8_t *section = memmem(all->data, all->len, "VDEV", 4);
	struct state_writer cut;
	struct err err = {0};

	cr_assert_not_null(section);
	cr_assert_eq(section[4], 2);
	section[4] = 1;
	drop_last_byte(all);
	state_writer_init(&cut);
	state_put_bytes(&cut, all->data + STATE_HEADER_LEN, all->len - STATE_HEADER_LEN);
	cr_assert_eq(state_seal(&cut, &err), 0);
	state_writer_free(all);
	*all = cut;
}

/* The cache stays as the driver wants it; a state that does not say so has the cache on. */
static void restore_writeback(bool version_1, unsigned expected)
{
	struct block from = {.size = 65536}, to = {.size = 65536};
	struct state_writer disk_w;
	struct vdriver d, e;
	struct err err = {0};

	disk_init(&d, &from, "root");
	disk_init(&e, &to, "root");
	vdriver_start(&d, F_VERSION_1 | F_WCE | F_FLUSH);
	virtio_mmio_io_ops.write(d.mmio, WRITEBACK, 1, 0);
	vdriver_save(&d, &disk_w);
	if (version_1)
		make_version_1(&disk_w);
	cr_assert_eq(vdriver_restore(&d, &disk_w, &e, &err), 0, "%s", err.text);
	cr_expect_eq(writeback(&e), expected);
	virtio_mmio_io_ops.write(e.mmio, WRITEBACK, 1, 1);
	cr_expect_eq(writeback(&e), 1, "it is still the driver's");
	state_writer_free(&disk_w);
	vdriver_fini(&d);
	vdriver_fini(&e);
}

Test(state_virtio, disk_without_its_cache)
{
	restore_writeback(false, 0);
}

Test(state_virtio, disk_of_a_minivm_without_writeback)
{
	restore_writeback(true, 1);
}
