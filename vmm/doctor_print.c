/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor's report as text for people and as JSON for programs. The JSON keys are a promise,
 * documented in docs/minivm.1.in.
 */
#include "minivm/doctor.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "minivm/end.h"

static const char *state_name(enum doctor_device state)
{
	static const char *const names[] = {
	    [DOCTOR_DEVICE_OK] = "ok",
	    [DOCTOR_DEVICE_ABSENT] = "absent",
	    [DOCTOR_DEVICE_FORBIDDEN] = "forbidden",
	    [DOCTOR_DEVICE_UNUSABLE] = "unusable",
	};

	return names[state];
}

/* --- text --- */

#define LABEL "  %-32s "

static void print_files(FILE *out, const char *before, uint64_t n)
{
	if (n == UINT64_MAX)
		fprintf(out, "%sunlimited", before);
	else
		fprintf(out, "%s%llu", before, (unsigned long long)n);
}

static void print_host(const struct doctor_report *r, FILE *out)
{
	const char *virt = r->cpu_vmx ? "VMX" : r->cpu_svm ? "SVM" : "neither VMX nor SVM";

	fprintf(out, "host\n");
	fprintf(out, LABEL "%s\n", "kernel", r->kernel);
	fprintf(out, LABEL "%s\n", "processor", r->cpu_model[0] ? r->cpu_model : "not known");
	fprintf(out, LABEL "%u, %s%s\n", "CPUs", r->cpus, virt,
		r->cpu_hypervisor ? ", virtual machine" : "");
	fprintf(out, LABEL "%llu MiB, %llu available\n", "memory",
		(unsigned long long)r->memory_total >> 20,
		(unsigned long long)r->memory_available >> 20);
	fprintf(out, LABEL, "open files");
	print_files(out, "", r->files_soft);
	print_files(out, ", at most ", r->files_hard);
	fputc('\n', out);
}

static void print_device(const struct doctor_report *r, FILE *out)
{
	fprintf(out, "\n%s\n", r->device_path);
	fprintf(out, LABEL "%s\n", "state", state_name(r->device));
	if (r->access_known)
		fprintf(out, LABEL "%s:%s, mode %04o\n", "owner and group", r->access.owner,
			r->access.group, r->access.mode);
	if (r->device != DOCTOR_DEVICE_OK)
		return;
	fprintf(out, LABEL "%d\n", "API version", KVM_API_VERSION);
	if (!r->vm_works)
		fprintf(out, LABEL "%s\n", "test machine", "did not run");
	else if (r->timing.emulating)
		fprintf(out, LABEL "emulates kernel mode, %.0f ns an instruction\n", "back end",
			r->timing.ns_per_instruction);
	else
		fprintf(out, LABEL "runs on the processor, %.2f ns an instruction\n", "back end",
			r->timing.ns_per_instruction);
}

static void print_capabilities(const struct doctor_report *r, FILE *out)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	fprintf(out, "\ncapabilities\n");
	for (size_t i = 0; i < count; i++)
		fprintf(out, LABEL "%-8s %-7s %5d  %s\n", table[i].name,
			r->caps.value[i] >= table[i].min ? "ok" : "MISSING",
			table[i].needed ? "needed" : "wanted", r->caps.value[i], table[i].what_for);
}

void doctor_print_text(const struct doctor_report *r, FILE *out)
{
	print_host(r, out);
	print_device(r, out);
	if (r->device == DOCTOR_DEVICE_OK)
		print_capabilities(r, out);
	if (r->finding_count > 0)
		fprintf(out, "\nfindings\n");
	for (unsigned i = 0; i < r->finding_count; i++)
		fprintf(out, "  %s: %s\n    what to do: %s\n",
			r->finding[i].fatal ? "PROBLEM" : "note", r->finding[i].what,
			r->finding[i].mend);
	fprintf(out, "\n%s\n",
		r->usable ? "This host can run machines." : "This host cannot run machines.");
}

/* --- JSON --- */

