/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop: sources, posts, calls, timers, quitting; from one thread and from several. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "minivm/loop.h"

static struct loop *new_loop(void)
{
	struct loop *loop;
	struct err err = {0};

	cr_assert_eq(loop_new(&loop, &err), 0, "%s", err.text);
	return loop;
}

static void *run_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

/* --- sources --- */

struct watcher {
	struct loop *loop;
	struct loop_source src;
	struct watcher *victim; /* unwatched by the callback, and its memory poisoned */
	unsigned calls;
	uint32_t events;
};

static void watcher_fn(void *opaque, uint32_t events)
{
	struct watcher *w = opaque;
	uint64_t value;

	w->calls++;
	w->events = events;
	if (events & EPOLLIN)
		(void)!read(w->src.fd, &value, sizeof(value));
	if (w->victim) {
		loop_unwatch(w->loop, &w->victim->src);
		close(w->victim->src.fd);
		memset(w->victim, 0xa5, sizeof(*w->victim));
		w->victim = NULL;
	}
	loop_quit(w->loop);
}

static void watcher_init(struct watcher *w, struct loop *loop, int fd, uint32_t events)
{
	struct err err = {0};

	memset(w, 0, sizeof(*w));
	w->loop = loop;
	w->src = (struct loop_source){.fd = fd, .fn = watcher_fn, .opaque = w};
	cr_assert_eq(loop_watch(loop, &w->src, events, &err), 0, "%s", err.text);
}

Test(loop, reports_a_readable_descriptor)
{
	struct loop *loop = new_loop();
	struct watcher w;

	watcher_init(&w, loop, eventfd(1, EFD_NONBLOCK), EPOLLIN);
	cr_assert(w.src.watched);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(w.calls, 1u);
	cr_assert(w.events & EPOLLIN);
	loop_unwatch(loop, &w.src);
	cr_assert(!w.src.watched);
	close(w.src.fd);
	loop_free(loop);
}

Test(loop, a_regular_file_is_refused)
{
	struct loop *loop = new_loop();
	struct loop_source src = {.fn = watcher_fn};
	struct err err = {0};
	FILE *f = tmpfile();

	src.fd = fileno(f);
	cr_assert_eq(loop_watch(loop, &src, EPOLLIN, &err), -EPERM);
	cr_assert(!src.watched);
	cr_assert(strlen(err.text) > 0);
	fclose(f);
	loop_free(loop);
}

Test(loop, unwatch_drops_events_that_were_fetched)
{
	struct loop *loop = new_loop();
	struct watcher *a = malloc(sizeof(*a));
	struct watcher *b = malloc(sizeof(*b));

	watcher_init(a, loop, eventfd(1, EFD_NONBLOCK), EPOLLIN);
	watcher_init(b, loop, eventfd(1, EFD_NONBLOCK), EPOLLIN);
	/* Both are ready in the same batch; whichever runs first takes the other away. */
	a->victim = b;
	b->victim = a;
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq((a->calls == 1) + (b->calls == 1), 1);
	free(a);
	free(b);
	loop_free(loop);
}

struct spin {
	struct loop *loop;
	struct loop_source src;
	struct loop_timer timer;
	unsigned calls;
};

static void spin_fn(void *opaque, uint32_t events)
{
	struct spin *s = opaque;

	(void)events;
	s->calls++;
	loop_rearm(s->loop, &s->src, 0);
}

static void spin_timeout(void *opaque)
{
	struct spin *s = opaque;

	loop_quit(s->loop);
}

