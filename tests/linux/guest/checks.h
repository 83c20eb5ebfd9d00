/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that checks a machine from inside: one process, many checks, so that a boot is well
 * used. Its arguments name groups of checks, main.c has their table; each check prints one line
 * "ok - NAME" or "not ok - NAME: why".
 */
#ifndef CHECKS_H
#define CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checks {
	unsigned passed;
	unsigned failed;
	unsigned slow; /* the machine is this many times slower than an ordinary one */
};

/* One result line; `fmt` says what was seen when it is not good. Returns `good`. */
bool check(struct checks *c, bool good, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Any other line, in one write so that it stays whole. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The file's contents as text, cut to size; "" if it cannot be read. False then. */
bool read_text(const char *path, char *buf, size_t size);
/* The number in a file, or `none`. */
uint64_t read_number(const char *path, uint64_t none);
uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/*
 * Cuts the next comma-separated field off *arg, in place; "" when there is none. The number: 0 when
 * there is none.
 */
char *next_field(char **arg);
uint64_t next_number(char **arg);

/* All that was said has left the UART: the kernel may end on the spot. */
void drain(void);

/* --- groups: `arg` is what stands behind the "=" ("" if nothing does), theirs to change --- */
typedef void group_fn(struct checks *c, char *arg);

/* machine.c */
group_fn group_cpus;	/* N: that many are online, each runs code */
group_fn group_memory;	/* MIB: the memory that was declared is there and usable */
group_fn group_cpuinfo; /* N: flags and topology in /proc/cpuinfo */
group_fn group_uart;	/* ttyS0 is an interrupt-driven 16550A */
group_fn group_time;	/* prints "time: SECONDS up SECONDS": wall time and uptime */
group_fn group_clock;	/* clock source, ticks, sleeping, a monotonic clock */

/* rng.c */
group_fn group_hwrng; /* /dev/hwrng is virtio_rng and gives bytes */

/* vsock.c */
group_fn group_vsock; /* CID,BYTES: sockets to and from the services of vsock_peer.c */
group_fn
    group_vsockmove; /* OLD,NEW: its CID before and after a restore, which breaks a connection */

/* net.c */
group_fn group_net;	 /* dhcp|ADDRESS,SERVER,BYTES[,MTU]: a fetch and a post */
group_fn group_netserve; /* BYTES: serves them once; prints "net: serving" */
group_fn group_netdown;	 /* prints "net: pull it", and waits for the link to go down */

/* balloon.c */
group_fn group_balloon;	 /* MIB: uses and frees memory; says when, and waits for a line */
group_fn group_squeeze;	 /* MIB: of a guest full of /dev/vda's cache so much goes and comes back */
group_fn group_inflated; /* MIB,KIB: of a machine of KIB so much is in the balloon */

/* describe.c */
group_fn
    group_describe;    /* acpi|mptable|fdt,DISKS: what the kernel was told, and each device once */
group_fn group_unbind; /* DRIVER,DEVICE: takes the device away from its driver */
group_fn group_poweroff; /* power-off by system call, without init */
group_fn group_button;	 /* as PID 1: waits for the power button, then powers off */

/* process.c */
group_fn group_forks;	 /* N processes by fork and exec */
group_fn group_syscalls; /* N system calls, registers kept */
group_fn group_fpu;	 /* N rounds: vector and x87 state is kept apart between processes */
group_fn group_signals;	 /* faults and timers arrive as signals, with the right details */
group_fn group_pages;	 /* demand paging, copy on write, protection */

/* disk.c */
group_fn group_blk;	 /* DEV,BYTES,rw|ro,SERIAL: what the device says of itself */
group_fn group_blkrw;	 /* DEV,SEED: writes pattern.h's pattern all over it, reads it back */
group_fn group_blkcheck; /* DEV,SEED,SECTOR,COUNT: the pattern is there */
group_fn group_blkfill;	 /* DEV,SEED,SECTOR,COUNT: writes the pattern, fsync */
group_fn group_blkzero;	 /* DEV: zeroes, discard, the cache off and on; 2 MiB are lost */
group_fn group_blkro;	 /* DEV: refuses writes */
group_fn group_blkfull;	 /* DEV: the host's file system is full: EIO, and reads go on */
group_fn group_files;	 /* DIR: a file written, synced, read back */
group_fn group_mount;	 /* DEV,DIR: ext4 */

/* ping.c */
group_fn group_ping; /* DEV: answers "ping WORD" and more while the disk is busy; "stop", "off" */
group_fn group_busy; /* DEV: keeps it busy, and a timer ticking, up to */
group_fn group_busycheck; /* both have gone on, and no write was lost */

/* console.c */
group_fn group_echo;  /* N: reads lines, prints "echo: LINE" */
group_fn group_sum;   /* BYTES: reads so much, prints "sum: HASH" */
group_fn group_lines; /* N: prints numbered lines with content */
group_fn group_flood; /* prints for ever */
group_fn group_port;  /* NAME: sends back the line that comes through that port */

/* ends.c */
group_fn group_print;	/* TEXT */
group_fn group_exit;	/* STATUS: at once, whatever the checks said */
group_fn group_die;	/* SIGNAL */
group_fn group_sysrq;	/* LETTER */
group_fn group_reboot;	/* restart by system call, without init */
group_fn group_pid1;	/* SIGNAL for init */
group_fn group_wait;	/* until a signal comes */
group_fn group_term;	/* STATUS: waits for SIGTERM, writes a file, exits with it */
group_fn group_hang;	/* takes no notice of any signal */
group_fn group_cmdline; /* WORD: stands on the kernel's command line */

#endif
