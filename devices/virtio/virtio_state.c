/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pausing, saving and restoring what devices/virtio/virtio.c keeps of a device.
 *
 * No vCPU runs, so the set-up stands still; the lock is taken all the same, for it is what makes
 * the vCPU threads' writes visible here. What the loop owns is reached on the loop.
 *
 * Interrupts. A pulse that left just before the machine was paused may be in KVM's hands and not
 * yet in the state of its interrupt controllers. A restored device whose interrupt status is not 0
 * is therefore signalled again: the driver finds nothing new at worst.
 *
 * Kicks. The same goes for kicks: after a restore each queue is looked at once.
 */
#include "virtio_priv.h"

#include <errno.h>

#define VIRTIO_STATE   STATE_ID('V', 'I', 'R', 'T')
#define VIRTIO_VERSION 1
#define DEVICE_STATE   STATE_ID('V', 'D', 'E', 'V')

/* --- pause --- */

static void pause_on_loop(void *opaque)
{
	struct virtio *virtio = opaque;

	for (unsigned i = 0; i < virtio->queues; i++)
		loop_unwatch(virtio->env.loop, &virtio->queue[i].kick);
	if (virtio->active && virtio->ops->pause)
		virtio->ops->pause(virtio->dev);
}

static void resume_on_loop(void *opaque)
{
	struct virtio *virtio = opaque;

	if (!virtio->active)
		return;
	for (unsigned i = 0; i < virtio->queues; i++) {
		struct virtio_queue *q = &virtio->queue[i];

		if (q->vq.started && virtio_queue_watch(q) < 0)
			virtio_needs_reset(virtio);
	}
	if (virtio->ops->resume)
		virtio->ops->resume(virtio->dev);
}

void virtio_pause(struct virtio *virtio)
{
	loop_call(virtio->env.loop, pause_on_loop, virtio);
}

void virtio_resume(struct virtio *virtio)
{
	loop_call(virtio->env.loop, resume_on_loop, virtio);
}

/* --- save --- */

struct save_call {
	struct virtio *virtio;
	struct state_writer *w;
	struct err *err;
	int ret;
};

static void save_on_loop(void *opaque)
{
	struct save_call *call = opaque;
	struct virtio *virtio = call->virtio;

	state_put_bool(call->w, virtio->active);
	for (unsigned i = 0; i < virtio->queues; i++) {
		const struct virtqueue *vq = &virtio->queue[i].vq;

		state_put_bool(call->w, vq->started);
		if (vq->started)
			vq_save(vq, call->w);
	}
	state_begin(call->w, DEVICE_STATE, virtio->ops->state_version);
	call->ret = virtio->ops->save(virtio->dev, call->w, call->err);
	state_end(call->w);
}

/* Of what the driver set up; with the lock held. */
static void save_setup(const struct virtio *virtio, struct state_writer *w)
{
	state_put_u32(w, virtio->ops->device_id);
	state_put_u32(w, virtio->queues);
	state_put_u8(w, virtio->status);
	state_put_u64(w, virtio->accepted);
	state_put_u32(w, atomic_load(&virtio->isr));
	state_put_bool(w, atomic_load(&virtio->needs_reset));
	state_put_u32(w, atomic_load(&virtio->generation));
	for (unsigned i = 0; i < virtio->queues; i++) {
		const struct virtio_queue *q = &virtio->queue[i];

		state_put_u16(w, q->layout.size);
		state_put_u64(w, q->layout.desc.v);
		state_put_u64(w, q->layout.avail.v);
		state_put_u64(w, q->layout.used.v);
		state_put_bool(w, q->ready);
	}
}

int virtio_save(struct virtio *virtio, struct state_writer *w, struct err *err)
{
	struct save_call call = {.virtio = virtio, .w = w, .err = err};

	if (!virtio->ops->save || !virtio->ops->restore)
		return err_set(err, ENOTSUP, "a machine with %s cannot be saved yet",
			       virtio->ops->name);
	state_begin(w, VIRTIO_STATE, VIRTIO_VERSION);
	pthread_mutex_lock(&virtio->lock);
	save_setup(virtio, w);
	pthread_mutex_unlock(&virtio->lock);
	loop_call(virtio->env.loop, save_on_loop, &call);
	state_end(w);
	return call.ret;
}

/* --- restore --- */

static bool status_possible(const struct virtio *virtio)
{
	uint8_t s = virtio->status;
	bool features_ok = (s & VIRTIO_CONFIG_S_FEATURES_OK) != 0;

	if ((s & ~STATUS_DRIVER_BITS) != 0)
		return false;
	if ((s & VIRTIO_CONFIG_S_DRIVER_OK) != 0 && !features_ok)
		return false;
	if (!features_ok)
		return true;
	return (virtio->accepted & 1ull << VIRTIO_F_VERSION_1) != 0 &&
	       virtio_features_lacking(virtio->ops, virtio->accepted) == 0;
}

