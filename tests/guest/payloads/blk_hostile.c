/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that lies. Each case leaves one kind of nonsense in the rings or registers and kicks. A
 * malformed chain must come back with used length 0, a ring that makes no sense must set
 * DEVICE_NEEDS_RESET (devices/virtio/queue.c); whatever it was, after a reset the device reads
 * sector 0 again, and nothing hangs. What the device may scribble on by our own doing lies in
 * memory that we do not need.
 */
#include "cpu.h"
#include "disks.h"
#include "pattern.h"
#include "rt.h"
#include "smp.h"
#include "time.h"
#include "vblk.h"

#define QUEUE	   64
#define VERDICT_MS 3000
#define MMIO_HOLE  0xc0000000ull

enum verdict {
	REJECTED, /* the head comes back with length 0 */
	ANSWERED, /* it comes back */
	BROKEN,	  /* DEVICE_NEEDS_RESET */
	NOTHING,  /* no answer is owed: just look a moment */
};

static struct vblk blk;
static uint8_t *playground; /* 64 KiB that anyone may scribble on */
static struct vblk_hdr *hdr;
static volatile uint8_t *status;

static void open_disk(uint64_t features)
{
	EXPECT(vblk_open(&blk, DISK_MAIN, features, QUEUE));
	playground = dma_alloc(65536, 4096);
	hdr = dma_alloc(sizeof(*hdr), 16);
	status = dma_alloc(16, 16);
	hdr->type = VBLK_T_IN;
	*status = VBLK_S_UNTOUCHED;
}

#define OPEN(features)                                                                             \
	do {                                                                                       \
		open_disk(features);                                                               \
		EXPECT_OK_SO_FAR();                                                                \
	} while (0)

static void put(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	blk.q.desc[i].addr = addr;
	blk.q.desc[i].len = len;
	blk.q.desc[i].flags = flags;
	blk.q.desc[i].next = next;
}

/* Descriptors 0, 1, 2: header, one sector to read, status. A sound request to be spoilt. */
static void put_read(void)
{
	put(0, (uint64_t)hdr, sizeof(*hdr), VDESC_NEXT, 1);
	put(1, (uint64_t)playground, SECTOR, VDESC_NEXT | VDESC_WRITE, 2);
	put(2, (uint64_t)status, 1, VDESC_WRITE, 0);
}

static bool needs_reset(void)
{
	return vdev_status(&blk.dev) & VSTATUS_NEEDS_RESET;
}

/* What came of it; with REJECTED and ANSWERED, of the head `head`. */
static void judge(uint16_t head, enum verdict want)
{
	uint64_t end = deadline_ms(want == NOTHING ? 20 : VERDICT_MS);
	uint32_t id = ~0u, len = ~0u;
	bool broken = false, used = false;

	while (!used && !broken && !expired(end)) {
		used = vring_take(&blk.q, &id, &len);
		broken = needs_reset();
	}
	if (boot_info.foreign && want != NOTHING) { /* QEMU stops the device instead of rejecting */
		EXPECT(used || broken);
	} else if (want == BROKEN) {
		EXPECT(broken);
	} else if (want != NOTHING) {
		EXPECT(used);
		EXPECT_EQ(id, head);
		if (want == REJECTED)
			EXPECT_EQ(len, 0);
	}
	EXPECT(vblk_alive(&blk));
}

static void offer_and_judge(uint16_t head, enum verdict want)
{
	vring_offer(&blk.q, head);
	vring_kick_always(&blk.q);
	judge(head, want);
}

/* --- chains: links --- */

static void loops(void)
{
	OPEN(VBLK_F_ALL);
	put_read();
	put(2, (uint64_t)status, 1, VDESC_WRITE | VDESC_NEXT, 0);
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put(5, (uint64_t)hdr, 16, VDESC_NEXT, 5);
	offer_and_judge(5, REJECTED);
	EXPECT_OK_SO_FAR();
	for (unsigned i = 0; i < QUEUE; i++) /* the longest one */
		put(i, (uint64_t)playground, SECTOR, VDESC_NEXT, (uint16_t)((i + 1) % QUEUE));
	offer_and_judge(0, REJECTED);
}

static void next_out_of_range(void)
{
	static const uint16_t bad[] = {QUEUE, QUEUE + 1, 0x7fff, 0x8000, 0xffff};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put_read();
		blk.q.desc[1].next = bad[i];
		offer_and_judge(0, REJECTED);
		EXPECT_OK_SO_FAR();
	}
}

