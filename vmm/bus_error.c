/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS ends in one line (minivm/bus_error.h).
 *
 * The handler can only end the process: whatever thread it strikes was in the middle of a copy to
 * or from guest memory, and a machine with a page missing has nothing left to go on with. Only
 * async-signal-safe calls.
 */
#include "minivm/bus_error.h"

#include <signal.h>
#include <unistd.h>

#include "minivm/console.h"
#include "minivm/end.h"

static void on_bus_error(int sig)
{
	static const char line[] =
	    "minivm: the host cannot supply a page of guest memory (SIGBUS): " BUS_ERROR_TEXT "\n";

	(void)sig;
	term_restore();
	(void)!write(STDERR_FILENO, line, sizeof(line) - 1);
	_exit(VM_STATUS_ERROR);
}

void bus_error_report(void)
{
	struct sigaction sa = {.sa_handler = on_bus_error};

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, NULL);
}
