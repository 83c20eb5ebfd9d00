/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest learns of having been saved and restored: says "ready", and waits in ring 3 for
 * PVCLOCK_GUEST_STOPPED in its kvm-clock (Linux Documentation/virt/kvm/x86/cpuid.rst), which keeps
 * its watchdogs from taking the time in between for a hang.
 */
#include "cpu.h"
#include "rt.h"
#include "time.h"
#include "x86.h"

#define GUEST_STOPPED (1u << 1)
#define WAIT_MS	      20000

static struct pvclock clock __attribute__((aligned(64)));

static long wait_until_told(void *arg)
{
	uint64_t end = deadline_ms(WAIT_MS);

	(void)arg;
	while (!(clock.flags & GUEST_STOPPED)) {
		if (expired(end))
			return 0;
		cpu_pause();
	}
	return 1;
}

static void told_of_the_stop(void)
{
	if (boot_info.foreign)
		SKIP("nobody saves us");
	EXPECT(kvm_clock_present());
	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	EXPECT_EQ(clock.flags & GUEST_STOPPED, 0);
	print("ready\n");
	EXPECT_EQ(run_user(wait_until_told, NULL), 1);
	wrmsr(MSR_KVM_SYSTEM_TIME, 0);
}

static const struct test_case cases[] = {
    {"told of the stop", told_of_the_stop, 0},
};

int payload_main(void)
{
	return run_cases("restored", cases, sizeof(cases) / sizeof(cases[0]));
}
