/* SPDX-License-Identifier: Apache-2.0 */
/* What the floors of a start and of a restore have in common. Any failure ends the program: 125. */
#ifndef BENCH_FLOOR_CALLS_H
#define BENCH_FLOOR_CALLS_H

#include <linux/kvm.h>
#include <stdint.h>

#include "minivm/memory.h"

/* The result of a system call, which must not be negative. */
long floor_check(long result, const char *what);
int floor_call(int fd, unsigned long request, unsigned long arg, const char *what);
void *floor_map(void *at, uint64_t len, int prot, int flags, int fd, uint64_t offset);

/* So much guest memory: empty, or with fd >= 0 a private copy of that file. */
void floor_add_memory(struct guest_mem *mem, uint64_t bytes, int fd);

/* A VM with this memory, interrupt controllers and PIT, in the order that costs least. */
int floor_make_vm(int kvm, const struct guest_mem *mem);
int floor_make_vcpu(int kvm, int vm, unsigned index, struct kvm_run **run);
struct kvm_cpuid2 *floor_supported_cpuid(int kvm);

#endif
