/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the instruction assist (vmm/assist*.c) and by nobody else.
 *
 *	assist.c	  entry point, commit, exceptions, counters
 *	assist_decode.c	  bytes -> struct insn
 *	assist_table.c	  the instructions
 *	assist_mem.c	  registers and memory operands
 *	assist_system.c	  handlers: control, FPU, system registers
 *	assist_segment.c  handlers: LAR, LSL, VERR, VERW
 *	assist_integer.c  handlers: bits and arithmetic
 *	assist_syscall.c  the SYSCALL repair
 */
#ifndef MINIVM_ASSIST_INTERNAL_H
#define MINIVM_ASSIST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/assist.h"
#include "minivm/walk.h"

#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_NE (1ull << 5)

#define CR4_TSD	    (1ull << 2)
#define CR4_OSFXSR  (1ull << 9)
#define CR4_PCIDE   (1ull << 17)
#define CR4_OSXSAVE (1ull << 18)

#define EFER_SCE (1ull << 0)
#define EFER_LMA (1ull << 10)

#define RFLAGS_CF    (1ull << 0)
#define RFLAGS_FIXED (1ull << 1)
#define RFLAGS_PF    (1ull << 2)
#define RFLAGS_AF    (1ull << 4)
#define RFLAGS_ZF    (1ull << 6)
#define RFLAGS_SF    (1ull << 7)
#define RFLAGS_TF    (1ull << 8)
#define RFLAGS_IF    (1ull << 9)
#define RFLAGS_DF    (1ull << 10)
#define RFLAGS_OF    (1ull << 11)
#define RFLAGS_NT    (1ull << 14)
#define RFLAGS_RF    (1ull << 16)
#define RFLAGS_AC    (1ull << 18)
#define RFLAGS_ID    (1ull << 21)
#define RFLAGS_ARITH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define DR6_B0	  (1ull << 0)
#define DR6_B0123 0xfull
#define DR6_BD	  (1ull << 13)
#define DR6_BS	  (1ull << 14)
#define DR6_BT	  (1ull << 15)

#define MSR_TSC	    0x10u
#define MSR_STAR    0xc0000081u
#define MSR_LSTAR   0xc0000082u
#define MSR_SFMASK  0xc0000084u
#define MSR_TSC_AUX 0xc0000103u

enum vector {
	VEC_DB = 1,
	VEC_BP = 3,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
};

#define INSN_MAX 15 /* bytes (SDM vol. 3 §24.25: longer ones are #GP) */

/* Opcode maps. */
enum {
	MAP_1, /* one byte */
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
};

/* Registers by their encoding. */
enum {
	REG_AX,
	REG_CX,
	REG_DX,
	REG_BX,
	REG_SP,
	REG_BP,
	REG_NONE = 0xff,
};

/*
 * Which of 66, F2 and F3 came before the opcode; VEX.pp counts as the same. The table names the
 * combinations that mean the instruction.
 */
enum {
	PFX_NONE = 1u << 0,
	PFX_66 = 1u << 1,
	PFX_F3 = 1u << 2,
	PFX_F3_66 = 1u << 3,
	PFX_F2 = 1u << 4,
	PFX_F2_66 = 1u << 5,
	PFX_ANY = (1u << 6) - 1,
};

struct insn {
	uint8_t len;
	uint8_t map, opcode;
	uint8_t prefixes; /* one PFX_* bit */
	bool lock, opsize16, addr32, vex;
	bool rex; /* any REX prefix: SPL to DIL instead of AH to BH */
	bool rex_w;
	uint8_t rex_r, rex_x, rex_b; /* 0 or 8 */
	uint8_t vvvv;
	bool has_modrm; /* there is a byte behind the opcode: */
	uint8_t modrm;
	uint8_t reg; /* register operand, REX.R included */
	uint8_t rm;  /* register operand if mod is 3, REX.B included */
	bool is_mem;
	/* memory operand: [base + (index << scale) + disp], or RIP-relative */
	bool rip_relative;
	uint8_t seg; /* 4 FS, 5 GS, 0 otherwise */
	uint8_t base, index, scale;
	int32_t disp;
	uint8_t imm;
};

