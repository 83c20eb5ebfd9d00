/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor: what it makes of devices that are missing, forbidden or something else, and what its
 * two reports say of hosts that this machine is not. Also the parts of kvm.c that need no KVM.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "minivm/doctor.h"
#include "minivm/end.h"

static bool has_finding(const struct doctor_report *r, bool fatal, const char *text)
{
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct doctor_finding *f = &r->finding[i];

		if (f->fatal == fatal && f->mend[0] != '\0' &&
		    (strstr(f->what, text) != NULL || strstr(f->mend, text) != NULL))
			return true;
	}
	return false;
}

/* --- devices --- */

Test(doctor, an_absent_device_makes_the_host_unusable)
{
	struct doctor_report r;

	doctor_collect("/nonexistent/kvm", &r);
	cr_expect_eq(r.device, DOCTOR_DEVICE_ABSENT);
	cr_expect_not(r.access_known);
	cr_expect_not(r.usable);
	cr_expect(has_finding(&r, true, "/nonexistent/kvm is absent"));
}

Test(doctor, another_device_is_not_kvm)
{
	struct doctor_report r;

	doctor_collect("/dev/null", &r);
	cr_expect_eq(r.device, DOCTOR_DEVICE_UNUSABLE);
	cr_expect(r.access_known);
	cr_expect_not(r.usable);
	cr_expect(has_finding(&r, true, "/dev/null is not the KVM device"));
}

Test(doctor, a_directory_is_not_kvm)
{
	struct doctor_report r;

	doctor_collect("/tmp", &r);
	cr_expect_eq(r.device, DOCTOR_DEVICE_UNUSABLE);
	cr_expect(has_finding(&r, true, "Is a directory"));
}

/* In a child: permission is only refused to others than root. Exit 0: as expected. */
static int forbidden_child(const char *path)
{
	struct doctor_report r;

	if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
			       setresuid(65534, 65534, 65534) != 0))
		return 1;
	doctor_collect(path, &r);
	if (r.device != DOCTOR_DEVICE_FORBIDDEN || r.usable)
		return 2;
	return has_finding(&r, true, "usermod -aG") && has_finding(&r, true, "no permission") ? 0
											      : 3;
}

static void expect_forbidden(mode_t mode, gid_t gid)
{
	char path[] = "/tmp/test-doctor.XXXXXX";
	int fd = mkstemp(path), status;
	pid_t child;

	cr_assert_geq(fd, 0);
	if (fchown(fd, (uid_t)-1, gid) < 0)
		gid = getgid();
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
	child = fork();
	if (child == 0)
		_exit(forbidden_child(path));
	cr_assert_eq(waitpid(child, &status, 0), child);
	unlink(path);
	cr_expect_eq(status, 0, "mode %o, group %u: %d", mode, gid, status);
}

Test(doctor, a_forbidden_device_names_the_group_that_may)
{
	expect_forbidden(0060, 1);    /* join that group */
	expect_forbidden(0060, 9999); /* a group without a name */
	expect_forbidden(0000, 1);    /* change the group, then join it */
	expect_forbidden(0060, 0);    /* nobody is told to join root's group */
}

Test(doctor, the_host_is_described)
{
	struct doctor_report r;

	doctor_collect("/nonexistent/kvm", &r);
	cr_expect_eq(strncmp(r.kernel, "Linux ", 6), 0, "%s", r.kernel);
	cr_expect_gt(r.cpus, 0);
	cr_expect_gt(r.memory_total, 1 << 20);
	cr_expect_leq(r.memory_available, r.memory_total);
	cr_expect_leq(r.files_soft, r.files_hard);
}

/* --- kvm_open() --- */

