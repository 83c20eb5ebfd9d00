/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A builder of ACPI Machine Language (ACPI 6.4 §20): just the terms that our DSDT is made of.
 *
 * Terms are appended to a buffer of the caller's. Those that hold others (scope, device, method,
 * If, resource template) are opened, filled and closed with aml_end(); their length goes in front
 * of them when they are closed. What does not fit any more is dropped and remembered: only
 * aml_finish() has to be checked.
 *
 * Names are those of the caller's program, not of its users: one segment of at most four characters
 * ("COM1"; "_SB" is padded to "_SB_"), asserted.
 */
#ifndef MINIVM_AML_H
#define MINIVM_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"

#define AML_DEPTH_MAX 8

struct aml_open {
	size_t at;     /* where the length will be inserted */
	bool template; /* a buffer of resource descriptors */
};

struct aml {
	uint8_t *data;
	size_t cap;
	size_t len;
	bool full; /* something did not fit */
	unsigned depth;
	struct aml_open open[AML_DEPTH_MAX];
};

void aml_init(struct aml *a, uint8_t *data, size_t cap);
/* All terms must be closed. 0 with the length in *len, or -E2BIG. */
int aml_finish(const struct aml *a, size_t *len, struct err *err);

/* --- terms that hold others --- */

void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
/* A method with 0 to 7 arguments, not serialized. */
void aml_method(struct aml *a, const char *name, unsigned args);
/* If (Arg<arg> == value) */
void aml_if_arg_equal(struct aml *a, unsigned arg, uint32_t value);
/* Name (_CRS, ResourceTemplate () {...}): between it and its end only aml_resource_*(). */
void aml_current_resources(struct aml *a);
void aml_end(struct aml *a);

/* --- terms --- */

void aml_name_integer(struct aml *a, const char *name, uint32_t value);
void aml_name_string(struct aml *a, const char *name, const char *text);
/* A compressed EISA id such as "PNP0501" (§19.3.4): three capitals, four hexadecimal digits. */
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);
/* A package of integers. */
void aml_name_package(struct aml *a, const char *name, const uint32_t *values, uint8_t count);
void aml_notify(struct aml *a, const char *name, uint32_t value);

/* --- resources (§6.4) --- */

/* `len` ports from `base`, all 16 address bits decoded. */
void aml_resource_io(struct aml *a, uint16_t base, uint8_t len);
void aml_resource_memory(struct aml *a, uint32_t base, uint32_t len); /* read and write */
/* A GSI, consumed: edge-triggered, active high, exclusive, as an irq_line is. */
void aml_resource_interrupt(struct aml *a, uint32_t gsi);

#endif