struct fault {
	uint8_t vector;
	bool has_code;
	uint32_t code;
	uint64_t cr2; /* VEC_PF */
};

/* How an instruction ended. */
enum outcome {
	OUT_DONE,  /* executed; step over it */
	OUT_TRAP,  /* executed; step over it, then deliver ctx.fault */
	OUT_FAULT, /* deliver ctx.fault; registers stay as they were */
	OUT_RETRY, /* nothing happened; the guest tries again */
	OUT_NOT_OURS,
	OUT_ERROR, /* an op failed with ctx.error */
};

struct assist_ctx {
	struct assist *a;
	struct kvm_regs regs; /* handlers change them last, once nothing can fail */
	struct kvm_sregs sregs;
	struct walk_state walk;
	unsigned cpl;
	struct insn insn;
	const struct insn_row *row;
	struct fault fault;
	int error;
};

struct insn_row {
	uint8_t map, opcode;
	uint8_t prefixes; /* PFX_* that are allowed */
	uint16_t flags;	  /* ROW_* */
	int8_t reg;	  /* ModRM.reg as opcode extension, or -1 */
	int16_t modrm;	  /* whole ModRM byte as opcode extension, or -1 */
	enum assist_counter counter;
	enum outcome (*run)(struct assist_ctx *c);
};

enum {
	ROW_MODRM = 1u << 0,
	ROW_MEM = 1u << 1,     /* with a memory operand only */
	ROW_REG = 1u << 2,     /* with a register operand only */
	ROW_VEX = 1u << 3,     /* VEX-encoded, L = 0 */
	ROW_NO_VVVV = 1u << 4, /* VEX.vvvv unused: must be 1111b */
	ROW_W = 1u << 5,       /* with REX.W only */
	ROW_LOCK = 1u << 6,    /* LOCK is allowed */
	ROW_IMM8 = 1u << 7,
};

/* --- assist.c --- */

/* Fetches registers and derives the rest. 0 or -errno. */
int assist_ctx_init(struct assist_ctx *c, struct assist *a);
/* Runs c->insn, decoded by c->row, and writes the result back. ASSIST_* or -errno. */
int assist_run_insn(struct assist_ctx *c);
/* Interrupt shadow off and this exception (or none: NULL) to be delivered by the next KVM_RUN. */
int assist_set_event(struct assist *a, const struct fault *fault);
/* Sets DR6 bits for a #DB. */
int assist_set_dr6(struct assist *a, uint64_t bits);
void assist_bump(struct assist *a, enum assist_counter c);

/* A fault without and with an error code, of 0; an op that failed. */
static inline enum outcome assist_raise(struct assist_ctx *c, enum vector v)
{
	c->fault = (struct fault){.vector = v};
	return OUT_FAULT;
}

static inline enum outcome assist_raise0(struct assist_ctx *c, enum vector v)
{
	c->fault = (struct fault){.vector = v, .has_code = true};
	return OUT_FAULT;
}

static inline enum outcome assist_op_failed(struct assist_ctx *c, int error)
{
	c->error = error;
	return OUT_ERROR;
}

/* --- assist_decode.c, assist_table.c --- */

enum decode {
	DECODE_OK,
	DECODE_SHORT,	/* more bytes are needed */
	DECODE_UNKNOWN, /* not in the table */
};

/* Fills *in and *row from the first `have` <= INSN_MAX bytes. */
enum decode assist_decode(const uint8_t *bytes, unsigned have, struct insn *in,
			  const struct insn_row **row);

/*
 * The row that fits prefixes, map, opcode and ModRM, or NULL. While ModRM is not there yet
 * (in->has_modrm is false) any row that could fit.
 */
const struct insn_row *assist_find_row(const struct insn *in);

/* --- assist_mem.c --- */

