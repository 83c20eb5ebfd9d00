/* SPDX-License-Identifier: Apache-2.0 */
/* Counts a program's system calls on its way into the guest. */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#define COUNT_SYSCALLS_MAX 512

struct syscall_count {
	unsigned total;
	unsigned way;
	unsigned by_number[COUNT_SYSCALLS_MAX];
};

/*
 * Runs the program under ptrace, with all its threads and children, up to the first KVM_RUN, and
 * kills it there. Counted are the calls from its execve, which is one of them, to before that
 * KVM_RUN: what "strace -f" shows. `way` is those of the thread that enters, and of the thread that
 * made it until then, and so on: other threads come as far in that time as the scheduler likes,
 * this is the same in every run. (Of a monitor whose vCPU thread waits for another thread it shows
 * less than what must come before.) 0, -ENODATA when it ended without a KVM_RUN, or -errno. Reaps
 * all children of the caller: it must have no others.
 */
int count_syscalls(const char *const *argv, struct syscall_count *count);

#endif
