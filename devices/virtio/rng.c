/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio entropy device (VIRTIO 1.2 §5.4).
 *
 * Theory of operation. Requests are buffers to fill. Each gets as many bytes as it has room for, at
 * most VIRTIO_RNG_REQUEST_MAX (§5.4.6.2: one or more, it may be fewer than there is room for),
 * straight from the source into guest memory. A turn is bounded, as the loop is shared; what is
 * left waits for the loop's next round.
 *
 * The rate. A token is a byte. While there are fewer tokens than a grain, nothing is taken from the
 * ring: requests wait there, in the guest's own memory, and a timer brings us back. A grain is ten
 * milliseconds' worth, so that a greedy guest costs a hundred interrupts a second, not one a byte.
 *
 * A source that fails at run time leaves a request that cannot be answered as §5.4.6.2 wants: it
 * comes back empty, and the device needs a reset.
 */
#include "minivm/virtio_rng.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <linux/virtio_ids.h>

#include "minivm/iov.h"
#include "minivm/counter.h"
#include "minivm/clock.h"

/* What one turn on the loop may cost: bytes, and so many more for each look at the ring. */
#define RNG_TURN	 (64u << 10)
#define RNG_REQUEST_COST 1024u

#define RNG_QUEUE_SIZE 64u

/* Grains a second, and the smallest grain: what Linux asks for at a time. */
#define RNG_GRAINS    100u
#define RNG_GRAIN_MIN 64u

struct virtio_rng {
	struct virtio_rng_source source;
	const struct log *log;
	struct loop_timer timer; /* only with a rate */
	uint64_t grain;		 /* tokens that a request waits for; 0: no rate */

	/* The loop's. */
	struct virtio *virtio; /* NULL: not active */
	struct token_bucket bucket;
	struct vq_chain chain;
	struct iovec iov[VQ_SIZE_MAX];

	struct log_limit log_limit;
	_Atomic uint64_t requests;
	_Atomic uint64_t bytes;
	_Atomic uint64_t throttled;
	_Atomic uint64_t errors;
};

/* --- the host as a source --- */

static int host_fill(void *opaque, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)opaque;
	while (len > 0) {
		/* Non-blocking: only a host that has just started has no bytes to give. */
		ssize_t n = getrandom(p, len, GRND_NONBLOCK);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static uint64_t host_now(void *opaque)
{
	(void)opaque;
	return clock_ns(CLOCK_MONOTONIC);
}

const struct virtio_rng_source virtio_rng_host_source = {.fill = host_fill, .now = host_now};

/* --- requests --- */

/* Bytes that the next request may get; 0: it has to wait. */
static uint32_t allowance(struct virtio_rng *rng)
{
	uint64_t tokens;

	if (rng->grain == 0)
		return VIRTIO_RNG_REQUEST_MAX;
	tokens = token_bucket_fill(&rng->bucket, rng->source.now(rng->source.opaque));
	if (tokens < rng->grain)
		return 0;
	return tokens < VIRTIO_RNG_REQUEST_MAX ? (uint32_t)tokens : VIRTIO_RNG_REQUEST_MAX;
}

/* Requests stay in the ring; the driver need not kick for more of them. */
static void wait_for_tokens(struct virtio_rng *rng)
{
	count_add(&rng->throttled, 1);
	loop_timer_arm(&rng->timer, token_bucket_wait(&rng->bucket, rng->grain));
}

static int fill_chain(struct virtio_rng *rng, const struct vq_chain *c, uint32_t len)
{
	unsigned n = iov_cut(rng->iov, vq_writable(c), 0, len);
	int ret = 0;

	for (unsigned i = 0; !ret && i < n; i++)
		ret =
		    rng->source.fill(rng->source.opaque, rng->iov[i].iov_base, rng->iov[i].iov_len);
	return ret;
}

/* Completes the chain in rng->chain. *len: at most so many bytes, then how many it got. */
static int handle(struct virtio_rng *rng, struct virtqueue *vq, uint32_t *len)
{
	const struct vq_chain *c = &rng->chain;
	int ret = 0;

	if (*len > c->writable_len)
		*len = c->writable_len;
	if (*len > 0)
		ret = fill_chain(rng, c, *len);
	if (ret < 0) {
		log_guest(rng->log, &rng->log_limit, LOG_LEVEL_WARN, "virtio-rng: %s",
			  strerror(-ret));
		*len = 0;
	}
	if (*len == 0)
		count_add(&rng->errors, 1);
	if (rng->grain > 0)
		token_bucket_take(&rng->bucket, *len);
	count_add(&rng->requests, 1);
	count_add(&rng->bytes, *len);
	vq_push(vq, c, *len);
	return ret;
}

/* 1: go on, *cost grew; 0: nothing to do now; or -errno: no more from this queue. */
static int step(struct virtio_rng *rng, struct virtqueue *vq, uint32_t *cost)
{
	uint32_t len = allowance(rng);
	int ret = len > 0 ? vq_pop(vq, &rng->chain) : 0;

	*cost += RNG_REQUEST_COST;
	if (ret < 0)
		return ret;
	if (ret == 1) {
		ret = handle(rng, vq, &len);
		*cost += len;
		return ret < 0 ? ret : 1;
	}
	if (!vq_enable_notify(vq))
		return 0;
	vq_disable_notify(vq);
	if (len > 0)
		return 1;
	wait_for_tokens(rng);
	return 0;
}

static void rng_notify(void *dev, unsigned queue)
{
	struct virtio_rng *rng = dev;
	struct virtqueue *vq;
	uint32_t cost = 0;
	int ret = 1;

	if (!rng->virtio)
		return;
	vq = virtio_queue(rng->virtio, queue);
	vq_disable_notify(vq);
	while (ret > 0 && cost < RNG_TURN)
		ret = step(rng, vq, &cost);
	virtio_signal_queue(rng->virtio, queue);
	if (ret < 0)
		virtio_needs_reset(rng->virtio);
	else if (ret > 0)
		virtio_notify_again(rng->virtio, queue);
}

/* Tokens have come in. */
static void rng_resume(void *opaque)
{
	rng_notify(opaque, 0);
}

/* --- the device --- */

static uint64_t rng_features(void *dev)
{
	(void)dev;
	return 0;
}

static void rng_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_rng *rng = dev;

	(void)features;
	rng->virtio = virtio;
}

