/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hostile suite: minivm is given what it must refuse. Every refusal is judged alike: exit
 * status 125, one line on standard error that begins with "minivm: " and names what is wrong,
 * nothing on standard output, soon, and no file made, changed or removed.
 *
 * table.c: what the command line can say wrong. files.c: kernels cut short and made up. host.c:
 * hosts in a bad state. snapshots.c: saved machines. fixtures.c: the files that all of them use.
 */
#ifndef HOSTILE_SUITE_H
#define HOSTILE_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proc.h"
#include "tap.h"

struct options {
	const char *minivm;
	const char *kernel; /* a bzImage that is good */
	const char *root;   /* an ext4 image with our init */
	const char *filter;
	unsigned slow;
	unsigned mutations; /* of a saved state */
	bool verbose;
};

struct suite {
	struct options opt;
	struct tap tap;
	bool have_kvm;
	bool is_root;
	char dir[128];	  /* the fixtures, and all that minivm may touch */
	char minivm[256]; /* a copy of it in there, for users who see nothing else */
};

#define ARGS_MAX     24
#define ARG_PATH_MAX 512

/* One command line that must be refused. */
struct refusal {
	const char *name;
	const char *args[ARGS_MAX]; /* an "@" stands for the directory of the fixtures and "/" */
	const char *want;	    /* part of the line, also with "@"; NULL: not checked */
	/*
	 * minivm finds out only with KVM at hand. Where there is none, it says that instead, and
	 * all else must be as usual.
	 */
	bool kvm;
	bool root; /* the test needs root, for a user without rights or name spaces */
	int (*prepare)(void *suite); /* in the child before exec */
};

bool selected(const struct suite *s, const char *name);
/* In the child: where minivm's files would be made is where we look. Not 0: failed. */
int enter_cwd(void *suite);
/* Runs it and counts one result. */
void refuse(struct suite *s, const struct refusal *r);

/* fixtures.c */
int fixtures_make(struct suite *s);
void fixtures_remove(const struct suite *s);
/* The path of a fixture in a static buffer that holds until the fourth call after this. */
const char *fixture(const struct suite *s, const char *name);
int fixture_write(const struct suite *s, const char *name, const void *data, size_t len);
/*
 * A number that changes when anything below the directory does: names, types, sizes, times, and the
 * content of small files. Access times and the hidden names of running programs' files do not
 * count.
 */
uint64_t fixtures_hash(const struct suite *s);
/* In the child: a mount name space of its own. Not 0: failed. */
int own_mounts(void);
/* In the child: becomes a user without rights; the second is one who may use KVM. */
int become_nobody(void *suite);
int become_nobody_with_kvm(void *suite);

/* files.c: a freestanding kernel, `cli; hlt`, into the fixture "elf". */
int files_make_elf(const struct suite *s);

/* The parts of the suite. */
void run_table(struct suite *s);
void run_files(struct suite *s);
void run_host(struct suite *s);
void run_snapshots(struct suite *s);

#endif
