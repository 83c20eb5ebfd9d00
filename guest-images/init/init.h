// SPDX-License-Identifier: Apache-2.0
/* The parts of init (PID 1), see README.md. Nothing here is fatal: an init that can still run its
 * command does so, and says on the console what went wrong. */
#ifndef MINIVM_INIT_H
#define MINIVM_INIT_H

#include <stdbool.h>
#include <sys/types.h>

/* One line on standard error: "init: " and the message. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* setup.c: the world before the command. */

/* /proc, /sys, /dev: what reading the command line and opening the console need. */
void setup_mark_start(void); /* tells the VMM that user space is there */
void setup_early_mounts(void);
/* The first line of @path without its newline; false if there is none. */
bool setup_read_line(const char *path, char *line, size_t size);
/* The rest: /dev/pts, /dev/shm, /run, a /tmp where the root is read-only, /sys/fs/cgroup, links. */
void setup_late_mounts(void);
/*
 * /dev/virtio-ports/NAME for the named ports, as udev has them. Waits until there are @count, for
 * the driver makes them on a work queue; at most for PORTS_WAIT_MS.
 */
void setup_ports(unsigned int count);
/* The device of a named port, if it is there by now. */
bool setup_find_port(const char *name, char *path, size_t size);
/*
 * Free pages are reported to the balloon in blocks of 64 KiB. The kernel itself starts with its
 * page blocks, 2 or 4 MiB, and reports only while it has 32 of them free.
 */
void setup_balloon(bool there);
void setup_hostname(const char *name);
void setup_loopback(void);
/*
 * Make standard input, output and error the console; @name is below /dev, or NULL for the last
 * one of the kernel's consoles. /dev/console itself cannot be a controlling terminal.
 */
void setup_console(const char *name);

/* watch.c: requests to shut down that come from the machine. */

/*
 * Start a process that ends with status 0 when COM1's DSR was seen to go low; with @dsr_driven it
 * counts as well when DSR is low from the start. Returns its PID or -1. Any other status: it
 * cannot watch and need not be started again.
 */
pid_t watch_dsr(bool dsr_driven);
/* Open the ACPI power buttons among /dev/input into @fds; returns how many. */
int watch_open_buttons(int *fds, int max);
/* True if the power button behind @fd was pressed since the last call. */
bool watch_button_pressed(int fd);

/* agent.c: the VMM says that this machine is a copy. */

/* Start a process that does what it is told (docs/agent.md). Returns its PID or -1. */
pid_t agent_start(void);

/* end.c: the way out. */

enum end_way { END_POWER_OFF, END_REBOOT };

/*
 * SIGTERM for all, wait up to @grace seconds, SIGKILL. Returns the wait status of @command if it
 * ended only now, else @status. @shell: the command is the interactive shell.
 */
int end_processes(unsigned int grace, pid_t command, bool shell, int status);
/* Write back, unmount, and end the machine with @exit_status. Does not return. */
void end_machine(enum end_way way, int exit_status) __attribute__((noreturn));

#endif
