/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of network tests: one process, blocking, one frame after the other. What goes
 * wrong shows in the guest.
 */
#include "net_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "net_services.h"

struct peer {
	int fd;
	unsigned tap; /* the interface's index; 0: fd is a stream */
	bool (*receive)(struct peer *p, uint32_t *len);
	bool (*send)(struct peer *p, uint32_t len);
	uint32_t frames;
	uint64_t bytes, sum;
	union {
		struct net_frame head;
		uint8_t bytes[70000];
	} frame;
	/* of a stream */
	size_t ahead_pos, ahead_len;
	uint8_t ahead[1 << 17];
};

/* --- transports: the frame is p->frame; false: the end --- */

/* `len` bytes of the stream, through the read-ahead buffer. */
static bool read_all(struct peer *p, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len > 0) {
		size_t part = p->ahead_len - p->ahead_pos;

		if (part == 0) {
			ssize_t n = read(p->fd, p->ahead, sizeof(p->ahead));

			if (n <= 0)
				return false;
			p->ahead_pos = 0;
			p->ahead_len = part = (size_t)n;
		}
		if (part > len)
			part = len;
		memcpy(to, p->ahead + p->ahead_pos, part);
		p->ahead_pos += part;
		to += part;
		len -= part;
	}
	return true;
}

static bool stream_receive(struct peer *p, uint32_t *len)
{
	uint32_t prefix;

	if (!read_all(p, &prefix, sizeof(prefix)))
		return false;
	*len = ntohl(prefix);
	return *len <= sizeof(p->frame) && read_all(p, &p->frame, *len);
}

