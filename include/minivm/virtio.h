/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is, whatever bus it sits on. A device module fills a const virtio_ops and
 * works on started queues; the state that the driver sees (status, features, queue configuration,
 * interrupt status) is kept by devices/virtio/virtio.c for every transport; a transport (mmio.c)
 * only decodes registers.
 *
 * Putting one together, in this order; each step takes over what it is given:
 *
 *	virtio_blk_new(&opts, &blk, &err);                          the device's state
 *	virtio_new(&virtio_blk_ops, blk, &env, &virtio, &err);      what the driver sees of it
 *	virtio_mmio_new(virtio, &irq, &mmio, &err);                 its registers
 *	bus_add(bus, base, VIRTIO_MMIO_LEN, &virtio_mmio_io_ops, mmio, &err);
 *
 * and virtio_mmio_io_ops.destroy(mmio) undoes all three.
 *
 * Threads. Registers are touched by vCPU threads, several at once, under the virtio object's lock.
 * activate, notify and reset run on the device's loop, one at a time; the thread that wrote Status
 * waits for activate and reset, with that lock held. So the thread that runs the device's loop must
 * neither touch registers nor wait for vCPU threads while they run.
 *
 * Saving. With all vCPUs stopped the device is paused, saved, and resumed. A device that does all
 * its work inside notify needs neither pause nor resume.
 */
#ifndef MINIVM_VIRTIO_H
#define MINIVM_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/memory.h"
#include "minivm/state.h"
#include "minivm/virtqueue.h"

#define VIRTIO_QUEUES_MAX 32
#define VIRTIO_CONFIG_MAX 256 /* bytes of device configuration space */

struct virtio; /* the device as the driver sees it; devices/virtio/virtio.c */

/* A feature that is nothing without one of others (§5.x.3 "Requires"). */
struct virtio_requirement {
	unsigned feature; /* bit number */
	uint64_t one_of;  /* bits */
};

struct virtio_ops {
	const char *name;	   /* "virtio-blk" */
	const char *guest_kconfig; /* "CONFIG_VIRTIO_BLK", for hints */
	uint32_t device_id;	   /* VIRTIO 1.2 §5 */
	unsigned queues;	   /* without queue_count */
	uint16_t queue_size_max;
	uint32_t config_len; /* bytes of device configuration space, at most VIRTIO_CONFIG_MAX */

	/* How many queues `dev` has, at most VIRTIO_QUEUES_MAX. NULL: `queues`. */
	unsigned (*queue_count)(void *dev);
	/* Device feature bits to offer; the core adds VERSION_1, INDIRECT_DESC, EVENT_IDX. */
	uint64_t (*features)(void *dev);
	/*
	 * Ends with one_of 0; NULL: there are none. A feature is neither offered nor accepted
	 * without what it requires (§2.2.2).
	 */
	const struct virtio_requirement *requires;
	/*
	 * FEATURES_OK: what the driver has taken, before it lays out queues; 0: a reset, they are
	 * forgotten. For what configuration space shows. Under the lock, as config_read. NULL: it
	 * shows the same.
	 */
	void (*negotiated)(void *dev, uint64_t features);
	/*
	 * off + len <= config_len; config_len 0: never called, may be NULL. config_write may be
	 * NULL: writes are dropped.
	 */
	void (*config_read)(void *dev, uint32_t off, unsigned len, void *out);
	void (*config_write)(void *dev, uint32_t off, unsigned len, const void *in);
	/* DRIVER_OK: queues are started, `features` is what was negotiated. */
	void (*activate)(void *dev, struct virtio *virtio, uint64_t features);
	/* The driver kicked `queue`; spurious calls happen. Bounded work, then return. */
	void (*notify)(void *dev, unsigned queue);
	/*
	 * Of queues whose driver spins until its buffers are back: the vCPU that kicks waits until
	 * notify has returned, so that it does not spin against the loop's thread for a processor.
	 * NULL: no queue is such.
	 */
	bool (*kick_waits)(void *dev, unsigned queue);
	/* Stop: nothing of this device touches guest memory after it returned. */
	void (*reset)(void *dev);
	void (*destroy)(void *dev);
	/*
	 * Of an active device, on its loop. After pause, until resume, the device touches neither
	 * queues nor guest memory, and no popped chain is out: what was popped has been completed.
	 * Either may be NULL.
	 */
	void (*pause)(void *dev);
	void (*resume)(void *dev);
	/*
	 * The device's own state; the core keeps features, status, queues and interrupt status. On
	 * the loop, paused. restore comes after activate if the driver had the device active;
	 * notify is called for each queue afterwards. Both NULL: the device cannot be saved.
	 */
	uint16_t state_version; /* of what save writes; from 1 */
	state_save_fn *save;
	state_restore_fn *restore;
};

/* --- for device modules, on the device's loop --- */

struct virtqueue *virtio_queue(struct virtio *virtio, unsigned index);
/* Used buffers of `queue`: signals the driver if it wants to know. */
void virtio_signal_queue(struct virtio *virtio, unsigned queue);
/* Work is left in `queue`: notify is called again, after what else the loop has to do. */
void virtio_notify_again(struct virtio *virtio, unsigned queue);
/* Configuration changed (§2.5). Any thread. */
void virtio_signal_config(struct virtio *virtio);
/* The ring or the device is beyond repair: DEVICE_NEEDS_RESET (§2.1.1). */
void virtio_needs_reset(struct virtio *virtio);

