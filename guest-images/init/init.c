// SPDX-License-Identifier: Apache-2.0
/*
 * minivm's init: PID 1 of the embedded guest. Mounts, runs one command on the console, reaps what
 * is orphaned, and ends the machine with the command's status. README.md has the interfaces.
 */
#include "init.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_BUTTONS = 4, LINE_SIZE = 4096 };

/* Why the machine ends. */
enum request {
	REQUEST_NONE,
	REQUEST_COMMAND_ENDED,
	REQUEST_SHUTDOWN,  /* by the VMM: DSR, or the power button */
	REQUEST_POWER_OFF, /* by a program in the guest */
	REQUEST_REBOOT,
};

struct init {
	struct words words;
	char line[LINE_SIZE]; /* words points into it */
	char **argv;	      /* the command */
	bool shell;	      /* it is the interactive shell that nobody asked for */
	sigset_t signals;     /* blocked here, read from the signalfd */
	pid_t command;
	int status; /* as waitpid() gave it */
	pid_t dsr_watcher;
	pid_t agent;
	enum request request;
};

void complain(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* One write, so that lines of others do not mix in. */
	dprintf(2, "init: %s\n", text);
}

static void read_words(struct init *in)
{
	ssize_t n = 0;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		n = read(fd, in->line, sizeof(in->line) - 1);
		close(fd);
	}
	in->line[n > 0 ? n : 0] = '\0';
	words_parse(&in->words, in->line);
}

/*
 * Decide what to run: minivm.sh=, minivm.exec= with the words behind "--", these, or a shell. The
 * kernel hands over bare words that it does not know as well, in front of these; they are no
 * command (`noxsave` is such a word that the kernel itself looks at).
 */
static void choose_command(struct init *in, int argc, char **argv)
{
	int args = in->words.args < argc ? in->words.args : argc - 1;
	static char *sh_command[] = {NULL, NULL, NULL, NULL};
	static char *login_shell[] = {NULL, NULL};
	static char sh[] = "/bin/sh", dash_c[] = "-c";

	if (in->words.sh) {
		sh_command[0] = sh;
		sh_command[1] = dash_c;
		sh_command[2] = in->words.sh;
		in->argv = sh_command;
	} else if (in->words.exec) {
		in->argv = argv + argc - args - 1;
		in->argv[0] = in->words.exec;
	} else if (args > 0) {
		in->argv = argv + argc - args;
	} else {
		login_shell[0] = sh;
		in->argv = login_shell;
		in->shell = true;
	}
}

static void set_environment(void)
{
	/* The kernel gives HOME=/ and TERM=linux; words NAME=VALUE of its command line win. */
	const char *home = getenv("HOME");

	if (!home || !strcmp(home, "/"))
		setenv("HOME", "/root", 1);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
	setenv("USER", "root", 0);
	setenv("LOGNAME", "root", 0);
	setenv("SHELL", "/bin/sh", 0);
}

/*
 * In the child. It waits until the terminal is its own (the pipe closes): a shell that finds
 * another process group in the foreground would stop.
 */
static void __attribute__((noreturn)) run_command(const struct init *in, const int *terminal)
{
	char *const *argv = in->argv;
	char nothing;

	close(terminal[1]);
	(void)!read(terminal[0], &nothing, 1);
	sigprocmask(SIG_UNBLOCK, &in->signals, NULL);
	set_environment();
	if (chdir(getenv("HOME")))
		chdir("/");
	if (in->shell)
		execl(argv[0], "-sh", (char *)NULL); /* the dash: a login shell */
	else
		execvp(argv[0], argv);
	complain("%s: %s", argv[0], strerror(errno));
	_exit(words_exec_failure(errno));
}

/*
 * The controlling terminal is init's and the command a process group in its foreground, not a
 * session leader: when one of those ends, the kernel hangs the terminal up and throws away what it
 * has not sent yet. SIGINT gets through for a moment, and so is lost (there is no handler, and init
 * does not die of it): Ctrl-C must not look like Ctrl-Alt-Del before the command is in place.
 */
