/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's connections, on the main loop.
 *
 * Everything is bounded: 10 connections, one request at a time of each, the sizes of http.h, and
 * nothing is read from a peer that does not take its answer. A peer that stalls holds up nobody.
 * Answers to what takes time (a pause, a snapshot) come when it is done; until then the connection
 * is not read.
 *
 * System calls: those of ctl_socket.c, unix_listener.c and loop.c, recvfrom, sendto, close.
 */
#include "api_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine_priv.h"

static struct loop *loop_of(const struct api_connection *c)
{
	return c->api->loop;
}

static void conn_close(struct api_connection *c)
{
	struct api *api = c->api;

	if (c->source.fd < 0)
		return;
	loop_unwatch(loop_of(c), &c->source);
	close(c->source.fd);
	free(c->in);
	free(c->out);
	if (api->job.conn == c)
		api->job.conn = NULL;
	*c = (struct api_connection){.api = api, .source.fd = -1};
}

/* --- output --- */

/* What there is to wait for. */
static void conn_rearm(struct api_connection *c)
{
	uint32_t events = 0;

	if (c->out)
		events = EPOLLOUT;
	else if (!c->waiting)
		events = EPOLLIN;
	loop_rearm(loop_of(c), &c->source, events);
}

/* False: the connection is gone. */
static bool conn_send(struct api_connection *c)
{
	while (c->out && c->out_done < c->out_len) {
		ssize_t n = send(c->source.fd, c->out + c->out_done, c->out_len - c->out_done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			conn_close(c);
			return false;
		}
		c->out_done += (size_t)n;
	}
	free(c->out);
	c->out = NULL;
	if (c->closing && !c->waiting) {
		conn_close(c);
		return false;
	}
	return true;
}

/* `text` is taken over; NULL: no memory, which ends the connection. */
static void conn_put(struct api_connection *c, char *text, size_t len)
{
	char *joined;

	if (text && c->out) {
		joined = realloc(c->out, c->out_len + len);
		if (joined) {
			memcpy(joined + c->out_len, text, len);
			c->out = joined;
			c->out_len += len;
		}
		free(text);
		text = joined;
	} else if (text) {
		c->out = text;
		c->out_len = len;
		c->out_done = 0;
	}
	if (!text)
		c->closing = true;
}

void api_reply(struct api_connection *c, int status, json_t *json)
{
	char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t len = 0;
	char *text = json && !body ? NULL : http_response(status, body, c->closing, &len);

	free(body);
	json_decref(json);
	c->waiting = false;
	conn_put(c, text, len);
	if (conn_send(c))
		conn_rearm(c);
}

void api_refuse(struct api_connection *c, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	api_reply(c, 400, json_pack("{s:s}", "fault_message", text));
}

/* --- input --- */

static void conn_malformed(struct api_connection *c, int status)
{
	c->closing = true;
	c->in_len = 0;
	api_reply(
	    c, status,
	    json_pack("{s:s}", "error",
		      status == 413 ? "the body is too long" : "this is no HTTP/1.1 request"));
}

/* Takes a request out of the buffer, if one is complete. False: there is nothing more to do. */
static bool conn_take(struct api_connection *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct http_request request;
	size_t whole;
	char *body;
	int ret = http_parse_request(c->in, c->in_len, &request);

	if (ret < 0)
		conn_malformed(c, -ret);
	if (ret <= 0)
		return false;
	whole = request.head_len + request.body_len;
	if (c->in_len < whole) {
		if (request.expect_continue && !c->continued) {
			c->continued = true;
			conn_put(c, strdup(go_on), sizeof(go_on) - 1);
		}
		return false;
	}
	/* JSON has none, and what stands behind it would be passed over. */
	if (memchr(c->in + request.head_len, '\0', request.body_len)) {
		conn_malformed(c, 400);
		return false;
	}
	body = strndup(c->in + request.head_len, request.body_len);
	c->in_len -= whole;
	memmove(c->in, c->in + whole, c->in_len);
	c->continued = false;
	c->closing = request.close;
	if (body)
		api_route(c, &request, body);
	else
		conn_close(c);
	free(body);
	return c->source.fd >= 0 && !c->waiting && !c->out && c->in_len > 0;
}