static void head_out_of_range(void)
{
	static const uint16_t bad[] = {QUEUE, QUEUE + 1, 0x8000, 0xffff};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put_read();
		offer_and_judge(bad[i], BROKEN);
		EXPECT_OK_SO_FAR();
	}
}

static void writable_before_readable(void)
{
	OPEN(VBLK_F_ALL);
	put(0, (uint64_t)status, 1, VDESC_WRITE | VDESC_NEXT, 1);
	put(1, (uint64_t)hdr, 16, 0, 0);
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_read();
	put(2, (uint64_t)status, 1, VDESC_WRITE | VDESC_NEXT, 3);
	put(3, (uint64_t)playground, SECTOR, 0, 0);
	offer_and_judge(0, REJECTED);
}

static void unknown_flags(void)
{
	OPEN(VBLK_F_ALL);
	put_read();
	for (unsigned i = 0; i < 3; i++)
		blk.q.desc[i].flags |= 0xfff8;
	offer_and_judge(0, ANSWERED);
}

/* --- chains: addresses --- */

static void bad_buffer(uint64_t addr, uint32_t len)
{
	for (unsigned which = 0; which < 3; which++) {
		put_read();
		blk.q.desc[which].addr = addr;
		if (len)
			blk.q.desc[which].len = len;
		offer_and_judge(0, REJECTED);
		EXPECT_OK_SO_FAR();
	}
}

static void addresses(void)
{
	const uint64_t bad[] = {
	    boot_info.ram_end, MMIO_HOLE,  blk.dev.base, blk.dev.base + 0x100, 0xfec00000,
	    0xfee00000,	       0xfffff000, 1ull << 32,	 1ull << 40,	       1ull << 52,
	    1ull << 63,	       ~0ull,	   ~0ull - 511,	 boot_info.ram_end + 1};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		bad_buffer(bad[i], 0);
		EXPECT_OK_SO_FAR();
	}
}

static void lengths(void)
{
	OPEN(VBLK_F_ALL);
	bad_buffer((uint64_t)playground, 0xffffffff);
	EXPECT_OK_SO_FAR();
	bad_buffer((uint64_t)playground, 0x80000000);
	EXPECT_OK_SO_FAR();
	bad_buffer(boot_info.ram_end - 1, 2);
	EXPECT_OK_SO_FAR();
	bad_buffer(boot_info.ram_end - SECTOR + 1, SECTOR);
	EXPECT_OK_SO_FAR();
	bad_buffer(~0ull - 15, 0x20); /* wraps round to the first bytes of RAM */
	EXPECT_OK_SO_FAR();
	bad_buffer(1, 0xffffffff);
}

/* Lengths that are each possible, but add up to more than 4 GiB would hold, or than the disk. */
static void sum_of_lengths(void)
{
	OPEN(VBLK_F_ALL);
	put(0, (uint64_t)hdr, 16, VDESC_NEXT, 1);
	for (uint16_t i = 1; i < QUEUE; i++)
		put(i, 0x400000, 12u << 20, VDESC_WRITE | VDESC_NEXT, (uint16_t)(i + 1));
	hdr->type = VBLK_T_IN;
	hdr->sector = MAIN_SECTORS; /* must not read into what lies there: out of range */
	put(QUEUE - 1, (uint64_t)status, 1, VDESC_WRITE, 0);
	offer_and_judge(0, ANSWERED);
}

static void empty_buffers(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned which = 0; which < 3; which++) {
		put_read();
		blk.q.desc[which].len = 0;
		offer_and_judge(0, ANSWERED);
		EXPECT_OK_SO_FAR();
	}
	for (uint16_t i = 0; i < QUEUE; i++)
		put(i, 0, 0, i + 1 < QUEUE ? VDESC_NEXT : 0, (uint16_t)(i + 1));
	offer_and_judge(0, ANSWERED);
}

/* --- indirect tables --- */

static struct vdesc *table;

static void put_table(uint32_t len, uint16_t flags)
{
	table[0] = (struct vdesc){(uint64_t)hdr, 16, VDESC_NEXT, 1};
	table[1] = (struct vdesc){(uint64_t)playground, SECTOR, VDESC_NEXT | VDESC_WRITE, 2};
	table[2] = (struct vdesc){(uint64_t)status, 1, VDESC_WRITE, 0};
	put(0, (uint64_t)table, len, VDESC_INDIRECT | flags, 1);
	put(1, (uint64_t)status, 1, VDESC_WRITE, 0);
}

