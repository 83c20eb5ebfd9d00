/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device as its driver sees it: status, features, queue configuration, interrupt status, for
 * whatever transport (VIRTIO 1.2 §2.1 to §2.6, §3.1).
 *
 * Theory of operation. Three kinds of state, three rules:
 *
 *  - What the driver sets up (status, features, queue layouts) is under `lock`. vCPU threads take
 *    it, the loop's thread never does: it may therefore be held while a vCPU thread waits for the
 *    loop to activate or stop the device, and other vCPUs that touch the registers wait with it.
 *    The loop reads the set-up only inside that wait.
 *  - What the running device uses (the virtqueues, `active`, the kick sources) belongs to the loop.
 *  - What both sides touch (interrupt status, "needs reset", config generation, counters) is
 *    atomic, so kicks, interrupts and acknowledgements take no lock at all.
 *
 * The state machine is strict: a step that the driver may not make is dropped and counted, so that
 * no order of register writes reaches a running queue's configuration (§3.1.1, and
 * CVE-2026-5747 in another VMM). Stopping is one function on the loop, after which nothing touches
 * guest memory; it serves reset, the driver's QueueReady = 0 being the same for one queue.
 *
 * Kicks are eventfds, watched edge-triggered from activation to reset and never read: each write is
 * an event of its own, and saves a system call per kick.
 */
#include "virtio_priv.h"
#include "minivm/counter.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define CORE_FEATURES                                                                              \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ull << VIRTIO_RING_F_EVENT_IDX)

void virtio_refuse(struct virtio *virtio)
{
	count_add(&virtio->refused, 1);
}

/* A refused step of the driver that its author would want to know about. */
#define refuse_log(virtio, ...)                                                                    \
	do {                                                                                       \
		virtio_refuse(virtio);                                                             \
		log_guest((virtio)->env.log, &(virtio)->log_limit, LOG_LEVEL_WARN, __VA_ARGS__);   \
	} while (0)

/* --- interrupts --- */

/*
 * The ISR bit is there before the interrupt: the guest's handler reads it. Sequentially consistent
 * with virtio_isr_ack(): a used entry was published before the bit is set, so a handler that
 * acknowledges the bit and then looks at the ring finds it.
 */
static void interrupt(struct virtio *virtio, uint32_t bit)
{
	atomic_fetch_or(&virtio->isr, bit);
	count_add(&virtio->interrupts, 1);
	virtio->interrupt.raise(virtio->interrupt.opaque);
}

void virtio_signal_queue(struct virtio *virtio, unsigned queue)
{
	if (vq_should_signal(&virtio->queue[queue].vq))
		interrupt(virtio, VIRTIO_ISR_QUEUE);
}

void virtio_signal_config(struct virtio *virtio)
{
	atomic_fetch_add(&virtio->generation, 1);
	interrupt(virtio, VIRTIO_ISR_CONFIG);
}

/* §2.1.2: a configuration change notification goes with it. Once, until the reset. */
void virtio_needs_reset(struct virtio *virtio)
{
	if (atomic_exchange(&virtio->needs_reset, true))
		return;
	log_guest(virtio->env.log, &virtio->log_limit, LOG_LEVEL_WARN,
		  "%s: the driver's queues make no sense; the device needs a reset",
		  virtio->ops->name);
	interrupt(virtio, VIRTIO_ISR_CONFIG);
}

uint32_t virtio_isr(const struct virtio *virtio)
{
	return atomic_load(&virtio->isr);
}

void virtio_isr_ack(struct virtio *virtio, uint32_t bits)
{
	atomic_fetch_and(&virtio->isr, ~bits);
}

/* --- on the loop --- */

struct virtqueue *virtio_queue(struct virtio *virtio, unsigned index)
{
	assert(index < virtio->queues);
	return &virtio->queue[index].vq;
}

static void kicked(void *opaque, uint32_t events)
{
	struct virtio_queue *q = opaque;
	struct virtio *virtio = q->virtio;

	(void)events;
	count_add(&virtio->kicks, 1);
	virtio->ops->notify(virtio->dev, q->index);
}

static void queue_stop(struct virtio_queue *q)
{
	loop_unwatch(q->virtio->env.loop, &q->kick);
	vq_stop(&q->vq);
}