Test(loop, no_events_means_none_even_after_a_hang_up)
{
	struct loop *loop = new_loop();
	struct spin s = {.loop = loop, .src = {.fn = spin_fn}};
	struct timespec before, after;
	struct err err = {0};
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	close(fds[1]);
	s.src.fd = fds[0];
	s.src.opaque = &s;
	cr_assert_eq(loop_watch(loop, &s.src, EPOLLIN, &err), 0);
	loop_timer_init(loop, &s.timer, spin_timeout, &s);
	loop_timer_arm(&s.timer, 200 * 1000000ull);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	cr_assert_eq(loop_run(loop), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	cr_assert_eq(s.calls, 1u);
	cr_assert_lt((after.tv_sec - before.tv_sec) * 1000000000l + after.tv_nsec - before.tv_nsec,
		     40 * 1000000l, "the loop was busy");
	loop_timer_destroy(&s.timer);
	loop_unwatch(loop, &s.src);
	close(fds[0]);
	loop_free(loop);
}

Test(loop, rearm_brings_a_source_back)
{
	struct loop *loop = new_loop();
	struct watcher w;

	watcher_init(&w, loop, eventfd(1, EFD_NONBLOCK), 0);
	loop_rearm(loop, &w.src, EPOLLIN);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(w.calls, 1u);
	loop_unwatch(loop, &w.src);
	close(w.src.fd);
	loop_free(loop);
}

/* --- posts --- */

struct posted {
	struct loop_work work;
	struct loop *loop;
	unsigned runs;
	unsigned again; /* times to post itself anew */
	struct loop_work *unpost;
	char *trace;
	char tag;
};

static void posted_fn(void *opaque)
{
	struct posted *p = opaque;

	p->runs++;
	if (p->trace)
		p->trace[strlen(p->trace)] = p->tag;
	if (p->unpost)
		loop_unpost(p->loop, p->unpost);
	if (p->again > 0) {
		p->again--;
		loop_post(p->loop, &p->work);
	}
}

static void posted_init(struct posted *p, struct loop *loop)
{
	*p = (struct posted){.work = {.fn = posted_fn, .opaque = p}, .loop = loop};
}

Test(loop, work_posted_twice_runs_once_and_in_order)
{
	struct loop *loop = new_loop();
	struct posted a, b, c;
	struct loop_work end = {.fn = quit, .opaque = loop};
	char trace[8] = "";

	posted_init(&a, loop);
	posted_init(&b, loop);
	posted_init(&c, loop);
	a.trace = b.trace = c.trace = trace;
	a.tag = 'a';
	b.tag = 'b';
	c.tag = 'c';
	loop_post(loop, &a.work);
	loop_post(loop, &b.work);
	loop_post(loop, &a.work);
	loop_post(loop, &c.work);
	loop_post(loop, &end);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_str_eq(trace, "abc");
	loop_free(loop);
}

Test(loop, unposted_work_does_not_run)
{
	struct loop *loop = new_loop();
	struct posted a, b, c;
	struct loop_work end = {.fn = quit, .opaque = loop};

	posted_init(&a, loop);
	posted_init(&b, loop);
	posted_init(&c, loop);
	a.unpost = &b.work; /* from a callback, with b in the same batch */
	loop_post(loop, &a.work);
	loop_post(loop, &b.work);
	loop_post(loop, &c.work);
	loop_unpost(loop, &c.work); /* the tail */
	loop_post(loop, &end);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(a.runs, 1u);
	cr_assert_eq(b.runs, 0u);
	cr_assert_eq(c.runs, 0u);
	loop_free(loop);
}

Test(loop, work_that_posts_itself_does_not_starve_sources)
{
	struct loop *loop = new_loop();
	struct posted p;
	struct watcher w;

	posted_init(&p, loop);
	p.again = UINT32_MAX;
	loop_post(loop, &p.work);
	watcher_init(&w, loop, eventfd(1, EFD_NONBLOCK), EPOLLIN);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(w.calls, 1u);
	loop_unpost(loop, &p.work);
	loop_unwatch(loop, &w.src);
	close(w.src.fd);
	loop_free(loop);
}

Test(loop, quit_is_sticky_and_leaves_work_queued)
{
	struct loop *loop = new_loop();
	struct posted p;

	posted_init(&p, loop);
	loop_quit(loop);
	loop_post(loop, &p.work);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(p.runs, 0u);
	loop_free(loop);
}

static struct loop *signalled_loop; /* a signal handler has no argument */

static void on_signal(int sig)
{
	(void)sig;
	loop_quit(signalled_loop);
}

Test(loop, a_signal_handler_may_quit, .timeout = 10)
{
	struct loop *loop = new_loop();
	struct timespec ts = {.tv_nsec = 50 * 1000000};
	pthread_t thread;

	signalled_loop = loop;
	signal(SIGUSR1, on_signal);
	cr_assert_eq(pthread_create(&thread, NULL, run_thread, loop), 0);
	nanosleep(&ts, NULL);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	loop_free(loop);
}

/* --- several threads --- */

#define POSTERS 3
#define POSTS	2000

struct stress {
	struct loop *loop;
	atomic_uint posted;
	unsigned ran;	   /* the loop's thread only: TSan watches */
	unsigned observed; /* the loop's thread only */
};

struct poster {
	struct stress *s;
	struct loop_work work;
	atomic_bool idle;
};

static void poster_work(void *opaque)
{
	struct poster *p = opaque;

	p->s->ran++;
	atomic_store(&p->idle, true);
}

static void stress_call(void *opaque)
{
	struct stress *s = opaque;

	s->observed = s->ran;
}

static void *poster_thread(void *opaque)
{
	struct poster *p = opaque;

	for (int i = 0; i < POSTS; i++) {
		while (!atomic_exchange(&p->idle, false))
			sched_yield();
		loop_post(p->s->loop, &p->work);
		if (i % 64 == 0)
			loop_call(p->s->loop, stress_call, p->s);
	}
	loop_call(p->s->loop, stress_call, p->s);
	return NULL;
}

Test(loop, no_post_is_lost, .timeout = 60)
{
	struct stress s = {.loop = new_loop()};
	struct poster posters[POSTERS];
	pthread_t threads[POSTERS];
	pthread_t runner;

	cr_assert_eq(pthread_create(&runner, NULL, run_thread, s.loop), 0);
	for (int i = 0; i < POSTERS; i++) {
		posters[i].s = &s;
		posters[i].work = (struct loop_work){.fn = poster_work, .opaque = &posters[i]};
		atomic_init(&posters[i].idle, true);
		cr_assert_eq(pthread_create(&threads[i], NULL, poster_thread, &posters[i]), 0);
	}
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	loop_quit(s.loop);
	pthread_join(runner, NULL);
	cr_assert_eq(s.ran, (unsigned)(POSTERS * POSTS));
	loop_free(s.loop);
}

static void nested_call(void *opaque)
{
	struct posted *p = opaque;

	if (p->again-- > 0)
		loop_call(p->loop, nested_call, p);
	p->runs++;
}

Test(loop, call_runs_at_once_without_a_runner_and_nests, .timeout = 10)
{
	struct loop *loop = new_loop();
	struct posted p;

	posted_init(&p, loop);
	p.again = 3;
	loop_call(loop, nested_call, &p);
	cr_assert_eq(p.runs, 4u);
	loop_free(loop);
}

static void call_from_loop(void *opaque)
{
	struct posted *p = opaque;

	loop_call(p->loop, nested_call, p);
	loop_quit(p->loop);
}

Test(loop, call_on_the_loops_own_thread_does_not_deadlock, .timeout = 10)
{
	struct loop *loop = new_loop();
	struct posted p;

	posted_init(&p, loop);
	p.work.fn = call_from_loop;
	loop_post(loop, &p.work);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(p.runs, 1u);
	loop_free(loop);
}

static void count(void *opaque)
{
	unsigned *n = opaque;

	(*n)++; /* not atomic: calls exclude each other */
}

struct caller {
	struct loop *loop;
	unsigned *n;
};

static void *caller_thread(void *opaque)
{
	struct caller *c = opaque;

	for (int i = 0; i < 1000; i++)
		loop_call(c->loop, count, c->n);
	return NULL;
}

/* Calls go on before, while and after the loop runs; each is made exactly once, none hangs. */
Test(loop, calls_survive_start_and_quit, .timeout = 60)
{
	struct loop *loop = new_loop();
	unsigned n = 0;
	struct caller c = {loop, &n};
	pthread_t threads[POSTERS];
	pthread_t runner;

	for (int i = 0; i < POSTERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, caller_thread, &c), 0);
	cr_assert_eq(pthread_create(&runner, NULL, run_thread, loop), 0);
	usleep(5000);
	loop_quit(loop);
	pthread_join(runner, NULL);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(n, POSTERS * 1000u);
	loop_free(loop);
}

