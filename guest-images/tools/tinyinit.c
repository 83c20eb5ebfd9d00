// SPDX-License-Identifier: Apache-2.0
/* The smallest init for measurements: ends the machine through QEMU's isa-debug-exit (or minivm's
 * exit port) at 0xf4, and by a power-off where there is none. No libc. */
#include <linux/reboot.h>
#include <sys/syscall.h>

static long call4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

__attribute__((noreturn)) void _start(void);
void _start(void)
{
	if (call4(SYS_ioperm, 0xf4, 1, 1, 0) == 0)
		__asm__ volatile("outb %%al, $0xf4" : : "a"(0));
	call4(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
	for (;;)
		;
}
