/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PVH entry (Xen docs/misc/pvh.pandoc): the processor's state, and the start info. What the ABI
 * leaves open is not looked at: selectors, GDT, the other registers. memory=N as in memory.c.
 */
#include "pvh.h"
#include "rt.h"

#define CR0_PE 0x1u
#define CR0_ET 0x10u /* reads as 1, whatever is written */

#define EFLAGS_TF 0x100u
#define EFLAGS_IF 0x200u
#define EFLAGS_VM 0x20000u

static const struct pvh_info *start_info(void)
{
	return (const void *)(uint64_t)rt_pvh_entry.info;
}

static void registers(void)
{
	EXPECT(rt_pvh_entry.info != 0);
	EXPECT_EQ(rt_pvh_entry.cr0, CR0_PE | CR0_ET);
	EXPECT_EQ(rt_pvh_entry.cr4, 0);
	EXPECT_EQ(rt_pvh_entry.eflags & (EFLAGS_TF | EFLAGS_IF | EFLAGS_VM), 0);
}

static void segments_are_flat(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rt_pvh_entry.version); i++) {
		EXPECT(rt_pvh_entry.version[i] >> 16 >= 3); /* as many LVT entries, less one */
		EXPECT_EQ(rt_pvh_entry.version[i], rt_pvh_entry.version[0]);
	}
}

static void start_info_is_right(void)
{
	const struct pvh_info *info = start_info();

	EXPECT_EQ(info->magic, PVH_MAGIC);
	EXPECT_EQ(info->version, 1);
	EXPECT_EQ(info->flags, 0);
	EXPECT_EQ(info->reserved, 0);
	EXPECT_EQ(info->modules, 0);
	EXPECT_EQ(info->modlist, 0);
	EXPECT_EQ(info->rsdp, 0); /* with the MP table */
	EXPECT(info->memmap_entries >= 2);
}

static void command_line_is_there(void)
{
	const char *text = (const char *)start_info()->cmdline;

	EXPECT(text != NULL);
	EXPECT_EQ(memcmp(text, boot_info.cmdline, strlen(boot_info.cmdline) + 1), 0);
	EXPECT(cmdline_has("memory"));
}

/* Sorted, nothing twice, all the memory there is, and the reserved fields are 0. */
static void memory_map(void)
{
	const struct pvh_memmap *map = (const void *)start_info()->memmap;
	uint64_t ram = 0, memory = cmdline_number("memory", 0);

	for (unsigned i = 0; i < start_info()->memmap_entries; i++) {
		EXPECT(map[i].size > 0);
		EXPECT_EQ(map[i].reserved, 0);
		if (i)
			EXPECT(map[i].addr >= map[i - 1].addr + map[i - 1].size);
		if (map[i].type == E820_RAM)
			ram += map[i].size;
	}
	EXPECT(ram <= memory);
	EXPECT(ram + (1u << 20) >= memory);
}

static const struct test_case cases[] = {
    {"registers", registers, 0},
    {"segments_are_flat", segments_are_flat, 0},
    {"start_info_is_right", start_info_is_right, 0},
    {"command_line_is_there", command_line_is_there, 0},
    {"memory_map", memory_map, 0},
};

int payload_main(void)
{
	if (!rt_pvh_entry.info) {
		print("not ok - not entered by PVH\n");
		return 1;
	}
	return run_cases("pvh", cases, ARRAY_SIZE(cases));
}