/* --- timers --- */

struct ticker {
	struct loop *loop;
	struct loop_timer timer;
	struct loop_timer other;
	unsigned fired;
	unsigned other_fired;
};

static void tick(void *opaque)
{
	struct ticker *t = opaque;

	t->fired++;
	loop_timer_arm(&t->other, 0); /* due as well, perhaps fetched already */
	loop_quit(t->loop);
}

static void other_tick(void *opaque)
{
	struct ticker *t = opaque;

	t->other_fired++;
}

Test(loop, timers_fire_once_and_not_when_disarmed, .timeout = 10)
{
	struct loop *loop = new_loop();
	struct ticker t = {.loop = loop};
	struct timespec before, after;

	loop_timer_init(loop, &t.other, other_tick, &t);
	loop_timer_init(loop, &t.timer, tick, &t);
	loop_timer_arm(&t.other, 1);
	loop_timer_arm(&t.other, 0);
	loop_timer_arm(&t.timer, 30 * 1000000ull);
	clock_gettime(CLOCK_MONOTONIC, &before);
	cr_assert_eq(loop_run(loop), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	cr_assert_eq(t.fired, 1u);
	cr_assert_eq(t.other_fired, 0u);
	cr_assert((after.tv_sec - before.tv_sec) * 1000000000l + after.tv_nsec - before.tv_nsec >=
		  30 * 1000000);
	loop_timer_destroy(&t.timer);
	loop_timer_destroy(&t.other);
	loop_timer_destroy(&t.other); /* twice is fine */
	loop_free(loop);
}

struct race {
	struct loop *loop;
	struct loop_timer timer[3];
	char order[4];
	unsigned fired;
};

static void first_in(void *opaque)
{
	struct race *r = opaque;

	r->order[r->fired++] = 'a';
	loop_timer_arm(&r->timer[1], 1); /* the one that was far away; due in the next round */
}

static void second_in(void *opaque)
{
	struct race *r = opaque;

	r->order[r->fired++] = 'b';
	loop_quit(r->loop);
}

static void *arm_from_outside(void *opaque)
{
	struct race *r = opaque;

	usleep(20000); /* the loop sleeps until the far deadline */
	loop_timer_arm(&r->timer[0], 1000000);
	return NULL;
}

Test(loop, a_timer_armed_by_another_thread_ends_a_longer_sleep, .timeout = 10)
{
	struct race r = {.loop = new_loop()};
	pthread_t thread;

	loop_timer_init(r.loop, &r.timer[0], first_in, &r);
	loop_timer_init(r.loop, &r.timer[1], second_in, &r);
	loop_timer_init(r.loop, &r.timer[2], second_in, &r);
	loop_timer_arm(&r.timer[2], 3600 * 1000000000ull);
	loop_timer_arm(&r.timer[1], 1800 * 1000000000ull);
	cr_assert_eq(pthread_create(&thread, NULL, arm_from_outside, &r), 0);
	cr_assert_eq(loop_run(r.loop), 0);
	pthread_join(thread, NULL);
	cr_assert_str_eq(r.order, "ab");
	for (unsigned i = 0; i < 3; i++)
		loop_timer_destroy(&r.timer[i]);
	loop_free(r.loop);
}

Test(loop, freeing_nothing_is_fine)
{
	loop_free(NULL);
}
