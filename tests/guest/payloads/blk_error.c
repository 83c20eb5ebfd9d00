/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk requests that must fail, one by one and with the right status, and requests framed
 * oddly that must not (VIRTIO 1.2 §2.7.4: no assumption about framing). After each the device goes
 * on without a reset.
 */
#include "disks.h"
#include "pattern.h"
#include "rt.h"
#include "time.h"
#include "vblk.h"

#define QUEUE 64

static struct vblk blk;
static uint8_t buf[64 * SECTOR] __attribute__((aligned(4096)));

#define OPEN() EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL, QUEUE))
#define EXPECT_GOES_ON()                                                                           \
	do {                                                                                       \
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 9, buf, SECTOR), VBLK_S_OK);                    \
		EXPECT_EQ(pattern_check(buf, MAIN_SEED, 9, 1), 1);                                 \
	} while (0)
/* QEMU, our second opinion, calls many of these a driver bug and stops the device. */
#define STRICTER_THAN_QEMU()                                                                       \
	do {                                                                                       \
		if (boot_info.foreign)                                                             \
			SKIP("another VMM's choice");                                              \
	} while (0)

/* --- ranges --- */

static void beyond_capacity(void)
{
	static const uint64_t bad[] = {MAIN_SECTORS, MAIN_SECTORS + 1,	1ull << 32,   1ull << 54,
				       1ull << 55,   (1ull << 55) + 1,	(1ull << 63), ~0ull,
				       ~0ull - 7,    0x7fffffffffffffff};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, bad[i], buf, SECTOR), VBLK_S_IOERR);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, bad[i], buf, SECTOR), VBLK_S_IOERR);
	}
	EXPECT_GOES_ON();
}

/* Starts inside, ends outside: nothing of it is done. */
static void across_the_end(void)
{
	OPEN();
	memset(buf, 0x11, 8 * SECTOR);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, MAIN_SECTORS - 1, buf, 2 * SECTOR), VBLK_S_IOERR);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, MAIN_SECTORS - 7, buf, 8 * SECTOR), VBLK_S_IOERR);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, MAIN_SECTORS - 7, buf, 8 * SECTOR), VBLK_S_IOERR);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, MAIN_SECTORS - 7, buf, 7 * SECTOR), VBLK_S_OK);
	EXPECT_EQ(pattern_check(buf, MAIN_SEED, MAIN_SECTORS - 7, 7), 7);
	EXPECT_GOES_ON();
}

static void odd_length(void)
{
	static const uint32_t bad[] = {1, 100, 511, 513, 1023, 4095};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, bad[i]), VBLK_S_IOERR);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, MAIN_SCRATCH, buf, bad[i]), VBLK_S_IOERR);
	}
	EXPECT_GOES_ON();
}

/* No data at all: done or refused, but answered. */
static void no_data(void)
{
	OPEN();
	EXPECT(vblk_io(&blk, VBLK_T_IN, 0, NULL, 0) != -1);
	EXPECT(vblk_io(&blk, VBLK_T_OUT, 0, NULL, 0) != -1);
	EXPECT_GOES_ON();
}

/* --- types --- */

static void unsupported_types(void)
{
	static const uint32_t bad[] = {2,  3,  5,  7,	  9,	      10,
				       11, 13, 14, 0x100, 0x80000000, 0xffffffff};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (boot_info.foreign && (bad[i] == 11 || bad[i] == 13 || bad[i] & 1u << 31))
			continue; /* QEMU offers discard, and takes bit 31 for a barrier */
		EXPECT_EQ(vblk_io(&blk, bad[i], 0, NULL, 0), VBLK_S_UNSUPP);
		EXPECT_EQ(vblk_io(&blk, bad[i], 0, buf, SECTOR), VBLK_S_UNSUPP);
	}
	EXPECT_GOES_ON();
}

/* --- ranges --- */

static int ranges(uint32_t type, const struct vblk_range *range, unsigned n)
{
	memcpy(buf, range, n * sizeof(*range));
	return vblk_io(&blk, type, 0, buf, n * (uint32_t)sizeof(*range));
}

#define OPEN_RANGES()                                                                              \
	do {                                                                                       \
		EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL | VBLK_F_RANGES, QUEUE));             \
		if ((blk.offered & VBLK_F_RANGES) != VBLK_F_RANGES)                                \
			SKIP("another VMM's choice");                                              \
	} while (0)

/* §5.2.6.2: a flag that is not known, and `unmap` of a discard, is not supported. */
static void range_flags(void)
{
	OPEN_RANGES();
	for (unsigned bit = 0; bit < 32; bit++) {
		struct vblk_range range = {9, 1, 1u << bit};

		EXPECT_EQ(ranges(VBLK_T_DISCARD, &range, 1), VBLK_S_UNSUPP);
		if (bit > 0)
			EXPECT_EQ(ranges(VBLK_T_WRITE_ZEROES, &range, 1), VBLK_S_UNSUPP);
	}
	EXPECT_GOES_ON();
}

