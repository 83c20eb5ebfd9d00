/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM ioctls that minivm uses, one function each, and the table of capabilities.
 *
 * Why so thin: what to do with KVM is decided in vcpu.c and machine.c; here is only how to ask and
 * what to tell the user when the answer is no. The start-up path is counted in system calls
 * (100 for a whole start), so the capabilities that a machine cannot do without are asked for when
 * a call has failed, to tell why; `minivm doctor` asks for all.
 *
 * Reference: Linux Documentation/virt/kvm/api.rst, cited by section.
 */
#include "minivm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CPUID_ENTRIES_FIRST 128	 /* more than any processor needed so far */
#define CPUID_ENTRIES_MAX   4096 /* a KVM that wants more is not believed */

/* --- /dev/kvm --- */

/* fgetpwent(3) and fgetgrent(3) read the files and load no NSS module: right for a static binary.
 */
static void user_name(uid_t uid, char *buf, size_t size)
{
	struct passwd *pw = NULL;
	FILE *f = fopen("/etc/passwd", "re");

	if (f != NULL) {
		do
			pw = fgetpwent(f);
		while (pw != NULL && pw->pw_uid != uid);
	}
	if (pw != NULL)
		snprintf(buf, size, "%s", pw->pw_name);
	else
		snprintf(buf, size, "%u", (unsigned)uid);
	if (f != NULL)
		fclose(f);
}

static void group_name(gid_t gid, char *buf, size_t size)
{
	struct group *gr = NULL;
	FILE *f = fopen("/etc/group", "re");

	if (f != NULL) {
		do
			gr = fgetgrent(f);
		while (gr != NULL && gr->gr_gid != gid);
	}
	if (gr != NULL)
		snprintf(buf, size, "%s", gr->gr_name);
	else
		snprintf(buf, size, "%u", (unsigned)gid);
	if (f != NULL)
		fclose(f);
}

int kvm_node_access(const char *path, struct kvm_node_access *out)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	user_name(st.st_uid, out->owner, sizeof(out->owner));
	group_name(st.st_gid, out->group, sizeof(out->group));
	out->gid = st.st_gid;
	out->mode = st.st_mode & 07777;
	return 0;
}

static void forbidden_hint(const char *path, char *buf, size_t size)
{
	struct kvm_node_access a = {0};

	if (geteuid() == 0) {
		snprintf(
		    buf, size,
		    "root may not either: a container's device policy? Give it the device (docker, "
		    "podman: --device %s)",
		    path);
	} else if (kvm_node_access(path, &a) < 0) {
		snprintf(buf, size, "is the directory of %s open to you?", path);
	} else if ((a.mode & 0060) == 0060 && a.gid != 0) {
		snprintf(buf, size,
			 "it belongs to group %s: `sudo usermod -aG %s $USER`, then log in again",
			 a.group, a.group);
	} else {
		snprintf(
		    buf, size,
		    "only %s may open it (group %s, mode %04o): `sudo chgrp kvm %s && sudo chmod "
		    "660 %s`, then `sudo usermod -aG kvm $USER` and log in again",
		    a.owner, a.group, a.mode, path, path);
	}
}

void kvm_open_hint(const char *path, int code, char *buf, size_t size)
{
	switch (code) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		snprintf(
		    buf, size,
		    "is the kvm module loaded (`sudo modprobe kvm_intel` or `kvm_amd`)? `minivm "
		    "doctor` tells more");
		break;
	case EACCES:
	case EPERM:
		forbidden_hint(path, buf, size);
		break;
	default:
		buf[0] = '\0';
	}
}

/* An API version of 12 is the only one there ever was in released kernels (api.rst 4.1). */
static int check_version(int fd, const char *path, struct err *err)
{
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version < 0 && (errno == ENOTTY || errno == EINVAL))
		return err_set(err, ENOTTY, "%s is not the KVM device", path);
	if (version < 0)
		return err_sys(err, errno, "%s: KVM_GET_API_VERSION", path);
	if (version != KVM_API_VERSION)
		return err_set(err, EPROTO, "%s speaks KVM API version %d; minivm needs version %d",
			       path, version, KVM_API_VERSION);
	return 0;
}

