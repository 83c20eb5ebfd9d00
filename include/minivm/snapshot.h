/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved machines (docs/snapshot.md): a state file, a memory file, and beside them the layers of the
 * disks that have overlays.
 *
 *	snapshot_create()	of a paused machine, on its main loop's thread
 *	snapshot_open()		then cli_layers_restore(), then machine_new() with it
 *	snapshot_verify()	reads all of it
 */
#ifndef MINIVM_SNAPSHOT_H
#define MINIVM_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/boot.h"
#include "minivm/cli.h"
#include "minivm/config.h"
#include "minivm/err.h"
#include "minivm/state.h"

struct machine;

#define SNAPSHOT_STATE_NAME  "state"
#define SNAPSHOT_MEMORY_NAME "memory"
#define SNAPSHOT_STATE_MAX   (64ull << 20) /* bytes of a state file */

/* A disk as it was when the machine was saved. */
struct snapshot_disk {
	char *path;	  /* absolute */
	int64_t mtime_ns; /* of the image; 0: not known */
	char *layer;	  /* absolute path of the copy of its layer; NULL: it had none */
};

struct snapshot {
	struct bytes state;
	struct state_reader reader; /* behind what was read so far */
	int memory_fd;
	char *dir; /* of the state file */
	unsigned disk_count;
	struct snapshot_disk disk[CONFIG_DISKS_MAX];
};

/*
 * Writes the files under temporary names and renames them when both are durable: the memory first,
 * so that a state file is never there without its memory. `source` is what the machine was made
 * from. -ENOTSUP names the device that cannot be saved.
 */
int snapshot_create(struct machine *m, const struct cli_result *source, const char *state_path,
		    const char *memory_path, struct err *err);

/* Opens both files and checks the state's checksum, not the memory's. */
int snapshot_open(const char *dir, struct snapshot *out, struct err *err);
/* The same with both files by name; copies of layers are beside the state file. */
int snapshot_open_files(const char *state, const char *memory, struct snapshot *out,
			struct err *err);
void snapshot_close(struct snapshot *s); /* what a failed snapshot_open() left is fine */

/* Everything that can be told without making a machine: all sections, and the memory's checksum. */
int snapshot_verify(const char *dir, struct err *err);

/* --- vmm/snapshot_memory.c --- */

/* The memory file: the regions one behind the other, pages of zeroes as holes. */
struct snapshot_memory {
	uint64_t file_bytes;
	uint8_t digest[STATE_DIGEST_LEN]; /* of all pages that are not zero, see docs/snapshot.md */
};

/* The section behind the configuration. */
int snapshot_read_memory_section(struct snapshot *s, struct snapshot_memory *out, struct err *err);

/* Writes guest memory into the empty file. -errno, as of write(2). */
int snapshot_write_memory(const struct guest_mem *mem, int fd, struct snapshot_memory *out);
/* What is in the file now: its digest, for a file of out->file_bytes. */
int snapshot_digest_memory(int fd, struct snapshot_memory *out);
/* Maps the file under guest memory that was just made, as a private copy on write. */
int snapshot_map_memory(struct guest_mem *mem, int fd, const struct snapshot_memory *memory,
			struct err *err);

#endif
