/* SPDX-License-Identifier: Apache-2.0 */
/* The container of saved state: what goes in comes out, and nothing else gets in. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/state.h"

#define OUTER STATE_ID('O', 'U', 'T', 'R')
#define INNER STATE_ID('I', 'N', 'N', 'R')

static struct state_writer w;

static void write_sample(void)
{
	struct err err = {0};

	state_writer_init(&w);
	state_begin(&w, OUTER, 3);
	state_put_u8(&w, 0x12);
	state_put_u16(&w, 0x3456);
	state_put_u32(&w, 0x789abcde);
	state_begin(&w, INNER, 1);
	state_put_u64(&w, 0x0123456789abcdef);
	state_put_string(&w, "minivm");
	state_end(&w);
	state_put_string(&w, NULL);
	state_put_string(&w, "");
	state_put_bool(&w, true);
	state_put_bytes(&w, "abc", 3);
	state_end(&w);
	cr_assert_eq(state_seal(&w, &err), 0, "%s", err.text);
}

static void forget(void)
{
	state_writer_free(&w);
}

TestSuite(state, .init = write_sample, .fini = forget);

static int open_all(struct state_reader *r, struct err *err)
{
	return state_open(w.data, w.len, r, err);
}

/* After bytes were changed on purpose: the checksum as who made the file would have it. */
static void reseal(void)
{
	struct err err = {0};

	cr_assert_eq(state_seal(&w, &err), 0);
}

Test(state, round_trip)
{
	struct state_reader r, outer, inner;
	struct err err = {0};
	char *text;
	char bytes[3];
	uint32_t id;

	cr_assert_eq(open_all(&r, &err), 0, "%s", err.text);
	cr_assert(state_next(&r, &id));
	cr_assert_eq(id, OUTER);
	cr_assert_eq(state_enter(&r, OUTER, 5, &outer, &err), 0, "%s", err.text);
	cr_assert_eq(outer.version, 3);
	cr_assert_eq(state_get_u8(&outer), 0x12);
	cr_assert_eq(state_get_u16(&outer), 0x3456);
	cr_assert_eq(state_get_u32(&outer), 0x789abcde);
	cr_assert_eq(state_enter(&outer, INNER, 1, &inner, &err), 0, "%s", err.text);
	cr_assert_eq(state_get_u64(&inner), 0x0123456789abcdef);
	text = state_get_string(&inner);
	cr_assert_str_eq(text, "minivm");
	free(text);
	cr_assert_eq(state_leave(&inner, &err), 0, "%s", err.text);
	cr_assert_null(state_get_string(&outer));
	text = state_get_string(&outer);
	cr_assert_str_eq(text, "");
	free(text);
	cr_assert(state_get_bool(&outer));
	state_get_bytes(&outer, bytes, 3);
	cr_assert_arr_eq(bytes, "abc", 3);
	cr_assert_eq(state_leave(&outer, &err), 0, "%s", err.text);
	cr_assert_not(state_next(&r, &id));
}

Test(state, little_endian_on_disk)
{
	static const uint8_t head[] = {'O', 'U', 'T', 'R', 3, 0, 0, 0};

	cr_assert_arr_eq(w.data + STATE_HEADER_LEN, head, sizeof(head));
	cr_assert_eq(w.data[STATE_HEADER_LEN + STATE_SECTION_LEN + 1], 0x56);
	cr_assert_eq(w.data[STATE_HEADER_LEN + STATE_SECTION_LEN + 2], 0x34);
}

Test(state, damage_is_found)
{
	struct state_reader r;
	struct err err = {0};

	for (size_t i = 0; i < w.len; i++) {
		w.data[i] ^= 0x40;
		cr_expect_lt(open_all(&r, &err), 0, "byte %zu", i);
		w.data[i] ^= 0x40;
	}
	for (size_t len = 0; len < w.len; len++)
		cr_expect_lt(state_open(w.data, len, &r, &err), 0, "length %zu", len);
}

Test(state, other_format)
{
	struct state_reader r;
	struct err err = {0};

	w.data[8]++;
	cr_assert_eq(open_all(&r, &err), -ENOTSUP);
}

Test(state, section_beyond_its_place)
{
	struct state_reader r, outer, inner;
	struct err err = {0};
	size_t inner_at = STATE_HEADER_LEN + STATE_SECTION_LEN + 7;

	w.data[inner_at + 8 + 7] = 0xff; /* the top of its length */
	reseal();
	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, OUTER, 3, &outer, &err), 0);
	cr_assert_not_null(state_get_slice(&outer, 7));
	cr_assert_eq(state_enter(&outer, INNER, 1, &inner, &err), -EINVAL);
}

Test(state, wrong_section_and_version)
{
	struct state_reader r, outer;
	struct err err = {0};

	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, INNER, 3, &outer, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "OUTR"));
	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, OUTER, 2, &outer, &err), -ENOTSUP);
}

Test(state, nothing_is_read_beyond_the_end)
{
	struct state_reader r, outer;
	struct err err = {0};
	uint8_t bytes[8];

	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, OUTER, 3, &outer, &err), 0);
	cr_assert_null(state_get_slice(&outer, state_left(&outer) + 1));
	cr_assert_eq(state_get_u64(&outer), 0);
	memset(bytes, 0xff, sizeof(bytes));
	state_get_bytes(&outer, bytes, sizeof(bytes));
	cr_assert_eq(bytes[0], 0);
	cr_assert_null(state_get_string(&outer));
	cr_assert_eq(state_leave(&outer, &err), -EINVAL);
}

Test(state, what_is_left_over_is_an_error)
{
	struct state_reader r, outer;
	struct err err = {0};

	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, OUTER, 3, &outer, &err), 0);
	state_get_u8(&outer);
	cr_assert_eq(state_leave(&outer, &err), -EINVAL);
}

/* One section with these bytes, opened. */
static struct state_reader section_of(const void *bytes, size_t len)
{
	struct state_reader r, section;
	struct err err = {0};

	state_writer_free(&w);
	state_begin(&w, OUTER, 1);
	state_put_bytes(&w, bytes, len);
	state_end(&w);
	cr_assert_eq(state_seal(&w, &err), 0);
	cr_assert_eq(open_all(&r, &err), 0);
	cr_assert_eq(state_enter(&r, OUTER, 1, &section, &err), 0);
	return section;
}

Test(state, impossible_values)
{
	static const uint8_t two[] = {2};
	static const uint8_t with_nul[] = {3, 0, 0, 0, 'a', 0, 'b'};
	static const uint8_t too_long[] = {1, 0, 0, 0x80, 'a'};
	struct state_reader r = section_of(two, sizeof(two));

	cr_assert_not(state_get_bool(&r));
	cr_assert(r.short_read);
	r = section_of(with_nul, sizeof(with_nul));
	cr_assert_null(state_get_string(&r));
	cr_assert(r.short_read);
	r = section_of(too_long, sizeof(too_long));
	cr_assert_null(state_get_string(&r));
	cr_assert(r.short_read);
}

Test(state, writer_remembers_what_it_cannot_do)
{
	static char text[STATE_STRING_MAX + 2];
	struct err err = {0};

	memset(text, 'a', STATE_STRING_MAX + 1);
	state_writer_free(&w);
	state_put_string(&w, text);
	cr_assert_eq(state_seal(&w, &err), -E2BIG);
	state_writer_free(&w);
	for (unsigned i = 0; i <= STATE_DEPTH_MAX; i++)
		state_begin(&w, INNER, 1);
	cr_assert_eq(state_seal(&w, &err), -E2BIG);
}
