/* SPDX-License-Identifier: Apache-2.0 */
/* Raw mode: it comes back on every way out, and while the process is stopped. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "minivm/console.h"

struct pty {
	int master;
	int slave;
};

static void pty_open(struct pty *p)
{
	p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert(p->master >= 0);
	cr_assert_eq(grantpt(p->master), 0);
	cr_assert_eq(unlockpt(p->master), 0);
	p->slave = open(ptsname(p->master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert(p->slave >= 0);
}

static bool is_raw(int fd)
{
	struct termios tio;

	cr_assert_eq(tcgetattr(fd, &tio), 0);
	return !(tio.c_lflag & (ICANON | ECHO | ISIG)) && !(tio.c_oflag & OPOST);
}

/* Waits until the terminal is (not) raw. */
static bool becomes_raw(int fd, bool raw)
{
	for (int i = 0; i < 3000 && is_raw(fd) != raw; i++)
		usleep(1000);
	return is_raw(fd) == raw;
}

static void sigterm_of_the_owner(int sig)
{
	(void)sig;
	term_restore();
	_exit(123);
}

/* The ways out. Each runs in a child that has made the terminal raw. */
static void by_exit(void)
{
	exit(7);
}

static void by_restore(void)
{
	term_restore();
	term_restore();
	_exit(7);
}

static void by_sigterm(void)
{
	signal(SIGTERM, sigterm_of_the_owner);
	raise(SIGTERM);
}

static void by_abort(void)
{
	abort();
}

static void by_segv(void)
{
	volatile int *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*page = 1;
}

static void by_kill_segv(void)
{
	kill(getpid(), SIGSEGV);
	pause();
}

static void by_fpe(void)
{
	raise(SIGFPE);
}

/* Makes the terminal the child's own, in the foreground if asked for. */
static void take_terminal(int slave, bool control)
{
	const struct rlimit no_core = {0, 0};

	setrlimit(RLIMIT_CORE, &no_core);
	if (control && (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0))
		_exit(99);
}

static pid_t start(int slave, bool control, void (*way_out)(void))
{
	pid_t pid = fork();
	bool is_tty = false;
	struct err err = {0};

	if (pid != 0)
		return pid;
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL); /* the test runner has handlers of its own */
	take_terminal(slave, control);
	if (term_raw(slave, &is_tty, &err) < 0 || !is_tty || !is_raw(slave))
		_exit(98);
	way_out();
	_exit(97);
}

static void restored_after(void (*way_out)(void), int signal_number, int status)
{
	for (int control = 0; control < 2; control++) {
		struct pty p;
		int st;
		pid_t pid;

		pty_open(&p);
		cr_assert(!is_raw(p.slave));
		pid = start(p.slave, control, way_out);
		cr_assert_eq(waitpid(pid, &st, 0), pid);
		if (signal_number)
			cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == signal_number, "0x%x", st);
		else
			cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == status, "0x%x", st);
		cr_assert(!is_raw(p.master));
		close(p.master);
		close(p.slave);
	}
}

Test(term, restored_by_exit)
{
	restored_after(by_exit, 0, 7);
}

Test(term, restored_by_term_restore_twice)
{
	restored_after(by_restore, 0, 7);
}

Test(term, restored_by_the_owners_sigterm_handler)
{
	restored_after(by_sigterm, 0, 123);
}

Test(term, restored_by_abort)
{
	restored_after(by_abort, SIGABRT, 0);
}

Test(term, restored_by_a_fault)
{
	restored_after(by_segv, SIGSEGV, 0);
}

Test(term, restored_by_a_fault_that_was_sent)
{
	restored_after(by_kill_segv, SIGSEGV, 0);
}

Test(term, restored_by_an_arithmetic_fault)
{
	restored_after(by_fpe, SIGFPE, 0);
}

Test(term, what_is_no_terminal_is_left_alone)
{
	bool is_tty = true;
	struct err err = {0};
	int fds[2];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(term_raw(fds[0], &is_tty, &err), 0);
	cr_assert(!is_tty);
	is_tty = true;
	cr_assert_eq(term_raw(null, &is_tty, &err), 0);
	cr_assert(!is_tty);
	cr_assert_eq(term_raw(987, &is_tty, &err), -EBADF);
	term_restore();
}

