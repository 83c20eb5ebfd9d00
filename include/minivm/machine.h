/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: everything of one VM, from configuration to end.
 *
 *	machine_new()      NEW -> CONFIGURED: all files open, memory loaded, vCPUs made
 *	machine_run()      CONFIGURED -> RUNNING -> STOPPED(reason, status): returns when it ended
 *	machine_destroy()
 *
 * One thread calls these; it is the thread of the main event loop (console, signals, timers).
 */
#ifndef MINIVM_MACHINE_H
#define MINIVM_MACHINE_H

#include <stdint.h>

#include <jansson.h>

#include "minivm/config.h"
#include "minivm/end.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/timeline.h"

struct machine;
struct snapshot;

/*
 * `config`, `log` and `timeline` (or NULL) stay the caller's and must outlive the machine. On
 * failure everything made so far is taken down again and no file of the user was changed.
 */
int machine_new(const struct vm_config *config, struct log *log, struct timeline *timeline,
		struct machine **out, struct err *err);

/*
 * The same for a saved machine: `config` came from cli_layers_restore() with s->reader, which now
 * stands behind it. `s` may be closed afterwards.
 */
int machine_restore(const struct vm_config *config, struct snapshot *s, struct log *log,
		    struct timeline *timeline, struct machine **out, struct err *err);

/* Runs to the end. 0 when the machine ran at all (see machine_end()), else -errno. */
int machine_run(struct machine *m, struct err *err);

/* --- on the main loop's thread, while machine_run() runs --- */

enum machine_state {
	MACHINE_RUNNING,
	MACHINE_PAUSING,
	MACHINE_PAUSED,
};
enum machine_state machine_state(const struct machine *m);

/*
 * Stops vCPUs and devices; `done` is called from the main loop once nothing of the machine moves
 * any more. It is not called if the machine ends before. -EBUSY: not MACHINE_RUNNING.
 */
typedef void machine_done_fn(void *opaque);
int machine_pause(struct machine *m, machine_done_fn *done, void *opaque, struct err *err);
/* -EINVAL: not MACHINE_PAUSED. */
int machine_resume(struct machine *m, struct err *err);

/* How it ended; `status` is the process exit status that stands for it. */
enum vm_end_reason machine_end(const struct machine *m, int *status);

/*
 * After a run that the guest ended itself: a warning for each kind of virtio device that no driver
 * has started, with the kernel options that may be missing.
 */
void machine_hint_drivers(const struct machine *m);

/* The counters of --stats as a new JSON object (docs/minivm.1 "STATISTICS"); NULL without memory.
 */
json_t *machine_stats(const struct machine *m);

void machine_destroy(struct machine *m); /* NULL is fine */

#endif