Test(kvm, open_says_what_is_wrong)
{
	struct err err;
	int fd = -7;

	cr_expect_eq(kvm_open("/nonexistent/kvm", &fd, &err), -ENOENT);
	cr_expect_str_eq(
	    err.text,
	    "/nonexistent/kvm: No such file or directory; is the kvm module loaded (`sudo "
	    "modprobe kvm_intel` or `kvm_amd`)? `minivm doctor` tells more");
	cr_expect_eq(kvm_open("/dev/zero", &fd, &err), -ENOTTY);
	cr_expect_str_eq(err.text, "/dev/zero is not the KVM device");
	cr_expect_eq(kvm_open("/tmp", &fd, &err), -EISDIR);
	cr_expect_eq(fd, -7, "untouched");
}

Test(kvm, node_access)
{
	struct kvm_node_access a;

	cr_expect_eq(kvm_node_access("/nonexistent", &a), -ENOENT);
	cr_expect_eq(kvm_node_access("/", &a), 0);
	cr_expect_str_eq(a.owner, "root");
	cr_expect_str_eq(a.group, "root");
	cr_expect_eq(a.mode & 0700, 0700);
}

/* --- the quick test for emulating back ends --- */

static bool emulating(uint32_t leaf, uint32_t ecx)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 3 * sizeof(c->entries[0]));
	bool result;

	cr_assert_not_null(c);
	c->nent = 3;
	c->entries[0] = (struct kvm_cpuid_entry2){.function = 0, .ecx = 0x6c65746e};
	c->entries[1] = (struct kvm_cpuid_entry2){.function = leaf, .ecx = ecx};
	c->entries[2] = (struct kvm_cpuid_entry2){.function = 7, .ecx = 0xffffffff};
	result = kvm_cpuid_is_emulating(c);
	free(c);
	return result;
}

Test(kvm, cpuid_of_an_emulating_back_end_is_nearly_empty)
{
	cr_expect(emulating(1, 0));
	cr_expect(emulating(1, 1u << 31 | 1u << 24 | 1u << 21), "what KVM itself makes up");
	cr_expect(emulating(1, 1u << 31 | 1u << 21 | 1u << 13), "and a single feature");
	cr_expect_not(emulating(1, 0x80802001), "an AMD Barcelona: SSE3, CMPXCHG16B, POPCNT");
	cr_expect_not(emulating(1, 0x80202201), "a Core 2: SSE3, SSSE3, CMPXCHG16B");
	cr_expect_not(emulating(1, 0xfffa3203), "a processor of today");
	cr_expect_not(emulating(2, 0), "without leaf 1 nothing is known");
}

Test(kvm, the_table_of_capabilities)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	cr_expect_leq(count, KVM_CAPS_MAX);
	for (size_t i = 0; i < count; i++) {
		cr_expect_eq(strncmp(table[i].name, "KVM_CAP_", 8), 0);
		cr_expect_gt(table[i].min, 0);
		for (size_t k = 0; k < i; k++)
			cr_expect_neq(table[i].cap, table[k].cap, "%s", table[i].name);
	}
}

Test(kvm, a_descriptor_that_is_not_kvm_lacks_the_first_needed_capability)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err err;

	cr_assert_geq(fd, 0);
	cr_expect_eq(kvm_caps_required(fd, &err), -ENOTSUP);
	cr_expect_not_null(strstr(err.text, "lacks KVM_CAP_USER_MEMORY"), "%s", err.text);
	close(fd);
}

/* --- reports --- */

static void healthy(struct doctor_report *r)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	*r = (struct doctor_report){
	    .kernel = "Linux 6.1.0",
	    .cpu_model = "A processor",
	    .cpus = 4,
	    .cpu_vmx = true,
	    .memory_total = 8ull << 30,
	    .memory_available = 4ull << 30,
	    .files_soft = 1024,
	    .files_hard = UINT64_MAX,
	    .device_path = "/dev/kvm",
	    .access_known = true,
	    .access = {.owner = "root", .group = "kvm", .gid = 106, .mode = 0660},
	    .vm_works = true,
	    .timing = {.ns_per_instruction = 0.25},
	    .usable = true,
	};
	for (size_t i = 0; i < count; i++)
		r->caps.value[i] = table[i].min;
}

