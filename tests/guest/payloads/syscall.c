/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL from ring 3, and everything that looks like it but is not. Where KVM emulates kernel mode
 * it mis-delivers SYSCALL as a page fault at LSTAR, and minivm puts that right
 * (vmm/assist_syscall.c); the same repair must leave alone a program that jumps to LSTAR, or it
 * could forge R11.
 *
 * The entry point stands in a page of its own that ring 3 may not touch.
 */
#include "apic.h"
#include "cpu.h"
#include "paging.h"
#include "rt.h"
#include "smp.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

#define MSR_EFER   0xc0000080
#define MSR_STAR   0xc0000081
#define MSR_LSTAR  0xc0000082
#define MSR_SFMASK 0xc0000084
#define EFER_SCE   1u
#define FLAG_CF	   0x1u
#define FLAG_DF	   0x400u
#define FLAG_AC	   0x40000u
#define SFMASK	   (RFLAGS_IF | FLAG_DF | FLAG_AC | 0x100u)
#define RESULT(nr) ((nr)*3 + 1)

/* What the entry saw; written by the assembly below (offsets). */
struct seen {
	uint64_t rip;	 /* 0: RCX */
	uint64_t flags;	 /* 8: R11 */
	uint64_t rsp;	 /* 16 */
	uint64_t cs;	 /* 24 */
	uint64_t rflags; /* 32 */
	uint64_t count;	 /* 40 */
};
extern volatile struct seen seen;
volatile struct seen seen;

extern uint8_t entry_stack_top[];
extern const uint8_t syscall_entry[], syscall_entry_sysret[];
extern const uint8_t real_syscall_end[], two_nops_end[];

/* rax = rax * 3 + 1, and back. No stack of the caller's is used. */
asm(".pushsection .text.syscall, \"ax\"\n"
    ".balign 4096\n"
    ".globl syscall_entry, syscall_entry_sysret\n"
    "syscall_entry:\n"
    "	mov %rsp, seen+16(%rip)\n"
    "	lea entry_stack_top(%rip), %rsp\n"
    "	push $0x2b\n"
    "	push seen+16(%rip)\n"
    "	push %r11\n"
    "	push $0x33\n"
    "	push %rcx\n"
    "	mov %rcx, seen(%rip)\n"
    "	mov %r11, seen+8(%rip)\n"
    "	mov %cs, %ecx\n"
    "	mov %rcx, seen+24(%rip)\n"
    "	pushfq\n"
    "	pop seen+32(%rip)\n"
    "	incq seen+40(%rip)\n"
    "	lea 1(%rax,%rax,2), %rax\n"
    "	iretq\n"
    "syscall_entry_sysret:\n"
    "	mov %rcx, seen(%rip)\n"
    "	mov %r11, seen+8(%rip)\n"
    "	incq seen+40(%rip)\n"
    "	lea 1(%rax,%rax,2), %rax\n"
    "	sysretq\n"
    ".balign 4096\n"
    ".popsection\n"
    ".pushsection .bss\n"
    ".balign 16\n"
    ".skip 1024\n"
    ".globl entry_stack_top\n"
    "entry_stack_top:\n"
    ".popsection\n");

/* long do_syscall(long nr): its SYSCALL is what the jumps below point behind. */
long do_syscall(long nr);
asm(".pushsection .text\n"
    ".globl do_syscall, real_syscall_end, two_nops_end\n"
    "do_syscall:\n"
    "	mov %rdi, %rax\n"
    "	syscall\n"
    "real_syscall_end:\n"
    "	ret\n"
    "	nop\n"
    "	nop\n"
    "two_nops_end:\n"
    "	ret\n"
    ".popsection\n");

struct jump {
	uint64_t to;
	uint64_t rcx;
	uint64_t r11_xor; /* 0: RFLAGS, as SYSCALL would put it there */
	long nr;
	long result;
};

/*
 * void jump_to(void *arg): CALLs `to` with the registers that SYSCALL would leave. If the jump were
 * taken for a SYSCALL, the entry would return to RCX = real_syscall_end, whose RET comes back here.
 */
void jump_to(void *arg);
asm(".pushsection .text\n"
    ".globl jump_to\n"
    "jump_to:\n"
    "	push %rbx\n"
    "	mov %rdi, %rbx\n"
    "	mov (%rbx), %rdx\n"
    "	mov 8(%rbx), %rcx\n"
    "	mov 24(%rbx), %rax\n"
    "	mov 16(%rbx), %r11\n"
    "	test %r11, %r11\n" /* leaves CF clear; PF, ZF and SF are what they are */
    "	pushfq\n"
    "	xor %r11, (%rsp)\n" /* changes flags: take them from the stack, then again for real */
    "	pop %r11\n"
    "	cmpq $0, 16(%rbx)\n"
    "	jne 1f\n"
    "	pushfq\n"
    "	pop %r11\n"
    "1:	call *%rdx\n"
    "	mov %rax, 32(%rbx)\n"
    "	pop %rbx\n"
    "	ret\n"
    ".popsection\n");

