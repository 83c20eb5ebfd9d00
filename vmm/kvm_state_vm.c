/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's own state: interrupt controllers, PIT, and time.
 *
 * Time. A saved machine is one that was suspended: when it goes on, its clocks have gone on with
 * the wall clock. Where the host's clock runs by its TSC, KVM_GET_CLOCK gives the moment of the
 * save in three clocks at once (kvm-clock, wall clock, host TSC); on restoring, KVM_SET_CLOCK moves
 * kvm-clock on by what has passed, and the guest's TSC is moved on alike, by offset, so that the
 * two stay in step (Documentation/virt/kvm/devices/vcpu.rst 4.1). The vCPUs keep their offsets from
 * each other to the cycle.
 *
 * Elsewhere kvm-clock goes on from the value that it had, and the TSC's value comes with the other
 * MSRs.
 *
 * System calls: ioctl.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "minivm/kvm.h"
#include "minivm/kvm_state.h"

#define VM_STATE      STATE_ID('K', 'V', 'M', ' ')
#define VM_VERSION    1
#define CLOCK_STATE   STATE_ID('C', 'L', 'C', 'K')
#define CLOCK_VERSION 1

#define PRECISE (KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)

/* --- interrupt controllers and PIT --- */

static const uint32_t chips[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};
#define CHIPS (sizeof(chips) / sizeof(chips[0]))

