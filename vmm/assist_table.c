/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions that the assist knows: those which KVM's emulator lacks and Linux uses (or a
 * kernel built for a newer processor), as far as they can be done exactly. Opcodes are from SDM
 * vol. 2 and AMD APM vol. 3. Left out on purpose: XSAVE and its family (the guest runs with
 * `noxsave`), SSE and AVX.
 *
 * The last group is not missing in the emulator; the SYSCALL repair uses it to get past the first
 * instruction of the guest's page-fault entry without a single step.
 */
#include "assist_internal.h"

/* Without a mandatory prefix; 66 sets the operand size. */
#define PFX_OPSIZE    (PFX_NONE | PFX_66)
#define PFX_F3_OPSIZE (PFX_F3 | PFX_F3_66)
#define PFX_F2_OPSIZE (PFX_F2 | PFX_F2_66)

/* One line each: map, opcode, prefixes, flags, /reg, ModRM, counter, handler. */
/* clang-format off */
static const struct insn_row rows[] = {
	{MAP_1, 0xcc, PFX_ANY, 0, -1, -1, ASSIST_N_INT3, assist_int3},
	{MAP_0F, 0x0b, PFX_ANY, 0, -1, -1, ASSIST_N_UD, assist_ud}, /* UD2: BUG() and WARN() */
	{MAP_0F, 0xb9, PFX_ANY, ROW_MODRM, -1, -1, ASSIST_N_UD, assist_ud}, /* UD1: UBSAN traps */
	{MAP_0F, 0xff, PFX_ANY, ROW_MODRM, -1, -1, ASSIST_N_UD, assist_ud}, /* UD0 */
	{MAP_0F, 0x01, PFX_NONE, ROW_MODRM, -1, 0xca, ASSIST_N_CLAC, assist_clac},
	{MAP_0F, 0x01, PFX_NONE, ROW_MODRM, -1, 0xcb, ASSIST_N_STAC, assist_stac},

	/* Fences: any rm. SERIALIZE. */
	{MAP_0F, 0xae, PFX_NONE, ROW_MODRM | ROW_REG, 5, -1, ASSIST_N_FENCE, assist_fence},
	{MAP_0F, 0xae, PFX_NONE, ROW_MODRM | ROW_REG, 6, -1, ASSIST_N_FENCE, assist_fence},
	{MAP_0F, 0xae, PFX_NONE, ROW_MODRM | ROW_REG, 7, -1, ASSIST_N_FENCE, assist_fence},
	{MAP_0F, 0x01, PFX_NONE, ROW_MODRM, -1, 0xe8, ASSIST_N_FENCE, assist_fence},

	{MAP_1, 0x9b, PFX_ANY, 0, -1, -1, ASSIST_N_FWAIT, assist_fwait},
	{MAP_1, 0xdf, PFX_ANY, ROW_MODRM, -1, 0xe0, ASSIST_N_FNSTSW, assist_fnstsw_ax},
	{MAP_1, 0xdd, PFX_ANY, ROW_MODRM | ROW_MEM, 7, -1, ASSIST_N_FNSTSW, assist_fnstsw_m16},
	{MAP_1, 0xdb, PFX_ANY, ROW_MODRM, -1, 0xe2, ASSIST_N_FNCLEX, assist_fnclex},
	{MAP_0F, 0x77, PFX_NONE, 0, -1, -1, ASSIST_N_EMMS, assist_emms},
	{MAP_0F, 0xae, PFX_NONE, ROW_MODRM | ROW_MEM, 2, -1, ASSIST_N_LDMXCSR, assist_ldmxcsr},
	{MAP_0F, 0xae, PFX_NONE, ROW_MODRM | ROW_MEM, 3, -1, ASSIST_N_STMXCSR, assist_stmxcsr},

	/* F2 and F3 are XACQUIRE and XRELEASE: hints. */
	{MAP_0F, 0xc7, PFX_NONE | PFX_F2 | PFX_F3, ROW_MODRM | ROW_MEM | ROW_W | ROW_LOCK, 1, -1,
	 ASSIST_N_CMPXCHG16B, assist_cmpxchg16b},
	{MAP_0F, 0xc7, PFX_OPSIZE, ROW_MODRM | ROW_REG, 6, -1, ASSIST_N_RDRAND, assist_rdrand},
	{MAP_0F, 0xc7, PFX_OPSIZE, ROW_MODRM | ROW_REG, 7, -1, ASSIST_N_RDRAND, assist_rdrand},
	{MAP_0F, 0xc7, PFX_F3, ROW_MODRM | ROW_REG, 7, -1, ASSIST_N_RDPID, assist_rdpid},
	{MAP_0F, 0x01, PFX_NONE, ROW_MODRM, -1, 0xd0, ASSIST_N_XGETBV, assist_xgetbv},
	{MAP_0F, 0x01, PFX_ANY, ROW_MODRM, -1, 0xf9, ASSIST_N_RDTSCP, assist_rdtscp},
	{MAP_0F38, 0x82, PFX_66, ROW_MODRM | ROW_MEM, -1, -1, ASSIST_N_INVPCID, assist_invpcid},

	{MAP_0F, 0x00, PFX_ANY, ROW_MODRM, 4, -1, ASSIST_N_VERR, assist_verr},
	{MAP_0F, 0x00, PFX_ANY, ROW_MODRM, 5, -1, ASSIST_N_VERW, assist_verw},
	{MAP_0F, 0x02, PFX_ANY, ROW_MODRM, -1, -1, ASSIST_N_LAR, assist_lar},
	{MAP_0F, 0x03, PFX_ANY, ROW_MODRM, -1, -1, ASSIST_N_LSL, assist_lsl},

	{MAP_0F38, 0xf0, PFX_OPSIZE, ROW_MODRM | ROW_MEM, -1, -1, ASSIST_N_MOVBE, assist_movbe_load},
	{MAP_0F38, 0xf1, PFX_OPSIZE, ROW_MODRM | ROW_MEM, -1, -1, ASSIST_N_MOVBE, assist_movbe_store},
	{MAP_0F38, 0xf0, PFX_F2_OPSIZE, ROW_MODRM, -1, -1, ASSIST_N_CRC32, assist_crc32},
	{MAP_0F38, 0xf1, PFX_F2_OPSIZE, ROW_MODRM, -1, -1, ASSIST_N_CRC32, assist_crc32},
	{MAP_0F, 0xb8, PFX_F3_OPSIZE, ROW_MODRM, -1, -1, ASSIST_N_POPCNT, assist_popcnt},
	{MAP_0F, 0xbc, PFX_F3_OPSIZE, ROW_MODRM, -1, -1, ASSIST_N_TZCNT, assist_tzcnt},
	{MAP_0F, 0xbd, PFX_F3_OPSIZE, ROW_MODRM, -1, -1, ASSIST_N_LZCNT, assist_lzcnt},
	{MAP_0F38, 0xf6, PFX_66, ROW_MODRM, -1, -1, ASSIST_N_ADX, assist_adcx},
	{MAP_0F38, 0xf6, PFX_F3, ROW_MODRM, -1, -1, ASSIST_N_ADX, assist_adox},

	{MAP_0F38, 0xf2, PFX_NONE, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_andn},
	{MAP_0F38, 0xf3, PFX_NONE, ROW_MODRM | ROW_VEX, 1, -1, ASSIST_N_BMI, assist_bls}, /* BLSR */
	{MAP_0F38, 0xf3, PFX_NONE, ROW_MODRM | ROW_VEX, 2, -1, ASSIST_N_BMI, assist_bls}, /* BLSMSK */
	{MAP_0F38, 0xf3, PFX_NONE, ROW_MODRM | ROW_VEX, 3, -1, ASSIST_N_BMI, assist_bls}, /* BLSI */
	{MAP_0F38, 0xf5, PFX_NONE, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_bzhi},
	{MAP_0F38, 0xf5, PFX_F3, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_pext},
	{MAP_0F38, 0xf5, PFX_F2, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_pdep},
	{MAP_0F38, 0xf6, PFX_F2, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_mulx},
	{MAP_0F38, 0xf7, PFX_NONE, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI, assist_bextr},
	/* SHLX, SARX, SHRX */
	{MAP_0F38, 0xf7, PFX_66 | PFX_F3 | PFX_F2, ROW_MODRM | ROW_VEX, -1, -1, ASSIST_N_BMI,
	 assist_shiftx},
	{MAP_0F3A, 0xf0, PFX_F2, ROW_MODRM | ROW_VEX | ROW_NO_VVVV | ROW_IMM8, -1, -1, ASSIST_N_BMI,
	 assist_rorx},

	/* For the page-fault entry: ENDBR64, NOPs of any length, CLD. */
	{MAP_0F, 0x1e, PFX_F3, ROW_MODRM, -1, 0xfa, ASSIST_N_NOP, assist_nop},
	{MAP_0F, 0x1f, PFX_OPSIZE, ROW_MODRM, 0, -1, ASSIST_N_NOP, assist_nop},
	{MAP_1, 0x90, PFX_OPSIZE, 0, -1, -1, ASSIST_N_NOP, assist_nop},
	{MAP_1, 0xfc, PFX_NONE, 0, -1, -1, ASSIST_N_NOP, assist_cld},
};
/* clang-format on */

static bool modrm_fits(const struct insn *in, const struct insn_row *row)
{
	if (!(row->flags & ROW_MODRM) || !in->has_modrm)
		return true;
	if (row->modrm >= 0)
		return in->modrm == row->modrm;
	if (row->reg >= 0 && ((in->modrm >> 3) & 7) != row->reg)
		return false;
	if ((row->flags & ROW_MEM) && in->modrm >= 0xc0)
		return false;
	return !(row->flags & ROW_REG) || in->modrm >= 0xc0;
}

const struct insn_row *assist_find_row(const struct insn *in)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct insn_row *row = &rows[i];

		if (row->opcode != in->opcode || row->map != in->map ||
		    !(row->prefixes & in->prefixes) || in->vex != !!(row->flags & ROW_VEX))
			continue;
		if ((row->flags & ROW_W) && !in->rex_w)
			continue;
		if ((row->flags & ROW_NO_VVVV) && in->vvvv)
			continue;
		if (modrm_fits(in, row))
			return row;
	}
	return NULL;
}