static void ranges_beyond_capacity(void)
{
	static const struct vblk_range bad[] = {
	    {MAIN_SECTORS, 1, 0},     {MAIN_SECTORS - 1, 2, 0},
	    {0, MAIN_SECTORS + 1, 0}, {1ull << 55, 1, 0},
	    {(1ull << 55) + 1, 1, 0}, {~0ull, 1, 0},
	    {~0ull - 7, ~0u, 0},      {9, ~0u, 0},
	};

	OPEN_RANGES();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(ranges(VBLK_T_DISCARD, &bad[i], 1), VBLK_S_IOERR);
		EXPECT_EQ(ranges(VBLK_T_WRITE_ZEROES, &bad[i], 1), VBLK_S_IOERR);
	}
	EXPECT_GOES_ON();
}

/* Not a whole number of ranges, none, more than there may be: nothing is done. */
static void range_lists(void)
{
	static const uint32_t lengths[] = {1, 8, 15, 17, 31, 0};
	const struct vblk_range range = {9, 1, 0};
	uint32_t most;

	STRICTER_THAN_QEMU();
	OPEN_RANGES();
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(buf, 0, 64);
		memcpy(buf, &range, sizeof(range));
		EXPECT_EQ(vblk_io(&blk, VBLK_T_DISCARD, 0, buf, lengths[i]), VBLK_S_IOERR);
		EXPECT_EQ(vblk_io(&blk, VBLK_T_WRITE_ZEROES, 0, buf, lengths[i]), VBLK_S_IOERR);
	}
	most = vreg(&blk.dev, VREG_CONFIG + VBLK_C_MAX_DISCARD_SEG);
	for (unsigned i = 0; i <= most && i < sizeof(buf) / sizeof(range); i++)
		memcpy(buf + i * sizeof(range), &range, sizeof(range));
	EXPECT_EQ(vblk_io(&blk, VBLK_T_DISCARD, 0, buf, (most + 1) * 16), VBLK_S_IOERR);
	most = vreg(&blk.dev, VREG_CONFIG + VBLK_C_MAX_WRITE_ZEROES_SEG);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_WRITE_ZEROES, 0, buf, (most + 1) * 16), VBLK_S_IOERR);
	EXPECT_GOES_ON();
}

/* GET_ID with room for less or more than its 20 bytes (§5.2.6). */
static void get_id_lengths(void)
{
	static const uint16_t lengths[] = {1, 5, 19, 21, 512};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(buf, 0xff, 1024);
		EXPECT(vblk_io(&blk, VBLK_T_GET_ID, 0, buf, lengths[i]) != -1);
		EXPECT_EQ(buf[lengths[i]], 0xff);
		EXPECT(lengths[i] <= 20 || buf[20] == 0xff || buf[20] == 0);
	}
	EXPECT_GOES_ON();
}

/* --- a read-only disk --- */

static void read_only(void)
{
	EXPECT(vblk_open(&blk, DISK_RO, VBLK_F_ALL, QUEUE));
	EXPECT(blk.offered & VBLK_F_RO);
	EXPECT_EQ(blk.capacity, RO_SECTORS);
	memset(buf, 0, sizeof(buf));
	for (unsigned s = 0; s < RO_SECTORS; s++)
		EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, s, buf, SECTOR), VBLK_S_IOERR);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, RO_SECTORS * SECTOR), VBLK_S_OK);
	EXPECT_EQ(pattern_check(buf, RO_SEED, 0, RO_SECTORS), RO_SECTORS);
	EXPECT(vblk_io(&blk, VBLK_T_FLUSH, 0, NULL, 0) != -1);
	if (!boot_info.foreign)
		EXPECT_EQ(blk.offered & VBLK_F_RANGES, 0);
}

/* A driver that does not accept VIRTIO_BLK_F_RO cannot write either: the host enforces it. */
static void read_only_not_negotiated(void)
{
	EXPECT(vblk_open(&blk, DISK_RO, VBLK_F_FLUSH, QUEUE));
	EXPECT_EQ(vblk_io(&blk, VBLK_T_OUT, 0, buf, SECTOR), VBLK_S_IOERR);
}

/* --- framing --- */

/* The request as one run of bytes, cut into segments of these lengths. */
struct framing {
	struct vseg seg[8];
	unsigned n;
};

static uint8_t out_bytes[16 + SECTOR], in_bytes[SECTOR + 1];

static void cut(struct framing *f, uint8_t *bytes, const uint16_t *lengths, bool write)
{
	for (; *lengths; bytes += *lengths++)
		f->seg[f->n++] = (struct vseg){(uint64_t)bytes, *lengths, write};
}

