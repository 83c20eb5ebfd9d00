/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one program for a test: arguments, standard input (at once or in answer to its output),
 * signals, a time limit, captured output. For single-threaded test programs.
 */
#ifndef TEST_RUN_H
#define TEST_RUN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * One step of a dialogue: once standard output, counted from the end of the step before, contains
 * `expect` (NULL: at once), `send` is written to standard input (NULL: nothing), then `signal` is
 * sent to the program (0: none). Output goes on being captured.
 */
struct run_step {
	const char *expect;
	const char *send;
	int signal;
};

struct run_request {
	const char *const *argv; /* argv[0] is a path; ends with NULL */
	const struct run_step *steps;
	unsigned step_count;
	bool hold_input;     /* standard input stays open after the last step; else end of file */
	unsigned timeout_ms; /* then it is killed; its process group is in any case at the end */
};

struct run_result {
	int status;	/* exit status, or 128 + signal */
	bool timed_out; /* killed by us */
	unsigned steps; /* how many were done */
	unsigned ms;	/* wall time */
	long max_rss_kib;
	char *out; /* NUL-terminated; freed by run_result_free() */
	size_t out_len;
	char *err;
	size_t err_len;
};

/* 0, or -errno if the program could not be started (`result` is empty then). */
int run_program(const struct run_request *request, struct run_result *result);
void run_result_free(struct run_result *result);

/* Is `line` one whole line of the text (a CR before the newline does not count)? */
bool run_has_line(const char *text, const char *line);

#endif
