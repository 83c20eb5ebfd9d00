/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of struct virtio, for virtio.c (what the driver sees) and virtio_state.c (saving).
 * Which thread may touch what stands in virtio.c.
 */
#ifndef MINIVM_VIRTIO_PRIV_H
#define MINIVM_VIRTIO_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include <linux/virtio_config.h>

#include "minivm/virtio.h"

/* The bits that a driver may set; DEVICE_NEEDS_RESET is ours. */
#define STATUS_DRIVER_BITS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |        \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

struct virtio_queue {
	struct virtio *virtio;
	unsigned index;
	int kick_fd;
	bool waits; /* virtio_ops.kick_waits */
	/* under lock */
	struct vq_layout layout;
	bool ready;
	/* the loop's */
	struct loop_source kick;
	struct virtqueue vq;
};

struct virtio {
	const struct virtio_ops *ops;
	void *dev;
	struct virtio_env env;
	struct virtio_interrupt interrupt;
	uint64_t offered;
	unsigned queues;

	pthread_mutex_t lock;
	uint8_t status; /* without DEVICE_NEEDS_RESET */
	uint64_t accepted;
	uint8_t config_seen[VIRTIO_CONFIG_MAX]; /* by the last look at the generation */

	bool active; /* the loop's */

	_Atomic uint32_t isr;
	_Atomic bool needs_reset;
	_Atomic uint32_t generation;
	_Atomic uint64_t kicks;
	_Atomic uint64_t interrupts;
	_Atomic uint64_t refused;
	_Atomic uint64_t activations;
	struct log_limit log_limit;

	struct virtio_queue queue[]; /* `queues` of them */
};

/* Those of `features` that lack what they require (virtio_ops.requires). */
uint64_t virtio_features_lacking(const struct virtio_ops *ops, uint64_t features);

/* Tells the device what was accepted; with the lock held. */
void virtio_features_negotiated(struct virtio *virtio);

/* --- virtio.c, on the loop --- */

/* Starts a queue as it was laid out, without listening to kicks. -errno of vq_start(). */
int virtio_queue_start(struct virtio_queue *q);
/* Listens to kicks; one that came before is reported at once. */
int virtio_queue_watch(struct virtio_queue *q);
/* What virtio_kick() does. */
void virtio_queue_kick(const struct virtio_queue *q);

#endif
