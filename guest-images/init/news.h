// SPDX-License-Identifier: Apache-2.0
/*
 * What the VMM tells a restored machine (docs/agent.md): lines of text. Pure, as words.h is.
 */
#ifndef MINIVM_INIT_NEWS_H
#define MINIVM_INIT_NEWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NEWS_LINE_MAX = 256, /* bytes of a line, its end not counted */
	NEWS_ID_MAX = 32,
	NEWS_ENTROPY_MAX = 64,
	NEWS_HOSTNAME_MAX = 64,
	NEWS_MACS_MAX = 8,
	NEWS_MAC_LEN = 6,
};

struct news_mac {
	uint8_t old[NEWS_MAC_LEN];
	uint8_t fresh[NEWS_MAC_LEN];
};

struct news {
	char id[NEWS_ID_MAX + 1]; /* "": no message has begun */
	bool bad;		  /* a line that is known makes no sense */
	size_t entropy_len;
	uint8_t entropy[NEWS_ENTROPY_MAX];
	char hostname[NEWS_HOSTNAME_MAX + 1]; /* "": not said */
	bool has_time;
	int64_t seconds; /* of the wall clock */
	long nanoseconds;
	unsigned int macs;
	struct news_mac mac[NEWS_MACS_MAX];
};

/*
 * Takes the next line, without its newline. True: it was the last one of a message, which is
 * whole; it is good unless news->bad. Lines of kinds that are not known are skipped.
 */
bool news_line(struct news *news, const char *line);

/* Six bytes as "02:00:00:12:34:56"; false if @text is something else. */
bool news_parse_mac(const char *text, size_t len, uint8_t mac[NEWS_MAC_LEN]);

#endif
