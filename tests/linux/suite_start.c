/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the start of a machine: kernel cache, time line, pages behind its memory. */
#include "suite.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "minivm/end.h"

/* --- kernel cache --- */

static void want_line(struct test *t, const struct vm *vm, const char *line)
{
	if (!strstr(vm->p.err.data, line))
		wrong(t, "it did not say \"%s\"", line);
}

/* The path of the one entry in the cache directory `dir`; "" if there is none, or more. */
static const char *cache_entry(struct test *t, const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	const char *path = "";
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, "c1-", 3) == 0) {
			path = text(t, "%s/%s", dir, e->d_name);
			n++;
		}
	}
	if (d)
		closedir(d);
	return n == 1 ? path : "";
}

/* Files that were changed a moment ago are not known by their time stamps. */
static void wait_until_settled(struct test *t)
{
	struct stat st;

	if (stat(t->opt->kernel, &st)) {
		wrong(t, "stat %s", t->opt->kernel);
		return;
	}
	for (unsigned i = 0; i < 10 && time(NULL) < st.st_ctim.tv_sec + 4; i++)
		sleep(1);
}

/*
 * The second start finds the kernel that the first one has unpacked, by its file; both guests are
 * the same, with memory that one writes and the other does not see.
 */
void case_cache(struct test *t)
{
	const char *dir = scratch_path(t, "cache");
	const struct vm_request req = {
	    .args = {"--kernel-cache", dir, "--log-level", "debug"},
	    .checks = "forks=5 pages",
	    .noisy = true,
	};
	static const char *const lines[] = {"kernel cache: added", "kernel cache: known file"};
	struct stat st;

	wait_until_settled(t);
	for (unsigned i = 0; i < 2; i++) {
		struct vm vm;

		vm_start(t, &vm, &req);
		vm_finish(&vm, 0);
		want_line(t, &vm, lines[i]);
		if (strcmp(vm_string(&vm, "kernel.image"), "bzimage-unpacked") != 0)
			wrong(t, "statistics do not know the cached kernel's kind");
		vm_free(&vm);
	}
	if (stat(dir, &st) || (st.st_mode & 0777) != 0700)
		wrong(t, "the cache's directory has not the mode 0700");
	if (!*cache_entry(t, dir))
		wrong(t, "there is not one entry in the cache");
}

/* A cache file that is cut short under a guest: an end in one line, not a core dump. */
void case_cache_cut(struct test *t)
{
	const char *dir = scratch_path(t, "cache");
	const struct vm_request req = {
	    .args = {"--kernel-cache", dir}, .noisy = true, .ignore_out = true};
	static const char ask[] = "cat /proc/version /proc/meminfo\n";
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "# ") && truncate(cache_entry(t, dir), 4096))
		wrong(t, "no cache entry to cut");
	/* It may have come upon a page that is gone by itself. */
	(void)proc_send(&vm.p, ask, sizeof(ask) - 1, 1000);
	/* Where KVM emulates kernel mode, minivm itself reads the guest's code and page tables: it
	   may be SIGBUS then, after which there are no statistics. */
	if (t->opt->emulating)
		vm_finish_refused(&vm);
	else
		vm_finish(&vm, VM_STATUS_ERROR);
	want_line(t, &vm, "cannot supply a page of guest memory");
	vm_free(&vm);
}

/* A directory that others may write to is not trusted: named, that is an error. */
void case_cache_named(struct test *t)
{
	const char *dir = scratch_path(t, "open");
	const struct vm_request req = {.args = {"--kernel-cache", dir}, .noisy = true};
	struct vm vm;

	if (mkdir(dir, 0700) || chmod(dir, 0777)) {
		wrong(t, "mkdir %s", dir);
		return;
	}
	vm_start(t, &vm, &req);
	vm_finish_refused(&vm);
	want_line(t, &vm, "chmod 700");
	vm_free(&vm);
}

/* --- time line --- */

void case_timeline(struct test *t)
{
	static const char *const order[] = {"exec",    "config",    "memory", "vm", "kernel",
					    "devices", "first_run", "init",   "end"};
	const char *path = scratch_path(t, "timeline");
	const struct vm_request req = {.args = {"--timeline", path}, .checks = "forks=1"};
	json_t *root, *events;
	json_int_t last = -1;

	vm_run(t, &req, 0);
	root = json_load_file(path, 0, NULL);
	events = json_object_get(root, "events");
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		const json_t *value = json_object_get(events, order[i]);

		if (!json_is_integer(value) || json_integer_value(value) < last)
			wrong(t, "the time line has no \"%s\", or too early", order[i]);
		last = json_integer_value(value);
	}
	if (!json_object_get(events, "first_byte"))
		wrong(t, "the time line has no first byte");
	if (json_integer_value(json_object_get(root, "start_ns")) <= 0)
		wrong(t, "the time line has no start");
	json_decref(root);
}

/* --- huge pages --- */

void case_hugepages_thp(struct test *t)
{
	const struct vm_request req = {.args = {"--hugepages", "thp"}, .checks = "forks=5 pages"};

	vm_run(t, &req, 0);
}

#define RESERVE "/proc/sys/vm/nr_hugepages"

/* What the host's reserve is then; -1: not to be set. */
static int set_reserve(int pages)
{
	FILE *f = fopen(RESERVE, "r+");
	int now = -1;

	if (!f)
		return -1;
	fprintf(f, "%d\n", pages);
	fflush(f);
	rewind(f);
	if (fscanf(f, "%d", &now) != 1)
		now = -1;
	fclose(f);
	return now;
}

void case_hugepages_2m(struct test *t)
{
	const struct vm_request req = {
	    .args = {"--hugepages", "2M"}, .memory = "64M", .checks = "forks=5 pages"};
	const struct vm_request refused = {
	    .args = {"--hugepages", "2M"}, .memory = "64M", .noisy = true};
	struct vm vm;

	if (set_reserve(40) != 40) {
		set_reserve(0);
		t->skip = "no reserve of 2 MiB pages to be had from the host";
		return;
	}
	vm_run(t, &req, 0);
	set_reserve(0);
	vm_start(t, &vm, &refused);
	vm_finish_refused(&vm);
	want_line(t, &vm, "nr_hugepages");
	vm_free(&vm);
}