static char *text_of(const struct doctor_report *r)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(out);
	doctor_print_text(r, out);
	fclose(out);
	return text;
}

static json_t *json_of(const struct doctor_report *r)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	json_error_t error;
	json_t *root;

	cr_assert_not_null(out);
	cr_assert_eq(doctor_print_json(r, out), 0);
	fclose(out);
	root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	cr_assert_not_null(root, "%s in %s", error.text, text);
	free(text);
	return root;
}

static void expect_text(const struct doctor_report *r, const char *part)
{
	char *text = text_of(r);

	cr_expect_not_null(strstr(text, part), "expected %s in %s", part, text);
	free(text);
}

Test(doctor, text_of_a_healthy_host)
{
	struct doctor_report r;

	healthy(&r);
	expect_text(&r, "This host can run machines.");
	expect_text(&r, "root:kvm, mode 0660");
	expect_text(&r, "runs on the processor, 0.25 ns an instruction");
	expect_text(&r, "1024, at most unlimited");
	expect_text(&r, "4, VMX");
}

Test(doctor, text_of_an_emulating_host)
{
	struct doctor_report r;

	healthy(&r);
	r.timing = (struct kvm_timing){.ns_per_instruction = 600, .emulating = true};
	expect_text(&r, "emulates kernel mode, 600 ns an instruction");
}

Test(doctor, text_names_what_is_missing_and_what_to_do)
{
	struct doctor_report r;

	healthy(&r);
	r.caps.value[0] = 0;
	r.finding[r.finding_count++] =
	    (struct doctor_finding){.fatal = true, .what = "it is broken", .mend = "mend it"};
	r.usable = false;
	expect_text(&r, "MISSING");
	expect_text(&r, "PROBLEM: it is broken");
	expect_text(&r, "mend it");
	expect_text(&r, "This host cannot run machines.");
}

Test(doctor, json_of_a_healthy_host)
{
	struct doctor_report r;
	json_t *root, *kvm, *caps;
	size_t count;

	kvm_cap_table(&count);
	healthy(&r);
	root = json_of(&r);
	kvm = json_object_get(root, "kvm");
	caps = json_object_get(kvm, "capabilities");
	cr_expect(json_is_true(json_object_get(root, "usable")));
	cr_expect_str_eq(
	    json_string_value(json_object_get(json_object_get(root, "device"), "state")), "ok");
	cr_expect(json_is_null(json_object_get(json_object_get(root, "host"), "open_files_limit")));
	cr_expect_eq(json_integer_value(json_object_get(kvm, "api_version")), 12);
	cr_expect(json_is_false(json_object_get(kvm, "emulating")));
	cr_expect_eq(json_array_size(caps), count);
	cr_expect(json_is_true(json_object_get(json_array_get(caps, 0), "ok")));
	cr_expect_eq(json_array_size(json_object_get(root, "findings")), 0);
	json_decref(root);
}

Test(doctor, json_without_a_device_and_with_strange_bytes)
{
	struct doctor_report r;
	json_t *root;

	healthy(&r);
	r.device = DOCTOR_DEVICE_ABSENT;
	r.access_known = false;
	strcpy(r.cpu_model, "not UTF-8: \xff");
	root = json_of(&r);
	cr_expect(json_is_null(json_object_get(root, "kvm")));
	cr_expect(json_is_null(json_object_get(json_object_get(root, "device"), "owner")));
	cr_expect(json_is_null(json_object_get(json_object_get(root, "host"), "processor")));
	json_decref(root);
}

Test(doctor, run_prints_and_returns_a_documented_status)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int status;

	cr_assert_not_null(out);
	status = doctor_run(true, out);
	fclose(out);
	cr_expect(status == 0 || status == VM_STATUS_ERROR, "%d", status);
	cr_expect_not_null(strstr(text, status == 0 ? "\"usable\": true" : "\"usable\": false"),
			   "%s", text);
	free(text);
}
