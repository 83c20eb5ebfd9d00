/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-blk device: random register accesses through the MMIO ops,
 * random memory, kicks. The device is single-threaded here: nobody runs its loop, so loop_call()
 * runs on this thread, and a kick calls the device as the loop would.
 *
 * Checked beside what the sanitizers see: a read-only disk stays as it is, a device that was reset
 * touches neither memory nor disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_mmio.h>

#include "minivm/virtio_blk.h"
#include "minivm/virtio_mmio.h"

#define RAM	   0x4000u
#define DESC	   0x000u
#define AVAIL	   0x200u
#define USED	   0x300u
#define TABLE	   0x400u
#define HEADER	   0x1000u
#define DATA	   0x2000u
#define DISK_BYTES 8192u
#define SIZE	   16u

struct input {
	const uint8_t *data;
	size_t len;
};

struct disk {
	struct block block;
	int fail; /* -errno for every operation */
	uint8_t data[DISK_BYTES];
};

struct machine {
	struct guest_mem mem;
	struct loop *loop;
	struct log log;
	struct disk disk;
	struct virtio_blk *blk;
	struct virtio *virtio;
	struct virtio_mmio *mmio;
};

static uint8_t ram[RAM] __attribute__((aligned(4096)));

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t next(struct input *in)
{
	if (in->len == 0)
		return 0;
	in->len--;
	return *in->data++;
}

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* --- the disk --- */

static void check_transfer(const struct iovec *iov, unsigned n, uint64_t off)
{
	uint64_t len = 0;

	require(n <= BLOCK_IOV_MAX && off % 512 == 0);
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	require(len % 512 == 0 && off <= DISK_BYTES && len <= DISK_BYTES - off);
}

