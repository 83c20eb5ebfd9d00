/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the other end of a network device does for tests: frames of one Ethernet type, the first of
 * whose bytes says what is wanted. Shared by the peer on the host and by payloads.
 */
#ifndef TEST_NET_SERVICES_H
#define TEST_NET_SERVICES_H

#include <stdint.h>

#define NET_ETHERTYPE	  0x88b5 /* IEEE 802, local experiments */
#define NET_SERVICE_FRAME 65500u /* the largest, Ethernet header included */
#define NET_SERVICE_MTU	  65486u /* without it */

enum net_service {
	NET_ECHO = 1, /* comes back, addresses swapped */
	NET_SINK,     /* is counted */
	NET_REPORT,   /* comes back with what was counted; counts from 0 again */
	NET_SOURCE,   /* `arg` frames of `size` bytes come, NET_DATA, numbered from `number` on */
	NET_DATA,
	NET_HOLD, /* nothing is read for `arg` milliseconds */
	NET_DROP, /* the other end goes away for good */
};

struct net_frame {
	uint8_t dst[6];
	uint8_t src[6];
	uint8_t type[2];
	uint8_t service;
	uint8_t pad;
	uint32_t arg;
	uint32_t size;
	uint32_t number;
	/* NET_REPORT's answer */
	uint32_t frames;
	uint64_t bytes;
	uint64_t sum;
};

/* Of a frame's bytes from `service` on; the sum over frames is their sum. */
static inline uint64_t net_sum(const struct net_frame *f, uint32_t len)
{
	const uint8_t *p = (const uint8_t *)f;
	uint64_t sum = 0;

	for (uint32_t i = 14; i + 8 <= len; i += 8) {
		uint64_t word;

		__builtin_memcpy(&word, p + i, 8);
		sum = sum * 31 + word;
	}
	return sum + len;
}

/* The bytes behind the header: of frame `number`. */
static inline void net_fill(struct net_frame *f, uint32_t len)
{
	uint64_t x = 0x9e3779b97f4a7c15ull * (f->number + 1);
	uint8_t *p = (uint8_t *)f;

	for (uint32_t i = sizeof(*f); i < len; i += 8) {
		uint32_t part = len - i < 8 ? len - i : 8;

		__builtin_memcpy(p + i, &x, part);
		x += 0x9e3779b97f4a7c15ull;
	}
}

#endif
