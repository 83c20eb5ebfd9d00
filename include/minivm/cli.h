/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one option table (vmm/cli.c) that drives parsing, --help (vmm/cli_help.c), the
 * man page and the bash completion (vmm/cli_docs.c) and the keys of the INI file (config_ini.c).
 */
#ifndef MINIVM_CLI_H
#define MINIVM_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "minivm/config.h"
#include "minivm/err.h"

enum cli_action {
	CLI_RUN,  /* config is filled and finished */
	CLI_HELP, /* cli_print_help() on stdout, exit 0 */
	CLI_VERSION,
	CLI_DOCTOR,
};

struct cli_result {
	enum cli_action action;
	bool json; /* doctor --json */
	struct vm_config config;
};

/*
 * Parses argv (argv[0] is skipped) and the INI file it names, and checks everything that can be
 * checked without the host: sizes, counts, duplicates, unknown words. The result owns copies of all
 * strings; on failure it holds nothing. -EINVAL and others with the user's text quoted.
 */
int cli_parse(int argc, char *const argv[], struct cli_result *out, struct err *err);
void cli_result_free(struct cli_result *r);

void cli_print_help(FILE *out);
void cli_print_version(FILE *out); /* "minivm 0.1.0" */

/* --- the table --- */

enum cli_kind {
	CLI_OPT_SET, /* a value of the configuration: `set` takes it */
	CLI_OPT_CONFIG,
	CLI_OPT_HELP,
	CLI_OPT_VERSION,
	CLI_OPT_JSON,
};

enum {
	CLI_CMD_RUN = 1,    /* no command: run a machine */
	CLI_CMD_DOCTOR = 2, /* minivm doctor */
};

struct cli_option {
	const char *name; /* without the dashes */
	const char *arg;  /* what its value is called; NULL: it takes none */
	enum cli_kind kind;
	unsigned commands;   /* CLI_CMD_*: where it is allowed */
	const char *section; /* its place in the INI file; NULL: only on the command line */
	const char *key;
	config_set_fn *set;
	void (*clear)(
	    struct vm_config *config); /* before the command line's first value; or NULL */
	const char
	    *words;	  /* values to complete, separated by spaces; NULL: file names, if arg is */
	const char *help; /* one line */
	const char *more; /* further sentences for the man page, or NULL */
	bool repeat;	  /* may be given more than once */
	bool file;	  /* the value is a file name */
};

const struct cli_option *cli_options(size_t *count);

/* --- documents made from the table (docs/gen.c, unit tests) --- */

/*
 * The man page: `template` with its lines "@options@", "@ini-keys@", "@disk-words@", "@disk-keys@"
 * and "@capabilities@" replaced.
 */
void cli_write_man(const char *template, FILE *out);
void cli_write_bash_completion(FILE *out);

#endif
