/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vCPU's state. A table holds the parts that are one structure each, in the order in which they
 * are set; the order matters:
 *  - KVM_GET_MP_STATE comes before all else: it takes in INIT and SIPI events that are pending, and
 *    so changes registers and local APIC;
 *  - the local APIC is where special registers (APIC base) say, so it comes after them;
 *  - MSR_IA32_TSC_DEADLINE arms the local APIC's timer if that is in such a mode, so the MSRs come
 *    after the APIC;
 *  - KVM_SET_REGS drops a pending exception, so the events come last.
 *
 * The debug state that an assist has set (breakpoints of KVM_SET_GUEST_DEBUG) is no part of it:
 * KVM_GET_REGS and KVM_GET_DEBUGREGS give the guest's own, and a new assist arms itself before it
 * runs the guest.
 *
 * System calls: ioctl.
 */
#include "minivm/kvm_state.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "minivm/kvm.h"

#define VCPU_STATE   STATE_ID('V', 'C', 'P', 'U')
#define VCPU_VERSION 1

#define MSRS_MAX  2048
#define XSAVE_MAX (1u << 20)

/* --- parts that are one structure --- */

struct vcpu_part {
	const char *name;
	unsigned long get;
	unsigned long set;
	size_t size;
	/* There is nothing of it to be set. NULL: there always is. */
	bool (*absent)(const void *part);
};

/* A processor without XSAVE has no XCR0, and KVM_SET_XCRS fails there. */
static bool no_xcrs(const void *part)
{
	return ((const struct kvm_xcrs *)part)->nr_xcrs == 0;
}

#define PART(n, type)                                                                              \
	{                                                                                          \
		.name = #n, .get = KVM_GET_##n, .set = KVM_SET_##n, .size = sizeof(type)           \
	}

static const struct vcpu_part parts_before_xsave[] = {
    PART(MP_STATE, struct kvm_mp_state),
    PART(SREGS2, struct kvm_sregs2),
    PART(REGS, struct kvm_regs),
    {"XCRS", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), no_xcrs},
    PART(DEBUGREGS, struct kvm_debugregs),
    PART(LAPIC, struct kvm_lapic_state),
};
static const struct vcpu_part parts_after_msrs[] = {
    PART(VCPU_EVENTS, struct kvm_vcpu_events),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* All parts are smaller. */
union part_buffer {
	struct kvm_lapic_state lapic;
	struct kvm_sregs2 sregs;
	uint8_t bytes[2048];
};

static int save_part(const struct vcpu_part *part, int fd, struct state_writer *w, struct err *err)
{
	union part_buffer buffer = {0};

	if (ioctl(fd, part->get, &buffer) < 0)
		return err_sys(err, errno, "KVM_GET_%s", part->name);
	state_put_bytes(w, &buffer, part->size);
	return 0;
}

static int restore_part(const struct vcpu_part *part, int fd, struct state_reader *r,
			struct err *err)
{
	union part_buffer buffer = {0};

	state_get_bytes(r, &buffer, part->size);
	if (r->short_read)
		return 0; /* state_leave() says so */
	if (part->absent && part->absent(&buffer))
		return 0;
	if (ioctl(fd, part->set, &buffer) < 0)
		return err_sys(err, errno, "saved state: KVM_SET_%s", part->name);
	return 0;
}

static int save_parts(const struct vcpu_part *parts, size_t count, int fd, struct state_writer *w,
		      struct err *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < count; i++)
		ret = save_part(&parts[i], fd, w, err);
	return ret;
}

static int restore_parts(const struct vcpu_part *parts, size_t count, int fd,
			 struct state_reader *r, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < count; i++)
		ret = restore_part(&parts[i], fd, r, err);
	return ret;
}

/* --- XSAVE --- */

/* Bytes of the area: KVM_CAP_XSAVE2 tells, else it is struct kvm_xsave. */
static size_t xsave_size(int vm_fd)
{
	int size = kvm_check_extension(vm_fd, KVM_CAP_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) && size <= (int)XSAVE_MAX
		   ? (size_t)size
		   : sizeof(struct kvm_xsave);
}

static int save_xsave(int vm_fd, int fd, struct state_writer *w, struct err *err)
{
	size_t size = xsave_size(vm_fd);
	bool large = size > sizeof(struct kvm_xsave);
	void *area = calloc(1, size);
	int ret = 0;

	if (!area)
		return err_set(err, ENOMEM, "XSAVE area: out of memory");
	if (ioctl(fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area) < 0)
		ret = err_sys(err, errno, "KVM_GET_XSAVE");
	state_put_u32(w, (uint32_t)size);
	state_put_bytes(w, area, size);
	free(area);
	return ret;
}

/* KVM reads as many bytes as its own KVM_CAP_XSAVE2 says. */
static int restore_xsave(int vm_fd, int fd, struct state_reader *r, struct err *err)
{
	size_t here = xsave_size(vm_fd);
	uint32_t size = state_get_u32(r);
	void *area;
	int ret = 0;

	if (size < sizeof(struct kvm_xsave) || size > here)
		return state_bad(err, "an XSAVE area of %u bytes; this host's has %zu", size, here);
	area = calloc(1, here);
	if (!area)
		return err_set(err, ENOMEM, "XSAVE area: out of memory");
	state_get_bytes(r, area, size);
	if (!r->short_read && ioctl(fd, KVM_SET_XSAVE, area) < 0)
		ret = err_sys(err, errno, "saved state: KVM_SET_XSAVE");
	free(area);
	return ret;
}

