/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of one machine: HTTP and JSON, docs/api.md. It lives on the main loop.
 */
#ifndef MINIVM_API_H
#define MINIVM_API_H

#include "minivm/cli.h"
#include "minivm/err.h"
#include "minivm/machine.h"

struct api;

/*
 * Listens where cli->config says (name or api_sock; at least one is set), but answers nobody yet. A
 * machine's files are not touched before its name is known to be free. `cli` is what the machine is
 * made from and outlives *out, which api_close() ends: before machine_destroy().
 */
int api_reserve(const struct cli_result *cli, struct api **out, struct err *err);
/* Answers, on the machine's loop. Between machine_new() and machine_run(). */
int api_open(struct api *api, struct machine *m, struct err *err);

/* --- without a machine (CLI_WAIT): a socket that waits for PUT /snapshot/load --- */

/* Listens; the signals that end minivm are blocked from here on. */
int api_open_waiting(const struct cli_result *cli, struct api **out, struct err *err);
/*
 * Serves it. 1: a snapshot is named; *state and *memory are its files, valid until the next call.
 * 0: a signal asked us to end. Or -errno. After a 1 comes api_start() or api_failed().
 */
int api_wait(struct api *api, const char **state, const char **memory, struct err *err);
/*
 * The machine was made; before machine_run(). The socket is the machine's from now on. The machine
 * begins paused; then it is resumed, if that was asked for, and the request is answered.
 */
int api_start(struct api *api, struct machine *m, struct err *err);
/* It was not made: the request is told why, and api_wait() goes on. */
void api_failed(struct api *api, const struct err *why);

void api_close(struct api *api); /* NULL is fine */

#endif
