/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine without KVM whose state is saved and restored, for unit tests and the fuzzer: command
 * lines, memory, host, CPUID, and two buses of devices of which one has a running queue. What is
 * read is what vmm/machine_state.c reads, but for the structures that KVM checks itself.
 */
#ifndef TEST_SAVED_MACHINE_H
#define TEST_SAVED_MACHINE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "minivm/bus.h"
#include "minivm/cli.h"
#include "minivm/kvm_state.h"
#include "minivm/platform.h"
#include "minivm/serial.h"
#include "minivm/snapshot.h"
#include "minivm/virtio_blk.h"
#include "minivm/virtio_mmio.h"

#define SAVED_MEMORY (1u << 20)
#define SAVED_DISK   65536u

struct saved_machine {
	struct guest_mem mem;
	struct loop *loop;
	struct log log;
	struct bus pio, mmio;
	struct serial *serial;
	void *rtc;
	struct block disk;
	struct virtio_mmio *blk;
	struct cli_result cli;
};

static int saved_disk_io(struct block *b, const struct iovec *iov, unsigned n, uint64_t off)
{
	(void)b;
	(void)iov;
	(void)n;
	(void)off;
	return 0;
}

static int saved_disk_flush(struct block *b)
{
	(void)b;
	return 0;
}

static void saved_disk_close(struct block *b)
{
	(void)b;
}

static void saved_nothing(void *opaque)
{
	(void)opaque;
}

static inline int saved_machine_disk(struct saved_machine *m, struct err *err)
{
	static const struct block_ops ops = {.name = "none",
					     .readv = saved_disk_io,
					     .writev = saved_disk_io,
					     .flush = saved_disk_flush,
					     .close = saved_disk_close};
	const struct virtio_blk_options opt = {.backend = &m->disk, .id = "root", .log = &m->log};
	const struct virtio_env env = {.mem = &m->mem, .loop = m->loop, .log = &m->log};
	const struct irq_line none = {.fd = -1};
	struct virtio_blk *blk;
	struct virtio *virtio;

	m->disk = (struct block){.ops = &ops, .size = SAVED_DISK};
	if (virtio_blk_new(&opt, &blk, err) || virtio_new(&virtio_blk_ops, blk, &env, &virtio, err))
		return err->code;
	return virtio_mmio_new(virtio, &none, &m->blk, err);
}

static inline int saved_machine_new(struct saved_machine *m, struct err *err)
{
	const struct serial_host host = {saved_nothing, saved_nothing, NULL};
	const struct irq_line none = {.fd = -1};
	static char program[] = "minivm", restore[] = "restore", dir[] = "dir";
	char *argv[] = {program, restore, dir, NULL};

	memset(m, 0, sizeof(*m));
	m->log = (struct log){.fd = -1, .level = LOG_LEVEL_ERROR};
	bus_init(&m->pio, "port I/O");
	bus_init(&m->mmio, "MMIO");
	if (guest_mem_map(&m->mem, SAVED_MEMORY, err) || loop_new(&m->loop, err) ||
	    serial_new(&none, &host, 64, &m->serial, err) || rtc_new(&m->rtc, err) ||
	    saved_machine_disk(m, err) || cli_parse(3, argv, &m->cli, err))
		return err->code;
	bus_add(&m->pio, RTC_PORT, RTC_LEN, &rtc_io_ops, m->rtc, err);
	bus_add(&m->pio, COM1_PORT, COM1_LEN, &serial_io_ops, m->serial, err);
	return bus_add(&m->mmio, 0xc0001000, VIRTIO_MMIO_LEN, &virtio_mmio_io_ops, m->blk, err);
}

static inline void saved_machine_free(struct saved_machine *m)
{
	virtio_mmio_io_ops.destroy(m->blk);
	serial_destroy(m->serial);
	rtc_io_ops.destroy(m->rtc);
	loop_free(m->loop);
	guest_mem_unmap(&m->mem);
	cli_result_free(&m->cli);
}

