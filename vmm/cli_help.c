/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --help. It is the option table in two columns; an option whose name is too
 * long for the left one has its text on the next line.
 */
#include "minivm/cli.h"

#include <string.h>

#define LEFT_COLUMN 28

static void print_option(const struct cli_option *o, FILE *out)
{
	size_t width = strlen(o->name) + 4;

	if (o->arg != NULL)
		width += strlen(o->arg) + 1;
	fprintf(out, "  --%s%s%s", o->name, o->arg != NULL ? " " : "",
		o->arg != NULL ? o->arg : "");
	if (width + 2 > LEFT_COLUMN) {
		fputc('\n', out);
		width = 0;
	}
	fprintf(out, "%*s%s\n", (int)(LEFT_COLUMN - width), "", o->help);
}

static void print_commands(FILE *out)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);

	for (size_t i = 0; i < count; i++) {
		const struct cli_command *c = &commands[i];
		size_t width = strlen(c->name) + 2;

		if (c->operands != NULL)
			width += strlen(c->operands) + 1;
		fprintf(out, "  %s%s%s%*s%s\n", c->name, c->operands != NULL ? " " : "",
			c->operands != NULL ? c->operands : "",
			width < LEFT_COLUMN ? (int)(LEFT_COLUMN - width) : 1, "", c->help);
	}
}

void cli_print_help(FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	fputs("Usage: minivm --kernel FILE [OPTION]...\n"
	      "       minivm COMMAND ...\n"
	      "\n"
	      "Runs Linux in a virtual machine on KVM. Commands:\n",
	      out);
	print_commands(out);
	fputs("\n"
	      "Options (--NAME VALUE or --NAME=VALUE):\n",
	      out);
	for (size_t i = 0; i < count; i++)
		print_option(&options[i], out);
	fputs("\n"
	      "Ctrl-A x in the console stops the machine. The man page minivm(1) has the rest:\n"
	      "disks, configuration file, exit statuses, signals.\n",
	      out);
}
