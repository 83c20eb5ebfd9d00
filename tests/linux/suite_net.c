/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases: the network under Linux's driver. Each runs in a network namespace of its own with a tap
 * in it, so nothing of the host's network is touched; a process beside the machine serves and takes
 * bytes.
 */
#include "suite_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include "net_content.h"

#define BYTES	     (8ull << 20)
#define BYTES_DIRECT (256ull << 10) /* where a guest's kernel is emulated */
#define CHUNK	     (64u << 10)
#define SERVER	     "198.51.100.1" /* another address of the host, on lo */
#define SERVER_NAME  "server.minivm.test"
#define RESOLVER     "127.0.0.53" /* as systemd-resolved has it: out of a guest's reach */
#define FORWARDED    8080

/* --- interfaces --- */

static bool set_address(int fd, const char *name, unsigned long request, const char *address)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct ifreq ifr = {.ifr_flags = 0};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	inet_pton(AF_INET, address, &a.sin_addr);
	memcpy(&ifr.ifr_addr, &a, sizeof(a));
	return ioctl(fd, request, &ifr) == 0;
}

static bool bring_up(int fd, const char *name, const char *address)
{
	struct ifreq ifr = {.ifr_flags = IFF_UP};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	return set_address(fd, name, SIOCSIFADDR, address) &&
	       set_address(fd, name, SIOCSIFNETMASK, "255.255.255.0") &&
	       ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
}

static bool add_default_route(int fd)
{
	struct sockaddr_in any = {.sin_family = AF_INET}, via = any;
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};

	inet_pton(AF_INET, "192.0.2.254", &via.sin_addr);
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	memcpy(&route.rt_gateway, &via, sizeof(via));
	return ioctl(fd, SIOCADDRT, &route) == 0;
}

/* A tap that lasts. 0 or -errno. */
static int make_tap(bool there)
{
	struct ifreq ifr = {.ifr_name = NET_TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, there ? 1 : 0) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static bool make_interfaces(struct net *n)
{
	int rc = make_tap(true);
	int fd;
	bool ok;

	if (rc) {
		n->t->skip = "no tap interfaces here";
		return false;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ok = bring_up(fd, "lo", "127.0.0.1") && bring_up(fd, "lo:1", SERVER) &&
	     bring_up(fd, NET_TAP, NET_TAP_ADDRESS) && add_default_route(fd);
	if (!ok)
		wrong(n->t, "no interfaces: %s", strerror(errno));
	close(fd);
	return ok;
}

/* --- the server --- */

static bool put_bytes(int fd, unsigned seed, uint64_t bytes)
{
	static uint8_t buf[CHUNK];

	for (uint64_t off = 0; off < bytes;) {
		size_t len = bytes - off < CHUNK ? bytes - off : CHUNK;
		ssize_t n;

		net_content(buf, seed, off, len);
		n = send(fd, buf, len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		off += (uint64_t)n;
	}
	return true;
}

static bool get_bytes(int fd, unsigned seed, uint64_t bytes)
{
	static uint8_t got[CHUNK], want[CHUNK];

	for (uint64_t off = 0; off < bytes;) {
		size_t len = bytes - off < CHUNK ? bytes - off : CHUNK;
		ssize_t n = recv(fd, got, len, 0);

		if (n <= 0)
			return false;
		net_content(want, seed, off, (size_t)n);
		if (memcmp(got, want, (size_t)n) != 0)
			return false;
		off += (uint64_t)n;
	}
	return true;
}

static void serve_one(int fd, uint64_t bytes)
{
	char what = 0, answer;

	if (recv(fd, &what, 1, 0) == 1 && what == 'G')
		put_bytes(fd, 1, bytes);
	if (what == 'P') {
		answer = get_bytes(fd, 2, bytes) ? 'y' : 'n';
		send(fd, &answer, 1, MSG_NOSIGNAL);
	}
	/* Until the guest has closed it, too. */
	(void)!recv(fd, &what, 1, 0);
	close(fd);
}

static pid_t start_server(struct net *n, uint64_t bytes)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(NET_PORT)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid = -1;

	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(listener, 4) == 0)
		pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			serve_one(accept(listener, NULL, NULL), bytes);
	}
	if (pid < 0)
		wrong(n->t, "no server: %s", strerror(errno));
	close(listener);
	return pid;
}

/* --- names --- */

#define DNS_HEADER 12
#define DNS_MAX	   512 /* RFC 1035 §4.2.1 */

/* SERVER_NAME's address: the one question that has an answer. The message's new length. */
static size_t answer_name(uint8_t *m, size_t len)
{
	static const char question[] = "\6server\6minivm\4test\0\0\1\0\1"; /* A, IN */
	static const uint8_t record[] = {0xc0, DNS_HEADER, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4};
	const size_t end = DNS_HEADER + sizeof(question) - 1;
	bool known = len >= end && memcmp(m + DNS_HEADER, question, end - DNS_HEADER) == 0;

	m[2] = 0x80 | (m[2] & 1); /* a response */
	m[3] = known ? 0x80 : 0x83;
	m[7] = known ? 1 : 0;
	m[11] = 0; /* no additional records, as a query may have for EDNS */
	if (!known)
		return len;
	memcpy(m + end, record, sizeof(record));
	inet_pton(AF_INET, SERVER, m + end + sizeof(record));
	return end + sizeof(record) + 4;
}

