/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: a VM by the KVM calls that cannot be left out and nothing else. minivm's start-up and
 * exits are measured against it.
 *
 *	floor KERNEL MIB
 *
 * It makes what every VMM must make before its guest runs: /dev/kvm, the VM with interrupt
 * controllers and PIT, guest memory of the same size and as lazily, the kernel's segments mapped
 * where they belong (an ELF file, not copied, and no cache in between), one vCPU with KVM's CPUID,
 * page tables, GDT and 64-bit registers.
 *
 * It leaves out what a user asks of minivm: options and their checks, the kernel cache and its
 * safety (the file is trusted), machine description, command line and zero page, MSRs, disk, COM1,
 * signals, event loops, threads (KVM_RUN is called by main) and the relocation of a position-
 * independent program. So the ratio of start-ups says what these cost altogether; 1 cannot be had.
 *
 * A bare KVM_RUN loop follows: COM1 output goes to standard output so that payloads can report, a
 * byte written to the exit port is our exit status, every other exit goes straight back in, with
 * its data as it is. The ratio of round trips says what our run loop, bus and device add.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "floor_calls.h"
#include "minivm/boot.h"
#include "minivm/image.h"
#include "minivm/kvm.h"
#include "minivm/memory.h"
#include "minivm/platform.h"

#define COM1		 0x3f8
#define COM1_LINE_STATUS 0x3fd
#define LINE_STATUS_IDLE 0x60 /* transmitter empty */

/* --- memory --- */

static void map_segment(const struct guest_mem *mem, int fd, const struct elf_segment *s)
{
	uint64_t in_page = s->paddr % GUEST_PAGE_SIZE;
	uint8_t *host = guest_mem_slice(mem, GPA(s->paddr), s->memsz);

	if (!host || s->offset % GUEST_PAGE_SIZE != in_page) {
		fprintf(stderr, "floor: this kernel does not fit or cannot be mapped\n");
		exit(125);
	}
	floor_map(host - in_page, s->filesz + in_page, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_FIXED, fd, s->offset - in_page);
	/* The file goes on behind the segment, bss does not. */
	if (s->memsz > s->filesz && (s->paddr + s->filesz) % GUEST_PAGE_SIZE)
		memset(host + s->filesz, 0,
		       GUEST_PAGE_SIZE - (s->paddr + s->filesz) % GUEST_PAGE_SIZE);
}

static uint64_t map_kernel(const struct guest_mem *mem, const char *path)
{
	int fd = (int)floor_check(open(path, O_RDONLY | O_CLOEXEC), path);
	struct elf_image elf;
	struct err err = {0};
	struct stat st;
	struct bytes file;

	floor_check(fstat(fd, &st), path);
	file.len = (size_t)st.st_size;
	file.data = floor_map(NULL, file.len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (elf_parse(file, &elf, &err)) {
		fprintf(stderr, "floor: %s\n", err.text);
		exit(125);
	}
	for (unsigned i = 0; i < elf.count; i++)
		map_segment(mem, fd, &elf.segment[i]);
	return elf.entry;
}

/* --- the vCPU --- */

static void set_registers(int vcpu, const struct guest_mem *mem, uint64_t entry)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct err err = {0};

	floor_call(vcpu, KVM_GET_SREGS, (unsigned long)&sregs, "KVM_GET_SREGS");
	if (boot_regs_long_mode(mem, entry, &regs, &sregs, &err)) {
		fprintf(stderr, "floor: %s\n", err.text);
		exit(125);
	}
	floor_call(vcpu, KVM_SET_SREGS, (unsigned long)&sregs, "KVM_SET_SREGS");
	floor_call(vcpu, KVM_SET_REGS, (unsigned long)&regs, "KVM_SET_REGS");
}

/* --- the loop --- */

static void port(struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	if (run->io.port == COM1_LINE_STATUS)
		*data = LINE_STATUS_IDLE;
	else if (run->io.port == COM1 && run->io.direction == KVM_EXIT_IO_OUT)
		floor_check(write(STDOUT_FILENO, data, 1), "standard output");
	else if (run->io.port == EXIT_PORT)
		exit(*data);
}

static _Noreturn void loop(int vcpu, struct kvm_run *run)
{
	for (;;) {
		floor_call(vcpu, KVM_RUN, 0, "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO) {
			port(run);
		} else if (run->exit_reason != KVM_EXIT_MMIO) {
			fprintf(stderr, "floor: exit reason %u\n", run->exit_reason);
			exit(125);
		}
	}
}

int main(int argc, char *argv[])
{
	uint64_t bytes = argc == 3 ? strtoull(argv[2], NULL, 10) << 20 : 0;
	struct guest_mem mem = {0};
	struct kvm_run *run;
	int kvm, vm, vcpu;
	uint64_t entry;

	if (!bytes) {
		fprintf(stderr, "usage: floor KERNEL MIB\n");
		return 125;
	}
	kvm = (int)floor_check(open(KVM_DEVICE_PATH, O_RDWR | O_CLOEXEC), KVM_DEVICE_PATH);
	floor_add_memory(&mem, bytes, -1);
	entry = map_kernel(&mem, argv[1]);
	vm = floor_make_vm(kvm, &mem);
	vcpu = floor_make_vcpu(kvm, vm, 0, &run);
	floor_call(vcpu, KVM_SET_CPUID2, (unsigned long)floor_supported_cpuid(kvm),
		   "KVM_SET_CPUID2");
	set_registers(vcpu, &mem, entry);
	loop(vcpu, run);
}
