/* SPDX-License-Identifier: Apache-2.0 */
/* See boot_images.h. Encoders run with their defaults; a failure here is a failed test. */
#include "boot_images.h"

#include <criterion/criterion.h>

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#define SETUP_SECTS   3
#define PAYLOAD_OFF   0x400
#define LEGACY_BLOCK  (8u << 20)
#define FIRST_SEGMENT 0x1000

const char *const packing_names[PACKINGS] = {"gzip", "xz", "lzma", "lz4", "zstd"};

static uint8_t *must_alloc(size_t len)
{
	uint8_t *p = calloc(1, len ? len : 1);

	cr_assert_not_null(p);
	return p;
}

struct bytes blob_bytes(const struct blob *b)
{
	return (struct bytes){b->data, b->len};
}

struct blob blob_cut(const struct blob *b, size_t n)
{
	struct blob cut = {must_alloc(n), n};

	cr_assert_leq(n, b->len);
	memcpy(cut.data, b->data, n);
	return cut;
}

void blob_append(struct blob *b, const void *data, size_t len)
{
	b->data = realloc(b->data, b->len + len);
	cr_assert_not_null(b->data);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){0};
}

struct blob fake_elf(const struct fake_segment *seg, unsigned count, uint64_t entry)
{
	Elf64_Ehdr eh = {
	    .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_EXEC,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_entry = entry,
	    .e_phoff = sizeof(eh),
	    .e_ehsize = sizeof(eh),
	    .e_phentsize = sizeof(Elf64_Phdr),
	    .e_phnum = count,
	};
	struct blob out = {must_alloc(FIRST_SEGMENT), FIRST_SEGMENT};

	cr_assert_leq(sizeof(eh) + count * sizeof(Elf64_Phdr), FIRST_SEGMENT);
	memcpy(out.data, &eh, sizeof(eh));
	for (unsigned i = 0; i < count; i++) {
		Elf64_Phdr ph = {
		    .p_type = PT_LOAD,
		    .p_flags = PF_R | PF_W | PF_X,
		    .p_offset = out.len,
		    .p_vaddr = seg[i].vaddr,
		    .p_paddr = seg[i].paddr,
		    .p_filesz = seg[i].filesz,
		    .p_memsz = seg[i].memsz,
		};
		uint8_t *bytes = must_alloc(seg[i].filesz);

		memcpy(out.data + sizeof(eh) + i * sizeof(ph), &ph, sizeof(ph));
		memset(bytes, seg[i].fill, seg[i].filesz);
		blob_append(&out, bytes, seg[i].filesz);
		free(bytes);
	}
	return out;
}

struct blob fake_kernel(uint64_t paddr)
{
	struct fake_segment seg = {paddr, paddr, 0x2000, 0x4000, 0x90};

	return fake_elf(&seg, 1, paddr);
}

void append_note(struct blob *b, uint32_t type, const char *name, uint32_t namesz, const void *desc,
		 uint32_t descsz)
{
	static const uint8_t pad[4];
	const Elf64_Nhdr head = {.n_namesz = namesz, .n_descsz = descsz, .n_type = type};

	blob_append(b, &head, sizeof(head));
	blob_append(b, name, namesz);
	blob_append(b, pad, -namesz & 3);
	blob_append(b, desc, descsz);
	blob_append(b, pad, -descsz & 3);
}

struct blob pvh_note(uint64_t address, uint32_t descsz)
{
	struct blob b = {0};

	append_note(&b, 18, "Xen", 4, &address, descsz);
	return b;
}

struct blob fake_pvh_kernel(uint64_t entry, uint64_t pvh)
{
	struct fake_segment seg[] = {
	    {FAKE_PVH_LOAD, FAKE_PVH_LOAD, 0x2000, 0x4000, 0x90},
	    {0, 0, 1, 1, 0}, /* becomes the notes */
	};
	struct blob file = fake_elf(seg, 2, entry), note = pvh_note(pvh, 8);
	Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(file.data + sizeof(Elf64_Ehdr)) + 1;

	ph->p_type = PT_NOTE;
	ph->p_offset = file.len;
	ph->p_filesz = note.len;
	blob_append(&file, note.data, note.len);
	blob_free(&note);
	return file;
}

static struct blob pack_gzip(const struct blob *plain)
{
	struct blob out = {must_alloc(plain->len + 4096), plain->len + 4096};
	z_stream z = {.next_in = plain->data, .avail_in = plain->len};

