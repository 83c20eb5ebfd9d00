/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest page walk over page tables made of fuzz input. Whatever they say, the walk stays inside of
 * guest memory, ends, and changes nothing but accessed and dirty bits.
 */
#include <stdlib.h>
#include <string.h>

#include "minivm/walk.h"

#define RAM 0x8000u

struct input {
	uint64_t cr3, linear;
	uint8_t cr4_la57, cr4_sm, cr0_wp, efer_nxe, access, phys_bits, gigabyte, ac;
};

static _Alignas(4096) uint8_t ram[RAM], before[RAM];

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Writes to tables: bits 5 and 6 of an entry only. */
static void check_memory(void)
{
	for (unsigned i = 0; i < RAM; i += 8) {
		uint64_t old, new;

		memcpy(&old, before + i, 8);
		memcpy(&new, ram + i, 8);
		check(new == old || new == (old | 0x20) || new == (old | 0x60));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_mem mem = {
	    .count = 2,
	    .region = {{.gpa = GPA(0), .len = RAM / 2, .host = ram},
		       {.gpa = GPA(0x100000000), .len = RAM / 2, .host = ram + RAM / 2}},
	};
	struct walk_result r, peek;
	struct walk_state s;
	struct input in;
	enum walk_status status, again;
	uint8_t buf[64];

	if (size < sizeof(in))
		return 0;
	memcpy(&in, data, sizeof(in));
	data += sizeof(in);
	size -= sizeof(in);
	memset(ram, 0, RAM);
	for (unsigned at = 0; size && at < RAM; at += size) /* repeated: tables everywhere */
		memcpy(ram + at, data, size < RAM - at ? size : RAM - at);
	memcpy(before, ram, RAM);
	s = (struct walk_state){
	    .cr0 = 0x80000001 | (in.cr0_wp & 1) << 16,
	    .cr3 = in.cr3,
	    .cr4 = 0x20 | (in.cr4_la57 & 1) << 12 | (in.cr4_sm & 3) << 20,
	    .efer = 0x500 | (in.efer_nxe & 1) << 11,
	    .rflags = (in.ac & 1) << 18,
	    .phys_bits = 32 + in.phys_bits % 21,
	    .gigabyte_pages = in.gigabyte & 1,
	};
	again = walk_translate(&mem, &s, in.linear, in.access | WALK_PEEK, &peek);
	check(memcmp(ram, before, RAM) == 0);
	status = walk_translate(&mem, &s, in.linear, in.access & ~WALK_PEEK, &r);
	check(status == again && status != WALK_UNSUPPORTED && status != WALK_AGAIN);
	if (status == WALK_OK) {
		check(r.gpa.v == peek.gpa.v && r.page_left == peek.page_left);
		check(r.page_left >= 1 && r.page_left <= 1u << 30);
		check(((r.gpa.v ^ in.linear) & 0xfff) == 0);
		check(r.gpa.v >> s.phys_bits == 0);
	}
	if (status == WALK_FAULT)
		check(r.error_code == peek.error_code && !(r.error_code & ~0x1fu));
	check_memory();
	(void)walk_peek(&mem, &s, in.linear, in.access, buf, sizeof(buf));
	check_memory();
	return 0;
}
