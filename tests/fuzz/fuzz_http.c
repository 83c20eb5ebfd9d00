/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP heads, whole and in two pieces: what is complete stays so, and lies inside the input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
	if (!good)
		abort();
}

static void check_request(const char *text, size_t size)
{
	struct http_request whole, part;
	int ret = http_parse_request(text, size, &whole);

	if (ret <= 0)
		return;
	must(whole.head_len <= size && whole.body_len <= HTTP_BODY_MAX);
	must(whole.target[0] == '/' && memchr(whole.target, '\0', sizeof(whole.target)));
	must(http_parse_request(text, whole.head_len, &part) == 1);
	must(part.head_len == whole.head_len);
	must(http_parse_request(text, whole.head_len - 1, &part) == 0);
}

static void check_response(const char *text, size_t size)
{
	struct http_response r;

	if (http_parse_response(text, size, &r) > 0)
		must(r.head_len <= size && r.body_len <= HTTP_BODY_MAX && r.status < 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of just its size, so that a byte too far is seen. */
	char *text = malloc(size ? size : 1);

	must(text != NULL);
	memcpy(text, data, size);
	check_request(text, size);
	check_response(text, size);
	free(text);
	return 0;
}
