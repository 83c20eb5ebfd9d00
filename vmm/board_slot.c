/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's virtio-mmio slots: each has its address, its interrupt pin and, once something is
 * plugged in, the registers of one virtio device. Slots are taken in a fixed order, disks first,
 * and are all that the machine's description (ACPI, MP table, device tree) knows of the devices.
 */
#include "machine_priv.h"

int board_slot_take(struct machine *m, struct board_slot **out, struct err *err)
{
	struct board_slot *slot = &m->slot[m->slot_count];
	int ret;

	/* There are more slots than pins. */
	ret = irq_alloc_pin(&m->irqs, &slot->gsi, err);
	if (ret)
		return ret;
	slot->base = BOARD_VIRTIO_BASE + m->slot_count++ * BOARD_VIRTIO_STRIDE;
	slot->irq.fd = -1;
	*out = slot;
	return 0;
}

int board_slot_plug(struct machine *m, struct board_slot *slot, const struct virtio_ops *ops,
		    void *dev, struct loop *loop, struct err *err)
{
	const struct virtio_env env = {.mem = &m->mem, .loop = loop, .log = m->log};
	struct virtio *virtio;
	uint64_t queue;
	int ret;

	ret = irq_line_open(&slot->irq, slot->gsi, err);
	if (!ret)
		ret = virtio_new(ops, dev, &env, &virtio, err);
	if (ret) {
		ops->destroy(dev);
		return ret;
	}
	ret = virtio_mmio_new(virtio, &slot->irq, &slot->mmio, err);
	if (ret) {
		virtio_destroy(virtio);
		return ret;
	}
	slot->virtio = virtio;
	ret = bus_add(&m->mmio, slot->base, VIRTIO_MMIO_LEN, &virtio_mmio_io_ops, slot->mmio, err);
	if (!ret)
		ret = kvm_vm_irqfd(m->vm_fd, slot->irq.fd, slot->gsi, err);
	for (queue = 0; !ret && queue < virtio_queue_count(virtio); queue++) {
		int kick_fd = virtio_kick_fd(virtio, (unsigned)queue);

		if (kick_fd >= 0)
			ret =
			    kvm_vm_ioeventfd(m->vm_fd, false, slot->base + VIRTIO_MMIO_KICK_OFFSET,
					     4, &queue, kick_fd, err);
	}
	return ret;
}

void board_slot_unplug(struct board_slot *slot)
{
	if (slot->mmio)
		virtio_mmio_io_ops.destroy(slot->mmio);
	slot->mmio = NULL;
	slot->virtio = NULL;
	irq_line_close(&slot->irq);
}
