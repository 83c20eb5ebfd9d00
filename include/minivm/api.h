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
 * Listens where cli->config says (name or api_sock; at least one is set). `cli` is what the machine
 * was made from and outlives it. Between machine_new() and machine_run(); ended after that returned
 * and before machine_destroy().
 */
int api_open(struct machine *m, const struct cli_result *cli, struct api **out, struct err *err);
void api_close(struct api *api); /* NULL is fine */

#endif
