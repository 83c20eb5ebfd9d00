/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations in a saved state: a restored machine has what was said, and what is said now. */
#include <criterion/criterion.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "minivm/cli.h"

#define WORDS(...) ((char *[]){__VA_ARGS__, NULL})

static int parse(struct cli_result *r, char **argv, struct err *err)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return cli_parse(argc, argv, r, err);
}

static struct state_writer w;

static void save(const struct cli_result *r)
{
	struct err err;

	state_writer_init(&w);
	cr_assert_eq(cli_layers_save(r, &w, &err), 0, "%s", err.text);
	cr_assert_eq(state_seal(&w, &err), 0);
}

/* The saved machine with another command line on top. */
static int restore(struct cli_result *r, char **argv, struct err *err)
{
	struct state_reader reader;
	int ret;

	cr_assert_eq(parse(r, argv, err), 0, "%s", err->text);
	cr_assert_eq(r->action, CLI_RESTORE);
	cr_assert_eq(state_open(w.data, w.len, &reader, err), 0);
	ret = cli_layers_restore(r, &reader, err);
	state_writer_free(&w);
	return ret;
}

Test(cli_layer, goes_on_with_what_was_said)
{
	char here[PATH_MAX], expected[PATH_MAX + 16];
	struct cli_result a, b;
	struct err err;

	cr_assert_not_null(getcwd(here, sizeof(here)));
	cr_assert_eq(
	    parse(&a,
		  WORDS("minivm", "--kernel", "vmlinux", "--cpus=3", "--memory", "64M", "--disk",
			"root.img,overlay=root.layer,id=root", "--disk", "data.img,ro", "--name",
			"first", "--stats=s.json", "--log-level=debug", "--cmdline", "a b"),
		  &err),
	    0, "%s", err.text);
	save(&a);
	cr_assert_eq(restore(&b, WORDS("minivm", "restore", "snap"), &err), 0, "%s", err.text);
	cr_expect_eq(b.config.cpus, 3);
	cr_expect_eq(b.config.memory, 64u << 20);
	cr_expect_str_eq(b.config.cmdline, "a b");
	cr_expect_str_eq(b.operand[0], "snap");
	snprintf(expected, sizeof(expected), "%s/root.img", here);
	cr_expect_str_eq(b.config.disk[0].path, expected);
	cr_expect(b.config.disk[0].overlay);
	cr_expect_null(b.config.disk[0].overlay_file, "the saved machine keeps its layer");
	cr_expect(b.config.disk[1].readonly);
	cr_expect_null(b.config.name);
	cr_expect_null(b.config.stats);
	cr_expect_eq(b.config.log_level, LOG_LEVEL_WARN);
	cli_result_free(&a);
	cli_result_free(&b);
}

Test(cli_layer, what_is_said_now_wins)
{
	struct cli_result a, b, c;
	struct err err;

	cr_assert_eq(parse(&a,
			   WORDS("minivm", "--kernel", "vmlinux", "--disk", "/a,overlay,id=x",
				 "--disk", "/b,ro", "--console", "none"),
			   &err),
		     0, "%s", err.text);
	save(&a);
	cr_assert_eq(restore(&b,
			     WORDS("minivm", "restore", "--console", "file=/c", "snap", "--disk",
				   "x=/d", "--disk=disk1=/e", "--name", "second"),
			     &err),
		     0, "%s", err.text);
	cr_expect_eq(b.config.console, CONSOLE_FILE);
	cr_expect_str_eq(b.config.disk[0].path, "/d");
	cr_expect_str_eq(b.config.disk[0].id, "x");
	cr_expect(b.config.disk[0].overlay, "as it was");
	cr_expect_str_eq(b.config.disk[1].path, "/e");
	cr_expect(b.config.disk[1].readonly, "as it was");
	cr_expect_str_eq(b.config.name, "second");
	/* And once more: the history is two command lines long. */
	save(&b);
	cr_assert_eq(
	    restore(&c, WORDS("minivm", "restore", "snap2", "--disk", "x=/f,overlay=/g"), &err), 0,
	    "%s", err.text);
	cr_expect_eq(c.layers, 3);
	cr_expect_eq(c.config.console, CONSOLE_FILE);
	cr_expect_str_eq(c.config.disk[0].path, "/f");
	cr_expect_str_eq(c.config.disk[0].overlay_file, "/g");
	cr_expect_str_eq(c.config.disk[1].path, "/e");
	cli_result_free(&a);
	cli_result_free(&b);
	cli_result_free(&c);
}

