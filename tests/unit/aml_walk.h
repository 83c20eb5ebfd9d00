/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads AML back as a guest does (ACPI 6.4 §20.2), only the terms that minivm/aml.h makes; for the
 * unit tests and the fuzzer. Anything else, and any length that does not add up, is a failure.
 */
#ifndef AML_WALK_H
#define AML_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WALK_DEVICES_MAX 64
#define WALK_EVENTS_MAX	 4

struct walk_device {
	char name[5];
	char hid[16]; /* a string, or the EISA id decoded */
	char cid[16];
	uint32_t addr; /* the first element of ADDR */
	uint32_t uid;
	uint32_t memory, memory_len; /* the last ones */
	uint32_t gsi;
	uint32_t previous_gsi; /* the one before it */
	uint16_t io;
	uint8_t io_len;
	unsigned resources;
};

struct aml_walk {
	const uint8_t *at;
	bool bad;
	unsigned depth;
	unsigned count;
	struct walk_device device[WALK_DEVICES_MAX];
	struct walk_device *current;
	uint8_t s5; /* the first element of \_S5 */
	/* The method: If (Arg0 == if_value) Notify (notify_name, notify_value), and more of them */
	unsigned events;
	struct walk_event {
		uint32_t if_value, notify_value;
		char notify_name[5];
	} event[WALK_EVENTS_MAX];
};

