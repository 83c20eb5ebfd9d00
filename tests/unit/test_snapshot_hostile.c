/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved states from an enemy: 10,000 mutations with checksums that fit, each refused with one line
 * or taken, and then the machine can be used. `make asan` runs this too.
 */
#include <criterion/criterion.h>

#include <errno.h>

#include "../lib/saved_machine.h"

#define MUTATIONS 10000u

static struct state_writer w;

static void setup(void)
{
	struct saved_machine m;
	struct err err;

	cr_assert_eq(saved_machine_new(&m, &err), 0, "%s", err.text);
	saved_machine_drive(&m);
	cr_assert_eq(saved_machine_save(&m, &w, &err), 0, "%s", err.text);
	saved_machine_free(&m);
}

static void teardown(void)
{
	state_writer_free(&w);
}

TestSuite(snapshot_hostile, .init = setup, .fini = teardown);

static uint32_t random_state = 4711;

static uint32_t rnd(uint32_t below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % below;
}

/* The sealed copy of some bytes: 1 if it was taken. A line must tell why it was not. */
static bool taken(const uint8_t *body, size_t len)
{
	struct saved_machine m;
	struct state_writer copy;
	struct err err = {0};
	int ret;

	state_writer_init(&copy);
	state_put_bytes(&copy, body, len);
	cr_assert_eq(state_seal(&copy, &err), 0);
	cr_assert_eq(saved_machine_new(&m, &err), 0);
	ret = saved_machine_restore(&m, copy.data, copy.len, &err);
	if (ret == 0)
		saved_machine_use(&m);
	else
		cr_assert(err.text[0] != '\0' && !strchr(err.text, '\n'), "\"%s\"", err.text);
	saved_machine_free(&m);
	state_writer_free(&copy);
	return ret == 0;
}

Test(snapshot_hostile, as_it_was)
{
	cr_assert(taken(w.data + STATE_HEADER_LEN, w.len - STATE_HEADER_LEN));
}

static void mutate(uint8_t *body, size_t *len)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
	size_t at = rnd((uint32_t)*len);

	switch (rnd(4)) {
	case 0:
		body[at] ^= (uint8_t)(1u << rnd(8));
		break;
	case 1:
		body[at] = values[rnd(sizeof(values))];
		break;
	case 2: /* a number of 4 bytes */
		for (size_t i = at; i < at + 4 && i < *len; i++)
			body[i] = values[rnd(2) * 4];
		break;
	default: /* some bytes are gone */
		memmove(body + at, body + at + 1, *len - at - 1);
		(*len)--;
		break;
	}
}

Test(snapshot_hostile, mutations, .timeout = 120)
{
	uint8_t *body = malloc(w.len);
	unsigned accepted = 0;

	cr_assert_not_null(body);
	for (unsigned n = 0; n < MUTATIONS; n++) {
		size_t len = w.len - STATE_HEADER_LEN;

		memcpy(body, w.data + STATE_HEADER_LEN, len);
		for (unsigned k = 0; k <= rnd(3); k++)
			mutate(body, &len);
		accepted += taken(body, len);
	}
	free(body);
	/* Register contents may be anything, lengths and layouts may not. */
	cr_assert_lt(accepted, MUTATIONS / 2, "%u taken", accepted);
	cr_assert_gt(accepted, 0);
}

Test(snapshot_hostile, truncations, .timeout = 60)
{
	for (size_t len = 0; len < w.len - STATE_HEADER_LEN; len++)
		cr_assert_not(taken(w.data + STATE_HEADER_LEN, len), "%zu bytes", len);
}

/* Every version field one up: a newer minivm's state is refused as that. */
Test(snapshot_hostile, newer_versions)
{
	struct state_reader r;
	struct err err;
	uint32_t id;

	cr_assert_eq(state_open(w.data, w.len, &r, &err), 0);
	while (state_next(&r, &id)) {
		struct state_reader section;
		uint8_t *version = w.data + (r.at - w.data) + 4;

		(*version)++;
		cr_expect_not(taken(w.data + STATE_HEADER_LEN, w.len - STATE_HEADER_LEN));
		(*version)--;
		cr_assert_eq(state_enter(&r, id, UINT16_MAX, &section, &err), 0);
	}
}
