/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML builder, see minivm/aml.h. Section numbers are those of ACPI 6.4.
 *
 * Theory of operation: a term that holds others starts with its opcode and a length (PkgLength)
 * that counts itself and takes one to four bytes. So only the place of the length is noted when
 * such a term is opened; aml_end() knows the size of what followed and moves it up by the bytes
 * that the length takes. Tables are small, and are built once.
 */
#include "minivm/aml.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { /* §20.3 */
       AML_NAME = 0x08,
       AML_BYTE = 0x0a,
       AML_WORD = 0x0b,
       AML_DWORD = 0x0c,
       AML_STRING = 0x0d,
       AML_SCOPE = 0x10,
       AML_BUFFER = 0x11,
       AML_PACKAGE = 0x12,
       AML_METHOD = 0x14,
       AML_EXTENDED = 0x5b,
       AML_ARG0 = 0x68,
       AML_NOTIFY = 0x86,
       AML_EQUAL = 0x93,
       AML_IF = 0xa0,
};

#define AML_EXT_DEVICE 0x82

#define NAME_LEN 4
#define ARGS_MAX 7

enum { /* §6.4.2, §6.4.3: resource descriptors, small ones with their length */
       RES_IO = 0x47,
       RES_END = 0x79,
       RES_MEMORY32 = 0x86,
       RES_INTERRUPT = 0x89,
};

#define IO_DECODE_16	   0x01
#define MEMORY_READ_WRITE  0x01
#define INTERRUPT_CONSUMER 0x01
#define INTERRUPT_EDGE	   0x02 /* polarity 0: active high; sharing 0: exclusive */

void aml_init(struct aml *a, uint8_t *data, size_t cap)
{
	*a = (struct aml){.data = data, .cap = cap};
}

int aml_finish(const struct aml *a, size_t *len, struct err *err)
{
	assert(a->depth == 0);
	if (a->full)
		return err_set(err, E2BIG, "AML: no room in %zu bytes", a->cap);
	*len = a->len;
	return 0;
}

static void insert(struct aml *a, size_t at, const void *bytes, size_t n)
{
	if (a->full || n > a->cap - a->len) {
		a->full = true;
		return;
	}
	memmove(a->data + at + n, a->data + at, a->len - at);
	memcpy(a->data + at, bytes, n);
	a->len += n;
}

static void put(struct aml *a, const void *bytes, size_t n)
{
	insert(a, a->len, bytes, n);
}

static void put_byte(struct aml *a, uint8_t byte)
{
	put(a, &byte, 1);
}

static size_t store_le(uint8_t *to, uint32_t value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(value >> 8 * i);
	return n;
}

static void put_le(struct aml *a, uint32_t value, size_t n)
{
	uint8_t bytes[4];

	store_le(bytes, value, n);
	put(a, bytes, n);
}

/* §20.2.3 ComputationalData: 0 and 1 have opcodes of their own, which are their values. */
static size_t encode_integer(uint8_t out[5], uint32_t value)
{
	if (value <= 1) {
		out[0] = (uint8_t)value;
		return 1;
	}
	if (value <= 0xff) {
		out[0] = AML_BYTE;
		return 1 + store_le(out + 1, value, 1);
	}
	if (value <= 0xffff) {
		out[0] = AML_WORD;
		return 1 + store_le(out + 1, value, 2);
	}
	out[0] = AML_DWORD;
	return 1 + store_le(out + 1, value, 4);
}

static void put_integer(struct aml *a, uint32_t value)
{
	uint8_t bytes[5];
	size_t n = encode_integer(bytes, value);

	put(a, bytes, n);
}

/* §20.2.4: the length in front of `body` bytes. Its own bytes count. */
static size_t encode_length(uint8_t out[4], size_t body)
{
	size_t more = body + 1 <= 0x3f ? 0 : body + 2 <= 0xfff ? 1 : body + 3 <= 0xfffff ? 2 : 3;
	size_t total = body + 1 + more;

	if (more == 0) {
		out[0] = (uint8_t)total;
		return 1;
	}
	/* Bits 7-6: how many bytes follow; 3-0: the lowest bits of the length. */
	out[0] = (uint8_t)(more << 6 | (total & 0xf));
	return 1 + store_le(out + 1, (uint32_t)(total >> 4), more);
}

/* §20.2.2 NameSeg */
static void put_name(struct aml *a, const char *name)
{
	char seg[NAME_LEN] = {'_', '_', '_', '_'};
	size_t n = strlen(name);

	assert(n > 0 && n <= NAME_LEN);
	for (size_t i = 0; i < n; i++)
		seg[i] = name[i];
	put(a, seg, NAME_LEN);
}

static void put_name_op(struct aml *a, const char *name)
{
	put_byte(a, AML_NAME);
	put_name(a, name);
}

/* --- terms that hold others --- */

