/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that talk to running machines: ps, pause, resume, stop, snapshot, balloon; and
 * `snapshot verify`, which needs none.
 */
#include "minivm/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "minivm/snapshot.h"
#include "minivm/virtio_balloon.h"

/* --- by name --- */

/* One request to the machine `name`; *fd and *answer as of ctl_request(). */
static int request(const char *name, const char *method, const char *target, const char *json,
		   int *fd, char **answer, struct err *err)
{
	struct vm_config scratch = {0};
	char *path = NULL;
	int ret = config_set_name(&scratch, name, NULL, err);

	config_clear_process(&scratch);
	if (!ret)
		ret = ctl_socket_path(name, false, &path, err);
	/* No directory of sockets is no machine. */
	if (ret && ret != -ENOENT)
		return ret;
	if (!ret && ctl_alive(path)) {
		ret = ctl_request(path, method, target, json, fd, answer, err);
	} else {
		err_set(err, ENOENT, "no running machine is called \"%s\"", name);
		ret = err_hint(err, "`minivm ps` lists them");
	}
	free(path);
	return ret;
}

static int cmd_pause(const struct cli_result *cli, FILE *out, struct err *err)
{
	(void)out;
	return request(cli->operand[0], "PATCH", "/vm", "{\"state\":\"Paused\"}", NULL, NULL, err);
}

static int cmd_resume(const struct cli_result *cli, FILE *out, struct err *err)
{
	(void)out;
	return request(cli->operand[0], "PATCH", "/vm", "{\"state\":\"Resumed\"}", NULL, NULL, err);
}

/* Returns when the machine has ended: its side of the connection is closed then. */
static int cmd_stop(const struct cli_result *cli, FILE *out, struct err *err)
{
	char byte;
	int fd = -1;
	int ret = request(cli->operand[0], "PUT", "/actions",
			  "{\"action_type\":\"SendCtrlAltDel\"}", &fd, NULL, err);

	(void)out;
	if (ret)
		return ret;
	while (read(fd, &byte, 1) > 0)
		;
	close(fd);
	return 0;
}

static int cmd_snapshot(const struct cli_result *cli, FILE *out, struct err *err)
{
	if (strcmp(cli->operand[0], CONFIG_NAME_VERIFY) != 0) {
		int ret = request(cli->operand[0], "GET", "/", NULL, NULL, NULL, err);

		return ret ? ret : ctl_snapshot(cli->operand[0], cli->operand[1], err);
	}
	if (snapshot_verify(cli->operand[1], err))
		return err->code;
	fprintf(out, "%s: good\n", cli->operand[1]);
	return 0;
}

/* --- balloon --- */

#define MIB_SHIFT 20

static int set_balloon(const char *name, const char *size, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX], json[64];
	uint64_t bytes;

	if (config_parse_size(size, &bytes, err))
		return err->code;
	if (bytes % (1u << MIB_SHIFT) != 0)
		return err_set(err, EINVAL, "%s is no multiple of 1M", config_quote(quoted, size));
	snprintf(json, sizeof(json), "{\"amount_mib\":%llu}",
		 (unsigned long long)(bytes >> MIB_SHIFT));
	return request(name, "PATCH", "/balloon", json, NULL, NULL, err);
}

static void print_count(const json_t *json, const char *key, const char *name, unsigned unit,
			FILE *out)
{
	const json_t *value = json_object_get(json, key);

	if (value)
		fprintf(out, "%s %llu\n", name,
			(unsigned long long)json_integer_value(value) * unit);
}

static int cmd_balloon(const struct cli_result *cli, FILE *out, struct err *err)
{
	char *answer = NULL;
	json_t *json;
	int ret;

	if (cli->operands > 1)
		return set_balloon(cli->operand[0], cli->operand[1], err);
	ret = request(cli->operand[0], "GET", "/balloon/statistics", NULL, NULL, &answer, err);
	if (ret)
		return ret;
	json = json_loads(answer, 0, NULL);
	print_count(json, "target_pages", "target", VIRTIO_BALLOON_PAGE, out);
	print_count(json, "actual_pages", "actual", VIRTIO_BALLOON_PAGE, out);
	for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
		print_count(json, virtio_balloon_stat_names[i], virtio_balloon_stat_names[i], 1,
			    out);
	json_decref(json);
	free(answer);
	return 0;
}

/* --- ps --- */

static pid_t peer_of(int fd)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 ? cred.pid : 0;
}

static void print_machine(const char *path, const char *name, FILE *out)
{
	struct err err;
	const char *state;
	json_t *json;
	char *answer;
	int fd;

	if (ctl_request(path, "GET", "/", NULL, &fd, &answer, &err)) {
		fprintf(out, "%-20s %8s  %s\n", name, "-", err.text);
		return;
	}
	json = json_loads(answer, 0, NULL);
	state = json_string_value(json_object_get(json, "state"));
	fprintf(out, "%-20s %8d  %s\n", name, (int)peer_of(fd), state ? state : "-");
	json_decref(json);
	free(answer);
	close(fd);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_socket_name(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot && dot != e->d_name && strcmp(dot, ".sock") == 0;
}

static void print_entry(const char *dir, const char *file, FILE *out)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return;
	if (ctl_alive(path)) {
		char *name = strndup(file, strlen(file) - strlen(".sock"));

		if (name)
			print_machine(path, name, out);
		free(name);
	}
	free(path);
}

static int cmd_ps(const struct cli_result *cli, FILE *out, struct err *err)
{
	struct dirent **list;
	char *dir;
	int n;
	int ret = ctl_directory(false, &dir, err);

	(void)cli;
	fprintf(out, "%-20s %8s  %s\n", "NAME", "PID", "STATE");
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	n = scandir(dir, &list, is_socket_name, by_name);
	for (int i = 0; i < n; i++) {
		print_entry(dir, list[i]->d_name, out);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	else
		ret = err_sys(err, errno, "%s", dir);
	free(dir);
	return ret;
}

/* --- */

int ctl_run(const struct cli_result *cli, FILE *out, struct err *err)
{
	static int (*const commands[])(const struct cli_result *cli, FILE *out, struct err *err) = {
	    [CLI_PS] = cmd_ps,	   [CLI_PAUSE] = cmd_pause,	  [CLI_RESUME] = cmd_resume,
	    [CLI_STOP] = cmd_stop, [CLI_SNAPSHOT] = cmd_snapshot, [CLI_BALLOON] = cmd_balloon,
	};

	return commands[cli->action](cli, out, err);
}
