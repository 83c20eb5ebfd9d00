/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042 keyboard controller, the part that resets a PC. There is no keyboard behind it.
 *
 * The status register (0x64 read) is always 0: no output for the guest, and the input buffer is
 * empty, which is what Linux's kb_wait() looks for before it sends the reset. Commands 0xf0 to 0xff
 * pulse those lines of the output port whose bit is 0; line 0 is the CPU's reset.
 *
 * The range includes port 0x61, the PC's speaker and NMI status port. Where KVM has its in-kernel
 * PIT it answers there itself (KVM_PIT_SPEAKER_DUMMY) and no exit reaches us; otherwise it reads as
 * 0, "no NMI, timer 2 low", and writes vanish. 0x60, 0x62 and 0x63 read as 0 as well.
 */
#include "minivm/platform.h"

#include <errno.h>
#include <stdlib.h>

#define I8042_COMMAND 4 /* offset of port 0x64 */

#define I8042_PULSE	 0xf0 /* upper nibble; the lower one names the lines, active low */
#define I8042_PULSE_MASK 0xf0
#define I8042_LINE_RESET 0x01

struct i8042 {
	struct vm_end_sink end;
};

static uint64_t i8042_read(void *dev, uint64_t off, unsigned len)
{
	(void)dev;
	(void)off;
	(void)len;
	return 0;
}

static void i8042_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	const struct i8042 *i8042 = dev;

	(void)len;
	if (off != I8042_COMMAND)
		return;
	if ((value & I8042_PULSE_MASK) == I8042_PULSE && !(value & I8042_LINE_RESET))
		vm_end(&i8042->end, VM_END_REBOOT, 0);
}

const struct io_ops i8042_io_ops = {
    .name = "i8042",
    .read = i8042_read,
    .write = i8042_write,
    .destroy = free,
    .state_version = 1,
    .save = state_save_nothing,
    .restore = state_restore_nothing,
};

int i8042_new(const struct vm_end_sink *end, void **out, struct err *err)
{
	struct i8042 *i8042 = calloc(1, sizeof(*i8042));

	if (!i8042)
		return err_sys(err, ENOMEM, "i8042");
	i8042->end = *end;
	*out = i8042;
	return 0;
}