static void set_up(const uint8_t *entry)
{
	wrmsr(MSR_STAR, (uint64_t)SEL_KCODE << 32 | (uint64_t)(SEL_UBASE | 3) << 48);
	wrmsr(MSR_LSTAR, (uint64_t)entry);
	wrmsr(MSR_SFMASK, SFMASK);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
}

#define LSTAR ((uint64_t)syscall_entry)

/* --- real ones --- */

static void real(void)
{
	uint64_t sp_now;

	for (long i = 0; i < 50; i++) {
		uint64_t count = seen.count;

		EXPECT_EQ(do_syscall(i), RESULT(i));
		EXPECT_EQ(seen.count, count + 1);
		EXPECT_EQ(seen.cs, SEL_KCODE);
		EXPECT_EQ(seen.rip, real_syscall_end);
		EXPECT_EQ(seen.rflags & SFMASK, 0);
		asm volatile("mov %%rsp, %0" : "=r"(sp_now));
		EXPECT(seen.rsp < sp_now && seen.rsp > sp_now - 512);
		EXPECT_EQ(read_cs(), SEL_UCODE);
	}
}

/* The flags arrive in R11, are masked inside and come back. */
static void flags(void)
{
	uint64_t after;

	asm volatile("std; stc; syscall; pushfq; pop %0; cld"
		     : "=r"(after), "+a"((long){1})
		     :
		     : "rcx", "r11", "memory", "cc");
	EXPECT_EQ(seen.flags & (FLAG_DF | FLAG_CF), FLAG_DF | FLAG_CF);
	EXPECT_EQ(seen.rflags & FLAG_DF, 0);
	EXPECT_EQ(after & (FLAG_DF | FLAG_CF), FLAG_DF | FLAG_CF);
}

static long call_many(void *arg)
{
	for (long i = 0; i < (long)arg; i++) {
		if (do_syscall(i) != RESULT(i))
			return i + 1;
	}
	return 0;
}

static void by_sysret(void)
{
	set_up(syscall_entry_sysret);
	EXPECT_EQ(run_user(call_many, (void *)20), 0);
	set_up(syscall_entry);
	EXPECT_EQ(run_user(call_many, (void *)20), 0);
}

static volatile unsigned ticks;

static bool tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	lapic_eoi();
	return true;
}

static long call_until_ticks(void *arg)
{
	uint64_t end = deadline_ms(3000);

	(void)arg;
	while (ticks < 10 && !expired(end)) {
		if (do_syscall(7) != RESULT(7))
			return -1;
	}
	return ticks;
}

static void with_interrupts(void)
{
	long rc;

	trap_handle(VEC_FIRST_IRQ, tick);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VEC_FIRST_IRQ);
	lapic_write(LAPIC_TIMER_INIT, 2000000);
	irq_enable();
	rc = run_user(call_until_ticks, NULL);
	irq_disable();
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VEC_FIRST_IRQ);
	lapic_write(LAPIC_TIMER_INIT, 0);
	EXPECT(rc >= 10);
}

/* --- ordinary faults, in between --- */

static void read_at(void *arg)
{
	(void)mmio_read8((uint64_t)arg);
}

static void call_at(void *arg)
{
	((void (*)(void))arg)();
}

static uint8_t absent[4096] __attribute__((aligned(4096)));

static void ordinary_faults(void)
{
	for (long i = 0; i < 20; i++) {
		EXPECT(expect_fault(VEC_PF, read_at, absent));
		EXPECT_EQ(this_cpu()->fault.error, PF_USER);
		EXPECT_EQ(this_cpu()->fault.address, absent);
		EXPECT(expect_fault(VEC_PF, read_at, (void *)LSTAR));
		EXPECT_EQ(this_cpu()->fault.error, PF_USER | PF_PRESENT);
		EXPECT_EQ(do_syscall(i), RESULT(i));
	}
}

static void ordinary_fetches(void)
{
	EXPECT(expect_fault(VEC_PF, call_at, absent));
	EXPECT_EQ(this_cpu()->fault.error, PF_USER | PF_FETCH);
	EXPECT(expect_fault(VEC_PF, call_at, (void *)(LSTAR + 64)));
	EXPECT_EQ(this_cpu()->fault.error, PF_USER | PF_PRESENT | PF_FETCH);
	EXPECT_EQ(this_cpu()->fault.address, LSTAR + 64);
	EXPECT_EQ(do_syscall(1), RESULT(1));
}

static void kernel_fault(void *arg)
{
	(void)arg;
	(void)mmio_read8((uint64_t)absent);
}

static void faults_in_ring0(void)
{
	EXPECT(expect_fault(VEC_PF, kernel_fault, NULL));
	EXPECT_EQ(this_cpu()->fault.error, 0);
	EXPECT_EQ(run_user(call_many, (void *)3), 0);
}

/* --- jumps to LSTAR --- */