static uint32_t walk_le(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static bool walk_fail(struct aml_walk *w)
{
	w->bad = true;
	return false;
}

/* n bytes before `end`, or NULL. */
static const uint8_t *walk_take(struct aml_walk *w, const uint8_t *end, size_t n)
{
	const uint8_t *p = w->at;

	if ((size_t)(end - p) < n) {
		walk_fail(w);
		return NULL;
	}
	w->at += n;
	return p;
}

/* §20.2.4; the end of what the length covers. */
static const uint8_t *walk_length(struct aml_walk *w, const uint8_t *end)
{
	const uint8_t *start = w->at, *p = walk_take(w, end, 1), *more;
	size_t total;

	if (!p)
		return NULL;
	more = walk_take(w, end, *p >> 6);
	if (!more)
		return NULL;
	total = *p >> 6 ? (*p & 0xf) | walk_le(more, *p >> 6) << 4 : *p & 0x3f;
	if (total > (size_t)(end - start) || total < (size_t)(w->at - start)) {
		walk_fail(w);
		return NULL;
	}
	return start + total;
}

static bool walk_name(struct aml_walk *w, const uint8_t *end, char name[5])
{
	const uint8_t *p = walk_take(w, end, 4);

	if (!p)
		return false;
	for (int i = 0; i < 4; i++)
		if (p[i] != '_' && (p[i] < 'A' || p[i] > 'Z') &&
		    (i == 0 || p[i] < '0' || p[i] > '9'))
			return walk_fail(w);
	memcpy(name, p, 4);
	name[4] = '\0';
	return true;
}

static bool walk_integer(struct aml_walk *w, const uint8_t *end, uint32_t *v)
{
	static const uint8_t size[] = {[0x0a] = 1, [0x0b] = 2, [0x0c] = 4};
	const uint8_t *op = walk_take(w, end, 1), *p;

	if (!op)
		return false;
	*v = *op;
	if (*op <= 1)
		return true;
	if (*op < 0x0a || *op > 0x0c)
		return walk_fail(w);
	p = walk_take(w, end, size[*op]);
	if (p)
		*v = walk_le(p, size[*op]);
	return p != NULL;
}

static bool walk_resource(struct aml_walk *w, const uint8_t *end)
{
	static struct walk_device nobody;
	struct walk_device *d = w->current ? w->current : &nobody;
	const uint8_t *p = w->at;
	size_t left = (size_t)(end - p), len;

	d->resources++;
	if (left >= 8 && p[0] == 0x47 && p[1] == 1) {
		d->io = (uint16_t)walk_le(p + 2, 2);
		d->io_len = p[7];
		len = walk_le(p + 4, 2) == d->io ? 8 : 0;
	} else if (left >= 12 && p[0] == 0x86 && walk_le(p + 1, 2) == 9 && p[3] == 1) {
		d->memory = walk_le(p + 4, 4);
		d->memory_len = walk_le(p + 8, 4);
		len = 12;
	} else if (left >= 9 && p[0] == 0x89 && walk_le(p + 1, 2) == 6 && p[3] == 3 && p[4] == 1) {
		d->previous_gsi = d->gsi;
		d->gsi = walk_le(p + 5, 4);
		len = 9;
	} else {
		return walk_fail(w);
	}
	w->at += len;
	return len ? true : walk_fail(w);
}

static bool walk_buffer(struct aml_walk *w, const uint8_t *end)
{
	uint32_t size;

	end = walk_length(w, end);
	if (!end || !walk_integer(w, end, &size) || size != (size_t)(end - w->at) || size < 2)
		return walk_fail(w);
	while (w->at < end - 2)
		if (!walk_resource(w, end - 2))
			return false;
	return walk_take(w, end, 2)[0] == 0x79 ? true : walk_fail(w);
}

static bool walk_package(struct aml_walk *w, const uint8_t *end, uint32_t *first)
{
	const uint8_t *count;
	uint32_t v;

	end = walk_length(w, end);
	count = end ? walk_take(w, end, 1) : NULL;
	for (unsigned i = 0; count && i < *count; i++) {
		if (!walk_integer(w, end, &v))
			return false;
		if (i == 0)
			*first = v;
	}
	return count && w->at == end ? true : walk_fail(w);
}

static void walk_eisa(uint32_t v, char id[16])
{
	static const char digits[] = "0123456789ABCDEF";
	uint32_t letters = (v & 0xff) << 8 | (v >> 8 & 0xff), number = v >> 8 >> 8;

	number = (number & 0xff) << 8 | number >> 8;
	for (int i = 0; i < 3; i++)
		id[i] = (char)('@' + (letters >> (10 - 5 * i) & 0x1f));
	for (int i = 0; i < 4; i++)
		id[3 + i] = digits[number >> (12 - 4 * i) & 0xf];
	id[7] = '\0';
}

static bool walk_string(struct aml_walk *w, const uint8_t *end, char *to, size_t size)
{
	const uint8_t *nul = memchr(w->at, 0, (size_t)(end - w->at));

	if (!nul)
		return walk_fail(w);
	memset(to, 0, size);
	memcpy(to, w->at, (size_t)(nul - w->at) < size ? (size_t)(nul - w->at) : size - 1);
	w->at = nul + 1;
	return true;
}

static bool walk_named(struct aml_walk *w, const uint8_t *end)
{
	struct walk_device *d = w->current;
	char name[5], text[16];
	uint32_t v = 0;

	if (!walk_name(w, end, name) || w->at == end)
		return walk_fail(w);
	switch (*w->at) {
	case 0x0d:
		w->at++;
		if (!walk_string(w, end, text, sizeof(text)))
			return false;
		if (d && !strcmp(name, "_HID"))
			memcpy(d->hid, text, sizeof(text));
		if (d && !strcmp(name, "_CID"))
			memcpy(d->cid, text, sizeof(text));
		return true;
	case 0x11:
		w->at++;
		return walk_buffer(w, end);
	case 0x12:
		w->at++;
		if (!walk_package(w, end, &v))
			return false;
		if (!strcmp(name, "_S5_"))
			w->s5 = (uint8_t)v;
		if (d && !strcmp(name, "ADDR"))
			d->addr = v;
		return true;
	}
	if (!walk_integer(w, end, &v))
		return false;
	if (d && !strcmp(name, "_HID"))
		walk_eisa(v, d->hid);
	if (d && !strcmp(name, "_UID"))
		d->uid = v;
	return true;
}

static bool walk_terms(struct aml_walk *w, const uint8_t *end);

static bool walk_inner(struct aml_walk *w, const uint8_t *end)
{
	bool good;

	w->depth++;
	good = walk_terms(w, end) && w->at == end;
	w->depth--;
	return good ? true : walk_fail(w);
}

static bool walk_device_term(struct aml_walk *w, const uint8_t *end)
{
	struct walk_device *outer = w->current;
	struct walk_device *d = &w->device[w->count < WALK_DEVICES_MAX ? w->count : 0];
	bool good;

	end = walk_length(w, end);
	if (!end || !walk_name(w, end, d->name))
		return false;
	w->count += w->count < WALK_DEVICES_MAX;
	w->current = d;
	good = walk_inner(w, end);
	w->current = outer;
	return good;
}

/* The one that is being read; those that there is no room for share the last. */
static struct walk_event *walk_event(struct aml_walk *w)
{
	return &w->event[w->events < WALK_EVENTS_MAX ? w->events : WALK_EVENTS_MAX - 1];
}

static bool walk_if(struct aml_walk *w, const uint8_t *end)
{
	const uint8_t *p;
	bool good;

	end = walk_length(w, end);
	p = end ? walk_take(w, end, 2) : NULL;
	if (!p || p[0] != 0x93 || p[1] < 0x68 || p[1] > 0x6e)
		return walk_fail(w);
	good = walk_integer(w, end, &walk_event(w)->if_value) && walk_inner(w, end);
	w->events++;
	return good;
}

static bool walk_term(struct aml_walk *w, const uint8_t *end)
{
	const uint8_t *p = walk_take(w, end, 1);
	char name[5];

	switch (*p) {
	case 0x08:
		return walk_named(w, end);
	case 0x10:
		end = walk_length(w, end);
		return end && walk_name(w, end, name) && walk_inner(w, end);
	case 0x14:
		end = walk_length(w, end);
		if (!end || !walk_name(w, end, name))
			return false;
		p = walk_take(w, end, 1);
		return p && *p <= 7 && walk_inner(w, end);
	case 0x5b:
		p = walk_take(w, end, 1);
		return p && *p == 0x82 ? walk_device_term(w, end) : walk_fail(w);
	case 0x86:
		return walk_name(w, end, walk_event(w)->notify_name) &&
		       walk_integer(w, end, &walk_event(w)->notify_value);
	case 0xa0:
		return walk_if(w, end);
	}
	return walk_fail(w);
}

static bool walk_terms(struct aml_walk *w, const uint8_t *end)
{
	while (w->at < end)
		if (!walk_term(w, end))
			return false;
	return true;
}

/* All of the code; true if it is well-formed. */
static bool aml_walk(struct aml_walk *w, const uint8_t *code, size_t len)
{
	*w = (struct aml_walk){.at = code};
	return walk_terms(w, code + len) && !w->bad;
}

#endif
