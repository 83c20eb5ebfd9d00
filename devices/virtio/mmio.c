/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio over MMIO, version 2 (VIRTIO 1.2 §4.2): decodes registers for devices/virtio/virtio.c.
 *
 * A table holds what each register does; a register that is missing from it reads as 0, a write to
 * it is dropped. Registers are 32 bits wide and aligned, everything else is refused (§4.2.2.2); the
 * configuration space behind them takes 1, 2, 4 and 8 bytes. The three selectors live here: each is
 * an atomic word, so that two vCPUs that race (no driver does) get each other's queue at worst.
 */
#include "minivm/virtio_mmio.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <linux/virtio_mmio.h>

#define VIRTIO_MMIO_VERSION_2 2u
#define MAGIC		      0x74726976u /* "virt" */
#define VENDOR		      0x494e494du /* "MINI" */

struct virtio_mmio {
	struct virtio *virtio;
	struct irq_line irq;
	_Atomic uint32_t device_features_sel;
	_Atomic uint32_t driver_features_sel;
	_Atomic uint32_t queue_sel;
};

static uint32_t selected_queue(struct virtio_mmio *m)
{
	return atomic_load_explicit(&m->queue_sel, memory_order_relaxed);
}

/* --- reads --- */

static uint32_t read_magic(struct virtio_mmio *m)
{
	(void)m;
	return MAGIC;
}

static uint32_t read_version(struct virtio_mmio *m)
{
	(void)m;
	return VIRTIO_MMIO_VERSION_2;
}

static uint32_t read_device_id(struct virtio_mmio *m)
{
	return virtio_device_ops(m->virtio)->device_id;
}

static uint32_t read_vendor(struct virtio_mmio *m)
{
	(void)m;
	return VENDOR;
}

static uint32_t read_device_features(struct virtio_mmio *m)
{
	uint32_t half = atomic_load_explicit(&m->device_features_sel, memory_order_relaxed);

	return virtio_device_features(m->virtio, half);
}

static uint32_t read_queue_num_max(struct virtio_mmio *m)
{
	return virtio_queue_size_max(m->virtio, selected_queue(m));
}

static uint32_t read_queue_ready(struct virtio_mmio *m)
{
	return virtio_queue_ready(m->virtio, selected_queue(m));
}

static uint32_t read_isr(struct virtio_mmio *m)
{
	return virtio_isr(m->virtio);
}

static uint32_t read_status(struct virtio_mmio *m)
{
	return virtio_status(m->virtio);
}

/* §4.2.2: no shared memory region has this id: length and address are all ones. */
static uint32_t read_shm(struct virtio_mmio *m)
{
	(void)m;
	return UINT32_MAX;
}

static uint32_t read_generation(struct virtio_mmio *m)
{
	return virtio_config_generation(m->virtio);
}

/* --- writes --- */

static void write_device_features_sel(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	atomic_store_explicit(&m->device_features_sel, value, memory_order_relaxed);
}

static void write_driver_features_sel(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	atomic_store_explicit(&m->driver_features_sel, value, memory_order_relaxed);
}

static void write_driver_features(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	uint32_t half = atomic_load_explicit(&m->driver_features_sel, memory_order_relaxed);

	(void)off;
	virtio_set_driver_features(m->virtio, half, value);
}

static void write_queue_sel(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	atomic_store_explicit(&m->queue_sel, value, memory_order_relaxed);
}

static void write_queue_num(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	virtio_set_queue_size(m->virtio, selected_queue(m), value);
}

/* QueueDescLow 0x80, QueueDescHigh 0x84, QueueDriverLow 0x90, ... QueueDeviceHigh 0xa4. */
static void write_queue_addr(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	enum virtio_queue_part part = (off - VIRTIO_MMIO_QUEUE_DESC_LOW) / 0x10;
	bool high = (off & 4) != 0;

	virtio_set_queue_addr(m->virtio, selected_queue(m), part, high, value);
}

static void write_queue_ready(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	virtio_set_queue_ready(m->virtio, selected_queue(m), (value & 1) != 0);
}

static void write_queue_notify(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	virtio_kick(m->virtio, value);
}

static void write_isr_ack(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	virtio_isr_ack(m->virtio, value);
}

static void write_status(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)off;
	if (value <= UINT8_MAX)
		virtio_set_status(m->virtio, (uint8_t)value);
	else
		virtio_refuse(m->virtio);
}

static void write_shm_sel(struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	(void)m;
	(void)off;
	(void)value;
}

/* --- the register table, §4.2.2 --- */

struct mmio_register {
	uint32_t (*read)(struct virtio_mmio *m);
	void (*write)(struct virtio_mmio *m, uint32_t off, uint32_t value);
};

#define AT(off) [(off) / 4]

