/* SPDX-License-Identifier: Apache-2.0 */
/* A triple fault: no IDT, then an exception. */
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
	asm volatile("lidt (%0); ud2" : : "r"(no_idt) : "memory");
	return 2;
}
