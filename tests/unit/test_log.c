/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: form, levels, bounds, and what a guest can and cannot do through them. */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "minivm/log.h"

struct sink {
	struct log log;
	int fds[2];
	char text[65536];
};

static void sink_open(struct sink *s, enum log_level level)
{
	memset(s, 0, sizeof(*s));
	cr_assert_eq(pipe2(s->fds, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(s->fds[0], F_SETFL, O_NONBLOCK), 0);
	s->log = (struct log){.fd = s->fds[1], .level = level};
}

static const char *sink_text(struct sink *s)
{
	ssize_t n = read(s->fds[0], s->text, sizeof(s->text) - 1);

	s->text[n > 0 ? n : 0] = '\0';
	return s->text;
}

static void sink_close(struct sink *s)
{
	close(s->fds[0]);
	close(s->fds[1]);
}

static unsigned lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

Test(log, one_line_with_its_level)
{
	struct sink s;

	sink_open(&s, LOG_LEVEL_WARN);
	log_msg(&s.log, LOG_LEVEL_WARN, "disk %d is slow", 3);
	cr_assert_str_eq(sink_text(&s), "minivm: warning: disk 3 is slow\n");
	log_msg(&s.log, LOG_LEVEL_INFO, "not wanted");
	cr_assert_str_eq(sink_text(&s), "");
	s.log.crlf = true;
	log_msg(&s.log, LOG_LEVEL_ERROR, "raw");
	cr_assert_str_eq(sink_text(&s), "minivm: error: raw\r\n");
	sink_close(&s);
}

Test(log, long_and_hostile_text_stays_one_bounded_line)
{
	struct sink s;
	char big[5000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	big[10] = '\n';
	big[11] = '\033';
	sink_open(&s, LOG_LEVEL_DEBUG);
	log_msg(&s.log, LOG_LEVEL_DEBUG, "%s", big);
	sink_text(&s);
	cr_assert_eq(lines(s.text), 1u);
	cr_assert_null(strchr(s.text, '\033'));
	cr_assert_leq(strlen(s.text), 1100u);
	cr_assert_eq(s.text[strlen(s.text) - 1], '\n');
	sink_close(&s);
}

Test(log, guest_lines_are_limited_and_the_rest_is_counted)
{
	struct log_limit limit = {0};
	struct log_limit other = {0};
	struct sink s;

	sink_open(&s, LOG_LEVEL_WARN);
	for (int i = 0; i < 1000; i++)
		log_guest(&s.log, &limit, LOG_LEVEL_WARN, "bad descriptor");
	/* The second may turn while we write: two budgets at the most. */
	cr_assert_leq(lines(sink_text(&s)), 2u * LOG_LIMIT_BURST);
	cr_assert(atomic_load(&limit.dropped) > 0);

	log_guest(&s.log, &other, LOG_LEVEL_WARN, "another budget");
	cr_assert_str_eq(sink_text(&s), "minivm: warning: another budget\n");

	atomic_store(&limit.window, UINT64_MAX); /* as if the second were over */
	atomic_store(&limit.dropped, 995);
	log_guest(&s.log, &limit, LOG_LEVEL_WARN, "bad descriptor");
	cr_assert_str_eq(sink_text(&s),
			 "minivm: warning: bad descriptor (995 similar lines dropped)\n");
	cr_assert_eq(atomic_load(&limit.dropped), 0u);
	sink_close(&s);
}

Test(log, a_full_pipe_does_not_stop_the_guest, .timeout = 10)
{
	struct log_limit limit = {0};
	struct sink s;
	char fill[4096] = {0};

	sink_open(&s, LOG_LEVEL_WARN);
	cr_assert_eq(fcntl(s.fds[1], F_SETFL, O_NONBLOCK), 0);
	while (write(s.fds[1], fill, sizeof(fill)) > 0)
		;
	cr_assert_eq(fcntl(s.fds[1], F_SETFL, 0), 0);
	log_guest(&s.log, &limit, LOG_LEVEL_WARN, "must not block");
	cr_assert_eq(atomic_load(&limit.dropped), 1u);
	sink_close(&s);
}

Test(log, level_names_round_trip)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (int i = 0; i < 4; i++) {
		cr_assert_eq(log_level_parse(names[i]), i);
		cr_assert_str_eq(log_level_name((enum log_level)i), names[i]);
	}
	cr_assert_eq(log_level_parse("warning"), -1);
	cr_assert_eq(log_level_parse(""), -1);
	cr_assert_null(log_level_name((enum log_level)4));
}
