/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the memory balloon under Linux's driver, seen in the size of minivm on the host. */
#include "suite.h"

#include <stdio.h>
#include <unistd.h>

#define USED_MIB  16
#define LEAVE_KIB (13 * 1024) /* of it must leave the host's memory */

/* Resident memory of minivm. */
static long resident_kib(struct test *t, const struct vm *vm)
{
	FILE *f = fopen(text(t, "/proc/%d/statm", (int)vm->p.pid), "re");
	long size = 0, pages = 0;

	if (!f || fscanf(f, "%ld %ld", &size, &pages) != 2)
		wrong(t, "its memory cannot be told");
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

void case_balloon_reporting(struct test *t)
{
	const struct vm_request req = {
	    .memory = "128M",
	    .args = {"--balloon", "on,stats=1"},
	    .checks = text(t, "balloon=%d,1", USED_MIB),
	    .limit_s = 60,
	};
	long used = 0, after = 0;
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "balloon: used"))
		used = resident_kib(t, &vm);
	if (vm_expect(&vm, "balloon: waited"))
		after = resident_kib(t, &vm);
	if (used - after < LEAVE_KIB)
		wrong(t, "%ld KiB resident while %d MiB were used, %ld when they were free", used,
		      USED_MIB, after);
	tap_note(text(t, "resident: %ld KiB while %d MiB were used, %ld when they were free", used,
		      USED_MIB, after));
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.reported") < LEAVE_KIB * 1024ll)
		wrong(t, "%lld bytes were reported", vm_number(&vm, "devices.0.reported"));
	if (vm_number(&vm, "devices.0.stats_updates") < 4 ||
	    vm_number(&vm, "devices.0.total_memory") <= 0)
		wrong(t, "the guest told statistics %lld times",
		      vm_number(&vm, "devices.0.stats_updates"));
	vm_free(&vm);
}

/* 32 MiB are asked for from the start. */
void case_balloon_target(struct test *t)
{
	const struct vm_request req = {
	    .memory = "128M",
	    .args = {"--balloon", "32M"},
	    .checks = "inflated=32,131072",
	    .limit_s = 60,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.actual") != 32 << 20 ||
	    vm_number(&vm, "devices.0.inflated") < (32 << 20) / 4096 ||
	    vm_number(&vm, "devices.0.refused_pages"))
		wrong(t, "statistics: actual %lld, inflated %lld, refused %lld",
		      vm_number(&vm, "devices.0.actual"), vm_number(&vm, "devices.0.inflated"),
		      vm_number(&vm, "devices.0.refused_pages"));
	vm_free(&vm);
}
