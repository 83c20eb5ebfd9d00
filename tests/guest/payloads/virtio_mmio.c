/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio register block (VIRTIO 1.2 §4.2) of the first block device, register by register,
 * mostly from ring 3. What the specification leaves to the device is checked only for not hanging
 * and not changing anything.
 */
#include "apic.h"
#include "disks.h"
#include "rt.h"
#include "time.h"
#include "trap.h"
#include "vblk.h"

static struct vdev dev;
static struct vblk blk;
static uint8_t buf[8 * SECTOR] __attribute__((aligned(16)));

#define OPEN(features)                                                                             \
	do {                                                                                       \
		EXPECT(vblk_open(&blk, 0, features, 16));                                          \
		dev = blk.dev;                                                                     \
	} while (0)
#define EXPECT_ALIVE() EXPECT(vblk_alive(&blk))

static void identity(void)
{
	EXPECT(vdev_find(VBLK_DEVICE_ID, 0, &dev));
	EXPECT_EQ(vreg(&dev, VREG_MAGIC), VDEV_MAGIC);
	EXPECT_EQ(vreg(&dev, VREG_VERSION), 2);
	EXPECT_EQ(vreg(&dev, VREG_DEVICE_ID), VBLK_DEVICE_ID);
}

/* The device publishes the used index first, then sets the bit: wait for it. The status register.
 */
static uint32_t status_after_io(void)
{
	uint64_t end = deadline_ms(1000);
	uint32_t status;

	do
		status = vreg(&dev, VREG_INTERRUPT_STATUS);
	while (!(status & 1) && !expired(end));
	return status;
}

static void power_on_state(void)
{
	EXPECT(vdev_reset(&dev));
	EXPECT_EQ(vdev_status(&dev), 0);
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS), 0);
	vreg_set(&dev, VREG_QUEUE_SEL, 0);
	EXPECT_EQ(vreg(&dev, VREG_QUEUE_READY), 0);
	EXPECT(vreg(&dev, VREG_QUEUE_NUM_MAX) >= 128);
}

static void feature_pages(void)
{
	static const uint32_t beyond[] = {2, 3, 31, 0x80000000, 0xffffffff};
	uint64_t offered = vdev_offered(&dev);

	EXPECT(offered & VF_VERSION_1);
	EXPECT(offered & VF_INDIRECT_DESC);
	EXPECT(offered & VF_EVENT_IDX);
	EXPECT(offered & VBLK_F_SEG_MAX);
	EXPECT(offered & VBLK_F_FLUSH);
	EXPECT_EQ(offered & VBLK_F_RO, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++) {
		vreg_set(&dev, VREG_DEVICE_FEATURES_SEL, beyond[i]);
		EXPECT_EQ(vreg(&dev, VREG_DEVICE_FEATURES), 0);
	}
}

static uint8_t status_for(uint64_t features)
{
	vdev_reset(&dev);
	vdev_add_status(&dev, VSTATUS_ACKNOWLEDGE);
	vdev_add_status(&dev, VSTATUS_DRIVER);
	vdev_accept(&dev, features);
	vdev_add_status(&dev, VSTATUS_FEATURES_OK);
	return vdev_status(&dev) & VSTATUS_FEATURES_OK;
}

static void features_refused(void)
{
	uint64_t offered = vdev_offered(&dev);

	EXPECT_EQ(status_for(offered), VSTATUS_FEATURES_OK);
	EXPECT_EQ(status_for(VF_VERSION_1), VSTATUS_FEATURES_OK);
	if (boot_info.foreign)
		SKIP("QEMU takes legacy drivers and masks unknown bits");
	EXPECT_EQ(status_for(offered & ~VF_VERSION_1), 0);
	EXPECT_EQ(status_for(0), 0);
	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(offered & 1ull << bit))
			EXPECT_EQ(status_for(VF_VERSION_1 | 1ull << bit), 0);
	}
}

/* Feature pages that do not exist take no bits, or all drivers that clear them would fail. */
static void features_beyond(void)
{
	vdev_reset(&dev);
	vdev_add_status(&dev, VSTATUS_ACKNOWLEDGE | VSTATUS_DRIVER);
	vdev_accept(&dev, VF_VERSION_1);
	vreg_set(&dev, VREG_DRIVER_FEATURES_SEL, 2);
	vreg_set(&dev, VREG_DRIVER_FEATURES, 0);
	vdev_add_status(&dev, VSTATUS_FEATURES_OK);
	EXPECT(vdev_status(&dev) & VSTATUS_FEATURES_OK);
}

