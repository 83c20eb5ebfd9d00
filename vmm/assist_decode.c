/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instruction decoder of the assist, 64-bit mode only (SDM vol. 2 chapter 2): legacy prefixes, REX,
 * two- and three-byte VEX, the four opcode maps, ModRM, SIB, displacement, one immediate byte.
 *
 * What has a ModRM byte or an immediate is known from the table of instructions alone, so the order
 * is: prefixes and opcode, then the row (which may look at ModRM), then the rest. Bytes come from a
 * cursor that remembers when it ran out; nothing is read behind the end.
 */
#include "assist_internal.h"

struct cursor {
	const uint8_t *bytes;
	unsigned have, at;
	bool ran_out;
};

static uint8_t next_byte(struct cursor *cur)
{
	if (cur->at == cur->have) {
		cur->ran_out = true;
		return 0;
	}
	return cur->bytes[cur->at++];
}

static int32_t next_displacement(struct cursor *cur, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)next_byte(cur) << (8 * i);
	return size == 1 ? (int8_t)value : (int32_t)value;
}

/* The legacy prefixes; the last of F2 and F3 counts, as does the last segment (FS and GS only). */
struct legacy {
	bool has_66, has_f2, has_f3;
	bool rex; /* a REX prefix stands right before the opcode */
};

/* False: `byte` is no legacy prefix. */
static bool legacy_prefix(struct insn *in, struct legacy *legacy, uint8_t byte)
{
	switch (byte) {
	case 0x66:
		legacy->has_66 = true;
		return true;
	case 0x67:
		in->addr32 = true;
		return true;
	case 0xf0:
		in->lock = true;
		return true;
	case 0xf2:
	case 0xf3:
		legacy->has_f2 = byte == 0xf2;
		legacy->has_f3 = byte == 0xf3;
		return true;
	case 0x64:
	case 0x65:
		in->seg = byte & 7;
		return true;
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e: /* ES, CS, SS, DS: bases of 0; they do not undo FS or GS (SDM vol. 3 §3.4.4) */
		return true;
	default:
		return false;
	}
}

static void set_rex(struct insn *in, uint8_t rex)
{
	in->rex_w = rex & 8;
	in->rex_r = (rex & 4) << 1;
	in->rex_x = (rex & 2) << 2;
	in->rex_b = (rex & 1) << 3;
}

/* Returns the first byte that is no prefix. A REX that another prefix follows is void (§2.2.1). */
static uint8_t decode_prefixes(struct insn *in, struct legacy *legacy, struct cursor *cur)
{
	for (;;) {
		uint8_t byte = next_byte(cur);

		if (cur->ran_out)
			return 0;
		if ((byte & 0xf0) == 0x40) {
			set_rex(in, byte);
			legacy->rex = true;
			continue;
		}
		if (!legacy_prefix(in, legacy, byte))
			return byte;
		set_rex(in, 0);
		legacy->rex = false;
	}
}

/* VEX after C5 or C4 (§2.3.5); false where the encoding is none that we know. */
static bool decode_vex(struct insn *in, struct cursor *cur, bool three_bytes)
{
	static const uint8_t pp_prefix[4] = {PFX_NONE, PFX_66, PFX_F3, PFX_F2};
	uint8_t first = next_byte(cur);
	uint8_t last = three_bytes ? next_byte(cur) : first;

	in->vex = true;
	in->map = MAP_0F;
	in->rex_r = first & 0x80 ? 0 : 8;
	if (three_bytes) {
		in->rex_x = first & 0x40 ? 0 : 8;
		in->rex_b = first & 0x20 ? 0 : 8;
		in->rex_w = last & 0x80;
		in->map = first & 0x1f;
	}
	in->vvvv = (~last >> 3) & 0xf;
	in->prefixes = pp_prefix[last & 3];
	in->opcode = next_byte(cur);
	return in->map >= MAP_0F && in->map <= MAP_0F3A && !(last & 4);
}

