/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands of assisted instructions: registers, and memory as the guest's own instruction would see
 * it. An operand is translated and checked whole, both pages if it crosses one, before a byte is
 * read or written; faults carry the error code and CR2 of the first address that is not accessible.
 *
 * An operand outside of RAM (MMIO) is not ours: no instruction of the table is used on devices.
 *
 * Stores reach guest memory behind KVM's back. Where KVM shadows the guest's page tables it would
 * not notice one that hits a live table; no kernel uses these instructions on page tables.
 * Not modelled: #AC (CPL 3 with CR0.AM and RFLAGS.AC) and the guest's data breakpoints.
 */
#include <assert.h>
#include <string.h>

#include "assist_internal.h"

/* __u64, as <linux/kvm.h> has it: to the compiler another type than uint64_t, with its own aliases.
 */
__u64 *assist_gpr(struct kvm_regs *regs, unsigned encoding)
{
	__u64 *const by_encoding[16] = {
	    &regs->rax, &regs->rcx, &regs->rdx, &regs->rbx, &regs->rsp, &regs->rbp,
	    &regs->rsi, &regs->rdi, &regs->r8,	&regs->r9,  &regs->r10, &regs->r11,
	    &regs->r12, &regs->r13, &regs->r14, &regs->r15,
	};

	assert(encoding < 16);
	return by_encoding[encoding];
}

static uint64_t truncate(uint64_t value, unsigned size)
{
	return size == 8 ? value : value & ((1ull << (8 * size)) - 1);
}

uint64_t assist_get_gpr(struct assist_ctx *c, unsigned encoding, unsigned size)
{
	return truncate(*assist_gpr(&c->regs, encoding), size);
}

void assist_put_gpr(struct assist_ctx *c, unsigned encoding, unsigned size, uint64_t value)
{
	__u64 *reg = assist_gpr(&c->regs, encoding);

	if (size == 2)
		*reg = (*reg & ~0xffffull) | (value & 0xffff);
	else
		*reg = truncate(value, size);
}

unsigned assist_opsize(const struct insn *in)
{
	return in->rex_w ? 8 : in->opsize16 ? 2 : 4;
}

/* Effective address plus segment base (SDM vol. 3 §3.4.2.1, §3.4.4). */
static uint64_t linear_address(struct assist_ctx *c)
{
	const struct insn *in = &c->insn;
	uint64_t ea = (uint64_t)(int64_t)in->disp;

	if (in->rip_relative)
		ea += c->regs.rip + in->len;
	if (in->base != REG_NONE)
		ea += *assist_gpr(&c->regs, in->base);
	if (in->index != REG_NONE)
		ea += *assist_gpr(&c->regs, in->index) << in->scale;
	if (in->addr32)
		ea = (uint32_t)ea;
	if (in->seg == 4)
		ea += c->sregs.fs.base;
	else if (in->seg == 5)
		ea += c->sregs.gs.base;
	return ea;
}

enum outcome assist_linear(struct assist_ctx *c, unsigned len, uint64_t *linear)
{
	const struct insn *in = &c->insn;
	uint64_t first = linear_address(c);
	bool stack = !in->seg && (in->base == REG_SP || in->base == REG_BP);

	*linear = first;
	if (walk_canonical(c->sregs.cr4, first) && walk_canonical(c->sregs.cr4, first + len - 1))
		return OUT_DONE;
	return assist_raise0(c, stack ? VEC_SS : VEC_GP);
}

/* One page's share of an operand. */
static enum outcome map_piece(struct assist_ctx *c, uint64_t linear, unsigned access,
			      struct walk_result *r)
{
	switch (walk_translate(c->a->setup.mem, &c->walk, linear, access, r)) {
	case WALK_OK:
		return OUT_DONE;
	case WALK_FAULT:
		c->fault = (struct fault){
		    .vector = VEC_PF, .has_code = true, .code = r->error_code, .cr2 = linear};
		return OUT_FAULT;
	case WALK_AGAIN:
		return OUT_RETRY;
	case WALK_NONCANONICAL: /* a descriptor table at a broken base */
		return assist_raise0(c, VEC_GP);
	case WALK_UNSUPPORTED:
	default:
		return OUT_NOT_OURS;
	}
}

