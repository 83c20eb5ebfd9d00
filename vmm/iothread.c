/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that run an event loop for one device. */
#include "minivm/iothread.h"

#include <stdio.h>

/* A device callback and the C library's I/O functions need little. */
#define IOTHREAD_STACK_SIZE (256u << 10)

static void *iothread_main(void *opaque)
{
	struct iothread *t = opaque;

	pthread_setname_np(pthread_self(), t->name);
	loop_run(t->loop);
	return NULL;
}

int iothread_init(struct iothread *t, const char *name, struct err *err)
{
	t->running = false;
	snprintf(t->name, sizeof(t->name), "%s", name);
	return loop_new(&t->loop, err);
}

int iothread_start(struct iothread *t, struct err *err)
{
	pthread_attr_t attr;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, IOTHREAD_STACK_SIZE);
	e = pthread_create(&t->thread, &attr, iothread_main, t);
	pthread_attr_destroy(&attr);
	if (e)
		return err_sys(err, e, "thread %s", t->name);
	t->running = true;
	return 0;
}

void iothread_stop(struct iothread *t)
{
	if (!t->running)
		return;
	loop_quit(t->loop);
	pthread_join(t->thread, NULL);
	t->running = false;
}

void iothread_destroy(struct iothread *t)
{
	loop_free(t->loop);
	t->loop = NULL;
}
