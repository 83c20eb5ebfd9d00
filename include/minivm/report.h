/* SPDX-License-Identifier: Apache-2.0 */
/* What is written at the end of a run, as JSON: --stats and --timeline. */
#ifndef MINIVM_REPORT_H
#define MINIVM_REPORT_H

#include <jansson.h>

#include "minivm/err.h"

/*
 * Can `path` be written, by all that can be told without making or changing it? A run must not find
 * that out at its end. `what` ("stats") begins the error line.
 */
int report_check(const char *what, const char *path, struct err *err);

/* Writes `json` (a reference that is given up; NULL: no memory) to `path`, "-": standard output. */
int report_write(const char *what, const char *path, json_t *json, struct err *err);

#endif
