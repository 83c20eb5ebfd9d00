/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LAR, LSL, VERR, VERW: looks at segment descriptors that fault on nothing but memory; whatever is
 * wrong with the selector or the descriptor is told by ZF (SDM vol. 2; vol. 3 §5.10).
 *
 * Linux reads its CPU number by LSL, and executes VERW for its side effect on processor buffers
 * (MDS), which here is the business of the host's own kernel.
 *
 * Descriptor tables are read as the processor reads them: as implicit supervisor accesses.
 */
#include "assist_internal.h"

#define SEL_TI	(1u << 2)
#define SEL_RPL 3u

/* Bits of a descriptor's upper word. */
#define DESC_TYPE(d)  (((d) >> 40) & 0xf)
#define DESC_S	      (1ull << 44) /* code or data */
#define DESC_DPL(d)   (((d) >> 45) & 3)
#define DESC_G	      (1ull << 55)
#define TYPE_CODE     8u
#define TYPE_CONFORMS 4u /* code */
#define TYPE_READ     2u /* code: readable; data: writable */

/* Finds the table; false if the selector is null or points outside of it. */
static bool descriptor_address(const struct assist_ctx *c, uint16_t sel, uint64_t *linear)
{
	const struct kvm_segment *ldt = &c->sregs.ldt;
	uint64_t base = c->sregs.gdt.base;
	uint64_t limit = c->sregs.gdt.limit;

	if (!(sel & ~SEL_RPL))
		return false;
	if (sel & SEL_TI) {
		if (ldt->unusable || !ldt->present || !(ldt->selector & ~SEL_RPL))
			return false;
		base = ldt->base;
		limit = ldt->limit;
	}
	if ((sel | 7u) > limit)
		return false;
	*linear = base + (sel & ~7u);
	return true;
}

/* Reads selector operand and descriptor. *valid: there is one. */
static enum outcome read_descriptor(struct assist_ctx *c, uint16_t *sel, uint64_t *desc,
				    bool *valid)
{
	struct span span;
	uint64_t value, linear;
	enum outcome out = assist_load_rm(c, 2, &value);

	if (out != OUT_DONE)
		return out;
	*sel = (uint16_t)value;
	*valid = descriptor_address(c, *sel, &linear);
	if (!*valid)
		return OUT_DONE;
	out = assist_map(c, linear, sizeof(*desc), WALK_IMPLICIT, &span);
	if (out == OUT_DONE)
		assist_span_read(&span, desc);
	return out;
}

static bool conforming(uint64_t desc)
{
	unsigned type = DESC_TYPE(desc);

	return (desc & DESC_S) && (type & TYPE_CODE) && (type & TYPE_CONFORMS);
}

static bool visible(const struct assist_ctx *c, uint16_t sel, uint64_t desc)
{
	return conforming(desc) || (DESC_DPL(desc) >= c->cpl && DESC_DPL(desc) >= (sel & SEL_RPL));
}

static void set_zf(struct assist_ctx *c, bool zf)
{
	c->regs.rflags = (c->regs.rflags & ~RFLAGS_ZF) | (zf ? RFLAGS_ZF : 0);
}

/* LAR and LSL: `system_types` is the set of system descriptors that the instruction knows. */
static enum outcome look(struct assist_ctx *c, uint32_t system_types, uint64_t *desc, bool *valid)
{
	uint16_t sel;
	enum outcome out = read_descriptor(c, &sel, desc, valid);

	if (out != OUT_DONE)
		return out;
	if (*valid)
		*valid = visible(c, sel, *desc) &&
			 ((*desc & DESC_S) || (system_types >> DESC_TYPE(*desc) & 1));
	return OUT_DONE;
}

/* In IA-32e mode: LDT, available and busy 64-bit TSS; for LAR the call gate too. */
#define LSL_TYPES (1u << 0x2 | 1u << 0x9 | 1u << 0xb)
#define LAR_TYPES (LSL_TYPES | 1u << 0xc)

enum outcome assist_lar(struct assist_ctx *c)
{
	uint64_t desc = 0;
	bool valid;
	enum outcome out = look(c, LAR_TYPES, &desc, &valid);

	if (out != OUT_DONE)
		return out;
	/* Bits 19:16 are undefined by SDM; processors return them, and APM says so. */
	if (valid)
		assist_put_gpr(c, c->insn.reg, assist_opsize(&c->insn), desc >> 32 & 0x00ffff00);
	set_zf(c, valid);
	return OUT_DONE;
}

enum outcome assist_lsl(struct assist_ctx *c)
{
	uint64_t desc = 0, limit;
	bool valid;
	enum outcome out = look(c, LSL_TYPES, &desc, &valid);

	if (out != OUT_DONE)
		return out;
	limit = (desc & 0xffff) | (desc >> 32 & 0xf0000);
	if (desc & DESC_G)
		limit = limit << 12 | 0xfff;
	if (valid)
		assist_put_gpr(c, c->insn.reg, assist_opsize(&c->insn), limit);
	set_zf(c, valid);
	return OUT_DONE;
}

static enum outcome verify(struct assist_ctx *c, bool write)
{
	uint64_t desc = 0;
	bool valid;
	enum outcome out = look(c, 0, &desc, &valid);
	bool code = DESC_TYPE(desc) & TYPE_CODE;
	bool bit = DESC_TYPE(desc) & TYPE_READ;

	if (out != OUT_DONE)
		return out;
	set_zf(c, valid && (write ? !code && bit : !code || bit));
	return OUT_DONE;
}

enum outcome assist_verr(struct assist_ctx *c)
{
	return verify(c, false);
}

enum outcome assist_verw(struct assist_ctx *c)
{
	return verify(c, true);
}
