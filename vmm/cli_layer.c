/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configurations in a saved state. What is kept is what the user said, command lines and INI files
 * as they were, not what came of it: a restore says it all again and then adds its own command
 * line. So an option that is added to minivm is saved and restored without a line of code for it,
 * and every value goes through the checks of its setter.
 *
 * Relative paths were relative to a current directory: it is kept beside them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "minivm/cli.h"

#define LAYERS_STATE   STATE_ID('C', 'O', 'N', 'F')
#define LAYERS_VERSION 1
#define LAYER_STATE    STATE_ID('L', 'A', 'Y', 'R')
#define LAYER_VERSION  1

#define ARGS_MAX 1024

void cli_layer_free(struct cli_layer *layer)
{
	for (int i = 0; layer->owned && i < layer->argc; i++)
		free(layer->argv[i]);
	free(layer->argv);
	free(layer->ini_name);
	free(layer->ini_text);
	free(layer->dir);
	*layer = (struct cli_layer){0};
}

/* --- save --- */

static void save_layer(const struct cli_layer *layer, const char *dir, struct state_writer *w)
{
	size_t text_len = layer->ini_text ? strlen(layer->ini_text) : 0;

	state_begin(w, LAYER_STATE, LAYER_VERSION);
	state_put_u32(w, layer->command);
	state_put_string(w, layer->dir ? layer->dir : dir);
	state_put_string(w, layer->ini_name);
	state_put_u32(w, (uint32_t)text_len);
	state_put_bytes(w, layer->ini_text, text_len);
	state_put_u32(w, (uint32_t)layer->argc);
	for (int i = 0; i < layer->argc; i++)
		state_put_string(w, layer->argv[i]);
	state_end(w);
}

int cli_layers_save(const struct cli_result *r, struct state_writer *w, struct err *err)
{
	char *dir;

	if (r->layers == CLI_LAYERS_MAX)
		return err_set(err, E2BIG,
			       "a machine that was restored %u times is not saved again",
			       CLI_LAYERS_MAX - 1);
	dir = getcwd(NULL, 0);
	if (!dir)
		return err_sys(err, errno, "the current directory");
	state_begin(w, LAYERS_STATE, LAYERS_VERSION);
	state_put_u32(w, r->layers);
	for (unsigned i = 0; i < r->layers; i++)
		save_layer(&r->layer[i], dir, w);
	state_end(w);
	free(dir);
	return 0;
}

/* --- restore --- */

static char *load_text(struct state_reader *r)
{
	uint32_t len = state_get_u32(r);
	const char *text = len <= CONFIG_INI_FILE_MAX ? state_get_slice(r, len) : NULL;

	if (!text || memchr(text, '\0', len)) {
		r->short_read = true;
		return NULL;
	}
	return strndup(text, len);
}

static int load_args(struct cli_layer *layer, struct state_reader *r, struct err *err)
{
	uint32_t argc = state_get_u32(r);

	if (argc > ARGS_MAX)
		return state_bad(err, "a command line of %u words", argc);
	layer->owned = true;
	layer->argv = calloc(argc + 1, sizeof(*layer->argv));
	if (!layer->argv)
		return err_sys(err, ENOMEM, "command line");
	for (uint32_t i = 0; i < argc; i++) {
		char *arg = state_get_string(r);

		if (!arg)
			return state_bad(err, "a command line without a word");
		layer->argv[layer->argc++] = arg;
	}
	return 0;
}

static int load_layer(struct cli_layer *layer, struct state_reader *r, struct err *err)
{
	struct state_reader section;
	int ret = state_enter(r, LAYER_STATE, LAYER_VERSION, &section, err);

	if (ret)
		return ret;
	layer->command = state_get_u32(&section);
	layer->dir = state_get_string(&section);
	layer->ini_name = state_get_string(&section);
	layer->ini_text = load_text(&section);
	ret = load_args(layer, &section, err);
	if (!ret)
		ret = state_leave(&section, err);
	if (ret)
		return ret;
	if (layer->command != CLI_CMD_RUN && layer->command != CLI_CMD_RESTORE)
		return state_bad(err, "command %u", layer->command);
	if (!layer->dir || layer->dir[0] != '/' || !layer->ini_text)
		return state_bad(err, "a command line without its directory");
	if (!layer->ini_name) {
		free(layer->ini_text);
		layer->ini_text = NULL;
	}
	return 0;
}

/* The name of an INI file is what its paths are relative to. */
static int make_absolute(struct cli_layer *layer, struct err *err)
{
	char *name = layer->ini_name;

	if (!name || name[0] == '/')
		return 0;
	layer->ini_name = NULL;
	if (config_copy_path(&layer->ini_name, name, layer->dir, err) < 0)
		return err->code;
	free(name);
	return 0;
}

/*
 * What belonged to the process that was saved: reports, control socket, and the layers that it
 * keeps. A restored disk has a layer of its own (vmm/board_disk.c).
 */
static void forget_process(struct vm_config *config)
{
	config_clear_process(config);
	for (unsigned i = 0; i < config->disk_count; i++) {
		free(config->disk[i].overlay_file);
		config->disk[i].overlay_file = NULL;
	}
}

int cli_layers_restore(struct cli_result *r, struct state_reader *saved, struct err *err)
{
	struct state_reader section;
	uint32_t count;
	int ret = state_enter(saved, LAYERS_STATE, LAYERS_VERSION, &section, err);

	if (ret)
		return ret;
	count = state_get_u32(&section);
	if (count == 0 || count >= CLI_LAYERS_MAX)
		return state_bad(err, "%u command lines", count);
	config_free(&r->config);
	config_init(&r->config);
	r->layer[count] = r->layer[0];
	memset(&r->layer[0], 0, count * sizeof(r->layer[0]));
	r->layers = count + 1;
	for (uint32_t i = 0; !ret && i < count; i++) {
		ret = load_layer(&r->layer[i], &section, err);
		if (!ret)
			ret = make_absolute(&r->layer[i], err);
		if (!ret)
			ret = cli_apply_layer(&r->layer[i], &r->config, err);
		forget_process(&r->config);
	}
	if (!ret)
		ret = state_leave(&section, err);
	return ret ? ret : cli_apply_layer(&r->layer[count], &r->config, err);
}

int cli_layers_forget(struct cli_result *r, struct err *err)
{
	struct cli_layer own = r->layer[r->layers - 1];

	while (r->layers > 1)
		cli_layer_free(&r->layer[--r->layers - 1]);
	r->layer[0] = own;
	config_free(&r->config);
	config_init(&r->config);
	return cli_apply_early(&r->layer[0], &r->config, err);
}
