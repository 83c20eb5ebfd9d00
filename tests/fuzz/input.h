/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzzer's input, taken byte by byte; behind its end it is zeroes. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct input {
	const uint8_t *data;
	size_t len;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline uint8_t next(struct input *in)
{
	if (in->len == 0)
		return 0;
	in->len--;
	return *in->data++;
}

/* A number of n bytes, at most 4, the highest first. */
static inline uint32_t next_number(struct input *in, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | next(in);
	return v;
}

/* Not assert(): it is to hold in every build. */
static inline void require(bool ok)
{
	if (!ok)
		abort();
}

#endif
