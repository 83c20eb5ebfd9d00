/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP messages: what is taken, and that everything else is refused. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/http.h"

static struct http_request req;

static int parse(const char *text)
{
	return http_parse_request(text, strlen(text), &req);
}

Test(http, request_with_body)
{
	static const char text[] = "PATCH /vm HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
				   "18\r\nConnection: close\r\n\r\n{\"state\":\"Paused\"}";

	cr_assert_eq(parse(text), 1);
	cr_assert_str_eq(req.method, "PATCH");
	cr_assert_str_eq(req.target, "/vm");
	cr_assert_eq(req.body_len, 18);
	cr_assert_eq(req.head_len, sizeof(text) - 1 - 18);
	cr_assert(req.close);
	cr_assert_not(req.expect_continue);
}

Test(http, every_prefix_of_a_request_is_incomplete)
{
	static const char text[] = "GET / HTTP/1.1\r\nA: b\r\n\r\n";

	for (size_t len = 0; len < sizeof(text) - 1; len++)
		cr_expect_eq(http_parse_request(text, len, &req), 0, "%zu bytes", len);
	cr_expect_eq(http_parse_request(text, sizeof(text) - 1, &req), 1);
	cr_expect_eq(req.body_len, 0);
}

Test(http, fields)
{
	cr_expect_eq(parse("PUT /a HTTP/1.1\r\nexpect:\t100-Continue \r\n\r\n"), 1);
	cr_expect(req.expect_continue);
	cr_expect_eq(parse("PUT /a HTTP/1.1\r\nContent-Length:3\r\n\r\n"), 1);
	cr_expect_eq(req.body_len, 3);
}

Test(http, malformed)
{
	static const char *const bad[] = {
	    "GET / HTTP/1.1\n\n",
	    "GET / HTTP/1.0\r\n\r\n",
	    "GET  / HTTP/1.1\r\n\r\n",
	    "GET / / HTTP/1.1\r\n\r\n",
	    "GET a HTTP/1.1\r\n\r\n",
	    "GET http://a/ HTTP/1.1\r\n\r\n",
	    "GET HTTP/1.1\r\n\r\n",
	    " / HTTP/1.1\r\n\r\n",
	    "\r\n\r\n",
	    "GET / HTTP/1.1\r\nNoColon\r\n\r\n",
	    "GET / HTTP/1.1\r\nSpace : a\r\n\r\n",
	    "GET / HTTP/1.1\r\n: a\r\n\r\n",
	    "GET / HTTP/1.1\r\n folded\r\n\r\n",
	    "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
	    "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
	    "VERYLONGMETHODNAME / HTTP/1.1\r\n\r\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(parse(bad[i]), -400, "%s", bad[i]);
}

Test(http, nul_in_a_line)
{
	static const char text[] = "GET / HTTP/1.1\r\nA: \0\r\n\r\n";

	cr_expect_eq(http_parse_request(text, sizeof(text) - 1, &req), -400);
}

Test(http, too_much)
{
	char text[HTTP_LINE_MAX + 64];
	char *many = NULL;
	size_t size;
	FILE *out = open_memstream(&many, &size);

	cr_expect_eq(parse("PUT / HTTP/1.1\r\nContent-Length: 51200\r\n\r\n"), 1);
	cr_expect_eq(parse("PUT / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n"), -413);
	memset(text, 'a', sizeof(text));
	memcpy(text, "GET /", 5);
	cr_expect_eq(http_parse_request(text, sizeof(text), &req), -400, "no end of line");
	fputs("GET / HTTP/1.1\r\n", out);
	for (unsigned i = 0; i <= HTTP_HEADERS_MAX; i++)
		fprintf(out, "A%u: b\r\n", i);
	fclose(out);
	cr_expect_eq(http_parse_request(many, size, &req), -400, "too many fields");
	free(many);
}

static void round_trip(int status, const char *json)
{
	struct http_response r;
	size_t len;
	char *text = http_response(status, json, false, &len);

	cr_assert_not_null(text);
	for (size_t cut = 0; cut < len - (json ? strlen(json) : 0); cut++)
		cr_expect_eq(http_parse_response(text, cut, &r), 0);
	cr_expect_eq(http_parse_response(text, len, &r), 1);
	cr_expect_eq(r.status, status);
	cr_expect_eq(r.body_len, json ? strlen(json) : 0);
	cr_expect_eq(r.head_len + r.body_len, len);
	free(text);
}

Test(http, responses)
{
	struct http_response r;

	round_trip(200, "{\"a\":1}");
	round_trip(204, NULL);
	round_trip(400, "{}");
	cr_expect_eq(http_parse_response("SSH-2.0\r\n", 9, &r), -EPROTO);
	cr_expect_eq(http_parse_response("HTTP/1.1 2x4\r\n\r\n", 16, &r), -EPROTO);
}

/* Every line as long as may be, as many as there may be: it is still gathered whole. */
Test(http, the_largest_request_has_room)
{
	static char text[HTTP_REQUEST_MAX + 1];
	size_t len = (size_t)sprintf(text, "PUT /vm HTTP/1.1\r\n");
	size_t short_of = HTTP_LINE_MAX - strlen("PUT /vm HTTP/1.1");

	len += (size_t)sprintf(text + len, "Content-Length: %u\r\n", HTTP_BODY_MAX);
	short_of += HTTP_LINE_MAX - strlen("Content-Length: 51200");
	for (unsigned i = 0; i < HTTP_HEADERS_MAX - 2; i++) {
		text[len] = 'A';
		text[len + 1] = ':';
		memset(text + len + 2, 'b', HTTP_LINE_MAX - 2);
		memcpy(text + len + HTTP_LINE_MAX, "\r\n", 2);
		len += HTTP_LINE_MAX + 2;
	}
	len += (size_t)sprintf(text + len, "\r\n");
	cr_assert_eq(http_parse_request(text, len, &req), 1);
	cr_expect_eq(req.body_len, HTTP_BODY_MAX);
	cr_expect_leq(req.head_len + short_of + req.body_len, HTTP_REQUEST_MAX);
}
