/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assisted instructions that only compute: MOVBE, CRC32, POPCNT, TZCNT, LZCNT, ADX, BMI1 and BMI2
 * (SDM vol. 2; the unit tests compare each with the processor). Flags that the manual calls
 * undefined stay as they were.
 *
 * POPCNT, TZCNT and LZCNT take a 66 prefix as operand size. The VEX forms know 4 and 8 bytes only.
 */
#include "assist_internal.h"

static void set_flags(struct assist_ctx *c, uint64_t mask, uint64_t flags)
{
	c->regs.rflags = (c->regs.rflags & ~mask) | flags;
}

/* ZF and SF of a result. */
static uint64_t sign_zero(uint64_t result, unsigned size)
{
	return (result ? 0 : RFLAGS_ZF) | (result >> (8 * size - 1) & 1 ? RFLAGS_SF : 0);
}

static uint64_t swap_bytes(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

enum outcome assist_movbe_load(struct assist_ctx *c)
{
	unsigned size = assist_opsize(&c->insn);
	uint64_t value;
	enum outcome out = assist_load(c, size, &value);

	if (out == OUT_DONE)
		assist_put_gpr(c, c->insn.reg, size, swap_bytes(value, size));
	return out;
}

enum outcome assist_movbe_store(struct assist_ctx *c)
{
	unsigned size = assist_opsize(&c->insn);

	return assist_store(c, size, swap_bytes(assist_get_gpr(c, c->insn.reg, size), size));
}

/* An 8-bit register operand without REX: AH, CH, DH, BH for 4 to 7. */
static uint64_t get_byte_reg(struct assist_ctx *c, unsigned encoding, bool rex)
{
	if (!rex && encoding >= 4 && encoding < 8)
		return assist_get_gpr(c, encoding - 4, 2) >> 8;
	return assist_get_gpr(c, encoding, 1);
}

/* CRC-32C, bits reflected: polynomial 0x11edc6f41. */
static uint32_t crc32c(uint32_t crc, uint64_t data, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		crc ^= (uint8_t)(data >> (8 * i));
		for (unsigned bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return crc;
}

enum outcome assist_crc32(struct assist_ctx *c)
{
	const struct insn *in = &c->insn;
	unsigned size = in->opcode == 0xf0 ? 1 : assist_opsize(in);
	uint64_t data;
	enum outcome out = OUT_DONE;

	if (in->is_mem || size > 1)
		out = assist_load_rm(c, size, &data);
	else
		data = get_byte_reg(c, in->rm, in->rex);
	if (out != OUT_DONE)
		return out;
	/* The destination is 32 bits wide, or 64 with REX.W: the upper half is 0 either way. */
	assist_put_gpr(c, in->reg, 4, crc32c((uint32_t)assist_get_gpr(c, in->reg, 4), data, size));
	return OUT_DONE;
}

enum outcome assist_popcnt(struct assist_ctx *c)
{
	unsigned size = assist_opsize(&c->insn);
	uint64_t v;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	assist_put_gpr(c, c->insn.reg, size, (unsigned)__builtin_popcountll(v));
	set_flags(c, RFLAGS_ARITH, v ? 0 : RFLAGS_ZF);
	return OUT_DONE;
}

/* CF: the source was 0; ZF: the result is 0. */
static void put_count(struct assist_ctx *c, unsigned size, uint64_t source, unsigned count)
{
	assist_put_gpr(c, c->insn.reg, size, count);
	set_flags(c, RFLAGS_CF | RFLAGS_ZF, (source ? 0 : RFLAGS_CF) | (count ? 0 : RFLAGS_ZF));
}

enum outcome assist_tzcnt(struct assist_ctx *c)
{
	unsigned size = assist_opsize(&c->insn);
	uint64_t v;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out == OUT_DONE)
		put_count(c, size, v, v ? (unsigned)__builtin_ctzll(v) : 8 * size);
	return out;
}

enum outcome assist_lzcnt(struct assist_ctx *c)
{
	unsigned size = assist_opsize(&c->insn);
	uint64_t v;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out == OUT_DONE)
		put_count(c, size, v,
			  v ? (unsigned)__builtin_clzll(v) - (64 - 8 * size) : 8 * size);
	return out;
}

/* Add with carry in and out through one flag, which alone changes. */
static enum outcome add_with(struct assist_ctx *c, uint64_t flag)
{
	unsigned size = c->insn.rex_w ? 8 : 4;
	uint64_t v, sum, carry;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	if (size == 8) {
		bool over = __builtin_add_overflow(v, *assist_gpr(&c->regs, c->insn.reg), &sum);
		carry = over | __builtin_add_overflow(sum, !!(c->regs.rflags & flag), &sum);
	} else {
		sum = v + assist_get_gpr(c, c->insn.reg, 4) + !!(c->regs.rflags & flag);
		carry = sum >> 32;
	}
	assist_put_gpr(c, c->insn.reg, size, sum);
	set_flags(c, flag, carry ? flag : 0);
	return OUT_DONE;
}

enum outcome assist_adcx(struct assist_ctx *c)
{
	return add_with(c, RFLAGS_CF);
}

enum outcome assist_adox(struct assist_ctx *c)
{
	return add_with(c, RFLAGS_OF);
}