int kvm_open(const char *path, int *kvm_fd, struct err *err)
{
	char hint[512];
	int fd, rc;

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		rc = errno;
		kvm_open_hint(path, rc, hint, sizeof(hint));
		err_sys(err, rc, "%s", path);
		return hint[0] != '\0' ? err_hint(err, "%s", hint) : err->code;
	}
	rc = check_version(fd, path, err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*kvm_fd = fd;
	return 0;
}

/* --- capabilities --- */

#define CAP(c, m, n, w)                                                                            \
	{                                                                                          \
		.cap = (c), .min = (m), .needed = (n), .name = #c, .what_for = (w)                 \
	}

static const struct kvm_cap cap_table[] = {
    CAP(KVM_CAP_USER_MEMORY, 1, true, "guest memory"),
    CAP(KVM_CAP_IRQCHIP, 1, true, "interrupt controllers in the kernel"),
    CAP(KVM_CAP_PIT2, 1, true, "8254 timer in the kernel"),
    CAP(KVM_CAP_SET_TSS_ADDR, 1, true, "starting vCPUs on Intel processors"),
    CAP(KVM_CAP_EXT_CPUID, 1, true, "CPUID of the guest"),
    CAP(KVM_CAP_IRQFD, 1, true, "interrupts by eventfd"),
    CAP(KVM_CAP_IOEVENTFD, 1, true, "queue notifications by eventfd"),
    CAP(KVM_CAP_IMMEDIATE_EXIT, 1, true, "stopping a vCPU without a race"),
    CAP(KVM_CAP_MP_STATE, 1, false, "starting secondary vCPUs"),
    CAP(KVM_CAP_MAX_VCPUS, 32, false, "machines of up to 32 vCPUs"),
    CAP(KVM_CAP_NR_MEMSLOTS, 4, false, "memory on both sides of the MMIO hole"),
    CAP(KVM_CAP_CLOCKSOURCE, 1, false, "kvm-clock in the guest"),
    CAP(KVM_CAP_TSC_DEADLINE_TIMER, 1, false, "precise timers in the guest"),
    CAP(KVM_CAP_VCPU_EVENTS, 1, false, "instruction assists on emulating hosts"),
    CAP(KVM_CAP_SET_GUEST_DEBUG, 1, false, "the SYSCALL repair on emulating hosts"),
    CAP(KVM_CAP_INTERNAL_ERROR_DATA, 1, false, "bytes of instructions that KVM cannot emulate"),
};

_Static_assert(sizeof(cap_table) / sizeof(cap_table[0]) <= KVM_CAPS_MAX, "KVM_CAPS_MAX");

const struct kvm_cap *kvm_cap_table(size_t *count)
{
	*count = sizeof(cap_table) / sizeof(cap_table[0]);
	return cap_table;
}

int kvm_check_extension(int fd, int cap)
{
	int v = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return v < 0 ? -errno : v;
}

int kvm_caps_required(int kvm_fd, struct err *err)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (!table[i].needed || kvm_check_extension(kvm_fd, table[i].cap) >= table[i].min)
			continue;
		err_set(err, ENOTSUP, "this host's KVM lacks %s (%s)", table[i].name,
			table[i].what_for);
		return err_hint(err, "`minivm doctor` lists what it has");
	}
	return 0;
}

/* Without it KVM_RUN takes no notice of run->immediate_exit; nothing fails. */
int kvm_caps_silent(int kvm_fd, struct err *err)
{
	if (kvm_check_extension(kvm_fd, KVM_CAP_IMMEDIATE_EXIT) > 0)
		return 0;
	return kvm_caps_required(kvm_fd, err);
}

void kvm_caps_probe(int kvm_fd, struct kvm_caps *caps)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	memset(caps, 0, sizeof(*caps));
	for (size_t i = 0; i < count; i++) {
		int v = kvm_check_extension(kvm_fd, table[i].cap);

		caps->value[i] = v < 0 ? 0 : v;
	}
}