__u64 *assist_gpr(struct kvm_regs *regs, unsigned encoding);
uint64_t assist_get_gpr(struct assist_ctx *c, unsigned encoding, unsigned size);
/* 2-byte writes keep the rest of the register, 4-byte writes clear its upper half. */
void assist_put_gpr(struct assist_ctx *c, unsigned encoding, unsigned size, uint64_t value);
/* Operand size in bytes: 8 with REX.W, 2 with 66, else 4. */
unsigned assist_opsize(const struct insn *in);

/* Host memory behind an operand: one piece, or two if it crosses a page. */
struct span {
	uint8_t *host[2];
	unsigned len[2];
};

/* Linear address of the memory operand of `len` bytes; OUT_DONE, or OUT_FAULT if not canonical. */
enum outcome assist_linear(struct assist_ctx *c, unsigned len, uint64_t *linear);
/* Translates and checks all of it. `access`: WALK_WRITE, WALK_IMPLICIT; WALK_USER is added by CPL.
 */
enum outcome assist_map(struct assist_ctx *c, uint64_t linear, unsigned len, unsigned access,
			struct span *span);
void assist_span_read(const struct span *span, void *dst);
void assist_span_write(const struct span *span, const void *src);

/* The memory operand, little-endian, len <= 8. */
enum outcome assist_load(struct assist_ctx *c, unsigned len, uint64_t *value);
enum outcome assist_store(struct assist_ctx *c, unsigned len, uint64_t value);
/* The r/m operand. */
enum outcome assist_load_rm(struct assist_ctx *c, unsigned len, uint64_t *value);

/* --- handlers --- */

enum outcome assist_int3(struct assist_ctx *c);
enum outcome assist_ud(struct assist_ctx *c);
enum outcome assist_clac(struct assist_ctx *c);
enum outcome assist_stac(struct assist_ctx *c);
enum outcome assist_cld(struct assist_ctx *c);
enum outcome assist_nop(struct assist_ctx *c);
enum outcome assist_fence(struct assist_ctx *c);
enum outcome assist_fwait(struct assist_ctx *c);
enum outcome assist_fnstsw_ax(struct assist_ctx *c);
enum outcome assist_fnstsw_m16(struct assist_ctx *c);
enum outcome assist_fnclex(struct assist_ctx *c);
enum outcome assist_emms(struct assist_ctx *c);
enum outcome assist_ldmxcsr(struct assist_ctx *c);
enum outcome assist_stmxcsr(struct assist_ctx *c);
enum outcome assist_cmpxchg16b(struct assist_ctx *c);
enum outcome assist_xgetbv(struct assist_ctx *c);
enum outcome assist_rdtscp(struct assist_ctx *c);
enum outcome assist_rdpid(struct assist_ctx *c);
enum outcome assist_rdrand(struct assist_ctx *c);
enum outcome assist_invpcid(struct assist_ctx *c);

enum outcome assist_lar(struct assist_ctx *c);
enum outcome assist_lsl(struct assist_ctx *c);
enum outcome assist_verr(struct assist_ctx *c);
enum outcome assist_verw(struct assist_ctx *c);

enum outcome assist_movbe_load(struct assist_ctx *c);
enum outcome assist_movbe_store(struct assist_ctx *c);
enum outcome assist_crc32(struct assist_ctx *c);
enum outcome assist_popcnt(struct assist_ctx *c);
enum outcome assist_tzcnt(struct assist_ctx *c);
enum outcome assist_lzcnt(struct assist_ctx *c);
enum outcome assist_adcx(struct assist_ctx *c);
enum outcome assist_adox(struct assist_ctx *c);
enum outcome assist_andn(struct assist_ctx *c);
enum outcome assist_bls(struct assist_ctx *c);
enum outcome assist_bextr(struct assist_ctx *c);
enum outcome assist_bzhi(struct assist_ctx *c);
enum outcome assist_pdep(struct assist_ctx *c);
enum outcome assist_pext(struct assist_ctx *c);
enum outcome assist_mulx(struct assist_ctx *c);
enum outcome assist_shiftx(struct assist_ctx *c);
enum outcome assist_rorx(struct assist_ctx *c);

#endif
