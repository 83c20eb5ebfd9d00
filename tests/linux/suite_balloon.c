/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: the memory balloon under Linux's driver, seen in the size of minivm on the host. */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_ask.h"

#define USED_MIB  16
#define LEAVE_KIB (13 * 1024) /* of it must leave the host's memory */

/* Resident memory of minivm. */
static long resident_kib(struct test *t, const struct vm *vm)
{
	FILE *f = fopen(text(t, "/proc/%d/statm", (int)vm->p.pid), "re");
	long size = 0, pages = 0;

	if (!f || fscanf(f, "%ld %ld", &size, &pages) != 2)
		wrong(t, "its memory cannot be told");
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Within the time that there is, to so much at the most. */
static long resident_falls(struct vm *vm, long most)
{
	long now = resident_kib(vm->t, vm);

	for (unsigned i = 0; i < 300 * vm->t->opt->slow && now > most; i++) {
		proc_idle(&vm->p, 100);
		now = resident_kib(vm->t, vm);
	}
	return now;
}

/* Linux reports what has been free for two seconds. */
void case_balloon_reporting(struct test *t)
{
	const struct vm_request req = {
	    .memory = "128M",
	    .args = {"--balloon", "on,stats=1"},
	    .checks = text(t, "balloon=%d", USED_MIB),
	    .limit_s = 60,
	};
	long used = 0, after = 0;
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "balloon: used"))
		used = resident_kib(t, &vm);
	vm_send(&vm, "\n");
	if (vm_expect(&vm, "balloon: freed"))
		after = resident_falls(&vm, used - LEAVE_KIB);
	proc_idle(&vm.p, 2500 * t->opt->slow); /* for statistics, one a second */
	vm_send(&vm, "\n");
	if (used - after < LEAVE_KIB)
		wrong(t, "%ld KiB resident while %d MiB were used, %ld when they were free", used,
		      USED_MIB, after);
	tap_note(text(t, "resident: %ld KiB while %d MiB were used, %ld when they were free", used,
		      USED_MIB, after));
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.reported") < LEAVE_KIB * 1024ll)
		wrong(t, "%lld bytes were reported", vm_number(&vm, "devices.0.reported"));
	if (vm_number(&vm, "devices.0.stats_updates") < 2 ||
	    vm_number(&vm, "devices.0.total_memory") <= 0)
		wrong(t, "the guest told statistics %lld times",
		      vm_number(&vm, "devices.0.stats_updates"));
	vm_free(&vm);
}

/* 32 MiB are asked for from the start. */
void case_balloon_target(struct test *t)
{
	const struct vm_request req = {
	    .memory = "128M",
	    .args = {"--balloon", "32M"},
	    .checks = "inflated=32,131072",
	    .limit_s = 60,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.actual") != 32 << 20 ||
	    vm_number(&vm, "devices.0.inflated") < (32 << 20) / 4096 ||
	    vm_number(&vm, "devices.0.refused_pages"))
		wrong(t, "statistics: actual %lld, inflated %lld, refused %lld",
		      vm_number(&vm, "devices.0.actual"), vm_number(&vm, "devices.0.inflated"),
		      vm_number(&vm, "devices.0.refused_pages"));
	vm_free(&vm);
}

#define SQUEEZE_MIB 32
#define SQUEEZED    (SQUEEZE_MIB * (1 << 20) / 4 * 3) /* bytes of it, at least */
/* The rest of the machine's memory, and minivm itself. */
#define SQUEEZED_KIB_MAX ((128 - SQUEEZE_MIB + 4) * 1024)
#define STATISTICS	 "/balloon/statistics"
#define AVAILABLE	 "\"available_memory\":"

/* Asks until the guest has told this. */
static void expect_told(struct vm *vm, const char *path, const char *part)
{
	struct test *t = vm->t;
	char answer[1024];

	for (unsigned i = 0; i < 100 * t->opt->slow; i++) {
		http_ask(path, "GET", STATISTICS, "", 10 * t->opt->slow, answer, sizeof(answer));
		if (strstr(answer, part))
			return;
		proc_idle(&vm->p, 100);
	}
	wrong(t, "\"%s\" does not come: %s", part, answer);
}

static long long told(struct test *t, const char *path, const char *name)
{
	char answer[1024];
	const char *at;

	http_ask(path, "GET", STATISTICS, "", 10 * t->opt->slow, answer, sizeof(answer));
	at = strstr(answer, name);
	return at ? strtoll(at + strlen(name), NULL, 10) : -1;
}

static void resize(struct test *t, const char *path, unsigned mib)
{
	const char *body = text(t, "{\"amount_mib\":%u}", mib);
	int status = ask_api(t, path, "PATCH", "/balloon", body, "");

	if (status != 204)
		wrong(t, "PATCH /balloon %s: status %d", body, status);
	ask_api(t, path, "GET", "/balloon", "", text(t, "\"amount_mib\":%u,", mib));
}

/* Of a guest that has filled its memory with a disk's cache. */
static void squeeze(struct test *t, struct vm *vm, const char *path)
{
	long used = resident_kib(t, vm), after;
	long long had = told(t, path, AVAILABLE), left;

	resize(t, path, SQUEEZE_MIB);
	if (!vm_expect(vm, "balloon: the host may look"))
		return;
	expect_told(vm, path, text(t, "\"actual_mib\":%d,", SQUEEZE_MIB));
	after = resident_kib(t, vm);
	left = told(t, path, AVAILABLE);
	for (unsigned i = 0; i < 300 * t->opt->slow && had - left < SQUEEZED; i++) {
		proc_idle(&vm->p, 100);
		left = told(t, path, AVAILABLE);
	}
	/* Of the balloon's pages some had not been touched before. */
	if (after > SQUEEZED_KIB_MAX || used - after < SQUEEZED / 1024 / 2)
		wrong(t, "%ld KiB resident before, %ld with %d MiB in the balloon", used, after,
		      SQUEEZE_MIB);
	if (left < 0 || had - left < SQUEEZED)
		wrong(t, "the guest told %lld bytes available, then %lld", had, left);
	tap_note(
	    text(t, "resident: %ld KiB, with %d MiB in the balloon %ld", used, SQUEEZE_MIB, after));
}

/* The target is raised and lowered by the control socket. */
void case_balloon_resized(struct test *t)
{
	const char *path = scratch_path(t, "api");
	const struct vm_request req = {
	    .memory = "128M",
	    .args = {"--balloon", "on,stats=1", "--api-sock", path},
	    .disk = {make_disk(t, "cached", 128 << 11, 9)},
	    .checks = text(t, "squeeze=%d", SQUEEZE_MIB),
	    .limit_s = 120,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "balloon: full")) {
		proc_idle(&vm.p, 2500 * t->opt->slow);
		squeeze(t, &vm, path);
		resize(t, path, 0);
	}
	vm_finish(&vm, 0);
	if (vm_number(&vm, "devices.0.deflated") < SQUEEZED / 4096)
		wrong(t, "%lld pages came back", vm_number(&vm, "devices.0.deflated"));
	vm_free(&vm);
}
