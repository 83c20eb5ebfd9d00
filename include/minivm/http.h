/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 (RFC 9112) as far as a control socket needs it, strictly: requests with a body of known
 * length, and answers. Pure functions over bytes; fuzzed.
 */
#ifndef MINIVM_HTTP_H
#define MINIVM_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_LINE_MAX	 1024u /* bytes of a line, its CR LF not counted */
#define HTTP_HEADERS_MAX 64u
#define HTTP_BODY_MAX	 51200u
/* The most that has to be gathered for one request: its first line, the others, the body. */
#define HTTP_REQUEST_MAX ((1 + HTTP_HEADERS_MAX) * (HTTP_LINE_MAX + 2) + HTTP_BODY_MAX)

struct http_request {
	char method[16];
	char target[256]; /* a path: begins with "/" */
	size_t head_len;  /* up to the body */
	size_t body_len;
	bool expect_continue;
	bool close; /* the peer wants no further request on this connection */
};

/*
 * 1: `len` bytes hold the request's head, *out is filled; its body may still be under way. 0: the
 * head is not complete yet. Negative: -400 (malformed, or a length that is not told), -413 (the
 * body is too long): answer so and close.
 */
int http_parse_request(const char *data, size_t len, struct http_request *out);

struct http_response {
	int status;
	size_t head_len;
	size_t body_len;
};
/* The same for answers: 1, 0 or -EPROTO. */
int http_parse_response(const char *data, size_t len, struct http_response *out);

/*
 * An answer with a JSON body, or without one (NULL; 204). malloc'ed, *len bytes; NULL without
 * memory.
 */
char *http_response(int status, const char *json, bool close, size_t *len);

#endif
