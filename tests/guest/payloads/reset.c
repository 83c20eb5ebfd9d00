/* SPDX-License-Identifier: Apache-2.0 */
/* Reboots as Linux does with reboot=k: command 0xfe to the i8042 pulses the reset line. */
#include "rt.h"
#include "time.h"
#include "x86.h"

#define I8042_COMMAND 0x64

static void idle(void)
{
	/* Linux waits for the input buffer to be empty before each command: bit 1, clear */
	EXPECT_EQ(in8(I8042_COMMAND) & 2, 0);
}

static void no_reset(void)
{
	/* 0xff pulses no line; data port writes do nothing either */
	out8(I8042_COMMAND, 0xff);
	out8(0x60, 0xfe);
}

static const struct test_case cases[] = {
    {"idle", idle, 0},
    {"no_reset", no_reset, 0},
};

int payload_main(void)
{
	if (run_cases("reset", cases, ARRAY_SIZE(cases)))
		return 1;
	out8(I8042_COMMAND, 0xfe);
	delay_us(1000000);
	return 2; /* still here */
}
