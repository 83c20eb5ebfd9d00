/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of a restore: the KVM calls that bring a saved machine back, and nothing else.
 *
 *	floor-restore DIR
 *
 * It makes what every VMM must make: the memory file mapped privately, the VM, and each piece of
 * KVM's state set straight from the mapped state file, with minivm's calls in minivm's order: what
 * KVM supports and the TSC's frequency are asked for, since a restore must compare them; an
 * interrupt line for COM1 and each virtio device, a kick for each of its queues. Then KVM_RUN,
 * once.
 *
 * It leaves out what a user asks of minivm: that the state is what it says (checksum, versions,
 * lengths, features), the configuration, devices with their loops and threads, files and terminal.
 * The snapshot is trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "floor_calls.h"
#include "minivm/kvm.h"
#include "minivm/state.h"

#define CPUS_MAX 64
#define MSRS_MAX 1024

/* Where the registers of a device are that KVM signals. */
#define KICK_OFFSET 0x50 /* VIRTIO 1.2 §4.2.2, QueueNotify */
#define COM1_GSI    4
#define FIRST_GSI   5

struct floor {
	int kvm, vm;
	int vcpu[CPUS_MAX];
	struct kvm_run *run[CPUS_MAX];
	unsigned vcpus; /* whose state was set */
	unsigned devices;
	struct guest_mem mem;
	int memory_fd;
};

static int open_file(const char *dir, const char *name, struct stat *st)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = (int)floor_check(open(path, O_RDONLY | O_CLOEXEC), path);
	floor_check(fstat(fd, st), path);
	return fd;
}

/* KVM's structure as it lies in the file. */
static void set(int fd, unsigned long request, struct state_reader *r, size_t size,
		const char *what)
{
	floor_call(fd, request, (unsigned long)state_get_slice(r, size), what);
}

/* --- MEM, CPUI --- */

static void take_memory(struct floor *f, struct state_reader *r)
{
	floor_add_memory(&f->mem, state_get_u64(r), f->memory_fd);
	f->kvm = (int)floor_check(open(KVM_DEVICE_PATH, O_RDWR | O_CLOEXEC), KVM_DEVICE_PATH);
	(void)floor_supported_cpuid(f->kvm);
	f->vm = floor_make_vm(f->kvm, &f->mem);
}

static void take_cpuid(struct floor *f, struct state_reader *r)
{
	struct kvm_cpuid2 *cpuid;
	uint32_t n = state_get_u32(r);

	if (f->vcpus == CPUS_MAX)
		exit(125);
	f->vcpu[f->vcpus] = floor_make_vcpu(f->kvm, f->vm, f->vcpus, &f->run[f->vcpus]);
	if (f->vcpus == 0)
		floor_call(f->vcpu[0], KVM_GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ");
	/* KVM's structure has a head that the file has not. */
	cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));
	floor_check(cpuid ? 0 : -1, "memory");
	cpuid->nent = n;
	state_get_bytes(r, cpuid->entries, n * sizeof(cpuid->entries[0]));
	floor_call(f->vcpu[f->vcpus], KVM_SET_CPUID2, (unsigned long)cpuid, "KVM_SET_CPUID2");
	free(cpuid);
}

/* --- VCPU --- */

/* KVM stops at one that it does not let be set. */
static void set_msrs(int vcpu, struct state_reader *r)
{
	static union {
		struct kvm_msrs list;
		uint8_t room[sizeof(struct kvm_msrs) + MSRS_MAX * sizeof(struct kvm_msr_entry)];
	} msrs;
	uint32_t n = 0, done = 0;

	for (; state_get_bool(r) && n < MSRS_MAX; n++) {
		msrs.list.entries[n].index = state_get_u32(r);
		msrs.list.entries[n].data = state_get_u64(r);
	}
	while (done < n) {
		msrs.list.nmsrs = n - done;
		done +=
		    (uint32_t)floor_call(vcpu, KVM_SET_MSRS, (unsigned long)&msrs, "KVM_SET_MSRS");
		if (done++ < n)
			memmove(msrs.list.entries, &msrs.list.entries[msrs.list.nmsrs - (n - done)],
				(n - done) * sizeof(msrs.list.entries[0]));
	}
}

static void take_vcpu(struct floor *f, struct state_reader *r)
{
	int vcpu = f->vcpu[f->vcpus++];
	uint32_t has_xcrs, xsave;

	set(vcpu, KVM_SET_MP_STATE, r, sizeof(struct kvm_mp_state), "KVM_SET_MP_STATE");
	set(vcpu, KVM_SET_SREGS2, r, sizeof(struct kvm_sregs2), "KVM_SET_SREGS2");
	set(vcpu, KVM_SET_REGS, r, sizeof(struct kvm_regs), "KVM_SET_REGS");
	memcpy(&has_xcrs, r->at, sizeof(has_xcrs));
	if (has_xcrs)
		set(vcpu, KVM_SET_XCRS, r, sizeof(struct kvm_xcrs), "KVM_SET_XCRS");
	else
		state_get_slice(r, sizeof(struct kvm_xcrs));
	set(vcpu, KVM_SET_DEBUGREGS, r, sizeof(struct kvm_debugregs), "KVM_SET_DEBUGREGS");
	set(vcpu, KVM_SET_LAPIC, r, sizeof(struct kvm_lapic_state), "KVM_SET_LAPIC");
	xsave = state_get_u32(r);
	set(vcpu, KVM_SET_XSAVE, r, xsave, "KVM_SET_XSAVE");
	set_msrs(vcpu, r);
	set(vcpu, KVM_SET_VCPU_EVENTS, r, sizeof(struct kvm_vcpu_events), "KVM_SET_VCPU_EVENTS");
}

