/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: one kernel, its vmlinux packed in each way that a kernel's build knows (pack.sh). */
#include "suite.h"

#include <string.h>
#include <unistd.h>

#define NAME_PREFIX "packed-"

/* What minivm unpacks itself; the rest unpacks itself in the guest. */
static bool host_unpacks(const char *format)
{
	static const char *const formats[] = {"gzip", "xz", "lzma", "lz4", "zstd"};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(format, formats[i]))
			return true;
	return false;
}

/* The case's name says which. */
void case_packed(struct test *t)
{
	const char *format = t->name + strlen(NAME_PREFIX);
	const char *image = host_unpacks(format) ? "bzimage-unpacked" : "bzimage-raw";
	const char *compression = host_unpacks(format) ? format : "unknown";
	struct vm_request req = {.checks = "cpus=1 memory=256 uart", .limit_s = 60};
	struct vm vm;

	if (!t->opt->packed) {
		t->skip = "no packed kernels were given (tests/linux/pack.sh)";
		return;
	}
	req.kernel = text(t, "%s/bzImage.%s", t->opt->packed, format);
	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (strcmp(vm_string(&vm, "kernel.image"), image) != 0 ||
	    strcmp(vm_string(&vm, "kernel.compression"), compression) != 0)
		wrong(t, "statistics say %s, %s; want %s, %s", vm_string(&vm, "kernel.image"),
		      vm_string(&vm, "kernel.compression"), image, compression);
	vm_free(&vm);
}
