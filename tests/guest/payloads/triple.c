/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A triple fault: no IDT, then an exception. A page fault, since that is one that emulated kernel
 * mode delivers for certain.
 */
#include "rt.h"
#include "time.h"
#include "x86.h"

static void nothing(void)
{
}

static const struct test_case cases[] = {
    {"alive_before", nothing, 0},
};

int payload_main(void)
{
	static const uint8_t no_idt[10];

	run_cases("triple", cases, ARRAY_SIZE(cases));
	asm volatile("lidt (%0)" : : "r"(no_idt) : "memory");
	(void)mmio_read8(1ull << 40); /* not mapped */
	return 2;
}
