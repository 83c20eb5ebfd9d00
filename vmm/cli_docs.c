/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents made from the tables: man page (from the template docs/minivm.1.in) and bash
 * completion. docs/gen.c writes the files that are committed; a unit test compares them with what
 * the tables say now. Nothing of the running minivm uses this file, so the linker leaves it out.
 */
#include "minivm/cli.h"

#include <ctype.h>
#include <string.h>

#include "minivm/assist.h"
#include "minivm/kvm.h"

/* --- roff: man(7) --- */

/* Plain text as roff: nothing in it is a request or an escape; hyphens stay hyphens for copying. */
static void put_text(const char *text, FILE *out)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

/* A help line as a sentence: "virtual CPUs" -> "Virtual CPUs." */
static void put_sentence(const char *text, FILE *out)
{
	char first[2] = {(char)toupper((unsigned char)text[0]), '\0'};

	put_text(first, out);
	put_text(text + 1, out);
	fputs(text[strlen(text) - 1] == '.' ? "\n" : ".\n", out);
}

static void write_options(FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		const struct cli_option *o = &options[i];

		fputs(".TP\n\\fB\\-\\-", out);
		put_text(o->name, out);
		fputs("\\fR", out);
		if (o->arg != NULL) {
			fputs(" \\fI", out);
			put_text(o->arg, out);
			fputs("\\fR", out);
		}
		fputc('\n', out);
		put_sentence(o->help, out);
		if (o->more != NULL) {
			put_text(o->more, out);
			fputc('\n', out);
		}
	}
}

static bool is_new_section(const struct cli_option *options, size_t i)
{
	if (options[i].section == NULL)
		return false;
	for (size_t k = 0; k < i; k++) {
		if (options[k].section != NULL &&
		    strcmp(options[k].section, options[i].section) == 0)
			return false;
	}
	return true;
}

static void write_key(const struct cli_option *o, FILE *out)
{
	fputs(".TP\n\\fB", out);
	put_text(o->key, out);
	fputs("\\fR = \\fI", out);
	put_text(o->arg, out);
	fputs("\\fR\nas \\fB\\-\\-", out);
	put_text(o->name, out);
	fputs("\\fR\n", out);
}

static void write_ini_keys(FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		if (!is_new_section(options, i))
			continue;
		fprintf(out, ".SS [%s]\n", options[i].section);
		for (size_t k = i; k < count; k++) {
			if (options[k].section != NULL &&
			    strcmp(options[k].section, options[i].section) == 0)
				write_key(&options[k], out);
		}
	}
}

static void write_device_words(const struct config_kind *kind, FILE *out)
{
	for (size_t i = 0; i < kind->word_count; i++) {
		const struct device_word *w = &kind->words[i];

		if (w->word == NULL)
			continue;
		fputs(".TP\n\\fB", out);
		put_text(w->word, out);
		fputs("\\fR", out);
		if (w->arg != NULL && w->arg[0] == '[') /* "[FILE]" -> "[=FILE]" */
			fprintf(out, "[=\\fI%.*s\\fR]", (int)strlen(w->arg) - 2, w->arg + 1);
		else if (w->arg != NULL)
			fprintf(out, "=\\fI%s\\fR", w->arg);
		fputc('\n', out);
		put_sentence(w->help, out);
	}
}

static void write_device_keys(const struct config_kind *kind, FILE *out)
{
	for (size_t i = 0; i < kind->word_count; i++) {
		const struct device_word *w = &kind->words[i];

		if (w->key == NULL)
			continue;
		fputs(".TP\n\\fB", out);
		put_text(w->key, out);
		fprintf(out, "\\fR = \\fI%s\\fR\n", w->values);
		put_sentence(w->help, out);
	}
}

static void write_disk_words(FILE *out)
{
	write_device_words(&config_disk_kind, out);
}

static void write_disk_keys(FILE *out)
{
	write_device_keys(&config_disk_kind, out);
}

static void write_net_words(FILE *out)
{
	write_device_words(&config_net_kind, out);
}

static void write_net_keys(FILE *out)
{
	write_device_keys(&config_net_kind, out);
}

static void write_man_commands(FILE *out)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);

	for (size_t i = 0; i < count; i++) {
		fprintf(out, ".TP\n.B minivm %s", commands[i].name);
		if (commands[i].operands != NULL)
			fprintf(out, " \\fI%s\\fR", commands[i].operands);
		fputc('\n', out);
		put_sentence(commands[i].help, out);
	}
}

/* One in a line: some are long. */
static void write_assist_words(FILE *out)
{
	for (size_t i = 0; assist_cmdline[i]; i++) {
		fputs(i ? "\n.br\n.B " : ".B ", out);
		put_text(assist_cmdline[i], out);
	}
	fputc('\n', out);
}

