/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop: descriptors, timers and posts from other threads. One thread runs a loop; everything
 * that a source's callback touches belongs to that thread. Other threads reach it through
 * loop_post() and loop_call() only.
 */
#ifndef MINIVM_LOOP_H
#define MINIVM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/err.h"

struct loop; /* opaque */

/* Callbacks run on the loop's thread. `events` are EPOLL* bits. */
typedef void loop_event_fn(void *opaque, uint32_t events);
typedef void loop_work_fn(void *opaque);

/* A watched descriptor; embedded in the owner, which keeps it alive while it is watched. */
struct loop_source {
	int fd;
	loop_event_fn *fn;
	void *opaque;
	uint32_t events; /* maintained by the loop */
	bool watched;	 /* maintained by the loop */
};

/* A piece of work to post; embedded in the owner. Posting it twice before it ran runs it once. */
struct loop_work {
	loop_work_fn *fn;
	void *opaque;
	struct loop_work *next; /* maintained by the loop */
	bool queued;		/* maintained by the loop, under its lock */
};

/* A one-shot timer on CLOCK_MONOTONIC; zero-initialise, then loop_timer_init(). */
struct loop_timer {
	loop_work_fn *fn;
	void *opaque;
	struct loop *loop;
	struct loop_timer *next; /* maintained by the loop, under its lock */
	uint64_t deadline;	 /* CLOCK_MONOTONIC ns, 0: not armed; likewise */
};

int loop_new(struct loop **out, struct err *err);
void loop_free(struct loop *loop); /* no thread may be inside loop_run(); NULL is fine */

/*
 * Watch `src` for `events` (level-triggered), change the events (0 = none, stay registered), stop.
 * On the loop's thread, or while no thread runs the loop. After loop_unwatch() the callback does
 * not run again, not even for an event that was fetched already.
 * loop_watch returns -EPERM for a descriptor that epoll cannot watch (a regular file).
 */
int loop_watch(struct loop *loop, struct loop_source *src, uint32_t events, struct err *err);
void loop_rearm(struct loop *loop, struct loop_source *src, uint32_t events);
void loop_unwatch(struct loop *loop, struct loop_source *src);

/*
 * From any thread: run work on the loop's thread, soon, in the order of posting. Does not allocate,
 * does not block. Work that is still queued when loop_run() returns stays queued.
 */
void loop_post(struct loop *loop, struct loop_work *work);

/*
 * Takes back what was posted and has not started. On the loop's thread, or while no thread runs the
 * loop: afterwards the work does not run and its owner may be freed.
 */
void loop_unpost(struct loop *loop, struct loop_work *work);

/*
 * From any other thread: run fn(opaque) on the loop's thread and wait until it returned. On the
 * loop's own thread, or when no thread runs the loop, it runs at once on the caller's; callers that
 * meet there run one after the other. The caller holds no lock that the loop's callbacks take, and
 * two loops do not call each other.
 */
void loop_call(struct loop *loop, loop_work_fn *fn, void *opaque);

void loop_timer_init(struct loop *loop, struct loop_timer *timer, loop_work_fn *fn, void *opaque);
/* From any thread; 0 disarms. It fires up to a millisecond late, never early. */
void loop_timer_arm(struct loop_timer *timer, uint64_t ns);
/* On the loop's thread, or while no thread runs the loop. */
void loop_timer_destroy(struct loop_timer *timer);

/* Runs until loop_quit(). Returns 0, or -errno if epoll itself failed. */
int loop_run(struct loop *loop);

/* From any thread or signal handler: make loop_run() return after the current callback. Sticky. */
void loop_quit(struct loop *loop);

#endif
