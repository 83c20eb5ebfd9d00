/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control socket without a machine: it waits until PUT /snapshot/load names one (minivm/api.h).
 *
 * Theory of operation. Until then the socket has a loop of its own, which ends when there is
 * something for main.c to do: a machine is not made inside a callback. The request's connection
 * waits as it does for a job. When the machine is made, the socket's descriptors move to its loop.
 * The machine begins at a closed gate, as if it had been paused, so that the answer comes when all
 * of its threads are there, and it has not run if nobody asked for that.
 *
 * System calls: sigprocmask, signalfd, close, and those of loop.c.
 */
#include "api_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "machine_priv.h"

/* --- the request --- */

static void forget_load(struct api *api)
{
	free(api->load.state_path);
	free(api->load.memory_path);
	api->load = (struct api_load){0};
}

/* What a body says; the strings are its own. */
struct load_body {
	const char *state;
	const char *memory; /* or both of the next two */
	const char *backend_type;
	const char *backend_path;
	int resume;
	int diff;
	int track;
};

/* NULL: all is well. */
static const char *judge_body(const struct load_body *b)
{
	if (!b->memory == !b->backend_path)
		return "one of mem_file_path and mem_backend is due";
	if (b->backend_type && strcmp(b->backend_type, "File") != 0)
		return "backend_type is File";
	if (b->diff || b->track)
		return "there are no diff snapshots: enable_diff_snapshots and "
		       "track_dirty_pages are false";
	return NULL;
}

void api_put_load(struct api_connection *c, json_t *body)
{
	struct api *api = c->api;
	struct load_body b = {0};
	const char *why;

	if (json_unpack(body, "{s:s, s?s, s?{s:s, s:s !}, s?b, s?b, s?b !}", "snapshot_path",
			&b.state, "mem_file_path", &b.memory, "mem_backend", "backend_type",
			&b.backend_type, "backend_path", &b.backend_path, "resume_vm", &b.resume,
			"enable_diff_snapshots", &b.diff, "track_dirty_pages", &b.track) < 0) {
		api_refuse(c, "a body with snapshot_path and mem_backend is due");
		return;
	}
	why = judge_body(&b);
	if (!why && api->job.active)
		why = "another request is under way";
	if (why) {
		api_refuse(c, "%s", why);
		return;
	}
	forget_load(api);
	api->load = (struct api_load){.asked = true,
				      .resume = b.resume,
				      .state_path = strdup(b.state),
				      .memory_path = strdup(b.memory ? b.memory : b.backend_path)};
	if (!api->load.state_path || !api->load.memory_path) {
		forget_load(api);
		api_refuse(c, "out of memory");
		return;
	}
	api->job = (struct api_job){.active = true, .conn = c, .resume = b.resume};
	c->waiting = true;
	loop_quit(api->loop);
}

/* --- waiting --- */

static void on_signal(void *opaque, uint32_t events)
{
	struct api *api = opaque;

	(void)events;
	loop_quit(api->loop);
}

/* The machine's own come later, vmm/lifeline.c; what arrives in between stays pending. */
static int watch_signals(struct api *api, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_SETMASK, &set, NULL))
		return err_sys(err, errno, "blocking signals");
	api->signals = (struct loop_source){
	    .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .opaque = api};
	if (api->signals.fd < 0)
		return err_sys(err, errno, "signalfd");
	return loop_watch(api->loop, &api->signals, EPOLLIN, err);
}

static void unwatch_signals(struct api *api)
{
	loop_unwatch(api->loop, &api->signals);
	if (api->signals.fd >= 0)
		close(api->signals.fd);
	api->signals.fd = -1;
}

int api_open_waiting(const struct cli_result *cli, struct api **out, struct err *err)
{
	struct api *api;
	int ret = api_reserve(cli, &api, err);

	if (ret)
		return ret;
	ret = loop_new(&api->own_loop, err);
	if (!ret)
		ret = api_serve(api, api->own_loop, err);
	if (ret)
		api_close(api);
	else
		*out = api;
	return ret;
}

/* A loop that was told to quit does not run again. */
static int renew_loop(struct api *api, struct err *err)
{
	struct loop *fresh;
	int ret = loop_new(&fresh, err);

	if (ret)
		return ret;
	ret = api_move(api, fresh, err);
	if (ret) {
		loop_free(fresh);
		return ret;
	}
	loop_free(api->own_loop);
	api->own_loop = fresh;
	return 0;
}

int api_wait(struct api *api, const char **state, const char **memory, struct err *err)
{
	int ret = watch_signals(api, err);

	if (!ret) {
		ret = loop_run(api->loop);
		if (ret)
			err_sys(err, -ret, "control socket: event loop");
	}
	unwatch_signals(api);
	if (ret || !api->load.asked)
		return ret;
	ret = renew_loop(api, err);
	*state = api->load.state_path;
	*memory = api->load.memory_path;
	return ret ? ret : 1;
}

/* --- then --- */

void api_failed(struct api *api, const struct err *why)
{
	struct api_connection *c = api->job.conn;

	api->job = (struct api_job){0};
	api->load.asked = false;
	if (c)
		api_refuse(c, "%s", why->text);
}

int api_start(struct api *api, struct machine *m, struct err *err)
{
	int ret = api_move(api, m->loop, err);

	if (ret)
		return ret;
	loop_free(api->own_loop);
	api->own_loop = NULL;
	forget_load(api);
	api->m = m;
	return machine_pause(m, api_run_job, api, err);
}
