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

struct api {
	struct machine *m;
	const struct cli_result *cli;
	struct ctl_socket socket;
	struct loop_source source;
	struct loop_timer retry; /* of accepting, when there are no descriptors */
	struct api_connection conn[API_CONNECTIONS_MAX];
	struct api_job job;
};

/* --- api.c --- */

/* Answers the request that `c` waits for or is being read from; json is taken over, NULL: 204. */
void api_reply(struct api_connection *c, int status, json_t *json);
/* 400 with a fault message. */
void api_refuse(struct api_connection *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* --- api_routes.c --- */

/* Answers, or makes a job that will. `body` has body_len bytes. */
void api_route(struct api_connection *c, const struct http_request *request, const char *body);

#endif