/* Submits what stands in f; the status is the last byte that the device may write. */
static int submit(const struct framing *f, volatile uint8_t *status)
{
	uint32_t id, len;
	int head = vring_chain(&blk.q, f->seg, f->n);

	*status = VBLK_S_UNTOUCHED;
	if (head < 0)
		return -1;
	vring_offer(&blk.q, (uint16_t)head);
	vring_kick(&blk.q);
	if (!vring_take_wait(&blk.q, VBLK_TIMEOUT_MS, &id, &len) || id != (uint32_t)head)
		return -1;
	vring_free(&blk.q, (uint16_t)head);
	return *status;
}

static void framed_read(const uint16_t *out, const uint16_t *in)
{
	struct framing f = {.n = 0};
	struct vblk_hdr hdr = {VBLK_T_IN, 0, 11};

	memcpy(out_bytes, &hdr, sizeof(hdr));
	memset(in_bytes, 0, sizeof(in_bytes));
	cut(&f, out_bytes, out, false);
	cut(&f, in_bytes, in, true);
	EXPECT_EQ(submit(&f, &in_bytes[SECTOR]), VBLK_S_OK);
	EXPECT_EQ(pattern_check(in_bytes, MAIN_SEED, 11, 1), 1);
}

static void odd_framing_reads(void)
{
	static const uint16_t out[][4] = {{16}, {8, 8}, {1, 15}, {4, 4, 8}};
	static const uint16_t in[][5] = {{512, 1}, {513}, {1, 512}, {511, 2}, {100, 100, 313}};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(out); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(in); k++) {
			framed_read(out[i], in[k]);
			EXPECT_OK_SO_FAR();
		}
	}
}

static void framed_write(const uint16_t *out, unsigned round)
{
	struct framing f = {.n = 0};
	struct vblk_hdr hdr = {VBLK_T_OUT, 0, MAIN_SCRATCH + round};
	static const uint16_t status[] = {1, 0};

	memcpy(out_bytes, &hdr, sizeof(hdr));
	pattern_fill(out_bytes + 16, 9, MAIN_SCRATCH + round, 1);
	cut(&f, out_bytes, out, false);
	cut(&f, in_bytes, status, true);
	EXPECT_EQ(submit(&f, in_bytes), VBLK_S_OK);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, MAIN_SCRATCH + round, buf, SECTOR), VBLK_S_OK);
	EXPECT_EQ(pattern_check(buf, 9, MAIN_SCRATCH + round, 1), 1);
}

static void odd_framing_writes(void)
{
	static const uint16_t out[][5] = {{16, 512}, {528},	      {8, 520},
					  {17, 511}, {1, 1, 14, 512}, {15, 2, 510, 1}};

	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(out); i++) {
		framed_write(out[i], i);
		EXPECT_OK_SO_FAR();
	}
}

/* A writable part that is longer than the status: the last byte is the status. */
static void long_status(void)
{
	struct framing f = {.n = 0};
	struct vblk_hdr hdr = {VBLK_T_FLUSH, 0, 0};
	static const uint16_t out[] = {16, 0}, in[] = {4, 0};

	OPEN();
	memcpy(out_bytes, &hdr, sizeof(hdr));
	cut(&f, out_bytes, out, false);
	cut(&f, in_bytes, in, true);
	EXPECT_EQ(submit(&f, &in_bytes[3]), VBLK_S_OK);
}

/* --- short chains --- */

static void short_header(void)
{
	static const uint16_t lengths[] = {1, 4, 8, 15};
	static const uint16_t status[] = {1, 0};

	STRICTER_THAN_QEMU();
	OPEN();
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		const uint16_t out[] = {lengths[i], 0};
		struct framing f = {.n = 0};
		int rc;

		memset(out_bytes, 0, 16);
		cut(&f, out_bytes, out, false);
		cut(&f, in_bytes, status, true);
		rc = submit(&f, in_bytes);
		/* answered; and if there is a verdict, it is not "done" */
		EXPECT(rc == VBLK_S_IOERR || rc == VBLK_S_UNSUPP || rc == VBLK_S_UNTOUCHED);
	}
	EXPECT_GOES_ON();
}

/* Nowhere to put a status: the head comes back with length 0, a write is not done. */
static void missing_status(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg data = {(uint64_t)buf, SECTOR, false};

	STRICTER_THAN_QEMU();
	OPEN();
	memset(buf, 0x22, SECTOR);
	vblk_prepare(r, VBLK_T_OUT, 1, &data, 1);
	EXPECT(vblk_submit_wait(&blk, r, 2) != -1);
	EXPECT_EQ(r->used_len, 0);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 1, buf, SECTOR), VBLK_S_OK);
	EXPECT_EQ(pattern_check(buf, MAIN_SEED, 1, 1), 1);
	vblk_prepare(r, VBLK_T_FLUSH, 0, NULL, 0);
	EXPECT(vblk_submit_wait(&blk, r, 1) != -1);
	EXPECT_EQ(r->used_len, 0);
	EXPECT_GOES_ON();
}

