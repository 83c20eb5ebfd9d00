/* SPDX-License-Identifier: Apache-2.0 */
/* The gate of a paused machine: it is full once per closing, when all have come. */
#include <criterion/criterion.h>

#include <sched.h>
#include <stdatomic.h>

#include "minivm/vcpu.h"

#define THREADS 4

static struct vcpu_gate gate;
static _Atomic unsigned times_full;
static _Atomic unsigned rounds[THREADS];
static _Atomic bool stop;

static void on_full(void *opaque)
{
	(void)opaque;
	times_full++;
}

static void *worker(void *opaque)
{
	_Atomic unsigned *n = opaque;

	while (!stop) {
		if (vcpu_gate_closed(&gate))
			vcpu_gate_wait(&gate);
		(*n)++;
	}
	return NULL;
}

static unsigned sum(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < THREADS; i++)
		n += rounds[i];
	return n;
}

Test(vcpu_gate, close_and_open, .timeout = 30)
{
	pthread_t thread[THREADS];

	vcpu_gate_init(&gate, on_full, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, worker, &rounds[i]), 0);
	for (unsigned n = 1; n <= 200; n++) {
		unsigned before;

		vcpu_gate_close(&gate, THREADS);
		while (times_full < n)
			sched_yield();
		before = sum();
		for (unsigned i = 0; i < 3; i++)
			sched_yield();
		cr_assert_eq(sum(), before, "all wait");
		cr_assert_eq(times_full, n);
		vcpu_gate_open(&gate);
	}
	stop = true;
	vcpu_gate_open(&gate);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(times_full, 200);
	vcpu_gate_destroy(&gate);
}