/* --- BMI1, BMI2: size 4 or 8 --- */

static unsigned vex_size(const struct insn *in)
{
	return in->rex_w ? 8 : 4;
}

enum outcome assist_andn(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	uint64_t v, result;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	result = ~assist_get_gpr(c, c->insn.vvvv, size) & v;
	assist_put_gpr(c, c->insn.reg, size, result);
	set_flags(c, RFLAGS_SF | RFLAGS_ZF | RFLAGS_OF | RFLAGS_CF, sign_zero(result, size));
	return OUT_DONE;
}

/* BLSR /1, BLSMSK /2, BLSI /3: destination VEX.vvvv. */
enum outcome assist_bls(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	unsigned which = c->insn.reg & 7;
	uint64_t v, result, flags;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	result = which == 1 ? v & (v - 1) : which == 2 ? v ^ (v - 1) : v & -v;
	if (size == 4)
		result = (uint32_t)result;
	flags = sign_zero(result, size);
	if (which == 3 ? v != 0 : v == 0)
		flags |= RFLAGS_CF;
	assist_put_gpr(c, c->insn.vvvv, size, result);
	set_flags(c, RFLAGS_SF | RFLAGS_ZF | RFLAGS_OF | RFLAGS_CF, flags);
	return OUT_DONE;
}

static uint64_t low_bits(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

enum outcome assist_bextr(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	unsigned start = (uint8_t)assist_get_gpr(c, c->insn.vvvv, 8);
	unsigned length = (uint8_t)(assist_get_gpr(c, c->insn.vvvv, 8) >> 8);
	uint64_t v, result;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	result = start >= 64 ? 0 : (v >> start) & low_bits(length);
	assist_put_gpr(c, c->insn.reg, size, result);
	set_flags(c, RFLAGS_ZF | RFLAGS_OF | RFLAGS_CF, result ? 0 : RFLAGS_ZF);
	return OUT_DONE;
}

enum outcome assist_bzhi(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	unsigned n = (uint8_t)assist_get_gpr(c, c->insn.vvvv, 8);
	uint64_t v, result;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	result = v & low_bits(n);
	assist_put_gpr(c, c->insn.reg, size, result);
	set_flags(c, RFLAGS_SF | RFLAGS_ZF | RFLAGS_OF | RFLAGS_CF,
		  sign_zero(result, size) | (n > 8 * size - 1 ? RFLAGS_CF : 0));
	return OUT_DONE;
}

enum outcome assist_pdep(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	uint64_t source = assist_get_gpr(c, c->insn.vvvv, size);
	uint64_t mask, result = 0;
	enum outcome out = assist_load_rm(c, size, &mask);

	if (out != OUT_DONE)
		return out;
	for (; mask; mask &= mask - 1, source >>= 1)
		if (source & 1)
			result |= mask & -mask;
	assist_put_gpr(c, c->insn.reg, size, result);
	return OUT_DONE;
}

enum outcome assist_pext(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	uint64_t source = assist_get_gpr(c, c->insn.vvvv, size);
	uint64_t mask, result = 0;
	enum outcome out = assist_load_rm(c, size, &mask);

	if (out != OUT_DONE)
		return out;
	for (unsigned n = 0; mask; mask &= mask - 1, n++)
		if (source & mask & -mask)
			result |= 1ull << n;
	assist_put_gpr(c, c->insn.reg, size, result);
	return OUT_DONE;
}

/* RDX times r/m: low half to VEX.vvvv, then high half to ModRM.reg (it wins if they are one). */
enum outcome assist_mulx(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	unsigned __int128 product;
	uint64_t v;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	product = (unsigned __int128)v * assist_get_gpr(c, REG_DX, size);
	assist_put_gpr(c, c->insn.vvvv, size, (uint64_t)product);
	assist_put_gpr(c, c->insn.reg, size, (uint64_t)(product >> (8 * size)));
	return OUT_DONE;
}

/* SHLX (66), SARX (F3), SHRX (F2); the count is VEX.vvvv. */
enum outcome assist_shiftx(struct assist_ctx *c)
{
	unsigned size = vex_size(&c->insn);
	unsigned n = assist_get_gpr(c, c->insn.vvvv, 8) & (8 * size - 1);
	uint64_t v;
	enum outcome out = assist_load_rm(c, size, &v);

	if (out != OUT_DONE)
		return out;
	if (c->insn.prefixes == PFX_66)
		v <<= n;
	else if (c->insn.prefixes == PFX_F2)
		v >>= n;
	else
		v = (uint64_t)((size == 8 ? (int64_t)v : (int32_t)v) >> n);
	assist_put_gpr(c, c->insn.reg, size, v);
	return OUT_DONE;
}

enum outcome assist_rorx(struct assist_ctx *c)
{
	unsigned bits = 8 * vex_size(&c->insn);
	unsigned n = c->insn.imm & (bits - 1);
	uint64_t v;
	enum outcome out = assist_load_rm(c, bits / 8, &v);

	if (out != OUT_DONE)
		return out;
	if (n)
		v = (v >> n) | (v << (bits - n));
	assist_put_gpr(c, c->insn.reg, bits / 8, v);
	return OUT_DONE;
}
