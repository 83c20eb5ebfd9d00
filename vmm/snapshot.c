/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a saved machine (docs/snapshot.md).
 *
 * Nothing is replaced before all of the new is durable: all files are written under temporary
 * names, synced, and renamed, the state last. The state file says how long the memory file is and
 * what is in it, so a state that was left beside another memory is found by `verify`; `minivm
 * snapshot` avoids even that by making a directory of its own and renaming it. Copies of layers
 * have the state file's name in theirs: several snapshots may share a directory.
 *
 * System calls: openat, fstat, fsync, rename, unlink, close, and those of snapshot_memory.c.
 */
#include "minivm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine_priv.h"
#include "minivm/file.h"

#define MEMORY_STATE   STATE_ID('M', 'E', 'M', ' ')
#define MEMORY_VERSION 1

/* --- a file that gets its name when it is whole --- */

struct new_file {
	const char *path;
	char *temporary;
	int fd;
};

static int new_file_open(struct new_file *f, const char *path, struct err *err)
{
	f->path = path;
	f->fd = -1;
	if (asprintf(&f->temporary, "%s.XXXXXX", path) < 0) {
		f->temporary = NULL;
		return err_set(err, ENOMEM, "%s: out of memory", path);
	}
	f->fd = mkostemp(f->temporary, O_CLOEXEC);
	if (f->fd < 0) {
		int code = errno;

		free(f->temporary);
		f->temporary = NULL;
		return err_sys(err, code, "%s: create", path);
	}
	return 0;
}

static int new_file_sync(struct new_file *f, struct err *err)
{
	return fsync(f->fd) < 0 ? err_sys(err, errno, "%s: fsync", f->path) : 0;
}

/* From then on there is no temporary name: NULL. */
static int give_name(char **temporary, const char *path, struct err *err)
{
	int ret;

	if (rename(*temporary, path) < 0)
		return err_sys(err, errno, "%s: rename", path);
	free(*temporary);
	*temporary = NULL;
	ret = file_sync_name(path);
	return ret ? err_sys(err, -ret, "%s: fsync of its directory", path) : 0;
}

static int new_file_name(struct new_file *f, struct err *err)
{
	return give_name(&f->temporary, f->path, err);
}

/* Without its name it is gone. */
static void new_file_close(struct new_file *f)
{
	if (f->temporary)
		unlink(f->temporary);
	free(f->temporary);
	if (f->fd >= 0)
		close(f->fd);
}

/* --- create --- */

static void save_memory_section(const struct snapshot_memory *memory, struct state_writer *w)
{
	state_begin(w, MEMORY_STATE, MEMORY_VERSION);
	state_put_u64(w, memory->file_bytes);
	state_put_bytes(w, memory->digest, sizeof(memory->digest));
	state_end(w);
}

static int write_state(const struct state_writer *w, const struct new_file *f, struct err *err)
{
	int ret = file_write_at(f->fd, w->data, w->len, 0);

	return ret ? err_sys(err, -ret, "%s: write", f->path) : 0;
}

static int layers_prepare(struct layer_copy *layers, const struct machine *m,
			  const struct new_file *state, struct err *err)
{
	/* Beside the state, and as unique as its temporary name. */
	const char *unique = strrchr(state->temporary, '.');

	for (unsigned i = 0; i < m->disk_count; i++) {
		struct layer_copy *l = &layers[i];

		if (asprintf(&l->path, "%s.%s.layer", state->path, m->config->disk[i].id) < 0)
			l->path = NULL;
		if (!l->path || asprintf(&l->temporary, "%s%s", l->path, unique) < 0)
			l->temporary = NULL;
		if (!l->temporary)
			return err_set(err, ENOMEM, "%s: out of memory", state->path);
	}
	return 0;
}

static int layers_name(struct layer_copy *layers, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < CONFIG_DISKS_MAX; i++) {
		if (layers[i].made)
			ret = give_name(&layers[i].temporary, layers[i].path, err);
	}
	return ret;
}

static void layers_free(struct layer_copy *layers)
{
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++) {
		if (layers[i].made && layers[i].temporary)
			unlink(layers[i].temporary);
		free(layers[i].temporary);
		free(layers[i].path);
	}
}

static int collect(struct machine *m, const struct cli_result *source, struct layer_copy *layers,
		   const struct snapshot_memory *memory, struct state_writer *w, struct err *err)
{
	int ret = cli_layers_save(source, w, err);

	if (!ret) {
		save_memory_section(memory, w);
		ret = machine_save(m, layers, w, err);
	}
	return ret ? ret : state_seal(w, err);
}

static int write_all(struct machine *m, const struct cli_result *source, struct new_file *state,
		     struct new_file *memory, struct layer_copy *layers, struct err *err)
{
	struct snapshot_memory about;
	struct state_writer w;
	int ret = snapshot_write_memory(&m->mem, memory->fd, &about);

	if (ret)
		return err_sys(err, -ret, "%s: write", memory->path);
	state_writer_init(&w);
	ret = collect(m, source, layers, &about, &w, err);
	if (!ret)
		ret = write_state(&w, state, err);
	state_writer_free(&w);
	if (!ret)
		ret = new_file_sync(memory, err);
	if (!ret)
		ret = new_file_sync(state, err);
	if (!ret)
		ret = layers_name(layers, err);
	if (!ret)
		ret = new_file_name(memory, err);
	return ret ? ret : new_file_name(state, err);
}

