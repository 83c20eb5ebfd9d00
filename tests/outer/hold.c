/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps two idle VMs for as long as the outer machine runs. Returns once they are there.
 *
 * Linux patches its own code when the first VM comes and when the last one goes (the static keys of
 * preempt notifiers in finish_task_switch(), and of vCPUs whose local APIC is absent or switched
 * off), by way of a breakpoint instruction. QEMU 7.2's multi-threaded TCG now and then goes on
 * executing the breakpoint after it is gone, on all CPUs and for ever: the outer kernel hangs in
 * exc_int3(). With one VM that has a local APIC and one that has not, no key changes any more after
 * this program, however many VMs come and go.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* True if a VM with one vCPU, which is never run, is there. Its descriptors stay open. */
static int hold(int kvm, int irqchip)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);

	if (vm < 0 || (irqchip && ioctl(vm, KVM_CREATE_IRQCHIP, 0ul) < 0))
		return 0;
	return ioctl(vm, KVM_CREATE_VCPU, 0ul) >= 0;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	if (kvm < 0 || !hold(kvm, 1) || !hold(kvm, 0)) {
		perror("outer: kvm-hold");
		return 1;
	}
	/* only the child has them, and it is told nothing by a closing terminal */
	if (fork() > 0)
		return 0;
	setsid();
	close(0);
	close(1);
	close(2);
	for (;;)
		pause();
}
