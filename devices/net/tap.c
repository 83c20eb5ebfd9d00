/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tap interfaces. Each read(2) and write(2) is one frame behind a virtio_net_hdr_v1, so that
 * checksums and segmentation are left to whoever can do them best (tun(4), IFF_VNET_HDR).
 *
 * An interface that is down refuses frames with EIO, and may come up again; one that was deleted
 * answers EBADFD for ever.
 *
 * System calls: openat, ioctl, fcntl, readv, writev, close; socket (if_nametoindex).
 */
#include "minivm/netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#define TUN_PATH "/dev/net/tun"

static int tap_error(int e)
{
	return e == EBADFD ? -EPIPE : -e;
}

static ssize_t tap_readv(struct netdev *nd, const struct iovec *iov, unsigned n)
{
	ssize_t ret = readv(nd->fd, iov, (int)n);

	return ret < 0 ? tap_error(errno) : ret;
}

static int tap_writev(struct netdev *nd, const struct iovec *iov, unsigned n, uint32_t len)
{
	(void)len;
	return writev(nd->fd, iov, (int)n) < 0 ? tap_error(errno) : 0;
}

static int tap_set_offloads(struct netdev *nd, uint32_t offloads)
{
	static const struct {
		uint32_t offload;
		unsigned long flag;
	} flags[] = {
	    {NETDEV_CSUM, TUN_F_CSUM},
	    {NETDEV_TSO4, TUN_F_TSO4},
	    {NETDEV_TSO6, TUN_F_TSO6},
	    {NETDEV_TSO_ECN, TUN_F_TSO_ECN},
	};
	unsigned long tun = 0;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (offloads & flags[i].offload)
			tun |= flags[i].flag;
	}
	return ioctl(nd->fd, TUNSETOFFLOAD, tun) < 0 ? tap_error(errno) : 0;
}

static void tap_close(struct netdev *nd)
{
	close(nd->fd);
	free(nd);
}

static const struct netdev_ops tap_ops = {
    .name = "tap",
    .readv = tap_readv,
    .writev = tap_writev,
    .set_offloads = tap_set_offloads,
    .close = tap_close,
};

/* Headers of the size that VIRTIO 1 has, and no offloads until a driver takes some. */
static int tap_configure(struct netdev *nd, struct err *err)
{
	int size = sizeof(struct virtio_net_hdr_v1);
	int flags = fcntl(nd->fd, F_GETFL);

	if (flags < 0 || fcntl(nd->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(err, errno, "non-blocking mode");
	if (ioctl(nd->fd, TUNSETVNETHDRSZ, &size) < 0)
		return err_sys(err, errno, "TUNSETVNETHDRSZ");
	nd->vnet_hdr = true;
	if (tap_set_offloads(nd, NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN) == 0)
		nd->offloads = NETDEV_CSUM | NETDEV_TSO4 | NETDEV_TSO6 | NETDEV_TSO_ECN;
	tap_set_offloads(nd, 0);
	return 0;
}

/* Takes fd over in any case. */
static int tap_new(int fd, struct netdev **out, struct err *err)
{
	struct netdev *nd = calloc(1, sizeof(*nd));
	int ret;

	if (!nd) {
		close(fd);
		return err_sys(err, ENOMEM, "a tap");
	}
	nd->ops = &tap_ops;
	nd->fd = fd;
	ret = tap_configure(nd, err);
	if (ret)
		tap_close(nd);
	else
		*out = nd;
	return ret;
}

static int tap_attach(int fd, const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	memcpy(ifr.ifr_name, name, strlen(name));
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	/* It may have been made for several queues. */
	ifr.ifr_flags |= IFF_MULTI_QUEUE;
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int attach_error(int ret, const char *name, struct err *err)
{
	static const struct {
		int error;
		const char *hint;
	} hints[] = {
	    {EPERM, "its owner is another user: ip tuntap add dev NAME mode tap user USER"},
	    {EBUSY, "another process, or a device of this machine, has it open"},
	    {EINVAL, "is it a tap? `ip tuntap show` lists them"},
	};

	err_sys(err, -ret, "tap %s", name);
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		if (hints[i].error == -ret)
			err_hint(err, "%s", hints[i].hint);
	}
	return ret;
}

int netdev_tap_open(const char *name, struct netdev **out, struct err *err)
{
	int fd, ret;

	if (strlen(name) >= IFNAMSIZ)
		return err_set(err, EINVAL, "tap %s: an interface name has at most %d characters",
			       name, IFNAMSIZ - 1);
	/* TUNSETIFF would make one, if we may: down, without address, gone with us. */
	if (if_nametoindex(name) == 0) {
		err_set(err, ENODEV, "tap %s: there is no such interface", name);
		return err_hint(err, "ip tuntap add dev %s mode tap user $USER makes it", name);
	}
	fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "tap %s: " TUN_PATH, name);
	ret = tap_attach(fd, name);
	if (ret) {
		close(fd);
		return attach_error(ret, name, err);
	}
	ret = tap_new(fd, out, err);
	return ret ? err_context(err, "tap %s", name) : 0;
}

/* What we have opened ourselves, which may have any number, is closed on exec. */
static bool inherited(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

/* `flags` are those that it was attached with. */
static int adopt(int fd, int flags, struct netdev **out, struct err *err)
{
	int own;

	if ((flags & IFF_TAP) == 0 || (flags & IFF_VNET_HDR) == 0 || (flags & IFF_NO_PI) == 0)
		return err_set(err, EINVAL,
			       "descriptor %d: the tap is attached with IFF_TAP | IFF_NO_PI | "
			       "IFF_VNET_HDR, please",
			       fd);
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return err_sys(err, errno, "descriptor %d", fd);
	if (tap_new(own, out, err))
		return err_context(err, "descriptor %d", fd);
	close(fd);
	return 0;
}

/* What it was attached with: IFF_*, or -1 if it is no tun or tap that is. */
static int attached_flags(int fd)
{
	struct ifreq ifr = {.ifr_flags = 0};

	return ioctl(fd, TUNGETIFF, &ifr) < 0 ? -1 : ifr.ifr_flags & 0xffff;
}

/*
 * While there is no filter TUNGETIFF says so (IFF_NOFILTER), by the very bit of IFF_NO_PI. One that
 * takes everything is there for the question. A macvtap knows no filters, nor frames with PI.
 */
static int attached_flags_of_tap(int fd)
{
	struct sock_filter everything = {.code = BPF_RET | BPF_K, .k = UINT32_MAX};
	struct sock_fprog filter = {.len = 0};
	int flags;

	if (ioctl(fd, TUNGETFILTER, &filter) < 0 || filter.len > 0)
		return attached_flags(fd);
	filter = (struct sock_fprog){1, &everything};
	if (ioctl(fd, TUNATTACHFILTER, &filter) < 0)
		return attached_flags(fd);
	flags = attached_flags(fd);
	ioctl(fd, TUNDETACHFILTER, &filter);
	return flags;
}

int netdev_tap_adopt(int fd, struct netdev **out, struct err *err)
{
	bool given = inherited(fd);
	int flags = given ? attached_flags_of_tap(fd) : -1;

	if (flags >= 0)
		return adopt(fd, flags, out, err);
	if (given)
		err_set(err, EINVAL, "descriptor %d is no tap", fd);
	else
		err_set(err, EBADF, "descriptor %d is not open", fd);
	return err_hint(err, "a tap's file is opened and attached by whoever starts minivm");
}

void netdev_close(struct netdev *nd)
{
	if (nd)
		nd->ops->close(nd);
}
