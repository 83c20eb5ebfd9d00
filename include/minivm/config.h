/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of one machine, immutable once config_finish() has accepted it. It comes from
 * the command line and an INI file (docs/minivm.1); the command line wins. One option table in
 * vmm/cli.c (minivm/cli.h) drives parsing, --help, the man page and the bash completion.
 *
 * Nothing here looks at the host: sizes, counts, duplicates and words are checked, files are not
 * opened (but for the INI file itself).
 */
#ifndef MINIVM_CONFIG_H
#define MINIVM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/memory.h"

#define CONFIG_CPUS_MAX	      32
#define CONFIG_DISKS_MAX      8
#define CONFIG_DISK_ID_MAX    20 /* VIRTIO 1.2 §5.2.6: the GET_ID string */
#define CONFIG_MEMORY_MIN     (16ull << 20)
#define CONFIG_MEMORY_MAX     (1ull << 40)
#define CONFIG_MEMORY_DEFAULT (256ull << 20)
#define CONFIG_MEMORY_UNIT    4096ull
#define CONFIG_GRACE_DEFAULT  10
#define CONFIG_GRACE_MAX      3600
#define CONFIG_RNG_RATE_MAX   (1ull << 30)

enum console_kind {
	CONSOLE_SERIAL, /* COM1 on stdin and stdout */
	CONSOLE_NONE,	/* COM1 is there, its output goes nowhere */
	CONSOLE_FILE,	/* COM1's output goes to a file; no input */
};

enum assist_mode {
	ASSIST_AUTO, /* on where the probe finds an emulating back end */
	ASSIST_ON,
	ASSIST_OFF,
};

/* How the guest's kernel learns what the machine has. */
enum describe_mode {
	DESCRIBE_AUTO, /* ACPI; on hosts that emulate, where it costs time, the MP table */
	DESCRIBE_ACPI,
	DESCRIBE_MPTABLE, /* and virtio_mmio.device= words on the command line */
	DESCRIBE_FDT,	  /* a flattened device tree */
};

/* How the kernel is entered. */
enum entry_mode {
	ENTRY_AUTO, /* LINUX; PVH where that is all an ELF has */
	ENTRY_LINUX,
	ENTRY_PVH,
};

struct disk_config {
	char *path;
	char *id; /* GET_ID string; config_finish() fills in "disk0", ... by the index where none is
		     given */
	bool readonly;
	bool overlay;
	char *overlay_file; /* NULL with overlay: throw-away */
};

struct vm_config {
	char *kernel;	    /* never NULL after config_finish() */
	char *initrd;	    /* or NULL */
	bool kernel_cached; /* through the kernel cache */
	char *kernel_cache; /* its directory, or NULL: the default one */
	char *cmdline;	    /* words added to the default line, or NULL */
	char *cmdline_only; /* replaces the default line, or NULL; not both */
	unsigned cpus;
	uint64_t memory; /* bytes, a multiple of the page size */
	enum guest_pages pages;
	unsigned disk_count;
	struct disk_config disk[CONFIG_DISKS_MAX];
	enum console_kind console;
	char *console_file; /* with CONSOLE_FILE */
	bool rng;	    /* an entropy device */
	uint64_t rng_rate;  /* bytes a second; 0: no limit */
	uint32_t vsock_cid; /* the guest's; 0: no vsock device */
	char *vsock_path;   /* of the host's socket; NULL without */
	enum assist_mode assist;
	enum describe_mode describe;
	enum entry_mode entry;
	char *stats;	/* path, "-" for standard output, or NULL */
	char *timeline; /* the same */
	enum log_level log_level;
	unsigned grace_seconds; /* after SIGTERM, before the machine is stopped */
};

/* Default values. Then set, then finish; free in any state after init. */
void config_init(struct vm_config *config);
void config_free(struct vm_config *config); /* frees the strings, not the struct */

/* What only the whole can tell: a kernel is named, words do not exclude each other, ids differ. */
int config_finish(struct vm_config *config, struct err *err);

/* --- the INI file: vmm/config_ini.c --- */

#define CONFIG_INI_FILE_MAX (1u << 20) /* bytes */
#define CONFIG_INI_LINE_MAX 4096       /* bytes in a line, line end not counted */

