/* SPDX-License-Identifier: Apache-2.0 */
/* Setup errors: codes, joined text, truncation, one line whatever the user's strings hold. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "minivm/err.h"

Test(err, set_formats_and_returns_the_negative_code)
{
	struct err err = {0};

	cr_assert_eq(err_set(&err, EINVAL, "bad %s %d", "thing", 7), -EINVAL);
	cr_assert_eq(err.code, -EINVAL);
	cr_assert_str_eq(err.text, "bad thing 7");
}

Test(err, sys_appends_the_reason)
{
	struct err err = {0};

	cr_assert_eq(err_sys(&err, EACCES, "open"), -EACCES);
	cr_assert_str_eq(err.text, "open: Permission denied");
}

Test(err, context_and_hint_make_one_line)
{
	struct err err = {0};

	err_sys(&err, EACCES, "open");
	cr_assert_eq(err_hint(&err, "is it readable by %s?", "you"), -EACCES);
	cr_assert_eq(err_context(&err, "disk %s", "root.img"), -EACCES);
	cr_assert_str_eq(err.text,
			 "disk root.img: open: Permission denied; is it readable by you?");
}

Test(err, own_text_may_be_an_argument)
{
	struct err err = {0};

	err_set(&err, EIO, "inner");
	err_set(&err, EINVAL, "outer(%s)", err.text);
	cr_assert_str_eq(err.text, "outer(inner)");
	cr_assert_eq(err.code, -EINVAL);
}

Test(err, long_text_is_truncated_and_terminated)
{
	struct err err = {0};
	char big[3 * ERR_TEXT_MAX];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&err, EINVAL, "%s", big);
	cr_assert_eq(strlen(err.text), ERR_TEXT_MAX - 1);
	err_context(&err, "context %s", big);
	cr_assert_eq(strlen(err.text), ERR_TEXT_MAX - 1);
	cr_assert_eq(strncmp(err.text, "context x", 9), 0);
	err_hint(&err, "hint");
	cr_assert_eq(strlen(err.text), ERR_TEXT_MAX - 1);
}

Test(err, control_characters_cannot_break_the_line)
{
	struct err err = {0};

	err_set(&err, EINVAL, "file a\nb\x1b[2J\x7f caf\xc3\xa9");
	cr_assert_str_eq(err.text, "file a?b?[2J? caf\xc3\xa9");
}
