/* SPDX-License-Identifier: Apache-2.0 */
/* AF_VSOCK through the kernel's own driver, against the services of tests/lib/vsock_peer.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "checks.h"
#include "vsock_services.h"

#define PORT	7777u
#define CALLS	3u
#define CHUNK	(64u << 10)
#define WAIT_MS 20000

static const struct checks *run; /* for its `slow` */

static int wait_ms(void)
{
	return WAIT_MS * (int)(run->slow ? run->slow : 1);
}

/* No call on it takes longer than is reasonable. */
static int new_socket(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval tv = {.tv_sec = wait_ms() / 1000};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	return fd;
}

/* A connection to a service, or -1 with errno set. */
static int dial(unsigned port)
{
	const struct sockaddr_vm a = {
	    .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
	int fd = new_socket();

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static bool send_all(int fd, const void *bytes, size_t len)
{
	return send(fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool receive_all(int fd, void *bytes, size_t len)
{
	return recv(fd, bytes, len, MSG_WAITALL) == (ssize_t)len;
}

/* --- a flow of bytes in both directions at once --- */

struct flow {
	int fd;
	unsigned sends, gets; /* whose bytes (vsock_byte) go out and come in */
	uint64_t bytes, out, in;
	uint64_t out_sum, in_sum, want_sum;
	size_t len, off; /* of buf, not sent yet */
	uint8_t buf[CHUNK];
};

static bool flow_out(struct flow *f)
{
	ssize_t n;

	if (f->len == 0) {
		f->len = f->bytes - f->out < CHUNK ? (size_t)(f->bytes - f->out) : CHUNK;
		f->off = 0;
		for (size_t i = 0; i < f->len; i++)
			f->buf[i] = vsock_byte(f->sends, f->out + i);
		f->out_sum = vsock_sum(f->out_sum, f->buf, f->len);
		f->out += f->len;
	}
	n = send(f->fd, f->buf + f->off, f->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	f->off += (size_t)n;
	f->len -= (size_t)n;
	return true;
}

static bool flow_in(struct flow *f)
{
	static uint8_t got[CHUNK];
	uint64_t left = f->bytes - f->in;
	ssize_t n = recv(f->fd, got, left < CHUNK ? (size_t)left : CHUNK, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN;
	f->in_sum = vsock_sum(f->in_sum, got, (size_t)n);
	for (ssize_t i = 0; i < n; i++, f->in++) {
		const uint8_t want = vsock_byte(f->gets, f->in);

		f->want_sum = vsock_sum(f->want_sum, &want, 1);
	}
	return n > 0;
}

/* All of it there and all of it back; false: it stands still, or breaks. */
static bool flow_run(struct flow *f)
{
	bool good = true;

	f->out_sum = f->in_sum = f->want_sum = VSOCK_SUM_START;
	while (good && f->in < f->bytes) {
		bool more = f->out < f->bytes || f->len > 0;
		struct pollfd p = {.fd = f->fd, .events = POLLIN | (more ? POLLOUT : 0)};

		good = poll(&p, 1, wait_ms()) > 0;
		if (good && (p.revents & POLLOUT))
			good = flow_out(f);
		if (good && (p.revents & POLLIN))
			good = flow_in(f);
	}
	return good && f->in_sum == f->want_sum;
}

/* --- the checks --- */

static unsigned local_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned cid = 0;

	if (fd >= 0) {
		ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid);
		close(fd);
	}
	return cid;
}

static void check_cid(struct checks *c, unsigned want)
{
	check(c, local_cid() == want, "vsock has its CID", "it is %u", local_cid());
}

static void check_nobody(struct checks *c)
{
	int fd = dial(SERVICE_NOBODY);

	check(c, fd < 0 && errno == ECONNRESET, "vsock: nobody listens", "%s", strerror(errno));
}

static void check_stream(struct checks *c, uint64_t bytes)
{
	static struct flow f;
	uint64_t heard = 0;
	bool good;

	f = (struct flow){.fd = dial(SERVICE_STREAM), .sends = 1, .gets = 0, .bytes = bytes};
	good = f.fd >= 0 && send_all(f.fd, &bytes, sizeof(bytes)) && flow_run(&f) &&
	       receive_all(f.fd, &heard, sizeof(heard));
	check(c, good && heard == f.out_sum, "vsock: both ways at once, guest connects",
	      "%llu out, %llu in; %s", (unsigned long long)f.out, (unsigned long long)f.in,
	      strerror(errno));
	close(f.fd);
}

static int listen_at(unsigned port)
{
	const struct sockaddr_vm a = {
	    .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
	int fd = new_socket();

	if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, CALLS) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What the host calls sends back what it gets. */
static void check_calls(struct checks *c, uint64_t bytes)
{
	static struct flow f;
	const uint32_t order[2] = {PORT, CALLS};
	int listener = listen_at(PORT);
	int ask = dial(SERVICE_CALL);
	bool good = listener >= 0 && ask >= 0 && send_all(ask, order, sizeof(order));
	unsigned i;

	for (i = 0; good && i < CALLS; i++) {
		f = (struct flow){.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC),
				  .sends = 1,
				  .gets = 1,
				  .bytes = i == 0 ? bytes : 1000};
		good = f.fd >= 0 && flow_run(&f);
		close(f.fd);
	}
	check(c, good, "vsock: both ways at once, host connects", "call %u: %llu out, %llu in; %s",
	      i, (unsigned long long)f.out, (unsigned long long)f.in, strerror(errno));
	close(ask);
	close(listener);
}

/* The host reads only when told; we say that we are done and still hear what it has to say. */
static void check_half_close(struct checks *c)
{
	static uint8_t bytes[100000];
	struct {
		uint64_t count, sum;
	} heard = {0};
	int fd = dial(SERVICE_STALL), go;
	bool good = fd >= 0 && send_all(fd, bytes, sizeof(bytes)) && shutdown(fd, SHUT_WR) == 0;

	go = dial(SERVICE_GO);
	good = good && go >= 0 && receive_all(fd, &heard, sizeof(heard));
	check(c,
	      good && heard.count == sizeof(bytes) &&
		  heard.sum == vsock_sum(VSOCK_SUM_START, bytes, sizeof(bytes)),
	      "vsock: half-close", "%llu heard; %s", (unsigned long long)heard.count,
	      strerror(errno));
	close(fd);
	close(go);
}

static void check_turns(struct checks *c)
{
	unsigned i;
	bool good = true;

	for (i = 0; good && i < 100; i++) {
		unsigned back = 0;
		int fd = dial(SERVICE_ECHO);

		good = fd >= 0 && send_all(fd, &i, sizeof(i)) &&
		       receive_all(fd, &back, sizeof(back)) && back == i;
		close(fd);
	}
	check(c, good, "vsock: a hundred in turn", "the %uth: %s", i, strerror(errno));
}

void group_vsock(struct checks *c, char *arg)
{
	unsigned cid = (unsigned)next_number(&arg);
	uint64_t bytes = next_number(&arg);

	run = c;
	check_cid(c, cid);
	check_nobody(c);
	check_stream(c, bytes);
	check_calls(c, bytes);
	check_half_close(c);
	check_turns(c);
}

/* Holds a connection until it breaks, which is when the machine is restored elsewhere. */
void group_vsockmove(struct checks *c, char *arg)
{
	unsigned old = (unsigned)next_number(&arg);
	unsigned new = (unsigned)next_number(&arg);
	unsigned word = 7, back = 0;
	int fd;

	run = c;
	fd = dial(SERVICE_ECHO);
	check_cid(c, old);
	check(c, send_all(fd, &word, sizeof(word)) && receive_all(fd, &back, sizeof(back)),
	      "vsock: a connection", "%s", strerror(errno));
	say("vsock: connected");
	while (recv(fd, &back, sizeof(back), 0) < 0 && errno == EAGAIN)
		;
	/* Linux says ENOTCONN if it was not yet in recv() when the machine was saved. */
	check(c, errno == ECONNRESET || errno == ENOTCONN, "vsock: reset by the restore", "%s",
	      strerror(errno));
	close(fd);
	check_cid(c, new);
	check_stream(c, 100000);
	say("vsock: moved");
}
