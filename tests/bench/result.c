/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See result.h. Medians, not means: one disturbed round of a busy host must not move a figure.
 * Times are judged by their least samples: what else a host does only ever adds to them.
 */
#include "result.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *who_name(enum who who)
{
	static const char *const names[WHO_COUNT] = {
	    [WHO_MINIVM] = "minivm",
	    [WHO_FLOOR] = "floor",
	    [WHO_QEMU] = "QEMU",
	    [WHO_KVMTOOL] = "kvmtool",
	    [WHO_FIRECRACKER] = "Firecracker",
	};

	return names[who];
}

/* --- samples --- */

/* Kept sorted. */
void series_add(struct series *s, double value)
{
	unsigned at = s->n;

	if (s->n == SAMPLES_MAX)
		return;
	for (; at > 0 && s->v[at - 1] > value; at--)
		s->v[at] = s->v[at - 1];
	s->v[at] = value;
	s->n++;
}

double series_median(const struct series *s)
{
	if (s->n == 0)
		return NAN;
	return (s->v[(s->n - 1) / 2] + s->v[s->n / 2]) / 2;
}

double series_min(const struct series *s)
{
	return s->n ? s->v[0] : NAN;
}

double series_max(const struct series *s)
{
	return s->n ? s->v[s->n - 1] : NAN;
}

/* --- rows and judgements --- */

struct row *results_row(struct results *r, const char *unit, bool seconds, const char *fmt, ...)
{
	/* The table is larger than all figures together. */
	struct row *row = &r->row[r->count < ROWS_MAX ? r->count++ : ROWS_MAX - 1];
	va_list ap;

	*row = (struct row){.unit = unit, .seconds = seconds};
	va_start(ap, fmt);
	vsnprintf(row->name, sizeof(row->name), fmt, ap);
	va_end(ap);
	return row;
}

static void judge(struct row *row, const char *what, double value, double target, double aim)
{
	struct judgement *j = &row->judgement[row->judgements];

	if (row->judgements == JUDGEMENTS_MAX || isnan(value))
		return;
	row->judgements++;
	*j = (struct judgement){.value = value, .target = target, .aim = aim};
	snprintf(j->what, sizeof(j->what), "%s", what);
}

void judge_value(struct row *row, double target, double aim)
{
	judge(row, "minivm", series_median(&row->s[WHO_MINIVM]), target, aim);
}

static double judged(const struct row *row, enum who who)
{
	return row->seconds ? series_min(&row->s[who]) : series_median(&row->s[who]);
}

void judge_ratio(struct row *row, enum who other, double target, double aim)
{
	char what[48];

	snprintf(what, sizeof(what), "minivm / %s", who_name(other));
	judge(row, what, judged(row, WHO_MINIVM) / judged(row, other), target, aim);
}

void judge_rows(struct row *row, const struct row *other, enum who who, const char *what,
		double target)
{
	judge(row, what, judged(row, who) / judged(other, who), target, 0);
}

/* Judged as it is printed, to three digits: 1.1 is not missed by a millionth. */
static double shown(double value)
{
	char text[32];
	double v = value;

	snprintf(text, sizeof(text), "%.3g", value);
	sscanf(text, "%lf", &v);
	return value < 100 ? v : value;
}

bool judgement_met(const struct judgement *j)
{
	return j->target == 0 || shown(j->value) <= j->target;
}

bool judgement_aim_met(const struct judgement *j)
{
	return j->aim != 0 && shown(j->value) <= j->aim;
}

static const char *verdict(const struct judgement *j)
{
	if (!judgement_met(j))
		return "MISS";
	if (j->aim == 0)
		return j->target == 0 ? "" : "pass";
	if (judgement_aim_met(j))
		return j->target == 0 ? "aim met" : "pass, aim met";
	return j->target == 0 ? "aim MISSED" : "pass, aim missed";
}

/* --- the table --- */

static void print_number(double v, int width)
{
	if (isnan(v))
		printf(" %*s", width, "-");
	else if (v >= 100 || v == floor(v))
		printf(" %*.0f", width, v);
	else
		printf(" %*.*f", width, v < 1 ? 3 : 2, v);
}

static bool has_samples(const struct results *r, unsigned who)
{
	unsigned i;

	for (i = 0; i < r->count; i++) {
		if (r->row[i].s[who].n)
			return true;
	}
	return false;
}