static _Noreturn void serve_names(int fd)
{
	uint8_t m[DNS_MAX + 32];
	struct sockaddr_in from;
	socklen_t from_len;

	for (;;) {
		ssize_t n;

		from_len = sizeof(from);
		n = recvfrom(fd, m, DNS_MAX, 0, (struct sockaddr *)&from, &from_len);
		if (n >= DNS_HEADER)
			sendto(fd, m, answer_name(m, (size_t)n), 0, (struct sockaddr *)&from,
			       from_len);
	}
}

static pid_t start_names(struct net *n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	pid_t pid = -1;

	inet_pton(AF_INET, RESOLVER, &a.sin_addr);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve_names(fd);
	}
	if (pid < 0)
		wrong(n->t, "no name server: %s", strerror(errno));
	close(fd);
	return pid;
}

/* --- a case's world --- */

uint64_t net_bytes(const struct test *t)
{
	return t->opt->direct ? BYTES_DIRECT : BYTES;
}

bool net_enter(struct net *n, struct test *t)
{
	*n = (struct net){.t = t, .server = -1, .names = -1};
	n->old_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (n->old_ns < 0 || unshare(CLONE_NEWNET) < 0) {
		t->skip = "no network namespace to be had: not root";
		return false;
	}
	if (!make_interfaces(n))
		return false;
	n->server = start_server(n, net_bytes(t));
	return n->server > 0;
}

static void stop(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

void net_leave(struct net *n)
{
	stop(n->server);
	stop(n->names);
	/* The namespace, and the tap with it, is gone with the last process in it. */
	if (n->old_ns >= 0 && setns(n->old_ns, CLONE_NEWNET) < 0)
		wrong(n->t, "cannot leave the network namespace: %s", strerror(errno));
	close(n->old_ns);
}

static void judge(struct test *t, const struct vm *vm)
{
	uint64_t bytes = net_bytes(t);

	if (vm_number(vm, "nets.0.rx_bytes") < (long long)bytes ||
	    vm_number(vm, "nets.0.tx_bytes") < (long long)bytes)
		wrong(t, "statistics: %lld bytes received, %lld sent",
		      vm_number(vm, "nets.0.rx_bytes"), vm_number(vm, "nets.0.tx_bytes"));
	if (vm_number(vm, "nets.0.tx_malformed") || vm_number(vm, "nets.0.refused") ||
	    vm_number(vm, "nets.0.malformed"))
		wrong(t, "the stock driver did something that the device refused");
	if (vm_number(vm, "nets.0.rx_dropped"))
		wrong(t, "%lld frames were dropped", vm_number(vm, "nets.0.rx_dropped"));
}

/* --- cases --- */

void case_net_tap(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--net", "tap=" NET_TAP ",mac=02:00:00:00:00:02"},
	    .checks = text(t, "net=" NET_GUEST "," NET_TAP_ADDRESS ",%llu",
			   (unsigned long long)net_bytes(t)),
	    .limit_s = 60,
	};
	struct net n;
	struct vm vm;

	if (net_enter(&n, t)) {
		vm_start(t, &vm, &req);
		vm_finish(&vm, 0);
		judge(t, &vm);
		vm_free(&vm);
	}
	net_leave(&n);
}

/* The tap is deleted under the running guest: its link goes down, and it goes on. */
void case_net_tap_gone(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--net", "tap=" NET_TAP},
	    .checks = text(t, "net=" NET_GUEST "," NET_TAP_ADDRESS ",%llu netdown",
			   (unsigned long long)net_bytes(t)),
	    .noisy = true,
	    .limit_s = 60,
	};
	struct net n;
	struct vm vm;

	if (net_enter(&n, t)) {
		vm_start(t, &vm, &req);
		if (vm_expect(&vm, "net: pull it") && system("ip link del " NET_TAP " 2>/dev/null"))
			wrong(t, "ip link del " NET_TAP " failed");
		vm_finish(&vm, 0);
		vm_free(&vm);
	}
	net_leave(&n);
}

/* A passt listens some time after its start. A socket, or -1. */
static int connect_loopback(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	for (unsigned i = 0; i < 300; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		if (errno != ECONNREFUSED)
			return -1;
		usleep(100000);
	}
	return -1;
}

/*
 * A connection from the host's loopback through passt to the guest's service. The client speaks
 * first: the passt of Debian 12 acknowledges the guest's SYN-ACK only when it has data to send.
 */
static void call_guest(struct test *t, unsigned port)
{
	int fd = connect_loopback(port);
	struct timeval tv = {.tv_sec = 60};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (fd < 0 || send(fd, "G", 1, 0) != 1)
		wrong(t, "forwarded port %u: %s", port, strerror(errno));
	else if (!get_bytes(fd, 3, net_bytes(t)) || send(fd, "y", 1, MSG_NOSIGNAL) != 1)
		wrong(t, "the guest's service behind port %u sent something else", port);
	close(fd);
}

