/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of the control socket, for api.c (connections) and api_routes.c (what is asked for).
 */
#ifndef MINIVM_API_PRIV_H
#define MINIVM_API_PRIV_H

#include <stdbool.h>

#include <jansson.h>

#include "minivm/api.h"
#include "minivm/ctl.h"
#include "minivm/http.h"
#include "minivm/loop.h"
#include "minivm/unix_listener.h"

#define API_CONNECTIONS_MAX 10

struct api_connection {
	struct api *api;
	struct loop_source source; /* fd -1: free */
	char *in;		   /* HTTP_REQUEST_MAX bytes, while a request is under way */
	size_t in_len;
	bool continued; /* "100 Continue" was sent for this request */
	char *out;	/* what is still to be sent, from out_done on */
	size_t out_len;
	size_t out_done;
	bool closing; /* once all is sent */
	bool waiting; /* for a job: no request is read */
};

/* What the machine has to be paused for: one at a time. */
struct api_job {
	bool active;
	struct api_connection *conn; /* NULL: it went away */
	bool resume;		     /* afterwards */
	char *state_path;	     /* NULL: pausing is all */
	char *memory_path;
};

/* PUT /snapshot/load, until there is a machine: the job's connection waits for it. */
struct api_load {
	bool asked;
	bool resume;
	char *state_path;
	char *memory_path;
};

struct api {
	struct machine *m;	    /* NULL: there is none yet */
	struct loop *loop;	    /* the machine's; before that own_loop, or NULL */
	struct loop *own_loop;	    /* NULL: not needed (any more) */
	struct loop_source signals; /* while there is no machine */
	struct api_load load;
	const struct cli_result *cli;
	struct ctl_socket socket;
	struct unix_acceptor acceptor;
	struct api_connection conn[API_CONNECTIONS_MAX];
	struct api_job job;
};

/* --- api.c --- */

/* Serves its connections, on `loop`. */
int api_serve(struct api *api, struct loop *loop, struct err *err);
/* The listener and all connections go on on another loop; no thread runs either. */
int api_move(struct api *api, struct loop *loop, struct err *err);

/* Answers the request that `c` waits for or is being read from; json is taken over, NULL: 204. */
void api_reply(struct api_connection *c, int status, json_t *json);
/* 400 with a fault message. */
void api_refuse(struct api_connection *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* --- api_routes.c --- */

/* The machine is paused: does what there is to do, resumes it, answers. */
void api_run_job(void *api);
/* Answers, or makes a job that will. `body` has body_len bytes. */
void api_route(struct api_connection *c, const struct http_request *request, const char *body);

/* --- api_load.c --- */

void api_put_load(struct api_connection *c, json_t *body);

/* --- api_balloon.c --- */

void api_get_balloon(struct api_connection *c, json_t *body);
void api_patch_balloon(struct api_connection *c, json_t *body);
void api_get_balloon_stats(struct api_connection *c, json_t *body);
void api_patch_balloon_stats(struct api_connection *c, json_t *body);

#endif
