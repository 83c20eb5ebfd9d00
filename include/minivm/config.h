/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of one machine, immutable once config_finish() has accepted it. It comes from
 * the command line and an INI file (docs/minivm.1); the command line wins. One option table in
 * vmm/cli.c drives parsing, --help, the man page and the bash completion.
 */
#ifndef MINIVM_CONFIG_H
#define MINIVM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"

#define CONFIG_CPUS_MAX  32
#define CONFIG_DISKS_MAX 8
#define CONFIG_MEMORY_MIN (16ull << 20)
#define CONFIG_MEMORY_DEFAULT (256ull << 20)

enum console_kind {
	CONSOLE_SERIAL, /* COM1 on stdin and stdout */
	CONSOLE_NONE,   /* COM1 is there, its output goes nowhere */
	CONSOLE_FILE,   /* COM1's output goes to a file; no input */
};

enum assist_mode {
	ASSIST_AUTO, /* on where the probe finds an emulating back end */
	ASSIST_ON,
	ASSIST_OFF,
};

struct disk_config {
	char *path;
	char *id; /* GET_ID string, at most 20 bytes; NULL: derived from the index, "disk0" */
	bool readonly;
	bool overlay;
	char *overlay_file; /* NULL with overlay: throw-away */
};

struct vm_config {
	char *kernel;       /* never NULL after config_finish() */
	char *initrd;       /* or NULL */
	char *cmdline;      /* words added to the default line, or NULL */
	char *cmdline_only; /* replaces the default line, or NULL */
	unsigned cpus;
	uint64_t memory; /* bytes, a multiple of the page size */
	unsigned disk_count;
	struct disk_config disk[CONFIG_DISKS_MAX];
	enum console_kind console;
	char *console_file;
	enum assist_mode assist;
	char *stats; /* path, "-" for standard output, or NULL */
	enum log_level log_level;
	unsigned grace_seconds; /* after SIGTERM, before the machine is stopped */
};

enum cli_action {
	CLI_RUN,     /* config is filled */
	CLI_HELP,    /* print help on stdout, exit 0 */
	CLI_VERSION,
	CLI_DOCTOR,
};

struct cli_result {
	enum cli_action action;
	bool json; /* doctor --json */
	struct vm_config config;
};

/*
 * Parses argv (and the INI file it names) and checks everything that can be checked without the
 * host: sizes, counts, duplicates, unknown words. The result owns copies of all strings.
 * -EINVAL with the user's text quoted.
 */
int cli_parse(int argc, char *const argv[], struct cli_result *out, struct err *err);
void cli_result_free(struct cli_result *r);

/* `data` is a NUL-terminated text; `name` for messages. Adds to what is set; fuzzed. */
int config_parse_ini(const char *name, const char *data, struct vm_config *config, struct err *err);

/* "512M", "2G", "64K", "1048576" -> bytes. -EINVAL. */
int config_parse_size(const char *text, uint64_t *bytes, struct err *err);

#endif
