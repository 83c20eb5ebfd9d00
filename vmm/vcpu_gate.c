/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate that vCPU threads wait at while the machine is paused. Closing it loses no wake-up for
 * the reason that stopping does not (vmm/vcpu.c): the flag is set before immediate_exit and the
 * kick, and looked at after both.
 */
#include "minivm/vcpu.h"

void vcpu_gate_init(struct vcpu_gate *gate, void (*full)(void *opaque), void *opaque)
{
	*gate = (struct vcpu_gate){.full = full, .opaque = opaque};
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->opened, NULL);
}

void vcpu_gate_destroy(struct vcpu_gate *gate)
{
	pthread_cond_destroy(&gate->opened);
	pthread_mutex_destroy(&gate->lock);
}

void vcpu_gate_close(struct vcpu_gate *gate, unsigned expected)
{
	pthread_mutex_lock(&gate->lock);
	gate->expected = expected;
	/* A full barrier before the kick, as env->stop has one. */
	atomic_store(&gate->closed, true);
	pthread_mutex_unlock(&gate->lock);
}

void vcpu_gate_open(struct vcpu_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	atomic_store(&gate->closed, false);
	gate->openings++;
	gate->waiting = 0;
	pthread_cond_broadcast(&gate->opened);
	pthread_mutex_unlock(&gate->lock);
}

/*
 * The gate may have been closed again when a thread gets to run: it then leaves all the same, and
 * comes back and is counted for the new time.
 */
void vcpu_gate_wait(struct vcpu_gate *gate)
{
	unsigned openings;

	pthread_mutex_lock(&gate->lock);
	openings = gate->openings;
	if (atomic_load(&gate->closed) && ++gate->waiting == gate->expected)
		gate->full(gate->opaque);
	while (atomic_load(&gate->closed) && gate->openings == openings)
		pthread_cond_wait(&gate->opened, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}
