/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that talk to running machines: ps, pause, resume, stop, snapshot; and
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

/* --- by name --- */

/* One request to the machine `name`; *fd stays open if it is not NULL. */
static int request(const char *name, const char *method, const char *target, const char *json,
		   int *fd, struct err *err)
{
	struct vm_config scratch = {0};
	char *path = NULL;
	int ret = config_set_name(&scratch, name, NULL, err);

	config_clear_process(&scratch);
	if (!ret)
		ret = ctl_socket_path(name, false, &path, err);
	if (ret)
		return ret == -ENOENT ? err_set(err, ENOENT, "no machine has a name here") : ret;
	if (ctl_alive(path)) {
		ret = ctl_request(path, method, target, json, fd, NULL, err);
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
	return request(cli->operand[0], "PATCH", "/vm", "{\"state\":\"Paused\"}", NULL, err);
}

static int cmd_resume(const struct cli_result *cli, FILE *out, struct err *err)
{
	(void)out;
	return request(cli->operand[0], "PATCH", "/vm", "{\"state\":\"Resumed\"}", NULL, err);
}

/* Returns when the machine has ended: its side of the connection is closed then. */
static int cmd_stop(const struct cli_result *cli, FILE *out, struct err *err)
{
	char byte;
	int fd = -1;
	int ret = request(cli->operand[0], "PUT", "/actions",
			  "{\"action_type\":\"SendCtrlAltDel\"}", &fd, err);

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
		int ret = request(cli->operand[0], "GET", "/", NULL, NULL, err);

		return ret ? ret : ctl_snapshot(cli->operand[0], cli->operand[1], err);
	}
	if (snapshot_verify(cli->operand[1], err))
		return err->code;
	fprintf(out, "%s: good\n", cli->operand[1]);
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
	json_t *json;
	char *answer;
	int fd;

	if (ctl_request(path, "GET", "/", NULL, &fd, &answer, &err)) {
		fprintf(out, "%-20s %8s  %s\n", name, "-", err.text);
		return;
	}
	json = json_loads(answer, 0, NULL);
	fprintf(out, "%-20s %8d  %s\n", name, (int)peer_of(fd),
		json_string_value(json_object_get(json, "state")));
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
	    [CLI_STOP] = cmd_stop, [CLI_SNAPSHOT] = cmd_snapshot,
	};

	return commands[cli->action](cli, out, err);
}
