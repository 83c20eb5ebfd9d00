/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters for statistics: added to on one thread or several, read on any. Relaxed: the value is
 * all that they tell.
 */
#ifndef MINIVM_COUNTER_H
#define MINIVM_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

static inline void count_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t count_read(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
