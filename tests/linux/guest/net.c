/* SPDX-License-Identifier: Apache-2.0 */
/* The network through the kernel's own driver, to and from the services of suite_net.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../net_content.h"
#include "checks.h"

#define CHUNK	(64u << 10)
#define WAIT_S	20
#define LINK_UP "/sys/class/net/eth0/carrier"

/* --- setting up --- */

static int run(const char *const argv[])
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		union {
			const char *const *in;
			char *const *out;
		} u = {.in = argv};

		execvp(argv[0], u.out);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

/* An ioctl on eth0 with an IPv4 address, or flags. */
static bool set_address(int fd, unsigned long request, const char *address)
{
	struct ifreq ifr = {.ifr_name = "eth0"};
	struct sockaddr_in a = {.sin_family = AF_INET};

	inet_pton(AF_INET, address, &a.sin_addr);
	memcpy(&ifr.ifr_addr, &a, sizeof(a));
	return ioctl(fd, (int)request, &ifr) == 0;
}

static bool bring_up(int fd)
{
	struct ifreq ifr = {.ifr_name = "eth0", .ifr_flags = IFF_UP | IFF_RUNNING};

	return ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
}

/* "dhcp", or an address of a network of 256. */
static bool configure(const char *address)
{
	/* With the root image's own script. */
	static const char *const dhcp[] = {"udhcpc", "-i", "eth0", "-n",  "-q",
					   "-t",     "10", "-O",   "mtu", NULL};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok = bring_up(fd);

	if (ok && strcmp(address, "dhcp") == 0)
		ok = run(dhcp) == 0;
	else if (ok)
		ok = set_address(fd, SIOCSIFADDR, address) &&
		     set_address(fd, SIOCSIFNETMASK, "255.255.255.0");
	close(fd);
	return ok;
}

/* --- transfers --- */

static int new_socket(const struct checks *c)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval tv = {.tv_sec = WAIT_S * (c->slow ? c->slow : 1)};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	return fd;
}

/* An address, or a name that a server of the network's is asked for. */
static bool look_up(struct checks *c, const char *server, struct sockaddr_in *a)
{
	const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(server, NULL, &hints, &found);

	if (!check(c, rc == 0, "net: name", "%s: %s", server, gai_strerror(rc)))
		return false;
	memcpy(a, found->ai_addr, sizeof(*a));
	a->sin_port = htons(NET_PORT);
	freeaddrinfo(found);
	return true;
}

/* A connection to the host's service, whose first byte says what is wanted. */
static int dial(const struct checks *c, const struct sockaddr_in *a, char what)
{
	int fd = new_socket(c);

	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 || write(fd, &what, 1) != 1) {
		close(fd);
		return -1;
	}
	return fd;
}

/* How many bytes were right. */
static uint64_t receive(int fd, unsigned seed, uint64_t bytes)
{
	static uint8_t got[CHUNK], want[CHUNK];
	uint64_t off = 0;

	while (off < bytes) {
		ssize_t n = read(fd, got, CHUNK);

		if (n <= 0)
			break;
		net_content(want, seed, off, (size_t)n);
		if (memcmp(got, want, (size_t)n) != 0)
			break;
		off += (uint64_t)n;
	}
	return off;
}

static uint64_t transmit(int fd, unsigned seed, uint64_t bytes)
{
	static uint8_t buf[CHUNK];
	uint64_t off = 0;

	while (off < bytes) {
		size_t len = bytes - off < CHUNK ? (size_t)(bytes - off) : CHUNK;
		ssize_t n;

		net_content(buf, seed, off, len);
		n = send(fd, buf, len, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		off += (uint64_t)n;
	}
	return off;
}

static void fetch(struct checks *c, const struct sockaddr_in *server, uint64_t bytes)
{
	int fd = dial(c, server, 'G');
	uint64_t n = fd >= 0 ? receive(fd, 1, bytes) : 0;

	check(c, n == bytes, "net: fetch", "%llu of %llu bytes: %s", (unsigned long long)n,
	      (unsigned long long)bytes, strerror(errno));
	close(fd);
}

/* The host answers with a byte when all was right. */
static void post(struct checks *c, const struct sockaddr_in *server, uint64_t bytes)
{
	int fd = dial(c, server, 'P');
	uint64_t n = fd >= 0 ? transmit(fd, 2, bytes) : 0;
	char answer = 0;

	shutdown(fd, SHUT_WR);
	check(c, n == bytes && read(fd, &answer, 1) == 1 && answer == 'y', "net: post",
	      "%llu of %llu bytes, answer '%c'", (unsigned long long)n, (unsigned long long)bytes,
	      answer ? answer : '-');
	close(fd);
}

void group_net(struct checks *c, char *arg)
{
	const char *address = next_field(&arg);
	const char *server = next_field(&arg);
	uint64_t bytes = next_number(&arg);
	uint64_t mtu = next_number(&arg);
	struct sockaddr_in a;

	if (!check(c, configure(address), "net: address", "%s", strerror(errno)))
		return;
	if (mtu)
		check(c, read_number("/sys/class/net/eth0/mtu", 0) == mtu, "net: MTU", "%llu",
		      (unsigned long long)read_number("/sys/class/net/eth0/mtu", 0));
	if (!look_up(c, server, &a))
		return;
	fetch(c, &a, bytes);
	post(c, &a, bytes);
}

void group_netserve(struct checks *c, char *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(NET_HTTP)};
	uint64_t bytes = next_number(&arg), n = 0;
	int listener = new_socket(c), fd;
	char answer = 0, what = 0;

	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
		say("net: cannot listen: %s", strerror(errno));
	say("net: serving");
	fd = accept(listener, NULL, NULL);
	if (fd >= 0 && read(fd, &what, 1) == 1 && what == 'G')
		n = transmit(fd, 3, bytes);
	check(c, fd >= 0 && n == bytes && read(fd, &answer, 1) == 1 && answer == 'y', "net: serve",
	      "%llu bytes: %s", (unsigned long long)n, strerror(errno));
	close(fd);
	close(listener);
}

/* The cable is pulled while this runs: nothing hangs, and the driver knows. */
void group_netdown(struct checks *c, char *arg)
{
	(void)arg;
	say("net: pull it");
	for (unsigned i = 0; i < 100 * (c->slow ? c->slow : 1); i++) {
		if (read_number(LINK_UP, 9) == 0)
			break;
		usleep(100000);
	}
	check(c, read_number(LINK_UP, 9) == 0, "net: link down", "carrier %llu",
	      (unsigned long long)read_number(LINK_UP, 9));
}
