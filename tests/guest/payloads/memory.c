/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map and the memory: memory=N on the command line says how many bytes there must be.
 * With a disk, also its DMA into the last page, which lies above 4 GiB when there is that much.
 */
#include "disks.h"
#include "paging.h"
#include "pattern.h"
#include "rt.h"
#include "vblk.h"
#include "x86.h"

#define MMIO_HOLE 0xc0000000ull
#define FOUR_GIB  (1ull << 32)

static uint64_t memory;

static bool is_ram(const struct boot_range *r)
{
	return r->type == E820_RAM;
}

static void map_is_sound(void)
{
	if (boot_info.foreign)
		SKIP("another VMM's map");
	EXPECT(boot_info.ranges >= 1);
	for (unsigned i = 0; i < boot_info.ranges; i++) {
		const struct boot_range *r = &boot_info.range[i];

		EXPECT(r->start < r->end);
		if (i)
			EXPECT(r->start >= r[-1].end); /* sorted, nothing twice */
	}
}

/* RAM keeps out of the device hole, of video memory and BIOS; little of what was paid for is lost.
 */
static void map_is_right(void)
{
	uint64_t sum = 0;

	if (boot_info.foreign)
		SKIP("another VMM's map");
	for (unsigned i = 0; i < boot_info.ranges; i++) {
		const struct boot_range *r = &boot_info.range[i];

		if (!is_ram(r))
			continue;
		sum += r->end - r->start;
		EXPECT(r->end <= MMIO_HOLE || r->start >= FOUR_GIB);
		EXPECT(r->end <= 0xa0000 || r->start >= 0x100000);
	}
	EXPECT(sum <= memory);
	EXPECT(sum + (1u << 20) >= memory);
}

static struct boot_range *last_ram(void)
{
	struct boot_range *last = NULL;

	for (unsigned i = 0; i < boot_info.ranges; i++) {
		if (is_ram(&boot_info.range[i]))
			last = &boot_info.range[i];
	}
	return last;
}

static void reaches_the_end(void)
{
	const struct boot_range *r = last_ram();

	if (boot_info.foreign)
		SKIP("another VMM's map");
	EXPECT(r != NULL);
	if (memory <= MMIO_HOLE)
		EXPECT_EQ(r->end, memory);
	else
		EXPECT_EQ(r->end, FOUR_GIB + memory - MMIO_HOLE);
}

/* The words at the ends of each range above 4 MiB hold what is written, each its own. */
static void holds_what_is_written(void)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < boot_info.ranges; i++) {
			const struct boot_range *r = &boot_info.range[i];
			uint64_t ends[2] = {r->start, r->end - 8};

			for (unsigned k = 0; k < 2; k++) {
				if (!is_ram(r) || ends[k] < 4u << 20)
					continue;
				EXPECT(page_map_high(ends[k]));
				if (pass == 0)
					mmio_write64(ends[k], ~ends[k]);
				else
					EXPECT_EQ(mmio_read64(ends[k]), ~ends[k]);
			}
		}
	}
}

static void dma_to_the_end(void)
{
	static struct vblk blk;
	const struct boot_range *r = last_ram();
	uint64_t page = r->end - 4096;

	if (!cmdline_has("virtio_mmio.device"))
		SKIP("no disk");
	EXPECT(page_map_high(page));
	EXPECT(vblk_open(&blk, DISK_MAIN, VBLK_F_ALL, 16));
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 16, (void *)page, 8 * SECTOR), VBLK_S_OK);
	EXPECT_EQ(pattern_check((void *)page, MAIN_SEED, 16, 8), 8);
	/* one byte further there is nothing */
	EXPECT(page_map_high(r->end));
	if (!boot_info.foreign)
		EXPECT_EQ(mmio_read8(r->end), 0xff);
}

static const struct test_case cases[] = {
    {"map_is_sound", map_is_sound, 0},	     {"map_is_right", map_is_right, 0},
    {"reaches_the_end", reaches_the_end, 0}, {"holds_what_is_written", holds_what_is_written, 0},
    {"dma_to_the_end", dma_to_the_end, 0},
};

int payload_main(void)
{
	memory = cmdline_number("memory", 16u << 20);
	return run_cases("memory", cases, ARRAY_SIZE(cases));
}