int kvm_run_size(int kvm_fd, size_t *size, struct err *err)
{
	int v = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (v < 0)
		return err_sys(err, errno, "KVM_GET_VCPU_MMAP_SIZE");
	if ((size_t)v < sizeof(struct kvm_run))
		return err_set(err, EPROTO,
			       "KVM_GET_VCPU_MMAP_SIZE: %d bytes, at least %zu expected", v,
			       sizeof(struct kvm_run));
	*size = (size_t)v;
	return 0;
}

int kvm_supported_cpuid(int kvm_fd, struct kvm_cpuid2 **out, struct err *err)
{
	uint32_t n = CPUID_ENTRIES_FIRST;

	for (;;) {
		struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + n * sizeof(c->entries[0]));
		int rc;

		if (c == NULL)
			return err_sys(err, ENOMEM, "KVM_GET_SUPPORTED_CPUID");
		c->nent = n;
		if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) == 0) {
			*out = c;
			return 0;
		}
		rc = errno;
		free(c);
		if (rc != E2BIG || n >= CPUID_ENTRIES_MAX)
			return err_sys(err, rc, "KVM_GET_SUPPORTED_CPUID");
		n *= 2;
	}
}

/* --- VM --- */

int kvm_vm_create(int kvm_fd, int *vm_fd, struct err *err)
{
	int fd;

	do /* may be interrupted by a signal while it waits for other CPUs (api.rst 4.2) */
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0ul);
	while (fd < 0 && errno == EINTR);
	if (fd < 0 && errno == EBUSY) {
		err_sys(err, EBUSY, "KVM_CREATE_VM");
		return err_hint(err,
				"another hypervisor (VirtualBox, VMware?) holds the processor's "
				"virtualization: stop it");
	}
	if (fd < 0)
		return err_sys(err, errno, "KVM_CREATE_VM");
	*vm_fd = fd;
	return 0;
}

int kvm_vm_set_memory(int vm_fd, unsigned slot, uint32_t flags, uint64_t gpa, uint64_t bytes,
		      void *host, struct err *err)
{
	struct kvm_userspace_memory_region region = {
	    .slot = slot,
	    .flags = flags,
	    .guest_phys_addr = gpa,
	    .memory_size = bytes,
	    .userspace_addr = (uintptr_t)host,
	};

	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return err_sys(
		    err, errno,
		    "KVM_SET_USER_MEMORY_REGION (slot %u, %llu bytes at guest address 0x%llx)",
		    slot, (unsigned long long)bytes, (unsigned long long)gpa);
	return 0;
}

int kvm_vm_set_tss_addr(int vm_fd, uint32_t gpa, struct err *err)
{
	if (ioctl(vm_fd, KVM_SET_TSS_ADDR, (unsigned long)gpa) < 0)
		return err_sys(err, errno, "KVM_SET_TSS_ADDR");
	return 0;
}

int kvm_vm_create_irqchip(int vm_fd, struct err *err)
{
	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_sys(err, errno, "KVM_CREATE_IRQCHIP");
	return 0;
}

int kvm_vm_create_pit(int vm_fd, struct err *err)
{
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(vm_fd, KVM_CREATE_PIT2, &config) < 0)
		return err_sys(err, errno, "KVM_CREATE_PIT2");
	return 0;
}

int kvm_vm_irqfd(int vm_fd, int fd, unsigned gsi, struct err *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};

	if (ioctl(vm_fd, KVM_IRQFD, &irqfd) < 0)
		return err_sys(err, errno, "KVM_IRQFD (GSI %u)", gsi);
	return 0;
}

int kvm_vm_pulse(int vm_fd, unsigned gsi, struct err *err)
{
	for (unsigned level = 2; level-- > 0;) {
		struct kvm_irq_level line = {.irq = gsi, .level = level};

		if (ioctl(vm_fd, KVM_IRQ_LINE, &line) < 0)
			return err_sys(err, errno, "KVM_IRQ_LINE (GSI %u)", gsi);
	}
	return 0;
}

