/* SPDX-License-Identifier: Apache-2.0 */
/* What is written at the end of a run (minivm/report.h). */
#include "minivm/report.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "minivm/file.h"

int report_check(const char *what, const char *path, struct err *err)
{
	return strcmp(path, "-") == 0 ? 0 : file_check(what, path, err);
}

int report_write(const char *what, const char *path, json_t *json, struct err *err)
{
	bool to_stdout = strcmp(path, "-") == 0;
	int fd = STDOUT_FILENO;
	int ret = 0;

	if (!json)
		return err_set(err, ENOMEM, "%s: out of memory", what);
	if (!to_stdout) {
		fd = file_create(what, path, err);
		if (fd < 0) {
			ret = fd;
			goto out;
		}
	}
	errno = 0; /* which a write that came short leaves as it is */
	if (json_dumpfd(json, fd, JSON_INDENT(2)) || write(fd, "\n", 1) != 1)
		ret = err_sys(err, errno ? errno : EIO, "%s file %s: write", what, path);
	if (!to_stdout && close(fd) && !ret)
		ret = err_sys(err, errno, "%s file %s: close", what, path);
out:
	json_decref(json);
	return ret;
}
