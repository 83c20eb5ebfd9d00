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

void cli_print_help(FILE *out)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	fputs("Usage: minivm --kernel FILE [OPTION]...\n"
	      "       minivm doctor [--json]\n"
	      "\n"
	      "Runs Linux in a virtual machine on KVM; doctor tells whether this host can.\n"
	      "\n"
	      "Options (--NAME VALUE or --NAME=VALUE):\n",
	      out);
	for (size_t i = 0; i < count; i++)
		print_option(&options[i], out);
	fputs("\n"
	      "Ctrl-A x in the console stops the machine. The man page minivm(1) has the rest:\n"
	      "disks, configuration file, exit statuses, signals.\n",
	      out);
}
