/* SPDX-License-Identifier: Apache-2.0 */
/* A process that offers the services of net_services.h at the other end of a network device. */
#ifndef TEST_NET_PEER_H
#define TEST_NET_PEER_H

#include <sys/types.h>

/* As passt would, at the socket `path`: one connection. The process, or -errno. */
pid_t net_peer_socket(const char *path);
/*
 * At a new tap interface `name`, which is gone afterwards. -errno, -EPERM and -ENOENT where taps
 * are not to be had.
 */
pid_t net_peer_tap(const char *name);
/*
 * The file of that tap, attached, and left open in programs that are started now. -errno. It is
 * closed before net_peer_stop().
 */
int net_peer_tap_file(const char *name);
void net_peer_stop(pid_t pid, const char *tap);

#endif
