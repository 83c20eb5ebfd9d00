/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits: what came in over a time, however it is cut up. */
#include <criterion/criterion.h>

#include "minivm/token_bucket.h"

#define SECOND 1000000000ull

Test(token_bucket, starts_full_and_holds_one_second)
{
	struct token_bucket b;

	token_bucket_init(&b, 100, 5 * SECOND);
	cr_expect_eq(token_bucket_fill(&b, 5 * SECOND), 100);
	cr_expect_eq(token_bucket_fill(&b, 500 * SECOND), 100);
	token_bucket_take(&b, 100);
	cr_expect_eq(token_bucket_fill(&b, 500 * SECOND), 0);
	cr_expect_eq(token_bucket_fill(&b, 500 * SECOND + SECOND / 2), 50);
	cr_expect_eq(token_bucket_fill(&b, 502 * SECOND), 100);
}

Test(token_bucket, small_steps_lose_nothing)
{
	struct token_bucket b;
	uint64_t got = 0;

	token_bucket_init(&b, 1000, 0);
	token_bucket_take(&b, 1000);
	/* Each step is worth less than a token. */
	for (uint64_t now = 0; now <= 10 * SECOND; now += 999983) {
		uint64_t have = token_bucket_fill(&b, now);

		token_bucket_take(&b, have);
		got += have;
	}
	cr_expect(got >= 9990 && got <= 10000, "%llu", (unsigned long long)got);
}

Test(token_bucket, wait_is_what_it_takes)
{
	static const uint64_t rates[] = {1, 3, 1000, 65537, TOKEN_BUCKET_RATE_MAX};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct token_bucket b;
		uint64_t want = (rates[i] + 1) / 2;
		uint64_t wait;

		token_bucket_init(&b, rates[i], 0);
		cr_expect_eq(token_bucket_wait(&b, rates[i]), 0);
		token_bucket_take(&b, rates[i]);
		wait = token_bucket_wait(&b, want);
		cr_expect_geq(token_bucket_fill(&b, wait), want, "rate %llu",
			      (unsigned long long)rates[i]);
		cr_expect_eq(token_bucket_wait(&b, want), 0);
	}
}

Test(token_bucket, a_clock_that_goes_back_adds_nothing)
{
	struct token_bucket b;

	token_bucket_init(&b, 10, 7 * SECOND);
	token_bucket_take(&b, 10);
	cr_expect_eq(token_bucket_fill(&b, 3 * SECOND), 0);
	cr_expect_eq(token_bucket_fill(&b, 7 * SECOND), 0);
	cr_expect_eq(token_bucket_fill(&b, 8 * SECOND), 10);
}
