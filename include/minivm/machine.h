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

/*
 * `config`, `log` and `timeline` (or NULL) stay the caller's and must outlive the machine. On
 * failure everything made so far is taken down again and no file of the user was changed.
 */
int machine_new(const struct vm_config *config, struct log *log, struct timeline *timeline,
		struct machine **out, struct err *err);

/* Runs to the end. 0 when the machine ran at all (see machine_end()), else -errno. */
int machine_run(struct machine *m, struct err *err);

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
