/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instruction assist and SYSCALL repair: instruction bytes, registers, page table rights, frames
 * and descriptors of fuzz input, against the fake CPU of the unit tests. Besides memory safety:
 * RIP moves by 1 to 15 bytes or stays, injected events are ones that KVM accepts, and an
 * instruction that is not ours changes nothing.
 */
#define FAKE_RAM (96u << 10)
#include "../unit/assist_fake.h"

#define CODE  0xffffffff81000000ull
#define DATA  0xffff888000100000ull
#define USER  0x0000000000400000ull
#define PAGES 0x10000u /* guest physical: code, data, data, user */

struct input {
	uint64_t gpr[16];
	uint8_t place[16]; /* what gpr[i] is relative to */
	uint64_t rflags, fs, gs, lstar, r_cr2;
	uint32_t cr4, idt_limit, gdt_limit, dr6;
	uint8_t cr0, efer, cpl, offset, rights[4], len, stem, table_page;
	uint8_t insn[15];
};

static _Alignas(4096) uint8_t ram[FAKE_RAM];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static uint64_t place(uint8_t how, uint64_t value)
{
	static const uint64_t base[] = {CODE,	       DATA, DATA + 0xff0,
					DATA + 0x1ff0, USER, USER + 0xff0};

	return how % 8 < 6 ? base[how % 8] + (value & 0x1f) : value;
}

static void build(struct fake *f, const struct input *in, const uint8_t *data, size_t size)
{
	static const uint64_t linear[4] = {CODE, DATA, DATA + 0x1000, USER};

	fake_init_in(f, ram);
	for (unsigned i = 0; i < 4; i++)
		fake_map(f, linear[i], PAGES + 0x1000 * i, in->rights[i] & (P | W | U | A | D));
	if (in->table_page & 1) /* the guest's page tables are data too */
		fake_map(f, DATA + 0x1000, FAKE_TABLES + 0x1000 * (in->table_page >> 5), P | W);
	for (unsigned at = 0; size && at < 0x4000; at += size) /* repeated to fill the pages */
		memcpy(f->ram + PAGES + at, data, size < 0x4000 - at ? size : 0x4000 - at);
	for (unsigned i = 0; i < 16; i++)
		*fake_gpr(&f->regs, i) = place(in->place[i], in->gpr[i]);
	f->regs.rip = CODE + 16 * (uint64_t)in->offset;
	f->regs.rflags = (in->rflags & 0x50fd5) | 2;
	f->sregs.cr0 ^= in->cr0 & 0x2e;
	f->sregs.cr4 ^= in->cr4 & ~0x20u;
	f->sregs.efer ^= (in->efer & 1) | (in->efer & 2) << 10;
	f->sregs.cs.selector = (in->cpl & 1) ? 0x33 : 0x10;
	f->sregs.fs.base = place(in->cpl >> 1, in->fs);
	f->sregs.gs.base = place(in->cpl >> 4, in->gs);
	f->sregs.cr2 = place(in->efer >> 5, in->r_cr2);
	f->sregs.idt.base = DATA;
	f->sregs.idt.limit = (uint16_t)in->idt_limit;
	f->sregs.gdt.base = DATA + 0x100;
	f->sregs.gdt.limit = (uint16_t)in->gdt_limit;
	f->sregs.ldt = (struct kvm_segment){
	    .base = DATA + 0x200, .limit = in->gdt_limit, .selector = 8, .present = 1};
	f->lstar = place(in->efer >> 2, in->lstar);
	f->star = 0x0023001000000000;
	f->sfmask = 0x47700;
}

/* A frame that the repair accepts, then one byte of it or of the registers changed. */
static void plausible_frame(struct fake *f, const struct input *in)
{
	uint64_t frame[6] = {0x15, f->lstar, 0x33, 0x246, USER + 0x800, 0x2b};

	f->regs.rsp = DATA + 0x300;
	f->regs.rcx = USER + 0x22;
	f->regs.r11 = 0x246;
	f->sregs.cr2 = f->lstar;
	((uint8_t *)frame)[in->len % sizeof(frame)] ^= in->insn[0];
	((uint8_t *)&f->regs)[in->offset % sizeof(f->regs)] ^= in->insn[1];
	memcpy(f->ram + PAGES + 0x1300, frame, sizeof(frame));
	memcpy(f->ram + PAGES + 0x3020, "\x0f\x05", 2);
}

