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
#include "minivm/state.h"

enum cli_action {
	CLI_RUN,  /* config is filled and finished */
	CLI_HELP, /* cli_print_help() on stdout, exit 0 */
	CLI_VERSION,
	CLI_DOCTOR,
	CLI_RESTORE, /* config is not filled yet: cli_layers_restore() */
	/* --api-sock alone, or `restore` without DIR: until a snapshot is named. config has this
	   command line's values. */
	CLI_WAIT,
	CLI_PS,
	CLI_PAUSE,
	CLI_RESUME,
	CLI_STOP,
	CLI_SNAPSHOT,
	CLI_BALLOON,
};

/*
 * What a configuration was made from, so that a saved machine can be made anew: a command line with
 * the INI file that it named. A restored machine has a layer for each command line in its history.
 */
struct cli_layer {
	unsigned command; /* CLI_CMD_RUN or CLI_CMD_RESTORE */
	int argc;	  /* options only: neither program nor command */
	char **argv;
	char *ini_name; /* NULL: no INI file */
	char *ini_text;
	char *dir;  /* what relative paths are relative to; NULL: the current directory */
	bool owned; /* argv and its strings are malloc'ed */
};
#define CLI_LAYERS_MAX	 8
#define CLI_OPERANDS_MAX 2

struct cli_result {
	enum cli_action action;
	bool json; /* doctor --json */
	unsigned operands;
	const char *operand[CLI_OPERANDS_MAX]; /* of the command: NAME, DIR; borrowed from argv */
	unsigned layers;
	struct cli_layer layer[CLI_LAYERS_MAX];
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
const char *cli_version(void);	   /* "0.1.0" */
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
	CLI_CMD_RESTORE = 4,
	CLI_CMD_CLIENT = 8, /* those that talk to a running machine, and snapshot verify */
};

struct cli_command {
	const char *name;
	unsigned bit; /* CLI_CMD_* */
	enum cli_action action;
	const char *operands; /* as help shows them; NULL: none */
	unsigned least, most;
	const char *help;
};
const struct cli_command *cli_commands(size_t *count);

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

/* --- saved configurations: vmm/cli_layer.c --- */

/* With absolute paths in place of the current directory. -E2BIG, -errno of getcwd(3). */
int cli_layers_save(const struct cli_result *r, struct state_writer *w, struct err *err);
/*
 * Puts the saved layers before the one of `r`, a CLI_RESTORE or CLI_WAIT, and makes r->config from
 * all of them.
 * The saved ones may be anybody's: they are parsed like the user's own.
 */
int cli_layers_restore(struct cli_result *r, struct state_reader *saved, struct err *err);
/* Undoes that, also when it has failed: the command line's own layer and its values are left. */
int cli_layers_forget(struct cli_result *r, struct err *err);
void cli_layer_free(struct cli_layer *layer);

/* vmm/cli.c: what a layer says, on top of what `config` has, and config_finish(). */
int cli_apply_layer(const struct cli_layer *layer, struct vm_config *config, struct err *err);
/* What needs no machine to be there: without options that change one, and config_finish(). */
int cli_apply_early(const struct cli_layer *layer, struct vm_config *config, struct err *err);

/* --- documents made from the table (docs/gen.c, unit tests) --- */

/*
 * The man page: `template` with its lines "@options@", "@ini-keys@", "@disk-words@", "@disk-keys@"
 * and "@capabilities@" replaced.
 */
void cli_write_man(const char *template, FILE *out);
void cli_write_bash_completion(FILE *out);

#endif
