/* SPDX-License-Identifier: Apache-2.0 */
/* A control socket with a machine's loop behind it, and a thread that runs the loop. */
#ifndef TESTS_API_RIG_H
#define TESTS_API_RIG_H

#include <pthread.h>

#include <criterion/criterion.h>

#include "../../vmm/machine_priv.h"
#include "minivm/api.h"

static struct machine machine;
static struct cli_result cli;
static struct api *api;
static pthread_t thread;

static inline void *run_machine_loop(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

/* cli.config says where. */
static inline void serve(void)
{
	struct err err = {0};

	cr_assert_eq(loop_new(&machine.loop, &err), 0);
	cr_assert_eq(api_reserve(&cli, &api, &err), 0, "%s", err.text);
	cr_assert_eq(api_open(api, &machine, &err), 0, "%s", err.text);
	cr_assert_eq(pthread_create(&thread, NULL, run_machine_loop, machine.loop), 0);
}

static inline void serve_no_more(void)
{
	loop_quit(machine.loop);
	pthread_join(thread, NULL);
	api_close(api);
	loop_free(machine.loop);
}

#endif
