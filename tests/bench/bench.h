/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark program: what it was told, the virtual machine monitors that it compares, and one
 * function for each group of figures (docs/benchmarks.md).
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>

#include "result.h"

/* Files; all are paths, NULL where the command line has none. */
struct bench {
	const char *program[WHO_COUNT]; /* NULL: not on this machine, left out */
	const char *floor_restore;	/* the floor of a restore */
	const char *first;		/* the 50 MB kernel whose first instructions end it */
	const char *exits;		/* tests/guest/payloads/round_trip.c */
	const char *net_rate;		/* tests/guest/payloads/net_rate.c; NULL: no net figures */
	const char *bzimage;		/* a Linux guest, */
	const char *vmlinux;		/* the same unpacked, */
	const char *root;		/* and its root image */
	const char *work;		/* an empty directory of our own */
	unsigned rounds;
	bool emulated; /* KVM below is emulated: seconds mean nothing */
	bool counts;   /* only what does not depend on time, once */
	bool verbose;  /* list what the memory beside the guest is */
	bool failed;   /* something could not be measured */
};

/* A machine to start: 1 vCPU, serial console on standard output. */
struct vm {
	const char *kernel;
	unsigned mib;
	const char *disk;  /* raw image; NULL: none */
	bool disk_ro;	   /* the guest may not write it */
	const char *words; /* for the kernel's command line; NULL: none */
	bool no_assist;	   /* minivm only: no help for emulating hosts, whose steps would count */
	const char *stats; /* minivm only: file for its statistics; NULL: none */
	const char *name;  /* minivm only: for its commands; NULL: none */
	/* minivm and QEMU only: its network device, one of both; NULL: none */
	const char *tap;
	const char *passt; /* a socket that somebody listens at */
};

#define ARGV_MAX 48

struct argv {
	const char *arg[ARGV_MAX]; /* ends with NULL */
	unsigned n;
	char text[4096]; /* of composed arguments */
	unsigned used;
};

/*
 * The command line with which `who` starts this machine, or false: it cannot, or is not there. What
 * it needs beside it (Firecracker's configuration) is written into the work directory.
 */
bool vm_argv(const struct bench *b, enum who who, const struct vm *vm, struct argv *argv);

struct proc;
/* Starts it so, with no input. False: as above, or it could not be started, which is a failure. */
bool vm_start(struct bench *b, enum who who, const struct vm *vm, struct proc *p);

/* "bench: ..." on standard error; what could not be measured makes the run fail. */
void bench_fail(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One sample of the time from exec to the first KVM_RUN, for `who`. */
void sample_first_run(struct bench *b, enum who who, const char *const *argv, struct row *row);

/* One sample of the system calls before it. */
void sample_syscalls(struct bench *b, enum who who, const char *const *argv, struct row *row);

/* --- the figures, each adds its rows --- */

void figure_start(struct bench *b, struct results *r);	  /* seconds to the first KVM_RUN */
void figure_syscalls(struct bench *b, struct results *r); /* system calls before it */
void figure_memory(struct bench *b, struct results *r);	  /* beside the guest's */
void figure_exits(struct bench *b, struct results *r);	  /* on the way to init, by reason */
/* Both of a machine that goes on as it was saved. */
void figure_restore(struct bench *b, struct results *r);
void figure_restore_syscalls(struct bench *b, struct results *r);
void figure_round_trip(struct bench *b, struct results *r);
void figure_net(struct bench *b, struct results *r); /* frames through a tap, and a socket */

#endif
