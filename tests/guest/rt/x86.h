/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions as functions. MMIO accesses are single plain MOVs, which every instruction emulator
 * decodes; the full barrier is a locked add, because KVM's emulator has no MFENCE.
 */
#ifndef RT_X86_H
#define RT_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RFLAGS_IF 0x200u

#define DEFINE_PORT(bits, suffix, type)                                                            \
	static inline type in##bits(uint16_t port)                                                 \
	{                                                                                          \
		type v;                                                                            \
		asm volatile("in" suffix " %1, %0" : "=a"(v) : "Nd"(port) : "memory");             \
		return v;                                                                          \
	}                                                                                          \
	static inline void out##bits(uint16_t port, type v)                                        \
	{                                                                                          \
		asm volatile("out" suffix " %0, %1" : : "a"(v), "Nd"(port) : "memory");            \
	}
DEFINE_PORT(8, "b", uint8_t)
DEFINE_PORT(16, "w", uint16_t)
DEFINE_PORT(32, "l", uint32_t)
#undef DEFINE_PORT

#define DEFINE_MMIO(bits, suffix)                                                                  \
	static inline uint##bits##_t mmio_read##bits(uint64_t addr)                                \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		asm volatile("mov" suffix " (%1), %0" : "=q"(v) : "r"(addr) : "memory");           \
		return v;                                                                          \
	}                                                                                          \
	static inline void mmio_write##bits(uint64_t addr, uint##bits##_t v)                       \
	{                                                                                          \
		asm volatile("mov" suffix " %0, (%1)" : : "q"(v), "r"(addr) : "memory");           \
	}
DEFINE_MMIO(8, "b")
DEFINE_MMIO(16, "w")
DEFINE_MMIO(32, "l")
DEFINE_MMIO(64, "q")
#undef DEFINE_MMIO

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r;

	asm volatile("cpuid"
		     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
		     : "a"(leaf), "c"(subleaf));
	return r;
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t read_cr2(void)
{
	uint64_t v;

	asm volatile("mov %%cr2, %0" : "=r"(v));
	return v;
}

static inline void invlpg(uint64_t addr)
{
	asm volatile("invlpg (%0)" : : "r"(addr) : "memory");
}

static inline uint64_t read_flags(void)
{
	uint64_t v;

	asm volatile("pushfq; pop %0" : "=r"(v) : : "memory");
	return v;
}

static inline uint16_t read_cs(void)
{
	uint16_t v;

	asm("mov %%cs, %0" : "=r"(v));
	return v;
}

static inline void irq_enable(void)
{
	asm volatile("sti" : : : "memory");
}

static inline void irq_disable(void)
{
	asm volatile("cli" : : : "memory");
}

/* STI's shadow: no interrupt can come between the two. */
static inline void irq_enable_and_halt(void)
{
	asm volatile("sti; hlt" : : : "memory");
}

static inline void cpu_pause(void)
{
	asm volatile("pause" : : : "memory");
}

/* x86 keeps stores in order and loads in order: only the compiler must be told. */
static inline void barrier(void)
{
	asm volatile("" : : : "memory");
}

/* Store before load: the one order that x86 does not keep. */
static inline void full_barrier(void)
{
	asm volatile("lock addl $0, -4(%%rsp)" : : : "memory", "cc");
}

#endif