static int restore_queue_setup(struct virtio_queue *q, struct state_reader *r, struct err *err)
{
	q->layout.size = state_get_u16(r);
	q->layout.desc = GPA(state_get_u64(r));
	q->layout.avail = GPA(state_get_u64(r));
	q->layout.used = GPA(state_get_u64(r));
	q->ready = state_get_bool(r);
	if (q->layout.size > q->virtio->ops->queue_size_max)
		return state_bad(err, "a queue of %u entries", q->layout.size);
	return 0;
}

/* What save_setup() wrote; with the lock held. */
static int restore_setup(struct virtio *virtio, struct state_reader *r, struct err *err)
{
	uint32_t device_id = state_get_u32(r);
	uint32_t queues = state_get_u32(r);
	uint64_t missing;
	int ret = 0;

	if (device_id != virtio->ops->device_id || queues != virtio->queues)
		return state_bad(err, "virtio device %u with %u queues where the machine has %u",
				 device_id, queues, virtio->ops->device_id);
	virtio->status = state_get_u8(r);
	virtio->accepted = state_get_u64(r);
	atomic_store(&virtio->isr, state_get_u32(r) & (VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG));
	atomic_store(&virtio->needs_reset, state_get_bool(r));
	atomic_store(&virtio->generation, state_get_u32(r));
	if (!status_possible(virtio))
		return state_bad(err, "device status 0x%x", virtio->status);
	missing = virtio->accepted & ~virtio->offered;
	if ((virtio->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0 && missing != 0) {
		err_set(err, ENOTSUP,
			"the guest uses features 0x%llx, which this device does not have",
			(unsigned long long)missing);
		return err_hint(err, "is what is behind it of another kind than it was?");
	}
	if ((virtio->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0)
		virtio_features_negotiated(virtio);
	for (unsigned i = 0; !ret && i < queues; i++)
		ret = restore_queue_setup(&virtio->queue[i], r, err);
	return ret;
}

static int restore_queue(struct virtio_queue *q, bool active, struct state_reader *r,
			 struct err *err)
{
	if (!state_get_bool(r))
		return 0;
	if (!active || !q->ready)
		return state_bad(err, "a queue that runs, of a device that does not");
	if (virtio_queue_start(q) < 0)
		return state_bad(err, "a queue that is not in memory");
	return vq_restore(&q->vq, r, err);
}

/* No thread runs the loop yet. */
static int restore_running(struct virtio *virtio, struct state_reader *r, struct err *err)
{
	bool active = state_get_bool(r);
	struct state_reader device;
	int ret = 0;

	if (active && (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK) == 0)
		return state_bad(err, "a device that runs without its driver");
	for (unsigned i = 0; !ret && i < virtio->queues; i++)
		ret = restore_queue(&virtio->queue[i], active, r, err);
	if (!ret)
		ret = state_enter(r, DEVICE_STATE, virtio->ops->state_version, &device, err);
	if (ret)
		return ret;
	virtio->active = active;
	if (active) {
		atomic_fetch_add_explicit(&virtio->activations, 1, memory_order_relaxed);
		virtio->ops->activate(virtio->dev, virtio, virtio->accepted);
	}
	ret = virtio->ops->restore(virtio->dev, &device, err);
	return ret ? ret : state_leave(&device, err);
}

struct restore_call {
	struct virtio *virtio;
	struct state_reader *r;
	struct err *err;
	int ret;
};

static void restore_on_loop(void *opaque)
{
	struct restore_call *call = opaque;

	call->ret = restore_running(call->virtio, call->r, call->err);
}

/* Kicks and interrupts: see the head comment. */
static void wake(struct virtio *virtio)
{
	for (unsigned i = 0; i < virtio->queues; i++) {
		struct virtio_queue *q = &virtio->queue[i];

		if (!q->vq.started)
			continue;
		virtio_queue_kick(q);
		if (virtio_queue_watch(q) < 0)
			virtio_needs_reset(virtio);
	}
	if (atomic_load(&virtio->isr) != 0)
		virtio->interrupt.raise(virtio->interrupt.opaque);
}

int virtio_restore(struct virtio *virtio, struct state_reader *r, struct err *err)
{
	struct state_reader section;
	struct restore_call call = {.virtio = virtio, .r = &section, .err = err};
	int ret;

	if (!virtio->ops->save || !virtio->ops->restore)
		return err_set(err, ENOTSUP, "%s cannot be restored", virtio->ops->name);
	ret = state_enter(r, VIRTIO_STATE, VIRTIO_VERSION, &section, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&virtio->lock);
	ret = restore_setup(virtio, &section, err);
	pthread_mutex_unlock(&virtio->lock);
	if (!ret) {
		loop_call(virtio->env.loop, restore_on_loop, &call);
		ret = call.ret;
	}
	if (!ret)
		ret = state_leave(&section, err);
	if (ret)
		return err_context(err, "%s", virtio->ops->name);
	wake(virtio);
	return 0;
}
