/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch of exceptions and interrupts, and expected faults. */
#include "trap.h"

#include "rt.h"
#include "x86.h"

#define STATUS_UNEXPECTED_TRAP 99

struct gate { /* AMD APM vol. 2 §4.8.4 */
	uint16_t offset0;
	uint16_t selector;
	uint8_t ist;
	uint8_t type;
	uint16_t offset1;
	uint32_t offset2;
	uint32_t reserved;
};

static struct gate idt[256] __attribute__((aligned(16)));
static trap_handler *handlers[256];

void trap_handle(unsigned vector, trap_handler *handler)
{
	handlers[vector] = handler;
}

void trap_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t target = (uint64_t)rt_trap_stubs + 16 * i;

		idt[i] = (struct gate){
		    .offset0 = (uint16_t)target,
		    .selector = SEL_KCODE,
		    .type = 0x8e, /* present, DPL 0, interrupt gate */
		    .offset1 = (uint16_t)(target >> 16),
		    .offset2 = (uint32_t)(target >> 32),
		};
	}
}

void trap_load(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = {sizeof(idt) - 1, (uint64_t)idt};

	asm volatile("lidt %0" : : "m"(idtr));
}

static _Noreturn void unexpected(const struct trap_frame *f)
{
	print_break_lock(); /* the trap may have come in the middle of a line */
	print("not ok - unexpected trap: vector %lu error 0x%lx rip 0x%lx cr2 0x%lx cpl %lu rsp "
	      "0x%lx "
	      "cpu %u\n",
	      f->vector, f->error, f->rip, read_cr2(), f->cs & 3, f->rsp, this_cpu()->index);
	rt_exit(STATUS_UNEXPECTED_TRAP);
}

void rt_trap(struct trap_frame *f)
{
	struct cpu *cpu = this_cpu();

	if (f->vector == VEC_UD && f->rip == (uint64_t)rt_user_exit && (f->cs & 3) == 3)
		rt_leave_user(cpu->saved_sp, (long)f->rax);
	if (handlers[f->vector] && handlers[f->vector](f))
		return;
	if (f->vector == VEC_SPURIOUS)
		return; /* wants no EOI */
	if (f->vector >= 32 || !cpu->fault_armed)
		unexpected(f);
	cpu->fault = (struct fault){f->vector, f->error, f->rip, read_cr2()};
	cpu->fault_armed = false;
	f->rip = (uint64_t)rt_try_resume;
	f->rsp = cpu->fault_sp;
}

bool expect_fault(unsigned vector, void (*fn)(void *arg), void *arg)
{
	struct cpu *cpu = this_cpu();
	bool faulted;

	cpu->fault_armed = true;
	faulted = rt_try(fn, arg);
	cpu->fault_armed = false;
	return faulted && cpu->fault.vector == vector;
}
