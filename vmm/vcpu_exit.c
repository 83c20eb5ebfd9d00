/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vCPU exit means. A const table maps KVM_EXIT_* to a name for the counters and a handler;
 * a reason without a handler ends the machine with the registers printed, so that no exit is ever
 * passed over in silence (Documentation/virt/kvm/api.rst §5 "The kvm_run structure").
 */
#include "minivm/vcpu.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "minivm/kvm.h"

/* Newer than the oldest kernel header we build with (6.1). */
#ifndef KVM_EXIT_NOTIFY
#define KVM_EXIT_NOTIFY 37
#endif
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

#define INSN_MAX 15 /* Intel SDM vol. 2 §2.3.11: the longest instruction */

typedef bool exit_fn(struct vcpu *v);

static bool end_with(struct vcpu *v, enum vm_end_reason reason)
{
	vm_end(&v->env->end, reason, 0);
	return false;
}

/* --- registers in one line, for a person who has to find out what happened --- */

static unsigned insn_bytes(struct vcpu *v, uint64_t rip, uint8_t *buf)
{
	unsigned n;

	for (n = 0; n < INSN_MAX; n++) {
		struct kvm_translation t = {.linear_address = rip + n};

		if (ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid ||
		    guest_mem_read(v->env->mem, GPA(t.physical_address), buf + n, 1))
			break;
	}
	return n;
}

static void hex(char *out, size_t cap, const uint8_t *bytes, unsigned n)
{
	size_t at = 0;
	unsigned i;

	out[0] = '\0';
	for (i = 0; i < n && at + 4 < cap; i++)
		at += (size_t)snprintf(out + at, cap - at, "%s%02x", i ? " " : "", bytes[i]);
}

void vcpu_report(struct vcpu *v, const char *what)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	uint8_t insn[INSN_MAX];
	char text[INSN_MAX * 3 + 1];
	const struct log *log = v->env->log;

	log_msg(log, LOG_LEVEL_ERROR, "vCPU %u: %s", v->index, what);
	if (kvm_vcpu_get_regs(v->fd, &r) || kvm_vcpu_get_sregs(v->fd, &s))
		return;
	hex(text, sizeof(text), insn, insn_bytes(v, s.cs.base + r.rip, insn));
	log_msg(log, LOG_LEVEL_ERROR,
		"  rip %04x:%016llx rflags %08llx cpl %u instruction bytes: %s", s.cs.selector,
		r.rip, r.rflags, s.ss.dpl, text[0] ? text : "(not mapped)");
	log_msg(log, LOG_LEVEL_ERROR,
		"  rax %016llx rbx %016llx rcx %016llx rdx %016llx rsi %016llx rdi %016llx", r.rax,
		r.rbx, r.rcx, r.rdx, r.rsi, r.rdi);
	log_msg(log, LOG_LEVEL_ERROR,
		"  rsp %016llx rbp %016llx r8 %016llx r9 %016llx r10 %016llx r11 %016llx", r.rsp,
		r.rbp, r.r8, r.r9, r.r10, r.r11);
	log_msg(log, LOG_LEVEL_ERROR,
		"  r12 %016llx r13 %016llx r14 %016llx r15 %016llx cr0 %llx cr2 %llx cr3 %llx "
		"cr4 %llx efer %llx",
		r.r12, r.r13, r.r14, r.r15, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
}

/* --- handlers --- */

static uint64_t load_le(const uint8_t *p, unsigned len)
{
	uint64_t value = 0;

	memcpy(&value, p, len); /* x86 on x86: little-endian both */
	return value;
}

/* String instructions give several elements of one port in one exit. */
static bool handle_io(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)v->run + run->io.data_offset;
	unsigned size = run->io.size;
	unsigned i;

	for (i = 0; i < run->io.count; i++, data += size) {
		bool claimed;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			claimed = bus_write(v->env->pio, run->io.port, size, load_le(data, size));
		} else {
			uint64_t value;

			claimed = bus_read(v->env->pio, run->io.port, size, &value);
			memcpy(data, &value, size);
		}
		v->count.unclaimed += !claimed;
	}
	return true;
}

static bool handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	unsigned len = run->mmio.len;
	uint64_t value;
	bool claimed;

	if (run->mmio.is_write) {
		claimed =
		    bus_write(v->env->mmio, run->mmio.phys_addr, len, load_le(run->mmio.data, len));
	} else {
		claimed = bus_read(v->env->mmio, run->mmio.phys_addr, len, &value);
		memcpy(run->mmio.data, &value, sizeof(run->mmio.data));
	}
	v->count.unclaimed += !claimed;
	return true;
}

/* Nothing to do but to go back in. */
static bool handle_nothing(struct vcpu *v)
{
	(void)v;
	return true;
}

static bool handle_shutdown(struct vcpu *v)
{
	log_msg(v->env->log, LOG_LEVEL_INFO, "vCPU %u: triple fault", v->index);
	return end_with(v, VM_END_TRIPLE_FAULT);
}

static bool handle_system_event(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return end_with(v, VM_END_POWEROFF);
	case KVM_SYSTEM_EVENT_RESET:
		return end_with(v, VM_END_REBOOT);
	case KVM_SYSTEM_EVENT_CRASH:
		return end_with(v, VM_END_PANIC);
	}
	vcpu_report(v, "unknown system event");
	return end_with(v, VM_END_ERROR);
}