#define OPEN_TABLE(features)                                                                       \
	do {                                                                                       \
		OPEN(features);                                                                    \
		table = dma_alloc(16 * 1024, 16);                                                  \
	} while (0)

static void table_lengths(void)
{
	static const uint32_t bad[] = {0, 1, 8, 15, 17, 47, 49, 0xfffffff0, 0xffffffff};

	OPEN_TABLE(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put_table(bad[i], 0);
		offer_and_judge(0, REJECTED);
		EXPECT_OK_SO_FAR();
	}
	put_table(32, 0); /* `next` points behind the table */
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_table(16 * 65536 + 16, 0); /* more entries than `next` can reach: waste, no harm */
	offer_and_judge(0, ANSWERED);
}

static void table_addresses(void)
{
	const uint64_t bad[] = {boot_info.ram_end, boot_info.ram_end - 16,
				MMIO_HOLE,	   blk.dev.base,
				~0ull - 15,	   1ull << 63};

	OPEN_TABLE(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put_table(48, 0);
		blk.q.desc[0].addr = bad[i];
		offer_and_judge(0, REJECTED);
		EXPECT_OK_SO_FAR();
	}
	put_table(48, 0);
	memmove((uint8_t *)table + 3, table, 48); /* a table needs no alignment */
	blk.q.desc[0].addr += 3;
	offer_and_judge(0, ANSWERED);
}

static void table_nested(void)
{
	OPEN_TABLE(VBLK_F_ALL);
	put_table(48, 0);
	table[1] = (struct vdesc){(uint64_t)&table[8], 16, VDESC_INDIRECT | VDESC_NEXT, 2};
	table[8] = (struct vdesc){(uint64_t)playground, SECTOR, VDESC_WRITE, 0};
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_table(16, 0);
	table[0] = (struct vdesc){(uint64_t)table, 16, VDESC_INDIRECT, 0}; /* itself */
	offer_and_judge(0, REJECTED);
}

static void table_loop(void)
{
	OPEN_TABLE(VBLK_F_ALL);
	put_table(48, 0);
	table[2].flags |= VDESC_NEXT;
	table[2].next = 0;
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_table(48, 0);
	table[1].next = 3;
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_table(48, 0);
	table[1].next = 0xffff;
	offer_and_judge(0, REJECTED);
}

static void table_in_a_chain(void)
{
	OPEN_TABLE(VBLK_F_ALL);
	put_table(48, VDESC_NEXT); /* forbidden by §2.7.5.3.1 */
	offer_and_judge(0, REJECTED);
	EXPECT_OK_SO_FAR();
	put_table(48, VDESC_WRITE); /* the device ignores WRITE on it, §2.7.5.3.2 */
	offer_and_judge(0, ANSWERED);
	EXPECT_OK_SO_FAR();
	put_table(48, 0); /* behind a direct descriptor: allowed by nobody, harmless to some */
	put(3, (uint64_t)hdr, 16, VDESC_NEXT, 0);
	offer_and_judge(3, ANSWERED);
}

static void table_longer_than_queue(void)
{
	OPEN_TABLE(VBLK_F_ALL);
	for (unsigned i = 0; i < 1024; i++)
		table[i] =
		    (struct vdesc){(uint64_t)playground, 1,
				   (uint16_t)(i + 1 < 1024 ? VDESC_NEXT : 0), (uint16_t)(i + 1)};
	put(0, (uint64_t)table, 16 * 1024, VDESC_INDIRECT, 0);
	offer_and_judge(0, ANSWERED);
}

static void table_not_negotiated(void)
{
	OPEN_TABLE(VBLK_F_ALL & ~VF_INDIRECT_DESC);
	put_table(48, 0);
	offer_and_judge(0, REJECTED);
}

/* --- the rings --- */

static void avail_index_jumps(void)
{
	static const uint16_t bad[] = {QUEUE + 1, QUEUE + 2, 0x7fff, 0x8000, 0xffff};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put_read();
		blk.q.avail->idx = bad[i];
		vreg_set(&blk.dev, VREG_QUEUE_NOTIFY, 0);
		judge(0, BROKEN);
		EXPECT_OK_SO_FAR();
	}
}

