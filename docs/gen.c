/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the documents that are made from the option table (vmm/cli_docs.c) to standard output.
 *
 *	gen-docs man docs/minivm.1.in > docs/minivm.1
 *	gen-docs bash > docs/minivm.bash-completion
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/cli.h"

static int write_man(const char *path)
{
	FILE *in = fopen(path, "re");
	char *template = NULL;
	size_t size = 0;
	int rc = 1;

	if (in == NULL || getdelim(&template, &size, '\0', in) < 0) {
		perror(path);
		goto out;
	}
	cli_write_man(template, stdout);
	rc = 0;
out:
	free(template);
	if (in != NULL)
		fclose(in);
	return rc;
}

int main(int argc, char *argv[])
{
	int rc = 0;

	if (argc == 3 && strcmp(argv[1], "man") == 0) {
		rc = write_man(argv[2]);
	} else if (argc == 2 && strcmp(argv[1], "bash") == 0) {
		cli_write_bash_completion(stdout);
	} else {
		fputs("usage: gen-docs man TEMPLATE | gen-docs bash\n", stderr);
		rc = 1;
	}
	return fflush(stdout) == 0 && rc == 0 ? 0 : 1;
}
