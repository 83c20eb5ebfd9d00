/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime of the freestanding payloads: boot facts, command line, output, test cases, memory.
 *
 * A payload defines payload_main(), which runs in ring 0 on CPU 0 with interrupts off, and returns
 * the exit status; usually that of run_cases().
 */
#ifndef RT_RT_H
#define RT_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

int payload_main(void);

/* --- boot --- */

enum {
	E820_RAM = 1,
	E820_RESERVED = 2,
};

struct boot_range {
	uint64_t start;
	uint64_t end;
	uint32_t type; /* E820_* and others */
};

#define BOOT_RANGES_MAX 32

struct boot_info {
	const char *cmdline;
	unsigned ranges;
	struct boot_range range[BOOT_RANGES_MAX]; /* the memory map, in its order */
	uint64_t ram_end; /* first byte behind the RAM below 4 GiB; 0: not known */
	bool foreign;	  /* another VMM runs us: QEMU, for a second opinion */
};
extern struct boot_info boot_info;

/* Ends the VM through the exit port. */
_Noreturn void rt_exit(uint8_t status);

/* --- command line: words "name" or "name=value" --- */

/* The value ("" for a bare name) of the n-th word with this name, or NULL; ends at a blank. */
const char *cmdline_word(const char *name, unsigned n);
bool cmdline_has(const char *name);
uint64_t cmdline_number(const char *name, uint64_t absent);
/* Reads digits (0x: hexadecimal) up to the first other character. */
uint64_t parse_number(const char *text, const char **end);

/* --- output on COM1: polled --- */

/* Knows c s d u x p %, l and ll, z, widths and zero padding. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "prefix: cpu 0 ..." diagnostics are lines that start with "# ". */
void print_bytes(const char *data, size_t len);
/* Before the last words of a payload: whoever is inside print() does not hold them up. */
void print_break_lock(void);

/* --- test cases --- */

struct test_case {
	const char *name;
	void (*fn)(void);
	unsigned ring; /* 0 or 3 */
};

/*
 * Runs all cases, or the one named by case=NAME on the command line; prints one line for each and
 * "done N M" (passed, failed). 0 = all passed. The word "times" has it say how long each took.
 */
int run_cases(const char *suite, const struct test_case *cases, unsigned count);

void check_fail(const char *file, int line, const char *what);
void check_fail_number(const char *file, int line, const char *what, uint64_t got, uint64_t want);
void check_skip(const char *why);
bool check_failed(void);

/* A failed expectation ends the function it stands in. */
#define EXPECT(cond)                                                                               \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			check_fail(__FILE__, __LINE__, #cond);                                     \
			return;                                                                    \
		}                                                                                  \
	} while (0)
#define EXPECT_EQ(expr, want)                                                                      \
	do {                                                                                       \
		uint64_t got_ = (uint64_t)(expr), want_ = (uint64_t)(want);                        \
		if (got_ != want_) {                                                               \
			check_fail_number(__FILE__, __LINE__, #expr, got_, want_);                 \
			return;                                                                    \
		}                                                                                  \
	} while (0)
/* After a call of a function that has expectations of its own. */
#define EXPECT_OK_SO_FAR()                                                                         \
	do {                                                                                       \
		if (check_failed())                                                                \
			return;                                                                    \
	} while (0)
#define SKIP(why)                                                                                  \
	do {                                                                                       \
		check_skip(why);                                                                   \
		return;                                                                            \
	} while (0)

/* --- memory --- */

/*
 * Zeroed memory for rings and buffers, behind the payload; never freed one by one, all of it is
 * taken back before each test case. Running out of it ends the payload.
 */
void *dma_alloc(size_t size, size_t align);
void dma_reset(void);

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

#endif
