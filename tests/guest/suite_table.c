/* SPDX-License-Identifier: Apache-2.0 */
/* What is run, one entry a run. Statuses are those of docs/minivm.1. */
#include "suite.h"

#include <stddef.h>

#include "disks.h"
#include "minivm/end.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define MAIN_DISK                                                                                  \
	{                                                                                          \
		MAIN_SECTORS, MAIN_SEED, ",id=" DISK_ID, MAIN_WRITTEN, WRITTEN_COUNT,              \
		    WRITTEN_SEED, MAIN_SCRATCH                                                     \
	}
/* Only the scratch area may have changed. */
#define HOSTILE_DISK                                                                               \
	{                                                                                          \
		MAIN_SECTORS, MAIN_SEED, "", 0, 0, 0, MAIN_SCRATCH                                 \
	}
#define RO_DISK                                                                                    \
	{                                                                                          \
		RO_SECTORS, RO_SEED, ",ro", 0, 0, 0, RO_SECTORS                                    \
	}
#define OVERLAY_DISK                                                                               \
	{                                                                                          \
		OVERLAY_SECTORS, OVERLAY_SEED, ",overlay", 0, 0, 0, OVERLAY_SECTORS                \
	}

/* The payload says when it is ready to receive. */
static const struct run_step serial_steps[] = {
    {"# serial: send me a line\n", "hello, guest\n", 0},
    {"# serial: send me many\n",
     "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+0123456789abcdefghijklmn\n",
     0},
};

static const struct run_step vconsole_steps[] = {
    {"# vconsole: send me a line\n", "hello, hvc\n", 0},
};

