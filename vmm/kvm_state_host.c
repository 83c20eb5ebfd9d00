/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a saved state go on on this host? (docs/snapshot.md "Where a snapshot can be restored")
 *
 * A guest has looked at CPUID once and believes it for ever, so all features that it was given must
 * be there, of the same maker's processors. It has measured the TSC's frequency. And where KVM
 * emulates guest kernel mode the guest sees the host's own TSC, which starts anew with every boot
 * of the host.
 *
 * System calls: ioctl, openat, read, close.
 */
#include "minivm/kvm_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HOST_STATE    STATE_ID('H', 'O', 'S', 'T')
#define HOST_VERSION  1
#define CPUID_STATE   STATE_ID('C', 'P', 'U', 'I')
#define CPUID_VERSION 1

#define CPUID_ENTRIES_MAX 1024

/* What a guest's kernel tolerates without measuring anew: 250 ppm, as KVM itself. */
#define TSC_TOLERANCE_PPM 250

/* --- host --- */

static void read_boot_id(char out[37])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(out, 0, 37);
	if (fd < 0)
		return;
	if (read(fd, out, 36) != 36)
		out[0] = '\0';
	close(fd);
}

int kvm_host_read(int vcpu_fd, bool emulating, struct kvm_host *out, struct err *err)
{
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return err_sys(err, khz < 0 ? errno : EIO, "KVM_GET_TSC_KHZ");
	*out = (struct kvm_host){.emulating = emulating, .tsc_khz = (uint32_t)khz};
	if (emulating)
		read_boot_id(out->boot_id);
	return 0;
}

void kvm_host_save(const struct kvm_host *host, struct state_writer *w)
{
	state_begin(w, HOST_STATE, HOST_VERSION);
	state_put_bool(w, host->emulating);
	state_put_u32(w, host->tsc_khz);
	state_put_bytes(w, host->boot_id, sizeof(host->boot_id));
	state_end(w);
}

static bool close_enough(uint32_t a, uint32_t b)
{
	uint64_t difference = a > b ? a - b : b - a;

	return difference * 1000000 <= (uint64_t)TSC_TOLERANCE_PPM * b;
}

static int compare(const struct kvm_host *saved, const struct kvm_host *host, struct err *err)
{
	if (saved->emulating != host->emulating)
		return err_set(
		    err, ENOTSUP, "saved on a host whose KVM %s, this one's %s",
		    saved->emulating ? "emulates guest kernel mode" : "uses the processor",
		    host->emulating ? "emulates guest kernel mode" : "uses the processor");
	if (!close_enough(saved->tsc_khz, host->tsc_khz))
		return err_set(
		    err, ENOTSUP,
		    "saved on a host whose time-stamp counter runs at %u kHz, this one's "
		    "at %u",
		    saved->tsc_khz, host->tsc_khz);
	if (strcmp(saved->boot_id, host->boot_id) != 0)
		return err_set(err, ENOTSUP,
			       "the host was rebooted since; where KVM emulates guest kernel mode "
			       "a saved machine is good for one boot of its host");
	return 0;
}

int kvm_host_check(const struct kvm_host *host, struct state_reader *r, struct err *err)
{
	struct kvm_host saved = {0};
	struct state_reader section;
	int ret = state_enter(r, HOST_STATE, HOST_VERSION, &section, err);

	if (ret)
		return ret;
	saved.emulating = state_get_bool(&section);
	saved.tsc_khz = state_get_u32(&section);
	state_get_bytes(&section, saved.boot_id, sizeof(saved.boot_id));
	ret = state_leave(&section, err);
	if (!ret && saved.boot_id[sizeof(saved.boot_id) - 1] != '\0')
		ret = state_bad(err, "a boot id without end");
	return ret ? ret : compare(&saved, host, err);
}

/* --- CPUID --- */

void kvm_cpuid_save(const struct kvm_cpuid2 *cpuid, struct state_writer *w)
{
	state_begin(w, CPUID_STATE, CPUID_VERSION);
	state_put_u32(w, cpuid->nent);
	state_put_bytes(w, cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0]));
	state_end(w);
}

enum { EAX, EBX, ECX, EDX };

