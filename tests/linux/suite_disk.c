/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases: disks. What the guest wrote is compared with the pattern on the host, byte for byte, and
 * what must not change is compared too.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

#define MIB_SECTORS 2048u

const char *make_disk(struct test *t, const char *name, uint64_t sectors, uint64_t seed)
{
	const char *path = scratch_path(t, name);
	int rc = disk_create(path, sectors * 512);

	if (!rc && seed)
		rc = disk_fill(path, seed, 0, sectors);
	if (rc)
		wrong(t, "%s: %s", path, strerror(-rc));
	return path;
}

static void want_pattern(struct test *t, const char *path, uint64_t seed, uint64_t sector,
			 uint64_t count)
{
	uint64_t bad = 0;
	int rc = disk_check(path, seed, sector, count, &bad);

	if (rc)
		wrong(t, "%s: %s", path, strerror(-rc));
	else if (bad != count)
		wrong(t, "%s: sector %llu is not what it must be", path,
		      (unsigned long long)(sector + bad));
}

void case_disk_kinds(struct test *t)
{
	const char *raw = make_disk(t, "raw", 8 * MIB_SECTORS, 0);
	const char *ro = make_disk(t, "ro", MIB_SECTORS, 2);
	const char *base = make_disk(t, "base", 2 * MIB_SECTORS, 3);
	const char *tiny = make_disk(t, "tiny", 1, 4);
	const struct vm_request req = {
	    .disk = {text(t, "%s,id=scratch", raw), text(t, "%s,ro", ro),
		     text(t, "%s,overlay", base), text(t, "%s,format=raw", tiny)},
	    .checks = "blk=/dev/vda,8388608,rw,scratch blkzero=/dev/vda blkrw=/dev/vda,5 "
		      "blk=/dev/vdb,1048576,ro,disk1 blkcheck=/dev/vdb,2,0,2048 blkro=/dev/vdb "
		      "blk=/dev/vdc,2097152,rw,disk2 blkcheck=/dev/vdc,3,0,4096 "
		      "blkzero=/dev/vdc blkrw=/dev/vdc,6 blk=/dev/vdd,512,rw,disk3 "
		      "blkcheck=/dev/vdd,4,0,1",
	    .limit_s = 60,
	};

	vm_run(t, &req, 0);
	want_pattern(t, raw, 5, 0, 8 * MIB_SECTORS);
	want_pattern(t, ro, 2, 0, MIB_SECTORS);
	want_pattern(t, base, 3, 0, 2 * MIB_SECTORS);
	want_pattern(t, tiny, 4, 0, 1);
}

void case_disk_eight(struct test *t)
{
	struct vm_request req = {0};
	char checks[512] = "";

	for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
		char name[16];
		size_t at = strlen(checks);

		snprintf(name, sizeof(name), "disk%u", i);
		req.disk[i] = make_disk(t, name, 64 + i, 10 + i);
		snprintf(checks + at, sizeof(checks) - at, "blk=/dev/vd%c,%u,rw,%s ", 'a' + i,
			 (64 + i) * 512, name);
		at = strlen(checks);
		snprintf(checks + at, sizeof(checks) - at, "blkcheck=/dev/vd%c,%u,0,%u ", 'a' + i,
			 10 + i, 64 + i);
	}
	req.checks = checks;
	vm_run(t, &req, 0);
}

/* --- ext4 --- */

static int copy_file(const char *from, const char *to)
{
	char buf[65536], zero[sizeof(buf)] = {0};
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	size_t n;
	int rc = in && out ? 0 : -errno;

	while (!rc && (n = fread(buf, 1, sizeof(buf), in)) > 0) {
		if (memcmp(buf, zero, n) == 0)
			rc = fseek(out, (long)n, SEEK_CUR) ? -errno : 0; /* stays sparse */
		else if (fwrite(buf, 1, n, out) != n)
			rc = -EIO;
	}
	if (!rc && (fflush(out) || ftruncate(fileno(out), ftell(out))))
		rc = -errno;
	if (in)
		fclose(in);
	if (out && fclose(out) && !rc)
		rc = -errno;
	return rc;
}

/* A copy of the root image that may be written. */
static const char *copy_root(struct test *t)
{
	const char *path = scratch_path(t, "root.img");
	int rc = copy_file(t->opt->root, path);

	if (rc)
		wrong(t, "%s: %s", path, strerror(-rc));
	return path;
}

