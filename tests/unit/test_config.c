/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of the configuration and the INI file: what examples in tests/grammar cannot hold (bytes
 * that are no text, sizes, kinds of files).
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minivm/config.h"

/* --- sizes --- */

static uint64_t size_of(const char *text)
{
	uint64_t v = 0;
	struct err err;

	cr_expect_eq(config_parse_size(text, &v, &err), 0, "%s", text);
	return v;
}

Test(config, sizes)
{
	cr_expect_eq(size_of("0"), 0);
	cr_expect_eq(size_of("1"), 1);
	cr_expect_eq(size_of("4K"), 4096);
	cr_expect_eq(size_of("4k"), 4096);
	cr_expect_eq(size_of("512M"), 512ull << 20);
	cr_expect_eq(size_of("2G"), 2ull << 30);
	cr_expect_eq(size_of("3T"), 3ull << 40);
	cr_expect_eq(size_of("18446744073709551615"), UINT64_MAX);
	cr_expect_eq(size_of("16777215T"), 16777215ull << 40);
}

Test(config, sizes_that_do_not_fit_64_bits_are_refused)
{
	static const char *const bad[] = {"18446744073709551616", "99999999999999999999999",
					  "18446744073709551610K", "16777216T",
					  "18014398509481984K"};
	struct err err;
	uint64_t v = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(config_parse_size(bad[i], &v, &err), -EINVAL, "%s", bad[i]);
		cr_expect_not_null(strstr(err.text, bad[i]), "%s", err.text);
	}
	cr_expect_eq(v, 7, "nothing is stored");
}

/* --- words --- */

static const char *fruit(const void *ctx, size_t i)
{
	static const char *const names[] = {"apple", "pear", "banana", "apple"};

	(void)ctx;
	return i < sizeof(names) / sizeof(names[0]) ? names[i] : NULL;
}

Test(config, suggestions)
{
	cr_expect_str_eq(config_suggest("aple", fruit, NULL), "apple");
	cr_expect_str_eq(config_suggest("pera", fruit, NULL), "pear");
	cr_expect_str_eq(config_suggest("bananas", fruit, NULL), "banana");
	cr_expect_str_eq(config_suggest("ban", fruit, NULL), "banana");
	cr_expect_null(config_suggest("", fruit, NULL));
	cr_expect_null(config_suggest("zucchini", fruit, NULL));
	cr_expect_null(config_suggest("bananabananabananabananabananabanana", fruit, NULL));
}

Test(config, name_lists_have_each_name_once_and_are_cut_to_size)
{
	char buf[64], tiny[8];

	cr_expect_str_eq(config_list_names(buf, sizeof(buf), fruit, NULL), "apple, pear, banana");
	cr_expect_str_eq(config_list_names(tiny, sizeof(tiny), fruit, NULL), "apple, ");
}

Test(config, quotes)
{
	char buf[CONFIG_QUOTE_MAX], text[200];

	cr_expect_str_eq(config_quote(buf, ""), "\"\"");
	cr_expect_str_eq(config_quote(buf, "a b"), "\"a b\"");
	for (size_t len = 60; len < sizeof(text); len++) {
		memset(text, 'x', len);
		text[len] = '\0';
		config_quote(buf, text);
		cr_expect_eq(buf[strlen(buf) - 1], '"', "length %zu", len);
	}
	cr_expect_not_null(strstr(buf, "xxx...\""));
}

/* --- the INI text --- */

static int parse(const char *text, struct vm_config *config, struct err *err)
{
	config_init(config);
	return config_parse_ini("dir/vm.ini", text, config, err);
}

static void expect_error(const char *text, const char *message)
{
	struct vm_config config;
	struct err err;

	cr_expect_lt(parse(text, &config, &err), 0, "%s", text);
	cr_expect_not_null(strstr(err.text, message), "expected: %s; got: %s", message, err.text);
	config_free(&config);
}

Test(config, ini_line_ends_and_byte_order_mark)
{
	struct vm_config config;
	struct err err;

	cr_expect_eq(
	    parse("\xef\xbb\xbf[boot]\r\nkernel = k\r\n\r\n[machine]\r\ncpus = 2", &config, &err),
	    0, "%s", err.text);
	cr_expect_str_eq(config.kernel, "dir/k");
	cr_expect_eq(config.cpus, 2);
	config_free(&config);
}

Test(config, ini_empty_and_comments_only)
{
	static const char *const texts[] = {"", "\n", "\n\n\n", "# a\n; b", "   \t\n"};
	struct vm_config config;
	struct err err;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cr_expect_eq(parse(texts[i], &config, &err), 0, "%zu: %s", i, err.text);
		config_free(&config);
	}
}

Test(config, ini_paths_are_relative_to_the_file)
{
	static const char *const names[][2] = {
	    {"vm.ini", "k"}, {"./vm.ini", "./k"}, {"/vm.ini", "//k"}, {"/a/b/vm.ini", "/a/b/k"}};
	struct err err;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct vm_config config;

		config_init(&config);
		cr_expect_eq(
		    config_parse_ini(names[i][0], "[boot]\nkernel=k\ninitrd=/r", &config, &err), 0);
		cr_expect_str_eq(config.kernel, names[i][1]);
		cr_expect_str_eq(config.initrd, "/r");
		config_free(&config);
	}
}

