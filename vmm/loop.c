/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one epoll set, one eventfd that wakes it, a list of posted work.
 *
 * Ownership. At any time at most one thread owns the loop: the one inside loop_run(), or, while
 * nobody runs it, the one that does its own loop_call(). Sources, fetched events and everything
 * that callbacks touch belong to the owner and need no lock. `lock` guards the list of work, the
 * sleep flag and who the owner is; it is held for a few instructions and never across a callback.
 *
 * Waking. `sleeping` is set under the lock just before epoll_wait(), when no work is queued. A post
 * that finds it set clears it and writes the eventfd: one write per sleep of the loop, however many
 * threads post. A post that finds it clear writes nothing; the loop looks at the list, under the
 * same lock, before it sleeps again. The eventfd is watched edge-triggered and is never read: each
 * write is an event of its own, and its counter would take 2^64 writes to fill. loop_quit() takes
 * no lock, so that a signal handler may call it: it stores the flag and writes the eventfd in any
 * case.
 *
 * Fairness. Each round handles the events that one epoll_wait() returned and the work that was
 * queued when its turn came, so work that posts itself again does not starve the sources.
 *
 * Dead sources. loop_unwatch() may name a source whose event lies in the batch that is being
 * handled; it is struck out there, so its owner may free it at once.
 *
 * Timers are a list, by deadline, under the lock: a start makes no descriptor for them, and arming
 * one on the loop's own thread is no system call. The first deadline bounds the sleep; a thread
 * that arms an earlier one wakes the loop like a post does. Those that are due when the sleep is
 * over fire; one that is disarmed or armed anew before its turn does not.
 *
 * System calls: epoll_create1, eventfd2, epoll_ctl, epoll_wait, write, close, futex.
 */
#include "minivm/loop.h"
#include "minivm/clock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOP_BATCH 32

#define NS_PER_MS 1000000ull

struct loop {
	int epoll_fd;
	int wake_fd;
	atomic_bool quit;

	/* The owner's. */
	struct epoll_event fetched[LOOP_BATCH];
	int fetched_count;
	int fetched_next;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a call is done, or nobody owns the loop any more */
	struct loop_work *head;
	struct loop_work **tail;
	unsigned queued;	   /* length of the list */
	struct loop_timer *timers; /* armed, by deadline */
	bool sleeping;
	bool owned;
	pthread_t owner; /* while owned */
};

/* A loop_call() that waits; lives on the caller's stack. `done` is under the lock. */
struct loop_pending_call {
	struct loop_work work;
	struct loop *loop;
	loop_work_fn *fn;
	void *opaque;
	bool done;
};

int loop_new(struct loop **out, struct err *err)
{
	struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return err_sys(err, ENOMEM, "event loop");
	loop->tail = &loop->head;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->changed, NULL);
	loop->wake_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		err_sys(err, errno, "event loop: epoll_create1");
		goto fail;
	}
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		err_sys(err, errno, "event loop: eventfd");
		goto fail;
	}
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0) {
		err_sys(err, errno, "event loop: epoll_ctl");
		goto fail;
	}
	*out = loop;
	return 0;
fail:
	loop_free(loop);
	return err->code;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	assert(!loop->owned);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	pthread_cond_destroy(&loop->changed);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	(void)!write(loop->wake_fd, &one, sizeof(one));
}

/* --- sources --- */

/*
 * What the kernel is told. Without wanted events a level-triggered source would still report
 * EPOLLHUP and EPOLLERR for ever; one-shot, it reports them once, to loop_dispatch(), which drops
 * them, and is then off until it is armed again.
 */
static int loop_ctl(struct loop *loop, int op, struct loop_source *src)
{
	struct epoll_event ev = {
	    .events = src->events ? src->events : (uint32_t)EPOLLONESHOT,
	    .data.ptr = src,
	};

	return epoll_ctl(loop->epoll_fd, op, src->fd, &ev);
}

int loop_watch(struct loop *loop, struct loop_source *src, uint32_t events, struct err *err)
{
	assert(!src->watched);
	src->events = events;
	if (loop_ctl(loop, EPOLL_CTL_ADD, src) < 0)
		return err_sys(err, errno, "event loop: cannot watch descriptor %d", src->fd);
	src->watched = true;
	return 0;
}

void loop_rearm(struct loop *loop, struct loop_source *src, uint32_t events)
{
	int rc;

	assert(src->watched);
	if (src->events == events)
		return;
	src->events = events;
	/* Changing what is registered takes no memory: it cannot fail. */
	rc = loop_ctl(loop, EPOLL_CTL_MOD, src);
	assert(rc == 0);
	(void)rc;
}