/* --- for the machine --- */

/* What a device lives in; all of it outlives the device. */
struct virtio_env {
	const struct guest_mem *mem;
	struct loop *loop; /* the device's own, or shared with other devices */
	const struct log *log;
};

/*
 * Takes over `dev` if it returns 0 (ops->destroy ends it); *env is copied. -ENOMEM, or -EMFILE
 * when there are no descriptors left for the queues' eventfds.
 */
int virtio_new(const struct virtio_ops *ops, void *dev, const struct virtio_env *env,
	       struct virtio **out, struct err *err);

/*
 * Back to power-on. Waits for the device's loop. Any thread but one that runs the loop while vCPUs
 * run.
 */
void virtio_reset(struct virtio *virtio);

/*
 * No vCPU runs. Pausing waits for the device's loop; kicks that come meanwhile are seen after
 * virtio_resume(). Not on a device that is paused.
 */
void virtio_pause(struct virtio *virtio);
void virtio_resume(struct virtio *virtio);
/*
 * Of a paused device. -ENOTSUP: its ops cannot. For restoring, the device was just made, with the
 * same queues; its driver's features must be on offer. An interrupt that was under way is raised
 * again, so the interrupt controllers are restored before.
 */
int virtio_save(struct virtio *virtio, struct state_writer *w, struct err *err);
int virtio_restore(struct virtio *virtio, struct state_reader *r, struct err *err);

/* Ends device and all. No vCPU runs any more; the loop still exists. NULL is fine. */
void virtio_destroy(struct virtio *virtio);

struct virtio_counters {
	uint64_t kicks;	      /* notifications that reached the device's loop */
	uint64_t interrupts;  /* raised, configuration changes included */
	uint64_t malformed;   /* chains that were completed with length 0, unread */
	uint64_t refused;     /* register accesses that the driver must not make */
	uint64_t activations; /* DRIVER_OK; 0 at the end: the guest had no driver */
};

/* Any thread, any time. */
void virtio_counters(const struct virtio *virtio, struct virtio_counters *out);
const struct virtio_ops *virtio_device_ops(const struct virtio *virtio);
unsigned virtio_queue_count(const struct virtio *virtio);

/* --- for transports, on vCPU threads --- */

#define VIRTIO_ISR_QUEUE  (1u << 0)
#define VIRTIO_ISR_CONFIG (1u << 1)

/* How the transport tells the guest. Called on any thread, after the ISR bit was set. */
struct virtio_interrupt {
	void (*raise)(void *opaque);
	void *opaque;
};
/* Once, before the machine runs. */
void virtio_set_interrupt(struct virtio *virtio, const struct virtio_interrupt *interrupt);

/* Counts an access that a driver must not make. */
void virtio_refuse(struct virtio *virtio);

/* `half` 0: bits 0 to 31, 1: bits 32 to 63, else no bits. Fixed once FEATURES_OK is set. */
uint32_t virtio_device_features(const struct virtio *virtio, uint32_t half);
void virtio_set_driver_features(struct virtio *virtio, uint32_t half, uint32_t value);

/* A write of 0 resets, DRIVER_OK activates: both wait for the device's loop. */
uint8_t virtio_status(struct virtio *virtio);
void virtio_set_status(struct virtio *virtio, uint8_t value);

/* Queue configuration; an index that the device does not have reads as 0 and ignores writes. */
enum virtio_queue_part {
	VIRTIO_QUEUE_DESC,
	VIRTIO_QUEUE_DRIVER,
	VIRTIO_QUEUE_DEVICE,
	VIRTIO_QUEUE_PARTS,
};
uint16_t virtio_queue_size_max(const struct virtio *virtio, uint32_t queue);
void virtio_set_queue_size(struct virtio *virtio, uint32_t queue, uint32_t size);
/* `high`: bits 32 to 63 of the address. */
void virtio_set_queue_addr(struct virtio *virtio, uint32_t queue, enum virtio_queue_part part,
			   bool high, uint32_t value);
bool virtio_queue_ready(struct virtio *virtio, uint32_t queue);
void virtio_set_queue_ready(struct virtio *virtio, uint32_t queue, bool ready);

/* The driver kicked. No lock; no waiting but for notify, where the device wants that. */
void virtio_kick(struct virtio *virtio, uint32_t queue);
/*
 * The eventfd behind virtio_kick(), for KVM_IOEVENTFD; -1 for a queue that is not there, or whose
 * kicks have to go through virtio_kick().
 */
int virtio_kick_fd(const struct virtio *virtio, unsigned queue);

/* Interrupt status; no lock. */
uint32_t virtio_isr(const struct virtio *virtio);
void virtio_isr_ack(struct virtio *virtio, uint32_t bits);

/* Configuration space. What lies outside reads as 0, and is refused. len: 1, 2, 4 or 8. */
uint32_t virtio_config_generation(struct virtio *virtio);
uint64_t virtio_config_read(struct virtio *virtio, uint64_t off, unsigned len);
void virtio_config_write(struct virtio *virtio, uint64_t off, unsigned len, uint64_t value);

#endif