/* inih itself would cut the line in two and take the rest for another line. */
Test(config, ini_long_lines)
{
	char text[CONFIG_INI_LINE_MAX + 64] = "[boot]\ncmdline=";
	size_t head = strlen(text), start = strlen("[boot]\n");
	struct vm_config config;
	struct err err;

	memset(text + head, 'x', start + CONFIG_INI_LINE_MAX - head);
	cr_expect_eq(parse(text, &config, &err), 0, "%s", err.text);
	cr_expect_eq(strlen(config.cmdline), start + CONFIG_INI_LINE_MAX - head);
	config_free(&config);
	text[start + CONFIG_INI_LINE_MAX] = 'x';
	expect_error(text, "dir/vm.ini:2: the line is too long; at most 4096 bytes");
}

Test(config, ini_long_names)
{
	char text[300] = "[disk ", key[300] = "[boot]\n";

	memset(text + strlen(text), 'd', 100);
	strcat(text, "]\npath=x");
	expect_error(text, "dir/vm.ini:1: unknown section \"disk ddd");
	memset(key + strlen(key), 'k', 200);
	strcat(key, "=1");
	expect_error(key, "dir/vm.ini:2: unknown key \"kkk");
}

Test(config, ini_the_first_error_counts)
{
	expect_error("[boot]\nkernel=\n[machine]\ncpus=0\nfoo\n[bar]\n",
		     "dir/vm.ini:2: kernel has");
	expect_error("[boot]\nfoo\n[bar]\n", "dir/vm.ini:2: the line");
}

/* --- the INI file --- */

static char file_dir[] = "/tmp/test-config.XXXXXX";
static char file_path[64];

static void make_file(const void *data, size_t len)
{
	FILE *f;

	cr_assert_not_null(mkdtemp(file_dir));
	snprintf(file_path, sizeof(file_path), "%s/vm.ini", file_dir);
	f = fopen(file_path, "we");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(data, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
}

static void remove_file(void)
{
	unlink(file_path);
	rmdir(file_dir);
}

static int load_ini(struct vm_config *config, struct err *err)
{
	char *text = NULL;
	int rc = config_read_ini(file_path, &text, err);

	if (rc == 0)
		rc = config_parse_ini(file_path, text, config, err);
	free(text);
	return rc;
}

static void expect_load_error(int code, const char *message)
{
	struct vm_config config;
	struct err err;

	config_init(&config);
	cr_expect_eq(load_ini(&config, &err), -code, "%s", err.text);
	cr_expect_not_null(strstr(err.text, message), "%s", err.text);
	cr_expect_not_null(strstr(err.text, file_path), "%s", err.text);
	config_free(&config);
}

Test(config, file_with_a_nul_byte, .fini = remove_file)
{
	make_file("[boot]\nkernel=a\0b\n", 18);
	expect_load_error(EINVAL, "NUL byte at offset 15");
}

Test(config, file_of_1_mib_is_read_and_one_more_byte_is_refused, .fini = remove_file)
{
	char *big = malloc(CONFIG_INI_FILE_MAX + 1);
	struct vm_config config;
	struct err err;
	FILE *f;

	cr_assert_not_null(big);
	memset(big, '\n', CONFIG_INI_FILE_MAX + 1);
	memcpy(big + CONFIG_INI_FILE_MAX - 17, "[machine]\ncpus=3\n", 17);
	make_file(big, CONFIG_INI_FILE_MAX);
	free(big);
	config_init(&config);
	cr_expect_eq(load_ini(&config, &err), 0, "%s", err.text);
	cr_expect_eq(config.cpus, 3);
	config_free(&config);
	f = fopen(file_path, "ae");
	cr_assert_not_null(f);
	fputc('\n', f);
	fclose(f);
	expect_load_error(EFBIG, "at most 1 MiB");
}

Test(config, file_that_is_a_fifo_does_not_hang, .fini = remove_file, .timeout = 5)
{
	cr_assert_not_null(mkdtemp(file_dir));
	snprintf(file_path, sizeof(file_path), "%s/vm.ini", file_dir);
	cr_assert_eq(mkfifo(file_path, 0600), 0);
	expect_load_error(EINVAL, "not a regular file");
}

/* --- the whole --- */

Test(config, finish_names_disks_by_their_index)
{
	struct vm_config config;
	struct err err;

	config_init(&config);
	cr_expect_eq(config_set_kernel(&config, "k", NULL, &err), 0);
	cr_expect_eq(config_set_disk(&config, "a", NULL, &err), 0);
	cr_expect_eq(config_set_disk(&config, "b,id=x", NULL, &err), 0);
	cr_expect_eq(config_set_disk(&config, "c", NULL, &err), 0);
	cr_expect_eq(config_finish(&config, &err), 0, "%s", err.text);
	cr_expect_str_eq(config.disk[0].id, "disk0");
	cr_expect_str_eq(config.disk[1].id, "x");
	cr_expect_str_eq(config.disk[2].id, "disk2");
	config_free(&config);
}

Test(config, setting_twice_replaces)
{
	struct vm_config config;
	struct err err;

	config_init(&config);
	cr_expect_eq(config_set_kernel(&config, "a", NULL, &err), 0);
	cr_expect_eq(config_set_kernel(&config, "b", "dir", &err), 0);
	cr_expect_str_eq(config.kernel, "dir/b");
	cr_expect_eq(config_set_console(&config, "file=x", NULL, &err), 0);
	cr_expect_eq(config_set_console(&config, "serial", NULL, &err), 0);
	cr_expect_eq(config.console, CONSOLE_SERIAL);
	cr_expect_null(config.console_file);
	config_free(&config);
}
