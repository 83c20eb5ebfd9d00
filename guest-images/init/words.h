// SPDX-License-Identifier: Apache-2.0
/*
 * What the kernel command line asks of init, and how a command's end becomes an exit status.
 * Pure functions over their arguments: no system calls, no globals, so that they can be tested on
 * any machine.
 */
#ifndef MINIVM_INIT_WORDS_H
#define MINIVM_INIT_WORDS_H

#include <stdbool.h>

enum {
	WORDS_DEFAULT_GRACE = 5, /* seconds from SIGTERM to SIGKILL */
	WORDS_MAX_GRACE = 3600,
	WORDS_MAX_PORTS = 64,
	EXIT_CANNOT_EXECUTE = 126, /* as a shell has them */
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL_BASE = 128,
};

/* The strings point into the buffer that words_parse() was given, or are NULL. */
struct words {
	char *exec;	    /* minivm.exec=PATH */
	char *sh;	    /* minivm.sh=COMMAND, for /bin/sh -c */
	char *hostname;	    /* minivm.hostname=NAME */
	char *console;	    /* minivm.console=TTY, a name below /dev */
	unsigned int grace; /* minivm.grace=SECONDS */
	unsigned int ports; /* minivm.ports=N: so many named virtio ports */
	bool agent;	    /* minivm.agent: there is a port for the agent */
	bool dsr;	    /* minivm.dsr: the VMM drives DSR on COM1 */
	bool balloon;	    /* minivm.balloon: there is one, which takes free pages */
	char *bad;	    /* the first minivm. word that is unknown or has a bad value */
	int args;	    /* words behind "--": the kernel puts these last into init's argv */
};

/*
 * Split @line, which is changed, as the kernel does: words are separated by white space, double
 * quotes keep white space, and "--" ends what is init's business. Words of others are skipped;
 * where a word stands twice the last one counts.
 */
void words_parse(struct words *w, char *line);

/* waitpid()'s status as a shell's: the exit status, or 128 + the signal's number. */
int words_exit_status(int wait_status);

/* The status for a command that execve() refused with @err. */
int words_exec_failure(int err);

#endif
