/* SPDX-License-Identifier: Apache-2.0 */
/* A process's memory as /proc/PID/smaps has it. */
#ifndef BENCH_PSS_H
#define BENCH_PSS_H

#include "watch.h"

struct pss {
	double beside_kib; /* proportional set size of all mappings that are not the guest's */
	double guest_kib;  /* of those that are */
};

/*
 * Reads it for w->p, whose guest memory was noted by WATCH_MEMORY. A mapping counts as the guest's
 * if all of it is. With `verbose` the mappings beside it are listed on standard error. 0 or -errno.
 */
int pss_read(const struct watch *w, int verbose, struct pss *pss);

#endif
