/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of a control socket: one request, one answer, blocking. What only asks is
 * answered at once, or the machine is stopped, or busy with its snapshot: that is waited for a
 * bounded time, so one machine does not keep `minivm ps` from the others.
 *
 * System calls: socket, setsockopt, connect, sendto, read, close.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "minivm/ctl.h"
#include "minivm/http.h"

#define ANSWER_SECONDS 5

/* Connecting, writing and each read fail with EAGAIN after that time: unix(7) and socket(7). */
static int wait_no_longer(int fd, struct err *err)
{
	static const struct timeval limit = {.tv_sec = ANSWER_SECONDS};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return err_sys(err, errno, "control socket: time limit");
	return 0;
}

static int failed(const char *what, int code, struct err *err)
{
	if (code == EAGAIN)
		return err_set(err, ETIMEDOUT,
			       "no answer within %d s: is it stopped, or writing a snapshot?",
			       ANSWER_SECONDS);
	return err_sys(err, code, "control socket: %s", what);
}

static int connect_to(const char *path, bool bounded, int *fd, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG, "control socket %s: longer than %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return err_sys(err, errno, "control socket");
	ret = bounded ? wait_no_longer(*fd, err) : 0;
	if (!ret && connect(*fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		ret = failed(path, errno, err);
	if (ret)
		close(*fd);
	return ret;
}

static int send_all(int fd, const char *data, size_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed("write", errno, err);
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_request(int fd, const char *method, const char *target, const char *json,
			struct err *err)
{
	char *text;
	int n = asprintf(&text,
			 "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: "
			 "application/json\r\nContent-Length: %zu\r\n\r\n%s",
			 method, target, json ? strlen(json) : 0, json ? json : "");
	int ret;

	if (n < 0)
		return err_set(err, ENOMEM, "control socket: out of memory");
	ret = send_all(fd, text, (size_t)n, err);
	free(text);
	return ret;
}

/* The whole answer into buf; *r says what is where. */
static int read_answer(int fd, char *buf, size_t size, struct http_response *r, struct err *err)
{
	size_t len = 0;

	for (;;) {
		int ret = http_parse_response(buf, len, r);
		ssize_t n;

		if (ret < 0 || (ret > 0 && r->head_len + r->body_len > size))
			return err_set(err, EPROTO, "control socket: an answer that is no HTTP");
		if (ret > 0 && len >= r->head_len + r->body_len)
			return 0;
		n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed("read", errno, err);
		if (n == 0)
			return err_set(err, ECONNRESET, "the machine ended before it answered");
		len += (size_t)n;
	}
}

/* {"fault_message": "..."} of an answer that refuses. */
static int refused(const char *body, int status, struct err *err)
{
	json_t *json = json_loads(body, 0, NULL);
	const char *fault = json_string_value(json_object_get(json, "fault_message"));

	if (fault)
		err_set(err, EINVAL, "%s", fault);
	else
		err_set(err, EPROTO, "the machine answered with status %d", status);
	json_decref(json);
	return err->code;
}

static int take_answer(int fd, char **answer, struct err *err)
{
	size_t size = HTTP_LINE_MAX * 4 + HTTP_BODY_MAX;
	struct http_response r;
	char *buf = malloc(size);
	char *body = NULL;
	int ret;

	if (!buf)
		return err_set(err, ENOMEM, "control socket: out of memory");
	ret = read_answer(fd, buf, size, &r, err);
	if (!ret) {
		body = strndup(buf + r.head_len, r.body_len);
		if (!body)
			ret = err_set(err, ENOMEM, "control socket: out of memory");
	}
	free(buf);
	if (!ret && r.status != 200 && r.status != 204)
		ret = refused(body, r.status, err);
	if (!ret && answer)
		*answer = body;
	else
		free(body);
	return ret;
}

int ctl_request(const char *path, const char *method, const char *target, const char *json,
		int *fd_out, char **answer, struct err *err)
{
	int fd;
	int ret = connect_to(path, strcmp(method, "GET") == 0, &fd, err);

	if (ret)
		return ret;
	ret = send_request(fd, method, target, json, err);
	if (!ret)
		ret = take_answer(fd, answer, err);
	if (!ret && fd_out)
		*fd_out = fd;
	else
		close(fd);
	return ret;
}
