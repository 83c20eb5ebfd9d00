/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit: a bucket of tokens that fills with time, `rate` tokens a second, and holds those of
 * one second. Pure arithmetic over times that the caller reads; one thread at a time.
 */
#ifndef MINIVM_TOKEN_BUCKET_H
#define MINIVM_TOKEN_BUCKET_H

#include <stdint.h>

#define TOKEN_BUCKET_RATE_MAX (1ull << 32) /* tokens a second; so that no product overflows */

struct token_bucket {
	uint64_t rate;	 /* tokens a second, 1 to TOKEN_BUCKET_RATE_MAX */
	uint64_t tokens; /* at most `rate` */
	uint64_t last;	 /* up to when the tokens are counted, ns */
};

/* Starts full. */
void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t now);

/* Adds what has come in since; the tokens that are there. A clock that goes back adds nothing. */
uint64_t token_bucket_fill(struct token_bucket *b, uint64_t now);

/* Takes tokens that are there. */
void token_bucket_take(struct token_bucket *b, uint64_t tokens);

/* Nanoseconds after `last` until there will be `tokens`, at most `rate`; 0: they are there. */
uint64_t token_bucket_wait(const struct token_bucket *b, uint64_t tokens);

#endif
