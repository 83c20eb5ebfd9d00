// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	EXIT_PORT = 0xf4,
	KILL_SECONDS = 5, /* after SIGKILL: a process may hang in the kernel */
	STILL_MS = 3000,  /* without a byte of output leaving */
	MAX_MOUNTS = 128,
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Reap until no process is left (all of them are children of ours in the end) or the time is over.
 * SIGCHLD is blocked, so none is lost between waitpid() and sigtimedwait().
 */
static bool reap_all(int64_t until_ms, pid_t command, int *status)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		struct timespec wait;
		int64_t left;
		int st;
		pid_t pid = waitpid(-1, &st, WNOHANG);

		if (pid < 0)
			return true;
		if (pid > 0) {
			if (pid == command)
				*status = st;
			continue;
		}
		left = until_ms - now_ms();
		if (left <= 0)
			return false;
		wait.tv_sec = left / 1000;
		wait.tv_nsec = left % 1000 * 1000000;
		sigtimedwait(&child, NULL, &wait);
	}
}

int end_processes(unsigned int grace, pid_t command, bool shell, int status)
{
	kill(-1, SIGTERM);
	/*
	 * An interactive shell ignores SIGTERM, but not the loss of its terminal. Nobody else gets
	 * SIGHUP: it would arrive first, and a program that only handles SIGTERM would die of it.
	 */
	if (shell && command > 0)
		kill(command, SIGHUP);
	kill(-1, SIGCONT);
	if (reap_all(now_ms() + (int64_t)grace * 1000, command, &status))
		return status;
	kill(-1, SIGKILL);
	if (!reap_all(now_ms() + KILL_SECONDS * 1000, command, &status))
		complain("some processes could not be killed");
	return status;
}

/* What never has anything to write back, or is needed to the end. */
static bool is_virtual(const char *type)
{
	static const char *const types[] = {"proc",   "sysfs",	 "devtmpfs", "devpts", "tmpfs",
					    "rootfs", "cgroup2", "bpf",	     "mqueue", "debugfs"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (!strcmp(type, types[i]))
			return true;
	}
	return false;
}

static void unmount_all(void)
{
	char *paths[MAX_MOUNTS];
	struct mntent *m;
	bool root_writable = false;
	int n = 0;
	FILE *f = setmntent("/proc/self/mounts", "r");

	if (!f)
		return;
	while ((m = getmntent(f)) && n < MAX_MOUNTS) {
		if (is_virtual(m->mnt_type))
			continue;
		if (strcmp(m->mnt_dir, "/") != 0)
			paths[n++] = strdup(m->mnt_dir);
		else
			root_writable = hasmntopt(m, "rw");
	}
	endmntent(f);
	while (n-- > 0) {
		/* Inner mounts come after outer ones in the list. */
		if (paths[n] && umount(paths[n]) &&
		    mount(NULL, paths[n], NULL, MS_REMOUNT | MS_RDONLY, NULL))
			complain("%s: unmount: %s", paths[n], strerror(errno));
	}
	if (root_writable && mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL))
		complain("/: remount read-only: %s", strerror(errno));
}

/*
 * What was written last is still in the kernel's buffer and would be lost. Not tcdrain(): where
 * nobody takes the output it would wait for ever.
 */
static void drain_console(void)
{
	const struct timespec pause_1ms = {0, 1000000};
	int left, before = -1;
	int64_t until = 0;

	while (ioctl(STDOUT_FILENO, TIOCOUTQ, &left) == 0 && left > 0) {
		if (left != before)
			until = now_ms() + STILL_MS;
		else if (now_ms() >= until)
			return;
		before = left;
		nanosleep(&pause_1ms, NULL);
	}
}

void end_machine(enum end_way way, int exit_status)
{
	sync();
	unmount_all();
	drain_console();
	if (way == END_REBOOT) {
		reboot(RB_AUTOBOOT);
	} else {
		/* Under minivm the write does not return; elsewhere nobody listens. */
		if (ioperm(EXIT_PORT, 1, 1) == 0)
			outb((unsigned char)exit_status, EXIT_PORT);
		reboot(RB_POWER_OFF);
	}
	complain("the machine does not end: %s", strerror(errno));
	for (;;)
		pause();
}
