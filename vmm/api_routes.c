/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked of the control socket (docs/api.md): a table of methods and paths. The forms
 * are those of Firecracker's API as far as they go.
 */
#include "api_priv.h"

#include <stdlib.h>
#include <string.h>

#include "machine_priv.h"

/* --- jobs: what the machine has to be paused for --- */

static int do_snapshot(struct api *api, struct err *err)
{
	struct api_job *job = &api->job;

	return job->state_path
		   ? snapshot_create(api->m, api->cli, job->state_path, job->memory_path, err)
		   : 0;
}

void api_run_job(void *opaque)
{
	struct api *api = opaque;
	struct api_job job;
	struct err err = {0}, ignored;
	int ret = do_snapshot(api, &err);

	job = api->job;
	api->job = (struct api_job){0};
	free(job.state_path);
	free(job.memory_path);
	if (job.resume)
		(void)machine_resume(api->m, &ignored);
	if (!job.conn)
		return;
	if (ret)
		api_refuse(job.conn, "%s", err.text);
	else
		api_reply(job.conn, 204, NULL);
}

/* `job` is taken over. A paused machine does it at once. */
static void start_job(struct api_connection *c, struct api_job *job)
{
	struct api *api = c->api;
	struct err err;

	if (api->job.active) {
		free(job->state_path);
		free(job->memory_path);
		api_refuse(c, "another request is under way");
		return;
	}
	api->job = *job;
	api->job.active = true;
	api->job.conn = c;
	c->waiting = true;
	if (machine_state(api->m) == MACHINE_PAUSED) {
		api->job.resume = false;
		api_run_job(api);
	} else if (machine_pause(api->m, api_run_job, api, &err)) {
		free(job->state_path);
		free(job->memory_path);
		api->job = (struct api_job){0};
		api_refuse(c, "%s", err.text);
	}
}

/* --- requests --- */

static void get_instance(struct api_connection *c, json_t *body)
{
	const struct vm_config *config = &c->api->cli->config;
	const char *state = "Not started";

	(void)body;
	if (c->api->m)
		state = machine_state(c->api->m) == MACHINE_PAUSED ? "Paused" : "Running";
	api_reply(c, 200,
		  json_pack("{s:s, s:s, s:s, s:s}", "app_name", "minivm", "id",
			    config->name ? config->name : "anonymous", "state", state,
			    "vmm_version", cli_version()));
}

static void get_version(struct api_connection *c, json_t *body)
{
	(void)body;
	api_reply(c, 200, json_pack("{s:s}", "firecracker_version", cli_version()));
}

static void patch_vm(struct api_connection *c, json_t *body)
{
	struct api_job job = {0};
	const char *state;
	struct err err;

	if (json_unpack(body, "{s:s !}", "state", &state) < 0) {
		api_refuse(c, "a body {\"state\": \"Paused\"} or {\"state\": \"Resumed\"} is due");
	} else if (strcmp(state, "Paused") == 0) {
		start_job(c, &job);
	} else if (strcmp(state, "Resumed") != 0) {
		api_refuse(c, "state is Paused or Resumed");
	} else if (machine_state(c->api->m) == MACHINE_RUNNING ||
		   machine_resume(c->api->m, &err) == 0) {
		api_reply(c, 204, NULL);
	} else {
		api_refuse(c, "%s", err.text);
	}
}

static void put_snapshot(struct api_connection *c, json_t *body)
{
	const char *state, *memory, *type = NULL;
	struct api_job job = {.resume = true};

	if (json_unpack(body, "{s:s, s:s, s?s !}", "snapshot_path", &state, "mem_file_path",
			&memory, "snapshot_type", &type) < 0) {
		api_refuse(c, "a body with snapshot_path and mem_file_path is due");
		return;
	}
	if (type && strcmp(type, "Full") != 0) {
		api_refuse(c, "snapshot_type is Full");
		return;
	}
	job.state_path = strdup(state);
	job.memory_path = strdup(memory);
	if (job.state_path && job.memory_path) {
		start_job(c, &job);
		return;
	}
	free(job.state_path);
	free(job.memory_path);
	api_refuse(c, "out of memory");
}

static void put_action(struct api_connection *c, json_t *body)
{
	const char *action;

	if (json_unpack(body, "{s:s !}", "action_type", &action) < 0)
		api_refuse(c, "a body with action_type is due");
	else if (strcmp(action, "SendCtrlAltDel") != 0)
		api_refuse(c, "action_type is SendCtrlAltDel: the machine is started already");
	else if (machine_state(c->api->m) != MACHINE_RUNNING)
		api_refuse(c, "the machine is paused: it cannot shut down before it is resumed");
	else {
		lifeline_ask(c->api->m);
		api_reply(c, 204, NULL);
	}
}

enum when {
	ALWAYS,
	BEFORE, /* there is a machine */
	WITH,	/* one */
};

static const struct route {
	const char *method;
	const char *path;
	enum when when;
	void (*handle)(struct api_connection *c, json_t *body);
} routes[] = {
    {"GET", "/", ALWAYS, get_instance},
    {"GET", "/version", ALWAYS, get_version},
    {"PATCH", "/vm", WITH, patch_vm},
    {"PUT", "/snapshot/create", WITH, put_snapshot},
    {"PUT", "/snapshot/load", BEFORE, api_put_load},
    {"PUT", "/actions", WITH, put_action},
    {"GET", "/balloon", WITH, api_get_balloon},
    {"PATCH", "/balloon", WITH, api_patch_balloon},
    {"GET", "/balloon/statistics", WITH, api_get_balloon_stats},
    {"PATCH", "/balloon/statistics", WITH, api_patch_balloon_stats},
};

static const struct route *find_route(const struct http_request *request)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(routes[i].method, request->method) == 0 &&
		    strcmp(routes[i].path, request->target) == 0)
			return &routes[i];
	}
	return NULL;
}

/* NULL: it can be asked for now. */
static const char *not_now(const struct route *route, const struct machine *m)
{
	if (route->when == WITH && !m)
		return "there is no machine yet: PUT /snapshot/load makes one";
	if (route->when == BEFORE && m)
		return "there is a machine already";
	return NULL;
}

/* A field that is null is one that is not there. */
static void drop_nulls(json_t *object)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
	{
		if (json_is_null(value))
			json_object_del(object, key);
	}
}

void api_route(struct api_connection *c, const struct http_request *request, const char *body)
{
	const struct route *route = find_route(request);
	const char *why = route ? not_now(route, c->api->m) : NULL;
	json_error_t where;
	json_t *json = NULL;

	if (!route) {
		api_refuse(c, "there is no %s %s", request->method, request->target);
		return;
	}
	if (why) {
		api_refuse(c, "%s", why);
		return;
	}
	if (request->body_len > 0) {
		json = json_loadb(body, request->body_len, JSON_REJECT_DUPLICATES, &where);
		if (!json) {
			api_refuse(c, "the body is no JSON: line %d: %s", where.line, where.text);
			return;
		}
	}
	drop_nulls(json);
	route->handle(c, json);
	json_decref(json);
}
