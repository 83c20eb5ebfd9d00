/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the console in tests, known to the guest's program and the host's. */
#ifndef LINUX_CONTENT_H
#define LINUX_CONTENT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONTENT_LINE_MAX   80
#define CONTENT_HASH_START 0xcbf29ce484222325ull /* FNV-1a */

static inline uint64_t content_hash(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = (const unsigned char *)data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ull;
	return hash;
}

/* Line `i`, without its newline: 64 characters, all different from those of other lines. */
static inline void content_line(char line[CONTENT_LINE_MAX], uint64_t i)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;

	snprintf(line, CONTENT_LINE_MAX, "line %08llx %016llx %016llx %016llx",
		 (unsigned long long)i, (unsigned long long)x, (unsigned long long)(x ^ x >> 31),
		 (unsigned long long)(x * x));
}

#endif
