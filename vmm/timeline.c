/* SPDX-License-Identifier: Apache-2.0 */
/* The time line of a run (minivm/timeline.h). */
#include "minivm/timeline.h"

#include <stdbool.h>
#include <time.h>

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
	struct timespec now;
	uint64_t none = 0;

	/* One load where a mark comes again and again, as with every chunk of output. */
	if (!t || atomic_load_explicit(&t->ns[event], memory_order_relaxed))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_compare_exchange_strong(&t->ns[event], &none,
				       (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

json_t *timeline_json(const struct timeline *t)
{
	uint64_t start = atomic_load(&t->ns[TIMELINE_EXEC]);
	json_t *root = json_object(), *events = json_object();
	bool failed = json_object_set_new(root, "start_ns", json_integer((json_int_t)start)) != 0;

	for (unsigned i = 0; i < TIMELINE_EVENTS; i++) {
		uint64_t ns = atomic_load(&t->ns[i]);

		if (ns &&
		    json_object_set_new(events, names[i], json_integer((json_int_t)(ns - start))))
			failed = true;
	}
	if (json_object_set_new(root, "events", events) || failed) {
		json_decref(root);
		return NULL;
	}
	return root;
}