static void conn_read(struct api_connection *c)
{
	ssize_t n;

	if (!c->in)
		c->in = malloc(HTTP_REQUEST_MAX);
	if (!c->in) {
		conn_close(c);
		return;
	}
	n = recv(c->source.fd, c->in + c->in_len, HTTP_REQUEST_MAX - c->in_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	c->in_len += (size_t)n;
}

static void on_connection(void *opaque, uint32_t events)
{
	struct api_connection *c = opaque;

	if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
		conn_close(c);
		return;
	}
	if (c->out && !conn_send(c))
		return;
	if (!c->out && !c->waiting && (events & EPOLLIN) != 0)
		conn_read(c);
	while (c->source.fd >= 0 && !c->waiting && !c->out && c->in_len > 0 && conn_take(c))
		;
	if (c->source.fd < 0)
		return;
	if (c->in_len == 0 && !c->waiting) {
		free(c->in);
		c->in = NULL;
	}
	if (conn_send(c))
		conn_rearm(c);
}

/* --- accepting --- */

static struct api_connection *free_connection(struct api *api)
{
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++) {
		if (api->conn[i].source.fd < 0)
			return &api->conn[i];
	}
	return NULL;
}

static void turn_away(int fd)
{
	size_t len;
	char *text = http_response(503, "{\"error\":\"too many connections\"}", true, &len);

	if (text)
		(void)!send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(text);
	close(fd);
}

static void on_listener(void *opaque, uint32_t events)
{
	struct api *api = opaque;
	struct api_connection *c = free_connection(api);
	int fd = unix_accept(&api->acceptor);
	struct err err;

	(void)events;
	if (fd < 0)
		return;
	if (!c) {
		turn_away(fd);
		return;
	}
	*c = (struct api_connection){.api = api,
				     .source = {.fd = fd, .fn = on_connection, .opaque = c}};
	if (loop_watch(api->loop, &c->source, EPOLLIN, &err) < 0) {
		close(fd);
		c->source.fd = -1;
	}
}

/* --- life --- */

static int listen_at(struct api *api, struct err *err)
{
	const struct vm_config *config = &api->cli->config;
	char *path = NULL;
	int ret = 0;

	if (config->name)
		ret = ctl_socket_path(config->name, true, &path, err);
	if (!ret)
		ret = ctl_listen(path ? path : config->api_sock, &api->socket, err);
	free(path);
	return ret;
}

int api_reserve(const struct cli_result *cli, struct api **out, struct err *err)
{
	struct api *api = calloc(1, sizeof(*api));
	int ret;

	if (!api)
		return err_set(err, ENOMEM, "control socket: out of memory");
	api->cli = cli;
	api->socket = (struct ctl_socket){.fd = -1, .lock_fd = -1};
	api->signals.fd = -1;
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++)
		api->conn[i] = (struct api_connection){.api = api, .source.fd = -1};
	ret = listen_at(api, err);
	if (ret)
		api_close(api);
	else
		*out = api;
	return ret;
}

int api_serve(struct api *api, struct loop *loop, struct err *err)
{
	api->loop = loop;
	return unix_acceptor_start(&api->acceptor, loop, api->socket.fd, on_listener, api, err);
}

int api_open(struct api *api, struct machine *m, struct err *err)
{
	api->m = m;
	return api_serve(api, m->loop, err);
}

static int move_source(struct api *api, struct loop *loop, struct loop_source *source,
		       struct err *err)
{
	uint32_t events = source->events;

	loop_unwatch(api->loop, source);
	return loop_watch(loop, source, events, err);
}

int api_move(struct api *api, struct loop *loop, struct err *err)
{
	int ret = unix_acceptor_move(&api->acceptor, loop, err);

	for (unsigned i = 0; !ret && i < API_CONNECTIONS_MAX; i++) {
		if (api->conn[i].source.fd >= 0)
			ret = move_source(api, loop, &api->conn[i].source, err);
	}
	if (ret)
		return err_context(err, "control socket");
	api->loop = loop;
	return 0;
}

void api_close(struct api *api)
{
	if (!api)
		return;
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++)
		conn_close(&api->conn[i]);
	unix_acceptor_stop(&api->acceptor);
	ctl_unlisten(&api->socket);
	loop_free(api->own_loop);
	free(api->job.state_path);
	free(api->job.memory_path);
	free(api->load.state_path);
	free(api->load.memory_path);
	free(api);
}