	z.next_out = out.data;
	z.avail_out = out.len;
	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	out.len = z.total_out;
	deflateEnd(&z);
	return out;
}

static struct blob pack_xz(const struct blob *plain)
{
	size_t max = lzma_stream_buffer_bound(plain->len), used = 0;
	struct blob out = {must_alloc(max), 0};

	cr_assert_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, plain->data, plain->len,
					     out.data, &used, max),
		     LZMA_OK);
	out.len = used;
	return out;
}

static struct blob pack_lzma(const struct blob *plain)
{
	lzma_options_lzma options;
	lzma_stream l = LZMA_STREAM_INIT;
	size_t max = plain->len + plain->len / 2 + 4096;
	struct blob out = {must_alloc(max), 0};

	cr_assert_eq(lzma_lzma_preset(&options, 1), 0);
	cr_assert_eq(lzma_alone_encoder(&l, &options), LZMA_OK);
	l.next_in = plain->data;
	l.avail_in = plain->len;
	l.next_out = out.data;
	l.avail_out = max;
	cr_assert_eq(lzma_code(&l, LZMA_FINISH), LZMA_STREAM_END);
	out.len = l.total_out;
	lzma_end(&l);
	return out;
}

static struct blob pack_lz4(const struct blob *plain)
{
	static const uint8_t magic[4] = {0x02, 0x21, 0x4c, 0x18};
	struct blob out = {0};
	size_t at = 0;

	blob_append(&out, magic, 4);
	while (at < plain->len) {
		size_t n = plain->len - at < LEGACY_BLOCK ? plain->len - at : LEGACY_BLOCK;
		int max = LZ4_compressBound(n);
		uint8_t *block = must_alloc(max);
		uint32_t size =
		    LZ4_compress_default((const char *)plain->data + at, (char *)block, n, max);

		cr_assert_gt(size, 0);
		blob_append(&out, &size, 4);
		blob_append(&out, block, size);
		free(block);
		at += n;
	}
	return out;
}

static struct blob pack_zstd(const struct blob *plain)
{
	size_t max = ZSTD_compressBound(plain->len);
	struct blob out = {must_alloc(max), 0};

	out.len = ZSTD_compress(out.data, max, plain->data, plain->len, 1);
	cr_assert(!ZSTD_isError(out.len));
	return out;
}

struct blob pack(enum packing p, const struct blob *plain)
{
	static struct blob (*const packers[PACKINGS])(const struct blob *plain) = {
	    pack_gzip, pack_xz, pack_lzma, pack_lz4, pack_zstd,
	};

	return packers[p](plain);
}

struct blob pack_with_size(enum packing p, const struct blob *plain)
{
	struct blob out = pack(p, plain);
	uint32_t size = plain->len;

	if (p != PACK_GZIP)
		blob_append(&out, &size, sizeof(size));
	return out;
}

struct blob fake_bzimage(const struct blob *payload, void (*change)(struct setup_header *hdr))
{
	size_t setup = (SETUP_SECTS + 1) * 512;
	size_t kernel = (PAYLOAD_OFF + payload->len + 15) & ~(size_t)15;
	struct blob out = {must_alloc(setup + kernel), setup + kernel};
	struct setup_header hdr = {
	    .setup_sects = SETUP_SECTS,
	    .syssize = kernel / 16,
	    .boot_flag = 0xaa55,
	    .jump = (sizeof(hdr) - 0x11) << 8 | 0xeb,
	    .header = 0x53726448,
	    .version = 0x020f,
	    .loadflags = LOADED_HIGH,
	    .code32_start = 0x100000,
	    .initrd_addr_max = 0x7fffffff,
	    .kernel_alignment = 0x200000,
	    .relocatable_kernel = 1,
	    .xloadflags = XLF_KERNEL_64,
	    .cmdline_size = 2047,
	    .payload_offset = PAYLOAD_OFF,
	    .payload_length = payload->len,
	    .pref_address = 0x1000000,
	    .init_size = 0x800000,
	};

	if (change)
		change(&hdr);
	memset(out.data, 0xcc, setup); /* boot sector and set-up code: must not leak */
	memcpy(out.data + 0x1f1, &hdr, sizeof(hdr));
	memset(out.data + setup, 0xf4, PAYLOAD_OFF);
	memcpy(out.data + setup + PAYLOAD_OFF, payload->data, payload->len);
	return out;
}
