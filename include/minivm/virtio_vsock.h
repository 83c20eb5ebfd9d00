/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio socket device (VIRTIO 1.2 §5.10, stream sockets), bridged to Unix sockets of the host.
 *
 * Host to guest: a process connects to `path`, writes "CONNECT <port>\n" and, once the guest's
 * program has accepted, reads "OK <port>\n" (the port that this end was given); from there on the
 * bytes are the connection's. A connection that the guest refuses is closed without a word.
 *
 * Guest to host: a connection to CID 2, port P, goes to the Unix socket `path`_P; where nobody
 * listens there, the guest's connection is refused.
 *
 * All of it lives on one event loop, the device's. Bounded: connections, and bytes that the host
 * has not taken yet, per connection and in all (VSOCK_* below); what the guest cannot take yet is
 * left in the host's socket.
 */
#ifndef MINIVM_VIRTIO_VSOCK_H
#define MINIVM_VIRTIO_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/virtio.h"

#define VSOCK_HOST_CID 2u
/* The CIDs that a guest may have (§5.10.4). */
#define VSOCK_CID_MIN 3u
#define VSOCK_CID_MAX 0xfffffffeu

/* Connections at once, those that still shake hands or drain included. */
#define VSOCK_CONNS_MAX 1152u
/* Bytes of one connection that the host has not taken yet, and of all connections. */
#define VSOCK_BUFFER_MAX    (256u << 10)
#define VSOCK_BUFFER_MIN    (16u << 10) /* where many connections share the budget */
#define VSOCK_BUFFER_BUDGET (32u << 20)

/* The longest `path`: "_4294967295" and a NUL behind it fit into a sockaddr_un. */
#define VSOCK_PATH_MAX 96u

struct virtio_vsock_options {
	uint32_t cid;	  /* the guest's, VSOCK_CID_MIN to VSOCK_CID_MAX */
	const char *path; /* copied */
	struct loop *loop;
	const struct log *log;
	/* Milliseconds, 0: the default. */
	unsigned connect_ms; /* for a CONNECT line, for an answer, for a listener that is busy */
	unsigned close_ms;   /* for the guest's RST after both sides are shut down */
	unsigned drain_ms;   /* for a host that takes nothing of what a closed connection left */
};

struct virtio_vsock;

extern const struct virtio_ops virtio_vsock_ops;

/* Can virtio_vsock_new() listen at `path`, by all that can be told without changing anything? */
int virtio_vsock_check(const char *path, struct err *err);

/*
 * Makes the listening socket at `path`, mode 0600; a socket that nobody listens on any more is
 * replaced. virtio_vsock_ops.destroy removes it. While no thread runs the loop, or on its thread.
 * -EEXIST: something else is there; -EADDRINUSE: somebody listens there; -EINVAL: cid;
 * -ENAMETOOLONG.
 */
int virtio_vsock_new(const struct virtio_vsock_options *opt, struct virtio_vsock **out,
		     struct err *err);

/*
 * After a restore: connections of the saved guest do not exist here, and the driver is told so
 * (§5.10.6.7), at once or as soon as it gives a buffer for the event. On the device's loop, or
 * while no thread runs it.
 */
void virtio_vsock_transport_reset(struct virtio_vsock *vsock);

struct virtio_vsock_counters {
	uint64_t from_host; /* connections that were established, by who asked */
	uint64_t from_guest;
	uint64_t refused;    /* by the guest, by nobody listening, by a limit or a time-out */
	uint64_t resets;     /* RST packets to the guest */
	uint64_t violations; /* packets that a driver must not send: credit, ports, operations */
	uint64_t rx_bytes;   /* payload to the guest */
	uint64_t tx_bytes;   /* payload from the guest, taken by the host's sockets */
	uint64_t open;	     /* connections now, in whatever state */
	uint64_t buffered;   /* bytes that wait for the host now */
};

/* Any thread, any time. Kicks, interrupts and malformed chains: virtio_counters(). */
void virtio_vsock_counters(const struct virtio_vsock *vsock, struct virtio_vsock_counters *out);

#endif