/* --- MSRs --- */

/* Those that KVM does not list, though guests can set them: MTRRs. */
static const uint32_t msrs_not_listed[] = {
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d,
    0x26e, 0x26f, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
    0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
};

/* malloc'ed; *count indices, ours behind KVM's. */
static int list_msrs(int kvm_fd, struct kvm_msr_list **out, struct err *err)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(uint32_t));

	if (!list)
		return err_set(err, ENOMEM, "list of MSRs: out of memory");
	list->nmsrs = MSRS_MAX - COUNT(msrs_not_listed);
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		int code = errno;

		free(list);
		return err_sys(err, code, "KVM_GET_MSR_INDEX_LIST");
	}
	memcpy(list->indices + list->nmsrs, msrs_not_listed, sizeof(msrs_not_listed));
	list->nmsrs += COUNT(msrs_not_listed);
	*out = list;
	return 0;
}

/* KVM lists what some vCPU may have; what this one has not is left out. */
static int save_msrs(int kvm_fd, int fd, struct state_writer *w, struct err *err)
{
	struct kvm_msr_list *list = NULL;
	uint64_t value;
	int ret = list_msrs(kvm_fd, &list, err);

	if (ret)
		return ret;
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		if (kvm_vcpu_get_msr(fd, list->indices[i], &value) != 0)
			continue;
		state_put_bool(w, true);
		state_put_u32(w, list->indices[i]);
		state_put_u64(w, value);
	}
	state_put_bool(w, false);
	free(list);
	return 0;
}

/* KVM refused one: that is no harm if it has the value already, as read-only ones do. */
static int refused_msr(int fd, const struct kvm_msr_entry *entry, struct err *err)
{
	uint64_t value;

	if (kvm_vcpu_get_msr(fd, entry->index, &value) == 0 && value == entry->data)
		return 0;
	return err_set(err, EINVAL, "saved state: KVM does not set MSR 0x%x to 0x%llx",
		       entry->index, (unsigned long long)entry->data);
}

/* In one call, but for those that KVM refuses: it stops there. */
static int write_msrs(int fd, struct kvm_msrs *msrs, struct err *err)
{
	uint32_t total = msrs->nmsrs;
	int ret = 0;

	for (uint32_t done = 0; !ret && done < total;) {
		int n;

		msrs->nmsrs = total - done;
		n = ioctl(fd, KVM_SET_MSRS, msrs);
		if (n < 0)
			return err_sys(err, errno, "saved state: KVM_SET_MSRS");
		done += (uint32_t)n;
		if (done == total)
			break;
		ret = refused_msr(fd, &msrs->entries[n], err);
		done++;
		memmove(msrs->entries, &msrs->entries[n + 1],
			(total - done) * sizeof(msrs->entries[0]));
	}
	return ret;
}

static int read_msr_list(struct state_reader *r, struct kvm_msrs *msrs, struct err *err)
{
	while (state_get_bool(r)) {
		struct kvm_msr_entry *entry = &msrs->entries[msrs->nmsrs];

		if (msrs->nmsrs++ == MSRS_MAX)
			return state_bad(err, "more than %d MSRs", MSRS_MAX);
		entry->index = state_get_u32(r);
		entry->data = state_get_u64(r);
	}
	return 0;
}

static int restore_msrs(int fd, struct state_reader *r, struct err *err)
{
	struct kvm_msrs *msrs =
	    calloc(1, sizeof(*msrs) + (MSRS_MAX + 1) * sizeof(msrs->entries[0]));
	int ret;

	if (!msrs)
		return err_set(err, ENOMEM, "MSRs: out of memory");
	ret = read_msr_list(r, msrs, err);
	if (!ret && !r->short_read)
		ret = write_msrs(fd, msrs, err);
	free(msrs);
	return ret;
}

/* --- all of it --- */

int kvm_vcpu_save(int kvm_fd, int vm_fd, int vcpu_fd, struct state_writer *w, struct err *err)
{
	int ret;

	state_begin(w, VCPU_STATE, VCPU_VERSION);
	ret = save_parts(parts_before_xsave, COUNT(parts_before_xsave), vcpu_fd, w, err);
	if (!ret)
		ret = save_xsave(vm_fd, vcpu_fd, w, err);
	if (!ret)
		ret = save_msrs(kvm_fd, vcpu_fd, w, err);
	if (!ret)
		ret = save_parts(parts_after_msrs, COUNT(parts_after_msrs), vcpu_fd, w, err);
	state_end(w);
	return ret;
}

int kvm_vcpu_restore(int vm_fd, int vcpu_fd, struct state_reader *r, struct err *err)
{
	struct state_reader section;
	int ret = state_enter(r, VCPU_STATE, VCPU_VERSION, &section, err);

	if (!ret)
		ret = restore_parts(parts_before_xsave, COUNT(parts_before_xsave), vcpu_fd,
				    &section, err);
	if (!ret)
		ret = restore_xsave(vm_fd, vcpu_fd, &section, err);
	if (!ret)
		ret = restore_msrs(vcpu_fd, &section, err);
	if (!ret)
		ret = restore_parts(parts_after_msrs, COUNT(parts_after_msrs), vcpu_fd, &section,
				    err);
	return ret ? ret : state_leave(&section, err);
}
