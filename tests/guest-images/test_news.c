// SPDX-License-Identifier: Apache-2.0
/* What the agent reads on its port (guest-images/init/news.h, docs/agent.md). */
#include "news.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

#define ID	"0123456789abcdef"
#define SOME	"restored " ID "\n"
#define THE_END "end " ID "\n"
#define BYTES8	"0102030405060708"

/* The lines of @text; how many messages were whole. */
static unsigned int feed(struct news *news, const char *text)
{
	unsigned int whole = 0;

	memset(news, 0, sizeof(*news));
	while (*text && whole == 0) {
		char line[NEWS_LINE_MAX + 1];
		size_t len = strcspn(text, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)len, text);
		whole += news_line(news, line);
		text += len + (text[len] == '\n');
	}
	return whole;
}

static void test_whole(void)
{
	static const char text[] = SOME "entropy " BYTES8 BYTES8 "\n"
					"hostname clone-7\n"
					"weather fine\n"
					"time 1700000000.000000005\n"
					"mac 02:00:00:00:00:01 02:ab:cd:ef:00:02\n"
					"mac 02:00:00:00:00:03 02:00:00:00:00:04\n" THE_END;
	struct news n;

	check(feed(&n, text) == 1 && !n.bad, "whole", text);
	check(!strcmp(n.id, ID), "id", text);
	check(n.entropy_len == 16 && n.entropy[0] == 1 && n.entropy[15] == 8, "entropy", text);
	check(!strcmp(n.hostname, "clone-7"), "hostname", text);
	check(n.has_time && n.seconds == 1700000000 && n.nanoseconds == 5, "time", text);
	check(n.macs == 2 && n.mac[0].old[5] == 1 && n.mac[0].fresh[1] == 0xab &&
		  n.mac[1].fresh[5] == 4,
	      "addresses", text);
}

/* Nothing but what was said. */
static void test_little(void)
{
	struct news n;

	check(feed(&n, SOME THE_END) == 1 && !n.bad, "whole", "nothing new");
	check(n.entropy_len == 0 && !n.hostname[0] && !n.has_time && n.macs == 0, "empty",
	      "nothing new");
	check(feed(&n, "hostname x\n" SOME THE_END) == 1 && !n.hostname[0], "before it begins",
	      "hostname");
	check(feed(&n, SOME "hostname x\n" SOME THE_END) == 1 && !n.hostname[0], "begun anew",
	      "hostname");
}

static void test_incomplete(void)
{
	static const char *const texts[] = {
	    "",
	    THE_END,
	    "restored \n" THE_END,
	    "restored x\nend x\n",
	    SOME "end \n",
	    SOME "end 0123\n",
	    SOME "end\n",
	    SOME THE_END + 1,
	    "restored 0123456789abcdef0123456789abcdef0\nend 0123456789abcdef0123456789abcdef0\n",
	};
	struct news n;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check(feed(&n, texts[i]) == 0, "no message", texts[i]);
}

static void test_bad(void)
{
	static const char *const lines[] = {
	    "entropy 0\n",
	    "entropy 0g\n",
	    "entropy AB\n",
	    "entropy \n",
	    "hostname \n",
	    "hostname a b\n",
	    "hostname a;b\n",
	    "hostname 0123456789012345678901234567890123456789012345678901234567890123x\n",
	    "time 1\n",
	    "time 1.5\n",
	    "time .000000000\n",
	    "time -1.000000000\n",
	    "time 1.00000000x\n",
	    "time 1234567890123.000000000\n",
	    "mac \n",
	    "mac 02:00:00:00:00:01\n",
	    "mac 02:00:00:00:00:01 02:00:00:00:00\n",
	    "mac 02:00:00:00:00:01 02:00:00:00:00:02 \n",
	    "mac 02-00:00:00:00:01 02:00:00:00:00:02\n",
	    "mac 02:00:00:00:00:1 02:00:00:00:00:002\n",
	};
	char text[512];
	struct news n;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(text, sizeof(text), SOME "%s" THE_END, lines[i]);
		check(feed(&n, text) == 1 && n.bad, "bad", lines[i]);
	}
	strcpy(text, SOME "entropy ");
	for (unsigned int i = 0; i <= NEWS_ENTROPY_MAX; i++)
		strcat(text, "00");
	strcat(text, "\n" THE_END);
	check(feed(&n, text) == 1 && n.bad, "bad", "too much entropy");
}

static void test_many_macs(void)
{
	static const char mac[] = "mac 02:00:00:00:00:01 02:00:00:00:00:02\n";
	char text[64 * (NEWS_MACS_MAX + 2)] = SOME;
	struct news n;

	for (unsigned int i = 0; i <= NEWS_MACS_MAX; i++)
		strcat(text, mac);
	strcat(text, THE_END);
	check(feed(&n, text) == 1 && n.bad && n.macs == NEWS_MACS_MAX, "bad", "too many addresses");
}

void test_news(void)
{
	test_whole();
	test_little();
	test_incomplete();
	test_bad();
	test_many_macs();
}
