/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP messages. What is not understood is refused, never guessed at: a line that ends in a bare
 * LF, space before a colon, folded lines, lengths that are not digits, two of them, chunks. So no
 * two readers can disagree where a message ends.
 */
#include "minivm/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- lines --- */

struct lines {
	const char *at;
	const char *end;
};

/* 1: *line is the next one, without its CR LF; 0: it is not complete; -1: too long, or no line. */
static int next_line(struct lines *l, const char **line, size_t *len)
{
	size_t left = (size_t)(l->end - l->at);
	size_t look = left < HTTP_LINE_MAX + 2 ? left : HTTP_LINE_MAX + 2;
	const char *lf = memchr(l->at, '\n', look);

	if (!lf)
		return look == HTTP_LINE_MAX + 2 ? -1 : 0;
	if (lf == l->at || lf[-1] != '\r')
		return -1;
	*line = l->at;
	*len = (size_t)(lf - l->at) - 1;
	l->at = lf + 1;
	return memchr(*line, '\0', *len) || memchr(*line, '\r', *len) ? -1 : 1;
}

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		/* RFC 9110 §5.6.2, less the rare ones */
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
			    s[i]))
			return false;
	}
	return len > 0;
}

/* --- header fields --- */

struct fields {
	bool has_length;
	size_t length;
	bool expect_continue;
	bool close;
	bool chunked;
};

static int set_length(struct fields *f, const char *value, size_t len)
{
	size_t n = 0;

	if (f->has_length || len == 0 || len > 9)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9')
			return -1;
		n = n * 10 + (size_t)(value[i] - '0');
	}
	f->has_length = true;
	f->length = n;
	return 0;
}

static bool is(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

static int take_field(struct fields *f, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name = colon ? (size_t)(colon - line) : 0;
	const char *value = colon ? colon + 1 : line;
	size_t left = colon ? len - name - 1 : 0;

	if (!colon || !is_token(line, name))
		return -1;
	for (; left > 0 && (*value == ' ' || *value == '\t'); value++)
		left--;
	while (left > 0 && (value[left - 1] == ' ' || value[left - 1] == '\t'))
		left--;
	if (is(line, name, "Content-Length"))
		return set_length(f, value, left);
	if (is(line, name, "Expect"))
		f->expect_continue = is(value, left, "100-continue");
	if (is(line, name, "Connection"))
		f->close = is(value, left, "close");
	if (is(line, name, "Transfer-Encoding"))
		f->chunked = true;
	return 0;
}

/* The fields behind the first line: 1 with l->at behind the empty line, 0 or -1. */
static int take_fields(struct lines *l, struct fields *f)
{
	for (unsigned n = 0; n < HTTP_HEADERS_MAX; n++) {
		const char *line;
		size_t len;
		int ret = next_line(l, &line, &len);

		if (ret <= 0)
			return ret;
		if (len == 0)
			return f->chunked ? -1 : 1;
		if (take_field(f, line, len) < 0)
			return -1;
	}
	return -1;
}

/* --- requests --- */

/* "METHOD /target HTTP/1.1" */
static int take_request_line(const char *line, size_t len, struct http_request *out)
{
	static const char version[] = " HTTP/1.1";
	const size_t tail = sizeof(version) - 1;
	const char *space = memchr(line, ' ', len);
	size_t method = space ? (size_t)(space - line) : 0;
	size_t target;

	if (!space || len < method + 1 + tail || memcmp(line + len - tail, version, tail) != 0)
		return -1;
	target = len - tail - method - 1;
	if (method >= sizeof(out->method) || !is_token(line, method))
		return -1;
	if (target == 0 || target >= sizeof(out->target) || space[1] != '/' ||
	    memchr(space + 1, ' ', target))
		return -1;
	memcpy(out->method, line, method);
	memcpy(out->target, space + 1, target);
	return 0;
}

int http_parse_request(const char *data, size_t len, struct http_request *out)
{
	struct lines l = {data, data + len};
	struct fields f = {0};
	const char *line;
	size_t line_len;
	int ret = next_line(&l, &line, &line_len);

	*out = (struct http_request){0};
	if (ret == 0)
		return 0;
	if (ret < 0 || take_request_line(line, line_len, out) < 0)
		return -400;
	ret = take_fields(&l, &f);
	if (ret == 0)
		return 0;
	if (ret < 0)
		return -400;
	if (f.length > HTTP_BODY_MAX)
		return -413;
	out->head_len = (size_t)(l.at - data);
	out->body_len = f.length;
	out->expect_continue = f.expect_continue;
	out->close = f.close;
	return 1;
}

/* --- responses --- */

/* "HTTP/1.1 204 No Content" */
static int take_status_line(const char *line, size_t len, struct http_response *out)
{
	static const char version[] = "HTTP/1.1 ";
	const size_t head = sizeof(version) - 1;

	if (len < head + 3 || memcmp(line, version, head) != 0)
		return -1;
	out->status = 0;
	for (size_t i = head; i < head + 3; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -1;
		out->status = out->status * 10 + (line[i] - '0');
	}
	return 0;
}

int http_parse_response(const char *data, size_t len, struct http_response *out)
{
	struct lines l = {data, data + len};
	struct fields f = {0};
	const char *line;
	size_t line_len;
	int ret = next_line(&l, &line, &line_len);

	*out = (struct http_response){0};
	if (ret > 0)
		ret = take_status_line(line, line_len, out) < 0 ? -1 : take_fields(&l, &f);
	if (ret == 0)
		return 0;
	if (ret < 0 || f.length > HTTP_BODY_MAX)
		return -EPROTO;
	out->head_len = (size_t)(l.at - data);
	out->body_len = f.length;
	return 1;
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
	    {200, "OK"},
	    {204, "No Content"},
	    {400, "Bad Request"},
	    {413, "Content Too Large"},
	    {503, "Service Unavailable"},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return reasons[i].text;
	}
	return "Error";
}

char *http_response(int status, const char *json, bool close, size_t *len)
{
	const char *connection = close ? "Connection: close\r\n" : "";
	char *text;
	int n;

	/* RFC 9110 §8.6: no Content-Length in a 204. */
	if (json)
		n = asprintf(&text,
			     "HTTP/1.1 %d %s\r\nServer: minivm\r\n%sContent-Type: "
			     "application/json\r\nContent-Length: %zu\r\n\r\n%s",
			     status, reason(status), connection, strlen(json), json);
	else
		n = asprintf(&text, "HTTP/1.1 %d %s\r\nServer: minivm\r\n%s\r\n", status,
			     reason(status), connection);
	if (n < 0)
		return NULL;
	*len = (size_t)n;
	return text;
}