/* Length and frame by one call, as passt does it, or by as many as it takes. */
static bool stream_send(struct peer *p, uint32_t len)
{
	uint32_t prefix = htonl(len);
	struct iovec iov[2] = {{&prefix, sizeof(prefix)}, {&p->frame, len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	while (iov[0].iov_len + iov[1].iov_len > 0) {
		ssize_t n = sendmsg(p->fd, &msg, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		for (unsigned i = 0; i < 2; i++) {
			size_t part = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

			iov[i].iov_base = (uint8_t *)iov[i].iov_base + part;
			iov[i].iov_len -= part;
			n -= (ssize_t)part;
		}
	}
	return true;
}

static bool packet_receive(struct peer *p, uint32_t *len)
{
	struct sockaddr_ll from;
	socklen_t from_len;
	ssize_t n;

	do {
		from_len = sizeof(from);
		n = recvfrom(p->fd, &p->frame, sizeof(p->frame), 0, (struct sockaddr *)&from,
			     &from_len);
	} while (n >= 0 && from.sll_pkttype == PACKET_OUTGOING);
	*len = n > 0 ? (uint32_t)n : 0;
	return n > 0;
}

static bool packet_send(struct peer *p, uint32_t len)
{
	ssize_t n;

	do
		n = send(p->fd, &p->frame, len, 0);
	while (n < 0 && errno == ENOBUFS && usleep(1000) == 0);
	return n == (ssize_t)len;
}

/* --- services --- */

static void turn_around(struct net_frame *f)
{
	uint8_t mac[6];

	memcpy(mac, f->dst, 6);
	memcpy(f->dst, f->src, 6);
	memcpy(f->src, mac, 6);
}

static bool echo(struct peer *p, uint32_t len)
{
	turn_around(&p->frame.head);
	return p->send(p, len);
}

static bool sink(struct peer *p, uint32_t len)
{
	p->frames++;
	p->bytes += len;
	p->sum += net_sum(&p->frame.head, len);
	return true;
}

static bool report(struct peer *p, uint32_t len)
{
	p->frame.head.frames = p->frames;
	p->frame.head.bytes = p->bytes;
	p->frame.head.sum = p->sum;
	p->frames = 0;
	p->bytes = p->sum = 0;
	return echo(p, len);
}

static bool source(struct peer *p, uint32_t len)
{
	struct net_frame *f = &p->frame.head;
	uint32_t n = f->arg, size = f->size;
	bool ok = size >= sizeof(*f) && size <= NET_SERVICE_FRAME;

	(void)len;
	turn_around(f);
	f->service = NET_DATA;
	for (; ok && n > 0; n--) {
		net_fill(f, size);
		ok = p->send(p, size);
		f->number++;
	}
	return ok;
}

static bool hold(struct peer *p, uint32_t len)
{
	uint32_t ms = p->frame.head.arg;
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

	(void)len;
	nanosleep(&t, NULL);
	return true;
}

static bool ignore(struct peer *p, uint32_t len)
{
	(void)p;
	(void)len;
	return true;
}

/* As `ip link del` does it. */
static void delete_link(unsigned index)
{
	struct {
		struct nlmsghdr n;
		struct ifinfomsg i;
	} req = {
	    .n = {.nlmsg_len = sizeof(req),
		  .nlmsg_type = RTM_DELLINK,
		  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
	    .i = {.ifi_index = (int)index},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	char answer[256];

	if (fd >= 0 && send(fd, &req, sizeof(req), 0) > 0)
		(void)!recv(fd, answer, sizeof(answer), 0);
	close(fd);
}

/* The connection is closed by the end of the process. */
static bool drop(struct peer *p, uint32_t len)
{
	(void)len;
	if (p->tap)
		delete_link(p->tap);
	return false;
}

static _Noreturn void serve(struct peer *p)
{
	static bool (*const services[])(struct peer * p, uint32_t len) = {
	    [NET_ECHO] = echo,	 [NET_SINK] = sink, [NET_REPORT] = report, [NET_SOURCE] = source,
	    [NET_DATA] = ignore, [NET_HOLD] = hold, [NET_DROP] = drop,
	};
	const uint8_t type[2] = {NET_ETHERTYPE >> 8, NET_ETHERTYPE & 0xff};
	bool ok = true;
	uint32_t len;

	while (ok && p->receive(p, &len)) {
		unsigned service = p->frame.head.service;

		if (len < sizeof(p->frame.head) || memcmp(p->frame.head.type, type, 2) != 0 ||
		    service == 0 || service > NET_DROP)
			continue;
		ok = services[service](p, len);
	}
	_exit(0);
}

static pid_t start(struct peer *p)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(p);
	}
	return pid < 0 ? -errno : pid;
}

/* --- the socket --- */

static bool accept_then_receive(struct peer *p, uint32_t *len)
{
	int fd = accept(p->fd, NULL, NULL);

	close(p->fd);
	p->fd = fd;
	p->receive = stream_receive;
	return fd >= 0 && stream_receive(p, len);
}

pid_t net_peer_socket(const char *path)
{
	static struct peer p;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	pid_t pid;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	p = (struct peer){.receive = accept_then_receive, .send = stream_send};
	p.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p.fd < 0)
		return -errno;
	if (bind(p.fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(p.fd, 1) < 0) {
		pid = -errno;
		close(p.fd);
		return pid;
	}
	pid = start(&p);
	close(p.fd);
	return pid;
}

/* --- the tap --- */

/*
 * Up, and with room for large frames, and for as many as a case asks for at once: the tap drops
 * what comes while its queue is full, and whoever reads it may not run for a while.
 */
static int configure(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_mtu = NET_SERVICE_MTU};
	int rc = 0;

	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCSIFMTU, &ifr) < 0)
		rc = -errno;
	ifr.ifr_qlen = 2000;
	if (!rc && ioctl(fd, SIOCSIFTXQLEN, &ifr) < 0)
		rc = -errno;
	ifr.ifr_flags = IFF_UP;
	if (!rc && ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* The interface's file, or -errno. */
static int attach_tap(const char *name, int flags)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | flags);
	int rc;

	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/*
 * Made with its file attached, made to last, let go of: then others may attach. In the end it is
 * made to last no longer, and is gone.
 */
static int set_tap(const char *name, bool there)
{
	int fd = attach_tap(name, O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, TUNSETPERSIST, there ? 1 : 0) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int net_peer_tap_file(const char *name)
{
	return attach_tap(name, 0);
}

static int open_packets(const char *name)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(NET_ETHERTYPE)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(NET_ETHERTYPE));
	int size = 32 << 20;
	int rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	addr.sll_ifindex = (int)if_nametoindex(name);
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

pid_t net_peer_tap(const char *name)
{
	static struct peer p;
	pid_t pid = set_tap(name, true);

	if (pid)
		return pid;
	p = (struct peer){.receive = packet_receive, .send = packet_send};
	p.tap = if_nametoindex(name);
	pid = configure(name);
	if (!pid) {
		p.fd = open_packets(name);
		pid = p.fd < 0 ? p.fd : start(&p);
	}
	if (p.fd > 0)
		close(p.fd);
	if (pid < 0)
		set_tap(name, false);
	return pid;
}

void net_peer_stop(pid_t pid, const char *tap)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (tap)
		set_tap(tap, false);
}
