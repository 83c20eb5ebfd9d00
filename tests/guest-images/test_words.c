// SPDX-License-Identifier: Apache-2.0
/* init's reading of the kernel command line, and its exit statuses (guest-images/init/words.h). */
#include "words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static int failed, passed;

void check(bool ok, const char *what, const char *line)
{
	if (ok) {
		passed++;
		return;
	}
	failed++;
	fprintf(stderr, "test_words: [%s]: %s\n", line, what);
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static const struct {
	const char *line;
	const char *exec, *sh, *hostname, *console, *bad;
	unsigned int grace;
	bool dsr;
	bool agent;
	bool balloon;
	unsigned int ports;
	int args;
} cases[] = {
    {"", .grace = 5},
    {" \t\n", .grace = 5},
    {"quiet ro root=/dev/vda", .grace = 5},
    {"minivm.exec=/bin/true", .exec = "/bin/true", .grace = 5},
    {"a minivm.exec=/x b\n", .exec = "/x", .grace = 5},
    {"minivm.exec=/x minivm.exec=/y", .exec = "/y", .grace = 5},
    {"minivm.sh=\"echo a  b\" ro", .sh = "echo a  b", .grace = 5},
    {"\"minivm.sh=echo a\"", .sh = "echo a", .grace = 5},
    {"minivm.sh=\"a=b c=d\"", .sh = "a=b c=d", .grace = 5},
    {"minivm.sh=x=\"y z\" w", .sh = "x=\"y z\"", .grace = 5},
    {"minivm.sh=\"never closed", .sh = "never closed", .grace = 5},
    {"minivm.sh=\"\"", .bad = "minivm.sh", .grace = 5},
    {"minivm.sh=\"", .bad = "minivm.sh", .grace = 5},
    {"\"", .grace = 5},
    {"minivm.hostname=h minivm.console=ttyS1", .hostname = "h", .console = "ttyS1", .grace = 5},
    {"minivm.grace=0", .grace = 0},
    {"minivm.grace=3600", .grace = 3600},
    {"minivm.grace=3601", .bad = "minivm.grace", .grace = 5},
    {"minivm.grace=99999999999999999999", .bad = "minivm.grace", .grace = 5},
    {"minivm.grace=-1", .bad = "minivm.grace", .grace = 5},
    {"minivm.grace=5s", .bad = "minivm.grace", .grace = 5},
    {"minivm.grace=", .bad = "minivm.grace", .grace = 5},
    {"minivm.grace", .bad = "minivm.grace", .grace = 5},
    {"minivm.dsr", .dsr = true, .grace = 5},
    {"minivm.agent", .agent = true, .grace = 5},
    {"minivm.agent=1", .bad = "minivm.agent", .grace = 5},
    {"minivm.ports=3", .ports = 3, .grace = 5},
    {"minivm.ports=65", .bad = "minivm.ports", .grace = 5},
    {"minivm.ports=x", .bad = "minivm.ports", .grace = 5},
    {"minivm.balloon", .balloon = true, .grace = 5},
    {"minivm.balloon=1", .bad = "minivm.balloon", .grace = 5},
    {"minivm.dsr=1", .bad = "minivm.dsr", .grace = 5},
    {"minivm.nonsense=1 minivm.other", .bad = "minivm.nonsense", .grace = 5},
    {"minivm. minivm", .bad = "minivm.", .grace = 5},
    {"Xminivm.exec=/x", .grace = 5},
    {"minivm.exec=/a -- minivm.exec=/b minivm.dsr", .exec = "/a", .grace = 5, .args = 2},
    {"noxsave minivm.exec=/a -- b \"c d\" e=f --", .exec = "/a", .grace = 5, .args = 4},
    {"noxsave -- ", .grace = 5},
    {"\"--\" minivm.dsr", .grace = 5, .args = 1},
    {"--=x minivm.dsr", .dsr = true, .grace = 5},
};

static void test_parse(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[128];
		struct words w;

		snprintf(line, sizeof(line), "%s", cases[i].line);
		words_parse(&w, line);
		check(same(w.exec, cases[i].exec), "exec", cases[i].line);
		check(same(w.sh, cases[i].sh), "sh", cases[i].line);
		check(same(w.hostname, cases[i].hostname), "hostname", cases[i].line);
		check(same(w.console, cases[i].console), "console", cases[i].line);
		check(same(w.bad, cases[i].bad), "bad", cases[i].line);
		check(w.grace == cases[i].grace, "grace", cases[i].line);
		check(w.dsr == cases[i].dsr, "dsr", cases[i].line);
		check(w.agent == cases[i].agent, "agent", cases[i].line);
		check(w.balloon == cases[i].balloon, "balloon", cases[i].line);
		check(w.ports == cases[i].ports, "ports", cases[i].line);
		check(w.args == cases[i].args, "args", cases[i].line);
	}
}

static void test_status(void)
{
	check(words_exit_status(0) == 0, "status", "exit 0");
	check(words_exit_status(7 << 8) == 7, "status", "exit 7");
	check(words_exit_status(255 << 8) == 255, "status", "exit 255");
	check(words_exit_status(9) == 137, "status", "SIGKILL");
	check(words_exit_status(11 | 0x80) == 139, "status", "SIGSEGV with a core");
	check(words_exec_failure(ENOENT) == 127, "exec failure", "ENOENT");
	check(words_exec_failure(ENOTDIR) == 127, "exec failure", "ENOTDIR");
	check(words_exec_failure(EACCES) == 126, "exec failure", "EACCES");
	check(words_exec_failure(ENOEXEC) == 126, "exec failure", "ENOEXEC");
}

int main(void)
{
	test_parse();
	test_status();
	test_news();
	printf("%d passed, %d failed, 0 skipped\n", passed, failed);
	return failed != 0;
}
