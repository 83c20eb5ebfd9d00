/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The traditional memory balloon device (VIRTIO 1.2 §5.5): memory that the guest does not need goes
 * back to the host, asked for (the target) or by itself (free page reporting).
 */
#ifndef MINIVM_VIRTIO_BALLOON_H
#define MINIVM_VIRTIO_BALLOON_H

#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/memory.h"
#include "minivm/virtio.h"

#define VIRTIO_BALLOON_PAGE 4096u /* of the target and of the pages in it, whatever the guest's */

#define VIRTIO_BALLOON_STATS_MAX_NS 3600000000000ull

struct virtio_balloon_options {
	const struct guest_mem *mem; /* the same as in virtio_env */
	uint64_t target;	     /* bytes that the guest is to give up; whole pages */
	struct loop *loop;	     /* the device's */
	uint64_t stats_ns;	     /* how often statistics are asked for; 0: never */
	const struct log *log;
};

struct virtio_balloon;

extern const struct virtio_ops virtio_balloon_ops;

int virtio_balloon_new(const struct virtio_balloon_options *opt, struct virtio_balloon **out,
		       struct err *err);

/*
 * While the guest runs. Any thread that does not run the device's loop; waits for that loop, so
 * that what is saved afterwards has it all.
 *
 * The target: whole pages, less than guest memory has, else -EINVAL. The driver is told; when it
 * acts is its own affair.
 */
int virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes);
/* How often statistics are asked for. -EINVAL: too long, or from never, or to it. */
int virtio_balloon_set_stats(struct virtio_balloon *b, uint64_t ns);

#define VIRTIO_BALLOON_STATS 10 /* the tags of §5.5.6.4 */

/* By tag: "swap_in". Bytes: swap_*, *_memory, disk_caches; the others are events and pages. */
extern const char *const virtio_balloon_stat_names[VIRTIO_BALLOON_STATS];

struct virtio_balloon_stats {
	uint32_t told;			      /* a bit for each tag that the guest has told */
	uint64_t value[VIRTIO_BALLOON_STATS]; /* as it told it last */
	uint64_t interval_ns;		      /* how often it is asked; 0: never */
};

/* Any thread, any time. */
void virtio_balloon_stats(const struct virtio_balloon *b, struct virtio_balloon_stats *out);

struct virtio_balloon_counters {
	uint64_t target;	/* bytes that are asked for */
	uint64_t actual;	/* bytes that the guest says are in the balloon */
	uint64_t inflated;	/* pages that were put into it, ever */
	uint64_t deflated;	/* pages that were taken out again */
	uint64_t reported;	/* bytes of free page reports */
	uint64_t refused_pages; /* that are not in memory */
	uint64_t stats_updates; /* the guest's statistics below came so often */
	/* As the guest told them last, bytes or faults; 0: not told. */
	uint64_t free_memory, available_memory, total_memory, major_faults;
};

/* Any thread, any time. */
void virtio_balloon_counters(const struct virtio_balloon *b, struct virtio_balloon_counters *out);

#endif