/* Must arrive as the page fault that it is. */
static void expect_jump_faults(uint64_t to, uint64_t rcx, uint64_t r11_xor)
{
	struct jump j = {to, rcx, r11_xor, 5, 0};
	uint64_t count = seen.count;

	EXPECT(expect_fault(VEC_PF, jump_to, &j));
	EXPECT_EQ(this_cpu()->fault.error, PF_USER | PF_PRESENT | PF_FETCH);
	EXPECT_EQ(this_cpu()->fault.address, to);
	EXPECT_EQ(this_cpu()->fault.rip, to);
	EXPECT_EQ(seen.count, count);
	EXPECT_EQ(do_syscall(2), RESULT(2));
}

#define JUMP_FAULTS(to, rcx, r11_xor)                                                              \
	do {                                                                                       \
		expect_jump_faults(to, rcx, r11_xor);                                              \
		EXPECT_OK_SO_FAR();                                                                \
	} while (0)

static void jump_wrong_bytes(void)
{
	JUMP_FAULTS(LSTAR, (uint64_t)two_nops_end, 0);
	JUMP_FAULTS(LSTAR, (uint64_t)real_syscall_end + 1, 0);
	JUMP_FAULTS(LSTAR, (uint64_t)real_syscall_end - 1, 0);
}

static void jump_wrong_flags(void)
{
	static const uint64_t bits[] = {FLAG_CF, FLAG_DF,    RFLAGS_IF, 0x1000,
					0x40,	 1ull << 21, 1ull << 63};

	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		JUMP_FAULTS(LSTAR, (uint64_t)real_syscall_end, bits[i]);
}

/* RCX where no bytes can be read: absent, non-canonical, around zero, half in an absent page. */
static void jump_wild_rcx(void)
{
	const uint64_t rcx[] = {(uint64_t)absent + 16,
				(uint64_t)absent + 1,
				1ull << 47,
				0xdead0000beef0000,
				0,
				1,
				2,
				~0ull,
				5ull << 30};

	for (unsigned i = 0; i < ARRAY_SIZE(rcx); i++)
		JUMP_FAULTS(LSTAR, rcx[i], 0);
}

static void jump_beside(void)
{
	JUMP_FAULTS(LSTAR + 1, (uint64_t)real_syscall_end, 0);
	JUMP_FAULTS(LSTAR + 8, (uint64_t)real_syscall_end, 0);
}

/*
 * R11 and RCX are as SYSCALL leaves them, but the interrupt flag, which SYSCALL would clear, is
 * set: the one thing that tells them apart where ring 3 runs with interrupts on.
 */
static long jumps_that_fault(void *arg)
{
	struct jump j = {LSTAR, (uint64_t)real_syscall_end, 0, 5, 0};
	long faults = 0;

	for (long i = 0; i < (long)arg; i++) {
		faults += expect_fault(VEC_PF, jump_to, &j);
		if (this_cpu()->fault.rip != LSTAR || do_syscall(i) != RESULT(i))
			return -1;
	}
	return faults;
}

static void jump_like_syscall(void)
{
	uint64_t count = seen.count;
	long faults;

	irq_enable();
	faults = run_user(jumps_that_fault, (void *)20);
	irq_disable();
	EXPECT_EQ(faults, 20);
	EXPECT_EQ(seen.count, count + 20);
}

/* The same on the second processor: MSRs and repair are per CPU. */
static long failures;

static void on_cpu1(void *arg)
{
	(void)arg;
	set_up(syscall_entry);
	page_set((uint64_t)absent, PAGE_ABSENT);
	page_set(LSTAR, PAGE_SUPERVISOR);
	(void)in8(0x3fd); /* an exit: minivm looks for LSTAR at exits (vmm/assist_syscall.c) */
	failures = run_user(call_many, (void *)50);
}

static void second_processor(void)
{
	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	EXPECT_EQ(smp_start_all(2), 2);
	failures = -1;
	smp_run(1, on_cpu1, NULL);
	EXPECT(smp_wait(1, 5000));
	EXPECT_EQ(failures, 0);
	EXPECT_EQ(run_user(call_many, (void *)5), 0);
}

static const struct test_case cases[] = {
    {"real", real, 3},
    {"flags", flags, 3},
    {"by_sysret", by_sysret, 0},
    {"with_interrupts", with_interrupts, 0},
    {"ordinary_faults", ordinary_faults, 3},
    {"ordinary_fetches", ordinary_fetches, 3},
    {"faults_in_ring0", faults_in_ring0, 0},
    {"jump_wrong_bytes", jump_wrong_bytes, 3},
    {"jump_wrong_flags", jump_wrong_flags, 3},
    {"jump_wild_rcx", jump_wild_rcx, 3},
    {"jump_beside", jump_beside, 3},
    {"jump_like_syscall", jump_like_syscall, 0},
    {"second_processor", second_processor, 0},
};

int payload_main(void)
{
	page_set((uint64_t)absent, PAGE_ABSENT);
	page_set(LSTAR, PAGE_SUPERVISOR);
	set_up(syscall_entry);
	print("# syscall: LSTAR is set\n");
	return run_cases("syscall", cases, ARRAY_SIZE(cases));
}
