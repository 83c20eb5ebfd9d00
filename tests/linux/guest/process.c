/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes, system calls, signals and page faults: what a VMM gets wrong when it loses or invents
 * processor state.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"

#define SELF "/proc/self/exe"

/* --- fork, exec, wait --- */

static int run_child(unsigned status)
{
	char number[16];
	char *const argv[] = {(char *)(uintptr_t) "checks", (char *)(uintptr_t) "child", number,
			      NULL};
	int st = -1;
	pid_t pid;

	snprintf(number, sizeof(number), "%u", status);
	pid = fork();
	if (pid == 0) {
		execv(SELF, argv);
		_exit(255);
	}
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		return -1;
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

void group_forks(struct checks *c, char *arg)
{
	uint64_t n = next_number(&arg), i;
	int got = 0;

	for (i = 0; i < n; i++) {
		got = run_child((unsigned)(i % 200));
		if (got != (int)(i % 200))
			break;
	}
	check(c, i == n, "fork, exec, exit, wait", "child %llu ended with %d: %s",
	      (unsigned long long)i, got, strerror(errno));
}

/* --- system calls --- */

/*
 * getpid() with known values in all registers that it must keep. Returns how many were changed.
 * R11 and RCX are SYSCALL's own; RAX is the result.
 */
static unsigned syscall_keeps(long *result)
{
	uint64_t r[10];
	long rax = SYS_getpid;

	__asm__ volatile("push %%rbx\n\tpush %%rbp\n\t"
			 "mov $0x1111, %%rbx\n\tmov $0x2222, %%rbp\n\tmov $0x3333, %%r12\n\t"
			 "mov $0x4444, %%r13\n\tmov $0x5555, %%r14\n\tmov $0x6666, %%r15\n\t"
			 "mov $0x7777, %%r8\n\tmov $0x8888, %%r9\n\tmov $0x9999, %%r10\n\t"
			 "syscall\n\t"
			 "mov %%rbx, 0(%1)\n\tmov %%rbp, 8(%1)\n\tmov %%r12, 16(%1)\n\t"
			 "mov %%r13, 24(%1)\n\tmov %%r14, 32(%1)\n\tmov %%r15, 40(%1)\n\t"
			 "mov %%r8, 48(%1)\n\tmov %%r9, 56(%1)\n\tmov %%r10, 64(%1)\n\t"
			 "pop %%rbp\n\tpop %%rbx"
			 : "+a"(rax)
			 : "S"(r)
			 : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
	*result = rax;
	r[9] = 0;
	for (unsigned i = 0; i < 9; i++)
		r[9] += r[i] != 0x1111ull * (i + 1);
	return (unsigned)r[9];
}

void group_syscalls(struct checks *c, char *arg)
{
	uint64_t n = next_number(&arg), wrong = 0, lost = 0, start = now_ns();
	pid_t pid = getpid();

	for (uint64_t i = 0; i < n; i++) {
		long result;

		lost += syscall_keeps(&result);
		wrong += result != pid;
	}
	check(c, wrong == 0 && lost == 0, "system calls", "%llu wrong answers, %llu registers lost",
	      (unsigned long long)wrong, (unsigned long long)lost);
	say("a system call takes %llu ns", (unsigned long long)((now_ns() - start) / (n ? n : 1)));
	check(c, syscall(SYS_lseek, -1, 0, 0) == -1 && errno == EBADF, "errors of system calls",
	      "lseek(-1): %s", strerror(errno));
}

/* --- floating point --- */

struct fpu_state {
	uint8_t xmm[16][16];
	long double x87;
	uint32_t mxcsr;
};

/* Loads the state, gives the processor away, stores what came back. */
static void yield_with(const struct fpu_state *in, struct fpu_state *out)
{
	__asm__ volatile("ldmxcsr %c[csr](%0)\n\tfldt %c[x87](%0)\n\t"
			 "movdqu 0(%0), %%xmm0\n\tmovdqu 16(%0), %%xmm1\n\t"
			 "movdqu 32(%0), %%xmm2\n\tmovdqu 48(%0), %%xmm3\n\t"
			 "movdqu 64(%0), %%xmm4\n\tmovdqu 80(%0), %%xmm5\n\t"
			 "movdqu 96(%0), %%xmm6\n\tmovdqu 112(%0), %%xmm7\n\t"
			 "movdqu 128(%0), %%xmm8\n\tmovdqu 144(%0), %%xmm9\n\t"
			 "movdqu 160(%0), %%xmm10\n\tmovdqu 176(%0), %%xmm11\n\t"
			 "movdqu 192(%0), %%xmm12\n\tmovdqu 208(%0), %%xmm13\n\t"
			 "movdqu 224(%0), %%xmm14\n\tmovdqu 240(%0), %%xmm15\n\t"
			 "mov %[yield], %%eax\n\tsyscall\n\t"
			 "stmxcsr %c[csr](%1)\n\tfstpt %c[x87](%1)\n\t"
			 "movdqu %%xmm0, 0(%1)\n\tmovdqu %%xmm1, 16(%1)\n\t"
			 "movdqu %%xmm2, 32(%1)\n\tmovdqu %%xmm3, 48(%1)\n\t"
			 "movdqu %%xmm4, 64(%1)\n\tmovdqu %%xmm5, 80(%1)\n\t"
			 "movdqu %%xmm6, 96(%1)\n\tmovdqu %%xmm7, 112(%1)\n\t"
			 "movdqu %%xmm8, 128(%1)\n\tmovdqu %%xmm9, 144(%1)\n\t"
			 "movdqu %%xmm10, 160(%1)\n\tmovdqu %%xmm11, 176(%1)\n\t"
			 "movdqu %%xmm12, 192(%1)\n\tmovdqu %%xmm13, 208(%1)\n\t"
			 "movdqu %%xmm14, 224(%1)\n\tmovdqu %%xmm15, 240(%1)\n\t"
			 :
			 : "r"(in), "r"(out), [csr] "i"(offsetof(struct fpu_state, mxcsr)),
			   [x87] "i"(offsetof(struct fpu_state, x87)), [yield] "i"(SYS_sched_yield)
			 : "rax", "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
			   "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
			   "xmm13", "xmm14", "xmm15");
}

/* A handler that uses the registers, too. */
static volatile double sink = 1.5;
static void on_alarm(int sig)
{
	(void)sig;
	sink = sink * 1.000001 + 0.5;
}

/* In a child: exit status 0 if its state stayed its own for all rounds. */
static int fpu_child(unsigned number, uint64_t rounds)
{
	/* Rounding control in MXCSR bits 13-14: another one for each child; exceptions masked. */
	struct fpu_state in = {.x87 = 1.0L / 3 + number, .mxcsr = 0x1f80 | number % 4 << 13};
	struct fpu_state out;
	const struct itimerval timer = {{0, 3000}, {0, 3000}};

	for (unsigned i = 0; i < sizeof(in.xmm); i++)
		in.xmm[i / 16][i % 16] = (uint8_t)(i * 7 + number * 31);
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (uint64_t i = 0; i < rounds; i++) {
		memset(&out, 0, sizeof(out));
		yield_with(&in, &out);
		if (memcmp(in.xmm, out.xmm, sizeof(in.xmm)) != 0 || in.x87 != out.x87)
			return 1;
		if ((out.mxcsr & 0xffc0) != in.mxcsr)
			return 2;
	}
	return 0;
}

void group_fpu(struct checks *c, char *arg)
{
	enum { CHILDREN = 4 };
	uint64_t rounds = next_number(&arg);
	pid_t pid[CHILDREN];
	int bad = 0, st;

	for (unsigned i = 0; i < CHILDREN; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(fpu_child(i, rounds));
	}
	for (unsigned i = 0; i < CHILDREN; i++) {
		if (pid[i] < 0 || waitpid(pid[i], &st, 0) != pid[i] || st != 0)
			bad = (int)i + 1;
	}
	check(c, bad == 0, "vector, x87 and MXCSR state of processes", "child %d lost its state",
	      bad);
}

/* --- signals --- */

static sigjmp_buf back;
static volatile sig_atomic_t seen_signal, seen_code;
static void *volatile seen_address;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	seen_signal = sig;
	seen_code = info->si_code;
	seen_address = info->si_addr;
	siglongjmp(back, 1);
}

static void fault_read(void)
{
	__asm__ volatile("mov $0x10, %%eax\n\tmovl (%%rax), %%eax" : : : "rax", "memory");
}

static void fault_undefined(void)
{
	__asm__ volatile("ud2");
}

static void fault_divide(void)
{
	__asm__ volatile("xor %%ecx, %%ecx\n\tmov $1, %%eax\n\txor %%edx, %%edx\n\tdivl %%ecx"
			 :
			 :
			 : "rax", "rcx", "rdx");
}

static void fault_breakpoint(void)
{
	__asm__ volatile("int3");
}

static void fault_privileged(void)
{
	__asm__ volatile("hlt");
}

struct fault {
	const char *name;
	void (*make)(void);
	int signal;
	int code; /* 0: any */
};

static void check_fault(struct checks *c, const struct fault *f)
{
	seen_signal = 0;
	if (sigsetjmp(back, 1) == 0)
		f->make();
	check(c, seen_signal == f->signal && (!f->code || seen_code == f->code), f->name,
	      "signal %d code %d, want %d code %d", (int)seen_signal, (int)seen_code, f->signal,
	      f->code);
}

static void check_interval_timer(struct checks *c)
{
	const struct itimerval timer = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
	uint64_t until = now_ns() + 10000000000ull * c->slow;
	double before = sink, steps = 0;

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &timer, NULL);
	while (steps < 5 && now_ns() < until) {
		if (sink != before) {
			before = sink;
			steps++;
		}
	}
	setitimer(ITIMER_REAL, &off, NULL);
	check(c, steps >= 5, "interval timer", "%.0f signals of 20 ms each in %u s", steps,
	      10 * c->slow);
}

