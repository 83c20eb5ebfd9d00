/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a whole virtio-blk device: random register accesses through the MMIO ops,
 * random memory, kicks (virtio_guest.h).
 *
 * Checked beside what the sanitizers see: a read-only disk stays as it is, ranges lie on the disk
 * and within the limits, a device that was reset touches neither memory nor disk.
 */
#include <errno.h>

#include "minivm/virtio_blk.h"
#include "virtio_guest.h"

#define HEADER	   0x1000u
#define DATA	   0x2000u
#define DISK_BYTES 8192u

struct disk {
	struct block block;
	int fail; /* -errno for every operation */
	uint8_t data[DISK_BYTES];
};

struct machine {
	struct guest guest;
	struct disk disk;
	struct virtio_blk *blk;
};

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

static void check_range(const struct block *b, uint64_t off, uint64_t len)
{
	require(!b->readonly && len > 0 && off % 512 == 0 && len % 512 == 0);
	require(off <= DISK_BYTES && len <= DISK_BYTES - off);
}

static int disk_discard(struct block *b, uint64_t off, uint64_t len)
{
	struct disk *d = (struct disk *)b;

	check_range(b, off, len);
	if (d->fail == 0)
		memset(d->data + off, 0xdd, len);
	return d->fail;
}

static int disk_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	struct disk *d = (struct disk *)b;

	(void)unmap;
	check_range(b, off, len);
	if (d->fail == 0)
		memset(d->data + off, 0, len);
	return d->fail;
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
    .discard = disk_discard,
    .zero = disk_zero,
    .close = disk_close,
};

/* --- the machine --- */

static void machine_make(struct machine *m, bool readonly)
{
	struct virtio_blk_options opt = {
	    .backend = &m->disk.block, .id = "fuzz", .log = &m->guest.log};
	struct err err;

	guest_make(&m->guest);
	m->disk.block = (struct block){
	    .ops = &disk_ops,
	    .size = DISK_BYTES,
	    .readonly = readonly,
	    .physical_block = 512,
	};
	require(virtio_blk_new(&opt, &m->blk, &err) == 0);
	guest_plug(&m->guest, &virtio_blk_ops, m->blk);
}

/* With VIRTIO_BLK_F_FLUSH or without; with CONFIG_WCE; with DISCARD and WRITE_ZEROES. */
static void start_blk(struct machine *m, uint8_t features, uint8_t wrong)
{
	uint32_t blk = (features & 4 ? 1u << 9 : 0) | (features & 8 ? 1u << 11 : 0) |
		       (features & 16 ? 3u << 13 : 0);

	if (m->disk.block.readonly)
		blk &= 1u << 9;
	start(&m->guest, features, blk, wrong);
}

/* Header, data, status; indirect if asked for. With odd values it is malformed, which is fine. */
static void request(struct input *in)
{
	static const uint32_t types[] = {0, 1, 4, 8, 13, 1, 11, 0x80000000};
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

/* Discard or write zeroes: up to 20 ranges, most of them on the disk. */
static void range_request(struct input *in)
{
	unsigned how = next(in), n = how % 20;
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {how & 32 ? 13 : 11, 0, 0};

	memcpy(ram + HEADER, &header, sizeof(header));
	for (unsigned i = 0; i < n; i++) {
		unsigned odd = next(in);
		struct {
			uint64_t sector;
			uint32_t sectors, flags;
		} range = {next(in) % 18, next(in) % 10, odd & 1};

		if (odd & 128)
			range.flags = odd;
		if (odd & 64)
			range.sector <<= 55;
		memcpy(ram + DATA + i * sizeof(range), &range, sizeof(range));
	}
	put_descriptor(DESC, HEADER, 16, 1, 1);
	put_descriptor(DESC + 16, DATA, n * 16 + (how & 64 ? next(in) % 16 : 0), 1, 2);
	put_descriptor(DESC + 32, HEADER + 32, 1, 2, 0);
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
			start_blk(m, (uint8_t)(op >> 3), op & 64 ? next(in) : 0);
			break;
		case 2:
			request(in);
			break;
		case 3:
			if (op & 16)
				range_request(in);
			else
				m->disk.fail = op & 8 ? -EIO : 0;
			break;
		case 4:
			virtio_blk_ops.notify(m->blk, 0);
			break;
		case 5:
			reset_and_kick(&m->guest, &virtio_blk_ops, m->blk, 1);
			if (op & 8)
				virtio_mmio_io_ops.reset(m->guest.mmio);
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
	machine_make(&m, first & 1);
	start_blk(&m, first >> 1, 0);
	operate(&m, &in);
	if (first & 1) {
		for (unsigned i = 0; i < DISK_BYTES; i++)
			require(m.disk.data[i] == 0);
	}
	guest_end(&m.guest);
	return 0;
}