static void start_command(struct init *in)
{
	int terminal[2] = {-1, -1};
	sigset_t interrupt;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_UNBLOCK, &interrupt, NULL);
	setsid();
	ioctl(0, TIOCSCTTY, 1);
	in->command = pipe2(terminal, O_CLOEXEC) == 0 ? fork() : -1;
	if (in->command == 0)
		run_command(in, terminal);
	if (in->command < 0) {
		complain("fork: %s", strerror(errno));
		in->status = EXIT_CANNOT_EXECUTE << 8;
		in->request = REQUEST_COMMAND_ENDED;
	} else {
		setpgid(in->command, in->command);
		tcsetpgrp(0, in->command);
	}
	sigprocmask(SIG_BLOCK, &in->signals, NULL);
	close(terminal[0]);
	close(terminal[1]);
}

static void reap(struct init *in)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == in->command) {
			in->command = 0;
			in->status = status;
			in->request = REQUEST_COMMAND_ENDED;
		} else if (pid == in->dsr_watcher) {
			if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
				in->request = REQUEST_SHUTDOWN;
			/* A command may kill all that it sees; it must not lose us the request. */
			in->dsr_watcher = WIFSIGNALED(status) ? watch_dsr(in->words.dsr) : 0;
		} else if (pid == in->agent) {
			in->agent = WIFSIGNALED(status) ? agent_start() : 0;
		}
	}
}

static void take_signal(struct init *in, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGCHLD:
		reap(in);
		break;
	case SIGUSR1: /* halt */
	case SIGUSR2: /* poweroff */
		in->request = REQUEST_POWER_OFF;
		break;
	case SIGTERM: /* reboot */
	case SIGINT:  /* Ctrl-Alt-Del */
		in->request = REQUEST_REBOOT;
		break;
	}
}

static void wait_for_request(struct init *in)
{
	struct pollfd fds[1 + MAX_BUTTONS];
	int buttons[MAX_BUTTONS];
	int n = watch_open_buttons(buttons, MAX_BUTTONS);

	fds[0].fd = signalfd(-1, &in->signals, SFD_CLOEXEC);
	fds[0].events = POLLIN;
	for (int i = 0; i < n; i++) {
		fds[i + 1].fd = buttons[i];
		fds[i + 1].events = POLLIN;
	}
	while (in->request == REQUEST_NONE) {
		if (poll(fds, (nfds_t)n + 1, -1) < 0)
			continue;
		if (fds[0].revents)
			take_signal(in, fds[0].fd);
		for (int i = 0; i < n; i++) {
			if (fds[i + 1].revents && watch_button_pressed(fds[i + 1].fd))
				in->request = REQUEST_SHUTDOWN;
		}
	}
}

/* A command that was asked to stop has the last word on its status; a shell left alone has not. */
static int final_status(const struct init *in)
{
	switch (in->request) {
	case REQUEST_COMMAND_ENDED:
		return words_exit_status(in->status);
	case REQUEST_SHUTDOWN:
		return in->shell ? 0 : words_exit_status(in->status);
	default:
		return 0;
	}
}

static void block_signals(struct init *in)
{
	static const int taken[] = {SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM, SIGINT};

	sigemptyset(&in->signals);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(&in->signals, taken[i]);
	sigprocmask(SIG_BLOCK, &in->signals, NULL);
}

int main(int argc, char **argv)
{
	static struct init in;

	if (getpid() != 1) {
		complain("this is the first process of a machine, not a command");
		return 1;
	}
	setup_mark_start();
	block_signals(&in);
	setup_early_mounts();
	read_words(&in);
	setup_console(in.words.console);
	setup_late_mounts();
	setup_ports(in.words.ports);
	setup_balloon(in.words.balloon);
	setup_hostname(in.words.hostname);
	setup_loopback();
	if (in.words.bad)
		complain("minivm.%s: unknown, or its value is wrong",
			 in.words.bad + strlen("minivm."));
	choose_command(&in, argc, argv);
	start_command(&in);
	in.dsr_watcher = watch_dsr(in.words.dsr);
	if (in.words.agent)
		in.agent = agent_start();
	wait_for_request(&in);
	in.status = end_processes(in.words.grace, in.command, in.shell, in.status);
	end_machine(in.request == REQUEST_REBOOT ? END_REBOOT : END_POWER_OFF, final_status(&in));
}
