/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: a sequence of tagged sections {id, version, length}, nested where a part has parts.
 * All numbers are little-endian and of fixed width. docs/snapshot.md is the format, byte by byte.
 *
 * Writing never fails on the way: running out of memory is remembered and comes out at the end.
 * Reading is for hostile bytes: a reader never leaves its section; what is not there reads as 0
 * and is remembered, so a caller reads all that it wants, then asks once. Values that were read
 * are checked by whoever knows what they mean.
 */
#ifndef MINIVM_STATE_H
#define MINIVM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"

/* Four letters, as they stand in the file: STATE_ID('M', 'E', 'M', ' '). */
#define STATE_ID(a, b, c, d)                                                                       \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define STATE_DEPTH_MAX	  8    /* sections inside sections */
#define STATE_STRING_MAX  4096 /* bytes */
#define STATE_HEADER_LEN  56
#define STATE_SECTION_LEN 16
#define STATE_DIGEST_LEN  32

/* --- writing --- */

struct state_writer {
	uint8_t *data;
	size_t len;
	size_t capacity;
	int error; /* positive errno, or 0 */
	unsigned depth;
	size_t open[STATE_DEPTH_MAX]; /* where the open sections begin */
};

void state_writer_init(struct state_writer *w);
void state_writer_free(struct state_writer *w);

/* Sections may be opened inside sections; each state_begin() has its state_end(). */
void state_begin(struct state_writer *w, uint32_t id, uint16_t version);
void state_end(struct state_writer *w);

void state_put_u8(struct state_writer *w, uint8_t value);
void state_put_u16(struct state_writer *w, uint16_t value);
void state_put_u32(struct state_writer *w, uint32_t value);
void state_put_u64(struct state_writer *w, uint64_t value);
void state_put_bool(struct state_writer *w, bool value);
void state_put_bytes(struct state_writer *w, const void *bytes, size_t len);
/* NULL is kept apart from "". At most STATE_STRING_MAX bytes. */
void state_put_string(struct state_writer *w, const char *text);

/*
 * All sections are closed: puts the header with its checksum in front. The bytes stay the writer's.
 * -ENOMEM, -E2BIG (a string was too long, or sections were too deep).
 */
int state_seal(struct state_writer *w, struct err *err);

/* --- reading --- */

struct state_reader {
	const uint8_t *at;
	const uint8_t *end;
	uint32_t id;	  /* of the section that is read; 0: the whole */
	uint16_t version; /* of the section that is read */
	bool short_read;  /* something was read that is not there, or is no value of its kind */
};

/*
 * Checks header and checksum of `len` bytes and gives a reader of all sections; the bytes are
 * borrowed. -EINVAL: no such file, damaged, cut short; -ENOTSUP: another version of the format.
 */
int state_open(const void *data, size_t len, struct state_reader *out, struct err *err);

/*
 * The next section of `r`, which must be `id` in a version of 1 to `version`; `r` goes on behind
 * it. -EINVAL: another section, or none, or it is longer than what surrounds it; -ENOTSUP: version.
 */
int state_enter(struct state_reader *r, uint32_t id, uint16_t version, struct state_reader *section,
		struct err *err);
/* True if another section follows in `r`; *id is what it is. */
bool state_next(const struct state_reader *r, uint32_t *id);
/* All of the section was read and no more than it has, or -EINVAL. */
int state_leave(const struct state_reader *section, struct err *err);

uint8_t state_get_u8(struct state_reader *r);
uint16_t state_get_u16(struct state_reader *r);
uint32_t state_get_u32(struct state_reader *r);
uint64_t state_get_u64(struct state_reader *r);
bool state_get_bool(struct state_reader *r); /* 0 or 1, else a short read */
/* Copies; zeroes if they are not there. */
void state_get_bytes(struct state_reader *r, void *out, size_t len);
/* Borrowed from the reader's bytes; NULL if they are not there. */
const void *state_get_slice(struct state_reader *r, size_t len);
/* malloc'ed; NULL for NULL, and (a short read) without memory or with a NUL inside. */
char *state_get_string(struct state_reader *r);
/* Bytes left in the section. */
size_t state_left(const struct state_reader *r);

/* SHA-256. */
void state_digest(const void *data, size_t len, uint8_t out[STATE_DIGEST_LEN]);

/* A value that cannot be: "virtio-blk: saved state: queue size 7 is not possible". -EINVAL. */
int state_bad(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- devices --- */

/*
 * save appends the device's state to the section that is open; nothing of the machine runs. It may
 * refuse: -errno with the reason. restore reads it back into a device as it was made, before the
 * machine runs, and checks every value: the bytes may come from anybody. What was read beyond or
 * left is found by the caller.
 */
typedef int state_save_fn(void *dev, struct state_writer *w, struct err *err);
typedef int state_restore_fn(void *dev, struct state_reader *r, struct err *err);

/* For devices that have nothing to keep. */
state_save_fn state_save_nothing;
state_restore_fn state_restore_nothing;

#endif