static void write_capabilities(FILE *out)
{
	size_t count;
	const struct kvm_cap *table = kvm_cap_table(&count);

	for (size_t i = 0; i < count; i++) {
		fprintf(out, ".TP\n.B %s\n%s: ", table[i].name,
			table[i].needed ? "needed" : "wanted");
		put_text(table[i].what_for, out);
		fputc('\n', out);
	}
}

static const struct {
	const char *mark;
	void (*write)(FILE *out);
} parts[] = {
    {"@commands@", write_man_commands},	    {"@options@", write_options},
    {"@ini-keys@", write_ini_keys},	    {"@disk-words@", write_disk_words},
    {"@disk-keys@", write_disk_keys},	    {"@net-words@", write_net_words},
    {"@net-keys@", write_net_keys},	    {"@capabilities@", write_capabilities},
    {"@assist-words@", write_assist_words},
};

static void write_line(const char *line, size_t len, FILE *out)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strlen(parts[i].mark) == len && strncmp(line, parts[i].mark, len) == 0) {
			parts[i].write(out);
			return;
		}
	}
	fprintf(out, "%.*s\n", (int)len, line);
}

void cli_write_man(const char *template, FILE *out)
{
	while (*template != '\0') {
		size_t len = strcspn(template, "\n");

		write_line(template, len, out);
		template += len + (template[len] == '\n');
	}
}

/* --- bash --- */

/* "--a --b": the options that a command takes. */
static void write_names(unsigned commands, FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		if (options[i].commands & commands)
			fprintf(out, " --%s", options[i].name);
	}
}

/* The commands that complete file names. */
#define FILE_NAMES                                                                                 \
	"\t\tcompopt -o filenames\n"                                                               \
	"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"

/* An option that two commands know in two forms stands there once, as what it is first. */
static bool is_repeated(const struct cli_option *options, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(options[k].name, options[i].name) == 0)
			return true;
	}
	return false;
}

/* A case for each option with a value: what the value may be. */
static void write_values(FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		const struct cli_option *o = &options[i];

		if (o->arg == NULL || is_repeated(options, i))
			continue;
		fprintf(out, "\t--%s)\n", o->name);
		if (o->words != NULL)
			fprintf(out, "\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n",
				o->words);
		else if (o->file)
			fputs(FILE_NAMES, out);
		fputs("\t\treturn\n\t\t;;\n", out);
	}
	/* "--console file=", see below: "file" is what stands in front of "=" */
	fputs("\tfile)\n" FILE_NAMES "\t\treturn\n\t\t;;\n", out);
}

static void write_command_names(FILE *out)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);

	for (size_t i = 0; i < count; i++)
		fprintf(out, " %s", commands[i].name);
}

/* A case for each command: its options, and directories where it takes one. */
static void write_commands(FILE *out)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);

	for (size_t i = 0; i < count; i++) {
		fprintf(out, "\t%s)\n\t\twords='", commands[i].name);
		write_names(commands[i].bit, out);
		fputs("'\n", out);
		if (commands[i].operands != NULL && strstr(commands[i].operands, "DIR") != NULL)
			fputs("\t\tif [[ $cur != -* ]]; then\n"
			      "\t\t\tcompopt -o filenames\n"
			      "\t\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
			      "\t\t\treturn\n"
			      "\t\tfi\n",
			      out);
		fputs("\t\t;;\n", out);
	}
}

/*
 * bash makes words of their own of "=" signs (COMP_WORDBREAKS): for "--name=va" the current word is
 * "va", the one before "=", and the option stands one further back.
 */
void cli_write_bash_completion(FILE *out)
{
	fputs("# bash completion for minivm(1). Made by `make docs` from the option table in "
	      "vmm/cli.c.\n"
	      "\n"
	      "_minivm() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words\n"
	      "\n"
	      "\tCOMPREPLY=()\n"
	      "\tif [[ $cur == '=' ]]; then\n"
	      "\t\tcur=\n"
	      "\telif [[ $prev == '=' ]] && ((COMP_CWORD >= 2)); then\n"
	      "\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}\n"
	      "\tfi\n"
	      "\tcase $prev in\n",
	      out);
	write_values(out);
	fputs("\tesac\n"
	      "\tcase ${COMP_WORDS[1]} in\n",
	      out);
	write_commands(out);
	fputs("\t*)\n\t\twords='", out);
	write_names(CLI_CMD_RUN, out);
	fputs("'\n"
	      "\t\t;;\n"
	      "\tesac\n"
	      "\t((COMP_CWORD == 1)) && words+='",
	      out);
	write_command_names(out);
	fputs("'\n"
	      "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	      "}\n"
	      "\n"
	      "complete -F _minivm minivm\n",
	      out);
}
