/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches a monitor's KVM calls from outside, the same way for every one: the program runs under a
 * seccomp filter that hands its KVM_RUN or KVM_SET_USER_MEMORY_REGION ioctls to us before the
 * kernel does them, and is let through. All other system calls run at full speed; nothing is
 * traced.
 */
#ifndef BENCH_WATCH_H
#define BENCH_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proc.h"

enum watch_mode {
	WATCH_FIRST_RUN, /* the process is killed when it is about to enter the guest */
	WATCH_RUNS,	 /* KVM_RUN calls are counted; slow */
	WATCH_MEMORY,	 /* where the guest's memory is mapped */
};

#define WATCH_RANGES_MAX 64

struct watch_range {
	uint32_t slot;
	uint64_t start; /* address in the watched process */
	uint64_t end;
};

struct watch {
	struct proc p;
	/* written by our thread; for others after watch_stop(), counters at any time */
	uint64_t exec_ns;      /* CLOCK_MONOTONIC just before exec */
	uint64_t first_run_ns; /* when the first KVM_RUN came to us; 0: it did not */
	_Atomic uint64_t runs;
	unsigned ranges;
	struct watch_range range[WATCH_RANGES_MAX];
	/* private */
	enum watch_mode mode;
	int listener;
	int stop; /* eventfd */
	pthread_t thread;
	struct watch_shared *shared;
};

/* 0 or -errno; on failure there is nothing to stop. Standard input is empty. */
int watch_start(struct watch *w, const char *const *argv, enum watch_mode mode);

/* WATCH_FIRST_RUN: milliseconds from exec to the first KVM_RUN, or a negative number. */
double watch_first_run_ms(struct watch *w, unsigned timeout_ms);

/* Is [start, end) guest memory, all of it? After the guest has been started. */
bool watch_is_guest(const struct watch *w, uint64_t start, uint64_t end);

/* Kills what still runs, and frees everything; *output of the program goes with it. */
void watch_stop(struct watch *w);

#endif
