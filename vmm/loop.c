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
 * Timers are timerfds. Arming one is a system call that any thread may make; a timer that was
 * disarmed or armed anew after its event was fetched reads EAGAIN and does not fire.
 *
 * System calls: epoll_create1, eventfd2, epoll_ctl, epoll_wait, timerfd_create, timerfd_settime,
 * read, write, close, futex.
 */
#include "minivm/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LOOP_BATCH 32

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
	unsigned queued; /* length of the list */
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

static void loop_timer_fired(void *opaque, uint32_t events)
{
	struct loop_timer *timer = opaque;
	uint64_t expirations;

	(void)events;
	if (read(timer->source.fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		timer->fn(timer->opaque);
}

int loop_timer_init(struct loop *loop, struct loop_timer *timer, loop_work_fn *fn, void *opaque,
		    struct err *err)
{
	int rc;

	timer->fn = fn;
	timer->opaque = opaque;
	timer->loop = loop;
	timer->source = (struct loop_source){.fn = loop_timer_fired, .opaque = timer};
	timer->source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer->source.fd < 0) {
		timer->loop = NULL;
		return err_sys(err, errno, "event loop: timerfd_create");
	}
	rc = loop_watch(loop, &timer->source, EPOLLIN, err);
	if (rc < 0) {
		close(timer->source.fd);
		timer->loop = NULL;
	}
	return rc;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t ns)
{
	const struct itimerspec when = {
	    .it_value = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)},
	};
	int rc = timerfd_settime(timer->source.fd, 0, &when, NULL);

	assert(rc == 0);
	(void)rc;
}

void loop_timer_destroy(struct loop_timer *timer)
{
	if (!timer->loop)
		return;
	loop_unwatch(timer->loop, &timer->source);
	close(timer->source.fd);
	timer->loop = NULL;
}

/* --- running --- */

/* Sleeps until there is something to do, unless work is queued. */
static int loop_wait(struct loop *loop)
{
	int rc = 0;
	int n;
	int timeout;

	pthread_mutex_lock(&loop->lock);
	loop->sleeping = loop->queued == 0;
	timeout = loop->sleeping ? -1 : 0;
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
