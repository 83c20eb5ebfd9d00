/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Case: a machine with one of every device is saved while all of them are in use, ends, and goes on
 * from what was saved, in its own place: same tap, same sockets but for vsock's, whose CID moves.
 * Each device is checked in the guest before and after.
 */
#include "suite_net.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vsock_peer.h"

#define SEED	     7
#define DISK_SECTORS 2048u
#define LIMIT_MS     60000
#define BALLOON	     "inflated=16,131072"

struct places {
	const char *disk, *port, *here, *there, *snapshot, *name;
};

/* A line to the guest's port comes back. */
static void talk(struct test *t, struct proc *p, const char *path)
{
	static const char line[] = "through the port\n";
	int fd;

	if (!proc_expect(p, "port: waiting", LIMIT_MS * t->opt->slow))
		wrong(t, "the guest does not come to its port: %s%s", p->out.data, p->err.data);
	fd = connect_to(t, path);
	if (write(fd, line, sizeof(line) - 1) != sizeof(line) - 1)
		wrong(t, "%s takes nothing", path);
	want_reply(t, fd, line);
	close(fd);
}

static void save(struct test *t, const struct places *at)
{
	const char *argv[] = {t->opt->minivm, "snapshot", at->name, at->snapshot, NULL};
	const struct proc_request req = {.argv = argv};
	struct proc p;
	int status = -1;

	if (proc_start(&p, &req)) {
		wrong(t, "cannot start %s", argv[0]);
		return;
	}
	if (!proc_wait(&p, LIMIT_MS * t->opt->slow, &status) || status != 0)
		wrong(t, "`minivm snapshot`: status %d: %s", status, p.err.data);
	proc_free(&p);
}

static void check_source(struct test *t, const struct places *at)
{
	const char *net =
	    text(t, "net=" NET_GUEST "," NET_TAP_ADDRESS ",%llu", (unsigned long long)net_bytes(t));
	const char *groups = text(t, "cpus=2 hwrng " BALLOON " %s port=talk", net);
	const struct vm_request req = {
	    .cpus = 2,
	    .memory = "128M",
	    .disk = {text(t, "%s,overlay", at->disk)},
	    .checks = text(t, "%s busy=/dev/vda vsockmove=5,6 busycheck clock %s", groups, groups),
	    .args = {"--name", at->name, "--rng=on", "--balloon", "16M", "--net", "tap=" NET_TAP,
		     "--vsock", text(t, "cid=5,uds=%s", at->here), "--port",
		     text(t, "talk=unix:%s", at->port)},
	    .no_done = true,
	    .limit_s = 60,
	};
	struct vm vm;

	vm_start(t, &vm, &req);
	talk(t, &vm.p, at->port);
	if (vm_expect(&vm, "vsock: connected"))
		save(t, at);
	vm_kill(&vm, SIGKILL);
	vm_free(&vm);
}

/* What the guest says of itself are results of the case. */
static void count_checks(struct test *t, const char *out)
{
	unsigned n = 0;

	for (const char *p = out; p && *p; p = strchr(p, '\n'), p += p != NULL) {
		int len = (int)strcspn(p, "\r\n");

		if (!strncmp(p, "ok - ", 5) && ++n)
			tap_ok(t->tap, "%s, restored: %.*s", t->name, len - 5, p + 5);
		else if (!strncmp(p, "not ok - ", 9))
			wrong(t, "restored: %.*s", len - 9, p + 9);
	}
	if (n < 10)
		wrong(t, "the restored machine checked %u things only", n);
}

static void check_restored(struct test *t, const struct places *at)
{
	const char *argv[] = {t->opt->minivm,
			      "restore",
			      at->snapshot,
			      "--vsock",
			      text(t, "cid=6,uds=%s", at->there),
			      NULL};
	const struct proc_request req = {.argv = argv};
	struct proc p;

	if (proc_start(&p, &req)) {
		wrong(t, "cannot start %s", argv[0]);
		return;
	}
	talk(t, &p, at->port);
	if (!proc_expect(&p, "done ", LIMIT_MS * t->opt->slow))
		wrong(t, "the restored machine does not come to its end: %s%s", p.out.data,
		      p.err.data);
	count_checks(t, p.out.data);
	if (*t->why) {
		tap_note(p.out.data);
		tap_note(p.err.data);
	}
	proc_free(&p);
}

void case_snapshot_devices(struct test *t)
{
	const struct places at = {
	    .disk = make_disk(t, "busy.img", DISK_SECTORS, SEED),
	    .port = scratch_path(t, "port"),
	    .here = scratch_path(t, "here"),
	    .there = scratch_path(t, "there"),
	    .snapshot = scratch_path(t, "snap"),
	    .name = text(t, "devices-%d", (int)getpid()),
	};
	pid_t peers[] = {vsock_peer_start(at.here), vsock_peer_start(at.there)};
	struct net n;

	setenv("XDG_RUNTIME_DIR", t->dir, 1);
	if (net_enter(&n, t)) {
		check_source(t, &at);
		if (!*t->why)
			check_restored(t, &at);
	}
	net_leave(&n);
	for (unsigned i = 0; i < 2; i++)
		vsock_peer_stop(peers[i]);
}
