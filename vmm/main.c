/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivm: the order of the phases, and the only place that exits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "minivm/api.h"
#include "minivm/bus_error.h"
#include "minivm/cli.h"
#include "minivm/config.h"
#include "minivm/console.h"
#include "minivm/ctl.h"
#include "minivm/doctor.h"
#include "minivm/end.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/machine.h"
#include "minivm/report.h"
#include "minivm/snapshot.h"
#include "minivm/timeline.h"

static int fail(struct err *err)
{
	if (err->code == -EMFILE)
		err_hint(err, "`ulimit -n` tells and raises the limit");
	term_restore();
	fprintf(stderr, "minivm: %s\n", err->text);
	return VM_STATUS_ERROR;
}

static int check_reports(const struct vm_config *config, struct err *err)
{
	int ret = config->stats ? report_check("stats", config->stats, err) : 0;

	if (!ret && config->timeline)
		ret = report_check("timeline", config->timeline, err);
	return ret;
}

static int write_reports(const struct vm_config *config, const struct machine *m,
			 const struct timeline *timeline, struct err *err)
{
	int ret = 0;

	if (config->stats)
		ret = report_write("stats", config->stats, machine_stats(m), err);
	if (!ret && config->timeline)
		ret = report_write("timeline", config->timeline, timeline_json(timeline), err);
	return ret;
}

/* What a machine's files are not touched before: reports can be written, its name is free. */
static int claim(const struct cli_result *cli, struct api **api, struct err *err)
{
	const struct vm_config *config = &cli->config;
	int ret = check_reports(config, err);

	if (ret || *api || (!config->name && !config->api_sock))
		return ret;
	return api_reserve(cli, api, err);
}

/* As it was saved; the snapshot is closed afterwards. */
static int restore_machine(struct cli_result *cli, struct snapshot *snapshot, struct log *log,
			   struct timeline *timeline, struct machine **m, struct api **api,
			   struct err *err)
{
	int ret = cli_layers_restore(cli, &snapshot->reader, err);

	if (!ret) {
		log->level = cli->config.log_level;
		ret = claim(cli, api, err);
	}
	if (!ret)
		ret = machine_restore(&cli->config, snapshot, log,
				      cli->config.timeline ? timeline : NULL, m, err);
	snapshot_close(snapshot);
	return ret;
}

/* From a kernel, or as it was saved. */
static int make_machine(struct cli_result *cli, struct log *log, struct timeline *timeline,
			struct machine **m, struct api **api, struct err *err)
{
	struct snapshot snapshot;
	int ret;

	if (cli->action != CLI_RESTORE) {
		ret = claim(cli, api, err);
		return ret ? ret
			   : machine_new(&cli->config, log, cli->config.timeline ? timeline : NULL,
					 m, err);
	}
	ret = snapshot_open(cli->operand[0], &snapshot, err);
	if (ret)
		return ret;
	ret = restore_machine(cli, &snapshot, log, timeline, m, api, err);
	return ret ? err_context(err, "snapshot %s", cli->operand[0]) : 0;
}

/* One try: 0, also when there is no machine and the one who asked was told why. */
static int load_machine(struct cli_result *cli, struct api *api, const char *state,
			const char *memory, struct log *log, struct timeline *timeline,
			struct machine **m, struct err *err)
{
	struct snapshot snapshot;
	struct err why = {0};
	int ret = snapshot_open_files(state, memory, &snapshot, &why);

	if (!ret) {
		ret = restore_machine(cli, &snapshot, log, timeline, m, &api, &why);
		if (ret)
			err_context(&why, "snapshot %s", state);
	}
	if (!ret)
		return api_start(api, *m, err);
	api_failed(api, &why);
	return cli->layers > 0 ? cli_layers_forget(cli, err) : 0;
}

/* Until the control socket has named one that can be made; *m NULL: until we were asked to end. */
static int wait_for_machine(struct cli_result *cli, struct log *log, struct timeline *timeline,
			    struct machine **m, struct api **api, struct err *err)
{
	const char *state, *memory;
	int ret = api_open_waiting(cli, api, err);

	while (!ret && !*m) {
		ret = api_wait(*api, &state, &memory, err);
		if (ret <= 0)
			return ret;
		ret = load_machine(cli, *api, state, memory, log, timeline, m, err);
	}
	return ret;
}

