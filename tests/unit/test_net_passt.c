/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a passt beside us, with a script in its place: what it is given, and how it and we
 * end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../../vmm/net_passt.h"
#include "pipes.h"

/* Of somebody who started us and left it open. */
#define INHERITED 77

/* The script's standard input and output are not ours: it tells through its end of the socket. */
#define SOCKET_OF_SCRIPT                                                                           \
	"while [ $# -gt 0 ]; do [ \"$1\" = --fd ] && fd=$2; all=\"$all $1\"; shift; done\n"

static char dir[64], file[96];
static const struct net_config plain = {.kind = NET_USER};

static void write_script(const char *text, mode_t mode)
{
	FILE *f = fopen(file, "we");

	cr_assert(f && fprintf(f, "#!/bin/bash\n%s", text) > 0);
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(chmod(file, mode), 0);
}

static void setup(void)
{
	char path[128];

	strcpy(dir, "/tmp/minivm-test-XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/passt", dir);
	/* The first one that is found is ours. */
	snprintf(path, sizeof(path), "%s:/usr/bin:/bin", dir);
	setenv("PATH", path, 1);
}

static void teardown(void)
{
	unlink(file);
	rmdir(dir);
}

TestSuite(net_passt, .init = setup, .fini = teardown);

static pid_t start(const struct net_config *config, const char *script, int *fd)
{
	struct err err = {0};
	pid_t pid = -1;

	write_script(script, 0755);
	cr_assert_eq(passt_start(config, fd, &pid, &err), 0, "%s", err.text);
	cr_assert_gt(pid, 0);
	return pid;
}

/* All that the script says before it ends. */
static const char *said(const struct net_config *config, const char *script)
{
	static char text[2048];
	int fd;
	pid_t pid = start(config, script, &fd);

	text[pipe_read(fd, text, sizeof(text) - 1, 10000)] = '\0';
	close(fd);
	passt_wait(pid);
	return text;
}

Test(net_passt, arguments)
{
	static const struct net_config config = {
	    .kind = NET_USER,
	    .mtu = 9000,
	    .forward_count = 2,
	    .forward = {{.address = "127.0.0.1", .host_port = 8080, .guest_port = 80},
			{.udp = true, .address = "::", .host_port = 53, .guest_port = 5353}},
	};
	static const char *const words[] = {
	    " --foreground ",
	    " --no-map-gw ",
	    " --mtu 9000 ",
	    " --tcp-ports 127.0.0.1/8080:80 ",
	    " --udp-ports ::/53:5353 ",
	};
	const char *all = said(&config, SOCKET_OF_SCRIPT "echo \"$all \" >&$fd\n");

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_expect(strstr(all, words[i]), "no \"%s\" in \"%s\"", words[i], all);
	all = said(&plain, SOCKET_OF_SCRIPT "echo \"$all \" >&$fd\n");
	cr_expect_null(strstr(all, "--mtu"), "%s", all);
	cr_expect_null(strstr(all, "-ports"), "%s", all);
}

/* What our starter had open is ours: a tap's file would live on in passt, and with it the tap. */
Test(net_passt, inherits_its_socket_alone)
{
	static const char script[] =
	    SOCKET_OF_SCRIPT "[ -e /proc/$$/fd/$fd ] && echo socket >&$fd\n"
			     "[ -e /proc/$$/fd/77 ] && echo 77 >&$fd\n";
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert_eq(dup2(null, INHERITED), INHERITED);
	cr_expect_str_eq(said(&plain, script), "socket\n");
	close(INHERITED);
	close(null);
}

/* Has it ended by itself, within ten seconds? */
static bool ends(pid_t pid)
{
	int status;

	for (unsigned i = 0; i < 10000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) || WTERMSIG(status) == SIGTERM;
		usleep(1000);
	}
	return false;
}

static bool is_gone(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* It reads until there is nobody who could write. */
#define UNTIL_THE_END SOCKET_OF_SCRIPT "exec cat <&$fd >/dev/null\n"

Test(net_passt, ends_with_the_socket)
{
	int fd;
	pid_t pid = start(&plain, UNTIL_THE_END, &fd);

	cr_expect_eq(waitpid(pid, NULL, WNOHANG), 0, "not before");
	close(fd);
	cr_expect(ends(pid));
}

/* Nor does it hold us up for ever: it is killed. */
Test(net_passt, one_that_does_not_end)
{
	int fd;
	pid_t pid = start(&plain, "trap '' TERM\nexec sleep 1000\n", &fd);

	close(fd);
	passt_wait(pid);
	cr_expect(is_gone(pid));
}

Test(net_passt, one_that_has_ended)
{
	char byte;
	int fd;
	pid_t pid = start(&plain, "exit 1\n", &fd);

	cr_expect_eq(read(fd, &byte, 1), 0, "the link's end");
	close(fd);
	passt_wait(pid);
	cr_expect(is_gone(pid));
}

/* Starts one, tells its pid, and waits for death. */
static _Noreturn void starter(int report)
{
	struct err err;
	pid_t pid;
	int fd;

	if (passt_start(&plain, &fd, &pid, &err) == 0)
		(void)!write(report, &pid, sizeof(pid));
	for (;;)
		pause();
}

/* We are killed: nobody waits for it, nobody closes the socket, and it ends all the same. */
Test(net_passt, our_death_is_its_end)
{
	int report[2];
	pid_t child, pid = -1;

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	cr_assert_eq(pipe2(report, O_CLOEXEC), 0);
	write_script(UNTIL_THE_END, 0755);
	child = fork();
	if (child == 0)
		starter(report[1]);
	cr_assert_eq(pipe_read(report[0], (char *)&pid, sizeof(pid), 10000), sizeof(pid));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	cr_expect(ends(pid));
	close(report[0]);
	close(report[1]);
}

static void expect_refused(int code, const char *words)
{
	struct err err = {0};
	pid_t pid;
	int fd;

	cr_expect_eq(passt_start(&plain, &fd, &pid, &err), code, "%s", err.text);
	cr_expect(strstr(err.text, words), "%s", err.text);
	cr_expect(waitpid(-1, NULL, WNOHANG) < 0, "no process is left behind");
}

Test(net_passt, absent)
{
	setenv("PATH", dir, 1);
	expect_refused(-ENOENT, "apt install passt");
}

Test(net_passt, not_executable)
{
	setenv("PATH", dir, 1);
	write_script("", 0644);
	expect_refused(-EACCES, "passt: Permission denied");
}
