/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One loop over poll(2): both outputs are drained as they come, input is written as it fits, the
 * clock is looked at on every turn. A pidfd tells of the end, so that a grandchild that keeps the
 * pipes open cannot hold us up.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

struct child {
	const struct run_request *req;
	pid_t pid;
	int pidfd;
	int in_fd; /* -1: closed */
	struct stream out;
	struct stream err;
	unsigned step;
	size_t step_from; /* output before this belongs to earlier steps */
	const char *to_send;
};

static _Noreturn void exec_child(const struct run_request *req, int in, int out, int err)
{
	setpgid(0, 0);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(127);
	execv(req->argv[0], (char *const *)(uintptr_t)req->argv);
	_exit(127);
}

static int spawn(struct child *c)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
	int rc = 0;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) ||
	    access(c->req->argv[0], X_OK)) {
		rc = -errno;
		goto out;
	}
	c->pid = fork();
	if (c->pid < 0) {
		rc = -errno;
		goto out;
	}
	if (c->pid == 0)
		exec_child(c->req, in[0], out[1], err[1]);
	setpgid(c->pid, c->pid); /* whoever is first */
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	c->in_fd = in[1];
	c->out.fd = out[0];
	c->err.fd = err[0];
	in[1] = out[0] = err[0] = -1;
	fcntl(c->in_fd, F_SETFL, O_NONBLOCK);
	fcntl(c->out.fd, F_SETFL, O_NONBLOCK);
	fcntl(c->err.fd, F_SETFL, O_NONBLOCK);
out:
	for (int i = 0; i < 2; i++) {
		close_fd(&in[i]);
		close_fd(&out[i]);
		close_fd(&err[i]);
	}
	return rc;
}

/* Moves the dialogue on as far as the output so far allows. */
static void advance(struct child *c)
{
	const struct run_request *req = c->req;

	while (!c->to_send && c->step < req->step_count) {
		const struct run_step *s = &req->steps[c->step];

		if (s->expect) {
			const char *from = c->out.data ? c->out.data + c->step_from : "";
			const char *hit = strstr(from, s->expect);

			if (!hit)
				return;
			c->step_from = (size_t)(hit - c->out.data) + strlen(s->expect);
		}
		if (s->signal)
			kill(c->pid, s->signal);
		c->step++;
		c->to_send = s->send;
	}
	if (!c->to_send && !req->hold_input)
		close_fd(&c->in_fd);
}

static void send_input(struct child *c)
{
	ssize_t n;

	if (!c->to_send || c->in_fd < 0)
		return;
	n = write(c->in_fd, c->to_send, strlen(c->to_send));
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		close_fd(&c->in_fd); /* the program is not interested */
	if (n > 0)
		c->to_send += n;
	if (c->in_fd < 0 || !*c->to_send)
		c->to_send = NULL;
}

/* One turn. True: the program has ended. */
static bool turn(struct child *c, int wait_ms)
{
	struct pollfd p[] = {
	    {.fd = c->pidfd, .events = POLLIN},
	    {.fd = c->out.fd, .events = POLLIN},
	    {.fd = c->err.fd, .events = POLLIN},
	    {.fd = c->to_send ? c->in_fd : -1, .events = POLLOUT},
	};

	if (poll(p, 4, wait_ms) <= 0)
		return false;
	stream_read(&c->out);
	stream_read(&c->err);
	send_input(c);
	advance(c);
	return p[0].revents != 0;
}

static void reap(struct child *c, struct run_result *result)
{
	struct rusage usage;
	int status = 0;

	/* what it left behind goes too; while it is a zombie the group's number is not reused */
	kill(-c->pid, SIGKILL);
	while (wait4(c->pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	while (stream_read(&c->out))
		;
	while (stream_read(&c->err))
		;
	result->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	result->max_rss_kib = usage.ru_maxrss;
	result->steps = c->step;
}

int run_program(const struct run_request *req, struct run_result *result)
{
	struct child c = {.req = req, .pidfd = -1, .in_fd = -1, .out.fd = -1, .err.fd = -1};
	uint64_t start = now_ms();
	unsigned elapsed = 0;
	int rc;

	*result = (struct run_result){.status = -1};
	signal(SIGPIPE, SIG_IGN);
	rc = spawn(&c);
	if (rc)
		return rc;
	stream_add(&c.out, "", 0);
	stream_add(&c.err, "", 0);
	advance(&c);
	while (!turn(&c, 50)) {
		elapsed = (unsigned)(now_ms() - start);
		if (elapsed >= req->timeout_ms) {
			result->timed_out = true;
			break;
		}
	}
	reap(&c, result);
	result->ms = (unsigned)(now_ms() - start);
	result->out = c.out.data;
	result->out_len = c.out.len;
	result->err = c.err.data;
	result->err_len = c.err.len;
	close_fd(&c.pidfd);
	close_fd(&c.in_fd);
	close_fd(&c.out.fd);
	close_fd(&c.err.fd);
	return 0;
}

void run_result_free(struct run_result *result)
{
	free(result->out);
	free(result->err);
	*result = (struct run_result){.status = -1};
}

bool run_has_line(const char *text, const char *line)
{
	size_t len = strlen(line);

	while (text && *text) {
		size_t n = strcspn(text, "\n");
		size_t end = n && text[n - 1] == '\r' ? n - 1 : n;

		if (end == len && !memcmp(text, line, len))
			return true;
		text += n + (text[n] == '\n');
	}
	return false;
}