const struct suite_case suite_cases[] = {
    {.name = "exit-0", .payload = "exit", .words = "status=0", .no_done = true, .limit_s = 10},
    {.name = "exit-1",
     .payload = "exit",
     .words = "status=1",
     .status = 1,
     .no_done = true,
     .limit_s = 10},
    {.name = "exit-255",
     .payload = "exit",
     .words = "status=255",
     .status = 255,
     .no_done = true,
     .limit_s = 10},
    {.name = "no-driver",
     .payload = "exit",
     .words = "status=0",
     .args = {"--rng", "on"},
     .no_done = true,
     .says = "minivm: warning: virtio-rng was never started by a driver in the guest; a Linux "
	     "kernel needs CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES and CONFIG_HW_RANDOM_VIRTIO, built",
     .limit_s = 10},
    {.name = "one-driver",
     .payload = "blk_hostile",
     .words = "case=loops",
     .disk = {HOSTILE_DISK},
     .args = {"--rng", "on"},
     .says = "minivm: warning: virtio-rng was never started by a driver in the guest; a Linux "
	     "kernel needs CONFIG_HW_RANDOM_VIRTIO, built",
     .limit_s = 30},
    {.name = "reset", .status = VM_STATUS_REBOOT, .limit_s = 10},
    {.name = "panic", .status = VM_STATUS_PANIC, .limit_s = 10},
    {.name = "triple", .status = VM_STATUS_TRIPLE_FAULT, .limit_s = 10},
    {.name = "ring3", .limit_s = 30},
    {.name = "bus", .limit_s = 20},
    {.name = "memory-16M",
     .payload = "memory",
     .words = "memory=16777216",
     .disk = {HOSTILE_DISK},
     .limit_s = 10},
    {.name = "memory-hole",
     .payload = "memory",
     .words = "memory=3221225472",
     .memory = "3G",
     .disk = {HOSTILE_DISK},
     .limit_s = 10},
    {.name = "memory-5G",
     .payload = "memory",
     .words = "memory=5368709120",
     .memory = "5G",
     .disk = {HOSTILE_DISK},
     .limit_s = 10},
    {.name = "pvh", .words = "memory=16777216", .args = {"--entry", "pvh"}, .limit_s = 10},
    {.name = "pvh-5G",
     .payload = "memory",
     .words = "memory=5368709120",
     .memory = "5G",
     .args = {"--entry", "pvh"},
     .disk = {HOSTILE_DISK},
     .limit_s = 10},
    {.name = "pvh-smp",
     .payload = "smp",
     .words = "cpus=2",
     .cpus = 2,
     .args = {"--entry", "pvh"},
     .limit_s = 20},
    {.name = "rtc", .limit_s = 20},
    {.name = "serial", .steps = serial_steps, .step_count = COUNT(serial_steps), .limit_s = 20},
    {.name = "serial-quiet",
     .payload = "serial",
     .words = "no_input",
     .args = {"--console", "none"},
     .no_done = true,
     .limit_s = 20},
    {.name = "vconsole",
     .args = {"--console", "virtio"},
     .ports = true,
     .steps = vconsole_steps,
     .step_count = COUNT(vconsole_steps),
     .lines = {"order: one two three four"},
     .err_once = "port full: /dev/full: write: No space left on device",
     .limit_s = 60},
    /* 64 KiB each way: at least 100 times fewer exits, all that the payload needs besides included.
     */
    {.name = "vconsole-exits-uart",
     .payload = "vconsole",
     .words = "via=uart",
     .args = {"--console", "serial"},
     .exits_min = 65536,
     .limit_s = 60},
    {.name = "vconsole-exits-hvc",
     .payload = "vconsole",
     .words = "via=hvc",
     .args = {"--console", "virtio"},
     .exits_max = 65536 / 100,
     .limit_s = 60},
    {.name = "timer", .limit_s = 20},
    {.name = "restored", .restored = true, .limit_s = 40},
    {.name = "smp-1", .payload = "smp", .words = "cpus=1", .limit_s = 60},
    {.name = "smp-2", .payload = "smp", .words = "cpus=2", .cpus = 2, .limit_s = 60},
    {.name = "smp-8", .payload = "smp", .words = "cpus=8", .cpus = 8, .limit_s = 60},
    {.name = "smp-32", .payload = "smp", .words = "cpus=32", .cpus = 32, .limit_s = 60},
    {.name = "virtio_mmio", .disk = {HOSTILE_DISK}, .limit_s = 30},
    {.name = "blk",
     .cpus = 2,
     .words = "cpus=2",
     .disk = {MAIN_DISK, RO_DISK, OVERLAY_DISK},
     .limit_s = 90},
    {.name = "blk_error", .disk = {HOSTILE_DISK, RO_DISK}, .limit_s = 60},
    {.name = "blk_hostile",
     .cpus = 2,
     .words = "cpus=2",
     .disk = {HOSTILE_DISK, RO_DISK},
     .limit_s = 90},
    {.name = "blk_stress",
     .cpus = 2,
     .words = "cpus=2 times",
     .disk = {HOSTILE_DISK},
     .limit_s = 150},
    {.name = "rng", .args = {"--rng", "on"}, .limit_s = 30},
    {.name = "rng-rate",
     .payload = "rng",
     .words = "rate=1048576",
     .args = {"--rng", "rate=1M"},
     .limit_s = 60},
    {.name = "net-tap", .payload = "net", .net = SUITE_NET_TAP, .limit_s = 120},
    {.name = "net-tap-256",
     .payload = "net",
     .words = "mib=256",
     .net = SUITE_NET_TAP,
     .limit_s = 120},
    {.name = "net-fd",
     .payload = "net",
     .words = "case=echo_sizes",
     .net = SUITE_NET_FD,
     .limit_s = 60},
    {.name = "net-passt",
     .payload = "net",
     .words = "stream",
     .net = SUITE_NET_PASST,
     .limit_s = 120},
    {.name = "net-passt-256",
     .payload = "net",
     .words = "stream mib=256",
     .net = SUITE_NET_PASST,
     .limit_s = 120},
    {.name = "vsock", .vsock = true, .limit_s = 180},
    {.name = "vsock-credit",
     .payload = "vsock",
     .words = "case=more_than_its_credit",
     .vsock = true,
     .err_once = "vsock:",
     .limit_s = 30},
    {.name = "syscall", .cpus = 2, .words = "cpus=2", .limit_s = 20},
    {.name = "syscall-assist-on",
     .payload = "syscall",
     .cpus = 2,
     .words = "cpus=2",
     .args = {"--assist", "on"},
     .limit_s = 20},
    {.name = "syscall-repair",
     .payload = "syscall",
     .cpus = 2,
     .words = "cpus=2",
     .args = {"--assist", "on"},
     .limit_s = 20,
     .host = HOST_BREAKPOINTS},
    {.name = "syscall-assist-off",
     .payload = "syscall",
     .cpus = 2,
     .words = "cpus=2",
     .args = {"--assist", "off"},
     .limit_s = 20,
     .host = HOST_ORDINARY},
};

const unsigned suite_case_count = COUNT(suite_cases);