/*
 * jansson's *_new() setters take a value over, and fail on NULL, so a chain of them needs one check
 * at its end. Strings from the host that are not UTF-8 become null.
 */
static json_t *string_or_null(const char *s)
{
	json_t *j = json_string(s);

	return j != NULL ? j : json_null();
}

static json_t *files_json(uint64_t n)
{
	return n <= INT64_MAX ? json_integer((json_int_t)n) : json_null();
}

static json_t *host_json(const struct doctor_report *r)
{
	return json_pack("{s:o, s:o, s:i, s:b, s:b, s:b, s:I, s:I, s:o, s:o}", "kernel",
			 string_or_null(r->kernel), "processor", string_or_null(r->cpu_model),
			 "cpus", (int)r->cpus, "vmx", r->cpu_vmx, "svm", r->cpu_svm,
			 "virtual_machine", r->cpu_hypervisor, "memory_total",
			 (json_int_t)r->memory_total, "memory_available",
			 (json_int_t)r->memory_available, "open_files", files_json(r->files_soft),
			 "open_files_limit", files_json(r->files_hard));
}

static json_t *device_json(const struct doctor_report *r)
{
	char mode[16];

	snprintf(mode, sizeof(mode), "%04o", r->access.mode);
	return json_pack("{s:o, s:s, s:o, s:o, s:o}", "path", string_or_null(r->device_path),
			 "state", state_name(r->device), "owner",
			 r->access_known ? string_or_null(r->access.owner) : json_null(), "group",
			 r->access_known ? string_or_null(r->access.group) : json_null(), "mode",
			 r->access_known ? string_or_null(mode) : json_null());
}

static json_t *capabilities_json(const struct doctor_report *r)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *cap =
		    json_pack("{s:s, s:s, s:b, s:i, s:i, s:b}", "name", table[i].name, "what_for",
			      table[i].what_for, "needed", table[i].needed, "minimum", table[i].min,
			      "value", r->caps.value[i], "ok", r->caps.value[i] >= table[i].min);

		if (json_array_append_new(list, cap) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *kvm_json(const struct doctor_report *r)
{
	if (r->device != DOCTOR_DEVICE_OK)
		return json_null();
	return json_pack(
	    "{s:i, s:b, s:o, s:o, s:b, s:o}", "api_version", KVM_API_VERSION, "machine_runs",
	    r->vm_works, "emulating", r->vm_works ? json_boolean(r->timing.emulating) : json_null(),
	    "ns_per_instruction",
	    r->vm_works ? json_real(r->timing.ns_per_instruction) : json_null(),
	    "emulating_by_cpuid", r->cpuid_emulating, "capabilities", capabilities_json(r));
}

static json_t *findings_json(const struct doctor_report *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct doctor_finding *f = &r->finding[i];
		json_t *finding =
		    json_pack("{s:b, s:o, s:o}", "fatal", f->fatal, "what", string_or_null(f->what),
			      "what_to_do", string_or_null(f->mend));

		if (json_array_append_new(list, finding) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

int doctor_print_json(const struct doctor_report *r, FILE *out)
{
	json_t *root =
	    json_pack("{s:b, s:o, s:o, s:o, s:o}", "usable", r->usable, "host", host_json(r),
		      "device", device_json(r), "kvm", kvm_json(r), "findings", findings_json(r));
	int rc;

	if (root == NULL)
		return -ENOMEM;
	rc = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	json_decref(root);
	fputc('\n', out);
	return rc < 0 ? -EIO : 0;
}

/* --- the command --- */

int doctor_run(bool json, FILE *out)
{
	struct doctor_report report;

	doctor_collect(KVM_DEVICE_PATH, &report);
	if (!json)
		doctor_print_text(&report, out);
	else if (doctor_print_json(&report, out) < 0)
		return VM_STATUS_ERROR;
	return report.usable && fflush(out) == 0 && !ferror(out) ? 0 : VM_STATUS_ERROR;
}
