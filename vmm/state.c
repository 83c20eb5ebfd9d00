/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container of saved state (docs/snapshot.md): header, checksum, sections.
 *
 *	header	 magic "MINIVMST", u32 format, u32 zero, u64 length of what follows the header,
 *		 SHA-256 of what follows the header
 *	section	 u32 id, u16 version, u16 zero, u64 length, then that many bytes
 *
 * The checksum finds damage, it keeps nobody out: who can write the file can make one. So every
 * length is compared with what is left before it is used, and the largest thing that is allocated
 * for a reader is a string of STATE_STRING_MAX bytes.
 *
 * System calls: none.
 */
#include "minivm/state.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sha2.h>

#define FORMAT_VERSION 1u

#define STRING_NULL UINT32_MAX

static const char magic[8] = {'M', 'I', 'N', 'I', 'V', 'M', 'S', 'T'};

/* Offsets in the header. */
#define HEADER_FORMAT 8
#define HEADER_LENGTH 16
#define HEADER_HASH   24
_Static_assert(HEADER_HASH + SHA256_DIGEST_LENGTH == STATE_HEADER_LEN, "the header's length");

/* Offsets in a section's head. */
#define SECTION_VERSION 4
#define SECTION_LENGTH	8

/* --- numbers --- */

static void store(uint8_t *out, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load(const uint8_t *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

/* --- writing --- */

void state_writer_init(struct state_writer *w)
{
	memset(w, 0, sizeof(*w));
	w->len = STATE_HEADER_LEN; /* state_seal() fills it in */
}

void state_writer_free(struct state_writer *w)
{
	free(w->data);
	state_writer_init(w);
}

/* Room for `len` bytes more, or NULL and the error is remembered. */
static uint8_t *make_room(struct state_writer *w, size_t len)
{
	size_t need = w->len + len;
	size_t capacity = w->capacity ? w->capacity : 4096;
	uint8_t *data;

	if (w->error)
		return NULL;
	while (capacity < need)
		capacity *= 2;
	if (capacity > w->capacity) {
		data = realloc(w->data, capacity);
		if (!data) {
			w->error = ENOMEM;
			return NULL;
		}
		w->data = data;
		w->capacity = capacity;
	}
	w->len = need;
	return w->data + need - len;
}

static void put(struct state_writer *w, uint64_t value, unsigned bytes)
{
	uint8_t *out = make_room(w, bytes);

	if (out)
		store(out, value, bytes);
}

void state_put_u8(struct state_writer *w, uint8_t value)
{
	put(w, value, 1);
}

void state_put_u16(struct state_writer *w, uint16_t value)
{
	put(w, value, 2);
}

void state_put_u32(struct state_writer *w, uint32_t value)
{
	put(w, value, 4);
}

void state_put_u64(struct state_writer *w, uint64_t value)
{
	put(w, value, 8);
}

void state_put_bool(struct state_writer *w, bool value)
{
	put(w, value, 1);
}

void state_put_bytes(struct state_writer *w, const void *bytes, size_t len)
{
	uint8_t *out = make_room(w, len);

	if (out && len > 0)
		memcpy(out, bytes, len);
}

void state_put_string(struct state_writer *w, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	if (len > STATE_STRING_MAX) {
		w->error = E2BIG;
		return;
	}
	state_put_u32(w, text ? (uint32_t)len : STRING_NULL);
	state_put_bytes(w, text, len);
}

void state_begin(struct state_writer *w, uint32_t id, uint16_t version)
{
	if (w->depth == STATE_DEPTH_MAX) {
		w->error = E2BIG;
		return;
	}
	w->open[w->depth++] = w->len;
	state_put_u32(w, id);
	state_put_u16(w, version);
	state_put_u16(w, 0);
	state_put_u64(w, 0); /* state_end() fills it in */
}

void state_end(struct state_writer *w)
{
	size_t start;

	assert(w->depth > 0);
	start = w->open[--w->depth];
	if (!w->error)
		store(w->data + start + SECTION_LENGTH, w->len - start - STATE_SECTION_LEN, 8);
}

int state_seal(struct state_writer *w, struct err *err)
{
	uint8_t *header;

	assert(w->depth == 0 || w->error);
	(void)make_room(w, 0);
	if (w->error)
		return err_sys(err, w->error, "saved state");
	header = w->data;
	memset(header, 0, STATE_HEADER_LEN);
	memcpy(header, magic, sizeof(magic));
	store(header + HEADER_FORMAT, FORMAT_VERSION, 4);
	store(header + HEADER_LENGTH, w->len - STATE_HEADER_LEN, 8);
	state_digest(header + STATE_HEADER_LEN, w->len - STATE_HEADER_LEN, header + HEADER_HASH);
	return 0;
}

/* --- reading --- */

int state_bad(struct err *err, const char *fmt, ...)
{
	char text[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return err_set(err, EINVAL, "saved state: %s", text);
}

void state_digest(const void *data, size_t len, uint8_t out[STATE_DIGEST_LEN])
{
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, data, len);
	SHA256Final(out, &ctx);
}

int state_open(const void *data, size_t len, struct state_reader *out, struct err *err)
{
	const uint8_t *header = data;
	uint8_t hash[STATE_DIGEST_LEN];
	uint32_t format;

	if (len < STATE_HEADER_LEN || memcmp(header, magic, sizeof(magic)) != 0)
		return err_set(err, EINVAL, "this is no saved state of minivm");
	format = (uint32_t)load(header + HEADER_FORMAT, 4);
	if (format != FORMAT_VERSION)
		return err_set(err, ENOTSUP,
			       "saved state of format %u; this minivm reads format %u", format,
			       FORMAT_VERSION);
	if (load(header + HEADER_FORMAT + 4, 4) != 0 ||
	    load(header + HEADER_LENGTH, 8) != len - STATE_HEADER_LEN)
		return state_bad(err, "it was cut short, or is longer than it says");
	state_digest(header + STATE_HEADER_LEN, len - STATE_HEADER_LEN, hash);
	if (memcmp(hash, header + HEADER_HASH, sizeof(hash)) != 0)
		return state_bad(err, "damaged: the checksum does not fit");
	*out = (struct state_reader){.at = header + STATE_HEADER_LEN, .end = header + len};
	return 0;
}

size_t state_left(const struct state_reader *r)
{
	return (size_t)(r->end - r->at);
}

const void *state_get_slice(struct state_reader *r, size_t len)
{
	const void *at = r->at;

	if (len > state_left(r)) {
		r->short_read = true;
		r->at = r->end;
		return NULL;
	}
	r->at += len;
	return at;
}

static uint64_t get(struct state_reader *r, unsigned bytes)
{
	const uint8_t *in = state_get_slice(r, bytes);

	return in ? load(in, bytes) : 0;
}

uint8_t state_get_u8(struct state_reader *r)
{
	return (uint8_t)get(r, 1);
}

uint16_t state_get_u16(struct state_reader *r)
{
	return (uint16_t)get(r, 2);
}

uint32_t state_get_u32(struct state_reader *r)
{
	return (uint32_t)get(r, 4);
}

uint64_t state_get_u64(struct state_reader *r)
{
	return get(r, 8);
}

bool state_get_bool(struct state_reader *r)
{
	uint8_t value = state_get_u8(r);

	if (value > 1)
		r->short_read = true;
	return value == 1;
}

void state_get_bytes(struct state_reader *r, void *out, size_t len)
{
	const void *in = state_get_slice(r, len);

	if (in)
		memcpy(out, in, len);
	else
		memset(out, 0, len);
}

char *state_get_string(struct state_reader *r)
{
	uint32_t len = state_get_u32(r);
	const char *in;
	char *text;

	if (r->short_read || len == STRING_NULL)
		return NULL;
	in = len <= STATE_STRING_MAX ? state_get_slice(r, len) : NULL;
	if (!in || memchr(in, '\0', len)) {
		r->short_read = true;
		return NULL;
	}
	text = strndup(in, len);
	if (!text)
		r->short_read = true;
	return text;
}

/* A section's id as text, for messages. */
static const char *id_name(uint32_t id, char out[5])
{
	for (unsigned i = 0; i < 4; i++) {
		char c = (char)(id >> (8 * i));

		out[i] = c;
		if (c < ' ' || c > '~')
			out[i] = '?';
	}
	out[4] = '\0';
	return out;
}

bool state_next(const struct state_reader *r, uint32_t *id)
{
	if (state_left(r) < STATE_SECTION_LEN)
		return false;
	*id = (uint32_t)load(r->at, 4);
	return true;
}

int state_enter(struct state_reader *r, uint32_t id, uint16_t version, struct state_reader *section,
		struct err *err)
{
	const uint8_t *head = state_get_slice(r, STATE_SECTION_LEN);
	char wanted[5], found[5];
	const uint8_t *content;
	uint64_t len;

	if (!head)
		return state_bad(err, "section %s is missing", id_name(id, wanted));
	if (load(head, 4) != id)
		return state_bad(err, "section %s where %s is due",
				 id_name((uint32_t)load(head, 4), found), id_name(id, wanted));
	len = load(head + SECTION_LENGTH, 8);
	content = len <= state_left(r) ? state_get_slice(r, len) : NULL;
	if (!content || load(head + SECTION_VERSION + 2, 2) != 0)
		return state_bad(err, "section %s is longer than its place", id_name(id, wanted));
	*section = (struct state_reader){
	    .at = content,
	    .end = content + len,
	    .id = id,
	    .version = (uint16_t)load(head + SECTION_VERSION, 2),
	};
	if (section->version == 0 || section->version > version)
		return err_set(err, ENOTSUP,
			       "saved state: section %s of version %u; this minivm reads up to %u",
			       id_name(id, wanted), section->version, version);
	return 0;
}

int state_leave(const struct state_reader *section, struct err *err)
{
	char name[5];

	if (section->short_read)
		return state_bad(err, "section %s is too short, or holds what cannot be",
				 id_name(section->id, name));
	if (section->at != section->end)
		return state_bad(err, "section %s has %zu bytes too many",
				 id_name(section->id, name), state_left(section));
	return 0;
}

/* --- devices without state --- */

int state_save_nothing(void *dev, struct state_writer *w, struct err *err)
{
	(void)dev;
	(void)w;
	(void)err;
	return 0;
}

int state_restore_nothing(void *dev, struct state_reader *r, struct err *err)
{
	(void)dev;
	(void)r;
	(void)err;
	return 0;
}
