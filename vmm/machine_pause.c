/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RUNNING <-> PAUSED. Pausing is asynchronous, for the thread that asks runs the main loop, and a
 * vCPU may be waiting for that very loop: the gate is closed and the vCPUs kicked; the last one to
 * arrive posts to the main loop, which then stops the devices and calls back.
 *
 * What stays awake while the machine is paused: the main loop (signals, control socket, the console
 * as far as its buffers go) and the devices' loops, which have nothing to do.
 */
#include <errno.h>

#include "machine_priv.h"

/* On the thread of the last vCPU that arrived. */
static void gate_full(void *opaque)
{
	struct machine *m = opaque;

	loop_post(m->loop, &m->pause.work);
}

/* The guest's clock goes on while it is paused. */
static void tell_guest(struct machine *m)
{
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvm_vcpu_was_stopped(m->vcpu[i].fd);
}

static void on_gate_full(void *opaque)
{
	struct machine *m = opaque;
	struct machine_pause *p = &m->pause;

	if (p->state != MACHINE_PAUSING)
		return;
	tell_guest(m);
	for (unsigned i = 0; i < m->slot_count; i++) {
		if (m->slot[i].virtio)
			virtio_pause(m->slot[i].virtio);
	}
	p->state = MACHINE_PAUSED;
	p->done(p->opaque);
}

void machine_pause_init(struct machine *m)
{
	m->pause.work = (struct loop_work){.fn = on_gate_full, .opaque = m};
	vcpu_gate_init(&m->env.gate, gate_full, m);
}

void machine_pause_destroy(struct machine *m)
{
	vcpu_gate_destroy(&m->env.gate);
}

int machine_pause(struct machine *m, machine_done_fn *done, void *opaque, struct err *err)
{
	if (m->pause.state != MACHINE_RUNNING)
		return err_set(err, EBUSY, "the machine is paused, or about to be");
	m->pause.state = MACHINE_PAUSING;
	m->pause.done = done;
	m->pause.opaque = opaque;
	vcpu_gate_close(&m->env.gate, m->vcpu_count);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_kick(&m->vcpu[i]);
	return 0;
}

int machine_resume(struct machine *m, struct err *err)
{
	if (m->pause.state != MACHINE_PAUSED)
		return err_set(err, EINVAL, "the machine is not paused");
	for (unsigned i = 0; i < m->slot_count; i++) {
		if (m->slot[i].virtio)
			virtio_resume(m->slot[i].virtio);
	}
	m->pause.state = MACHINE_RUNNING;
	vcpu_gate_open(&m->env.gate);
	agent_guest_runs(m->agent);
	return 0;
}

enum machine_state machine_state(const struct machine *m)
{
	return m->pause.state;
}
