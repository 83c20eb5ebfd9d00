/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter returns SECCOMP_RET_USER_NOTIF for the ioctls that are wanted (seccomp_unotify(2)); a
 * thread of ours takes the notifications and answers "continue".
 *
 * The child installs the filter and gets the listener; it tells its number in a shared page and
 * waits until we have taken it (pidfd_getfd), since exec closes it. Then it notes the time and
 * calls exec.
 */
#include "watch.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_REGION_2 0x40a0ae49 /* KVM_SET_USER_MEMORY_REGION2; begins like the first one */

struct watch_shared {
	_Atomic int listener; /* the child's number for it; -1: not yet, -2: it failed */
	_Atomic bool taken;
	uint64_t exec_ns;
	enum watch_mode mode;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- in the child --- */

#define LOAD(field)	  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (yes), (no))

static int install_filter(enum watch_mode mode)
{
	/* The low half of the request is all of it: the kernel takes an unsigned int. */
	struct sock_filter code[] = {
	    LOAD(arch),
	    EQUAL(AUDIT_ARCH_X86_64, 0, 5),
	    LOAD(nr),
	    EQUAL(SYS_ioctl, 0, 3),
	    LOAD(args[1]),
	    EQUAL(mode == WATCH_MEMORY ? KVM_SET_USER_MEMORY_REGION : KVM_RUN, 2, 0),
	    EQUAL(mode == WATCH_MEMORY ? MEMORY_REGION_2 : KVM_RUN, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &program);
}

static int prepare(void *opaque)
{
	struct watch_shared *shared = opaque;
	int fd = install_filter(shared->mode);

	atomic_store(&shared->listener, fd < 0 ? -2 : fd);
	if (fd < 0)
		return fd;
	while (!atomic_load(&shared->taken))
		sched_yield();
	shared->exec_ns = now_ns();
	return 0;
}

/* --- our thread --- */

static struct watch_range *find_slot(struct watch *w, uint32_t slot)
{
	for (unsigned i = 0; i < w->ranges; i++) {
		if (w->range[i].slot == slot)
			return &w->range[i];
	}
	return w->ranges < WATCH_RANGES_MAX ? &w->range[w->ranges++] : NULL;
}

/* A slot of length 0 is one that is taken away: its range is empty from then on. */
static void note_memory(struct watch *w, uint64_t address)
{
	struct kvm_userspace_memory_region r;
	struct iovec to = {&r, sizeof(r)};
	struct iovec from = {(void *)address, sizeof(r)};
	struct watch_range *range;

	if (process_vm_readv(w->p.pid, &to, 1, &from, 1, 0) != sizeof(r))
		return;
	range = find_slot(w, r.slot);
	if (range)
		*range = (struct watch_range){r.slot, r.userspace_addr,
					      r.userspace_addr + r.memory_size};
}

/* False: the program is to go no further. */
static bool note_call(struct watch *w, const struct seccomp_notif *call)
{
	if (w->mode == WATCH_MEMORY) {
		note_memory(w, call->data.args[2]);
		return true;
	}
	atomic_fetch_add(&w->runs, 1);
	return w->mode == WATCH_RUNS;
}

static void *serve(void *opaque)
{
	struct watch *w = opaque;
	struct pollfd fds[] = {{.fd = w->listener, .events = POLLIN},
			       {.fd = w->stop, .events = POLLIN}};

	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		struct seccomp_notif call = {0};
		struct seccomp_notif_resp answer = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
		uint64_t now = now_ns();

		if (fds[1].revents || !(fds[0].revents & POLLIN))
			break;
		if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue; /* the caller was killed meanwhile */
		if (!w->first_run_ns)
			w->first_run_ns = now;
		if (!note_call(w, &call)) {
			kill(w->p.pid, SIGKILL);
			break;
		}
		answer.id = call.id;
		ioctl(w->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

/* --- life --- */

static int take_listener(struct watch *w)
{
	int fd;

	while ((fd = atomic_load(&w->shared->listener)) == -1)
		usleep(100);
	w->listener = fd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, w->p.pidfd, fd, 0);
	return w->listener < 0 ? -EPERM : 0;
}

int watch_start(struct watch *w, const char *const *argv, enum watch_mode mode)
{
	struct proc_request req = {.argv = argv, .in_file = "/dev/null", .prepare = prepare};
	int rc;

	*w = (struct watch){.mode = mode, .listener = -1, .stop = -1};
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->shared == MAP_FAILED)
		return -errno;
	w->shared->listener = -1;
	w->shared->mode = mode;
	req.opaque = w->shared;
	rc = proc_start(&w->p, &req);
	if (rc)
		goto out_unmap;
	rc = take_listener(w);
	if (rc)
		goto out_proc;
	w->stop = eventfd(0, EFD_CLOEXEC);
	rc = w->stop < 0 ? -errno : -pthread_create(&w->thread, NULL, serve, w);
	if (rc)
		goto out_close;
	atomic_store(&w->shared->taken, true);
	return 0;

out_close:
	close_fd(&w->stop);
	close_fd(&w->listener);
out_proc:
	proc_free(&w->p);
out_unmap:
	munmap(w->shared, sizeof(*w->shared));
	return rc;
}

double watch_first_run_ms(struct watch *w, unsigned timeout_ms)
{
	int status;

	proc_wait(&w->p, timeout_ms, &status);
	w->exec_ns = w->shared->exec_ns;
	if (atomic_load(&w->runs) == 0)
		return -1;
	return (double)(w->first_run_ns - w->exec_ns) / 1e6;
}

bool watch_is_guest(const struct watch *w, uint64_t start, uint64_t end)
{
	unsigned i = 0;

	/* Several slots may lie behind each other: go on where one ends, until none fits. */
	while (start < end && i < w->ranges) {
		const struct watch_range *r = &w->range[i++];

		if (start >= r->start && start < r->end) {
			start = r->end;
			i = 0;
		}
	}
	return start >= end;
}

void watch_stop(struct watch *w)
{
	uint64_t one = 1;

	proc_free(&w->p);
	if (write(w->stop, &one, sizeof(one)) != sizeof(one))
		abort(); /* an eventfd of our own takes a 1 */
	pthread_join(w->thread, NULL);
	close_fd(&w->stop);
	close_fd(&w->listener);
	munmap(w->shared, sizeof(*w->shared));
}