/* --- KVM, CLCK --- */

static void take_chips(struct floor *f, struct state_reader *r)
{
	for (unsigned i = 0; i < 3; i++)
		set(f->vm, KVM_SET_IRQCHIP, r, sizeof(struct kvm_irqchip), "KVM_SET_IRQCHIP");
	set(f->vm, KVM_SET_PIT2, r, sizeof(struct kvm_pit_state2), "KVM_SET_PIT2");
}

static void set_tsc_offset(int vcpu, uint64_t offset)
{
	struct kvm_device_attr attr = {
	    .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};

	floor_call(vcpu, KVM_SET_DEVICE_ATTR, (unsigned long)&attr, "KVM_VCPU_TSC_OFFSET");
}

static void take_clock(struct floor *f, struct state_reader *r)
{
	const uint32_t precise = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	struct kvm_clock_data saved = {.clock = state_get_u64(r)}, now = {0};

	saved.flags = state_get_u32(r);
	saved.realtime = state_get_u64(r);
	(void)state_get_u64(r); /* host_tsc */
	floor_call(f->vm, KVM_GET_CLOCK, (unsigned long)&now, "KVM_GET_CLOCK");
	saved.flags &= now.flags & precise;
	for (unsigned i = 0; i < f->vcpus; i++) {
		uint64_t offset = state_get_u64(r);

		if (saved.flags == precise)
			set_tsc_offset(f->vcpu[i], offset);
	}
	saved.flags &= KVM_CLOCK_REALTIME;
	floor_call(f->vm, KVM_SET_CLOCK, (unsigned long)&saved, "KVM_SET_CLOCK");
	for (unsigned i = 0; i < f->vcpus; i++)
		ioctl(f->vcpu[i], KVM_KVMCLOCK_CTRL, 0); /* fails without kvm-clock */
}

/* --- BUS --- */

static void add_irqfd(struct floor *f, unsigned gsi)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd(0, EFD_CLOEXEC), .gsi = gsi};

	floor_call(f->vm, KVM_IRQFD, (unsigned long)&irqfd, "KVM_IRQFD");
}

static void add_kick(struct floor *f, uint64_t base, uint64_t queue)
{
	struct kvm_ioeventfd kick = {.datamatch = queue,
				     .addr = base + KICK_OFFSET,
				     .len = 4,
				     .fd = eventfd(0, EFD_CLOEXEC),
				     .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

	floor_call(f->vm, KVM_IOEVENTFD, (unsigned long)&kick, "KVM_IOEVENTFD");
}

static void take_device(struct floor *f, struct state_reader *r)
{
	struct state_reader virtio;
	uint64_t base = state_get_u64(r);
	uint32_t len = state_get_u32(r);
	const char *name = state_get_slice(r, len);
	uint32_t queues;
	struct err err;

	if (len == 6 && memcmp(name, "serial", 6) == 0)
		add_irqfd(f, COM1_GSI);
	if (len != 11 || memcmp(name, "virtio-mmio", 11) != 0)
		return;
	state_get_slice(r, 12); /* selectors */
	floor_check(state_enter(r, STATE_ID('V', 'I', 'R', 'T'), UINT16_MAX, &virtio, &err),
		    "VIRT");
	(void)state_get_u32(&virtio); /* device id */
	queues = state_get_u32(&virtio);
	add_irqfd(f, FIRST_GSI + f->devices++);
	for (uint32_t i = 0; i < queues; i++)
		add_kick(f, base, i);
}

static void take_bus(struct floor *f, struct state_reader *r)
{
	struct state_reader device;
	struct err err;
	uint32_t id;

	while (state_next(r, &id)) {
		floor_check(state_enter(r, id, UINT16_MAX, &device, &err), "DEV");
		take_device(f, &device);
	}
}

static const struct {
	uint32_t id;
	void (*take)(struct floor *f, struct state_reader *r);
} sections[] = {
    {STATE_ID('M', 'E', 'M', ' '), take_memory}, {STATE_ID('C', 'P', 'U', 'I'), take_cpuid},
    {STATE_ID('V', 'C', 'P', 'U'), take_vcpu},	 {STATE_ID('K', 'V', 'M', ' '), take_chips},
    {STATE_ID('C', 'L', 'C', 'K'), take_clock},	 {STATE_ID('B', 'U', 'S', ' '), take_bus},
};

int main(int argc, char *argv[])
{
	struct floor f = {0};
	struct state_reader all, section;
	struct err err;
	struct stat st;
	uint32_t id;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: floor-restore DIR\n");
		return 125;
	}
	f.memory_fd = open_file(argv[1], "memory", &st);
	fd = open_file(argv[1], "state", &st);
	all.at = floor_map(NULL, (uint64_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	all.end = all.at + st.st_size;
	all.at += STATE_HEADER_LEN;
	while (state_next(&all, &id)) {
		floor_check(state_enter(&all, id, UINT16_MAX, &section, &err), "state");
		for (unsigned i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
			if (sections[i].id == id)
				sections[i].take(&f, &section);
		}
	}
	/* An application processor's thread would do the same at the same time. */
	floor_call(f.vcpu[0], KVM_RUN, 0, "KVM_RUN");
	return 0;
}
