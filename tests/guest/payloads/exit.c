/* SPDX-License-Identifier: Apache-2.0 */
/* Ends with the status that the command line asks for (status=N), which minivm must hand on. */
#include "rt.h"

int payload_main(void)
{
	print("ok - exit: asking for status %u\n", (unsigned)cmdline_number("status", 0));
	return (int)cmdline_number("status", 0);
}