static bool handle_fail_entry(struct vcpu *v)
{
	char what[96];

	snprintf(what, sizeof(what), "the processor refused to enter the guest (reason 0x%llx)",
		 v->run->fail_entry.hardware_entry_failure_reason);
	vcpu_report(v, what);
	return end_with(v, VM_END_ERROR);
}

/* HLT comes to us only without the in-kernel interrupt controllers; with them KVM waits itself. */
static bool handle_hlt(struct vcpu *v)
{
	vcpu_report(v, "unexpected HLT exit");
	return end_with(v, VM_END_ERROR);
}

static bool handle_debug(struct vcpu *v)
{
	int ret = ASSIST_NOT_OURS;

	if (v->assist)
		ret = assist_debug_exit(v->assist, &v->run->debug.arch);
	if (ret == ASSIST_HANDLED)
		return true;
	vcpu_report(v, ret < 0 ? "the SYSCALL repair could not reach the vCPU's state"
			       : "debug exit that nobody asked for");
	return end_with(v, VM_END_ERROR);
}

static bool handle_internal_error(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	const uint8_t *insn = run->emulation_failure.insn_bytes;
	unsigned len = 0;
	char text[INSN_MAX * 3 + 1];
	char what[160];

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		snprintf(what, sizeof(what), "KVM internal error, suberror %u",
			 run->internal.suberror);
		vcpu_report(v, what);
		return end_with(v, VM_END_ERROR);
	}
	if (run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
		len = run->emulation_failure.insn_size;
	if (len > INSN_MAX)
		len = INSN_MAX;
	if (v->assist && assist_emulation_failure(v->assist, insn, len) == ASSIST_HANDLED)
		return true;
	hex(text, sizeof(text), insn, len);
	snprintf(what, sizeof(what), "KVM could not emulate an instruction%s: %s%s",
		 v->assist ? ", nor can minivm" : " (assist is off)", text,
		 len ? "" : "no bytes given");
	vcpu_report(v, what);
	return end_with(v, VM_END_ERROR);
}

/* --- the table --- */

struct exit_entry {
	const char *name;
	exit_fn *fn; /* NULL: reported with registers, ends the machine */
};

static const struct exit_entry exits[VCPU_EXIT_REASONS] = {
    [KVM_EXIT_UNKNOWN] = {"unknown", NULL},
    [KVM_EXIT_EXCEPTION] = {"exception", NULL},
    [KVM_EXIT_IO] = {"io", handle_io},
    [KVM_EXIT_HYPERCALL] = {"hypercall", NULL},
    [KVM_EXIT_DEBUG] = {"debug", handle_debug},
    [KVM_EXIT_HLT] = {"hlt", handle_hlt},
    [KVM_EXIT_MMIO] = {"mmio", handle_mmio},
    [KVM_EXIT_IRQ_WINDOW_OPEN] = {"irq-window", handle_nothing},
    [KVM_EXIT_SHUTDOWN] = {"shutdown", handle_shutdown},
    [KVM_EXIT_FAIL_ENTRY] = {"fail-entry", handle_fail_entry},
    [KVM_EXIT_INTR] = {"intr", handle_nothing},
    [KVM_EXIT_SET_TPR] = {"set-tpr", handle_nothing},
    [KVM_EXIT_TPR_ACCESS] = {"tpr-access", NULL},
    [KVM_EXIT_NMI] = {"nmi", handle_nothing},
    [KVM_EXIT_INTERNAL_ERROR] = {"internal-error", handle_internal_error},
    [KVM_EXIT_SYSTEM_EVENT] = {"system-event", handle_system_event},
    [KVM_EXIT_IOAPIC_EOI] = {"ioapic-eoi", handle_nothing},
    [KVM_EXIT_HYPERV] = {"hyperv", NULL},
    [KVM_EXIT_X86_RDMSR] = {"rdmsr", NULL},
    [KVM_EXIT_X86_WRMSR] = {"wrmsr", NULL},
    [KVM_EXIT_DIRTY_RING_FULL] = {"dirty-ring-full", NULL},
    [KVM_EXIT_AP_RESET_HOLD] = {"ap-reset-hold", NULL},
    [KVM_EXIT_X86_BUS_LOCK] = {"bus-lock", handle_nothing},
    [KVM_EXIT_XEN] = {"xen", NULL},
    [KVM_EXIT_NOTIFY] = {"notify", handle_nothing},
    [KVM_EXIT_MEMORY_FAULT] = {"memory-fault", NULL},
};

const char *vcpu_exit_name(unsigned reason)
{
	return reason < VCPU_EXIT_REASONS ? exits[reason].name : NULL;
}

bool vcpu_handle_exit(struct vcpu *v)
{
	unsigned reason = v->run->exit_reason;
	char what[64];

	v->count.exits[reason < VCPU_EXIT_REASONS ? reason : VCPU_EXIT_REASONS]++;
	if (reason < VCPU_EXIT_REASONS && exits[reason].fn)
		return exits[reason].fn(v);
	snprintf(what, sizeof(what), "unexpected exit %u (%s)", reason,
		 vcpu_exit_name(reason) ? vcpu_exit_name(reason) : "no name known");
	vcpu_report(v, what);
	return end_with(v, VM_END_ERROR);
}
