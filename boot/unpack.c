/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks the payload of a bzImage on the host, so that no guest spends its first moments on it.
 *
 * Theory of operation: one table row per format, found by its magic bytes (boot.rst
 * "payload_offset"). Each row's function decodes one whole stream from memory to memory and says
 * how much input it used. The output buffer is reserved at its greatest size with MAP_NORESERVE and
 * costs only the pages that are written. For every format but gzip the kernel's build appends the
 * unpacked size as a little-endian word, which serves as a check where it is found.
 */
#include "minivm/image.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <lz4.h>
#include <lzma.h>
#define ZLIB_CONST /* next_in points to const */
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* The legacy LZ4 frame that kernels use: blocks of at most 8 MiB unpacked, each behind its size. */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_BLOCK	 (8u << 20)

/* Kernels are packed with dictionaries of up to 128 MiB; a file that wants more is no kernel. */
#define LZMA_MEMORY_MAX (256ull << 20)

#define SIZE_WORD 4u

enum status {
	UNPACK_OK,
	UNPACK_TRUNCATED,
	UNPACK_CORRUPT,
	UNPACK_TOO_BIG,
	UNPACK_NO_MEMORY,
	UNPACK_WANTS_TOO_MUCH, /* a dictionary beyond LZMA_MEMORY_MAX */
};

struct stream {
	struct bytes in;
	uint8_t *out;
	size_t out_max; /* LZ4_BLOCK more bytes may be written */
	size_t in_used; /* results */
	size_t out_len;
};

struct format {
	const char *name;
	uint8_t magic[6];
	uint8_t magic_len;
	enum status (*decode)(struct stream *s);
};

static uint32_t read_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static enum status decode_gzip(struct stream *s)
{
	z_stream z = {0};
	enum status status;
	int rc;

	if (s->in.len > UINT32_MAX || s->out_max > UINT32_MAX)
		return UNPACK_TOO_BIG;
	z.next_in = s->in.data;
	z.avail_in = s->in.len;
	z.next_out = s->out;
	z.avail_out = s->out_max;
	if (inflateInit2(&z, MAX_WBITS + 16) != Z_OK) /* + 16: a gzip header */
		return UNPACK_NO_MEMORY;
	rc = inflate(&z, Z_FINISH);
	if (rc == Z_STREAM_END)
		status = UNPACK_OK;
	else if (rc == Z_MEM_ERROR)
		status = UNPACK_NO_MEMORY;
	else if (rc != Z_BUF_ERROR && rc != Z_OK)
		status = UNPACK_CORRUPT;
	else
		status = z.avail_out == 0 ? UNPACK_TOO_BIG : UNPACK_TRUNCATED;
	s->in_used = z.total_in;
	s->out_len = z.total_out;
	inflateEnd(&z);
	return status;
}

/* Runs an initialised decoder over the whole input; ends it. */
static enum status run_lzma(lzma_stream *l, struct stream *s)
{
	lzma_ret rc;
	enum status status;

	l->next_in = s->in.data;
	l->avail_in = s->in.len;
	l->next_out = s->out;
	l->avail_out = s->out_max;
	do {
		rc = lzma_code(l, LZMA_FINISH);
	} while (rc == LZMA_OK);
	if (rc == LZMA_STREAM_END)
		status = UNPACK_OK;
	else if (rc == LZMA_MEM_ERROR)
		status = UNPACK_NO_MEMORY;
	else if (rc == LZMA_MEMLIMIT_ERROR)
		status = UNPACK_WANTS_TOO_MUCH;
	else if (rc != LZMA_BUF_ERROR)
		status = UNPACK_CORRUPT;
	else
		status = l->avail_out == 0 ? UNPACK_TOO_BIG : UNPACK_TRUNCATED;
	s->in_used = l->total_in;
	s->out_len = l->total_out;
	lzma_end(l);
	return status;
}

static enum status decode_xz(struct stream *s)
{
	lzma_stream l = LZMA_STREAM_INIT;

	if (lzma_stream_decoder(&l, LZMA_MEMORY_MAX, 0) != LZMA_OK)
		return UNPACK_NO_MEMORY;
	return run_lzma(&l, s);
}

static enum status decode_lzma(struct stream *s)
{
	lzma_stream l = LZMA_STREAM_INIT;

	if (lzma_alone_decoder(&l, LZMA_MEMORY_MAX) != LZMA_OK)
		return UNPACK_NO_MEMORY;
	return run_lzma(&l, s);
}

/*
 * The frame has no end mark: it ends with the data, or where only a size word is left (4 bytes
 * cannot hold a block).
 */
static enum status decode_lz4(struct stream *s)
{
	const uint8_t *p = s->in.data + 4;
	size_t left = s->in.len - 4;

