/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueue, device side (VIRTIO 1.2 §2.7). Everything in the rings is the guest's and may
 * change at any moment: each index and descriptor is read once, copied, bounded and checked.
 *
 * One thread uses a queue at a time (the device's loop). Configuration is frozen by vq_start().
 */
#ifndef MINIVM_VIRTQUEUE_H
#define MINIVM_VIRTQUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "minivm/memory.h"
#include "minivm/state.h"

#define VQ_SIZE_MAX 256u /* largest queue size that we offer; a power of 2 */

/* As the driver configured it (VIRTIO 1.2 §4.2.2: QueueNum, QueueDesc, QueueDriver, QueueDevice).
 */
struct vq_layout {
	uint16_t size;
	gpa_t desc;
	gpa_t avail;
	gpa_t used;
};

/* Since the queue was made, restarts included. Written by the queue's thread, read by any. */
struct vq_counters {
	_Atomic uint64_t chains;    /* popped well-formed */
	_Atomic uint64_t malformed; /* completed by vq_pop() with used length 0 */
};

struct virtqueue {
	/* frozen while started */
	const struct guest_mem *mem;
	uint16_t size;
	bool event_idx; /* VIRTIO_F_EVENT_IDX negotiated */
	bool indirect;	/* VIRTIO_F_INDIRECT_DESC negotiated */
	bool started;
	void *desc; /* host addresses of the three parts, checked whole by vq_start() */
	void *avail;
	void *used;
	/* running */
	uint16_t next_avail; /* next available-ring entry to read */
	uint16_t next_used;
	uint16_t signalled_used; /* next_used when the driver was last signalled */
	bool signalled_valid;	 /* less than 2^16 completions ago, so that indices compare */
	bool broken;		 /* the ring made no sense: DEVICE_NEEDS_RESET */
	struct vq_counters count;
};

/*
 * One request: the device-readable buffers, then the device-writable ones, each checked to lie in
 * one region of guest memory. Both lengths together are bounded by UINT32_MAX. Entries may be
 * empty (iov_len 0), and nothing is promised about how a request is cut into entries (§2.7.4.1).
 */
struct vq_chain {
	uint16_t head;
	unsigned n_readable;
	unsigned n_writable;
	uint32_t readable_len;
	uint32_t writable_len;
	struct iovec iov[VQ_SIZE_MAX]; /* n_readable, then n_writable entries */
};

static inline const struct iovec *vq_readable(const struct vq_chain *c)
{
	return c->iov;
}

static inline const struct iovec *vq_writable(const struct vq_chain *c)
{
	return c->iov + c->n_readable;
}

/*
 * Checks the layout (size a power of 2 up to VQ_SIZE_MAX, alignment 16/2/4, each part inside one
 * region) and starts with empty indices. -EINVAL / -EFAULT, and the queue stays stopped.
 */
int vq_start(struct virtqueue *vq, const struct guest_mem *mem, const struct vq_layout *layout,
	     bool event_idx, bool indirect);
void vq_stop(struct virtqueue *vq);

/*
 * The running part of a started queue of which no chain is out. Restoring: into a queue that
 * vq_start() has just started with the same layout; -EINVAL.
 */
void vq_save(const struct virtqueue *vq, struct state_writer *w);
int vq_restore(struct virtqueue *vq, struct state_reader *r, struct err *err);

/*
 * Takes the next chain. 1: `chain` is filled, and must be completed by exactly one vq_push().
 * 0: nothing available. -EPROTO: the ring is broken (vq->broken is set and stays until vq_stop()).
 * A malformed chain is completed here with used length 0, counted, and the next one is looked at;
 * a bounded number of heads is consumed in one call (so 0 may be returned before the ring is empty;
 * vq_enable_notify() tells). Never more than `size` chains are out at once.
 */
int vq_pop(struct virtqueue *vq, struct vq_chain *chain);

/*
 * Puts back the chain that the last vq_pop() returned, which then counts as not popped: it is the
 * next one again, and is read anew. Right after that vq_pop() only; of several in a row the last
 * one first, if next_avail is still what it was after that one.
 */
void vq_unpop(struct virtqueue *vq);

/* Completes a chain; `written` bytes of its writable part were filled (clamped to its length). */
void vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written);

/*
 * The same in two steps, for completions that the driver must see all at once: vq_fill() per chain,
 * in order (`written` at most its writable_len), then vq_publish(). No vq_pop() in between, which
 * may publish.
 */
void vq_fill(struct virtqueue *vq, uint16_t head, uint32_t written);
void vq_publish(struct virtqueue *vq);

/*
 * After a batch of vq_push(): must the driver be interrupted (§2.7.7)? Clears the
 * question: true is returned once per batch.
 */
bool vq_should_signal(struct virtqueue *vq);

/*
 * Notification suppression by the device: off while it drains a queue, on before it goes idle.
 * vq_enable_notify() returns true if chains became available meanwhile: then drain again.
 */
void vq_disable_notify(struct virtqueue *vq);
bool vq_enable_notify(struct virtqueue *vq);

#endif
