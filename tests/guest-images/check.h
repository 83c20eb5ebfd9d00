// SPDX-License-Identifier: Apache-2.0
/* Counts for the tests of init's pure parts. */
#ifndef GUEST_IMAGES_CHECK_H
#define GUEST_IMAGES_CHECK_H

#include <stdbool.h>

/* Says what is wrong with `line` if it is not ok. */
void check(bool ok, const char *what, const char *line);

void test_news(void);

#endif
