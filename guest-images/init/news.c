// SPDX-License-Identifier: Apache-2.0
#include "news.h"

#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* @n bytes of two digits each, with @between (0: nothing) between them. */
static bool parse_hex(const char *text, size_t len, char between, uint8_t *out, size_t n)
{
	size_t step = between ? 3 : 2;

	if (n == 0 || len != step * n - (between ? 1 : 0))
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(text[i * step]), low = hex_digit(text[i * step + 1]);

		if (high < 0 || low < 0 || (between && i > 0 && text[i * step - 1] != between))
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool news_parse_mac(const char *text, size_t len, uint8_t mac[NEWS_MAC_LEN])
{
	return parse_hex(text, len, ':', mac, NEWS_MAC_LEN);
}

/* --- lines: each takes what stands behind its first word --- */

static bool take_entropy(struct news *news, const char *text)
{
	size_t len = strlen(text);

	if (len % 2 || len / 2 > NEWS_ENTROPY_MAX)
		return false;
	news->entropy_len = len / 2;
	return parse_hex(text, len, 0, news->entropy, news->entropy_len);
}

static bool take_hostname(struct news *news, const char *text)
{
	static const char alphabet[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strlen(text);

	if (len == 0 || len > NEWS_HOSTNAME_MAX || strspn(text, alphabet) != len)
		return false;
	memcpy(news->hostname, text, len + 1);
	return true;
}

/* Digits up to @end; false for none of them or more than @most. */
static bool parse_digits(const char *text, const char *end, ptrdiff_t most, int64_t *value)
{
	if (end - text < 1 || end - text > most)
		return false;
	for (*value = 0; text < end; text++) {
		if (*text < '0' || *text > '9')
			return false;
		*value = *value * 10 + (*text - '0');
	}
	return true;
}

/* SECONDS.NANOSECONDS, these with nine digits. */
static bool take_time(struct news *news, const char *text)
{
	const char *dot = strchr(text, '.');
	int64_t nanoseconds;

	if (!dot || strlen(dot + 1) != 9 || !parse_digits(text, dot, 12, &news->seconds) ||
	    !parse_digits(dot + 1, dot + 10, 9, &nanoseconds))
		return false;
	news->nanoseconds = (long)nanoseconds;
	news->has_time = true;
	return true;
}

/* OLD NEW */
static bool take_mac(struct news *news, const char *text)
{
	const char *blank = strchr(text, ' ');
	struct news_mac *mac = &news->mac[news->macs];

	if (news->macs == NEWS_MACS_MAX || !blank ||
	    !news_parse_mac(text, (size_t)(blank - text), mac->old) ||
	    !news_parse_mac(blank + 1, strlen(blank + 1), mac->fresh))
		return false;
	news->macs++;
	return true;
}

static const struct kind {
	const char *word;
	bool (*take)(struct news *news, const char *text);
} kinds[] = {
    {"entropy ", take_entropy},
    {"hostname ", take_hostname},
    {"time ", take_time},
    {"mac ", take_mac},
};

/* An id is one word of hexadecimal digits; it comes back in the answer. */
static void begin(struct news *news, const char *id)
{
	size_t len = strlen(id);

	memset(news, 0, sizeof(*news));
	for (size_t i = 0; i < len; i++) {
		if (i == NEWS_ID_MAX || hex_digit(id[i]) < 0)
			return;
	}
	memcpy(news->id, id, len + 1);
}

bool news_line(struct news *news, const char *line)
{
	static const char first[] = "restored ", last[] = "end ";

	if (!strncmp(line, first, sizeof(first) - 1)) {
		begin(news, line + sizeof(first) - 1);
		return false;
	}
	if (!news->id[0])
		return false;
	if (!strncmp(line, last, sizeof(last) - 1))
		return !strcmp(line + sizeof(last) - 1, news->id);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i].word);

		if (!strncmp(line, kinds[i].word, len) && !kinds[i].take(news, line + len))
			news->bad = true;
	}
	return false;
}
