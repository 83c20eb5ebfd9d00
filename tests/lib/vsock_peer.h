/* SPDX-License-Identifier: Apache-2.0 */
/* A process that offers the services of vsock_services.h on the host. */
#ifndef TEST_VSOCK_PEER_H
#define TEST_VSOCK_PEER_H

#include <sys/types.h>

/*
 * `path` is that of `--vsock uds=`. The services are there when it returns. The process, or
 * -errno.
 */
pid_t vsock_peer_start(const char *path);
void vsock_peer_stop(pid_t pid);

#endif