static void avail_index_goes_back(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, playground, SECTOR), VBLK_S_OK);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, playground, SECTOR), VBLK_S_OK);
	blk.q.avail->idx = 1;
	vreg_set(&blk.dev, VREG_QUEUE_NOTIFY, 0);
	judge(0, BROKEN);
}

/* The whole ring full of the same bad chain: each is answered. */
static void full_of_rubbish(void)
{
	uint32_t id, len;

	OPEN(VBLK_F_ALL);
	put(7, (uint64_t)hdr, 16, VDESC_NEXT, 7);
	for (unsigned i = 0; i < QUEUE; i++)
		vring_offer(&blk.q, 7);
	vring_kick_always(&blk.q);
	for (unsigned i = 0; i < QUEUE && !boot_info.foreign; i++) {
		EXPECT(vring_take_wait(&blk.q, VERDICT_MS, &id, &len));
		EXPECT_EQ(id, 7);
		EXPECT_EQ(len, 0);
	}
	EXPECT(vblk_alive(&blk));
}

/* A sound request between bad ones is still served. */
static void sound_among_bad(void)
{
	uint32_t id, len;

	if (boot_info.foreign)
		SKIP("QEMU stops the device");
	OPEN(VBLK_F_ALL);
	put_read();
	put(7, (uint64_t)hdr, 16, VDESC_NEXT, 7);
	vring_offer(&blk.q, 7);
	vring_offer(&blk.q, 0);
	vring_offer(&blk.q, 7);
	vring_kick_always(&blk.q);
	for (unsigned i = 0; i < 3; i++)
		EXPECT(vring_take_wait(&blk.q, VERDICT_MS, &id, &len));
	EXPECT_EQ(*status, VBLK_S_OK);
	EXPECT_EQ(pattern_check(playground, MAIN_SEED, 0, 1), 1);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, playground, SECTOR), VBLK_S_OK);
}

static void same_head_twice(void)
{
	OPEN(VBLK_F_ALL);
	put_read();
	for (unsigned i = 0; i < 20; i++)
		vring_offer(&blk.q, 0);
	vring_kick_always(&blk.q);
	judge(0, ANSWERED);
}

struct place {
	uint64_t desc, avail, used;
};

static void ring_at(const struct place *p)
{
	EXPECT(vdev_negotiate(&blk.dev, VBLK_F_ALL));
	vreg_set(&blk.dev, VREG_QUEUE_SEL, 0);
	vreg_set(&blk.dev, VREG_QUEUE_NUM, QUEUE);
	vreg_set64(&blk.dev, VREG_QUEUE_DESC, p->desc);
	vreg_set64(&blk.dev, VREG_QUEUE_DRIVER, p->avail);
	vreg_set64(&blk.dev, VREG_QUEUE_DEVICE, p->used);
	vreg_set(&blk.dev, VREG_QUEUE_READY, 1);
	vdev_add_status(&blk.dev, VSTATUS_DRIVER_OK);
	vreg_set(&blk.dev, VREG_QUEUE_NOTIFY, 0);
	judge(0, NOTHING);
}

/* Each part in turn where no ring can be: beyond RAM, in the hole, over its end, misaligned. */
static void ring_places(void)
{
	const uint64_t bad[] = {boot_info.ram_end,
				boot_info.ram_end - 16,
				MMIO_HOLE,
				blk.dev.base,
				0xfee00000,
				1ull << 32,
				~0ull,
				~0ull - 15,
				0x800001};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t good = (uint64_t)playground;
		const struct place places[] = {{bad[i], good, good + 4096},
					       {good, bad[i], good + 4096},
					       {good, good + 4096, bad[i]},
					       {bad[i], bad[i], bad[i]}};

		for (unsigned k = 0; k < ARRAY_SIZE(places); k++) {
			ring_at(&places[k]);
			EXPECT_OK_SO_FAR();
		}
	}
}

/* All three parts in one place: the device overwrites what it is about to read. */
static void ring_overlaps(void)
{
	uint64_t at;
	struct place p;

	OPEN(VBLK_F_ALL);
	at = (uint64_t)playground;
	p = (struct place){at, at, at};
	for (unsigned i = 0; i < 4096; i++)
		playground[i] = (uint8_t)(i * 37);
	ring_at(&p);
	EXPECT_OK_SO_FAR();
	p = (struct place){at, at + 16, at + 8};
	ring_at(&p);
}

