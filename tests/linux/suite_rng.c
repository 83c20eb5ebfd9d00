/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the entropy device under Linux's driver, and what is said of a device without one. */
#include "suite.h"

#include <string.h>

void case_rng(struct test *t)
{
	const struct vm_request req = {.args = {"--rng", "rate=1M"}, .checks = "hwrng"};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (strcmp(vm_string(&vm, "devices.0.name"), "rng") != 0)
		wrong(t, "statistics have no entropy device");
	if (vm_number(&vm, "devices.0.bytes") < 8192 || vm_number(&vm, "devices.0.activations") < 1)
		wrong(t, "statistics: %lld bytes, %lld activations",
		      vm_number(&vm, "devices.0.bytes"), vm_number(&vm, "devices.0.activations"));
	if (vm_number(&vm, "devices.0.malformed") > 0 || vm_number(&vm, "devices.0.refused") > 0 ||
	    vm_number(&vm, "devices.0.errors") > 0)
		wrong(t, "the stock driver did something that the device refused");
	vm_free(&vm);
}

/* ACPI tables that the kernel is told not to read: it finds no device. */
void case_rng_no_driver(struct test *t)
{
	const struct vm_request req = {.args = {"--rng=on", "--describe=acpi", "--console=serial"},
				       .words = "acpi=off",
				       .checks = "exit=3",
				       .no_done = true,
				       .noisy = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 3);
	if (!strstr(vm.p.err.data, "virtio-rng was never started by a driver in the guest; a Linux "
				   "kernel needs CONFIG_VIRTIO_MMIO and CONFIG_HW_RANDOM_VIRTIO"))
		wrong(t, "no word of the missing driver: %s", vm.p.err.data);
	vm_free(&vm);
}