static void stop_on_loop(void *opaque)
{
	struct virtio *virtio = opaque;

	if (!virtio->active)
		return;
	virtio->active = false;
	for (unsigned i = 0; i < virtio->queues; i++)
		loop_unwatch(virtio->env.loop, &virtio->queue[i].kick);
	virtio->ops->reset(virtio->dev);
	for (unsigned i = 0; i < virtio->queues; i++)
		queue_stop(&virtio->queue[i]);
}

static void queue_stop_on_loop(void *opaque)
{
	queue_stop(opaque);
}

int virtio_queue_start(struct virtio_queue *q)
{
	struct virtio *virtio = q->virtio;
	bool event_idx = (virtio->accepted & 1ull << VIRTIO_RING_F_EVENT_IDX) != 0;
	bool indirect = (virtio->accepted & 1ull << VIRTIO_RING_F_INDIRECT_DESC) != 0;

	return vq_start(&q->vq, virtio->env.mem, &q->layout, event_idx, indirect);
}

int virtio_queue_watch(struct virtio_queue *q)
{
	struct err err;

	/* A kick that came early is reported at once: the counter is not 0. */
	return loop_watch(q->virtio->env.loop, &q->kick, EPOLLIN | EPOLLET, &err);
}

/*
 * A queue that cannot be started leaves the device inactive and in need of a reset. The vCPU
 * thread that wrote Status holds the lock and waits, so the set-up stands still.
 */
static void activate_on_loop(void *opaque)
{
	struct virtio *virtio = opaque;

	for (unsigned i = 0; i < virtio->queues; i++) {
		if (!virtio->queue[i].ready)
			continue;
		if (virtio_queue_start(&virtio->queue[i]) < 0 ||
		    virtio_queue_watch(&virtio->queue[i]) < 0)
			goto fail;
	}
	virtio->active = true;
	count_add(&virtio->activations, 1);
	virtio->ops->activate(virtio->dev, virtio, virtio->accepted);
	return;

fail:
	for (unsigned i = 0; i < virtio->queues; i++)
		queue_stop(&virtio->queue[i]);
	virtio_needs_reset(virtio);
}

/* --- features --- */

uint64_t virtio_features_lacking(const struct virtio_ops *ops, uint64_t features)
{
	uint64_t lacking = 0;

	for (const struct virtio_requirement *r = ops->requires; r && r->one_of != 0; r++) {
		if ((features & r->one_of) == 0)
			lacking |= features & 1ull << r->feature;
	}
	return lacking;
}

/* What the device has, less what has nothing to stand on; that may have been another's. */
static uint64_t features_to_offer(const struct virtio_ops *ops, void *dev)
{
	uint64_t features = ops->features(dev) | CORE_FEATURES;
	uint64_t lacking;

	while ((lacking = virtio_features_lacking(ops, features)) != 0)
		features &= ~lacking;
	return features;
}

uint32_t virtio_device_features(const struct virtio *virtio, uint32_t half)
{
	return half < 2 ? (uint32_t)(virtio->offered >> (32 * half)) : 0;
}