static void decode_opcode(struct insn *in, struct cursor *cur, uint8_t byte)
{
	in->map = MAP_1;
	in->opcode = byte;
	if (byte != 0x0f)
		return;
	in->map = MAP_0F;
	in->opcode = next_byte(cur);
	if (in->opcode != 0x38 && in->opcode != 0x3a)
		return;
	in->map = in->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
	in->opcode = next_byte(cur);
}

static uint8_t prefix_class(const struct legacy *legacy)
{
	unsigned rep = legacy->has_f3 ? 1 : legacy->has_f2 ? 2 : 0;

	return 1u << (2 * rep + legacy->has_66);
}

/* Prefixes, VEX and opcode. False: no encoding of ours. */
static bool decode_head(struct insn *in, struct cursor *cur)
{
	struct legacy legacy = {0};
	uint8_t byte = decode_prefixes(in, &legacy, cur);

	if (byte == 0xc4 || byte == 0xc5) {
		/* Any of these before VEX is #UD (§2.3.2). */
		if (legacy.rex || legacy.has_66 || legacy.has_f2 || legacy.has_f3 || in->lock)
			return false;
		return decode_vex(in, cur, byte == 0xc4);
	}
	in->prefixes = prefix_class(&legacy);
	in->rex = legacy.rex;
	in->opsize16 = legacy.has_66;
	decode_opcode(in, cur, byte);
	return true;
}

/* SIB (§2.1.5, §2.2.1.2): index 100b is none, base 101b with mod 0 is disp32 alone. */
static void decode_sib(struct insn *in, struct cursor *cur, unsigned mod)
{
	uint8_t sib = next_byte(cur);
	unsigned index = ((sib >> 3) & 7) | in->rex_x;

	in->scale = sib >> 6;
	in->index = index == REG_SP ? REG_NONE : index;
	in->base = (sib & 7) | in->rex_b;
	if ((sib & 7) == REG_BP && mod == 0) {
		in->base = REG_NONE;
		in->disp = next_displacement(cur, 4);
	}
}

static void decode_modrm(struct insn *in, struct cursor *cur)
{
	unsigned mod, rm;

	in->modrm = next_byte(cur);
	mod = in->modrm >> 6;
	rm = in->modrm & 7;
	in->reg = ((in->modrm >> 3) & 7) | in->rex_r;
	in->rm = rm | in->rex_b;
	in->is_mem = mod != 3;
	if (!in->is_mem)
		return;
	if (rm == REG_SP) {
		decode_sib(in, cur, mod);
	} else if (rm == REG_BP && mod == 0) {
		in->rip_relative = true;
		in->disp = next_displacement(cur, 4);
	} else {
		in->base = in->rm;
	}
	if (mod == 1)
		in->disp = next_displacement(cur, 1);
	else if (mod == 2)
		in->disp = next_displacement(cur, 4);
}

enum decode assist_decode(const uint8_t *bytes, unsigned have, struct insn *in,
			  const struct insn_row **row)
{
	struct cursor cur = {.bytes = bytes, .have = have};
	bool known;

	*in = (struct insn){.base = REG_NONE, .index = REG_NONE};
	known = decode_head(in, &cur);
	if (cur.ran_out)
		return DECODE_SHORT;
	if (!known)
		return DECODE_UNKNOWN;
	in->has_modrm = cur.at < have;
	in->modrm = in->has_modrm ? bytes[cur.at] : 0;
	*row = assist_find_row(in);
	if (!*row)
		return DECODE_UNKNOWN;
	if ((*row)->flags & ROW_MODRM)
		decode_modrm(in, &cur);
	if ((*row)->flags & ROW_IMM8)
		in->imm = next_byte(&cur);
	if (cur.ran_out)
		return DECODE_SHORT;
	in->len = cur.at;
	return DECODE_OK;
}