/* Unmounted in good order: the superblock says so, and no journal is left to be replayed. */
static void want_clean_ext4(struct test *t, const char *path)
{
	unsigned char sb[1024] = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool good = fd >= 0 && pread(fd, sb, sizeof(sb), 1024) == (ssize_t)sizeof(sb);
	unsigned magic = sb[0x38] | sb[0x39] << 8;
	unsigned state = sb[0x3a] | sb[0x3b] << 8;
	unsigned incompat = sb[0x60];

	if (fd >= 0)
		close(fd);
	if (!good || magic != 0xef53)
		wrong(t, "%s is no ext4 file system afterwards", path);
	else if (state != 1 || (incompat & 4))
		wrong(t, "%s was not unmounted: state %u, incompatible features %#x", path, state,
		      incompat);
}

void case_disk_ext4(struct test *t)
{
	const char *copy = copy_root(t);
	const struct vm_request req = {.disk = {copy}, .checks = "mount=/dev/vda,/mnt"};

	vm_run(t, &req, 0);
	want_clean_ext4(t, copy);
}

/* Here because it needs the same tools: an orderly shutdown leaves the root file system clean. */
void case_sigterm_root(struct test *t)
{
	const char *copy = copy_root(t);
	const struct vm_request req = {.root = copy, .checks = "term=7", .no_done = true};
	const struct vm_request again = {
	    .root = copy, .words = "minivm.sh=\"cat /var/tmp/mark\"", .args = {"--cpus", "2"}};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "waiting"))
		vm_signal(&vm, SIGTERM);
	vm_expect(&vm, "terminated");
	vm_finish(&vm, 7);
	vm_free(&vm);
	want_clean_ext4(t, copy);
	vm_start(t, &vm, &again);
	vm_expect(&vm, "mark");
	vm_finish(&vm, 0);
	vm_free(&vm);
}

/* --- layers, and what is there after a crash --- */

