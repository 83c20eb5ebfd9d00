/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `minivm doctor`: looks at the host and says what follows (doctor_print.c prints it).
 *
 * Two steps: first facts are gathered, none of which can fail the doctor; then each fact that
 * stands in a machine's way, or makes it slow, becomes a finding with its remedy. Behaviour is
 * probed: a VM is made and its code timed, so "usable" means that one ran.
 */
#include "minivm/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Below these, a note. A machine needs some 10 descriptors and 2 for each device. */
#define FILES_ENOUGH  128
#define MEMORY_ENOUGH (256ull << 20) /* the default machine */

/* --- facts: the host --- */

/* The text behind "key<blanks>:<blanks>" if the line is such a one, without its line end; or NULL.
 */
static char *value_of(char *line, const char *key)
{
	size_t len = strlen(key);
	char *p = line + len;

	if (strncmp(line, key, len) != 0)
		return NULL;
	p += strspn(p, " \t");
	if (*p != ':')
		return NULL;
	p++;
	p += strspn(p, " \t");
	p[strcspn(p, "\n")] = '\0';
	return p;
}

static void read_flags(char *flags, struct doctor_report *r)
{
	char *save;

	for (char *f = strtok_r(flags, " ", &save); f != NULL; f = strtok_r(NULL, " ", &save)) {
		r->cpu_vmx |= strcmp(f, "vmx") == 0;
		r->cpu_svm |= strcmp(f, "svm") == 0;
		r->cpu_hypervisor |= strcmp(f, "hypervisor") == 0;
	}
}

/* The first processor speaks for all. */
static void read_cpuinfo(struct doctor_report *r)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line = NULL, *value;
	size_t size = 0;

	if (f == NULL)
		return;
	while (getline(&line, &size, f) > 0 && line[0] != '\n') {
		value = value_of(line, "model name");
		if (value != NULL)
			snprintf(r->cpu_model, sizeof(r->cpu_model), "%s", value);
		value = value_of(line, "flags");
		if (value != NULL)
			read_flags(value, r);
	}
	free(line);
	fclose(f);
}

static void read_meminfo(struct doctor_report *r)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char *line = NULL, *value;
	size_t size = 0;

	if (f == NULL)
		return;
	while (getline(&line, &size, f) > 0) {
		value = value_of(line, "MemTotal");
		if (value != NULL)
			r->memory_total = strtoull(value, NULL, 10) << 10;
		value = value_of(line, "MemAvailable");
		if (value != NULL)
			r->memory_available = strtoull(value, NULL, 10) << 10;
	}
	free(line);
	fclose(f);
}

static void look_at_host(struct doctor_report *r)
{
	struct rlimit files = {RLIM_INFINITY, RLIM_INFINITY};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct utsname un;

	if (uname(&un) == 0)
		snprintf(r->kernel, sizeof(r->kernel), "%.60s %.60s", un.sysname, un.release);
	r->cpus = cpus > 0 ? (unsigned)cpus : 0;
	read_cpuinfo(r);
	read_meminfo(r);
	getrlimit(RLIMIT_NOFILE, &files);
	r->files_soft = files.rlim_cur == RLIM_INFINITY ? UINT64_MAX : files.rlim_cur;
	r->files_hard = files.rlim_max == RLIM_INFINITY ? UINT64_MAX : files.rlim_max;
}

/* --- findings --- */

static void find(struct doctor_report *r, bool fatal, const char *mend, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void find(struct doctor_report *r, bool fatal, const char *mend, const char *fmt, ...)
{
	struct doctor_finding *f;
	va_list ap;

	if (fatal)
		r->usable = false;
	if (r->finding_count == DOCTOR_FINDINGS_MAX)
		return;
	f = &r->finding[r->finding_count++];
	f->fatal = fatal;
	va_start(ap, fmt);
	vsnprintf(f->what, sizeof(f->what), fmt, ap);
	va_end(ap);
	snprintf(f->mend, sizeof(f->mend), "%s", mend);
}

static void find_absent(struct doctor_report *r)
{
	const char *mend;

	if (r->cpu_vmx)
		mend =
		    "load the module: `sudo modprobe kvm_intel`; if it refuses (see `sudo dmesg`), "
		    "enable virtualization (VT-x) in the firmware set-up";
	else if (r->cpu_svm)
		mend =
		    "load the module: `sudo modprobe kvm_amd`; if it refuses (see `sudo dmesg`), "
		    "enable virtualization (SVM) in the firmware set-up";
	else if (r->cpu_hypervisor)
		mend = "this host is a virtual machine whose processor shows neither VMX nor SVM: "
		       "enable "
		       "nested virtualization for it, or use a host that has KVM";
	else
		mend = "the processor shows neither VMX nor SVM: enable virtualization in the "
		       "firmware "
		       "set-up, then `sudo modprobe kvm_intel` or `kvm_amd`";
	find(r, true, mend, "%s is absent: no KVM in this kernel, or not loaded", r->device_path);
}

static void find_device(struct doctor_report *r, int code, const char *message)
{
	char hint[512];

	switch (r->device) {
	case DOCTOR_DEVICE_OK:
		break;
	case DOCTOR_DEVICE_ABSENT:
		find_absent(r);
		break;
	case DOCTOR_DEVICE_FORBIDDEN:
		kvm_open_hint(r->device_path, code, hint, sizeof(hint));
		find(r, true, hint, "%s: you have no permission to open it", r->device_path);
		break;
	case DOCTOR_DEVICE_UNUSABLE:
		find(r, true, "the device must be that of KVM, character device 10:232", "%.200s",
		     message);
		break;
	}
}

static void find_capabilities(struct doctor_report *r)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (r->caps.value[i] >= table[i].min)
			continue;
		if (table[i].needed)
			find(r, true,
			     "use a kernel whose KVM has it (any of the last years, unless it was "
			     "configured without)",
			     "KVM lacks %s, which minivm needs: %s", table[i].name,
			     table[i].what_for);
		else
			find(r, false, "use a newer kernel if you want it",
			     "KVM lacks %s (value %d, %d wanted): %s", table[i].name,
			     r->caps.value[i], table[i].min, table[i].what_for);
	}
}

