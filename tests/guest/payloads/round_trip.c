/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an exit to user space costs the guest, in TSC ticks: port reads of COM1's scratch register
 * and reads of a virtio-mmio device's magic number, from ring 3, where every kind of host runs
 * guest code at full speed. Prints lines "pio TICKS" and "mmio TICKS", a mean over one batch each.
 *
 * Words: exits=N in a batch, batches=N, mmio=ADDRESS.
 */
#include "cpu.h"
#include "rt.h"
#include "x86.h"

#define COM1_SCRATCH 0x3ff
#define VIRTIO_MMIO  0xc0001000 /* minivm's first one */

struct batch {
	uint64_t exits;
	uint64_t mmio;
};

static long port_reads(void *arg)
{
	const struct batch *b = arg;
	uint64_t start = rdtsc();

	for (uint64_t i = 0; i < b->exits; i++)
		(void)in8(COM1_SCRATCH);
	return (long)((rdtsc() - start) / b->exits);
}

static long mmio_reads(void *arg)
{
	const struct batch *b = arg;
	uint64_t start = rdtsc();

	for (uint64_t i = 0; i < b->exits; i++)
		(void)mmio_read32(b->mmio);
	return (long)((rdtsc() - start) / b->exits);
}

int payload_main(void)
{
	struct batch b = {
	    .exits = cmdline_number("exits", 500),
	    .mmio = cmdline_number("mmio", VIRTIO_MMIO),
	};
	uint64_t batches = cmdline_number("batches", 5);

	for (uint64_t i = 0; i < batches; i++) {
		print("pio %ld\n", run_user(port_reads, &b));
		print("mmio %ld\n", run_user(mmio_reads, &b));
	}
	return 0;
}