static const struct mmio_register registers[VIRTIO_MMIO_CONFIG / 4] = {
    AT(VIRTIO_MMIO_MAGIC_VALUE) = {.read = read_magic},
    AT(VIRTIO_MMIO_VERSION) = {.read = read_version},
    AT(VIRTIO_MMIO_DEVICE_ID) = {.read = read_device_id},
    AT(VIRTIO_MMIO_VENDOR_ID) = {.read = read_vendor},
    AT(VIRTIO_MMIO_DEVICE_FEATURES) = {.read = read_device_features},
    AT(VIRTIO_MMIO_DEVICE_FEATURES_SEL) = {.write = write_device_features_sel},
    AT(VIRTIO_MMIO_DRIVER_FEATURES) = {.write = write_driver_features},
    AT(VIRTIO_MMIO_DRIVER_FEATURES_SEL) = {.write = write_driver_features_sel},
    AT(VIRTIO_MMIO_QUEUE_SEL) = {.write = write_queue_sel},
    AT(VIRTIO_MMIO_QUEUE_NUM_MAX) = {.read = read_queue_num_max},
    AT(VIRTIO_MMIO_QUEUE_NUM) = {.write = write_queue_num},
    AT(VIRTIO_MMIO_QUEUE_READY) = {.read = read_queue_ready, .write = write_queue_ready},
    AT(VIRTIO_MMIO_QUEUE_NOTIFY) = {.write = write_queue_notify},
    AT(VIRTIO_MMIO_INTERRUPT_STATUS) = {.read = read_isr},
    AT(VIRTIO_MMIO_INTERRUPT_ACK) = {.write = write_isr_ack},
    AT(VIRTIO_MMIO_STATUS) = {.read = read_status, .write = write_status},
    AT(VIRTIO_MMIO_QUEUE_DESC_LOW) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_QUEUE_DESC_HIGH) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_QUEUE_AVAIL_LOW) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_QUEUE_AVAIL_HIGH) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_QUEUE_USED_LOW) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_QUEUE_USED_HIGH) = {.write = write_queue_addr},
    AT(VIRTIO_MMIO_SHM_SEL) = {.write = write_shm_sel},
    AT(VIRTIO_MMIO_SHM_LEN_LOW) = {.read = read_shm},
    AT(VIRTIO_MMIO_SHM_LEN_HIGH) = {.read = read_shm},
    AT(VIRTIO_MMIO_SHM_BASE_LOW) = {.read = read_shm},
    AT(VIRTIO_MMIO_SHM_BASE_HIGH) = {.read = read_shm},
    AT(VIRTIO_MMIO_CONFIG_GENERATION) = {.read = read_generation},
};

static const struct mmio_register *find_register(uint64_t off, unsigned len)
{
	static const struct mmio_register none = {0};

	return len == 4 && off % 4 == 0 ? &registers[off / 4] : &none;
}

static uint64_t virtio_mmio_read(void *dev, uint64_t off, unsigned len)
{
	struct virtio_mmio *m = dev;
	const struct mmio_register *reg;

	if (off >= VIRTIO_MMIO_CONFIG)
		return virtio_config_read(m->virtio, off - VIRTIO_MMIO_CONFIG, len);
	reg = find_register(off, len);
	if (reg->read)
		return reg->read(m);
	virtio_refuse(m->virtio);
	return 0;
}

static void virtio_mmio_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	struct virtio_mmio *m = dev;
	const struct mmio_register *reg;

	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_write(m->virtio, off - VIRTIO_MMIO_CONFIG, len, value);
		return;
	}
	reg = find_register(off, len);
	if (reg->write)
		reg->write(m, (uint32_t)off, (uint32_t)value);
	else
		virtio_refuse(m->virtio);
}

static void virtio_mmio_reset(void *dev)
{
	struct virtio_mmio *m = dev;

	virtio_reset(m->virtio);
	atomic_store(&m->device_features_sel, 0);
	atomic_store(&m->driver_features_sel, 0);
	atomic_store(&m->queue_sel, 0);
}

static int virtio_mmio_save(void *dev, struct state_writer *w, struct err *err)
{
	struct virtio_mmio *m = dev;

	state_put_u32(w, atomic_load(&m->device_features_sel));
	state_put_u32(w, atomic_load(&m->driver_features_sel));
	state_put_u32(w, atomic_load(&m->queue_sel));
	return virtio_save(m->virtio, w, err);
}

static int virtio_mmio_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_mmio *m = dev;

	atomic_store(&m->device_features_sel, state_get_u32(r));
	atomic_store(&m->driver_features_sel, state_get_u32(r));
	atomic_store(&m->queue_sel, state_get_u32(r));
	return virtio_restore(m->virtio, r, err);
}

static void virtio_mmio_destroy(void *dev)
{
	struct virtio_mmio *m = dev;

	if (!m)
		return;
	virtio_destroy(m->virtio);
	free(m);
}

const struct io_ops virtio_mmio_io_ops = {
    .name = "virtio-mmio",
    .read = virtio_mmio_read,
    .write = virtio_mmio_write,
    .reset = virtio_mmio_reset,
    .destroy = virtio_mmio_destroy,
    .state_version = 1,
    .save = virtio_mmio_save,
    .restore = virtio_mmio_restore,
};

static void raise_line(void *opaque)
{
	struct virtio_mmio *m = opaque;

	irq_line_raise(&m->irq);
}

int virtio_mmio_new(struct virtio *virtio, const struct irq_line *irq, struct virtio_mmio **out,
		    struct err *err)
{
	struct virtio_mmio *m = calloc(1, sizeof(*m));

	if (!m)
		return err_sys(err, ENOMEM, "virtio-mmio");
	m->virtio = virtio;
	m->irq = *irq;
	virtio_set_interrupt(virtio, &(struct virtio_interrupt){.raise = raise_line, .opaque = m});
	*out = m;
	return 0;
}
