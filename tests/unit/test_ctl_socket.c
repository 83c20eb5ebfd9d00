/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a control socket: the living keep it, what the dead left is replaced. */
#include <criterion/criterion.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "minivm/ctl.h"

static char dir[64], path[96], lock[128];

static void setup(void)
{
	strcpy(dir, "/tmp/minivm-test-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a.sock", dir);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	setenv("XDG_RUNTIME_DIR", dir, 1);
}

static void teardown(void)
{
	unlink(path);
	unlink(lock);
	rmdir(dir);
}

TestSuite(ctl_socket, .init = setup, .fini = teardown);

static bool exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

Test(ctl_socket, listen_and_leave)
{
	struct ctl_socket s;
	struct err err;
	struct stat st;

	cr_assert_eq(ctl_listen(path, &s, &err), 0, "%s", err.text);
	cr_assert_eq(lstat(path, &st), 0);
	cr_expect(S_ISSOCK(st.st_mode));
	cr_expect_eq(st.st_mode & 0777, 0600);
	cr_expect(ctl_alive(path));
	ctl_unlisten(&s);
	cr_expect_not(exists(path));
	cr_expect_not(exists(lock));
	cr_expect_not(ctl_alive(path));
	ctl_unlisten(&s);
}

Test(ctl_socket, taken)
{
	struct ctl_socket s, other;
	struct err err;

	cr_assert_eq(ctl_listen(path, &s, &err), 0);
	cr_expect_eq(ctl_listen(path, &other, &err), -EADDRINUSE);
	cr_expect(exists(path), "the living one's");
	ctl_unlisten(&s);
}

/* A process that listens and is killed: its socket stays behind. */
static void leave_behind(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct ctl_socket s;
		struct err err;

		if (ctl_listen(path, &s, &err))
			_exit(1);
		raise(SIGKILL);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status));
	cr_assert(exists(path));
}

Test(ctl_socket, stale_one_is_replaced)
{
	struct ctl_socket s;
	struct err err;

	leave_behind();
	cr_assert_eq(ctl_listen(path, &s, &err), 0, "%s", err.text);
	cr_expect(ctl_alive(path));
	ctl_unlisten(&s);
}

Test(ctl_socket, stale_one_is_removed)
{
	leave_behind();
	cr_expect_not(ctl_alive(path));
	cr_expect_not(exists(path));
	cr_expect_not(exists(lock));
}

Test(ctl_socket, what_is_no_socket_is_left_alone)
{
	struct ctl_socket s;
	struct err err;
	FILE *f = fopen(path, "we");

	fclose(f);
	cr_expect_eq(ctl_listen(path, &s, &err), -EEXIST);
	cr_expect(exists(path));
}

Test(ctl_socket, bad_places)
{
	char too_long[256];
	struct ctl_socket s;
	struct err err;

	memset(too_long, 'a', sizeof(too_long));
	memcpy(too_long, "/tmp/", 5);
	too_long[sizeof(too_long) - 1] = '\0';
	cr_expect_lt(ctl_listen(too_long, &s, &err), 0);
	cr_expect_eq(ctl_listen("/no/such/directory/x", &s, &err), -ENOENT);
	cr_expect_eq(s.fd, -1);
}

Test(ctl_socket, directory_of_names)
{
	char expected[96];
	struct err err;
	char *out;

	snprintf(expected, sizeof(expected), "%s/minivm", dir);
	cr_expect_eq(ctl_directory(false, &out, &err), -ENOENT);
	cr_assert_eq(ctl_directory(true, &out, &err), 0, "%s", err.text);
	cr_expect_str_eq(out, expected);
	free(out);
	cr_assert_eq(chmod(expected, 0777), 0);
	cr_expect_eq(ctl_directory(true, &out, &err), -EPERM, "others may write there");
	rmdir(expected);
}

/* A process that is stopped still has its socket: connections are taken by the kernel. */
Test(ctl_socket, a_question_is_not_waited_for_without_end, .timeout = 30)
{
	struct ctl_socket s;
	char *answer = NULL;
	struct err err;

	cr_assert_eq(ctl_listen(path, &s, &err), 0, "%s", err.text);
	cr_assert_eq(ctl_request(path, "GET", "/", NULL, NULL, &answer, &err), -ETIMEDOUT);
	cr_expect_not_null(strstr(err.text, "no answer"), "%s", err.text);
	cr_expect_null(answer);
	ctl_unlisten(&s);
}
