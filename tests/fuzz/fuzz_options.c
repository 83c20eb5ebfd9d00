/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: the input is cut into arguments at NUL bytes and newlines. --config is kept
 * out, it would open files; fuzz_ini.c has what is behind it.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARGS_MAX 40

static int split(char *text, size_t size, char *argv[ARGS_MAX])
{
	static char program[] = "minivm";
	int argc = 0;

	argv[argc++] = program;
	for (size_t start = 0, i = 0; i <= size && argc < ARGS_MAX - 1; i++) {
		if (i < size && text[i] != '\0' && text[i] != '\n')
			continue;
		text[i] = '\0';
		if (strncmp(text + start, "--config", 8) != 0)
			argv[argc++] = text + start;
		start = i + 1;
	}
	argv[argc] = NULL;
	return argc;
}

static void check(const struct vm_config *config)
{
	assert(config->kernel != NULL);
	assert(config->cmdline == NULL || config->cmdline_only == NULL);
	assert(config->cpus >= 1 && config->cpus <= CONFIG_CPUS_MAX);
	assert(config->memory >= CONFIG_MEMORY_MIN && config->memory <= CONFIG_MEMORY_MAX);
	assert(config->memory % CONFIG_MEMORY_UNIT == 0);
	assert(config->grace_seconds <= CONFIG_GRACE_MAX);
	assert((config->console == CONSOLE_FILE) == (config->console_file != NULL));
	assert(config->disk_count <= CONFIG_DISKS_MAX);
	for (unsigned i = 0; i < config->disk_count; i++) {
		const struct disk_config *disk = &config->disk[i];

		assert(disk->path != NULL && strlen(disk->id) <= CONFIG_DISK_ID_MAX);
		assert(!(disk->readonly && disk->overlay));
		assert(disk->overlay || disk->overlay_file == NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *argv[ARGS_MAX];
	struct cli_result result;
	struct err err = {0};
	char *text = malloc(size + 1);
	int argc;

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	argc = split(text, size, argv);
	if (cli_parse(argc, argv, &result, &err) == 0) {
		if (result.action == CLI_RUN)
			check(&result.config);
		cli_result_free(&result);
	} else {
		assert(err.code < 0 && err.text[0] != '\0');
	}
	free(text);
	return 0;
}
