/* SPDX-License-Identifier: Apache-2.0 */
/* What was measured: samples, medians, judgements; as a table and as JSON. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>

/* Whose samples. */
enum who {
	WHO_MINIVM,
	WHO_FLOOR, /* floor.c */
	WHO_QEMU,
	WHO_KVMTOOL,
	WHO_FIRECRACKER,
	WHO_COUNT,
};

const char *who_name(enum who who);

#define SAMPLES_MAX 256

struct series {
	double v[SAMPLES_MAX]; /* sorted by series_sort() */
	unsigned n;
};

void series_add(struct series *s, double value); /* beyond SAMPLES_MAX: dropped */
double series_median(const struct series *s);	 /* NAN without samples */
double series_min(const struct series *s);
double series_max(const struct series *s);

/* One comparison with a number. */
struct judgement {
	char what[48]; /* "minivm / floor" */
	double value;
	double target; /* at most; 0: none */
	double aim;    /* at most; 0: none */
};

#define JUDGEMENTS_MAX 3

struct row {
	char name[64];
	const char *unit; /* "ms", "" for counts */
	bool seconds;	  /* a time: means nothing on an emulated host */
	struct series s[WHO_COUNT];
	unsigned judgements;
	struct judgement judgement[JUDGEMENTS_MAX];
	const char *note; /* what others have published; NULL: nothing */
};

#define ROWS_MAX 48

struct results {
	unsigned count;
	struct row row[ROWS_MAX];
};

/* A new row, zeroed but for its name; it stays where it is. */
struct row *results_row(struct results *r, const char *unit, bool seconds, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Judges minivm's median itself, or its ratio to somebody else: of medians, where the row is of
 * times of least samples (none, if either has no samples).
 */
void judge_value(struct row *row, double target, double aim);
void judge_ratio(struct row *row, enum who other, double target, double aim);
/* The same ratio of who's in two rows; `what` says of what. */
void judge_rows(struct row *row, const struct row *other, enum who who, const char *what,
		double target);

bool judgement_met(const struct judgement *j);	   /* the target, if there is one */
bool judgement_aim_met(const struct judgement *j); /* false without an aim */

/* `head`: lines for the top. Returns how many targets were missed. */
unsigned results_print(const struct results *r, const char *head, bool emulated);
/* 0 or -errno. */
int results_json(const struct results *r, const char *head, bool emulated, const char *path);

#endif
