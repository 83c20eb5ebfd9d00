/* SPDX-License-Identifier: Apache-2.0 */
/* Result lines "ok - NAME", "not ok - NAME: why", "ok - NAME # skipped: why", and their count. */
#ifndef TEST_TAP_H
#define TEST_TAP_H

struct tap {
	unsigned passed;
	unsigned failed;
	unsigned skipped;
};

void tap_ok(struct tap *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `fmt` gives "NAME: why". */
void tap_fail(struct tap *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tap_skip(struct tap *t, const char *why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A diagnostic: each line of the text behind "# ", without carriage returns. */
void tap_note(const char *text);
/* Prints "N passed, N failed, N skipped"; returns the exit status for main(). */
int tap_done(const struct tap *t);

#endif