static int save_chips(int vm_fd, struct state_writer *w, struct err *err)
{
	for (unsigned i = 0; i < CHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = chips[i]};

		if (ioctl(vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
			return err_sys(err, errno, "KVM_GET_IRQCHIP");
		state_put_bytes(w, &chip, sizeof(chip));
	}
	return 0;
}

int kvm_vm_save(int vm_fd, struct state_writer *w, struct err *err)
{
	struct kvm_pit_state2 pit = {0};
	int ret;

	state_begin(w, VM_STATE, VM_VERSION);
	ret = save_chips(vm_fd, w, err);
	if (!ret && ioctl(vm_fd, KVM_GET_PIT2, &pit) < 0)
		ret = err_sys(err, errno, "KVM_GET_PIT2");
	state_put_bytes(w, &pit, sizeof(pit));
	state_end(w);
	return ret;
}

static int restore_chips(int vm_fd, struct state_reader *r, struct err *err)
{
	for (unsigned i = 0; i < CHIPS; i++) {
		struct kvm_irqchip chip;

		state_get_bytes(r, &chip, sizeof(chip));
		if (chip.chip_id != chips[i])
			return state_bad(err, "interrupt controller %u", chip.chip_id);
		if (ioctl(vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
			return err_sys(err, errno, "saved state: KVM_SET_IRQCHIP");
	}
	return 0;
}

int kvm_vm_restore(int vm_fd, struct state_reader *r, struct err *err)
{
	struct kvm_pit_state2 pit;
	struct state_reader section;
	int ret = state_enter(r, VM_STATE, VM_VERSION, &section, err);

	if (!ret)
		ret = restore_chips(vm_fd, &section, err);
	if (ret)
		return ret;
	state_get_bytes(&section, &pit, sizeof(pit));
	ret = state_leave(&section, err);
	if (!ret && ioctl(vm_fd, KVM_SET_PIT2, &pit) < 0)
		ret = err_sys(err, errno, "saved state: KVM_SET_PIT2");
	return ret;
}

/* --- TSC offsets: guest's TSC - host's TSC --- */

static int tsc_offset(int vcpu_fd, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attr = {
	    .group = KVM_VCPU_TSC_CTRL,
	    .attr = KVM_VCPU_TSC_OFFSET,
	    .addr = (uintptr_t)offset,
	};

	return ioctl(vcpu_fd, request, &attr) < 0 ? -errno : 0;
}

/* --- clock --- */

int kvm_clock_save(int vm_fd, const int *vcpu_fds, unsigned count, struct state_writer *w,
		   struct err *err)
{
	struct kvm_clock_data clock = {0};
	bool offsets = true;

	if (ioctl(vm_fd, KVM_GET_CLOCK, &clock) < 0)
		return err_sys(err, errno, "KVM_GET_CLOCK");
	state_begin(w, CLOCK_STATE, CLOCK_VERSION);
	state_put_u64(w, clock.clock);
	state_put_u32(w, clock.flags);
	state_put_u64(w, clock.realtime);
	state_put_u64(w, clock.host_tsc);
	for (unsigned i = 0; i < count; i++) {
		uint64_t offset = 0;

		offsets = offsets && tsc_offset(vcpu_fds[i], KVM_GET_DEVICE_ATTR, &offset) == 0;
		state_put_u64(w, offset);
	}
	state_put_bool(w, offsets);
	state_end(w);
	return 0;
}

/* nanoseconds * kHz / 10^6, which does not overflow for some centuries of them */
static uint64_t cycles(uint64_t ns, uint32_t khz)
{
	return (uint64_t)((unsigned __int128)ns * khz / 1000000);
}

/* What the host's TSC would have to be now for the guest's offsets to be as they were. */
static uint64_t saved_tsc_now(const struct kvm_clock_data *saved, const struct kvm_clock_data *now,
			      uint32_t khz)
{
	uint64_t ns = now->realtime > saved->realtime ? now->realtime - saved->realtime : 0;

	return saved->host_tsc + cycles(ns, khz);
}

static int restore_offsets(const int *vcpu_fds, const uint64_t *offsets, unsigned count,
			   uint64_t shift, struct err *err)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t offset = offsets[i] + shift;
		int ret = tsc_offset(vcpu_fds[i], KVM_SET_DEVICE_ATTR, &offset);

		if (ret)
			return err_sys(err, -ret, "saved state: KVM_VCPU_TSC_OFFSET");
	}
	return 0;
}

static int set_clock(int vm_fd, const struct kvm_clock_data *saved, bool precise, struct err *err)
{
	struct kvm_clock_data clock = {.clock = saved->clock};

	if (precise) {
		clock.flags = KVM_CLOCK_REALTIME;
		clock.realtime = saved->realtime;
	}
	if (ioctl(vm_fd, KVM_SET_CLOCK, &clock) < 0)
		return err_sys(err, errno, "saved state: KVM_SET_CLOCK");
	return 0;
}

static int restore_time(int vm_fd, const int *vcpu_fds, const uint64_t *offsets, unsigned count,
			uint32_t tsc_khz, const struct kvm_clock_data *saved, bool has_offsets,
			struct err *err)
{
	struct kvm_clock_data now = {0};
	bool precise;
	int ret;

	if (ioctl(vm_fd, KVM_GET_CLOCK, &now) < 0)
		return err_sys(err, errno, "KVM_GET_CLOCK");
	precise = (saved->flags & now.flags & PRECISE) == PRECISE;
	ret = set_clock(vm_fd, saved, precise, err);
	if (!ret && precise && has_offsets)
		ret = restore_offsets(vcpu_fds, offsets, count,
				      saved_tsc_now(saved, &now, tsc_khz) - now.host_tsc, err);
	/* What the machine that was saved had been told is not in what KVM gives out of it. */
	for (unsigned i = 0; !ret && i < count; i++)
		kvm_vcpu_was_stopped(vcpu_fds[i]);
	return ret;
}

int kvm_clock_restore(int vm_fd, const int *vcpu_fds, unsigned count, uint32_t tsc_khz,
		      struct state_reader *r, struct err *err)
{
	struct kvm_clock_data saved = {0};
	struct state_reader section;
	uint64_t *offsets;
	bool has_offsets;
	int ret = state_enter(r, CLOCK_STATE, CLOCK_VERSION, &section, err);

	if (ret)
		return ret;
	offsets = calloc(count, sizeof(*offsets));
	if (!offsets)
		return err_set(err, ENOMEM, "clock: out of memory");
	saved.clock = state_get_u64(&section);
	saved.flags = state_get_u32(&section);
	saved.realtime = state_get_u64(&section);
	saved.host_tsc = state_get_u64(&section);
	for (unsigned i = 0; i < count; i++)
		offsets[i] = state_get_u64(&section);
	has_offsets = state_get_bool(&section);
	ret = state_leave(&section, err);
	if (!ret)
		ret = restore_time(vm_fd, vcpu_fds, offsets, count, tsc_khz, &saved, has_offsets,
				   err);
	free(offsets);
	return ret;
}
