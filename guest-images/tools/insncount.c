// SPDX-License-Identifier: Apache-2.0
/*
 * insncount: a plugin for QEMU's TCG that counts guest instructions by translation block until the
 * first user-mode instruction, and writes "address count" lines to the file named by its argument
 * out=. With until=exit it counts to the machine's end. With marks=FILE (hexadecimal addresses of
 * functions, one a line) it writes to OUT.marks how many kernel instructions had been executed when
 * each of these was entered first. A host that emulates guest kernel mode pays per instruction, so
 * this number stands for time there; see kernel/TUNING.md.
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
typedef void (*exec_cb)(unsigned int vcpu, void *userdata);
enum { CB_NO_REGS = 0 };
enum { INLINE_ADD_U64 = 0 };
#define EXPORT __attribute__((visibility("default")))

extern EXPORT int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr,
					      uint64_t imm);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_cb cb, int flags,
					  void *userdata);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *),
				    void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

int qemu_plugin_version = 1;

/* Static programs are linked at 4 MiB; firmware is below 1 MiB and the kernel at 16 MiB or high. */
enum { USER_START = 0x400000, USER_END = 0xf00000, PHYS_START = 0x1000000, PHYS_END = 0x4000000 };
static const uint64_t kernel_map = 0xffffffff80000000;

struct block {
	uint64_t vaddr;
	uint64_t insns; /* the generated code adds to it: must not move */
	bool marked;
};

/* Open addressing, fixed size: the generated code holds pointers into the table. */
enum { TABLE_BITS = 20, TABLE_SIZE = 1 << TABLE_BITS };
static struct block table[TABLE_SIZE];
static const char *out_path = "insncount.out";
static bool written;
static bool until_exit;
static uint64_t kernel_insns;
static FILE *marks_file;

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

static void on_mark(unsigned int vcpu, void *userdata)
{
	struct block *b = userdata;

	(void)vcpu;
	if (!b->marked || written)
		return;
	b->marked = false;
	fprintf(marks_file, "%016" PRIx64 " %" PRIu64 "\n", b->vaddr, kernel_insns);
}

static bool read_marks(const char *path)
{
	FILE *f = fopen(path, "r");
	uint64_t addr;

	marks_file = fopen("/dev/null", "w");
	if (!f || !marks_file) {
		perror(path);
		return false;
	}
	while (fscanf(f, "%" SCNx64, &addr) == 1)
		block_of(addr)->marked = true;
	fclose(f);
	return true;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t vaddr = qemu_plugin_tb_vaddr(tb);
	size_t insns = qemu_plugin_tb_n_insns(tb);
	struct block *b = block_of(vaddr);

	(void)id;
	if (vaddr >= USER_START && vaddr < USER_END && !written && !until_exit)
		write_counts();
	if (b->marked)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_mark, CB_NO_REGS, b);
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->insns, insns);
	if (vaddr >= kernel_map || (vaddr >= PHYS_START && vaddr < PHYS_END))
		qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &kernel_insns, insns);
}

static void on_exit_cb(qemu_plugin_id_t id, void *userdata)
{
	(void)id;
	(void)userdata;
	if (until_exit)
		write_counts();
	if (!written)
		fprintf(stderr, "insncount: user mode was not reached\n");
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out_path = strdup(argv[i] + 4);
		else if (!strcmp(argv[i], "until=exit"))
			until_exit = true;
		else if (!strncmp(argv[i], "marks=", 6) && !read_marks(argv[i] + 6))
			return -1;
	}
	if (marks_file) {
		char path[4096];

		snprintf(path, sizeof(path), "%s.marks", out_path);
		marks_file = freopen(path, "w", marks_file);
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	qemu_plugin_register_atexit_cb(id, on_exit_cb, NULL);
	return 0;
}
