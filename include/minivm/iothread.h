/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that runs an event loop of its own, so that one device's blocking host I/O delays no
 * other device.
 */
#ifndef MINIVM_IOTHREAD_H
#define MINIVM_IOTHREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "minivm/err.h"
#include "minivm/loop.h"

struct iothread {
	struct loop *loop;
	pthread_t thread;
	bool running;
	char name[16];
};

/* Makes the loop; the thread, called `name`, starts with iothread_start(). */
int iothread_init(struct iothread *t, const char *name, struct err *err);
int iothread_start(struct iothread *t, struct err *err);

/* Ends the loop after its current callback and waits for the thread. Harmless if it never ran. */
void iothread_stop(struct iothread *t);
void iothread_destroy(struct iothread *t); /* stopped before */

#endif
