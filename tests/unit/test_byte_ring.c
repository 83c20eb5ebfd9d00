/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include <string.h>

#include "minivm/byte_ring.h"

Test(byte_ring, nothing)
{
	struct byte_ring r = {0};
	size_t len = 7;

	cr_assert_eq(byte_ring_put(&r, "x", 1), 0);
	byte_ring_front(&r, &len);
	cr_assert_eq(len, 0);
	byte_ring_free(&r);
}

Test(byte_ring, fills_up)
{
	struct byte_ring r;
	const uint8_t *front;
	size_t len;

	cr_assert_eq(byte_ring_init(&r, 8), 0);
	cr_assert_eq(byte_ring_put(&r, "0123456789", 10), 8);
	cr_assert_eq(byte_ring_room(&r), 0);
	front = byte_ring_front(&r, &len);
	cr_assert_eq(len, 8);
	cr_assert_eq(memcmp(front, "01234567", 8), 0);
	byte_ring_drop(&r, 5);
	cr_assert_eq(byte_ring_put(&r, "abcd", 4), 4);
	front = byte_ring_front(&r, &len);
	cr_assert_eq(len, 3);
	cr_assert_eq(memcmp(front, "567", 3), 0);
	byte_ring_drop(&r, len);
	front = byte_ring_front(&r, &len);
	cr_assert_eq(len, 4);
	cr_assert_eq(memcmp(front, "abcd", 4), 0);
	byte_ring_drop(&r, len);
	cr_assert_eq(r.head, 0);
	byte_ring_free(&r);
}

/* Pieces of all sizes, at all places. */
Test(byte_ring, order)
{
	struct byte_ring r;
	uint8_t in = 0, out = 0;

	cr_assert_eq(byte_ring_init(&r, 13), 0);
	for (unsigned i = 0; i < 10000; i++) {
		uint8_t bytes[7];
		size_t taken, len, drop;
		const uint8_t *front;

		for (size_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (uint8_t)(in + k);
		taken = byte_ring_put(&r, bytes, 1 + i % sizeof(bytes));
		in = (uint8_t)(in + taken);
		front = byte_ring_front(&r, &len);
		drop = len < 1 + i % 5 ? len : 1 + i % 5;
		for (size_t k = 0; k < drop; k++)
			cr_assert_eq(front[k], out++);
		byte_ring_drop(&r, drop);
	}
	byte_ring_free(&r);
}
