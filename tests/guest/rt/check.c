/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of test cases. The first failed expectation of a case is what gets reported. */
#include "cpu.h"
#include "rt.h"
#include "time.h"
#include "x86.h"

static struct {
	const char *suite;
	const struct test_case *now;
	bool failed;
	bool skipped;
	unsigned passed_count;
	unsigned failed_count;
} run;

static const char *base_name(const char *path)
{
	const char *base = path;

	for (; *path; path++) {
		if (*path == '/')
			base = path + 1;
	}
	return base;
}

static bool first_failure(void)
{
	/* several processors may find fault at once */
	return !__atomic_exchange_n(&run.failed, true, __ATOMIC_SEQ_CST);
}

void check_fail(const char *file, int line, const char *what)
{
	if (first_failure())
		print("not ok - %s.%s: %s:%d: %s\n", run.suite, run.now->name, base_name(file),
		      line, what);
}

void check_fail_number(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
	if (first_failure())
		print("not ok - %s.%s: %s:%d: %s is 0x%lx, want 0x%lx\n", run.suite, run.now->name,
		      base_name(file), line, what, got, want);
}

void check_skip(const char *why)
{
	run.skipped = true;
	print("ok - %s.%s # skipped: %s\n", run.suite, run.now->name, why);
}

bool check_failed(void)
{
	return run.failed;
}

static long in_ring3(void *arg)
{
	const struct test_case *c = arg;

	c->fn();
	return 0;
}

static void run_case(const struct test_case *c)
{
	uint64_t start = rdtsc();

	run.now = c;
	run.failed = run.skipped = false;
	dma_reset();
	if (c->ring == 3)
		run_user(in_ring3, (void *)(uintptr_t)c);
	else
		c->fn();
	irq_disable();
	if (run.failed)
		run.failed_count++;
	else
		run.passed_count++;
	if (cmdline_has("times"))
		print("# %s.%s: %lu us\n", run.suite, c->name, tsc_to_us(rdtsc() - start));
	if (!run.failed && !run.skipped)
		print("ok - %s.%s\n", run.suite, c->name);
}

static bool selected(const char *name)
{
	const char *only = cmdline_word("case", 0);
	size_t len = strlen(name);

	return !only || (!memcmp(only, name, len) && (!only[len] || only[len] == ' '));
}

int run_cases(const char *suite, const struct test_case *cases, unsigned count)
{
	run.suite = suite;
	for (unsigned i = 0; i < count; i++) {
		if (selected(cases[i].name))
			run_case(&cases[i]);
	}
	print("done %u %u\n", run.passed_count, run.failed_count);
	return run.failed_count ? 1 : 0;
}
