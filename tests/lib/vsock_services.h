/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guests under test find on the host through vsock: services by port, offered by vsock_peer.c,
 * used by payloads and by programs on Linux. Numbers are little-endian.
 */
#ifndef TEST_VSOCK_SERVICES_H
#define TEST_VSOCK_SERVICES_H

#include <stddef.h>
#include <stdint.h>

enum {
	SERVICE_ECHO = 101, /* sends back what comes, ends when the guest does */
	/*
	 * First 8 bytes come: how many bytes each side will send. Then both send so many of
	 * vsock_byte(), at once, and afterwards 8 bytes: vsock_sum() of what they received.
	 */
	SERVICE_STREAM = 102,
	/* Reads nothing until somebody connects to SERVICE_GO; at the end of what comes it sends 16
	 * bytes: how much that was, and its vsock_sum(). */
	SERVICE_STALL = 103,
	SERVICE_GO = 104,
	SERVICE_VANISH = 105, /* closes after the first bytes, with more unread */
	SERVICE_MEMORY = 106, /* sends 8 bytes: KiB of memory of the minivm that it talks to */
	/* 8 bytes come: a port of the guest and a count; so many connections are made to it, each
	 * of which echoes. */
	SERVICE_CALL = 107,
	SERVICE_FIRST = SERVICE_ECHO,
	SERVICE_LAST = SERVICE_CALL,
	SERVICE_NOBODY = 199, /* nobody listens there */
};

#define VSOCK_SUM_START 0xcbf29ce484222325ull

/* The byte at `offset` of a stream; who 0: the host's, 1: the guest's. */
static inline uint8_t vsock_byte(unsigned who, uint64_t offset)
{
	uint64_t x = (offset >> 3) * 0x9e3779b97f4a7c15ull + who;

	return (uint8_t)((x ^ x >> 29) >> 8 * (offset & 7));
}

static inline uint64_t vsock_sum(uint64_t sum, const void *bytes, size_t len)
{
	const uint8_t *p = (const uint8_t *)bytes;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	return sum;
}

#endif
