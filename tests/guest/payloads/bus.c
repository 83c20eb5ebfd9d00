/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses that nobody claims: reads are all ones in every width, writes vanish, nothing hangs.
 * Also string port I/O, and accesses that only half hit a device.
 */
#include "rt.h"
#include "trap.h"
#include "x86.h"

/* Far from any device of the map (docs/architecture.md "What is where"), and at its edges. */
static const uint16_t free_ports[] = {0x0510, 0x1234, 0x5658, 0x9ff0, 0xff00, 0xfffc};
static const uint64_t free_mmio[] = {0xc00ff000, 0xd0000000, 0xdffffff8, 0xf0000000, 0xfebff000};

#define QEMU_SKIP()                                                                                \
	do {                                                                                       \
		if (boot_info.foreign)                                                             \
			SKIP("another VMM's map");                                                 \
	} while (0)

static void ports_read_ones(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(free_ports); i++) {
		EXPECT_EQ(in8(free_ports[i]), 0xff);
		EXPECT_EQ(in16(free_ports[i]), 0xffff);
		EXPECT_EQ(in32(free_ports[i]), 0xffffffff);
	}
}

static void ports_drop_writes(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(free_ports); i++) {
		out8(free_ports[i], 0x12);
		out16(free_ports[i], 0x1234);
		out32(free_ports[i], 0x12345678);
		EXPECT_EQ(in32(free_ports[i]), 0xffffffff);
	}
}

static void ports_string(void)
{
	uint8_t bytes[100];
	uint32_t words[16];
	void *to = bytes;
	uint64_t count = sizeof(bytes);

	memset(bytes, 0, sizeof(bytes));
	memset(words, 0, sizeof(words));
	asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x1234) : "memory");
	for (unsigned i = 0; i < sizeof(bytes); i++)
		EXPECT_EQ(bytes[i], 0xff);
	to = words;
	count = ARRAY_SIZE(words);
	asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(0x1234) : "memory");
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		EXPECT_EQ(words[i], 0xffffffff);
}

/* String input from a device: eight reads of COM1's scratch register. */
static void ports_string_device(void)
{
	uint8_t bytes[8];
	void *to = bytes;
	uint64_t count = sizeof(bytes);

	out8(0x3f8 + 7, 0x3c);
	asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x3f8 + 7) : "memory");
	for (unsigned i = 0; i < sizeof(bytes); i++)
		EXPECT_EQ(bytes[i], 0x3c);
}

static void mmio_reads_ones(void)
{
	QEMU_SKIP();
	for (unsigned i = 0; i < ARRAY_SIZE(free_mmio); i++) {
		EXPECT_EQ(mmio_read8(free_mmio[i]), 0xff);
		EXPECT_EQ(mmio_read16(free_mmio[i]), 0xffff);
		EXPECT_EQ(mmio_read32(free_mmio[i]), 0xffffffff);
		EXPECT_EQ(mmio_read64(free_mmio[i]), 0xffffffffffffffff);
	}
}

static void mmio_drops_writes(void)
{
	QEMU_SKIP();
	for (unsigned i = 0; i < ARRAY_SIZE(free_mmio); i++) {
		mmio_write8(free_mmio[i], 0x12);
		mmio_write16(free_mmio[i], 0x1234);
		mmio_write32(free_mmio[i], 0x12345678);
		mmio_write64(free_mmio[i], 0x123456789abcdef0);
		EXPECT_EQ(mmio_read64(free_mmio[i]), 0xffffffffffffffff);
	}
}

static void mmio_unaligned(void)
{
	QEMU_SKIP();
	for (unsigned i = 1; i < 8; i++) {
		EXPECT_EQ(mmio_read32(0xd0000000 + i), 0xffffffff);
		EXPECT_EQ(mmio_read64(0xd0000ffc + i), 0xffffffffffffffff); /* two pages */
		mmio_write64(0xd0000ffc + i, 0);
	}
}

/* An access that runs over the end of a device is nobody's; the device keeps its state. */
static void port_half_hit(void)
{
	QEMU_SKIP();
	out8(0x3f8 + 7, 0x77);
	(void)in32(0x3f8 + 7);
	EXPECT_EQ(in8(0x3f8 + 7), 0x77);
}

static void ram_is_ram(void)
{
	/* the first and the last page of RAM hold what is written */
	volatile uint64_t *last = (volatile uint64_t *)(boot_info.ram_end - 8);

	EXPECT(boot_info.ram_end >= 16u << 20);
	*last = 0x1122334455667788;
	EXPECT_EQ(*last, 0x1122334455667788);
}

static void behind_ram(void)
{
	QEMU_SKIP();
	EXPECT_EQ(mmio_read32(boot_info.ram_end), 0xffffffff);
	mmio_write32(boot_info.ram_end, 0);
	EXPECT_EQ(mmio_read32(boot_info.ram_end), 0xffffffff);
}

static const struct test_case cases[] = {
    {"ports_read_ones", ports_read_ones, 0}, {"ports_drop_writes", ports_drop_writes, 0},
    {"ports_string", ports_string, 0},	     {"ports_string_device", ports_string_device, 0},
    {"ports_ring3", ports_read_ones, 3},     {"port_half_hit", port_half_hit, 0},
    {"mmio_reads_ones", mmio_reads_ones, 0}, {"mmio_drops_writes", mmio_drops_writes, 0},
    {"mmio_unaligned", mmio_unaligned, 0},   {"mmio_ring3", mmio_reads_ones, 3},
    {"ram_is_ram", ram_is_ram, 0},	     {"behind_ram", behind_ram, 0},
};

int payload_main(void)
{
	return run_cases("bus", cases, ARRAY_SIZE(cases));
}
