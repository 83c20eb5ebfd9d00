/* SPDX-License-Identifier: Apache-2.0 */
/* A listening Unix stream socket at a path of the user's, and its part in an event loop. */
#ifndef MINIVM_UNIX_LISTENER_H
#define MINIVM_UNIX_LISTENER_H

#include <sys/types.h>
#include <sys/un.h>

#include "minivm/err.h"
#include "minivm/loop.h"

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

/*
 * A listening socket on a loop. All calls on the loop's thread, or while no thread runs the loop;
 * the descriptor stays its opener's. Harmless when it was zero-initialised and never started.
 */
struct unix_acceptor {
	struct loop *loop;
	struct loop_source source;
	struct loop_timer retry;
	bool held;
};

/* `fn` is called when a peer is there; it calls unix_accept(). */
int unix_acceptor_start(struct unix_acceptor *a, struct loop *loop, int fd, loop_event_fn *fn,
			void *opaque, struct err *err);
/* Goes on on another loop. */
int unix_acceptor_move(struct unix_acceptor *a, struct loop *loop, struct err *err);
void unix_acceptor_stop(struct unix_acceptor *a);

/* The peer's descriptor, non-blocking; -EAGAIN: it is gone again; else what unix_accept_later() is
 * for, which has been called. */
int unix_accept(struct unix_acceptor *a);
/* The peer cannot be let in now (no descriptors: the guest may have them all). It is tried again in
 * 100 ms, so that it does not keep the loop busy meanwhile. */
void unix_accept_later(struct unix_acceptor *a);

/* Further peers wait in the backlog, until the release. */
void unix_acceptor_hold(struct unix_acceptor *a);
void unix_acceptor_release(struct unix_acceptor *a);

#endif
