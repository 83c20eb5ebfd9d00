/* SPDX-License-Identifier: Apache-2.0 */
/* Ends with the status that the command line asks for (status=N), which minivm must hand on. */
#include "rt.h"
#include "x86.h"

#define EXIT_PORT 0xf4
#define COM1	  0x3f8

/* The write is the last thing that this processor does, however busy the host is. */
int payload_main(void)
{
	static const char more[] = "not ok - exit: it goes on behind its end\n";
	uint8_t status = (uint8_t)cmdline_number("status", 0);

	print("ok - exit: asking for status %u\n", status);
	out8(EXIT_PORT, status);
	for (unsigned i = 0; i < sizeof(more) - 1; i++)
		out8(COM1, (uint8_t)more[i]);
	return status;
}