/*
 * `data` is a NUL-terminated text; `name` is the file's name, for messages ("vm.ini:3: ...") and
 * for relative paths, which are relative to its directory. Adds to what is set. -EINVAL; fuzzed.
 * Not to be called in two threads at once (inih's options are global variables).
 */
int config_parse_ini(const char *name, const char *data, struct vm_config *config, struct err *err);

/* Reads the file and parses it. Only regular files of at most CONFIG_INI_FILE_MAX bytes. */
int config_load_ini(const char *path, struct vm_config *config, struct err *err);

/* --- single values: vmm/config.c, vmm/config_disk.c --- */

/* "512M", "2G", "64K", "1T", "1048576" -> bytes. -EINVAL. */
int config_parse_size(const char *text, uint64_t *bytes, struct err *err);

/*
 * A setter: takes the user's text (not empty), checks it and stores it; a value that was there is
 * replaced (disks are added). Relative paths are taken relative to `dir`; NULL: as they are.
 * -EINVAL with the text quoted and what is allowed, -ENOMEM. The caller adds where the text is
 * from.
 */
typedef int config_set_fn(struct vm_config *config, const char *text, const char *dir,
			  struct err *err);

config_set_fn config_set_kernel;
config_set_fn config_set_initrd;
config_set_fn config_set_kernel_cache;
config_set_fn config_set_cmdline;
config_set_fn config_set_cmdline_only;
config_set_fn config_set_cpus;
config_set_fn config_set_memory;
config_set_fn config_set_hugepages;
config_set_fn config_set_disk; /* PATH[,word]... */
config_set_fn config_set_console;
config_set_fn config_set_rng;
config_set_fn config_set_vsock; /* cid=N,uds=PATH: vmm/config_vsock.c */
config_set_fn config_set_assist;
config_set_fn config_set_describe;
config_set_fn config_set_entry;
config_set_fn config_set_stats;
config_set_fn config_set_timeline;
config_set_fn config_set_log_level;
config_set_fn config_set_grace;

/* Forget what a file said, where the command line replaces it. */
void config_clear_cmdline(struct vm_config *config);
void config_clear_disks(struct vm_config *config);

/* What a disk can be told: words of --disk, keys of a [disk NAME] section. */
struct disk_word {
	const char *word;   /* in --disk; NULL: not there */
	const char *key;    /* in the INI file; NULL: not there */
	const char *arg;    /* of the word: "NAME", "[FILE]" (may be left out), NULL (none) */
	const char *values; /* of the key, for the man page */
	const char *help;
	/* text NULL: the word without a value. */
	int (*set)(struct disk_config *disk, const char *text, const char *dir, struct err *err);
};

const struct disk_word *config_disk_words(size_t *count);

/* A fresh disk at the end of the list; NULL, with err set, when there are too many. */
struct disk_config *config_add_disk(struct vm_config *config, struct err *err);

/*
 * The disk's id, a word's `set` function. It becomes a file name in the guest,
 * /dev/disk/by-id/virtio-NAME, hence the narrow alphabet. `dir` is not used.
 */
int config_set_disk_id(struct disk_config *disk, const char *text, const char *dir,
		       struct err *err);

/* What only a whole disk can tell: a path, words that exclude each other. */
int config_check_disk(const struct disk_config *disk, struct err *err);

/* --- for messages: vmm/config_words.c --- */

/* The user's text in double quotes, shortened where it is long. Returns buf. */
#define CONFIG_QUOTE_MAX 80
const char *config_quote(char buf[CONFIG_QUOTE_MAX], const char *text);

/* Lists names: the i-th, or NULL behind the last. Doubles do no harm. */
typedef const char *config_name_fn(const void *ctx, size_t i);

/* The name that `text` may be a slip of, or NULL. */
const char *config_suggest(const char *text, config_name_fn *name, const void *ctx);

/* "a, b, c": the names, each once, in `buf`, cut to size. Returns buf. */
const char *config_list_names(char *buf, size_t size, config_name_fn *name, const void *ctx);

/* `text` as a path: a copy, put behind `dir` if it is relative and dir is not NULL. */
int config_copy_path(char **field, const char *text, const char *dir, struct err *err);

/*
 * Values of several parts: cuts the next one off *rest, in place. A comma ends a part, one that
 * belongs to it is written twice. NULL when there is none left.
 */
char *config_next_part(char **rest);

#endif
