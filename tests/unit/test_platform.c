/* SPDX-License-Identifier: Apache-2.0 */
/* i8042, pvpanic, exit and mark port: what ends the machine, and what does not; names and exit
 * statuses. */
#include <criterion/criterion.h>

#include <string.h>

#include "minivm/platform.h"

struct seen {
	unsigned calls;
	enum vm_end_reason reason;
	uint8_t status;
};

static void on_end(void *opaque, enum vm_end_reason reason, uint8_t status)
{
	struct seen *seen = opaque;

	seen->calls++;
	seen->reason = reason;
	seen->status = status;
}

Test(platform, i8042_resets_and_does_nothing_else)
{
	struct seen seen = {0};
	struct vm_end_sink sink = {on_end, &seen};
	struct err err = {0};
	void *dev;

	cr_assert_eq(i8042_new(&sink, &dev, &err), 0);
	for (uint64_t off = 0; off < I8042_LEN; off++)
		cr_assert_eq(i8042_io_ops.read(dev, off, 1), 0u);
	/* Controller self test, A20 through the output port, LEDs, a pulse of no line. */
	i8042_io_ops.write(dev, 4, 1, 0xaa);
	i8042_io_ops.write(dev, 4, 1, 0xd1);
	i8042_io_ops.write(dev, 0, 1, 0xfe);
	i8042_io_ops.write(dev, 1, 1, 0xfe);
	i8042_io_ops.write(dev, 4, 1, 0xff);
	cr_assert_eq(seen.calls, 0u);
	i8042_io_ops.write(dev, 4, 1, 0xfe);
	cr_assert_eq(seen.calls, 1u);
	cr_assert_eq(seen.reason, VM_END_REBOOT);
	i8042_io_ops.destroy(dev);
}

Test(platform, pvpanic_tells_a_panic_from_a_loaded_crash_kernel)
{
	struct seen seen = {0};
	struct vm_end_sink sink = {on_end, &seen};
	struct err err = {0};
	void *dev;

	cr_assert_eq(pvpanic_new(&sink, &dev, &err), 0);
	cr_assert_eq(pvpanic_io_ops.read(dev, 0, 1), 3u);
	pvpanic_io_ops.write(dev, 0, 1, 2);
	pvpanic_io_ops.write(dev, 0, 1, 0xfc);
	cr_assert_eq(seen.calls, 0u);
	pvpanic_io_ops.write(dev, 0, 1, 1);
	cr_assert_eq(seen.calls, 1u);
	cr_assert_eq(seen.reason, VM_END_PANIC);
	pvpanic_io_ops.destroy(dev);
}

Test(platform, exit_port_hands_over_the_whole_byte)
{
	struct seen seen = {0};
	struct vm_end_sink sink = {on_end, &seen};
	struct err err = {0};
	void *dev;

	cr_assert_eq(exit_port_new(&sink, &dev, &err), 0);
	cr_assert_eq(exit_port_io_ops.read(dev, 0, 1) & 0xff, 0xffu);
	cr_assert_eq(seen.calls, 0u);
	for (unsigned status = 0; status < 256; status++) {
		exit_port_io_ops.write(dev, 0, 1, status);
		cr_assert_eq(seen.reason, VM_END_POWEROFF);
		cr_assert_eq(seen.status, status);
	}
	exit_port_io_ops.destroy(dev);
}

Test(platform, ends_have_stable_names_and_statuses)
{
	static const struct {
		enum vm_end_reason reason;
		const char *name;
		int status;
	} cases[] = {
	    {VM_END_NONE, "running", 125},    {VM_END_POWEROFF, "poweroff", 42},
	    {VM_END_REBOOT, "reboot", 120},   {VM_END_PANIC, "panic", 121},
	    {VM_END_STOPPED, "stopped", 123}, {VM_END_TRIPLE_FAULT, "triple-fault", 122},
	    {VM_END_ERROR, "error", 125},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_str_eq(vm_end_reason_name(cases[i].reason), cases[i].name);
		cr_assert_eq(vm_end_exit_status(cases[i].reason, 42), cases[i].status);
	}
}

static void on_mark(void *opaque)
{
	++*(unsigned *)opaque;
}

Test(platform, mark_port_tells_writes_only)
{
	unsigned marks = 0;
	struct err err = {0};
	void *dev;

	cr_assert_eq(mark_port_new(on_mark, &marks, &dev, &err), 0);
	cr_assert_eq(mark_port_io_ops.read(dev, 0, 1) & 0xff, 0xffu);
	cr_assert_eq(marks, 0u);
	mark_port_io_ops.write(dev, 0, 1, 0);
	mark_port_io_ops.write(dev, 0, 1, 1);
	cr_assert_eq(marks, 2u);
	mark_port_io_ops.destroy(dev);
}

/* What Linux's pci_check_type1() does, and a look for a device. */
Test(platform, pci_configuration_space_is_there_and_empty)
{
	const struct io_ops *ops = &pci_config_io_ops;

	ops->write(NULL, 3, 1, 1);
	ops->write(NULL, 0, 4, 0x80000000);
	cr_assert_eq((uint32_t)ops->read(NULL, 0, 4), 0x80000000u);
	for (uint64_t slot = 0; slot < 32; slot++) {
		ops->write(NULL, 0, 4, 0x80000000 | slot << 11);
		cr_assert_eq((uint32_t)ops->read(NULL, 4, 4), 0xffffffffu);
		cr_assert_eq((uint16_t)ops->read(NULL, 6, 2), 0xffffu);
	}
	/* Configuration mechanism #2 is not. */
	cr_assert_neq((uint8_t)ops->read(NULL, 0, 1), 0u);
}
