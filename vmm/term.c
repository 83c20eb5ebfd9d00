/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode of the terminal, and its end on every way out that a process can catch.
 *
 * State. Signal handlers and atexit() functions take no argument, so this file has the one piece of
 * global mutable state in minivm: which terminal it is and its two settings. They are written
 * before `active` is set and do not change while it is; `active` is atomic, because handlers run on
 * any thread at any time. Setting the same attributes twice is harmless, so nothing else is needed.
 *
 * Fatal signals: the handler gives the settings back, puts back the action that was there before us
 * and raises the signal again, so the process dies (and dumps core) as it would have. Stopping: the
 * handler for SIGTSTP gives the settings back and stops the process with the default action; after
 * SIGCONT raw mode returns, also after a SIGSTOP, which nobody can catch.
 *
 * Job control: a process in the background that sets a terminal's attributes is stopped by SIGTTOU,
 * and the settings are the shell's business then anyway. So nothing is set unless our process group
 * is in the foreground; `fg` sends SIGCONT, and raw mode comes (back) with that.
 *
 * System calls: ioctl (terminal), rt_sigaction, getpgrp, tgkill, rt_sigprocmask.
 */
#include "minivm/console.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
#define FATAL_SIGNALS (sizeof(fatal_signals) / sizeof(fatal_signals[0]))

static struct {
	atomic_bool active;
	bool handlers;
	int fd;
	struct termios saved;
	struct termios raw;
	struct sigaction fatal[FATAL_SIGNALS]; /* the actions before ours */
} term;

/* async-signal-safe, like the calls in it. A terminal that does not control us has no foreground.
 */
static void term_set(const struct termios *tio)
{
	int saved_errno = errno;
	pid_t foreground = tcgetpgrp(term.fd);

	if (foreground < 0 || foreground == getpgrp())
		tcsetattr(term.fd, TCSANOW, tio);
	errno = saved_errno;
}

void term_restore(void)
{
	if (atomic_exchange(&term.active, false))
		term_set(&term.saved);
}

static void on_fatal(int sig)
{
	term_restore();
	for (unsigned i = 0; i < FATAL_SIGNALS; i++)
		if (fatal_signals[i] == sig)
			sigaction(sig, &term.fatal[i], NULL);
	/* Blocked while we are in its handler: it strikes when we return. */
	raise(sig);
}

static void on_continue(int sig)
{
	(void)sig;
	if (atomic_load(&term.active))
		term_set(&term.raw);
}

static void on_stop(int sig)
{
	const struct sigaction dfl = {.sa_handler = SIG_DFL};
	struct sigaction ours;
	sigset_t stop, mask;
	int saved_errno = errno;

	sigemptyset(&stop);
	sigaddset(&stop, sig);
	if (atomic_load(&term.active))
		term_set(&term.saved);
	sigaction(sig, &dfl, &ours);
	raise(sig);
	pthread_sigmask(SIG_UNBLOCK, &stop, &mask); /* we stop here, and come back with SIGCONT */
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigaction(sig, &ours, NULL);
	if (atomic_load(&term.active))
		term_set(&term.raw);
	errno = saved_errno;
}

static void term_handlers(void)
{
	struct sigaction sa = {.sa_handler = on_fatal, .sa_flags = SA_ONSTACK};

	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < FATAL_SIGNALS; i++)
		sigaction(fatal_signals[i], &sa, &term.fatal[i]);
	sa.sa_flags = SA_RESTART;
	sa.sa_handler = on_continue;
	sigaction(SIGCONT, &sa, NULL);
	/* Raw mode returns after the handler is back: who sees the one can rely on the other. */
	sigaddset(&sa.sa_mask, SIGCONT);
	sa.sa_handler = on_stop;
	sigaction(SIGTSTP, &sa, NULL);
	atexit(term_restore);
	term.handlers = true;
}

int term_raw(int fd, bool *is_tty, struct err *err)
{
	struct termios saved;

	assert(!atomic_load(&term.active));
	*is_tty = false;
	if (tcgetattr(fd, &saved) < 0) {
		if (errno == EBADF)
			return err_sys(err, errno, "terminal: descriptor %d", fd);
		return 0; /* ENOTTY, and what else a descriptor that is no terminal answers */
	}
	*is_tty = true;
	term.fd = fd;
	term.saved = saved;
	term.raw = saved;
	cfmakeraw(&term.raw);
	term.raw.c_cc[VMIN] = 1;
	term.raw.c_cc[VTIME] = 0;
	if (!term.handlers)
		term_handlers();
	atomic_store(&term.active, true);
	term_set(&term.raw);
	return 0;
}
