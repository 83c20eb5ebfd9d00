/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bzImage container (boot.rst "The Real-Mode Kernel Header").
 *
 * Theory of operation: a bzImage is one boot sector, setup_sects sectors of real-mode set-up code
 * (never run here), then the protected-mode part, in which payload_offset and payload_length name
 * the compressed vmlinux. The setup header lies across the boot sector's end, from 0x1f1 to 0x202
 * plus the byte at 0x201; the rest of those sectors must not reach the zero page.
 *
 * We need the 64-bit entry point, so protocol 2.12 (Linux 3.8) with XLF_KERNEL_64.
 */
#include "minivm/image.h"

#include <errno.h>
#include <string.h>

#define SECTOR		512u
#define SETUP_SECTS_DEF 4u /* setup_sects 0 means this */
#define HEADER_OFF	0x1f1u
#define BOOT_FLAG_OFF	0x1feu
#define JUMP_LEN_OFF	0x201u
#define MAGIC_OFF	0x202u
#define BOOT_FLAG	0xaa55u
#define HEADER_MAGIC	0x53726448u /* "HdrS" */
#define PROTOCOL_MIN	0x020cu
/* A 2.12 header ends behind handover_offset. */
#define HEADER_END_MIN (HEADER_OFF + offsetof(struct setup_header, kernel_info_offset))
/* Where boot_params keeps something else again. */
#define HEADER_END_MAX offsetof(struct boot_params, edd_mbr_sig_buffer)

static uint32_t read_le(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

bool bzimage_probe(struct bytes file)
{
	return file.len >= MAGIC_OFF + 4 && read_le(file.data + BOOT_FLAG_OFF, 2) == BOOT_FLAG &&
	       read_le(file.data + MAGIC_OFF, 4) == HEADER_MAGIC;
}

/* Finds the setup header and copies what this program knows of it. */
static int parse_header(struct bytes file, struct bzimage *out, struct err *err)
{
	size_t end;

	if (!bzimage_probe(file))
		return err_set(err, ENOEXEC, "no Linux boot header");
	if (file.len < HEADER_END_MAX)
		return err_set(err, ENOEXEC, "truncated: it ends within the boot header");
	memcpy(&out->hdr, file.data + HEADER_OFF, sizeof(out->hdr));
	if (out->hdr.version < PROTOCOL_MIN)
		return err_set(err, ENOEXEC,
			       "boot protocol %u.%02u is too old, 2.12 (Linux 3.8) is needed",
			       out->hdr.version >> 8, out->hdr.version & 0xff);
	if (!(out->hdr.loadflags & LOADED_HIGH))
		return err_set(err, ENOEXEC, "a zImage; only bzImages are supported");
	if (!(out->hdr.xloadflags & XLF_KERNEL_64))
		return err_set(err, ENOEXEC, "a 32-bit kernel; only x86-64 is supported");
	end = MAGIC_OFF + file.data[JUMP_LEN_OFF];
	if (end < HEADER_END_MIN)
		return err_set(err, ENOEXEC, "its boot header is too short (it ends at %#zx)", end);
	if (end > HEADER_END_MAX)
		end = HEADER_END_MAX;
	out->setup = (struct bytes){file.data + HEADER_OFF, end - HEADER_OFF};
	/* What lies behind the file's header is set-up code, not fields. */
	if (out->setup.len < sizeof(out->hdr))
		memset((uint8_t *)&out->hdr + out->setup.len, 0, sizeof(out->hdr) - out->setup.len);
	return 0;
}

int bzimage_parse(struct bytes file, struct bzimage *out, struct err *err)
{
	uint64_t sects, setup, claimed;
	int rc;

	*out = (struct bzimage){0};
	rc = parse_header(file, out, err);
	if (rc)
		return rc;
	sects = out->hdr.setup_sects ? out->hdr.setup_sects : SETUP_SECTS_DEF;
	setup = (sects + 1) * SECTOR;
	claimed = (uint64_t)out->hdr.syssize * 16; /* rounded up to paragraphs */
	if (setup >= file.len || claimed > file.len - setup + 15)
		return err_set(err, ENOEXEC, "truncated: %zu bytes of %llu and %llu", file.len,
			       (unsigned long long)setup, (unsigned long long)claimed);
	out->kernel = (struct bytes){file.data + setup, file.len - setup};
	if (out->hdr.payload_offset == 0 || out->hdr.payload_length == 0)
		return 0;
	if (out->hdr.payload_offset > out->kernel.len ||
	    out->hdr.payload_length > out->kernel.len - out->hdr.payload_offset)
		return err_set(err, ENOEXEC,
			       "truncated or corrupt: the compressed kernel lies outside of it");
	out->payload =
	    (struct bytes){out->kernel.data + out->hdr.payload_offset, out->hdr.payload_length};
	return 0;
}
