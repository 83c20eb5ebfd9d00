/* SPDX-License-Identifier: Apache-2.0 */
/* The command line builder. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "minivm/boot.h"

Test(boot_cmdline, words_are_separated_by_one_space)
{
	struct cmdline c = {0};
	struct err err = {0};

	cr_assert_eq(cmdline_add(&c, &err, "console=%s", "ttyS0"), 0);
	cr_assert_eq(cmdline_add(&c, &err, "%s", ""), 0);
	cr_assert_eq(cmdline_add(&c, &err, "quiet root=/dev/vda"), 0);
	cr_assert_str_eq(c.text, "console=ttyS0 quiet root=/dev/vda");
	cr_assert_eq(c.len, strlen(c.text));
	cmdline_free(&c);
	cr_assert_null(c.text);
	cmdline_free(&c);
}

Test(boot_cmdline, control_characters_are_refused)
{
	struct cmdline c = {0};
	struct err err = {0};
	const char *const bad[] = {"a\nb", "\x1b[31m", "tab\there", "\x7f"};

	cr_assert_eq(cmdline_add(&c, &err, "good"), 0);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(cmdline_add(&c, &err, "%s", bad[i]), -EINVAL);
		cr_assert_str_eq(c.text, "good");
	}
	cr_assert_eq(cmdline_add(&c, &err, "caf\xc3\xa9"), 0);
	cmdline_free(&c);
}

Test(boot_cmdline, the_limit_counts_the_terminating_nul)
{
	struct cmdline c = {0};
	struct err err = {0};
	char half[BOOT_CMDLINE_MAX / 2];

	memset(half, 'x', sizeof(half) - 1);
	half[sizeof(half) - 1] = '\0';
	cr_assert_eq(cmdline_add(&c, &err, "%s", half), 0);
	cr_assert_eq(cmdline_add(&c, &err, "%sy", half), -E2BIG);
	cr_assert_eq(c.len, sizeof(half) - 1);
	cr_assert_eq(cmdline_add(&c, &err, "%s", half), 0, "%s", err.text);
	cr_assert_eq(c.len, BOOT_CMDLINE_MAX - 1);
	cr_assert_eq(c.text[c.len], '\0');
	cr_assert_eq(cmdline_add(&c, &err, "z"), -E2BIG);
	cmdline_free(&c);
}
