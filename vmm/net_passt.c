/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt(1), the other end of --net user: a process that terminates the guest's TCP and UDP
 * connections and makes them anew from the host's own sockets, so no privilege is needed.
 *
 * It is handed one end of a socketpair (--fd), serves that alone and ends when the other end, ours,
 * is closed: by us, or by the kernel with our process, however that ends. PR_SET_PDEATHSIG says the
 * same twice; it does not outlive passt's change of user when root started us.
 *
 * --no-map-gw: passt would otherwise lead connections to the gateway's address to the loopback
 * interface of the host, where services trust whoever reaches them. A name server there is out of
 * the guest's reach as well, and passt does not tell it of one. systemd-resolved is such a server:
 * it leaves in a file whom it asks itself, and that is what the guest is told. Of others it is told
 * nothing, but what it asks GUEST_RESOLVER goes to them.
 */
#include "net_passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PASST "passt"

/* Its end when ours is closed takes it 1 to 4 ms. */
#define PASST_END_MS 1000

#define ARGS_MAX (18 + 2 * CONFIG_FORWARDS_MAX)

#define RESOLV_CONF   "/etc/resolv.conf"
#define RESOLVED_CONF "/run/systemd/resolve/resolv.conf"
/* Link-local: nobody else routes it. */
#define GUEST_RESOLVER "169.254.1.53"

struct passt_args {
	unsigned n;
	char *arg[ARGS_MAX + 1];
	char fd[16];
	char mtu[16];
	char resolver[INET_ADDRSTRLEN];
	char forward[CONFIG_FORWARDS_MAX][NET_ADDRESS_MAX + 16];
};

static void add(struct passt_args *a, const char *text)
{
	/* exec(3) takes char *const[], and changes nothing. */
	union {
		const char *text;
		char *arg;
	} u = {.text = text};

	a->arg[a->n++] = u.arg;
}

/* The first IPv4 name server of a resolv.conf(5). False: there is none. */
static bool first_resolver(const char *path, char out[INET_ADDRSTRLEN], bool *loopback)
{
	struct in_addr address = {.s_addr = 0};
	FILE *f = fopen(path, "re");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, " nameserver %15s", out) == 1 &&
			inet_pton(AF_INET, out, &address) == 1;
	if (f)
		fclose(f);
	*loopback = ntohl(address.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
	return found;
}

static void add_resolver(struct passt_args *a)
{
	bool loopback;

	if (!first_resolver(RESOLV_CONF, a->resolver, &loopback) || !loopback)
		return;
	if (first_resolver(RESOLVED_CONF, a->resolver, &loopback) && !loopback) {
		add(a, "--dns");
		add(a, a->resolver);
	} else {
		add(a, "--dns-forward");
		add(a, GUEST_RESOLVER);
	}
}

static void make_args(struct passt_args *a, const struct net_config *config, int fd)
{
	*a = (struct passt_args){.n = 0};
	snprintf(a->fd, sizeof(a->fd), "%d", fd);
	add(a, PASST);
	add(a, "--foreground");
	add(a, "--quiet");
	add(a, "--stderr");
	add(a, "--no-map-gw");
	add(a, "--fd");
	add(a, a->fd);
	if (config->mtu) {
		snprintf(a->mtu, sizeof(a->mtu), "%u", config->mtu);
		add(a, "--mtu");
		add(a, a->mtu);
	}
	add_resolver(a);
	for (unsigned i = 0; i < config->forward_count; i++) {
		const struct net_forward *f = &config->forward[i];

		snprintf(a->forward[i], sizeof(a->forward[i]), "%s/%u:%u", f->address, f->host_port,
			 f->guest_port);
		add(a, f->udp ? "--udp-ports" : "--tcp-ports");
		add(a, a->forward[i]);
	}
}

/* In the child. Only `socket` and the standard descriptors are left to passt; why not: to `report`.
 */
static void run(const struct passt_args *a, int socket, int report, pid_t parent)
{
	sigset_t none;
	int e;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	/* A Ctrl-C of the terminal is the machine's, which then ends passt. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	e = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (e >= 0) {
		dup2(e, STDIN_FILENO);
		dup2(e, STDOUT_FILENO);
	}
	/* What our starter left open, a tap perhaps. Before Linux 5.11 it stays: nobody uses it. */
	close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	fcntl(socket, F_SETFD, 0);
	execvp(PASST, a->arg);
	e = errno;
	(void)!write(report, &e, sizeof(e));
	_exit(1);
}

/* exec's errno, or 0: it was carried out, and closed the pipe. */
static int exec_result(int report)
{
	int e = 0;
	ssize_t n;

	do
		n = read(report, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	return n == sizeof(e) ? e : 0;
}

static int spawn(const struct net_config *config, int socket, pid_t *pid, struct err *err)
{
	struct passt_args args;
	pid_t parent = getpid();
	int report[2];
	int e;

	make_args(&args, config, socket);
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(err, errno, PASST);
	*pid = fork();
	if (*pid == 0)
		run(&args, socket, report[1], parent);
	close(report[1]);
	e = *pid < 0 ? errno : exec_result(report[0]);
	close(report[0]);
	if (!e)
		return 0;
	if (*pid > 0)
		waitpid(*pid, NULL, 0);
	err_sys(err, e, PASST);
	if (e == ENOENT)
		err_hint(err, "user networking needs it: apt install passt");
	return err->code;
}

int passt_start(const struct net_config *config, int *fd, pid_t *pid, struct err *err)
{
	int pair[2];
	int ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, errno, "socketpair");
	ret = spawn(config, pair[1], pid, err);
	close(pair[1]);
	if (ret)
		close(pair[0]);
	else
		*fd = pair[0];
	return ret;
}

void passt_wait(pid_t pid)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	unsigned i;

	for (i = 0; i < PASST_END_MS; i++) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		nanosleep(&ms, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
