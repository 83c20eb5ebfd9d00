/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio over MMIO, version 2 (VIRTIO 1.2 §4.2).
 */
#ifndef MINIVM_VIRTIO_MMIO_H
#define MINIVM_VIRTIO_MMIO_H

#include "minivm/bus.h"
#include "minivm/err.h"
#include "minivm/irq.h"
#include "minivm/virtio.h"

#define VIRTIO_MMIO_LEN 0x200 /* registers, and configuration space from 0x100 */

/*
 * Where the driver writes a queue index to kick it. The machine may register, for each of the
 * virtio_queue_count() queues that has a virtio_kick_fd(), KVM_IOEVENTFD with that at this offset:
 * 4 bytes, datamatch = the index. A write that comes to the register all the same does the same.
 */
#define VIRTIO_MMIO_KICK_OFFSET 0x50

struct virtio_mmio;

extern const struct io_ops virtio_mmio_io_ops;

/*
 * Takes over `virtio` if it returns 0. `irq` is copied, its descriptor stays the caller's and
 * outlives the device. -ENOMEM.
 */
int virtio_mmio_new(struct virtio *virtio, const struct irq_line *irq, struct virtio_mmio **out,
		    struct err *err);

#endif
