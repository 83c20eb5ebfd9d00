/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step is a poll(2) over the pidfd and both outputs; everything that waits is a loop around it
 * with the clock in its condition.
 */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS	     20
#define PREPARE_FAIL 99

#define PROC_NONE                                                                                  \
	((struct proc){                                                                            \
	    .pidfd = -1, .in = -1, .tty = -1, .tty_slave = -1, .out.fd = -1, .err.fd = -1})

/* --- start --- */

/* Both ends of what the child gets as descriptors 0, 1, 2; -1: not there. */
struct ends {
	int child[3];
	int parent[3];
	int slave; /* kept open, so that the terminal outlives the program */
};

static int make_pipe(struct ends *e, unsigned which)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	e->child[which] = fd[which != 0];
	e->parent[which] = fd[which == 0];
	return 0;
}

static int make_ends(const struct proc_request *req, struct ends *e)
{
	int master, slave, rc = make_pipe(e, 2);

	if (rc)
		return rc;
	if (req->tty) {
		if (openpty(&master, &slave, NULL, NULL, NULL))
			return -errno;
		fcntl(master, F_SETFD, FD_CLOEXEC);
		e->parent[1] = master;
		fcntl(slave, F_SETFD, FD_CLOEXEC);
		e->slave = slave;
		e->child[0] = dup(slave);
		e->child[1] = dup(slave);
		return e->child[1] < 0 ? -errno : 0;
	}
	rc = make_pipe(e, 1);
	if (!rc && !req->in_file)
		return make_pipe(e, 0);
	if (!rc) {
		e->child[0] = open(req->in_file, O_RDONLY | O_CLOEXEC);
		rc = e->child[0] < 0 ? -errno : 0;
	}
	return rc;
}

static _Noreturn void exec_child(const struct proc_request *req, const struct ends *e)
{
	setsid();
	/* A suite that is killed leaves no machine behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	for (int i = 0; i < 3; i++) {
		if (dup2(e->child[i], i) < 0)
			_exit(PREPARE_FAIL);
	}
	closefrom(3);
	if (req->prepare && req->prepare(req->opaque))
		_exit(PREPARE_FAIL);
	execv(req->argv[0], (char *const *)(uintptr_t)req->argv);
	_exit(127);
}

int proc_start(struct proc *p, const struct proc_request *req)
{
	struct ends e = {{-1, -1, -1}, {-1, -1, -1}, -1};
	int rc = make_ends(req, &e);

	*p = PROC_NONE;
	signal(SIGPIPE, SIG_IGN);
	if (!rc) {
		p->pid = fork();
		if (p->pid == 0)
			exec_child(req, &e);
		rc = p->pid < 0 ? -errno : 0;
	}
	for (int i = 0; i < 3; i++) {
		close_fd(&e.child[i]);
		if (rc)
			close_fd(&e.parent[i]);
		else if (e.parent[i] >= 0)
			fcntl(e.parent[i], F_SETFL, O_NONBLOCK);
	}
	if (rc) {
		close_fd(&e.slave);
		p->pid = 0;
		return rc;
	}
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	p->in = e.parent[0];
	p->out.fd = e.parent[1];
	p->err.fd = e.parent[2];
	if (req->tty)
		p->tty = e.parent[1];
	p->tty_slave = e.slave;
	stream_add(&p->out, "", 0);
	stream_add(&p->err, "", 0);
	return 0;
}

/* --- steps --- */

/* Waits a moment for output or the end. True: the program has ended. */
static bool step(struct proc *p, int want_in)
{
	struct pollfd fds[] = {
	    {.fd = p->pidfd, .events = POLLIN},
	    {.fd = p->ignore_out ? -1 : p->out.fd, .events = POLLIN},
	    {.fd = p->err.fd, .events = POLLIN},
	    {.fd = want_in, .events = POLLOUT},
	};

	if (poll(fds, 4, STEP_MS) <= 0)
		return false;
	if (!p->ignore_out)
		stream_read(&p->out);
	stream_read(&p->err);
	return fds[0].revents != 0;
}

static void drain(struct proc *p)
{
	while (!p->ignore_out && stream_read(&p->out))
		;
	while (stream_read(&p->err))
		;
}

bool proc_expect(struct proc *p, const char *text, unsigned timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;
	bool ended = false;

	for (;;) {
		const char *hit = strstr(p->out.data + p->mark, text);

		if (hit) {
			p->mark = (size_t)(hit - p->out.data) + strlen(text);
			return true;
		}
		if (ended || now_ms() >= until)
			return false;
		ended = step(p, -1);
		if (ended)
			drain(p);
	}
}

bool proc_expect_err(struct proc *p, const char *text, unsigned timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;
	bool ended = false;

	while (!strstr(p->err.data, text)) {
		if (ended || now_ms() >= until)
			return false;
		ended = step(p, -1);
		if (ended)
			drain(p);
	}
	return true;
}

bool proc_ended(const struct proc *p)
{
	struct pollfd end = {.fd = p->pidfd, .events = POLLIN};

	return poll(&end, 1, 0) > 0;
}

void proc_idle(struct proc *p, unsigned ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until && !step(p, -1))
		;
}

bool proc_send(struct proc *p, const void *data, size_t len, unsigned timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;
	int fd = p->tty >= 0 ? p->tty : p->in;
	const char *at = data;

	while (len) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
		if (len && (step(p, fd) || now_ms() >= until))
			return false;
	}
	return true;
}

void proc_close_in(struct proc *p)
{
	close_fd(&p->in);
}

void proc_close_out(struct proc *p)
{
	close_fd(&p->out.fd);
}

void proc_signal(struct proc *p, int sig)
{
	if (p->pid > 0)
		kill(p->pid, sig);
}

bool proc_wait(struct proc *p, unsigned timeout_ms, int *status)
{
	uint64_t until = now_ms() + timeout_ms;
	bool in_time = true;
	int st = 0;

	while (!step(p, -1)) {
		if (now_ms() >= until) {
			in_time = false;
			kill(-p->pid, SIGKILL);
			break;
		}
	}
	while (waitpid(p->pid, &st, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
	drain(p);
	*status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
	return in_time;
}

const char *proc_complaints(const struct proc *p)
{
	static const char warning[] = "minivm: warning: KVM emulates guest kernel mode";
	const char *text = p->err.data ? p->err.data : "";
	const char *end = strchr(text, '\n');

	return end && !strncmp(text, warning, sizeof(warning) - 1) ? end + 1 : text;
}

void proc_free(struct proc *p)
{
	int status;

	if (p->pid > 0) {
		kill(-p->pid, SIGKILL);
		proc_wait(p, 10000, &status);
	}
	if (p->out.data) {
		close_fd(&p->pidfd);
		close_fd(&p->in);
		close_fd(&p->out.fd);
		close_fd(&p->err.fd);
		close_fd(&p->tty_slave);
	}
	free(p->out.data);
	free(p->err.data);
	*p = PROC_NONE;
}