/* No header: only memory that the device may write. */
static void missing_header(void)
{
	struct framing f = {.n = 0};
	static const uint16_t in[] = {512, 1, 0};

	STRICTER_THAN_QEMU();
	OPEN();
	cut(&f, in_bytes, in, true);
	EXPECT(submit(&f, &in_bytes[SECTOR]) != VBLK_S_OK);
	EXPECT_GOES_ON();
}

/* Reading into memory that the device may only read, and the reverse. */
static void wrong_direction(void)
{
	struct vblk_req *r = vblk_req_alloc();
	struct vseg data = {(uint64_t)buf, SECTOR, false};

	STRICTER_THAN_QEMU();
	OPEN();
	memset(buf, 0x33, SECTOR);
	vblk_prepare(r, VBLK_T_IN, 0, &data, 1);
	r->seg[1].write = false;
	EXPECT(vblk_submit_wait(&blk, r, 3) != -1);
	for (unsigned i = 0; i < SECTOR; i++)
		EXPECT_EQ(buf[i], 0x33);
	vblk_prepare(r, VBLK_T_OUT, MAIN_SCRATCH, &data, 1);
	r->seg[1].write = true;
	EXPECT(vblk_submit_wait(&blk, r, 3) != -1);
	EXPECT_GOES_ON();
}

static void empty_segments(void)
{
	struct framing f = {.n = 0};
	struct vblk_hdr hdr = {VBLK_T_IN, 0, 11};

	STRICTER_THAN_QEMU();
	OPEN();
	memcpy(out_bytes, &hdr, sizeof(hdr));
	f.seg[f.n++] = (struct vseg){(uint64_t)out_bytes, 16, false};
	f.seg[f.n++] = (struct vseg){(uint64_t)in_bytes, 0, true};
	f.seg[f.n++] = (struct vseg){(uint64_t)in_bytes, SECTOR, true};
	f.seg[f.n++] = (struct vseg){(uint64_t)in_bytes + SECTOR, 1, true};
	EXPECT(submit(&f, &in_bytes[SECTOR]) != -1);
	EXPECT_GOES_ON();
}

/* Errors in the middle of a batch hit their own request only. */
static void errors_in_a_batch(void)
{
	static struct vblk_req *r[16];

	OPEN();
	for (unsigned i = 0; i < 16; i++) {
		struct vseg data = {(uint64_t)buf + i * SECTOR, SECTOR, false};

		r[i] = vblk_req_alloc();
		vblk_prepare(r[i], VBLK_T_IN, i % 3 == 1 ? MAIN_SECTORS + i : i, &data, 1);
		EXPECT(vblk_offer(&blk, r[i], 3));
	}
	vring_kick(&blk.q);
	for (unsigned i = 0; i < 16; i++) {
		uint32_t id, len;

		EXPECT(vring_take_wait(&blk.q, VBLK_TIMEOUT_MS, &id, &len));
		vring_free(&blk.q, (uint16_t)id);
	}
	for (unsigned i = 0; i < 16; i++) {
		EXPECT_EQ(r[i]->status, i % 3 == 1 ? VBLK_S_IOERR : VBLK_S_OK);
		if (i % 3 != 1)
			EXPECT_EQ(pattern_check(buf + i * SECTOR, MAIN_SEED, i, 1), 1);
	}
}

static const struct test_case cases[] = {
    {"beyond_capacity", beyond_capacity, 3},
    {"across_the_end", across_the_end, 3},
    {"odd_length", odd_length, 3},
    {"no_data", no_data, 3},
    {"unsupported_types", unsupported_types, 3},
    {"range_flags", range_flags, 3},
    {"ranges_beyond_capacity", ranges_beyond_capacity, 3},
    {"range_lists", range_lists, 3},
    {"get_id_lengths", get_id_lengths, 3},
    {"read_only", read_only, 3},
    {"read_only_not_negotiated", read_only_not_negotiated, 3},
    {"odd_framing_reads", odd_framing_reads, 3},
    {"odd_framing_writes", odd_framing_writes, 3},
    {"long_status", long_status, 3},
    {"short_header", short_header, 3},
    {"missing_status", missing_status, 3},
    {"missing_header", missing_header, 3},
    {"wrong_direction", wrong_direction, 3},
    {"empty_segments", empty_segments, 3},
    {"errors_in_a_batch", errors_in_a_batch, 3},
};

int payload_main(void)
{
	return run_cases("blk_error", cases, ARRAY_SIZE(cases));
}
