/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that runs beside the test, for what run.h's one call cannot do: several at a time,
 * terminals, readers that go away or do not read, preparation of the child. The test drives it step
 * by step; while it waits for one program, the output of that one is drained.
 */
#ifndef TEST_PROC_H
#define TEST_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "stream.h"

struct proc_request {
	const char *const *argv; /* argv[0] is a path; ends with NULL */
	bool tty;		 /* standard input and output are a new terminal, nobody's own */
	const char *in_file;	 /* standard input is this file; NULL: a pipe (without tty) */
	/* In the child, before exec: limits, user, name spaces. Not 0: exit status 99. */
	int (*prepare)(void *opaque);
	void *opaque;
};

struct proc {
	pid_t pid;
	int pidfd;
	int in;		   /* -1: closed, or the terminal */
	int tty;	   /* master side, also in `out`; -1: none. tcgetattr() works on it */
	int tty_slave;	   /* kept open: the settings are there when the program has ended */
	bool ignore_out;   /* leave standard output in its pipe */
	size_t mark;	   /* proc_expect() looks at output behind it */
	struct stream out; /* a terminal's output, too */
	struct stream err;
};

/* 0 or -errno; on failure there is nothing to free. */
int proc_start(struct proc *p, const struct proc_request *req);

/*
 * Waits until standard output contains `text` behind the last such place. False: it did not come in
 * time, or the program ended before.
 */
bool proc_expect(struct proc *p, const char *text, unsigned timeout_ms);
/* The same for standard error, from its start, without a mark. */
bool proc_expect_err(struct proc *p, const char *text, unsigned timeout_ms);
bool proc_ended(const struct proc *p);
/* Lets it run for so long, or to its end. */
void proc_idle(struct proc *p, unsigned ms);

/* Writes all of it to standard input or the terminal while draining the output. */
bool proc_send(struct proc *p, const void *data, size_t len, unsigned timeout_ms);
void proc_close_in(struct proc *p);
void proc_close_out(struct proc *p);
void proc_signal(struct proc *p, int sig);

/*
 * Waits for its end; what it wrote is in out and err then. *status: exit status, or 128 + signal.
 * False: it did not end in time; it was killed, *status is 128 + SIGKILL.
 */
bool proc_wait(struct proc *p, unsigned timeout_ms, int *status);

/* What minivm said on standard error, without its warning about hosts that emulate kernel mode. */
const char *proc_complaints(const struct proc *p);

/* Kills it if it still runs, and frees everything; may be called twice, or on a zeroed structure.
 */
void proc_free(struct proc *p);

#endif