void virtio_set_driver_features(struct virtio *virtio, uint32_t half, uint32_t value)
{
	pthread_mutex_lock(&virtio->lock);
	if (half > 1) {
		if (value != 0)
			virtio_refuse(virtio);
	} else if ((virtio->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0) {
		refuse_log(virtio, "%s: features written after FEATURES_OK", virtio->ops->name);
	} else {
		unsigned shift = 32 * half;

		virtio->accepted &= ~(0xffffffffull << shift);
		virtio->accepted |= (uint64_t)value << shift;
	}
	pthread_mutex_unlock(&virtio->lock);
}

/* §2.2, §3.1.1 step 5, §6.2: with the lock held. */
static bool features_acceptable(struct virtio *virtio)
{
	uint64_t surplus = virtio->accepted & ~virtio->offered;
	uint64_t lacking = virtio_features_lacking(virtio->ops, virtio->accepted);

	if (surplus != 0) {
		refuse_log(virtio, "%s: driver takes features %#llx, which were not offered",
			   virtio->ops->name, (unsigned long long)surplus);
		return false;
	}
	if (lacking != 0) {
		refuse_log(virtio, "%s: driver takes features %#llx, but not what they require",
			   virtio->ops->name, (unsigned long long)lacking);
		return false;
	}
	if ((virtio->accepted & 1ull << VIRTIO_F_VERSION_1) == 0) {
		refuse_log(virtio, "%s: legacy driver: it does not take VIRTIO_F_VERSION_1",
			   virtio->ops->name);
		return false;
	}
	return true;
}

void virtio_features_negotiated(struct virtio *virtio)
{
	if (virtio->ops->negotiated)
		virtio->ops->negotiated(virtio->dev, virtio->accepted);
}

/* --- status --- */

uint8_t virtio_status(struct virtio *virtio)
{
	uint8_t status;

	pthread_mutex_lock(&virtio->lock);
	status = virtio->status;
	pthread_mutex_unlock(&virtio->lock);
	if (atomic_load(&virtio->needs_reset))
		status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	return status;
}

/* With the lock held, as the rest of this section. */
static void reset_locked(struct virtio *virtio)
{
	loop_call(virtio->env.loop, stop_on_loop, virtio);
	virtio->status = 0;
	virtio->accepted = 0;
	virtio_features_negotiated(virtio);
	for (unsigned i = 0; i < virtio->queues; i++) {
		virtio->queue[i].layout = (struct vq_layout){0};
		virtio->queue[i].ready = false;
	}
	atomic_store(&virtio->needs_reset, false);
	atomic_store(&virtio->isr, 0);
}

/*
 * New bits one after the other, in the order of §3.1.1; each stands only on the one before, and
 * DRIVER_OK only on a FEATURES_OK that the driver could read back.
 */
static void advance_status(struct virtio *virtio, uint8_t value)
{
	uint8_t had = virtio->status;
	uint8_t fresh = (uint8_t)(value & ~had);
	bool driver = (value & VIRTIO_CONFIG_S_DRIVER) != 0;

	virtio->status |=
	    fresh & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED);
	if ((fresh & VIRTIO_CONFIG_S_FEATURES_OK) != 0) {
		if (!driver) {
			virtio_refuse(virtio);
		} else if (features_acceptable(virtio)) {
			virtio->status |= VIRTIO_CONFIG_S_FEATURES_OK;
			virtio_features_negotiated(virtio);
		}
	}
	if ((fresh & VIRTIO_CONFIG_S_DRIVER_OK) != 0) {
		if ((had & VIRTIO_CONFIG_S_FEATURES_OK) == 0) {
			refuse_log(virtio, "%s: DRIVER_OK without FEATURES_OK", virtio->ops->name);
			return;
		}
		virtio->status |= VIRTIO_CONFIG_S_DRIVER_OK;
		loop_call(virtio->env.loop, activate_on_loop, virtio);
	}
}

void virtio_set_status(struct virtio *virtio, uint8_t value)
{
	pthread_mutex_lock(&virtio->lock);
	if (value == 0) {
		reset_locked(virtio);
	} else if ((virtio->status & ~value) != 0) {
		/* §2.1.1: a driver must not clear bits. */
		refuse_log(virtio, "%s: status bits cleared without a reset", virtio->ops->name);
	} else {
		advance_status(virtio, value & STATUS_DRIVER_BITS);
	}
	pthread_mutex_unlock(&virtio->lock);
}

void virtio_reset(struct virtio *virtio)
{
	pthread_mutex_lock(&virtio->lock);
	reset_locked(virtio);
	pthread_mutex_unlock(&virtio->lock);
}

/* --- queue configuration --- */

uint16_t virtio_queue_size_max(const struct virtio *virtio, uint32_t queue)
{
	return queue < virtio->queues ? virtio->ops->queue_size_max : 0;
}

/*
 * The queue, locked, if its layout may change: not while it is ready, and not once the device runs.
 * NULL: not there, or refused (and not locked).
 */
static struct virtio_queue *queue_lock_for_change(struct virtio *virtio, uint32_t queue)
{
	struct virtio_queue *q = &virtio->queue[queue < virtio->queues ? queue : 0];

	pthread_mutex_lock(&virtio->lock);
	if (queue < virtio->queues && !q->ready &&
	    (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK) == 0)
		return q;
	virtio_refuse(virtio);
	pthread_mutex_unlock(&virtio->lock);
	return NULL;
}

void virtio_set_queue_size(struct virtio *virtio, uint32_t queue, uint32_t size)
{
	struct virtio_queue *q = queue_lock_for_change(virtio, queue);

	if (!q)
		return;
	/* What is too large is kept as 0: vq_start() refuses it, and no bits are lost on the way.
	 */
	q->layout.size = size <= virtio->ops->queue_size_max ? (uint16_t)size : 0;
	pthread_mutex_unlock(&virtio->lock);
}

