/* SPDX-License-Identifier: Apache-2.0 */
/* The time line of a run (minivm/timeline.h). */
#include "minivm/timeline.h"
#include "minivm/clock.h"

#include <stdbool.h>

static const char *const names[TIMELINE_EVENTS] = {
    [TIMELINE_EXEC] = "exec",
    [TIMELINE_CONFIG] = "config",
    [TIMELINE_VM] = "vm",
    [TIMELINE_MEMORY] = "memory",
    [TIMELINE_KERNEL] = "kernel",
    [TIMELINE_DEVICES] = "devices",
    [TIMELINE_FIRST_RUN] = "first_run",
    [TIMELINE_FIRST_BYTE] = "first_byte",
    [TIMELINE_INIT] = "init",
    [TIMELINE_END] = "end",
};

void timeline_mark(struct timeline *t, enum timeline_event event)
{
	uint64_t none = 0;

	/* One load where a mark comes again and again, as with every chunk of output. */
	if (!t || atomic_load_explicit(&t->ns[event], memory_order_relaxed))
		return;
	if (!atomic_compare_exchange_strong(&t->ns[event], &none, clock_ns(CLOCK_MONOTONIC)))
		return;
	/* CPU time costs a system call, and at the first mark nobody knows yet who wants it. */
	if (event != TIMELINE_EXEC)
		atomic_store(&t->cpu_ns[event], clock_ns(CLOCK_PROCESS_CPUTIME_ID));
}

static bool add(json_t *object, unsigned event, uint64_t ns)
{
	return !json_object_set_new(object, names[event], json_integer((json_int_t)ns));
}

json_t *timeline_json(const struct timeline *t)
{
	uint64_t start = atomic_load(&t->ns[TIMELINE_EXEC]);
	json_t *root = json_object(), *events = json_object(), *cpu = json_object();
	bool ok = !json_object_set_new(root, "start_ns", json_integer((json_int_t)start));

	for (unsigned i = 0; ok && i < TIMELINE_EVENTS; i++) {
		uint64_t ns = atomic_load(&t->ns[i]);

		ok = !ns || (add(events, i, ns - start) && add(cpu, i, atomic_load(&t->cpu_ns[i])));
	}
	ok &= !json_object_set_new(root, "events", events);
	ok &= !json_object_set_new(root, "cpu_ns", cpu);
	if (ok)
		return root;
	json_decref(root);
	return NULL;
}
