/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network back ends: where a network device's frames come from and go to. One ops table per kind. A
 * back end is used by one thread at a time, the loop of its device, and never blocks it: the device
 * watches `fd` and comes back.
 */
#ifndef MINIVM_NETDEV_H
#define MINIVM_NETDEV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "minivm/err.h"

/* An Ethernet frame without its checksum, at most: what segmentation offload makes (VIRTIO 1.2
 * §5.1.6.3.1). */
#define NETDEV_FRAME_MAX 65550u
#define NETDEV_FRAME_MIN 14u /* Ethernet header */
#define NETDEV_MTU_MIN	 68u /* VIRTIO 1.2 §5.1.4.1 */
#define NETDEV_MTU_MAX	 65520u
#define NETDEV_IOV_MAX	 768u /* buffers of one call */

#define NETDEV_MAC_LEN 6

/* What a frame may leave to the reader to be done. */
enum netdev_offload {
	NETDEV_CSUM = 1 << 0,
	NETDEV_TSO4 = 1 << 1,
	NETDEV_TSO6 = 1 << 2,
	NETDEV_TSO_ECN = 1 << 3,
};

/* What is known of the frames behind the one that readv() has given. */
enum netdev_more {
	NETDEV_MORE_MAYBE, /* another call tells */
	NETDEV_MORE_HERE,  /* some of it was read already, of which `fd` tells nobody: call again */
	NETDEV_MORE_NONE,  /* nothing now; `fd` becomes readable */
};

struct netdev; /* a back end's own state starts with struct netdev */

/*
 * Errors: -EAGAIN: not now, `fd` becomes readable or writable. -EPIPE: the other side is gone, for
 * good. Others concern this frame only, which is lost.
 */
struct netdev_ops {
	const char *name;
	/*
	 * The next frame into the buffers, from their beginning; its length, which is larger than
	 * the buffers' if it was cut. While `partial` is set after -EAGAIN, a frame is under way:
	 * the next call is made with the same buffers in front, or abort() is called.
	 */
	ssize_t (*readv)(struct netdev *nd, const struct iovec *iov, unsigned n);
	/* One whole frame of len bytes: 0, or nothing of it was taken. `unsent` may be set. */
	int (*writev)(struct netdev *nd, const struct iovec *iov, unsigned n, uint32_t len);
	/* At the end of a batch, and when fd is writable: sends what writev() kept. NULL: nothing.
	 */
	int (*flush)(struct netdev *nd);
	/* Throws away the rest of the frame that is under way. NULL: there is never one. */
	void (*abort)(struct netdev *nd);
	/* What the reader of our frames takes (NETDEV_* bits of `offloads`). NULL: nothing ever. */
	int (*set_offloads)(struct netdev *nd, uint32_t offloads);
	void (*close)(struct netdev *nd);
};

struct netdev {
	const struct netdev_ops *ops;
	int fd;
	bool vnet_hdr;	       /* frames begin with a struct virtio_net_hdr_v1, both ways */
	uint32_t offloads;     /* NETDEV_*, both ways; with vnet_hdr only */
	bool partial;	       /* kept by readv() */
	bool unsent;	       /* kept by writev() and flush() */
	enum netdev_more more; /* kept by readv() */
};

/*
 * The tap interface `name`, which exists: minivm makes none. -ENODEV (no such interface), -EPERM,
 * -EBUSY (another process has it), -EINVAL (a tun), with what to try.
 */
int netdev_tap_open(const char *name, struct netdev **out, struct err *err);
/*
 * A tap that somebody opened for us and that we inherited; taken over if this returns 0, and made
 * non-blocking. -EBADF: it is not open, or one of our own files; -EINVAL: no tap, or its flags.
 */
int netdev_tap_adopt(int fd, struct netdev **out, struct err *err);

/*
 * A connected stream socket with frames behind 4 bytes of length, in network byte order (what
 * passt and QEMU speak). `fd` is taken over if this returns 0.
 */
int netdev_stream_adopt(int fd, struct netdev **out, struct err *err);
/* Connects to the socket at `path`, at once. -EAGAIN: its listener is busy. */
int netdev_stream_connect(const char *path, struct netdev **out, struct err *err);

void netdev_close(struct netdev *nd); /* NULL is fine */

#endif