/* Data read from the disk into the rings themselves. */
static void data_into_rings(void)
{
	uint64_t targets[3];

	OPEN(VBLK_F_ALL);
	targets[0] = (uint64_t)blk.q.desc;
	targets[1] = (uint64_t)blk.q.avail;
	targets[2] = (uint64_t)blk.q.used;
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned n = 0; n < 4; n++) {
			put_read();
			blk.q.desc[1].addr = targets[i] & ~15ull;
			vring_offer(&blk.q, 0);
		}
		vring_kick_always(&blk.q);
		judge(0, NOTHING);
		EXPECT_OK_SO_FAR();
	}
}

/* --- EVENT_IDX --- */

static void wild_used_event(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 200; i++) {
		*vring_used_event(&blk.q) = (uint16_t)(i * 40503);
		*vring_avail_event(&blk.q) = (uint16_t)(i * 25717); /* not ours to write */
		put_read();
		vring_offer(&blk.q, 0);
		vring_kick_always(&blk.q);
		EXPECT(vring_take_wait(&blk.q, VERDICT_MS, &(uint32_t){0}, &(uint32_t){0}));
	}
	EXPECT(vblk_alive(&blk));
}

/* --- registers --- */

static uint64_t random_state = 88172645463325252ull;

static uint32_t random32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

static void missing_queue_kicks(void)
{
	static const uint32_t queues[] = {1,   2,      3,	4,	    7,
					  255, 0xffff, 0x10000, 0x7fffffff, 0xffffffff};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 10 * ARRAY_SIZE(queues); i++)
		vreg_set(&blk.dev, VREG_QUEUE_NOTIFY, queues[i % ARRAY_SIZE(queues)]);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, playground, SECTOR), VBLK_S_OK);
	EXPECT(!needs_reset());
}

/* Any value to any register; ring addresses keep to the playground or to where no RAM is. */
static void storm_step(void)
{
	uint32_t reg = random32() % 0x140 & ~3u, value = random32();

	if (reg >= VREG_QUEUE_DESC && reg <= VREG_QUEUE_DEVICE + 4)
		value = reg & 4 ? value & 1 : (uint32_t)(uint64_t)playground + value % 60000;
	else if (reg == VREG_STATUS && value % 4)
		value = (vdev_status(&blk.dev) | 1u << value % 4) & 0x0f;
	else if (value % 2)
		value %= 65;
	if (value % 16 == 7)
		(void)vreg(&blk.dev, reg);
	vreg_set(&blk.dev, reg, value);
}

static void register_storm(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 65536; i++)
		playground[i] = (uint8_t)random32();
	for (unsigned i = 0; i < 3000; i++)
		storm_step();
	blk.dev.features = VBLK_F_ALL;
	EXPECT(vblk_alive(&blk));
}

/* Queue taken away and given back while requests are under way. */
static void ready_toggled(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 100; i++) {
		put_read();
		vring_offer(&blk.q, 0);
		vring_kick_always(&blk.q);
		vreg_set(&blk.dev, VREG_QUEUE_SEL, 0);
		vreg_set(&blk.dev, VREG_QUEUE_READY, i & 1);
		vreg_set(&blk.dev, VREG_QUEUE_NUM, 1u << i % 8);
		vreg_set64(&blk.dev, VREG_QUEUE_DEVICE, MMIO_HOLE);
	}
	judge(0, NOTHING);
}

static void reset_storm(void)
{
	OPEN(VBLK_F_ALL);
	hdr->sector = MAIN_SCRATCH;
	for (unsigned i = 0; i < 100; i++) {
		EXPECT(vblk_restart(&blk));
		put_read();
		blk.q.desc[1].len = 65536;
		for (unsigned n = 0; n < 8; n++)
			vring_offer(&blk.q, 0);
		vring_kick_always(&blk.q);
		EXPECT(vdev_reset(&blk.dev));
		blk.dev.features = VBLK_F_ALL;
	}
	EXPECT(vblk_alive(&blk));
}

/* --- two processors --- */

static volatile bool stop;

/* Flips descriptors between sound and absurd while the device reads them. */
static long flip_descriptors(void *arg)
{
	(void)arg;
	while (!stop) {
		volatile struct vdesc *d = &blk.q.desc[random32() % 3];
		struct vdesc sound = {d->addr, d->len, d->flags, d->next};

		d->addr = random32() % 2 ? MMIO_HOLE : ~0ull;
		d->len = random32();
		d->flags = (uint16_t)(random32() % 8);
		d->next = (uint16_t)random32();
		cpu_pause();
		d->next = sound.next;
		d->flags = sound.flags;
		d->len = sound.len;
		d->addr = sound.addr;
	}
	return 0;
}

