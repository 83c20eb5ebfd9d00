/* SPDX-License-Identifier: Apache-2.0 */
/* The bzImage container: its header fields and every way in which they can lie. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "boot_images.h"

static const struct blob payload = {(uint8_t *)(uintptr_t) "sixteen bytes...", 16};

static void refuse(const struct blob *file, const char *word)
{
	struct err err = {0};
	struct bzimage bz;

	cr_assert_eq(bzimage_parse(blob_bytes(file), &bz, &err), -ENOEXEC, "expected: %s", word);
	cr_assert_not_null(strstr(err.text, word), "'%s' in: %s", word, err.text);
}

static void refuse_changed(void (*change)(struct setup_header *hdr), const char *word)
{
	struct blob file = fake_bzimage(&payload, change);

	refuse(&file, word);
	blob_free(&file);
}

Test(boot_bzimage, parts_are_found)
{
	struct blob file = fake_bzimage(&payload, NULL);
	struct err err = {0};
	struct bzimage bz;

	cr_assert(bzimage_probe(blob_bytes(&file)));
	cr_assert_eq(bzimage_parse(blob_bytes(&file), &bz, &err), 0, "%s", err.text);
	cr_assert_eq(bz.kernel.data, file.data + 4 * 512);
	cr_assert_eq(bz.kernel.len, file.len - 4 * 512);
	cr_assert_eq(bz.payload.len, 16);
	cr_assert_arr_eq(bz.payload.data, payload.data, 16);
	cr_assert_eq(bz.setup.data, file.data + 0x1f1);
	cr_assert_eq(bz.setup.len, sizeof(struct setup_header));
	cr_assert_eq(bz.hdr.init_size, 0x800000);
	blob_free(&file);
}

static void sects_0(struct setup_header *hdr)
{
	hdr->setup_sects = 0;
	hdr->syssize -= 512 / 16; /* one set-up sector more than the builder's 3 */
	hdr->payload_offset -= 512;
}

Test(boot_bzimage, no_setup_sects_means_four)
{
	struct blob file = fake_bzimage(&payload, sects_0);
	struct err err = {0};
	struct bzimage bz;

	cr_assert_eq(bzimage_parse(blob_bytes(&file), &bz, &err), 0, "%s", err.text);
	cr_assert_eq(bz.kernel.data, file.data + 5 * 512);
	blob_free(&file);
}

static void version_2_11(struct setup_header *hdr)
{
	hdr->version = 0x020b;
}

static void zimage(struct setup_header *hdr)
{
	hdr->loadflags = 0;
}

static void only_32_bit(struct setup_header *hdr)
{
	hdr->xloadflags = 0;
}

static void short_header(struct setup_header *hdr)
{
	hdr->jump = 0x20 << 8 | 0xeb;
}

Test(boot_bzimage, unsupported_kernels_are_named)
{
	refuse_changed(version_2_11, "2.11");
	refuse_changed(zimage, "zImage");
	refuse_changed(only_32_bit, "32-bit");
	refuse_changed(short_header, "header");
}

static void far_payload(struct setup_header *hdr)
{
	hdr->payload_offset = UINT32_MAX;
}

static void long_payload(struct setup_header *hdr)
{
	hdr->payload_length = UINT32_MAX;
}

static void one_too_long(struct setup_header *hdr)
{
	hdr->payload_length = hdr->syssize * 16 - hdr->payload_offset + 1;
}

static void huge_syssize(struct setup_header *hdr)
{
	hdr->syssize = UINT32_MAX;
}

static void all_setup(struct setup_header *hdr)
{
	hdr->setup_sects = 255;
}

Test(boot_bzimage, absurd_numbers_are_refused)
{
	refuse_changed(far_payload, "outside");
	refuse_changed(long_payload, "outside");
	refuse_changed(one_too_long, "outside");
	refuse_changed(huge_syssize, "truncated");
	refuse_changed(all_setup, "truncated");
}

static void no_payload(struct setup_header *hdr)
{
	hdr->payload_offset = 0;
}

Test(boot_bzimage, no_payload_named_is_no_error)
{
	struct blob file = fake_bzimage(&payload, no_payload);
	struct err err = {0};
	struct bzimage bz;

	cr_assert_eq(bzimage_parse(blob_bytes(&file), &bz, &err), 0, "%s", err.text);
	cr_assert_eq(bz.payload.len, 0);
	blob_free(&file);
}

Test(boot_bzimage, every_truncation_is_noticed)
{
	struct blob file = fake_bzimage(&payload, NULL);

	for (size_t n = 0; n < file.len - 15; n++) {
		struct blob cut = blob_cut(&file, n);

		refuse(&cut, n < 0x206 ? "header" : "truncated");
		blob_free(&cut);
	}
	blob_free(&file);
}

static void short_but_whole(struct setup_header *hdr)
{
	hdr->jump = (0x264 + 4 - 0x202) << 8 | 0xeb; /* a 2.12 header */
	hdr->kernel_info_offset = 0xdeadbeef;	     /* what lies there is no field */
}

static void longer_than_known(struct setup_header *hdr)
{
	hdr->jump = 0xff << 8 | 0xeb;
}

Test(boot_bzimage, header_length_is_the_files_own)
{
	struct blob file = fake_bzimage(&payload, short_but_whole);
	struct err err = {0};
	struct bzimage bz;

	cr_assert_eq(bzimage_parse(blob_bytes(&file), &bz, &err), 0, "%s", err.text);
	cr_assert_eq(bz.setup.len, 0x268 - 0x1f1);
	cr_assert_eq(bz.hdr.kernel_info_offset, 0);
	blob_free(&file);

	file = fake_bzimage(&payload, longer_than_known);
	cr_assert_eq(bzimage_parse(blob_bytes(&file), &bz, &err), 0, "%s", err.text);
	cr_assert_eq(bz.setup.len, 0x290 - 0x1f1, "up to the next field of boot_params");
	blob_free(&file);
}
