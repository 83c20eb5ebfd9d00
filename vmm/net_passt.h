/* SPDX-License-Identifier: Apache-2.0 */
/* A passt of our own: user-mode networking (vmm/net_passt.c). */
#ifndef MINIVM_NET_PASST_H
#define MINIVM_NET_PASST_H

#include <sys/types.h>

#include "minivm/config.h"
#include "minivm/err.h"

/*
 * Starts passt at the other end of a new stream socket; *fd is ours, *pid its process. The socket's
 * end is its end. -ENOENT where passt is not installed.
 */
int passt_start(const struct net_config *config, int *fd, pid_t *pid, struct err *err);

/* Waits for it; our end of the socket is closed. It is killed if that takes more than a second. */
void passt_wait(pid_t pid);

#endif
