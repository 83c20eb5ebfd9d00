/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio entropy device (VIRTIO 1.2 §5.4): random bytes of the host's for the guest.
 */
#ifndef MINIVM_VIRTIO_RNG_H
#define MINIVM_VIRTIO_RNG_H

#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/token_bucket.h"
#include "minivm/virtio.h"

#define VIRTIO_RNG_RATE_MAX    TOKEN_BUCKET_RATE_MAX
#define VIRTIO_RNG_REQUEST_MAX 16384u /* bytes that one request gets at most */

/* Where bytes and time come from. Called on the device's loop. */
struct virtio_rng_source {
	/* Fills all of buf, at most VIRTIO_RNG_REQUEST_MAX bytes, without blocking. 0 or -errno. */
	int (*fill)(void *opaque, void *buf, size_t len);
	uint64_t (*now)(void *opaque); /* ns, monotonic; asked only where there is a rate */
	void *opaque;
};

/* getrandom(2) and CLOCK_MONOTONIC. */
extern const struct virtio_rng_source virtio_rng_host_source;

struct virtio_rng_options {
	const struct virtio_rng_source *source; /* copied */
	struct loop *loop;			/* the device's */
	const struct log *log;
	uint64_t rate; /* bytes a second, at most VIRTIO_RNG_RATE_MAX; 0: no limit */
};

struct virtio_rng;

extern const struct virtio_ops virtio_rng_ops;

/*
 * Asks the source for a byte: a host that has none to give is an error here. virtio_rng_ops.destroy
 * ends it, while the loop exists. -ENOMEM, -EMFILE, or what the source says.
 */
int virtio_rng_new(const struct virtio_rng_options *opt, struct virtio_rng **out, struct err *err);

struct virtio_rng_counters {
	uint64_t requests; /* completed */
	uint64_t bytes;
	uint64_t throttled; /* times that requests had to wait for the rate */
	uint64_t errors;    /* nothing writable in the request, or no bytes from the source */
};

/* Any thread, any time. */
void virtio_rng_counters(const struct virtio_rng *rng, struct virtio_rng_counters *out);

#endif
