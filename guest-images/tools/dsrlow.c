// SPDX-License-Identifier: Apache-2.0
/*
 * Makes COM1's DSR read low for real: in the UART's loopback mode DSR is what the driver sets DTR
 * to. Then waits to be stopped, and ends with status 9 when SIGTERM comes. For tools/check.sh.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void on_term(int sig)
{
	(void)sig;
	_exit(9);
}

int main(void)
{
	int bits = TIOCM_DTR | 0x8000 /* TIOCM_LOOP */;
	int fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK);

	signal(SIGTERM, on_term);
	/* Up first, so that there is a change to see whatever the line was before. */
	if (fd < 0 || ioctl(fd, TIOCMBIS, &bits))
		return 1;
	sleep(1);
	bits = TIOCM_DTR;
	if (ioctl(fd, TIOCMBIC, &bits))
		return 1;
	sleep(40);
	return 2;
}
