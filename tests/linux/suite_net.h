/* SPDX-License-Identifier: Apache-2.0 */
/* A network namespace of a case's own, with a tap in it and a process that serves and takes bytes.
 */
#ifndef LINUX_SUITE_NET_H
#define LINUX_SUITE_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "suite.h"

#define NET_TAP		"tap0"
#define NET_TAP_ADDRESS "192.0.2.1"
#define NET_GUEST	"192.0.2.2"

struct net {
	struct test *t;
	int old_ns;
	pid_t server, names;
};

/* False: the case has its verdict, or is skipped. net_leave() in any case. */
bool net_enter(struct net *n, struct test *t);
void net_leave(struct net *n);
/* How many bytes are served and taken. */
uint64_t net_bytes(const struct test *t);

#endif