void virtio_set_queue_addr(struct virtio *virtio, uint32_t queue, enum virtio_queue_part part,
			   bool high, uint32_t value)
{
	struct virtio_queue *q = queue_lock_for_change(virtio, queue);
	unsigned shift = high ? 32 : 0;
	gpa_t *addr;

	if (!q)
		return;
	switch (part) {
	case VIRTIO_QUEUE_DESC:
		addr = &q->layout.desc;
		break;
	case VIRTIO_QUEUE_DRIVER:
		addr = &q->layout.avail;
		break;
	default:
		addr = &q->layout.used;
		break;
	}
	addr->v &= ~(0xffffffffull << shift);
	addr->v |= (uint64_t)value << shift;
	pthread_mutex_unlock(&virtio->lock);
}

bool virtio_queue_ready(struct virtio *virtio, uint32_t queue)
{
	bool ready;

	if (queue >= virtio->queues)
		return false;
	pthread_mutex_lock(&virtio->lock);
	ready = virtio->queue[queue].ready;
	pthread_mutex_unlock(&virtio->lock);
	return ready;
}

/* §4.2.2.2: a driver may take a queue away from a running device, but not give it (a new) one. */
static void queue_unready(struct virtio *virtio, uint32_t queue)
{
	pthread_mutex_lock(&virtio->lock);
	virtio->queue[queue].ready = false;
	if ((virtio->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0)
		loop_call(virtio->env.loop, queue_stop_on_loop, &virtio->queue[queue]);
	pthread_mutex_unlock(&virtio->lock);
}

void virtio_set_queue_ready(struct virtio *virtio, uint32_t queue, bool ready)
{
	struct virtio_queue *q;

	if (!ready) {
		if (queue < virtio->queues)
			queue_unready(virtio, queue);
		else
			virtio_refuse(virtio);
		return;
	}
	q = queue_lock_for_change(virtio, queue);
	if (!q)
		return;
	q->ready = true;
	pthread_mutex_unlock(&virtio->lock);
}

/* --- kicks --- */

void virtio_queue_kick(const struct virtio_queue *q)
{
	const uint64_t one = 1;

	/* The only failure is EAGAIN, after 2^64 kicks. */
	(void)!write(q->kick_fd, &one, sizeof(one));
}

static void kick_on_loop(void *opaque)
{
	const struct virtio_queue *q = opaque;

	if (q->virtio->active)
		kicked(opaque, EPOLLIN);
}

void virtio_kick(struct virtio *virtio, uint32_t queue)
{
	if (queue < virtio->queues && virtio->queue[queue].waits)
		loop_call(virtio->env.loop, kick_on_loop, &virtio->queue[queue]);
	else if (queue < virtio->queues)
		virtio_queue_kick(&virtio->queue[queue]);
	else
		virtio_refuse(virtio);
}

void virtio_notify_again(struct virtio *virtio, unsigned queue)
{
	virtio_queue_kick(&virtio->queue[queue]);
}

int virtio_kick_fd(const struct virtio *virtio, unsigned queue)
{
	if (queue >= virtio->queues || virtio->queue[queue].waits)
		return -1;
	return virtio->queue[queue].kick_fd;
}

/* --- configuration space --- */

/* The whole of it; with the lock held. */
static void config_copy(struct virtio *virtio, uint8_t *out)
{
	uint32_t size = virtio->ops->config_len;
	unsigned len;

	for (uint32_t off = 0; off < size; off += len) {
		len = size - off < 8 ? size - off : 8;
		virtio->ops->config_read(virtio->dev, off, len, out + off);
	}
}

/*
 * §4.2.2.1: a driver that reads field after field must not get old and new ones under one number. A
 * device changes its fields first and tells of it later (virtio_signal_config()), so the contents
 * are compared as well.
 */
uint32_t virtio_config_generation(struct virtio *virtio)
{
	uint8_t now[VIRTIO_CONFIG_MAX];
	uint32_t generation;

	pthread_mutex_lock(&virtio->lock);
	config_copy(virtio, now);
	if (memcmp(virtio->config_seen, now, virtio->ops->config_len) != 0) {
		memcpy(virtio->config_seen, now, virtio->ops->config_len);
		atomic_fetch_add(&virtio->generation, 1);
	}
	generation = atomic_load(&virtio->generation);
	pthread_mutex_unlock(&virtio->lock);
	return generation;
}

static bool config_inside(struct virtio *virtio, uint64_t off, unsigned len)
{
	uint32_t size = virtio->ops->config_len;

	if (len <= size && off <= size - len)
		return true;
	virtio_refuse(virtio);
	return false;
}

uint64_t virtio_config_read(struct virtio *virtio, uint64_t off, unsigned len)
{
	uint64_t value = 0;

	if (!config_inside(virtio, off, len))
		return 0;
	pthread_mutex_lock(&virtio->lock);
	virtio->ops->config_read(virtio->dev, (uint32_t)off, len, &value);
	pthread_mutex_unlock(&virtio->lock);
	return value;
}

void virtio_config_write(struct virtio *virtio, uint64_t off, unsigned len, uint64_t value)
{
	if (!config_inside(virtio, off, len))
		return;
	if (!virtio->ops->config_write) {
		virtio_refuse(virtio);
		return;
	}
	pthread_mutex_lock(&virtio->lock);
	virtio->ops->config_write(virtio->dev, (uint32_t)off, len, &value);
	pthread_mutex_unlock(&virtio->lock);
}

/* --- life cycle --- */

static void interrupt_nowhere(void *opaque)
{
	(void)opaque;
}

static void virtio_free(struct virtio *virtio)
{
	for (unsigned i = 0; i < virtio->queues; i++) {
		if (virtio->queue[i].kick_fd >= 0)
			close(virtio->queue[i].kick_fd);
	}
	pthread_mutex_destroy(&virtio->lock);
	free(virtio);
}

int virtio_new(const struct virtio_ops *ops, void *dev, const struct virtio_env *env,
	       struct virtio **out, struct err *err)
{
	unsigned queues = ops->queue_count ? ops->queue_count(dev) : ops->queues;
	struct virtio *virtio =
	    calloc(1, sizeof(*virtio) + (size_t)queues * sizeof(virtio->queue[0]));
	int ret;

	assert(queues <= VIRTIO_QUEUES_MAX && ops->queue_size_max <= VQ_SIZE_MAX);
	assert(ops->config_len <= VIRTIO_CONFIG_MAX);
	if (!virtio)
		return err_sys(err, ENOMEM, "%s", ops->name);
	virtio->queues = queues;
	virtio->ops = ops;
	virtio->dev = dev;
	virtio->env = *env;
	virtio->interrupt.raise = interrupt_nowhere;
	virtio->offered = features_to_offer(ops, dev);
	pthread_mutex_init(&virtio->lock, NULL);
	for (unsigned i = 0; i < queues; i++)
		virtio->queue[i].kick_fd = -1;
	for (unsigned i = 0; i < queues; i++) {
		struct virtio_queue *q = &virtio->queue[i];

		q->virtio = virtio;
		q->index = i;
		q->waits = ops->kick_waits && ops->kick_waits(dev, i);
		q->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (q->kick_fd < 0) {
			ret = err_sys(err, errno, "%s: eventfd", ops->name);
			goto fail;
		}
		q->kick.fd = q->kick_fd;
		q->kick.fn = kicked;
		q->kick.opaque = q;
	}
	*out = virtio;
	return 0;

fail:
	virtio_free(virtio);
	return ret;
}

void virtio_set_interrupt(struct virtio *virtio, const struct virtio_interrupt *interrupt_to)
{
	virtio->interrupt = *interrupt_to;
}

void virtio_destroy(struct virtio *virtio)
{
	if (!virtio)
		return;
	loop_call(virtio->env.loop, stop_on_loop, virtio);
	virtio->ops->destroy(virtio->dev);
	virtio_free(virtio);
}

void virtio_counters(const struct virtio *virtio, struct virtio_counters *out)
{
	*out = (struct virtio_counters){
	    .kicks = count_read(&virtio->kicks),
	    .interrupts = count_read(&virtio->interrupts),
	    .refused = count_read(&virtio->refused),
	    .activations = count_read(&virtio->activations),
	};
	for (unsigned i = 0; i < virtio->queues; i++)
		out->malformed += count_read(&virtio->queue[i].vq.count.malformed);
}

unsigned virtio_queue_count(const struct virtio *virtio)
{
	return virtio->queues;
}

const struct virtio_ops *virtio_device_ops(const struct virtio *virtio)
{
	return virtio->ops;
}