static uint32_t reg_of(const struct kvm_cpuid_entry2 *e, unsigned reg)
{
	const uint32_t regs[] = {e->eax, e->ebx, e->ecx, e->edx};

	return regs[reg];
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t leaf,
					   uint32_t subleaf)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == leaf &&
		    (e->index == subleaf || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return e;
	}
	return NULL;
}

/* Registers that are made of feature bits; those in `mask` count. */
static const struct feature_word {
	uint32_t leaf, subleaf;
	unsigned reg;
	uint32_t mask;
} feature_words[] = {
    {0x1, 0, ECX, ~(1u << 27)}, /* OSXSAVE follows CR4 */
    {0x1, 0, EDX, ~0u},		{0x7, 0, EBX, ~0u},
    {0x7, 0, ECX, ~(1u << 4)}, /* OSPKE follows CR4 */
    {0x7, 0, EDX, ~0u},		{0x7, 1, EAX, ~0u},
    {0xd, 0, EAX, ~0u},		{0xd, 0, EDX, ~0u},
    {0xd, 1, EAX, ~0u},		{0x40000001, 0, EAX, ~0u},
    {0x80000001, 0, ECX, ~0u},	{0x80000001, 0, EDX, ~0u},
    {0x80000008, 0, EBX, ~0u},
};

static int check_features(const struct kvm_cpuid2 *here, const struct kvm_cpuid2 *saved,
			  struct err *err)
{
	static const char names[] = "ABCD";

	for (size_t i = 0; i < sizeof(feature_words) / sizeof(feature_words[0]); i++) {
		const struct feature_word *f = &feature_words[i];
		const struct kvm_cpuid_entry2 *s = find(saved, f->leaf, f->subleaf);
		const struct kvm_cpuid_entry2 *h = find(here, f->leaf, f->subleaf);
		uint32_t missing = s ? reg_of(s, f->reg) & f->mask : 0;

		if (h)
			missing &= ~reg_of(h, f->reg);
		if (missing != 0)
			return err_set(err, ENOTSUP,
				       "the guest was given processor features that this host "
				       "lacks: CPUID leaf 0x%x.%u, E%cX bits 0x%x",
				       f->leaf, f->subleaf, names[f->reg], missing);
	}
	return 0;
}

static int check_maker(const struct kvm_cpuid2 *here, const struct kvm_cpuid2 *saved,
		       struct err *err)
{
	const struct kvm_cpuid_entry2 *s = find(saved, 0, 0);
	const struct kvm_cpuid_entry2 *h = find(here, 0, 0);

	if (!s || !h || s->ebx != h->ebx || s->ecx != h->ecx || s->edx != h->edx)
		return err_set(err, ENOTSUP, "saved on a processor of another maker");
	s = find(saved, 0x80000008, 0);
	h = find(here, 0x80000008, 0);
	if (s && h && (s->eax & 0xff) > (h->eax & 0xff))
		return err_set(err, ENOTSUP,
			       "the guest was given %u bits of physical address; this host has %u",
			       s->eax & 0xff, h->eax & 0xff);
	return 0;
}

static int read_cpuid(struct state_reader *r, struct kvm_cpuid2 **out, struct err *err)
{
	struct kvm_cpuid2 *cpuid;
	struct state_reader section;
	uint32_t count;
	int ret = state_enter(r, CPUID_STATE, CPUID_VERSION, &section, err);

	if (ret)
		return ret;
	count = state_get_u32(&section);
	if (count > CPUID_ENTRIES_MAX)
		return state_bad(err, "%u CPUID leaves", count);
	cpuid = calloc(1, sizeof(*cpuid) + count * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return err_set(err, ENOMEM, "CPUID: out of memory");
	cpuid->nent = count;
	state_get_bytes(&section, cpuid->entries, count * sizeof(cpuid->entries[0]));
	*out = cpuid;
	return state_leave(&section, err);
}

int kvm_cpuid_restore(const struct kvm_cpuid2 *here, struct state_reader *r,
		      struct kvm_cpuid2 **out, struct err *err)
{
	struct kvm_cpuid2 *cpuid = NULL;
	int ret = read_cpuid(r, &cpuid, err);

	if (!cpuid)
		return ret;
	if (!ret)
		ret = check_maker(here, cpuid, err);
	if (!ret)
		ret = check_features(here, cpuid, err);
	if (ret)
		free(cpuid);
	else
		*out = cpuid;
	return ret;
}