/* --- stopping and job control --- */

static void stay(void)
{
	for (;;)
		pause();
}

/* A job of a shell, in a process group of its own. */
static void job_main(int slave, bool foreground)
{
	struct err err = {0};
	bool is_tty;

	setpgid(0, 0);
	if (foreground)
		tcsetpgrp(slave, getpid());
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);
	if (!foreground)
		usleep(20000); /* the shell has the terminal */
	if (term_raw(slave, &is_tty, &err) < 0 || !is_tty)
		_exit(98);
	stay();
}

static bool stops(pid_t job)
{
	int st;

	return waitpid(job, &st, WUNTRACED) == job && WIFSTOPPED(st);
}

static int stop_and_continue(int slave, pid_t job, int sig)
{
	if (!becomes_raw(slave, true))
		return 1;
	kill(job, sig);
	if (!stops(job))
		return 2;
	if (sig == SIGTSTP && is_raw(slave))
		return 3;
	/* What the shell does: takes the terminal, uses it cooked, gives it back. */
	tcsetpgrp(slave, getpgrp());
	if (sig == SIGSTOP) {
		struct termios tio;

		tcgetattr(slave, &tio);
		tio.c_lflag |= ICANON | ECHO | ISIG;
		tio.c_oflag |= OPOST;
		tcsetattr(slave, TCSANOW, &tio);
	}
	/* In the background it runs on and leaves the terminal alone. */
	kill(job, SIGCONT);
	usleep(50000);
	if (is_raw(slave))
		return 4;
	if (kill(job, 0) < 0 || waitpid(job, NULL, WUNTRACED | WNOHANG) != 0)
		return 5;
	tcsetpgrp(slave, job);
	kill(job, SIGCONT);
	return becomes_raw(slave, true) ? 0 : 6;
}

static int stop_by_tstp(int slave, pid_t job)
{
	int failed = stop_and_continue(slave, job, SIGTSTP);

	/* Once more: the handler is in place again. */
	return failed ? failed : 10 * stop_and_continue(slave, job, SIGTSTP);
}

static int stop_by_stop(int slave, pid_t job)
{
	return stop_and_continue(slave, job, SIGSTOP);
}

static int start_in_background(int slave, pid_t job)
{
	usleep(100000);
	if (is_raw(slave))
		return 1;
	if (waitpid(job, NULL, WUNTRACED | WNOHANG) != 0)
		return 2;
	tcsetpgrp(slave, job);
	kill(job, SIGCONT);
	return becomes_raw(slave, true) ? 0 : 3;
}

/*
 * A little shell: a session leader with the terminal (a stop signal is ignored in an orphaned
 * process group, so the job needs it). Its exit status is the number of the first step that went
 * wrong.
 */
static void with_shell(int (*steps)(int slave, pid_t job), bool foreground)
{
	struct pty p;
	int st;
	pid_t pid;

	pty_open(&p);
	pid = fork();
	if (pid == 0) {
		pid_t job;
		int failed;

		signal(SIGTTOU, SIG_IGN);
		take_terminal(p.slave, true);
		job = fork();
		if (job == 0)
			job_main(p.slave, foreground);
		setpgid(job, job);
		failed = steps(p.slave, job);
		kill(job, SIGKILL);
		_exit(failed);
	}
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert(WIFEXITED(st));
	cr_assert_eq(WEXITSTATUS(st), 0, "step %d failed", WEXITSTATUS(st));
}

Test(term, sigtstp_gives_the_terminal_back_until_sigcont, .timeout = 20)
{
	with_shell(stop_by_tstp, true);
}

Test(term, sigstop_is_healed_by_sigcont, .timeout = 20)
{
	with_shell(stop_by_stop, true);
}

Test(term, a_background_job_leaves_the_terminal_alone, .timeout = 20)
{
	with_shell(start_in_background, false);
}