Test(cli_layer, no_such_disk)
{
	struct cli_result a, b;
	struct err err;

	cr_assert_eq(parse(&a, WORDS("minivm", "--kernel", "/k", "--disk", "/a"), &err), 0);
	save(&a);
	cr_assert_eq(restore(&b, WORDS("minivm", "restore", "s", "--disk", "disk1=/b"), &err),
		     -EINVAL);
	cr_expect_not_null(strstr(err.text, "disk1"), "%s", err.text);
	cli_result_free(&a);
	cli_result_free(&b);
}

/* A clone's frames go elsewhere; what its guest knows stays. */
Test(cli_layer, another_network)
{
	static const char *const refused[] = {"net9=user",
					      "net0=tap=t,mac=02:00:00:00:00:09",
					      "net0=user,mtu=1400",
					      "net0=tap=t,id=x",
					      "net0=",
					      "tap=t",
					      "net0=forward=tcp:1:1"};
	struct cli_result a, b;
	struct err err;

	cr_assert_eq(parse(&a,
			   WORDS("minivm", "--kernel", "/k", "--net",
				 "tap=tap0,mac=02:00:00:00:00:01,mtu=9000", "--net",
				 "user,id=out,forward=tcp:8080:80"),
			   &err),
		     0, "%s", err.text);
	save(&a);
	cr_assert_eq(restore(&b,
			     WORDS("minivm", "restore", "s", "--net", "net0=user,forward=udp:53:53",
				   "--net=out=passt=/p"),
			     &err),
		     0, "%s", err.text);
	cr_expect_eq(b.config.net_count, 2);
	cr_expect_eq(b.config.net[0].kind, NET_USER);
	cr_expect_null(b.config.net[0].target);
	cr_expect_eq(b.config.net[0].forward_count, 1);
	cr_expect_eq(b.config.net[0].mac[5], 1);
	cr_expect(b.config.net[0].has_mac);
	cr_expect_eq(b.config.net[0].mtu, 9000);
	cr_expect_str_eq(b.config.net[0].id, "net0");
	cr_expect_eq(b.config.net[1].kind, NET_PASST);
	cr_expect_eq(b.config.net[1].forward_count, 0);
	cr_expect_str_eq(b.config.net[1].target, "/p");
	cli_result_free(&b);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s", refused[i]);
		save(&a);
		cr_expect_eq(restore(&b, WORDS("minivm", "restore", "s", "--net", text), &err),
			     -EINVAL, "%s", refused[i]);
		cli_result_free(&b);
	}
	cli_result_free(&a);
}

/* The file's text is kept, not its name: it may change or go. */
Test(cli_layer, configuration_file)
{
	char name[] = "/tmp/minivm-layer-XXXXXX";
	int fd = mkstemp(name);
	struct cli_result a, b;
	struct err err;

	cr_assert_geq(fd, 0);
	cr_assert_gt(dprintf(fd, "[boot]\nkernel = vmlinux\n[machine]\ncpus = 5\n"), 0);
	close(fd);
	cr_assert_eq(parse(&a, WORDS("minivm", "--config", name, "--memory=32M"), &err), 0, "%s",
		     err.text);
	unlink(name);
	save(&a);
	cr_assert_eq(restore(&b, WORDS("minivm", "restore", "s"), &err), 0, "%s", err.text);
	cr_expect_eq(b.config.cpus, 5);
	cr_expect_eq(b.config.memory, 32u << 20);
	cr_expect_str_eq(b.config.kernel, "/tmp/vmlinux");
	cli_result_free(&a);
	cli_result_free(&b);
}

/* Whatever byte is changed: refused or taken, and nothing is touched that is not there. */
Test(cli_layer, mutations)
{
	struct cli_result a;
	struct err err;

	cr_assert_eq(parse(&a, WORDS("minivm", "--kernel", "/k", "--disk", "/a,ro"), &err), 0);
	save(&a);
	for (size_t i = STATE_HEADER_LEN; i < w.len; i++) {
		struct state_reader reader;
		struct cli_result b;
		uint8_t was = w.data[i];

		w.data[i] = (uint8_t)(was ^ (0x81u << (i % 3)));
		cr_assert_eq(state_seal(&w, &err), 0);
		cr_assert_eq(parse(&b, WORDS("minivm", "restore", "s"), &err), 0);
		cr_assert_eq(state_open(w.data, w.len, &reader, &err), 0);
		(void)cli_layers_restore(&b, &reader, &err);
		cli_result_free(&b);
		w.data[i] = was;
	}
	state_writer_free(&w);
	cli_result_free(&a);
}