/* memmove: the guest may let its disk read into buffers that overlap. */
static int disk_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct disk *d = (struct disk *)b;

	check_transfer(iov, n, off);
	if (d->fail)
		return d->fail;
	for (unsigned i = 0; i < n; i++) {
		memmove(iov[i].iov_base, d->data + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int disk_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct disk *d = (struct disk *)b;

	require(!b->readonly);
	check_transfer(iov, n, off);
	if (d->fail)
		return d->fail;
	for (unsigned i = 0; i < n; i++) {
		memmove(d->data + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int disk_flush(struct block *b)
{
	return ((struct disk *)b)->fail;
}

static void disk_close(struct block *b)
{
	(void)b;
}

static const struct block_ops disk_ops = {
    .name = "fuzz",
    .readv = disk_readv,
    .writev = disk_writev,
    .flush = disk_flush,
    .close = disk_close,
};

/* --- the machine --- */

static void machine_make(struct machine *m, bool readonly)
{
	const struct irq_line irq = {.fd = -1};
	struct virtio_blk_options opt = {.backend = &m->disk.block, .id = "fuzz", .log = &m->log};
	struct virtio_env env = {.mem = &m->mem, .log = &m->log};
	struct err err;

	m->mem.count = 1;
	m->mem.region[0] = (struct guest_region){.gpa = GPA(0), .len = RAM, .host = ram};
	m->log = (struct log){.fd = -1, .level = LOG_LEVEL_ERROR};
	m->disk.block = (struct block){
	    .ops = &disk_ops,
	    .size = DISK_BYTES,
	    .readonly = readonly,
	    .physical_block = 512,
	};
	require(loop_new(&m->loop, &err) == 0);
	env.loop = m->loop;
	require(virtio_blk_new(&opt, &m->blk, &err) == 0);
	require(virtio_new(&virtio_blk_ops, m->blk, &env, &m->virtio, &err) == 0);
	require(virtio_mmio_new(m->virtio, &irq, &m->mmio, &err) == 0);
}

static void machine_end(struct machine *m)
{
	virtio_mmio_io_ops.destroy(m->mmio);
	loop_free(m->loop);
}

static void wr(struct machine *m, uint64_t off, uint64_t value)
{
	virtio_mmio_io_ops.write(m->mmio, off, 4, value);
}

/* A start with the features in the input; `wrong` spoils one step or another. */
static void start(struct machine *m, uint8_t features, uint8_t wrong)
{
	wr(m, VIRTIO_MMIO_STATUS, wrong & 1 ? 2 : 0);
	wr(m, VIRTIO_MMIO_STATUS, wrong & 2 ? 0 : 3);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, wrong & 4 ? 2 : 1);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES, wrong & 8 ? 0xff : 1);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(m, VIRTIO_MMIO_DRIVER_FEATURES,
	   (uint32_t)(features & 3) << 28 | (features & 4 ? 1u << 9 : 0));
	wr(m, VIRTIO_MMIO_STATUS, wrong & 16 ? 15 : 11);
	wr(m, VIRTIO_MMIO_QUEUE_SEL, wrong >> 7);
	wr(m, VIRTIO_MMIO_QUEUE_NUM, wrong & 32 ? features : SIZE);
	wr(m, VIRTIO_MMIO_QUEUE_DESC_LOW, DESC);
	wr(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL);
	wr(m, VIRTIO_MMIO_QUEUE_USED_LOW, wrong & 64 ? 0x3ffc : USED);
	wr(m, VIRTIO_MMIO_QUEUE_READY, 1);
	wr(m, VIRTIO_MMIO_STATUS, 15);
	(void)virtio_mmio_io_ops.read(m->mmio, VIRTIO_MMIO_STATUS, 4);
}

static void any_access(struct machine *m, struct input *in)
{
	unsigned how = next(in);
	unsigned len = 1u << how % 4;
	uint64_t off = (next(in) | (how & 0x80) << 1) & ~(how & 0x40 ? 0u : 3u);
	uint64_t value = 0;

	if (how & 0x20)
		len = 4;
	if (off + len > VIRTIO_MMIO_LEN)
		return;
	if (how & 0x10) {
		for (unsigned i = 0; i < len; i++)
			value = value << 8 | next(in);
		virtio_mmio_io_ops.write(m->mmio, off, len, value);
	} else {
		(void)virtio_mmio_io_ops.read(m->mmio, off, len);
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

static void offer(uint16_t head)
{
	uint16_t idx;

	memcpy(&idx, ram + AVAIL + 2, sizeof(idx));
	memcpy(ram + AVAIL + 4 + 2 * (idx % SIZE), &head, sizeof(head));
	idx++;
	memcpy(ram + AVAIL + 2, &idx, sizeof(idx));
}

/* Header, data, status; indirect if asked for. With odd values it is malformed, which is fine. */
static void request(struct input *in)
{
	static const uint32_t types[] = {0, 1, 4, 8, 0, 1, 11, 0x80000000};
	uint8_t how = next(in);
	unsigned table = how & 8 ? TABLE : DESC;
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {types[how & 7], 0, next(in) % 20};
	unsigned cut = how & 16 ? next(in) % 16 : 0;

	memcpy(ram + HEADER, &header, sizeof(header));
	put_descriptor(table, HEADER, 16 - cut, 1, 1);
	put_descriptor(table + 16, DATA, next(in) * 128u, 1u | (next(in) & 2u), 2);
	put_descriptor(table + 32, DATA + 0x800, next(in) * 16u, how & 32 ? 3 : 2, 3);
	put_descriptor(table + 48, HEADER + 32, 1, 2, 0);
	if (how & 8)
		put_descriptor(DESC, TABLE, how & 64 ? 64 : 48, 4, 0);
	for (unsigned n = how & 128 ? SIZE : 1; n > 0; n--)
		offer(0);
}

static void operate(struct machine *m, struct input *in)
{
	static uint8_t before[RAM];

	for (unsigned steps = 0; in->len > 0 && steps < 512; steps++) {
		unsigned op = next(in);

		switch (op % 8) {
		case 0:
			any_access(m, in);
			break;
		case 1:
			start(m, (uint8_t)(op >> 3), op & 64 ? next(in) : 0);
			break;
		case 2:
			request(in);
			break;
		case 3:
			m->disk.fail = op & 8 ? -EIO : 0;
			break;
		case 4:
			virtio_blk_ops.notify(m->blk, 0);
			break;
		case 5: /* a reset, and then nothing may happen */
			wr(m, VIRTIO_MMIO_STATUS, 0);
			memcpy(before, ram, sizeof(ram));
			virtio_blk_ops.notify(m->blk, 0);
			require(memcmp(before, ram, sizeof(ram)) == 0);
			if (op & 8)
				virtio_mmio_io_ops.reset(m->mmio);
			break;
		default: {
			unsigned at = (next(in) << 8 | next(in)) % RAM;

			for (unsigned n = op >> 3; n > 0 && at < RAM; n--)
				ram[at++] = next(in);
			break;
		}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};
	uint8_t first = next(&in);

	memset(&m, 0, sizeof(m));
	memset(ram, 0, sizeof(ram));
	machine_make(&m, first & 1);
	start(&m, first >> 1, 0);
	operate(&m, &in);
	if (first & 1) {
		for (unsigned i = 0; i < DISK_BYTES; i++)
			require(m.disk.data[i] == 0);
	}
	machine_end(&m);
	return 0;
}