int snapshot_create(struct machine *m, const struct cli_result *source, const char *state_path,
		    const char *memory_path, struct err *err)
{
	struct new_file state = {.fd = -1}, memory = {.fd = -1};
	struct layer_copy layers[CONFIG_DISKS_MAX] = {{0}};
	int ret;

	if (machine_state(m) != MACHINE_PAUSED)
		return err_set(err, EBUSY, "the machine is not paused");
	ret = new_file_open(&memory, memory_path, err);
	if (!ret)
		ret = new_file_open(&state, state_path, err);
	if (!ret)
		ret = layers_prepare(layers, m, &state, err);
	if (!ret)
		ret = write_all(m, source, &state, &memory, layers, err);
	layers_free(layers);
	new_file_close(&state);
	new_file_close(&memory);
	return ret;
}

/* --- open --- */

void snapshot_close(struct snapshot *s)
{
	for (unsigned i = 0; i < s->disk_count; i++) {
		free(s->disk[i].path);
		free(s->disk[i].layer);
	}
	s->disk_count = 0;
	if (s->state.data)
		file_free(&s->state);
	if (s->memory_fd >= 0)
		close(s->memory_fd);
	s->memory_fd = -1;
	free(s->dir);
	s->dir = NULL;
}

static int open_files(const char *state, const char *memory, struct snapshot *s, struct err *err)
{
	struct stat st;
	int ret = file_read("saved state", state, SNAPSHOT_STATE_MAX, &s->state, err);

	if (ret)
		return ret;
	s->memory_fd = file_open("saved memory", memory, UINT64_MAX >> 1, &st, err);
	if (s->memory_fd < 0)
		return s->memory_fd;
	return state_open(s->state.data, s->state.len, &s->reader, err);
}

static int open_in(struct snapshot *s, struct err *err)
{
	char *state = NULL, *memory = NULL;
	int ret = 0;

	if (config_copy_path(&state, SNAPSHOT_STATE_NAME, s->dir, err) < 0 ||
	    config_copy_path(&memory, SNAPSHOT_MEMORY_NAME, s->dir, err) < 0)
		ret = err->code;
	if (!ret)
		ret = open_files(state, memory, s, err);
	free(state);
	free(memory);
	return ret;
}

/* The directory part of a path, with its slash; "./" where there is none. malloc'ed. */
static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("./");
}

/* How opening ends: after an error nothing is left open. `what` is what the user has named. */
static int opened(struct snapshot *s, int ret, const char *what, struct err *err)
{
	if (!ret)
		return 0;
	snapshot_close(s);
	return err_context(err, "snapshot %s", what);
}

int snapshot_open(const char *dir, struct snapshot *s, struct err *err)
{
	*s = (struct snapshot){.memory_fd = -1, .dir = realpath(dir, NULL)};
	return opened(s, s->dir ? open_in(s, err) : err_sys(err, errno, "open"), dir, err);
}

int snapshot_open_files(const char *state, const char *memory, struct snapshot *s, struct err *err)
{
	char *dir = directory_of(state);

	*s = (struct snapshot){.memory_fd = -1, .dir = dir ? realpath(dir, NULL) : NULL};
	free(dir);
	return opened(s, s->dir ? open_files(state, memory, s, err) : err_sys(err, errno, "open"),
		      state, err);
}

int snapshot_read_memory_section(struct snapshot *s, struct snapshot_memory *out, struct err *err)
{
	struct state_reader section;
	int ret = state_enter(&s->reader, MEMORY_STATE, MEMORY_VERSION, &section, err);

	if (ret)
		return ret;
	out->file_bytes = state_get_u64(&section);
	state_get_bytes(&section, out->digest, sizeof(out->digest));
	return state_leave(&section, err);
}

/* --- verify --- */

/* All of the state's outermost sections, by their heads: each as long as it says. */
static int walk_sections(struct state_reader r, struct err *err)
{
	struct state_reader section;
	uint32_t id;
	int ret = 0;

	while (!ret && state_next(&r, &id))
		ret = state_enter(&r, id, UINT16_MAX, &section, err);
	return ret ? ret : state_leave(&r, err);
}

static int verify_memory(struct snapshot *s, struct err *err)
{
	struct snapshot_memory saved, found;
	struct stat st;
	int ret = snapshot_read_memory_section(s, &saved, err);

	if (ret)
		return ret;
	if (fstat(s->memory_fd, &st) < 0)
		return err_sys(err, errno, "memory file");
	if ((uint64_t)st.st_size != saved.file_bytes)
		return state_bad(err, "the memory file has %lld bytes instead of %llu",
				 (long long)st.st_size, (unsigned long long)saved.file_bytes);
	found.file_bytes = saved.file_bytes;
	ret = snapshot_digest_memory(s->memory_fd, &found);
	if (ret)
		return err_sys(err, -ret, "memory file: read");
	if (memcmp(saved.digest, found.digest, sizeof(saved.digest)) != 0)
		return err_set(err, EINVAL, "the memory file is damaged, or of another snapshot");
	return 0;
}

int snapshot_verify(const char *dir, struct err *err)
{
	struct snapshot s;
	struct cli_result layers = {.action = CLI_RESTORE};
	int ret = snapshot_open(dir, &s, err);

	if (ret)
		return ret;
	config_init(&layers.config);
	ret = walk_sections(s.reader, err);
	if (!ret)
		ret = cli_layers_restore(&layers, &s.reader, err);
	if (!ret)
		ret = verify_memory(&s, err);
	cli_result_free(&layers);
	snapshot_close(&s);
	return ret ? err_context(err, "snapshot %s", dir) : 0;
}
