// SPDX-License-Identifier: Apache-2.0
/*
 * insncount: a plugin for QEMU's TCG that counts guest instructions by translation block until the
 * first user-mode instruction, and writes "address count" lines to the file named by its argument
 * out=. A host that emulates guest kernel mode pays per instruction, so this number stands for time
 * there; see kernel/TUNING.md.
 *
 * Debian does not package QEMU's plugin header, so the few declarations that are used stand here
 * (plugin API version 1, QEMU 7.2).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum { INLINE_ADD_U64 = 0 };
#define EXPORT __attribute__((visibility("default")))

extern EXPORT int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr,
					      uint64_t imm);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *),
				    void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

int qemu_plugin_version = 1;

/* Static programs are linked at 4 MiB; firmware is below 1 MiB and the kernel at 16 MiB or high. */
enum { USER_START = 0x400000, USER_END = 0xf00000 };

struct block {
	uint64_t vaddr;
	uint64_t insns; /* the generated code adds to it: must not move */
};

/* Open addressing, fixed size: the generated code holds pointers into the table. */
enum { TABLE_BITS = 20, TABLE_SIZE = 1 << TABLE_BITS };
static struct block table[TABLE_SIZE];
static const char *out_path = "insncount.out";
static bool written;

static struct block *block_of(uint64_t vaddr)
{
	size_t i = (vaddr * 0x9e3779b97f4a7c15u) >> (64 - TABLE_BITS);

	while (table[i].vaddr && table[i].vaddr != vaddr)
		i = (i + 1) % TABLE_SIZE;
	table[i].vaddr = vaddr;
	return &table[i];
}

static void write_counts(void)
{
	FILE *f = fopen(out_path, "w");

	if (!f) {
		perror(out_path);
		return;
	}
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		if (table[i].insns)
			fprintf(f, "%016" PRIx64 " %" PRIu64 "\n", table[i].vaddr, table[i].insns);
	}
	fclose(f);
	written = true;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t vaddr = qemu_plugin_tb_vaddr(tb);

	(void)id;
	if (vaddr >= USER_START && vaddr < USER_END && !written)
		write_counts();
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &block_of(vaddr)->insns,
						 qemu_plugin_tb_n_insns(tb));
}

static void on_exit_cb(qemu_plugin_id_t id, void *userdata)
{
	(void)id;
	(void)userdata;
	if (!written)
		fprintf(stderr, "insncount: user mode was not reached\n");
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out_path = strdup(argv[i] + 4);
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	qemu_plugin_register_atexit_cb(id, on_exit_cb, NULL);
	return 0;
}