/* After FEATURES_OK the set is fixed: EVENT_IDX taken away or added later changes nothing. */
static void features_frozen(void)
{
	OPEN(VF_INDIRECT_DESC);
	vdev_accept(&dev, VF_VERSION_1 | VF_EVENT_IDX);
	for (unsigned i = 0; i < 20; i++) {
		/* without EVENT_IDX each completion interrupts, whatever used_event says */
		*vring_used_event(&blk.q) = 0x7000;
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, i, buf, SECTOR), VBLK_S_OK);
		EXPECT_EQ(status_after_io() & 1, 1);
		vreg_set(&dev, VREG_INTERRUPT_ACK, 1);
	}
}

static void missing_queues(void)
{
	static const uint32_t missing[] = {1, 2, 16, 0xffff, 0x10000, 0xffffffff};

	EXPECT(vdev_negotiate(&dev, VBLK_F_ALL));
	for (unsigned i = 0; i < ARRAY_SIZE(missing); i++) {
		vreg_set(&dev, VREG_QUEUE_SEL, missing[i]);
		EXPECT_EQ(vreg(&dev, VREG_QUEUE_NUM_MAX), 0);
		EXPECT_EQ(vreg(&dev, VREG_QUEUE_READY), 0);
		vreg_set(&dev, VREG_QUEUE_NUM, 16);
		vreg_set64(&dev, VREG_QUEUE_DESC, 0x800000);
		vreg_set(&dev, VREG_QUEUE_READY, 1);
		EXPECT_EQ(vreg(&dev, VREG_QUEUE_READY), 0);
		vreg_set(&dev, VREG_QUEUE_NOTIFY, missing[i]);
	}
	EXPECT_ALIVE();
}

static void queue_frozen(void)
{
	OPEN(VBLK_F_ALL);
	vreg_set(&dev, VREG_QUEUE_SEL, 0);
	vreg_set(&dev, VREG_QUEUE_NUM, 4);
	vreg_set64(&dev, VREG_QUEUE_DESC, 0xc0001000);
	vreg_set64(&dev, VREG_QUEUE_DRIVER, 0xfee00000);
	vreg_set64(&dev, VREG_QUEUE_DEVICE, 0x1234567890);
	vreg_set(&dev, VREG_QUEUE_READY, 1);
	for (unsigned i = 0; i < 40; i++)
		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, i, buf, SECTOR), VBLK_S_OK);
	EXPECT_ALIVE();
}

static void config_widths(void)
{
	uint64_t at = dev.base + VREG_CONFIG + VBLK_C_CAPACITY;
	uint64_t bytes = 0;

	EXPECT_EQ(mmio_read32(at), MAIN_SECTORS);
	EXPECT_EQ(mmio_read32(at + 4), 0);
	for (unsigned i = 0; i < 8; i++)
		bytes |= (uint64_t)mmio_read8(at + i) << 8 * i;
	EXPECT_EQ(bytes, MAIN_SECTORS);
	EXPECT_EQ(mmio_read16(at), MAIN_SECTORS & 0xffff);
	EXPECT_EQ(vreg(&dev, VREG_CONFIG + VBLK_C_BLK_SIZE), 512);
}

static void config_read_only(void)
{
	uint32_t generation = vreg(&dev, VREG_CONFIG_GENERATION);

	vreg_set64(&dev, VREG_CONFIG + VBLK_C_CAPACITY, ~0ull);
	vreg_set(&dev, VREG_CONFIG + VBLK_C_BLK_SIZE, 4096);
	EXPECT_EQ(vreg(&dev, VREG_CONFIG + VBLK_C_CAPACITY), MAIN_SECTORS);
	EXPECT_EQ(vreg(&dev, VREG_CONFIG + VBLK_C_BLK_SIZE), 512);
	EXPECT_EQ(vreg(&dev, VREG_CONFIG_GENERATION), generation);
}

static void config_beyond(void)
{
	for (uint64_t at = VREG_CONFIG; at < VDEV_MMIO_LEN; at += 0x1c) {
		(void)mmio_read32(dev.base + at);
		mmio_write32(dev.base + at, 0xffffffff);
	}
	(void)mmio_read32(dev.base + VDEV_MMIO_LEN - 4);
	(void)mmio_read64(dev.base + VDEV_MMIO_LEN - 4); /* over the end */
	EXPECT_EQ(vreg(&dev, VREG_CONFIG + VBLK_C_CAPACITY), MAIN_SECTORS);
}