/* The machine, and its control socket if it is to have one. */
static int set_up(struct cli_result *cli, struct log *log, struct timeline *timeline,
		  struct machine **m, struct api **api, struct err *err)
{
	int ret;

	if (cli->action == CLI_WAIT) {
		ret = check_reports(&cli->config, err);
		return ret ? ret : wait_for_machine(cli, log, timeline, m, api, err);
	}
	ret = make_machine(cli, log, timeline, m, api, err);
	return ret || !*api ? ret : api_open(*api, *m, err);
}

static int end_machine(const struct cli_result *cli, const struct machine *m,
		       const struct timeline *timeline, const struct log *log)
{
	struct err err = {0};
	int status;
	enum vm_end_reason reason = machine_end(m, &status);

	term_restore();
	log_msg(log, LOG_LEVEL_INFO, "ended: %s, status %d", vm_end_reason_name(reason), status);
	machine_hint_drivers(m);
	return write_reports(&cli->config, m, timeline, &err) ? fail(&err) : status;
}

static int run_machine(struct cli_result *cli, struct timeline *timeline)
{
	const struct vm_config *config = &cli->config;
	struct log log = {.fd = STDERR_FILENO, .level = config->log_level};
	struct machine *m = NULL;
	struct api *api = NULL;
	struct err err = {0};
	int status;

	if (config->timeline || cli->action != CLI_RUN) /* whose wishes are in the snapshot */
		timeline_mark(timeline, TIMELINE_CONFIG);
	bus_error_report();
	if (set_up(cli, &log, timeline, &m, &api, &err) || (m && machine_run(m, &err)))
		status = fail(&err);
	else
		status = m ? end_machine(cli, m, timeline, &log) : VM_STATUS_STOPPED;
	api_close(api);
	machine_destroy(m);
	return status;
}

/*
 * Whoever started us may have closed them. Then a file that we open would become standard output,
 * and a disk image get the console's bytes.
 */
static int keep_standard_descriptors(struct err *err)
{
	struct pollfd std[] = {{.fd = STDIN_FILENO}, {.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}};
	int fd;

	poll(std, 3, 0);
	if (!((std[0].revents | std[1].revents | std[2].revents) & POLLNVAL))
		return 0;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return err_sys(err, errno, "/dev/null in place of a closed standard descriptor");
	close(fd);
	return 0;
}

/* --- commands: each returns the process's status --- */

/* What was said must have got out, or a script takes nothing for an answer. */
static int said(void)
{
	struct err err = {0};

	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	err_sys(&err, errno, "standard output");
	return fail(&err);
}

static int talk_to_machines(struct cli_result *cli, struct timeline *timeline)
{
	struct err err = {0};

	(void)timeline;
	return ctl_run(cli, stdout, &err) ? fail(&err) : said();
}

static int examine_host(struct cli_result *cli, struct timeline *timeline)
{
	int status = doctor_run(cli->json, stdout);

	(void)timeline;
	return status ? status : said();
}

static int print_help(struct cli_result *cli, struct timeline *timeline)
{
	(void)cli;
	(void)timeline;
	cli_print_help(stdout);
	return said();
}

static int print_version(struct cli_result *cli, struct timeline *timeline)
{
	(void)cli;
	(void)timeline;
	cli_print_version(stdout);
	return said();
}

static int (*const commands[])(struct cli_result *cli, struct timeline *timeline) = {
    [CLI_RUN] = run_machine,	       [CLI_HELP] = print_help,
    [CLI_VERSION] = print_version,     [CLI_DOCTOR] = examine_host,
    [CLI_RESTORE] = run_machine,       [CLI_WAIT] = run_machine,
    [CLI_PS] = talk_to_machines,       [CLI_PAUSE] = talk_to_machines,
    [CLI_RESUME] = talk_to_machines,   [CLI_STOP] = talk_to_machines,
    [CLI_SNAPSHOT] = talk_to_machines, [CLI_BALLOON] = talk_to_machines,
};

int main(int argc, char *argv[])
{
	struct timeline timeline = {0};
	struct cli_result cli;
	struct err err = {0};
	int status;

	timeline_mark(&timeline, TIMELINE_EXEC);
	if (keep_standard_descriptors(&err))
		return fail(&err);
	/* A reader that goes away and a file size limit are errors of write(2), not our end. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (cli_parse(argc, argv, &cli, &err))
		return fail(&err);
	status = commands[cli.action](&cli, &timeline);
	cli_result_free(&cli);
	return status;
}
