/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream socket, each behind 4 bytes of length in network byte order: what passt
 * speaks, and QEMU's "-netdev stream". There is no virtio_net_hdr in it, hence no offloads.
 *
 * Receiving. One recvmsg() fills the rest of the frame that is under way, straight into its
 * buffers, and what follows into a read-ahead buffer: behind a small frame as much as there is,
 * behind a large one the length of the next. So large frames are copied once, by the kernel, and
 * small ones come many in a call.
 *
 * Sending. Small frames are gathered in `out` until the end of the batch; a large one goes straight
 * from its buffers behind what was gathered. What the socket does not take of a frame that has
 * begun stays in `out`, which has room for one whole frame; as long as it does, no other is begun.
 *
 * System calls: socket, connect, stat, sendmsg, recvmsg, close.
 */
#include "minivm/netdev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "minivm/iov.h"

#define PREFIX	  4u
#define IN_SIZE	  (64u << 10)
#define OUT_SIZE  (PREFIX + NETDEV_FRAME_MAX)
#define SMALL_MAX 2048u /* bytes of a frame that is worth copying */

struct stream {
	struct netdev nd;
	/* receiving */
	uint32_t frame_len; /* of the frame that is under way; 0: none */
	uint32_t frame_off; /* bytes of it that are there */
	bool discard;	    /* nobody wants it */
	bool drained;	    /* the socket was empty behind what is in `in` */
	unsigned in_pos, in_len;
	unsigned in_max; /* bytes to read ahead, PREFIX to IN_SIZE */
	/* sending */
	uint32_t out_len;
	uint8_t in[IN_SIZE];
	uint8_t out[OUT_SIZE];
};

static struct stream *stream_of(struct netdev *nd)
{
	return (struct stream *)nd;
}

/* --- receiving --- */

