/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test disks are filled with, on both sides of the VM: each 8-byte word of each sector is its
 * own number mixed with a seed, so that a sector read from a wrong place or a wrong disk shows.
 */
#ifndef TEST_PATTERN_H
#define TEST_PATTERN_H

#include <stdint.h>

#define PATTERN_SECTOR 512u
#define PATTERN_WORDS  (PATTERN_SECTOR / 8)

static inline uint64_t pattern_word(uint64_t seed, uint64_t sector, unsigned word)
{
	uint64_t x = (sector * PATTERN_WORDS + word) ^ seed << 48;

	x *= 0x9e3779b97f4a7c15ull;
	return x ^ x >> 29;
}

static inline void pattern_fill(void *buf, uint64_t seed, uint64_t sector, uint64_t count)
{
	uint64_t *p = (uint64_t *)buf;

	for (uint64_t s = 0; s < count; s++) {
		for (unsigned w = 0; w < PATTERN_WORDS; w++)
			*p++ = pattern_word(seed, sector + s, w);
	}
}

/* The number of leading sectors that are right; `count` if all are. */
static inline uint64_t pattern_check(const void *buf, uint64_t seed, uint64_t sector,
				     uint64_t count)
{
	const uint64_t *p = (const uint64_t *)buf;

	for (uint64_t s = 0; s < count; s++) {
		for (unsigned w = 0; w < PATTERN_WORDS; w++) {
			if (*p++ != pattern_word(seed, sector + s, w))
				return s;
		}
	}
	return count;
}

#endif