void group_signals(struct checks *c, char *arg)
{
	static const struct fault faults[] = {
	    {"page fault is SIGSEGV", fault_read, SIGSEGV, SEGV_MAPERR},
	    {"undefined instruction is SIGILL", fault_undefined, SIGILL, ILL_ILLOPN},
	    {"division by zero is SIGFPE", fault_divide, SIGFPE, FPE_INTDIV},
	    {"breakpoint is SIGTRAP", fault_breakpoint, SIGTRAP, 0},
	    {"privileged instruction is SIGSEGV", fault_privileged, SIGSEGV, 0},
	};
	const struct sigaction action = {.sa_sigaction = on_fault,
					 .sa_flags = SA_SIGINFO | SA_NODEFER};

	(void)arg;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		check_fault(c, &faults[i]);
		if (faults[i].make == fault_read)
			check(c, seen_address == (void *)0x10, "address of a page fault", "%p",
			      seen_address);
	}
	check_interval_timer(c);
}

/* --- pages --- */

static volatile char *pages;

static void fault_write_protected(void)
{
	pages[0] = 1;
}

void group_pages(struct checks *c, char *arg)
{
	static const struct fault protected = {"a write-protected page", fault_write_protected,
					       SIGSEGV, SEGV_ACCERR};
	const struct sigaction action = {.sa_sigaction = on_fault,
					 .sa_flags = SA_SIGINFO | SA_NODEFER};
	const size_t size = 64 * 4096;
	int st = -1;
	pid_t pid;

	(void)arg;
	pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return;
	for (size_t i = 0; i < size; i += 4096)
		pages[i] = (char)(i / 4096);
	pid = fork();
	if (pid == 0) { /* copies of its own */
		for (size_t i = 0; i < size; i += 4096)
			pages[i]++;
		_exit(pages[4096] == 2 ? 0 : 1);
	}
	waitpid(pid, &st, 0);
	check(c, st == 0 && pages[4096] == 1, "copy on write", "child %d, parent's byte %d", st,
	      pages[4096]);
	sigaction(SIGSEGV, &action, NULL);
	mprotect((void *)(uintptr_t)pages, size, PROT_READ);
	check_fault(c, &protected);
	munmap((void *)(uintptr_t)pages, size);
}