/* The driver's steps to a running queue (VIRTIO 1.2 §3.1.1). */
static inline void saved_machine_drive(struct saved_machine *m)
{
	static const struct {
		uint32_t off, value;
	} steps[] = {{0x70, 1},	     {0x70, 3},	 {0x24, 1},	 {0x20, 1},
		     {0x70, 11},     {0x38, 16}, {0x80, 0x1000}, {0x90, 0x2000},
		     {0xa0, 0x3000}, {0x44, 1},	 {0x70, 15}};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		virtio_mmio_io_ops.write(m->blk, steps[i].off, 4, steps[i].value);
	serial_io_ops.write(m->serial, 2, 1, 1);
	serial_io_ops.write(m->serial, 4, 1, 0x0b);
	serial_io_ops.write(m->serial, 0, 1, 'x');
	serial_rx_push(m->serial, "abc", 3);
}

static const struct kvm_host saved_host = {.tsc_khz = 2000000};

static inline const struct kvm_cpuid2 *saved_cpuid(void)
{
	/* struct kvm_cpuid2 ends in an array without a length: this gives it one. */
	static union {
		struct kvm_cpuid2 cpuid;
		uint8_t bytes[sizeof(struct kvm_cpuid2) + 3 * sizeof(struct kvm_cpuid_entry2)];
	} c;
	struct kvm_cpuid_entry2 *e = c.cpuid.entries;

	c.cpuid.nent = 3;
	e[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 7, .ebx = 1};
	e[1] = (struct kvm_cpuid_entry2){.function = 1, .ecx = 0xff, .edx = 0xff};
	e[2] = (struct kvm_cpuid_entry2){.function = 7, .ebx = 0xff};
	return &c.cpuid;
}

static inline int saved_machine_save(struct saved_machine *m, struct state_writer *w,
				     struct err *err)
{
	static const uint8_t digest[STATE_DIGEST_LEN];
	static char program[] = "minivm", kernel[] = "--kernel=/k", disk[] = "--disk=/d,ro,id=root";
	char *argv[] = {program, kernel, disk, NULL};
	struct cli_result cli;
	int ret = cli_parse(3, argv, &cli, err);

	if (ret)
		return ret;
	state_writer_init(w);
	ret = cli_layers_save(&cli, w, err);
	cli_result_free(&cli);
	state_begin(w, STATE_ID('M', 'E', 'M', ' '), 1);
	state_put_u64(w, SAVED_MEMORY);
	state_put_bytes(w, digest, sizeof(digest));
	state_end(w);
	kvm_host_save(&saved_host, w);
	kvm_cpuid_save(saved_cpuid(), w);
	if (!ret)
		ret = bus_save(&m->pio, w, err);
	if (!ret)
		ret = bus_save(&m->mmio, w, err);
	return ret ? ret : state_seal(w, err);
}

/* Into a machine that was just made. */
static inline int saved_machine_restore(struct saved_machine *m, const void *data, size_t len,
					struct err *err)
{
	struct snapshot s = {.memory_fd = -1};
	struct snapshot_memory memory;
	struct kvm_cpuid2 *cpuid = NULL;
	int ret = state_open(data, len, &s.reader, err);

	if (!ret)
		ret = cli_layers_restore(&m->cli, &s.reader, err);
	if (!ret)
		ret = snapshot_read_memory_section(&s, &memory, err);
	if (!ret)
		ret = kvm_host_check(&saved_host, &s.reader, err);
	if (!ret)
		ret = kvm_cpuid_restore(saved_cpuid(), &s.reader, &cpuid, err);
	free(cpuid);
	if (!ret)
		ret = bus_restore(&m->pio, &s.reader, err);
	if (!ret)
		ret = bus_restore(&m->mmio, &s.reader, err);
	if (!ret && state_left(&s.reader) > 0)
		ret = state_bad(err, "bytes left over");
	return ret;
}

/* Lives on for a moment: a kick that was restored, registers read. */
static inline void saved_machine_use(struct saved_machine *m)
{
	virtio_mmio_io_ops.write(m->blk, 0x50, 4, 0);
	virtio_mmio_io_ops.read(m->blk, 0x70, 4);
	virtio_mmio_io_ops.read(m->blk, 0x44, 4);
	for (unsigned i = 0; i < 8; i++)
		serial_io_ops.read(m->serial, i, 1);
	serial_io_ops.write(m->serial, 0, 1, 'y');
	loop_quit(m->loop);
	loop_run(m->loop);
}

#endif