static void want_no_change(struct test *t, const char *path, const struct stat *before)
{
	struct stat now;

	if (stat(path, &now) || now.st_size != before->st_size ||
	    now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
		wrong(t, "%s was changed", path);
}

void case_overlay_kept(struct test *t)
{
	const char *base = make_disk(t, "base", 4 * MIB_SECTORS, 1);
	const char *layer = scratch_path(t, "layer");
	const char *disk = text(t, "%s,overlay=%s", base, layer);
	const struct vm_request first = {
	    .disk = {disk},
	    .checks = "blkcheck=/dev/vda,1,0,8192 blkfill=/dev/vda,2,1001,3000",
	};
	const struct vm_request second = {
	    .disk = {disk},
	    .checks = "blkcheck=/dev/vda,1,0,1001 blkcheck=/dev/vda,2,1001,3000 "
		      "blkcheck=/dev/vda,1,4001,4191",
	};
	struct stat before, st;

	stat(base, &before);
	vm_run(t, &first, 0);
	if (stat(layer, &st) || st.st_size == 0)
		wrong(t, "there is no layer after the first boot");
	vm_run(t, &second, 0);
	want_no_change(t, base, &before);
	want_pattern(t, base, 1, 0, 4 * MIB_SECTORS);
}

void case_overlay_killed(struct test *t)
{
	const char *base = make_disk(t, "base", 4 * MIB_SECTORS, 1);
	const char *disk = text(t, "%s,overlay=%s", base, scratch_path(t, "layer"));
	const struct vm_request first = {
	    .disk = {disk}, .checks = "blkfill=/dev/vda,2,100,2000 wait", .no_done = true};
	const struct vm_request second = {
	    .disk = {disk},
	    .checks = "blkcheck=/dev/vda,1,0,100 blkcheck=/dev/vda,2,100,2000 "
		      "blkcheck=/dev/vda,1,2100,6092",
	};
	struct vm vm;

	vm_start(t, &vm, &first);
	vm_expect(&vm, "waiting");
	vm_kill(&vm, SIGKILL);
	vm_free(&vm);
	vm_run(t, &second, 0);
	want_pattern(t, base, 1, 0, 4 * MIB_SECTORS);
}

void case_disk_killed(struct test *t)
{
	const char *disk = make_disk(t, "disk", 4 * MIB_SECTORS, 0);
	const struct vm_request req = {
	    .disk = {disk}, .checks = "blkfill=/dev/vda,2,0,4096 wait", .no_done = true};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_expect(&vm, "waiting");
	vm_kill(&vm, SIGKILL);
	vm_free(&vm);
	want_pattern(t, disk, 2, 0, 4096);
}

void case_shared_base(struct test *t)
{
	const char *base = make_disk(t, "base", 4 * MIB_SECTORS, 1);
	const char *disk = text(t, "%s,overlay", base);
	const struct vm_request req[2] = {
	    {.disk = {disk},
	     .checks = "blkfill=/dev/vda,2,0,4000 wait",
	     .no_done = true,
	     .limit_s = 60},
	    {.disk = {disk},
	     .checks = "blkfill=/dev/vda,3,100,4000 blkcheck=/dev/vda,1,0,100 "
		       "blkcheck=/dev/vda,3,100,4000 wait",
	     .no_done = true,
	     .limit_s = 60},
	};
	struct stat before;
	struct vm vm[2];

	stat(base, &before);
	vm_start(t, &vm[0], &req[0]);
	vm_start(t, &vm[1], &req[1]);
	vm_expect(&vm[0], "waiting");
	vm_expect(&vm[1], "waiting");
	for (unsigned i = 0; i < 2; i++) {
		vm_signal(&vm[i], SIGTERM);
		vm_finish(&vm[i], 128 + SIGTERM);
		vm_free(&vm[i]);
	}
	want_no_change(t, base, &before);
	want_pattern(t, base, 1, 0, 4 * MIB_SECTORS);
}

/* --- locks --- */

/* minivm must refuse to start: 125 and one line that names the file. */
static void want_refused(struct test *t, const char *disk, const char *file)
{
	const struct vm_request req = {.disk = {disk}, .noisy = true};
	struct vm vm;
	const char *line;

	vm_start(t, &vm, &req);
	vm_finish_refused(&vm);
	line = proc_complaints(&vm.p);
	if (!strstr(line, file) || !strstr(line, "another process") ||
	    strchr(line, '\n') != line + strlen(line) - 1)
		wrong(t, "%s is locked, but it says: %s", disk, line);
	vm_free(&vm);
}

void case_locks(struct test *t)
{
	const char *raw = make_disk(t, "raw", MIB_SECTORS, 1);
	const char *ro = make_disk(t, "ro", MIB_SECTORS, 1);
	const char *base = make_disk(t, "base", MIB_SECTORS, 1);
	const char *layer = scratch_path(t, "layer");
	const struct vm_request req = {
	    .disk = {raw, text(t, "%s,ro", ro), text(t, "%s,overlay=%s", base, layer)},
	    .checks = "wait",
	    .no_done = true,
	};
	const struct vm_request sharing = {
	    .disk = {text(t, "%s,ro", ro), text(t, "%s,overlay", base)},
	    .checks = "blkcheck=/dev/vda,1,0,2048 blkcheck=/dev/vdb,1,0,2048",
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	if (vm_expect(&vm, "waiting")) {
		want_refused(t, raw, raw);
		want_refused(t, text(t, "%s,ro", raw), raw);
		want_refused(t, text(t, "%s,overlay", raw), raw);
		want_refused(t, ro, ro);
		want_refused(t, base, base);
		want_refused(t, text(t, "%s,overlay=%s", base, layer), layer);
		vm_run(t, &sharing, 0);
	}
	vm_signal(&vm, SIGTERM);
	vm_finish(&vm, 128 + SIGTERM);
	vm_free(&vm);
}

/* --- no room on the host --- */

/* In the child: a small file system of its own, with a disk that is larger than it. */
static int mount_small(void *opaque)
{
	const char *dir = opaque;
	char disk[256];

	snprintf(disk, sizeof(disk), "%s/disk", dir);
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("tmpfs", dir, "tmpfs", 0, "size=4m") || disk_create(disk, 16u << 20);
}

static void want_disk_error_line(struct test *t, const struct vm *vm)
{
	if (!strstr(vm->p.err.data, "disk"))
		wrong(t, "nothing in its log about the disk: %s", vm->p.err.data);
	if (vm_number(vm, "disks.0.errors") < 1)
		wrong(t, "its statistics know of no disk error");
}

void case_host_full(struct test *t)
{
	const char *dir = scratch_path(t, "small");
	const struct vm_request req = {
	    .disk = {text(t, "%s/disk", dir)},
	    .checks = "blkfull=/dev/vda uart",
	    .prepare = mount_small,
	    .opaque = (void *)(uintptr_t)dir,
	    .noisy = true,
	    .disk_errors = true,
	};
	struct vm vm;

	if (geteuid() != 0) {
		t->skip = "needs root to mount a small file system";
		return;
	}
	mkdir(dir, 0700);
	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	want_disk_error_line(t, &vm);
	vm_free(&vm);
	rmdir(dir);
}

/* In the child: `ulimit -f`. */
static int limit_files(void *opaque)
{
	const struct rlimit limit = {4u << 20, 4u << 20};

	(void)opaque;
	return setrlimit(RLIMIT_FSIZE, &limit);
}

void case_file_limit(struct test *t)
{
	const struct vm_request req = {
	    .disk = {make_disk(t, "disk", 16 * MIB_SECTORS, 0)},
	    .checks = "blkfull=/dev/vda uart",
	    .prepare = limit_files,
	    .noisy = true,
	    .disk_errors = true,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	want_disk_error_line(t, &vm);
	vm_free(&vm);
}
