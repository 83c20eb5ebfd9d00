/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the tests that tests/tsan/criterion/criterion.h registered; see there. Arguments are suites;
 * without any, all run. Ends with criterion's closing line.
 */
#include <criterion/criterion.h>

#include <sys/wait.h>

static struct tsan_test *tests;

void tsan_register(struct tsan_test *test)
{
	test->next = tests;
	tests = test;
}

static bool selected(const struct tsan_test *test, int argc, char *argv[])
{
	if (test->disabled || !test->name)
		return false;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], test->suite))
			return true;
	return argc < 2;
}

/* A test's own init and fini come before those of its suite. */
static const struct tsan_test *suite_of(const struct tsan_test *test)
{
	static const struct tsan_test none;

	for (const struct tsan_test *t = tests; t; t = t->next) {
		if (!t->name && !strcmp(t->suite, test->suite))
			return t;
	}
	return &none;
}

static void child(const struct tsan_test *test)
{
	const struct tsan_test *suite = suite_of(test);
	void (*init)(void) = test->init ? test->init : suite->init;
	void (*fini)(void) = test->fini ? test->fini : suite->fini;

	alarm(test->timeout > 0 ? (unsigned)test->timeout : 60);
	if (init)
		init();
	test->fn();
	if (fini)
		fini();
	fflush(NULL);
	exit(0);
}

static bool run(const struct tsan_test *test)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		child(test);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (test->signal != 0)
		return WIFSIGNALED(status) && WTERMSIG(status) == test->signal;
	return WIFEXITED(status) && WEXITSTATUS(status) == test->exit_code;
}

int main(int argc, char *argv[])
{
	unsigned tested = 0;
	unsigned failing = 0;

	for (const struct tsan_test *t = tests; t; t = t->next) {
		if (!selected(t, argc, argv))
			continue;
		tested++;
		if (!run(t)) {
			fprintf(stderr, "[FAIL] %s::%s\n", t->suite, t->name);
			failing++;
		}
	}
	printf("[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0\n", tested,
	       tested - failing, failing);
	return failing != 0;
}
