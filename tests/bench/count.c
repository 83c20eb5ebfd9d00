/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptrace(2) with PTRACE_GET_SYSCALL_INFO: every system call stops twice, at its entry it is
 * counted. New threads and processes are attached to as they come; they begin with a stop as well.
 */
#include "count.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc.h"

#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |  \
	 PTRACE_O_EXITKILL)
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define THREADS_MAX  64

static int trace_me(void *opaque)
{
	(void)opaque;
	return ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP);
}

/*
 * A thread, and how many calls lie on its way: its own, and those before it was made. Its first
 * stop may come before the news of its creation: it is held until these are there.
 */
struct thread {
	pid_t tid;
	unsigned way;
	bool known;
	bool held;
};

struct threads {
	struct thread thread[THREADS_MAX];
	unsigned count;
};

/* NULL when there are too many. */
static struct thread *find_thread(struct threads *t, pid_t tid)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (t->thread[i].tid == tid)
			return &t->thread[i];
	}
	if (t->count == THREADS_MAX)
		return NULL;
	t->thread[t->count] = (struct thread){.tid = tid};
	return &t->thread[t->count++];
}

static void note_clone(struct threads *threads, const struct thread *parent)
{
	struct thread *made;
	unsigned long tid;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &tid))
		return;
	made = find_thread(threads, (pid_t)tid);
	if (!made)
		return;
	made->way = parent->way;
	made->known = true;
	if (made->held)
		ptrace(PTRACE_SYSCALL, made->tid, 0, 0);
}

/* True at the entry of KVM_RUN, which is not counted. */
static bool note_syscall(struct thread *thread, struct syscall_count *count)
{
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, thread->tid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	if (info.entry.nr == SYS_ioctl && info.entry.args[1] == KVM_RUN) {
		count->way = thread->way;
		return true;
	}
	thread->way++;
	count->total++;
	if (info.entry.nr < COUNT_SYSCALLS_MAX)
		count->by_number[info.entry.nr]++;
	return false;
}

/* The signal that goes on to the thread: none that only tell the tracer something. */
static int signal_of(int status)
{
	int sig = WSTOPSIG(status);

	if (sig == SYSCALL_STOP || status >> 16 || sig == SIGTRAP || sig == SIGSTOP)
		return 0;
	return sig;
}

static void kill_all(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
}

static bool is_clone(int status)
{
	int event = status >> 16;

	return event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
	       event == PTRACE_EVENT_VFORK;
}

static int follow(pid_t pid, struct syscall_count *count)
{
	struct threads threads = {.thread = {{.tid = pid, .known = true}}, .count = 1};

	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);
		struct thread *thread;

		if (tid < 0)
			return errno == EINTR ? -EINTR : -ENODATA;
		if (!WIFSTOPPED(status))
			continue;
		thread = find_thread(&threads, tid);
		if (!thread)
			return -E2BIG;
		if (is_clone(status))
			note_clone(&threads, thread);
		if (WSTOPSIG(status) == SYSCALL_STOP && note_syscall(thread, count))
			return 0;
		thread->held = !thread->known;
		if (!thread->held)
			ptrace(PTRACE_SYSCALL, tid, 0, (long)signal_of(status));
	}
}

int count_syscalls(const char *const *argv, struct syscall_count *count)
{
	const struct proc_request req = {.argv = argv, .in_file = "/dev/null", .prepare = trace_me};
	struct proc p;
	int status, rc;

	memset(count, 0, sizeof(*count));
	rc = proc_start(&p, &req);
	if (rc)
		return rc;
	if (waitpid(p.pid, &status, __WALL) != p.pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, p.pid, 0, OPTIONS) || ptrace(PTRACE_SYSCALL, p.pid, 0, 0))
		rc = -EIO;
	else
		rc = follow(p.pid, count);
	kill_all(p.pid);
	p.pid = 0; /* reaped */
	proc_free(&p);
	return rc;
}