/* Other than aligned 32-bit accesses to registers (§4.2.2.2): the device's state stays. */
static void wrong_widths(void)
{
	OPEN(VBLK_F_ALL);
	for (uint64_t at = dev.base; at < dev.base + VREG_CONFIG; at += 4) {
		(void)mmio_read8(at);
		(void)mmio_read16(at);
		(void)mmio_read64(at);
		(void)mmio_read32(at + 1);
		(void)mmio_read16(at + 3);
	}
	if (boot_info.foreign)
		SKIP("QEMU does not mind the width");
	mmio_write8(dev.base + VREG_STATUS, 0);
	mmio_write16(dev.base + VREG_STATUS, 0);
	mmio_write64(dev.base + VREG_STATUS, 0);
	mmio_write32(dev.base + VREG_STATUS + 2, 0);
	EXPECT_EQ(vdev_status(&dev), 15);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
}

static void read_only_registers(void)
{
	static const uint16_t ro[] = {
	    VREG_MAGIC,		  VREG_VERSION,	      VREG_DEVICE_ID,	     VREG_VENDOR_ID,
	    VREG_DEVICE_FEATURES, VREG_QUEUE_NUM_MAX, VREG_CONFIG_GENERATION};
	uint32_t before[ARRAY_SIZE(ro)];

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(ro); i++)
		before[i] = vreg(&dev, ro[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(ro); i++) {
		vreg_set(&dev, ro[i], ~before[i]);
		EXPECT_EQ(vreg(&dev, ro[i]), before[i]);
	}
	for (unsigned at = 0; at < VREG_CONFIG; at += 4)
		(void)vreg(&dev, at); /* write-only and reserved ones as well */
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
}

static void interrupt_status(void)
{
	OPEN(0);
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS), 0);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT_EQ(status_after_io(), 1);
	vreg_set(&dev, VREG_INTERRUPT_ACK, 0xfffffffe); /* another's bits */
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS) & 1, 1);
	vreg_set(&dev, VREG_INTERRUPT_ACK, 1);
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS), 0);
	vreg_set(&dev, VREG_INTERRUPT_ACK, 3);
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS), 0);
}

static volatile unsigned irqs, irqs_with_status;

static bool device_irq(struct trap_frame *frame)
{
	uint32_t status = vreg(&dev, VREG_INTERRUPT_STATUS);

	(void)frame;
	irqs++;
	irqs_with_status += status & 1;
	vreg_set(&dev, VREG_INTERRUPT_ACK, status);
	lapic_eoi();
	return true;
}

/* Edge-triggered, and InterruptStatus is set before the edge. */
static void interrupt_arrives(void)
{
	OPEN(0);
	trap_handle(VEC_FIRST_IRQ, device_irq);
	ioapic_route(dev.gsi, VEC_FIRST_IRQ, lapic_id(), 0);
	irq_enable();
	for (unsigned i = 1; i <= 20; i++) {
		uint64_t end = deadline_ms(2000);

		EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, i, buf, SECTOR), VBLK_S_OK);
		while (irqs < i && !expired(end))
			cpu_pause();
		EXPECT_EQ(irqs, i);
		EXPECT_EQ(irqs_with_status, i);
	}
	irq_disable();
	ioapic_mask(dev.gsi);
}

static void reset_clears(void)
{
	OPEN(VBLK_F_ALL);
	EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, 0, buf, SECTOR), VBLK_S_OK);
	EXPECT(vdev_reset(&dev));
	EXPECT_EQ(vdev_status(&dev), 0);
	EXPECT_EQ(vreg(&dev, VREG_INTERRUPT_STATUS), 0);
	vreg_set(&dev, VREG_QUEUE_SEL, 0);
	EXPECT_EQ(vreg(&dev, VREG_QUEUE_READY), 0);
	if (!boot_info.foreign) {
		/* the accepted features are gone too: FEATURES_OK has nothing to agree to */
		vdev_add_status(&dev, VSTATUS_ACKNOWLEDGE | VSTATUS_DRIVER);
		vdev_add_status(&dev, VSTATUS_FEATURES_OK);
		EXPECT_EQ(vdev_status(&dev) & VSTATUS_FEATURES_OK, 0);
	}
	EXPECT_ALIVE();
}