/* In minivm's process, and so for its passt: this file tells where names are looked up. */
static int use_resolver(void *opaque)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(opaque, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
		return -errno;
	/* Where the host has one: whom it asks is not to be reached from here. */
	mount("none", "/run/systemd/resolve", "tmpfs", 0, NULL);
	return 0;
}

static bool write_file(const char *path, const char *content)
{
	FILE *f = fopen(path, "we");
	bool ok = f && fputs(content, f) >= 0;

	return f && fclose(f) == 0 && ok;
}

/* False: the case is skipped or has its verdict. net_leave() in any case. */
static bool user_enter(struct net *n, struct test *t, const char *resolver)
{
	if (!net_enter(n, t))
		return false;
	if (system("command -v passt >/dev/null 2>&1")) {
		t->skip = "passt is not installed here";
		return false;
	}
	if (!write_file(resolver, "nameserver " RESOLVER "\n"))
		return false;
	n->names = start_names(n);
	return n->names > 0;
}

/* A guest with DHCP, names, a fetch, a post, and then a service; and `more` groups. */
static void user_request(struct test *t, struct vm_request *req, const char *more)
{
	*req = (struct vm_request){
	    .args = {"--net", "user,forward=tcp:8080:80"},
	    .checks =
		text(t, "net=dhcp," SERVER_NAME ",%llu,65520 netserve=%llu %s",
		     (unsigned long long)net_bytes(t), (unsigned long long)net_bytes(t), more),
	    .noisy = true,
	    .others = true, /* passt's words */
	    .prepare = use_resolver,
	    .limit_s = 60,
	};
}

void case_net_user(struct test *t)
{
	char resolver[160];
	struct vm_request req;
	struct net n;
	struct vm vm;

	user_request(t, &req, "");
	snprintf(resolver, sizeof(resolver), "%s/resolv.conf", t->dir);
	req.opaque = resolver;
	if (user_enter(&n, t, resolver)) {
		vm_start(t, &vm, &req);
		if (vm_expect(&vm, "net: serving"))
			call_guest(t, FORWARDED);
		vm_finish(&vm, 0);
		judge(t, &vm);
		vm_free(&vm);
	}
	net_leave(&n);
}

/* --- clones, each with a passt of its own --- */

#define CLONES 2

static bool save(struct test *t, const char *name, const char *dir)
{
	const char *const argv[] = {t->opt->minivm, "snapshot", name, dir, NULL};
	const struct proc_request req = {.argv = argv};
	struct proc p;
	int status = -1;

	if (proc_start(&p, &req))
		return false;
	if (!proc_wait(&p, 60000, &status) || status != 0)
		wrong(t, "`minivm snapshot`: status %d: %s", status, p.err.data);
	proc_free(&p);
	return status == 0;
}

static void start_clone(struct test *t, struct vm *vm, struct vm_request *req, const char *dir,
			unsigned port)
{
	*req = (struct vm_request){
	    .whole_argv = true,
	    .args = {"restore", dir, "--net", text(t, "net0=user,forward=tcp:%u:80", port)},
	    .ignore_out = true,
	    .noisy = true,
	    .others = true,
	    .limit_s = 60,
	};
	vm_start(t, vm, req);
}

/* All at once: the guest that was saved while it waited for a connection gets one in each. */
static void run_clones(struct test *t, const char *dir)
{
	struct vm_request req[CLONES];
	struct vm vm[CLONES];

	for (unsigned i = 0; i < CLONES; i++)
		start_clone(t, &vm[i], &req[i], dir, FORWARDED + 1 + i);
	for (unsigned i = 0; i < CLONES; i++)
		call_guest(t, FORWARDED + 1 + i);
	for (unsigned i = 0; i < CLONES; i++) {
		if (!vm_expect(&vm[i], "ok - net: serve"))
			wrong(t, "clone %u: %s%s", i, vm[i].p.out.data, vm[i].p.err.data);
		/* How they end in order is for suite_snapshot.c, see stop_clone(). */
		vm_kill(&vm[i], SIGKILL);
		vm_free(&vm[i]);
	}
}

void case_snapshot_net(struct test *t)
{
	const char *name = text(t, "net-%d", (int)getpid());
	const char *dir = scratch_path(t, "snap");
	struct vm_request req;
	char resolver[160];
	struct net n;
	struct vm vm;

	user_request(t, &req, "wait");
	req.no_done = true;
	snprintf(resolver, sizeof(resolver), "%s/resolv.conf", t->dir);
	req.opaque = resolver;
	req.args[2] = "--name";
	req.args[3] = name;
	setenv("XDG_RUNTIME_DIR", t->dir, 1);
	if (user_enter(&n, t, resolver)) {
		vm_start(t, &vm, &req);
		if (vm_expect(&vm, "net: serving") && save(t, name, dir))
			run_clones(t, dir);
		call_guest(t, FORWARDED);
		vm_expect(&vm, "ok - net: serve");
		vm_kill(&vm, SIGKILL);
		vm_free(&vm);
	}
	net_leave(&n);
}
