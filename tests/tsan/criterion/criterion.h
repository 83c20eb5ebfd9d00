/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stand-in for <criterion/criterion.h>, for ThreadSanitizer only: criterion 2.4's shared arena and
 * its worker threads do not start in a process that TSan has mapped. Put this directory in front of
 * the include path (-Itests/tsan), link tests/tsan/runner.c instead of -lcriterion. It knows the
 * macros that our tests use; each test runs in a forked child, one after the other.
 */
#ifndef MINIVM_TSAN_CRITERION_H
#define MINIVM_TSAN_CRITERION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tsan_test {
	const char *suite;
	const char *name;
	void (*fn)(void);
	void (*init)(void);
	void (*fini)(void);
	double timeout;
	int signal;
	int exit_code;
	bool disabled;
	struct tsan_test *next;
};

void tsan_register(struct tsan_test *test);

/* Further members, .timeout for one, follow the name as with criterion. */
#define Test(s, n, ...)                                                                            \
	static void s##_##n##_impl(void);                                                          \
	static struct tsan_test s##_##n##_test = {                                                 \
	    .suite = #s, .name = #n, .fn = s##_##n##_impl, __VA_ARGS__};                           \
	__attribute__((constructor)) static void s##_##n##_register(void)                          \
	{                                                                                          \
		tsan_register(&s##_##n##_test);                                                    \
	}                                                                                          \
	static void s##_##n##_impl(void)

/* What its tests have in common: an entry without a name. */
#define TestSuite(s, ...)                                                                          \
	static struct tsan_test s##_suite = {.suite = #s, __VA_ARGS__};                            \
	__attribute__((constructor)) static void s##_suite_register(void)                          \
	{                                                                                          \
		tsan_register(&s##_suite);                                                         \
	}                                                                                          \
	struct tsan_test

#define TSAN_FAIL(what, ...)                                                                       \
	do {                                                                                       \
		fprintf(stderr, "%s:%d: %s", __FILE__, __LINE__, what);                            \
		fprintf(stderr, " " __VA_ARGS__);                                                  \
		fputc('\n', stderr);                                                               \
		_exit(1);                                                                          \
	} while (0)
#define TSAN_CHECK(cond, what, ...)                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			TSAN_FAIL(what, __VA_ARGS__);                                              \
	} while (0)

#define cr_fail(...)		       TSAN_FAIL("fail", __VA_ARGS__)
#define cr_assert_fail(...)	       TSAN_FAIL("fail", __VA_ARGS__)
#define cr_skip_test(...)	       _exit(0)
#define cr_assert(c, ...)	       TSAN_CHECK(c, #c, __VA_ARGS__)
#define cr_assert_not(c, ...)	       TSAN_CHECK(!(c), "not " #c, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)	       TSAN_CHECK((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)       TSAN_CHECK((a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)	       TSAN_CHECK((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)       TSAN_CHECK((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)	       TSAN_CHECK((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)       TSAN_CHECK((a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...)	       TSAN_CHECK((a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...)     TSAN_CHECK((a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)    TSAN_CHECK(!strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...)   TSAN_CHECK(strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_assert_str_empty(a, ...)    TSAN_CHECK(!*(a), #a " is empty", __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) TSAN_CHECK(!memcmp(a, b, n), #a " equals " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...)                                                            \
	TSAN_CHECK(memcmp(a, b, n), #a " differs from " #b, __VA_ARGS__)
#define cr_expect	   cr_assert
#define cr_expect_fail	   cr_assert_fail
#define cr_expect_not	   cr_assert_not
#define cr_expect_eq	   cr_assert_eq
#define cr_expect_neq	   cr_assert_neq
#define cr_expect_lt	   cr_assert_lt
#define cr_expect_leq	   cr_assert_leq
#define cr_expect_gt	   cr_assert_gt
#define cr_expect_geq	   cr_assert_geq
#define cr_expect_null	   cr_assert_null
#define cr_expect_not_null cr_assert_not_null
#define cr_expect_str_eq   cr_assert_str_eq
#define cr_expect_arr_eq   cr_assert_arr_eq
#define cr_expect_arr_neq  cr_assert_arr_neq
#define cr_log_info(...)   fprintf(stderr, __VA_ARGS__)
#define cr_log_error(...)  fprintf(stderr, __VA_ARGS__)

#endif