static void open_term(struct aml *a, bool template)
{
	assert(a->depth < AML_DEPTH_MAX);
	a->open[a->depth++] = (struct aml_open){.at = a->len, .template = template};
}

void aml_scope(struct aml *a, const char *name)
{
	put_byte(a, AML_SCOPE);
	open_term(a, false);
	put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	put_byte(a, AML_EXTENDED);
	put_byte(a, AML_EXT_DEVICE);
	open_term(a, false);
	put_name(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	assert(args <= ARGS_MAX);
	put_byte(a, AML_METHOD);
	open_term(a, false);
	put_name(a, name);
	put_byte(a, (uint8_t)args); /* §20.2.5.2 MethodFlags: not serialized */
}

void aml_if_arg_equal(struct aml *a, unsigned arg, uint32_t value)
{
	assert(arg < ARGS_MAX);
	put_byte(a, AML_IF);
	open_term(a, false);
	put_byte(a, AML_EQUAL);
	put_byte(a, (uint8_t)(AML_ARG0 + arg));
	put_integer(a, value);
}

void aml_current_resources(struct aml *a)
{
	put_name_op(a, "_CRS");
	put_byte(a, AML_BUFFER);
	open_term(a, true);
}

/* §20.2.5.4 DefBuffer: between the length and the bytes stands how many there are. */
static void close_template(struct aml *a, size_t at)
{
	static const uint8_t end[2] = {RES_END, 0}; /* checksum 0: not used */
	uint8_t size[5];
	size_t n;

	put(a, end, sizeof(end));
	n = encode_integer(size, (uint32_t)(a->len - at));
	insert(a, at, size, n);
}

void aml_end(struct aml *a)
{
	struct aml_open open;
	uint8_t length[4];
	size_t n;

	assert(a->depth > 0);
	open = a->open[--a->depth];
	if (open.template)
		close_template(a, open.at);
	n = encode_length(length, a->len - open.at);
	insert(a, open.at, length, n);
}

/* --- terms --- */

void aml_name_integer(struct aml *a, const char *name, uint32_t value)
{
	put_name_op(a, name);
	put_integer(a, value);
}

void aml_name_string(struct aml *a, const char *name, const char *text)
{
	put_name_op(a, name);
	put_byte(a, AML_STRING);
	put(a, text, strlen(text) + 1);
}

static uint16_t eisa_digit(char c)
{
	assert((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
	return (uint16_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Letters of five bits each, then the digits; big-endian, unlike all else. */
void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
	uint16_t letters = 0, number = 0;

	assert(strlen(id) == 7);
	for (int i = 0; i < 3; i++) {
		assert(id[i] >= 'A' && id[i] <= 'Z');
		letters = (uint16_t)(letters << 5 | (id[i] - '@'));
	}
	for (int i = 3; i < 7; i++)
		number = (uint16_t)(number << 4 | eisa_digit(id[i]));
	put_name_op(a, name);
	put_byte(a, AML_DWORD);
	put_byte(a, (uint8_t)(letters >> 8));
	put_byte(a, (uint8_t)letters);
	put_byte(a, (uint8_t)(number >> 8));
	put_byte(a, (uint8_t)number);
}

void aml_name_package(struct aml *a, const char *name, const uint32_t *values, uint8_t count)
{
	put_name_op(a, name);
	put_byte(a, AML_PACKAGE);
	open_term(a, false);
	put_byte(a, count);
	for (uint8_t i = 0; i < count; i++)
		put_integer(a, values[i]);
	aml_end(a);
}

void aml_notify(struct aml *a, const char *name, uint32_t value)
{
	put_byte(a, AML_NOTIFY);
	put_name(a, name);
	put_integer(a, value);
}

/* --- resources --- */

/* §6.4.2.5 I/O Port Descriptor: lowest and highest base, alignment, length. */
void aml_resource_io(struct aml *a, uint16_t base, uint8_t len)
{
	put_byte(a, RES_IO);
	put_byte(a, IO_DECODE_16);
	put_le(a, base, 2);
	put_le(a, base, 2);
	put_byte(a, 1);
	put_byte(a, len);
}

/* §6.4.3.4 32-Bit Fixed Memory Range Descriptor */
void aml_resource_memory(struct aml *a, uint32_t base, uint32_t len)
{
	put_byte(a, RES_MEMORY32);
	put_le(a, 9, 2);
	put_byte(a, MEMORY_READ_WRITE);
	put_le(a, base, 4);
	put_le(a, len, 4);
}

/* §6.4.3.6 Extended Interrupt Descriptor, with one interrupt */
void aml_resource_interrupt(struct aml *a, uint32_t gsi)
{
	put_byte(a, RES_INTERRUPT);
	put_le(a, 6, 2);
	put_byte(a, INTERRUPT_CONSUMER | INTERRUPT_EDGE);
	put_byte(a, 1);
	put_le(a, gsi, 4);
}