static void check_event(const struct fake *f)
{
	check(f->events.exception.nr <= 31 && f->events.exception.pending == 0);
	check(f->events.interrupt.shadow == 0);
}

/* Opcodes that a minute of fuzzing does not find; bytes of the input follow as operands. */
static const char *const stems[] = {
    "",
    "\x0f\x38\xf0",
    "\x48\x0f\x38\xf1",
    "\x66\x0f\x38\xf0",
    "\xf2\x0f\x38\xf0",
    "\xf2\x48\x0f\x38\xf1",
    "\xf3\x0f\xb8",
    "\x66\xf3\x0f\xbc",
    "\xf3\x48\x0f\xbd",
    "\x66\x0f\x38\xf6",
    "\xf3\x48\x0f\x38\xf6",
    "\xc4\xe2\x70\xf2",
    "\xc4\xc2\xf8\xf3",
    "\xc4\xe2\xf8\xf5",
    "\xc4\xe2\x7b\xf5",
    "\xc4\xe2\xfa\xf5",
    "\xc4\xe2\xfb\xf6",
    "\xc4\xe2\x78\xf7",
    "\xc4\xe2\xfa\xf7",
    "\xc4\xe3\x7b\xf0",
    "\x66\x0f\x38\x82",
    "\xf0\x48\x0f\xc7",
    "\xf3\x0f\xc7",
    "\x66\x0f\xc7",
    "\x0f\xae",
    "\x0f\x01",
    "\xdb",
    "\xdd",
    "\xdf",
    "\x65\x4c\x0f\x38\xf0",
};

static unsigned build_insn(const struct input *in, uint8_t *insn)
{
	const char *stem = stems[in->stem % (sizeof(stems) / sizeof(stems[0]))];
	size_t n = strlen(stem);

	memcpy(insn, stem, n);
	memcpy(insn + n, in->insn, 15 - n);
	return in->len % 16;
}

static void emulate(struct fake *f, const struct input *in)
{
	uint8_t insn[15];
	unsigned len = build_insn(in, insn);
	struct fake before;
	int rc;

	f->events.exception.pending = 1;
	f->events.exception.nr = 6;
	before = *f;
	rc = assist_emulation_failure(&f->a, insn, len);
	check(rc == ASSIST_HANDLED || rc == ASSIST_NOT_OURS);
	if (rc == ASSIST_NOT_OURS) {
		check(!memcmp(&f->regs, &before.regs, sizeof(f->regs)) &&
		      !memcmp(&f->sregs, &before.sregs, sizeof(f->sregs)) &&
		      !memcmp(&f->events, &before.events, sizeof(f->events)));
		return;
	}
	check(f->regs.rip - before.regs.rip <= 15);
	check(f->sregs.cr3 == before.sregs.cr3);
	check_event(f);
}

static void repair(struct fake *f, const struct input *in)
{
	struct kvm_debug_exit_arch d = {.exception = 1, .dr6 = in->dr6};

	f->events = (struct kvm_vcpu_events){0};
	if (in->table_page & 2)
		plausible_frame(f, in);
	check(assist_before_run(&f->a) == 0);
	if (f->a.state == ASSIST_STATE_IDLE)
		return;
	d.pc = f->regs.rip = f->a.entry;
	check(assist_debug_exit(&f->a, &d) == ASSIST_HANDLED);
	check_event(f);
	d.pc = f->regs.rip;
	d.dr6 = 0x4000;
	if (f->a.state != ASSIST_STATE_IDLE)
		check(assist_debug_exit(&f->a, &d) == ASSIST_HANDLED);
	check(assist_before_run(&f->a) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in;
	struct fake f;

	if (size < sizeof(in))
		return 0;
	memcpy(&in, data, sizeof(in));
	build(&f, &in, data + sizeof(in), size - sizeof(in));
	emulate(&f, &in);
	repair(&f, &in);
	return 0;
}
