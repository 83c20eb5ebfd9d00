/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control sockets: where they are, who has them, and the commands that talk to them.
 */
#ifndef MINIVM_CTL_H
#define MINIVM_CTL_H

#include <stdio.h>

#include "minivm/cli.h"
#include "minivm/err.h"

/* --- vmm/ctl_socket.c --- */

/*
 * The directory of named machines: $XDG_RUNTIME_DIR/minivm, else /run/user/UID/minivm, else
 * /tmp/minivm-UID. `make`: it is made (0700) if it is missing. Refused if others could write there.
 * malloc'ed.
 */
int ctl_directory(bool make, char **out, struct err *err);
/* The socket of a machine: malloc'ed. */
int ctl_socket_path(const char *name, bool make, char **out, struct err *err);

struct ctl_socket {
	char *path;
	char *lock_path;
	int fd;	     /* listening, non-blocking; -1: none */
	int lock_fd; /* holds the lock of lock_path as long as the machine is there */
};

/*
 * Listens at `path` (0600). What a machine that was killed has left there is replaced; -EADDRINUSE:
 * there is one, and it lives. Anything that is no socket is left alone: -EEXIST.
 */
int ctl_listen(const char *path, struct ctl_socket *out, struct err *err);
/* Removes the socket. Harmless on one that was never made (fd and lock_fd -1). */
void ctl_unlisten(struct ctl_socket *s);

/* Does a machine hold this socket? If not, what it left is removed. */
bool ctl_alive(const char *path);

/* --- vmm/ctl.c --- */

/* The command of `cli`: what it finds goes to `out`. */

int ctl_run(const struct cli_result *cli, FILE *out, struct err *err);

/* --- vmm/ctl_client.c --- */

/*
 * One request on a connection of its own. `json` NULL: no body. *answer: malloc'ed body, or NULL.
 * -ETIMEDOUT: a GET had no answer within 5 s. Other requests are waited for as long as they take.
 */
int ctl_request(const char *path, const char *method, const char *target, const char *json,
		int *fd_out, char **answer, struct err *err);

/* --- vmm/ctl_snapshot.c --- */

int ctl_snapshot(const char *name, const char *dir, struct err *err);

#endif