static void reset_many(void)
{
	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < 15; i++)
		EXPECT_ALIVE();
}

/* Steps left out or turned round: no answer is promised, only that a reset mends it. */
static void wrong_order(void)
{
	OPEN(VBLK_F_ALL);
	vdev_reset(&dev);
	vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
	vreg_set(&dev, VREG_STATUS, VSTATUS_DRIVER_OK);
	vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
	EXPECT_ALIVE();
	vdev_reset(&dev);
	vreg_set(&dev, VREG_STATUS, 15); /* all at once, no queue */
	vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
	EXPECT_ALIVE();
	EXPECT(vdev_negotiate(&dev, VBLK_F_ALL));
	vdev_add_status(&dev, VSTATUS_DRIVER_OK); /* queue not set up */
	vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
	EXPECT_ALIVE();
	vdev_add_status(&dev, VSTATUS_FAILED);
	EXPECT(vdev_status(&dev) & VSTATUS_FAILED);
	EXPECT_ALIVE();
	vdev_reset(&dev);
}

static void queue_sizes(void)
{
	EXPECT(vdev_find(VBLK_DEVICE_ID, 0, &dev));
	for (uint16_t size = 4; size <= 256; size = (uint16_t)(2 * size)) {
		EXPECT(vblk_open(&blk, 0, VBLK_F_ALL, size));
		for (unsigned i = 0; i < 10; i++)
			EXPECT_EQ(vblk_io(&blk, VBLK_T_IN, i, buf, SECTOR), VBLK_S_OK);
	}
}

static void bad_queue_size(uint32_t size)
{
	EXPECT(vdev_negotiate(&dev, VBLK_F_ALL));
	vring_clear(&blk.q);
	vreg_set(&dev, VREG_QUEUE_SEL, 0);
	vreg_set(&dev, VREG_QUEUE_NUM, size);
	vreg_set64(&dev, VREG_QUEUE_DESC, (uint64_t)blk.q.desc);
	vreg_set64(&dev, VREG_QUEUE_DRIVER, (uint64_t)blk.q.avail);
	vreg_set64(&dev, VREG_QUEUE_DEVICE, (uint64_t)blk.q.used);
	vreg_set(&dev, VREG_QUEUE_READY, 1);
	vdev_add_status(&dev, VSTATUS_DRIVER_OK);
	vreg_set(&dev, VREG_QUEUE_NOTIFY, 0);
	EXPECT_ALIVE();
}

static void queue_sizes_bad(void)
{
	static const uint32_t bad[] = {0, 3, 255, 257, 512, 0x8000, 0x10000, 0x10010, 0xffffffff};

	OPEN(VBLK_F_ALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (boot_info.foreign && bad[i] > 0xffff)
			continue;
		bad_queue_size(bad[i]);
		EXPECT_OK_SO_FAR();
	}
}

static const struct test_case cases[] = {
    {"identity", identity, 3},
    {"power_on_state", power_on_state, 3},
    {"feature_pages", feature_pages, 3},
    {"features_refused", features_refused, 3},
    {"features_beyond", features_beyond, 3},
    {"features_frozen", features_frozen, 3},
    {"missing_queues", missing_queues, 3},
    {"queue_frozen", queue_frozen, 3},
    {"config_widths", config_widths, 3},
    {"config_read_only", config_read_only, 3},
    {"config_beyond", config_beyond, 3},
    {"wrong_widths", wrong_widths, 3},
    {"read_only_registers", read_only_registers, 3},
    {"interrupt_status", interrupt_status, 3},
    {"interrupt_arrives", interrupt_arrives, 0},
    {"reset_clears", reset_clears, 3},
    {"reset_many", reset_many, 3},
    {"wrong_order", wrong_order, 3},
    {"queue_sizes", queue_sizes, 3},
    {"queue_sizes_bad", queue_sizes_bad, 3},
};

int payload_main(void)
{
	if (!vdev_find(VBLK_DEVICE_ID, 0, &dev)) {
		print("not ok - virtio_mmio.found: no virtio-blk device on '%s'\n",
		      boot_info.cmdline);
		return 1;
	}
	/* each case may run alone (case=NAME) */
	vblk_open(&blk, 0, VBLK_F_ALL, 16);
	return run_cases("virtio_mmio", cases, ARRAY_SIZE(cases));
}