static void print_least(const struct results *r, const struct row *row)
{
	printf("    %-46s", "least");
	for (unsigned who = 0; who < WHO_COUNT; who++) {
		if (!has_samples(r, who))
			continue;
		print_number(series_min(&row->s[who]), 9);
		if (who == WHO_MINIVM)
			printf(" %9s %9s", "", "");
	}
	printf("\n");
}

static void print_row(const struct results *r, const struct row *row)
{
	unsigned who, i;

	printf("%-46s %-3s", row->name, row->unit);
	for (who = 0; who < WHO_COUNT; who++) {
		if (!has_samples(r, who))
			continue;
		print_number(series_median(&row->s[who]), 9);
		if (who == WHO_MINIVM) {
			print_number(series_min(&row->s[who]), 9);
			print_number(series_max(&row->s[who]), 9);
		}
	}
	printf("\n");
	if (row->seconds)
		print_least(r, row);
	for (i = 0; i < row->judgements; i++) {
		const struct judgement *j = &row->judgement[i];

		printf("    %-46s", j->what);
		print_number(j->value, 9);
		if (j->target != 0)
			printf("   target <= %g", j->target);
		if (j->aim != 0)
			printf("   aim <= %g", j->aim);
		printf("   %s\n", verdict(j));
	}
	if (row->note)
		printf("    %s\n", row->note);
}

unsigned results_print(const struct results *r, const char *head, bool emulated)
{
	unsigned i, k, who, missed = 0;

	printf("%s", head);
	if (emulated)
		printf("emulated host: only ratios and counts mean something, seconds do not\n");
	printf("\n%-46s %-3s", "figure: medians", "");
	for (who = 0; who < WHO_COUNT; who++) {
		if (has_samples(r, who))
			printf(" %9.9s", who_name(who));
		if (who == WHO_MINIVM)
			printf(" %9s %9s", "min", "max");
	}
	printf("\n");
	for (i = 0; i < r->count; i++) {
		print_row(r, &r->row[i]);
		for (k = 0; k < r->row[i].judgements; k++)
			missed += !judgement_met(&r->row[i].judgement[k]);
	}
	printf("\n");
	return missed;
}

/* --- JSON --- */

static json_t *number_or_null(double v)
{
	return isnan(v) ? json_null() : json_real(v);
}

static json_t *series_json(const struct series *s)
{
	return json_pack("{s:o, s:o, s:o, s:i}", "median", number_or_null(series_median(s)), "min",
			 number_or_null(series_min(s)), "max", number_or_null(series_max(s)),
			 "samples", (int)s->n);
}

static json_t *judgement_json(const struct judgement *j)
{
	json_t *o = json_pack("{s:s, s:f}", "what", j->what, "value", j->value);

	if (j->target != 0)
		json_object_update_new(
		    o, json_pack("{s:f, s:b}", "at_most", j->target, "met", judgement_met(j)));
	if (j->aim != 0)
		json_object_update_new(
		    o, json_pack("{s:f, s:b}", "aim", j->aim, "aim_met", judgement_aim_met(j)));
	return o;
}

static json_t *row_json(const struct row *row, bool emulated)
{
	json_t *o = json_pack("{s:s, s:s, s:b}", "name", row->name, "unit", row->unit, "meaningful",
			      !(row->seconds && emulated));
	json_t *judged = json_array();
	unsigned i;

	for (i = 0; i < WHO_COUNT; i++) {
		if (row->s[i].n)
			json_object_set_new(o, who_name(i), series_json(&row->s[i]));
	}
	for (i = 0; i < row->judgements; i++)
		json_array_append_new(judged, judgement_json(&row->judgement[i]));
	json_object_set_new(o, "judged", judged);
	if (row->note)
		json_object_set_new(o, "note", json_string(row->note));
	return o;
}

int results_json(const struct results *r, const char *head, bool emulated, const char *path)
{
	json_t *rows = json_array();
	json_t *root;
	unsigned i;
	int rc;

	for (i = 0; i < r->count; i++)
		json_array_append_new(rows, row_json(&r->row[i], emulated));
	root = json_pack("{s:s, s:b, s:o}", "host", head, "emulated", emulated, "figures", rows);
	if (!root)
		return -ENOMEM;
	rc = json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) ? -EIO : 0;
	json_decref(root);
	return rc;
}