static size_t total(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/*
 * What recvmsg() gave: > 0, -EAGAIN, or -EPIPE for an end of whatever kind. If it left room, there
 * was no more: the call that would say so is spared. Should more have come since, the socket is
 * readable, and who waits for that is told at once.
 */
static ssize_t receive(struct stream *s, struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t ret;

	if (s->drained) {
		s->drained = false;
		return -EAGAIN;
	}
	ret = recvmsg(s->nd.fd, &msg, MSG_DONTWAIT);
	if (ret > 0) {
		s->drained = (size_t)ret < total(iov, n);
		return ret;
	}
	return ret < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -EPIPE;
}

/* Reads ahead, while no frame is under way: the length of the next one into frame_len. */
static int begin_frame(struct stream *s)
{
	uint32_t prefix;

	while (s->in_len - s->in_pos < PREFIX) {
		struct iovec iov;
		ssize_t ret;

		memmove(s->in, s->in + s->in_pos, s->in_len - s->in_pos);
		s->in_len -= s->in_pos;
		s->in_pos = 0;
		iov = (struct iovec){s->in + s->in_len, s->in_max - s->in_len};
		ret = receive(s, &iov, 1);
		if (ret < 0)
			return (int)ret;
		s->in_len += (unsigned)ret;
	}
	memcpy(&prefix, s->in + s->in_pos, PREFIX);
	prefix = ntohl(prefix);
	/* Whoever sends such lengths does not speak this protocol: there is no next frame. */
	if (prefix == 0 || prefix > NETDEV_FRAME_MAX)
		return -EPIPE;
	s->in_pos += PREFIX;
	s->frame_len = prefix;
	s->frame_off = 0;
	s->in_max = prefix > SMALL_MAX ? PREFIX : IN_SIZE;
	return 0;
}

/* From the read-ahead buffer to where it belongs. */
static void take_ahead(struct stream *s, const struct iovec *iov, unsigned n)
{
	uint32_t len = s->frame_len - s->frame_off;
	struct iovec part[NETDEV_IOV_MAX];

	if (len > s->in_len - s->in_pos)
		len = s->in_len - s->in_pos;
	if (n > 0 && len > 0) {
		iov_cut(part, iov, s->frame_off, len);
		iov_scatter(part, s->in + s->in_pos, len);
	}
	s->in_pos += len;
	s->frame_off += len;
}

/*
 * More of the frame, straight into its buffers (n is 0 for a frame that nobody wants: then into the
 * read-ahead buffer, which is empty), and what follows it behind.
 */
static int receive_rest(struct stream *s, const struct iovec *iov, unsigned n)
{
	uint32_t rest = s->frame_len - s->frame_off;
	struct iovec part[NETDEV_IOV_MAX + 1];
	unsigned count = 0;
	ssize_t ret;

	if (n > 0)
		count = iov_cut(part, iov, s->frame_off, rest);
	else
		rest = 0;
	part[count++] = (struct iovec){s->in, n > 0 ? s->in_max : IN_SIZE};
	ret = receive(s, part, count);
	if (ret < 0)
		return (int)ret;
	s->in_pos = 0;
	s->in_len = (size_t)ret > rest ? (unsigned)ret - rest : 0;
	s->frame_off += (size_t)ret > rest ? rest : (uint32_t)ret;
	return 0;
}

/* A frame is done. What is known now holds for what was read ahead, and else only until then. */
static void tell_more(struct stream *s)
{
	if (s->in_pos < s->in_len) {
		s->nd.more = NETDEV_MORE_HERE;
		return;
	}
	s->nd.more = s->drained ? NETDEV_MORE_NONE : NETDEV_MORE_MAYBE;
	s->drained = false;
}

/* One frame: into the buffers, or past them. Its length. */
static ssize_t one_frame(struct stream *s, const struct iovec *iov, unsigned n)
{
	int ret = s->frame_len == 0 ? begin_frame(s) : 0;
	uint32_t len = s->frame_len;

	if (ret < 0)
		return ret;
	s->nd.partial = !s->discard;
	/* A frame that does not fit is cut whole: its length says so. */
	if (n > 0 && total(iov, n) < len)
		n = 0;
	take_ahead(s, iov, n);
	while (s->frame_off < len) {
		ret = receive_rest(s, iov, n);
		if (ret < 0)
			return ret;
		take_ahead(s, iov, n);
	}
	s->frame_len = 0;
	s->nd.partial = false;
	tell_more(s);
	return len;
}

static ssize_t stream_readv(struct netdev *nd, const struct iovec *iov, unsigned n)
{
	struct stream *s = stream_of(nd);

	if (s->discard) {
		ssize_t ret = one_frame(s, NULL, 0);

		if (ret < 0)
			return ret;
		s->discard = false;
	}
	return one_frame(s, iov, n);
}

static void stream_abort(struct netdev *nd)
{
	struct stream *s = stream_of(nd);

	s->discard = s->frame_len > 0;
	nd->partial = false;
}

/* --- sending --- */

/* Bytes that the socket took, -EAGAIN, or -EPIPE. */
static ssize_t transmit(struct stream *s, struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t ret = sendmsg(s->nd.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (ret >= 0)
		return ret;
	if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
		return -EAGAIN;
	return -EPIPE;
}

/* `sent` bytes of `out` are gone. */
static void out_drop(struct stream *s, uint32_t sent)
{
	memmove(s->out, s->out + sent, s->out_len - sent);
	s->out_len -= sent;
	s->nd.unsent = s->out_len > 0;
}

static int stream_flush(struct netdev *nd)
{
	struct stream *s = stream_of(nd);

	while (s->out_len > 0) {
		struct iovec iov = {s->out, s->out_len};
		ssize_t ret = transmit(s, &iov, 1);

		if (ret < 0)
			return (int)ret;
		out_drop(s, (uint32_t)ret);
	}
	return 0;
}

/* Behind what is in `out`: the last `rest` bytes of a frame that has begun. */
static void out_append(struct stream *s, const struct iovec *iov, uint32_t off, uint32_t rest)
{
	struct iovec part[NETDEV_IOV_MAX];

	iov_cut(part, iov, off, rest);
	iov_gather(s->out + s->out_len, part, rest);
	s->out_len += rest;
	s->nd.unsent = s->out_len > 0;
}

static void out_prefix(struct stream *s, uint32_t len)
{
	uint32_t prefix = htonl(len);

	memcpy(s->out + s->out_len, &prefix, PREFIX);
	s->out_len += PREFIX;
}

/* The frame behind what was gathered, by one call. */
static int send_straight(struct stream *s, const struct iovec *iov, unsigned n, uint32_t len)
{
	uint32_t before = s->out_len;
	struct iovec all[NETDEV_IOV_MAX + 1];
	ssize_t ret;

	out_prefix(s, len);
	all[0] = (struct iovec){s->out, s->out_len};
	memcpy(&all[1], iov, n * sizeof(*iov));
	ret = transmit(s, all, n + 1);
	if (ret <= (ssize_t)before) {
		/* Not begun. */
		s->out_len = before;
		out_drop(s, ret > 0 ? (uint32_t)ret : 0);
		return ret < 0 ? (int)ret : -EAGAIN;
	}
	if ((size_t)ret < s->out_len) {
		out_drop(s, (uint32_t)ret);
		out_append(s, iov, 0, len);
	} else {
		uint32_t sent = (uint32_t)ret - s->out_len;

		out_drop(s, s->out_len);
		out_append(s, iov, sent, len - sent);
	}
	return 0;
}

static int stream_writev(struct netdev *nd, const struct iovec *iov, unsigned n, uint32_t len)
{
	struct stream *s = stream_of(nd);

	if (len <= SMALL_MAX && s->out_len + PREFIX + len <= OUT_SIZE) {
		out_prefix(s, len);
		out_append(s, iov, 0, len);
		return 0;
	}
	/* Behind little it needs no call of its own for that. */
	if (s->out_len + PREFIX > SMALL_MAX) {
		int ret = stream_flush(nd);

		if (ret < 0)
			return ret;
	}
	return send_straight(s, iov, n, len);
}

/* --- life --- */

static void stream_close(struct netdev *nd)
{
	close(nd->fd);
	free(nd);
}

static const struct netdev_ops stream_ops = {
    .name = "passt",
    .readv = stream_readv,
    .writev = stream_writev,
    .flush = stream_flush,
    .abort = stream_abort,
    .close = stream_close,
};

int netdev_stream_adopt(int fd, struct netdev **out, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sys(err, ENOMEM, "a network connection");
	s->nd.ops = &stream_ops;
	s->nd.fd = fd;
	s->in_max = IN_SIZE;
	*out = &s->nd;
	return 0;
}

static int connect_error(int e, const char *path, struct err *err)
{
	struct stat st;

	/* Which connect() calls refused as well; and passt would remove it, were it told to listen.
	 */
	if (e == ECONNREFUSED && stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK, "%s is no socket", path);
	err_sys(err, e, "socket %s", path);
	if (e == ENOENT || e == ECONNREFUSED)
		err_hint(err, "is passt running? passt --socket %s", path);
	else if (e == EAGAIN)
		err_hint(err, "who listens there takes no connections: another machine has it?");
	return err->code;
}

int netdev_stream_connect(const char *path, struct netdev **out, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "socket %s: a socket's path has at most %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	/* A listener that is busy does not hold up the start. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, errno, "socket %s", path);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		ret = connect_error(errno, path, err);
		close(fd);
		return ret;
	}
	ret = netdev_stream_adopt(fd, out, err);
	if (ret)
		close(fd);
	return ret;
}
