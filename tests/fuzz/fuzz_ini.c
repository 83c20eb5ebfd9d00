/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The INI parser on any text. What it accepts must be within the limits, what it refuses must come
 * with a line of text that names the file.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct vm_config *config)
{
	assert(config->cpus >= 1 && config->cpus <= CONFIG_CPUS_MAX);
	assert(config->memory >= CONFIG_MEMORY_MIN && config->memory <= CONFIG_MEMORY_MAX);
	assert(config->memory % CONFIG_MEMORY_UNIT == 0);
	assert(config->disk_count <= CONFIG_DISKS_MAX);
	for (unsigned i = 0; i < config->disk_count; i++) {
		const struct disk_config *disk = &config->disk[i];

		assert(disk->path != NULL && strlen(disk->id) <= CONFIG_DISK_ID_MAX);
		assert(!(disk->readonly && disk->overlay));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vm_config config;
	struct err err = {0};
	char *text = malloc(size + 1);

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	config_init(&config);
	if (config_parse_ini("dir/vm.ini", text, &config, &err) == 0)
		check(&config);
	else
		assert(strncmp(err.text, "dir/vm.ini", 10) == 0);
	config_free(&config);
	free(text);
	return 0;
}
