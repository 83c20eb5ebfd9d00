/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks of the host. */
#ifndef MINIVM_CLOCK_H
#define MINIVM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SECOND_NS 1000000000ull

/* The time of `clock` in nanoseconds; CLOCK_MONOTONIC costs no system call (vDSO). */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

#endif