void loop_unwatch(struct loop *loop, struct loop_source *src)
{
	if (!src->watched)
		return;
	src->watched = false;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, src->fd, NULL);
	for (int i = loop->fetched_next; i < loop->fetched_count; i++)
		if (loop->fetched[i].data.ptr == src)
			loop->fetched[i].data.ptr = NULL;
}

/* --- work --- */

/* With the lock held. */
static void loop_queue(struct loop *loop, struct loop_work *work)
{
	work->next = NULL;
	work->queued = true;
	*loop->tail = work;
	loop->tail = &work->next;
	loop->queued++;
}

/* With the lock held: takes work out, if it is queued. */
static void loop_dequeue(struct loop *loop, struct loop_work *work)
{
	struct loop_work **link = &loop->head;

	if (!work->queued)
		return;
	while (*link != work)
		link = &(*link)->next;
	*link = work->next;
	if (loop->tail == &work->next)
		loop->tail = link;
	work->queued = false;
	loop->queued--;
}

/* With the lock held: true if the caller has to wake the loop once it let go of the lock. */
static bool loop_needs_wake(struct loop *loop)
{
	bool sleeping = loop->sleeping;

	loop->sleeping = false;
	return sleeping;
}

void loop_post(struct loop *loop, struct loop_work *work)
{
	bool wake = false;

	pthread_mutex_lock(&loop->lock);
	if (!work->queued) {
		loop_queue(loop, work);
		wake = loop_needs_wake(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	if (wake)
		loop_wake(loop);
}

void loop_unpost(struct loop *loop, struct loop_work *work)
{
	pthread_mutex_lock(&loop->lock);
	loop_dequeue(loop, work);
	pthread_mutex_unlock(&loop->lock);
}

/* --- calls --- */

static void loop_pending_call_run(void *opaque)
{
	struct loop_pending_call *call = opaque;
	struct loop *loop = call->loop;

	call->fn(call->opaque);
	pthread_mutex_lock(&loop->lock);
	call->done = true;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
	/* The caller may have returned by now: its stack is not ours any more. */
}

/* With the lock held, while nobody owns the loop. */
static void loop_own(struct loop *loop)
{
	loop->owned = true;
	loop->owner = pthread_self();
}

/* With the lock held. Those who wait for a call can now make it themselves. */
static void loop_disown(struct loop *loop)
{
	loop->owned = false;
	pthread_cond_broadcast(&loop->changed);
}

void loop_call(struct loop *loop, loop_work_fn *fn, void *opaque)
{
	struct loop_pending_call call = {.loop = loop, .fn = fn, .opaque = opaque};
	bool mine;

	call.work.fn = loop_pending_call_run;
	call.work.opaque = &call;

	pthread_mutex_lock(&loop->lock);
	mine = loop->owned && pthread_equal(loop->owner, pthread_self());
	if (loop->owned && !mine) {
		loop_queue(loop, &call.work);
		if (loop_needs_wake(loop))
			loop_wake(loop);
		while (!call.done && loop->owned)
			pthread_cond_wait(&loop->changed, &loop->lock);
		loop_dequeue(loop, &call.work);
	}
	if (mine || call.done) {
		pthread_mutex_unlock(&loop->lock);
		if (mine)
			fn(opaque);
		return;
	}
	loop_own(loop);
	pthread_mutex_unlock(&loop->lock);
	fn(opaque);
	pthread_mutex_lock(&loop->lock);
	loop_disown(loop);
	pthread_mutex_unlock(&loop->lock);
}

/* --- timers --- */

/* With the lock held: takes the timer out of the list, if it is armed. */
static void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer **link = &loop->timers;

	if (!timer->deadline)
		return;
	while (*link != timer)
		link = &(*link)->next;
	*link = timer->next;
	timer->deadline = 0;
}

/* With the lock held; behind those of the same deadline. */
static void loop_enlist(struct loop *loop, struct loop_timer *timer, uint64_t deadline)
{
	struct loop_timer **link = &loop->timers;

	while (*link && (*link)->deadline <= deadline)
		link = &(*link)->next;
	timer->next = *link;
	timer->deadline = deadline;
	*link = timer;
}

void loop_timer_init(struct loop *loop, struct loop_timer *timer, loop_work_fn *fn, void *opaque)
{
	*timer = (struct loop_timer){.fn = fn, .opaque = opaque, .loop = loop};
}

void loop_timer_arm(struct loop_timer *timer, uint64_t ns)
{
	struct loop *loop = timer->loop;
	bool wake = false;

	pthread_mutex_lock(&loop->lock);
	loop_disarm(loop, timer);
	if (ns) {
		loop_enlist(loop, timer, clock_ns(CLOCK_MONOTONIC) + ns);
		/* A sleep that is bounded by an earlier deadline need not end now. */
		wake = loop->timers == timer && loop_needs_wake(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	if (wake)
		loop_wake(loop);
}

void loop_timer_destroy(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;

	if (!loop)
		return;
	pthread_mutex_lock(&loop->lock);
	loop_disarm(loop, timer);
	pthread_mutex_unlock(&loop->lock);
	timer->loop = NULL;
}

/* --- running --- */

/* With the lock held: how long to sleep, in epoll_wait()'s milliseconds, rounded up. */
static int loop_timeout(const struct loop *loop)
{
	uint64_t now, ms;

	if (loop->queued)
		return 0;
	if (!loop->timers)
		return -1;
	now = clock_ns(CLOCK_MONOTONIC);
	if (loop->timers->deadline <= now)
		return 0;
	ms = (loop->timers->deadline - now + NS_PER_MS - 1) / NS_PER_MS;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Sleeps until there is something to do, unless there is already. */
static int loop_wait(struct loop *loop)
{
	int rc = 0;
	int n;
	int timeout;

	pthread_mutex_lock(&loop->lock);
	timeout = loop_timeout(loop);
	loop->sleeping = timeout != 0;
	pthread_mutex_unlock(&loop->lock);

	n = epoll_wait(loop->epoll_fd, loop->fetched, LOOP_BATCH, timeout);
	if (n < 0) {
		rc = errno == EINTR ? 0 : -errno;
		n = 0;
	}
	loop->fetched_next = 0;
	loop->fetched_count = n;

	pthread_mutex_lock(&loop->lock);
	loop->sleeping = false;
	pthread_mutex_unlock(&loop->lock);
	return rc;
}

static void loop_dispatch(struct loop *loop)
{
	while (loop->fetched_next < loop->fetched_count && !atomic_load(&loop->quit)) {
		struct epoll_event ev = loop->fetched[loop->fetched_next++];
		struct loop_source *src = ev.data.ptr;

		/* The eventfd, or a source that was unwatched since. */
		if (!src)
			continue;
		/* It may have been armed otherwise, or not at all, since the kernel reported it. */
		ev.events &= src->events ? src->events | EPOLLERR | EPOLLHUP : 0;
		if (ev.events)
			src->fn(src->opaque, ev.events);
	}
	loop->fetched_count = 0;
	loop->fetched_next = 0;
}

/* Those that were due when this began; one that arms itself again has another turn. */
static void loop_run_timers(struct loop *loop)
{
	uint64_t now;

	pthread_mutex_lock(&loop->lock);
	now = loop->timers ? clock_ns(CLOCK_MONOTONIC) : 0;
	while (loop->timers && loop->timers->deadline <= now && !atomic_load(&loop->quit)) {
		struct loop_timer *timer = loop->timers;
		loop_work_fn *fn = timer->fn;
		void *opaque = timer->opaque;

		loop_disarm(loop, timer);
		pthread_mutex_unlock(&loop->lock);
		fn(opaque);
		pthread_mutex_lock(&loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
}

static void loop_run_work(struct loop *loop)
{
	unsigned budget;

	pthread_mutex_lock(&loop->lock);
	budget = loop->queued;
	while (budget-- > 0 && loop->head && !atomic_load(&loop->quit)) {
		struct loop_work *work = loop->head;
		loop_work_fn *fn = work->fn;
		void *opaque = work->opaque;

		loop_dequeue(loop, work);
		pthread_mutex_unlock(&loop->lock);
		fn(opaque);
		pthread_mutex_lock(&loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
}

int loop_run(struct loop *loop)
{
	int rc = 0;

	pthread_mutex_lock(&loop->lock);
	assert(!loop->owned || !pthread_equal(loop->owner, pthread_self()));
	while (loop->owned)
		pthread_cond_wait(&loop->changed, &loop->lock);
	loop_own(loop);
	pthread_mutex_unlock(&loop->lock);

	while (rc == 0 && !atomic_load(&loop->quit)) {
		rc = loop_wait(loop);
		loop_dispatch(loop);
		loop_run_timers(loop);
		loop_run_work(loop);
	}

	pthread_mutex_lock(&loop->lock);
	loop_disown(loop);
	pthread_mutex_unlock(&loop->lock);
	return rc;
}

void loop_quit(struct loop *loop)
{
	atomic_store(&loop->quit, true);
	loop_wake(loop);
}