int kvm_vm_ioeventfd(int vm_fd, bool pio, uint64_t addr, unsigned len, const uint64_t *match,
		     int fd, struct err *err)
{
	struct kvm_ioeventfd ioeventfd = {
	    .datamatch = match != NULL ? *match : 0,
	    .addr = addr,
	    .len = len,
	    .fd = fd,
	    .flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
		     (match != NULL ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u),
	};

	if (ioctl(vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0)
		return err_sys(err, errno, "KVM_IOEVENTFD (%s 0x%llx)", pio ? "port" : "address",
			       (unsigned long long)addr);
	return 0;
}

/* --- vCPU, set-up --- */

int kvm_vcpu_create(int vm_fd, unsigned id, int *vcpu_fd, struct err *err)
{
	int fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)id);

	if (fd < 0)
		return err_sys(err, errno, "KVM_CREATE_VCPU (vCPU %u)", id);
	*vcpu_fd = fd;
	return 0;
}

int kvm_vcpu_map(int vcpu_fd, size_t size, struct kvm_run **run, struct err *err)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);

	if (p == MAP_FAILED)
		return err_sys(err, errno, "mapping a vCPU's struct kvm_run");
	*run = p;
	return 0;
}

int kvm_vcpu_set_cpuid(int vcpu_fd, const struct kvm_cpuid2 *cpuid, struct err *err)
{
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0)
		return err_sys(err, errno, "KVM_SET_CPUID2");
	return 0;
}

/* --- vCPU, run time --- */

static int vcpu_get(int vcpu_fd, unsigned long request, void *arg)
{
	return ioctl(vcpu_fd, request, arg) < 0 ? -errno : 0;
}

static int vcpu_set(int vcpu_fd, unsigned long request, const void *arg)
{
	return ioctl(vcpu_fd, request, arg) < 0 ? -errno : 0;
}

int kvm_vcpu_run(int vcpu_fd)
{
	return ioctl(vcpu_fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

int kvm_vcpu_get_regs(int vcpu_fd, struct kvm_regs *regs)
{
	return vcpu_get(vcpu_fd, KVM_GET_REGS, regs);
}

int kvm_vcpu_set_regs(int vcpu_fd, const struct kvm_regs *regs)
{
	return vcpu_set(vcpu_fd, KVM_SET_REGS, regs);
}

int kvm_vcpu_get_sregs(int vcpu_fd, struct kvm_sregs *sregs)
{
	return vcpu_get(vcpu_fd, KVM_GET_SREGS, sregs);
}

int kvm_vcpu_set_sregs(int vcpu_fd, const struct kvm_sregs *sregs)
{
	return vcpu_set(vcpu_fd, KVM_SET_SREGS, sregs);
}

/* KVM_GET_MSRS and KVM_SET_MSRS return how many they did (api.rst 4.18, 4.19). */
static int msr_ioctl(int vcpu_fd, unsigned long request, const struct kvm_msrs *msrs)
{
	int n = ioctl(vcpu_fd, request, msrs);

	if (n < 0)
		return -errno;
	return (uint32_t)n == msrs->nmsrs ? 0 : -EIO;
}

int kvm_vcpu_get_msr(int vcpu_fd, uint32_t index, uint64_t *value)
{
	/* struct kvm_msrs ends in an array without a length: this gives it one. */
	union {
		struct kvm_msrs list;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = {.list.nmsrs = 1};
	int ret;

	msrs.list.entries[0].index = index;
	ret = msr_ioctl(vcpu_fd, KVM_GET_MSRS, &msrs.list);
	*value = msrs.list.entries[0].data;
	return ret;
}

int kvm_vcpu_set_msrs(int vcpu_fd, const struct kvm_msrs *msrs)
{
	return msr_ioctl(vcpu_fd, KVM_SET_MSRS, msrs);
}

void kvm_vcpu_was_stopped(int vcpu_fd)
{
	(void)ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0);
}

int kvm_vcpu_get_events(int vcpu_fd, struct kvm_vcpu_events *events)
{
	return vcpu_get(vcpu_fd, KVM_GET_VCPU_EVENTS, events);
}

int kvm_vcpu_set_events(int vcpu_fd, const struct kvm_vcpu_events *events)
{
	return vcpu_set(vcpu_fd, KVM_SET_VCPU_EVENTS, events);
}

int kvm_vcpu_set_guest_debug(int vcpu_fd, const struct kvm_guest_debug *debug)
{
	return vcpu_set(vcpu_fd, KVM_SET_GUEST_DEBUG, debug);
}
