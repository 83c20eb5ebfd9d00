/* SPDX-License-Identifier: Apache-2.0 */
/* The time line: the first time counts, what did not happen is not there. */
#include <criterion/criterion.h>

#include <time.h>

#include "minivm/timeline.h"

static json_int_t event(const json_t *root, const char *name)
{
	const json_t *value = json_object_get(json_object_get(root, "events"), name);

	return value ? json_integer_value(value) : -1;
}

Test(timeline, events_in_order_and_none_that_did_not_happen)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	struct timeline t = {0};
	json_t *root;

	timeline_mark(&t, TIMELINE_EXEC);
	nanosleep(&pause, NULL);
	timeline_mark(&t, TIMELINE_FIRST_RUN);
	root = timeline_json(&t);
	cr_assert_not_null(root);
	cr_assert_gt(json_integer_value(json_object_get(root, "start_ns")), 0);
	cr_assert_eq(event(root, "exec"), 0);
	cr_assert_geq(event(root, "first_run"), 2000000);
	cr_assert_eq(event(root, "end"), -1);
	cr_assert_eq(json_object_size(json_object_get(root, "events")), 2);
	json_decref(root);
}

Test(timeline, the_first_mark_stays)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct timeline t = {0};
	uint64_t first;

	timeline_mark(NULL, TIMELINE_END);
	timeline_mark(&t, TIMELINE_FIRST_BYTE);
	first = t.ns[TIMELINE_FIRST_BYTE];
	nanosleep(&pause, NULL);
	timeline_mark(&t, TIMELINE_FIRST_BYTE);
	cr_assert_eq(t.ns[TIMELINE_FIRST_BYTE], first);
}

Test(timeline, cpu_time_grows_with_work_only)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	struct timeline t = {0};
	struct timespec now;
	json_t *root;
	const json_t *cpu;

	timeline_mark(&t, TIMELINE_EXEC);
	nanosleep(&pause, NULL);
	timeline_mark(&t, TIMELINE_CONFIG);
	do {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	} while ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec <
		 t.cpu_ns[TIMELINE_CONFIG] + 5000000);
	timeline_mark(&t, TIMELINE_END);
	cr_assert_lt(t.cpu_ns[TIMELINE_CONFIG] - t.cpu_ns[TIMELINE_EXEC], 50000000);
	cr_assert_geq(t.cpu_ns[TIMELINE_END] - t.cpu_ns[TIMELINE_CONFIG], 5000000);
	root = timeline_json(&t);
	cpu = json_object_get(root, "cpu_ns");
	cr_assert_eq(json_object_size(cpu), 3);
	cr_assert_eq((uint64_t)json_integer_value(json_object_get(cpu, "end")),
		     t.cpu_ns[TIMELINE_END]);
	json_decref(root);
}
