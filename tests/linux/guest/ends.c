/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to end: the process, init, the kernel. What comes of it is judged on the host. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#include "checks.h"

/* Where group_term() leaves its mark. */
#define MARK_PATH "/var/tmp/mark"

void group_print(struct checks *c, char *arg)
{
	(void)c;
	say("%s", arg);
}

void group_cmdline(struct checks *c, char *arg)
{
	char line[4096];
	const char *hit;
	size_t len = strlen(arg);

	read_text("/proc/cmdline", line, sizeof(line));
	for (hit = strstr(line, arg); hit; hit = strstr(hit + 1, arg)) {
		if ((hit == line || hit[-1] == ' ') && strchr(" \n", hit[len]))
			break;
	}
	check(c, hit != NULL, "a word of the command line", "no \"%s\" in: %s", arg, line);
}

void group_exit(struct checks *c, char *arg)
{
	(void)c;
	_exit((int)next_number(&arg));
}

void group_die(struct checks *c, char *arg)
{
	int sig = (int)next_number(&arg);

	signal(sig, SIG_DFL);
	kill(getpid(), sig);
	check(c, false, "death by signal", "signal %d did not kill", sig);
}

void drain(void)
{
	tcdrain(STDOUT_FILENO);
	sync();
}

void group_sysrq(struct checks *c, char *arg)
{
	int fd;

	drain();
	fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	check(c, fd >= 0 && write(fd, arg, 1) == 1, "sysrq", "cannot write /proc/sysrq-trigger");
	pause();
}

void group_reboot(struct checks *c, char *arg)
{
	(void)arg;
	drain();
	reboot(RB_AUTOBOOT);
	check(c, false, "reboot", "the system call returned");
}

void group_pid1(struct checks *c, char *arg)
{
	(void)c;
	kill(1, (int)next_number(&arg));
	for (;;)
		pause();
}

void group_wait(struct checks *c, char *arg)
{
	(void)c;
	(void)arg;
	say("waiting");
	for (;;)
		pause();
}

void group_term(struct checks *c, char *arg)
{
	int status = (int)next_number(&arg);
	sigset_t set;
	int sig, fd;

	(void)c;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN);
	say("waiting");
	sigwait(&set, &sig);
	/* Not synced: what init does on the way out must write it back. */
	fd = open(MARK_PATH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "mark\n", 5) != 5)
		say("no mark");
	say("terminated");
	_exit(status);
}

void group_hang(struct checks *c, char *arg)
{
	(void)c;
	(void)arg;
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_IGN);
	say("hanging");
	for (;;)
		pause();
}
