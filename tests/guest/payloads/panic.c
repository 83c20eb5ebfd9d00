/* SPDX-License-Identifier: Apache-2.0 */
/* pvpanic (QEMU docs/specs/pvpanic): the device says what it knows, then the panic is reported. */
#include "rt.h"
#include "time.h"
#include "x86.h"

#define PVPANIC_PORT 0x505
#define PANICKED     1

static void events(void)
{
	EXPECT(in8(PVPANIC_PORT) & PANICKED);
}

static void no_event(void)
{
	out8(PVPANIC_PORT, 0);
}

static const struct test_case cases[] = {
    {"events", events, 0},
    {"no_event", no_event, 0},
};

int payload_main(void)
{
	if (run_cases("panic", cases, ARRAY_SIZE(cases)))
		return 1;
	out8(PVPANIC_PORT, PANICKED);
	delay_us(1000000);
	return 2;
}