enum outcome assist_map(struct assist_ctx *c, uint64_t linear, unsigned len, unsigned access,
			struct span *span)
{
	*span = (struct span){0};
	if (c->cpl == 3 && !(access & WALK_IMPLICIT))
		access |= WALK_USER;
	for (unsigned i = 0; i < 2 && len; i++) {
		struct walk_result r;
		enum outcome out = map_piece(c, linear, access, &r);

		if (out != OUT_DONE)
			return out;
		span->len[i] = r.page_left < len ? (unsigned)r.page_left : len;
		span->host[i] = guest_mem_slice(c->a->setup.mem, r.gpa, span->len[i]);
		if (!span->host[i])
			return OUT_NOT_OURS;
		linear += span->len[i];
		len -= span->len[i];
	}
	return OUT_DONE;
}

/*
 * Aligned operands of 2, 4 and 8 bytes are loaded and stored at once, as the processor does (SDM
 * vol. 3 §9.1.1); other vCPUs may work on the same word. Relaxed: pairs with no barrier.
 */
static bool at_once(const struct span *span, unsigned len)
{
	return !span->host[1] && span->len[0] == len && ((uintptr_t)span->host[0] & (len - 1)) == 0;
}

void assist_span_read(const struct span *span, void *dst)
{
	uint8_t *to = dst;

	if (at_once(span, 8)) {
		uint64_t v =
		    __atomic_load_n((const uint64_t *)(void *)span->host[0], __ATOMIC_RELAXED);
		memcpy(to, &v, 8);
	} else if (at_once(span, 4)) {
		uint32_t v =
		    __atomic_load_n((const uint32_t *)(void *)span->host[0], __ATOMIC_RELAXED);
		memcpy(to, &v, 4);
	} else if (at_once(span, 2)) {
		uint16_t v =
		    __atomic_load_n((const uint16_t *)(void *)span->host[0], __ATOMIC_RELAXED);
		memcpy(to, &v, 2);
	} else {
		for (unsigned i = 0; i < 2 && span->host[i]; to += span->len[i], i++)
			memcpy(to, span->host[i], span->len[i]);
	}
}

void assist_span_write(const struct span *span, const void *src)
{
	const uint8_t *from = src;

	if (at_once(span, 8)) {
		uint64_t v;
		memcpy(&v, from, 8);
		__atomic_store_n((uint64_t *)(void *)span->host[0], v, __ATOMIC_RELAXED);
	} else if (at_once(span, 4)) {
		uint32_t v;
		memcpy(&v, from, 4);
		__atomic_store_n((uint32_t *)(void *)span->host[0], v, __ATOMIC_RELAXED);
	} else if (at_once(span, 2)) {
		uint16_t v;
		memcpy(&v, from, 2);
		__atomic_store_n((uint16_t *)(void *)span->host[0], v, __ATOMIC_RELAXED);
	} else {
		for (unsigned i = 0; i < 2 && span->host[i]; from += span->len[i], i++)
			memcpy(span->host[i], from, span->len[i]);
	}
}

static enum outcome map_operand(struct assist_ctx *c, unsigned len, unsigned access,
				struct span *span)
{
	uint64_t linear;
	enum outcome out = assist_linear(c, len, &linear);

	return out == OUT_DONE ? assist_map(c, linear, len, access, span) : out;
}

enum outcome assist_load(struct assist_ctx *c, unsigned len, uint64_t *value)
{
	struct span span;
	enum outcome out = map_operand(c, len, 0, &span);

	if (out != OUT_DONE)
		return out;
	*value = 0;
	assist_span_read(&span, value);
	return OUT_DONE;
}

enum outcome assist_store(struct assist_ctx *c, unsigned len, uint64_t value)
{
	struct span span;
	enum outcome out = map_operand(c, len, WALK_WRITE, &span);

	if (out == OUT_DONE)
		assist_span_write(&span, &value);
	return out;
}

enum outcome assist_load_rm(struct assist_ctx *c, unsigned len, uint64_t *value)
{
	if (c->insn.is_mem)
		return assist_load(c, len, value);
	*value = assist_get_gpr(c, c->insn.rm, len);
	return OUT_DONE;
}
