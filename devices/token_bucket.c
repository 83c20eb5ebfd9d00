/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits (minivm/token_bucket.h). */
#include "minivm/token_bucket.h"

#include "minivm/clock.h"

void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t now)
{
	*b = (struct token_bucket){.rate = rate, .tokens = rate, .last = now};
}

uint64_t token_bucket_fill(struct token_bucket *b, uint64_t now)
{
	uint64_t elapsed, fresh;

	if (now <= b->last)
		return b->tokens;
	elapsed = now - b->last;
	/* Below 2^30 * 2^32: no overflow. */
	fresh = elapsed < SECOND_NS ? elapsed * b->rate / SECOND_NS : b->rate;
	if (fresh >= b->rate - b->tokens) {
		b->tokens = b->rate;
		b->last = now;
		return b->tokens;
	}
	b->tokens += fresh;
	/* Only the time that whole tokens took, so that small steps lose nothing. */
	b->last += fresh * SECOND_NS / b->rate;
	return b->tokens;
}

void token_bucket_take(struct token_bucket *b, uint64_t tokens)
{
	b->tokens -= tokens;
}

uint64_t token_bucket_wait(const struct token_bucket *b, uint64_t tokens)
{
	if (tokens <= b->tokens)
		return 0;
	return ((tokens - b->tokens) * SECOND_NS + b->rate - 1) / b->rate;
}
