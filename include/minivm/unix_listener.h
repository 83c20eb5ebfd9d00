/* SPDX-License-Identifier: Apache-2.0 */
/* A listening Unix stream socket at a path of the user's. */
#ifndef MINIVM_UNIX_LISTENER_H
#define MINIVM_UNIX_LISTENER_H

#include <sys/types.h>
#include <sys/un.h>

#include "minivm/err.h"

struct unix_listener {
	int fd; /* non-blocking; -1: not open */
	dev_t dev;
	ino_t ino;
	struct sockaddr_un addr;
};

/* Can unix_listen() do it, by what can be told without changing anything? `what` begins the line.
 */
int unix_listen_check(const char *what, const char *path, struct err *err);

/*
 * Listens there; others than the user cannot connect (mode 0600). A socket that nobody listens on,
 * left behind by somebody who crashed, is replaced; anything else that is there is an error.
 */
int unix_listen(const char *what, const char *path, int backlog, struct unix_listener *out,
		struct err *err);

/* Removes the socket's file too, if it is still ours. Harmless with fd -1. */
void unix_unlisten(struct unix_listener *l);

#endif
