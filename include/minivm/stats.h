/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of a finished run as JSON (docs/minivm.1 "STATISTICS"). */
#ifndef MINIVM_STATS_H
#define MINIVM_STATS_H

#include "minivm/err.h"
#include "minivm/machine.h"

/*
 * Can `path` be written, by all that can be told without making or changing it? A run must not find
 * that out at its end.
 */
int stats_check(const char *path, struct err *err);

/* Writes machine_stats() to `path`, "-" being standard output. */
int stats_write(const struct machine *m, const char *path, struct err *err);

#endif
