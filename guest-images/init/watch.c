// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

enum {
	/*
	 * Between reading the line and waiting for its change a change could be missed, and a
	 * change of the terminal's settings turns modem status interrupts off until the next
	 * wait: so look again now and then.
	 */
	DSR_RECHECK_SECONDS = 10,
	MAX_INPUTS = 8,
};

static void on_alarm(int sig)
{
	(void)sig;
}

/* Returns the process's exit status: 0 for a request, 1 if it cannot watch. */
static int watch_dsr_process(bool dsr_driven)
{
	const struct itimerval recheck = {{DSR_RECHECK_SECONDS, 0}, {DSR_RECHECK_SECONDS, 0}};
	const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	bool was_high = dsr_driven;
	sigset_t none;
	int lines, fd;

	fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 1;
	/* A handler of our own for the interval timer only; the rest kills, as it should. */
	sigemptyset(&none);
	sigaction(SIGALRM, &action, NULL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setitimer(ITIMER_REAL, &recheck, NULL);
	for (;;) {
		if (ioctl(fd, TIOCMGET, &lines))
			return 1;
		if (lines & TIOCM_DSR)
			was_high = true;
		else if (was_high)
			return 0;
		if (ioctl(fd, TIOCMIWAIT, TIOCM_DSR) && errno != EINTR)
			return 1;
	}
}

pid_t watch_dsr(bool dsr_driven)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "init-dsr");
		setsid();
		_exit(watch_dsr_process(dsr_driven));
	}
	return pid;
}

static bool has_power_key(int fd)
{
	uint8_t keys[KEY_MAX / 8 + 1] = {0};

	if (ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) < 0)
		return false;
	return keys[KEY_POWER / 8] & (1 << KEY_POWER % 8);
}

int watch_open_buttons(int *fds, int max)
{
	char path[32];
	int n = 0;

	for (int i = 0; i < MAX_INPUTS && n < max; i++) {
		int fd;

		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			break; /* they are numbered without gaps */
		if (has_power_key(fd))
			fds[n++] = fd;
		else
			close(fd);
	}
	return n;
}

bool watch_button_pressed(int fd)
{
	struct input_event event;
	bool pressed = false;

	while (read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event)) {
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
			pressed = true;
	}
	return pressed;
}