	while (left > SIZE_WORD) {
		uint32_t size = read_le32(p);
		int n;

		if (size == LZ4_LEGACY_MAGIC) { /* one more frame behind the first */
			p += 4;
			left -= 4;
			continue;
		}
		if (size > (uint32_t)LZ4_COMPRESSBOUND(LZ4_BLOCK))
			return UNPACK_CORRUPT;
		if (size > left - 4)
			return UNPACK_TRUNCATED;
		/* There is room for a whole block behind out_max. */
		n = LZ4_decompress_safe((const char *)p + 4, (char *)s->out + s->out_len, size,
					LZ4_BLOCK);
		if (n <= 0)
			return UNPACK_CORRUPT;
		s->out_len += n;
		if (s->out_len > s->out_max)
			return UNPACK_TOO_BIG;
		p += 4 + size;
		left -= 4 + size;
	}
	s->in_used = p - s->in.data;
	return UNPACK_OK;
}

static enum status decode_zstd(struct stream *s)
{
	size_t frame = ZSTD_findFrameCompressedSize(s->in.data, s->in.len);
	size_t n =
	    ZSTD_isError(frame) ? frame : ZSTD_decompress(s->out, s->out_max, s->in.data, frame);

	if (ZSTD_isError(n)) {
		switch (ZSTD_getErrorCode(n)) {
		case ZSTD_error_srcSize_wrong:
			return UNPACK_TRUNCATED;
		case ZSTD_error_dstSize_tooSmall:
			return UNPACK_TOO_BIG;
		case ZSTD_error_memory_allocation:
			return UNPACK_NO_MEMORY;
		default:
			return UNPACK_CORRUPT;
		}
	}
	s->in_used = frame;
	s->out_len = n;
	return UNPACK_OK;
}

static const struct format formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, decode_gzip},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, decode_xz},
    {"lzma", {0x5d, 0, 0}, 3, decode_lzma},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, decode_lz4},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, decode_zstd},
};

static const struct format *find_format(struct bytes packed)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const struct format *f = &formats[i];

		if (packed.len >= f->magic_len && !memcmp(packed.data, f->magic, f->magic_len))
			return f;
	}
	return NULL;
}

const char *unpack_name(struct bytes packed)
{
	const struct format *f = find_format(packed);

	return f ? f->name : NULL;
}

static int report(enum status status, const struct format *f, uint64_t max, struct err *err)
{
	switch (status) {
	case UNPACK_OK:
		return 0;
	case UNPACK_TRUNCATED:
		return err_set(err, ENOEXEC, "truncated: the %s data ends early", f->name);
	case UNPACK_CORRUPT:
		return err_set(err, ENOEXEC, "corrupt: the %s data does not unpack", f->name);
	case UNPACK_TOO_BIG:
		return err_set(err, E2BIG, "the %s data unpacks to more than %llu MiB", f->name,
			       (unsigned long long)(max >> 20));
	case UNPACK_WANTS_TOO_MUCH:
		return err_set(err, E2BIG, "the %s data needs more than %llu MiB to unpack",
			       f->name, LZMA_MEMORY_MAX >> 20);
	case UNPACK_NO_MEMORY:
		break;
	}
	return err_set(err, ENOMEM, "no memory to unpack the %s data", f->name);
}

int unpack(struct bytes packed, uint64_t max, struct unpacked *out, struct err *err)
{
	const struct format *f = find_format(packed);
	struct stream s = {.in = packed, .out_max = max};
	int rc;

	*out = (struct unpacked){0};
	if (!f)
		return err_set(err, ENOEXEC, "unknown compression");
	out->map_len = max + LZ4_BLOCK;
	out->map = mmap(NULL, out->map_len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (out->map == MAP_FAILED) {
		out->map = NULL;
		return report(UNPACK_NO_MEMORY, f, max, err);
	}
	/* Fewer page faults for tens of megabytes; a refusal changes nothing. */
	madvise(out->map, out->map_len, MADV_HUGEPAGE);
	s.out = out->map;
	rc = report(f->decode(&s), f, max, err);
	if (rc)
		goto fail;
	if (packed.len - s.in_used == SIZE_WORD &&
	    read_le32(packed.data + s.in_used) != (uint32_t)s.out_len) {
		rc = err_set(err, ENOEXEC, "corrupt: the %s data unpacks to %zu bytes, not %u",
			     f->name, s.out_len, read_le32(packed.data + s.in_used));
		goto fail;
	}
	out->bytes = (struct bytes){out->map, s.out_len};
	return 0;
fail:
	unpack_free(out);
	return rc;
}

void unpack_free(struct unpacked *u)
{
	if (u->map)
		munmap(u->map, u->map_len);
	*u = (struct unpacked){0};
}