/* What waits for tokens stays in the ring; whoever resumes us has the loop look there. */
static void rng_pause(void *dev)
{
	struct virtio_rng *rng = dev;

	if (rng->grain > 0)
		loop_timer_arm(&rng->timer, 0);
}

/* The bucket stays: a reset gives no fresh tokens. */
static void rng_reset(void *dev)
{
	struct virtio_rng *rng = dev;

	rng_pause(rng);
	rng->virtio = NULL;
}

/* A restored machine gets no fresh tokens either. */
static int rng_save(void *dev, struct state_writer *w, struct err *err)
{
	const struct virtio_rng *rng = dev;

	(void)err;
	state_put_u64(w, rng->bucket.tokens);
	return 0;
}

/* The rate is this machine's, whatever the saved one had. */
static int rng_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_rng *rng = dev;
	uint64_t tokens = state_get_u64(r);

	(void)err;
	if (rng->grain > 0 && tokens < rng->bucket.tokens)
		rng->bucket.tokens = tokens;
	return 0;
}

static void rng_destroy(void *dev)
{
	struct virtio_rng *rng = dev;

	loop_timer_destroy(&rng->timer);
	free(rng);
}

const struct virtio_ops virtio_rng_ops = {
    .name = "virtio-rng",
    .guest_kconfig = "CONFIG_HW_RANDOM_VIRTIO",
    .device_id = VIRTIO_ID_RNG,
    .queues = 1,
    .queue_size_max = RNG_QUEUE_SIZE, /* §5.4.4: no configuration space */
    .features = rng_features,
    .activate = rng_activate,
    .notify = rng_notify,
    .reset = rng_reset,
    .destroy = rng_destroy,
    .pause = rng_pause,
    .state_version = 1,
    .save = rng_save,
    .restore = rng_restore,
};

static void set_rate(struct virtio_rng *rng, const struct virtio_rng_options *opt)
{
	uint64_t grain = opt->rate / RNG_GRAINS;

	if (opt->rate == 0)
		return;
	if (grain < RNG_GRAIN_MIN)
		grain = RNG_GRAIN_MIN;
	if (grain > VIRTIO_RNG_REQUEST_MAX)
		grain = VIRTIO_RNG_REQUEST_MAX;
	if (grain > opt->rate)
		grain = opt->rate;
	rng->grain = grain;
	token_bucket_init(&rng->bucket, opt->rate, rng->source.now(rng->source.opaque));
	loop_timer_init(opt->loop, &rng->timer, rng_resume, rng);
}

int virtio_rng_new(const struct virtio_rng_options *opt, struct virtio_rng **out, struct err *err)
{
	struct virtio_rng *rng;
	uint8_t byte;
	int ret = opt->source->fill(opt->source->opaque, &byte, 1);

	if (ret < 0)
		return err_sys(err, -ret, "virtio-rng: the host's random number generator");
	rng = calloc(1, sizeof(*rng));
	if (!rng)
		return err_sys(err, ENOMEM, "virtio-rng");
	rng->source = *opt->source;
	rng->log = opt->log;
	set_rate(rng, opt);
	*out = rng;
	return 0;
}

void virtio_rng_counters(const struct virtio_rng *rng, struct virtio_rng_counters *out)
{
	*out = (struct virtio_rng_counters){
	    .requests = count_read(&rng->requests),
	    .bytes = count_read(&rng->bytes),
	    .throttled = count_read(&rng->throttled),
	    .errors = count_read(&rng->errors),
	};
}
