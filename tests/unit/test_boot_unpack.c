/* SPDX-License-Identifier: Apache-2.0 */
/* The five compressions: round trips, size words, truncation at every length, damage, bombs. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot_images.h"

#define MIB (1ull << 20)

/* Neither all alike nor incompressible. */
static struct blob text(size_t len)
{
	struct blob b = {malloc(len), len};
	uint32_t x = 1;

	cr_assert_not_null(b.data);
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		b.data[i] = x >> 24 & (i & 64 ? 0x0f : 0x41);
	}
	return b;
}

static void check_round_trip(const struct blob *packed, const struct blob *plain, const char *name)
{
	struct err err = {0};
	struct unpacked u;

	cr_assert_str_eq(unpack_name(blob_bytes(packed)), name);
	cr_assert_eq(unpack(blob_bytes(packed), 64 * MIB, &u, &err), 0, "%s: %s", name, err.text);
	cr_assert_eq(u.bytes.len, plain->len, "%s", name);
	cr_assert_arr_eq(u.bytes.data, plain->data, plain->len, "%s", name);
	unpack_free(&u);
	unpack_free(&u);
}

Test(boot_unpack, round_trip_with_and_without_size_word)
{
	struct blob plain = text(300001);

	for (unsigned p = 0; p < PACKINGS; p++) {
		struct blob bare = pack(p, &plain), sized = pack_with_size(p, &plain);

		check_round_trip(&bare, &plain, packing_names[p]);
		check_round_trip(&sized, &plain, packing_names[p]);
		blob_append(&sized, "padding", 7);
		if (p != PACK_LZ4) /* it has no end mark: padding is damage there */
			check_round_trip(&sized, &plain, packing_names[p]);
		blob_free(&bare);
		blob_free(&sized);
	}
	blob_free(&plain);
}

Test(boot_unpack, lz4_of_several_blocks)
{
	struct blob plain = text(17 * MIB + 5), packed = pack_with_size(PACK_LZ4, &plain);

	check_round_trip(&packed, &plain, "lz4");
	blob_free(&packed);
	blob_free(&plain);
}

Test(boot_unpack, a_wrong_size_word_is_noticed)
{
	struct blob plain = text(5000);

	for (unsigned p = PACK_XZ; p < PACKINGS; p++) {
		struct blob packed = pack_with_size(p, &plain);
		struct err err = {0};
		struct unpacked u;

		packed.data[packed.len - 1] ^= 1;
		cr_assert_eq(unpack(blob_bytes(&packed), MIB, &u, &err), -ENOEXEC);
		cr_assert_not_null(strstr(err.text, "corrupt"), "%s", err.text);
		blob_free(&packed);
	}
	blob_free(&plain);
}

Test(boot_unpack, every_truncation_is_noticed)
{
	struct blob plain = text(3000);

	for (unsigned p = 0; p < PACKINGS; p++) {
		struct blob packed = pack(p, &plain);

		/* LZ4's frame without a block is an empty one: from there on. */
		for (size_t n = p == PACK_LZ4 ? 9 : 6; n < packed.len; n++) {
			struct blob cut = blob_cut(&packed, n);
			struct err err = {0};
			struct unpacked u;

			cr_assert_eq(unpack(blob_bytes(&cut), MIB, &u, &err), -ENOEXEC,
				     "%s at %zu of %zu", packing_names[p], n, packed.len);
			cr_assert_not_null(strstr(err.text, "truncated"), "%s at %zu: %s",
					   packing_names[p], n, err.text);
			cr_assert_null(u.map);
			blob_free(&cut);
		}
		blob_free(&packed);
	}
	blob_free(&plain);
}

Test(boot_unpack, damage_never_passes_for_more_than_was_packed)
{
	struct blob plain = text(3000);

	for (unsigned p = 0; p < PACKINGS; p++) {
		struct blob packed = pack_with_size(p, &plain);

		for (size_t n = 0; n < packed.len; n++) {
			struct err err = {0};
			struct unpacked u;

			packed.data[n] ^= 0x5a;
			if (unpack(blob_bytes(&packed), MIB, &u, &err) == 0)
				cr_assert_leq(u.bytes.len, MIB);
			else
				cr_assert_neq(err.text[0], 0);
			unpack_free(&u);
			packed.data[n] ^= 0x5a;
		}
		blob_free(&packed);
	}
	blob_free(&plain);
}

Test(boot_unpack, output_is_bounded)
{
	struct blob plain = {calloc(1, 9 * MIB), 9 * MIB};

	for (unsigned p = 0; p < PACKINGS; p++) {
		struct blob packed = pack_with_size(p, &plain);
		struct err err = {0};
		struct unpacked u;

		cr_assert_eq(unpack(blob_bytes(&packed), 9 * MIB - 1, &u, &err), -E2BIG, "%s: %s",
			     packing_names[p], err.text);
		cr_assert_eq(unpack(blob_bytes(&packed), 9 * MIB, &u, &err), 0, "%s: %s",
			     packing_names[p], err.text);
		unpack_free(&u);
		blob_free(&packed);
	}
	blob_free(&plain);
}

Test(boot_unpack, a_greedy_dictionary_is_refused)
{
	/* LZMA alone: properties, a dictionary of 1 GiB, unknown size, then some data. */
	static const uint8_t greedy[] = {0x5d, 0,    0,	   0,	 0x40, 0xff, 0xff, 0xff, 0xff,
					 0xff, 0xff, 0xff, 0xff, 0,    1,    2,	   3,	 4};
	struct err err = {0};
	struct unpacked u;

	cr_assert_eq(unpack((struct bytes){greedy, sizeof(greedy)}, MIB, &u, &err), -E2BIG, "%s",
		     err.text);
}

Test(boot_unpack, other_data_has_no_name)
{
	static const char elf[] = {0x7f, 'E', 'L', 'F', 0};
	static const char *const other[] = {"", "BZh91AY", "\x89LZO", elf, "\x1f"};

	for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		struct bytes b = {(const uint8_t *)other[i], strlen(other[i])};
		struct err err = {0};
		struct unpacked u;

		cr_assert_null(unpack_name(b));
		cr_assert_eq(unpack(b, MIB, &u, &err), -ENOEXEC);
	}
}