static void find_back_end(struct doctor_report *r)
{
	if (r->timing.emulating)
		find(r, false,
		     "machines run all the same, minivm helps by itself (--assist auto; see "
		     "EMULATING HOSTS "
		     "in the man page); for speed use a host with VMX or SVM",
		     "KVM emulates the guest's kernel mode: %.0f ns an instruction, where a "
		     "processor takes "
		     "less than 1",
		     r->timing.ns_per_instruction);
	if (r->timing.emulating && !r->cpuid_emulating)
		find(r, false, "give --assist on",
		     "the quick test at the start of a machine does not notice that KVM emulates");
	if (!r->timing.emulating && r->cpuid_emulating)
		find(
		    r, false, "give --assist off",
		    "the quick test at the start of a machine takes this KVM for an emulating one");
}

static void find_limits(struct doctor_report *r)
{
	if (r->memory_total != 0 && r->memory_available < MEMORY_ENOUGH)
		find(r, false, "give the guest less (--memory), or end something",
		     "only %llu MiB of memory are available, the default machine has %llu",
		     (unsigned long long)r->memory_available >> 20, MEMORY_ENOUGH >> 20);
	if (r->files_soft < FILES_ENOUGH)
		find(r, false, "`ulimit -n 1024`",
		     "only %llu open files are allowed, a large machine needs up to %d",
		     (unsigned long long)r->files_soft, FILES_ENOUGH);
}

/* --- facts: KVM --- */

static enum doctor_device device_state(int rc)
{
	switch (-rc) {
	case 0:
		return DOCTOR_DEVICE_OK;
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return DOCTOR_DEVICE_ABSENT;
	case EACCES:
	case EPERM:
		return DOCTOR_DEVICE_FORBIDDEN;
	default:
		return DOCTOR_DEVICE_UNUSABLE;
	}
}

static void look_at_cpuid(int kvm_fd, struct doctor_report *r)
{
	struct kvm_cpuid2 *cpuid;
	struct err err;

	if (kvm_supported_cpuid(kvm_fd, &cpuid, &err) < 0) {
		find(r, true, "report it to minivm", "%.200s", err.text);
		return;
	}
	r->cpuid_emulating = kvm_cpuid_is_emulating(cpuid);
	free(cpuid);
}

static void look_at_kvm(int kvm_fd, struct doctor_report *r)
{
	struct err err;

	kvm_caps_probe(kvm_fd, &r->caps);
	find_capabilities(r);
	look_at_cpuid(kvm_fd, r);
	if (kvm_time_guest(kvm_fd, &r->timing, &err) < 0) {
		find(r, true, "see `sudo dmesg` for what KVM says",
		     "a test machine did not run: %.200s", err.text);
		return;
	}
	r->vm_works = true;
	find_back_end(r);
}

void doctor_collect(const char *kvm_path, struct doctor_report *r)
{
	struct err err;
	int kvm_fd = -1;
	int rc;

	memset(r, 0, sizeof(*r));
	r->usable = true;
	r->device_path = kvm_path;
	look_at_host(r);
	r->access_known = kvm_node_access(kvm_path, &r->access) == 0;
	rc = kvm_open(kvm_path, &kvm_fd, &err);
	r->device = device_state(rc);
	if (r->device == DOCTOR_DEVICE_OK) {
		look_at_kvm(kvm_fd, r);
		close(kvm_fd);
	} else {
		find_device(r, -rc, err.text);
	}
	find_limits(r);
}