/* Writes all over the available ring and its index. */
static long flip_avail(void *arg)
{
	(void)arg;
	while (!stop) {
		blk.q.avail->ring[random32() % QUEUE] = (uint16_t)(random32() % (QUEUE + 8));
		if (random32() % 64 == 0)
			blk.q.avail->idx = (uint16_t)random32();
	}
	return 0;
}

static long storm_registers(void *arg)
{
	(void)arg;
	while (!stop)
		storm_step();
	return 0;
}

static long drive(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 300; i++) {
		uint64_t end = deadline_us(200);

		if (needs_reset() && !vblk_restart(&blk))
			blk.dev.features = VBLK_F_ALL;
		put_read();
		vring_offer(&blk.q, 0);
		vring_kick_always(&blk.q);
		while (!vring_take(&blk.q, &(uint32_t){0}, &(uint32_t){0}) && !expired(end))
			cpu_pause();
	}
	return 0;
}

struct other {
	long (*fn)(void *arg);
};

static void other_cpu(void *arg)
{
	run_user(((struct other *)arg)->fn, NULL);
}

static long alive(void *arg)
{
	(void)arg;
	blk.dev.features = VBLK_F_ALL;
	return vblk_alive(&blk);
}

static void against(long (*fn)(void *arg))
{
	static bool started;
	struct other other = {fn};

	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	started = started || smp_start_all(2) == 2;
	EXPECT(started);
	OPEN(VBLK_F_ALL);
	stop = false;
	smp_run(1, other_cpu, &other);
	run_user(drive, NULL);
	stop = true;
	EXPECT(smp_wait(1, VERDICT_MS));
	EXPECT(run_user(alive, NULL));
}

static void race_descriptors(void)
{
	against(flip_descriptors);
}

static void race_avail(void)
{
	against(flip_avail);
}

static void race_registers(void)
{
	against(storm_registers);
}

/* Nothing of all this reached the parts of the disk that were not ours to write. */
static void disk_intact(void)
{
	static uint8_t data[64 * SECTOR];

	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL, QUEUE));
	for (unsigned s = 0; s < MAIN_SCRATCH; s += 64) {
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, s, data, sizeof(data)), VBLK_S_OK);
		EXPECT_EQ(pattern_check(data, MAIN_SEED, s, 64), 64);
	}
}

static const struct test_case cases[] = {
    {"loops", loops, 3},
    {"next_out_of_range", next_out_of_range, 3},
    {"head_out_of_range", head_out_of_range, 3},
    {"writable_before_readable", writable_before_readable, 3},
    {"unknown_flags", unknown_flags, 3},
    {"addresses", addresses, 3},
    {"lengths", lengths, 3},
    {"sum_of_lengths", sum_of_lengths, 3},
    {"empty_buffers", empty_buffers, 3},
    {"table_lengths", table_lengths, 3},
    {"table_addresses", table_addresses, 3},
    {"table_nested", table_nested, 3},
    {"table_loop", table_loop, 3},
    {"table_in_a_chain", table_in_a_chain, 3},
    {"table_longer_than_queue", table_longer_than_queue, 3},
    {"table_not_negotiated", table_not_negotiated, 3},
    {"avail_index_jumps", avail_index_jumps, 3},
    {"avail_index_goes_back", avail_index_goes_back, 3},
    {"full_of_rubbish", full_of_rubbish, 3},
    {"sound_among_bad", sound_among_bad, 3},
    {"same_head_twice", same_head_twice, 3},
    {"ring_places", ring_places, 3},
    {"ring_overlaps", ring_overlaps, 3},
    {"data_into_rings", data_into_rings, 3},
    {"wild_used_event", wild_used_event, 3},
    {"missing_queue_kicks", missing_queue_kicks, 3},
    {"register_storm", register_storm, 3},
    {"ready_toggled", ready_toggled, 3},
    {"reset_storm", reset_storm, 3},
    {"race_descriptors", race_descriptors, 0},
    {"race_avail", race_avail, 0},
    {"race_registers", race_registers, 0},
    {"disk_intact", disk_intact, 3},
};

int payload_main(void)
{
	/* for the tables of bad addresses */
	vdev_find(VBLK_DEVICE_ID, DISK_MAIN, &blk.dev);
	return run_cases("blk_hostile", cases, ARRAY_SIZE(cases));
}
