/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: examples from tests/grammar (see the README there), and what is made from the
 * option table: help, man page, completion.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/cli.h"

#define GRAMMAR	 "tests/grammar/"
#define ARGS_MAX 64

/* --- the configuration as text, "key=value" a line --- */

static const char *or_none(const char *s)
{
	return s != NULL ? s : "(none)";
}

static const char *yes_no(bool b)
{
	return b ? "yes" : "no";
}

static void dump_disk(FILE *out, unsigned i, const struct disk_config *d)
{
	fprintf(out, "disk%u.path=%s\ndisk%u.id=%s\ndisk%u.ro=%s\n", i, d->path, i, d->id, i,
		yes_no(d->readonly));
	fprintf(out, "disk%u.overlay=%s\ndisk%u.layer=%s\n", i, yes_no(d->overlay), i,
		or_none(d->overlay_file));
}

static void dump_net(FILE *out, unsigned i, const struct net_config *net)
{
	static const char *const kinds[] = {
	    [NET_TAP] = "tap", [NET_FD] = "fd", [NET_USER] = "user", [NET_PASST] = "passt"};

	fprintf(out, "net%u.id=%s\nnet%u.kind=%s\nnet%u.target=%s\nnet%u.fd=%d\nnet%u.mtu=%u\n", i,
		net->id, i, kinds[net->kind], i, or_none(net->target), i, net->fd, i, net->mtu);
	if (net->has_mac)
		fprintf(out, "net%u.mac=%02x:%02x:%02x:%02x:%02x:%02x\n", i, net->mac[0],
			net->mac[1], net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
	for (unsigned k = 0; k < net->forward_count; k++)
		fprintf(out, "net%u.forward%u=%s %s %u %u\n", i, k,
			net->forward[k].udp ? "udp" : "tcp", net->forward[k].address,
			net->forward[k].host_port, net->forward[k].guest_port);
}

static void dump_port(FILE *out, unsigned i, const struct port_config *p)
{
	static const char *const kinds[] = {"file", "unix", "pipe"};

	fprintf(out, "port%u=%s %s %s\n", i, p->name, kinds[p->kind], p->path);
}

static char *dump(const struct cli_result *r)
{
	static const char *const actions[] = {"run",	 "help", "version",  "doctor",
					      "restore", "wait", "ps",	     "pause",
					      "resume",	 "stop", "snapshot", "balloon"};
	static const char *const consoles[] = {"auto", "serial", "virtio", "none", "file"};
	static const char *const assists[] = {"auto", "on", "off"};
	static const char *const describes[] = {"auto", "acpi", "mptable", "fdt"};
	static const char *const entries[] = {"auto", "linux", "pvh"};
	static const char *const pages[] = {"off", "thp", "2M"};
	const struct vm_config *c = &r->config;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(out);
	fprintf(out, "\naction=%s\njson=%s\n", actions[r->action], yes_no(r->json));
	fprintf(out, "kernel=%s\ninitrd=%s\n", or_none(c->kernel), or_none(c->initrd));
	fprintf(out, "cmdline=%s\ncmdline-only=%s\n", or_none(c->cmdline),
		or_none(c->cmdline_only));
	fprintf(out, "cpus=%u\nmemory=%llu\ngrace=%u\n", c->cpus, (unsigned long long)c->memory,
		c->grace_seconds);
	fprintf(out, "console=%s\nconsole-file=%s\n", consoles[c->console],
		or_none(c->console_file));
	fprintf(out, "describe=%s\nentry=%s\n", describes[c->describe], entries[c->entry]);
	fprintf(out, "assist=%s\nstats=%s\nlog-level=%s\n", assists[c->assist], or_none(c->stats),
		log_level_name(c->log_level));
	fprintf(out, "hugepages=%s\ntimeline=%s\n", pages[c->pages], or_none(c->timeline));
	fprintf(out, "agent=%s\nhostname=%s\n", c->agent ? "on" : "off", or_none(c->hostname));
	fprintf(out, "rng=%s\nrng-rate=%llu\n", yes_no(c->rng), (unsigned long long)c->rng_rate);
	fprintf(out, "vsock-cid=%u\nvsock-path=%s\n", c->vsock_cid, or_none(c->vsock_path));
	fprintf(out, "kernel-cache=%s\n",
		!c->kernel_cached ? "off"
		: c->kernel_cache ? c->kernel_cache
				  : "default");
	fprintf(out, "name=%s\napi-sock=%s\n", or_none(c->name), or_none(c->api_sock));
	for (unsigned i = 0; i < r->operands; i++)
		fprintf(out, "operand%u=%s\n", i, r->operand[i]);
	fprintf(out, "balloon-stats=%u\n", c->balloon_stats);
	fprintf(out, "balloon=%s\nballoon-size=%llu\n", c->balloon ? "on" : "off",
		(unsigned long long)c->balloon_size);
	fprintf(out, "disks=%u\n", c->disk_count);
	for (unsigned i = 0; i < c->disk_count; i++)
		dump_disk(out, i, &c->disk[i]);
	fprintf(out, "nets=%u\n", c->net_count);
	for (unsigned i = 0; i < c->net_count; i++)
		dump_net(out, i, &c->net[i]);
	fprintf(out, "ports=%u\n", c->port_count);
	for (unsigned i = 0; i < c->port_count; i++)
		dump_port(out, i, &c->port[i]);
	fclose(out);
	return text;
}

/* --- one example --- */

struct example {
	char path[512];
	char *text; /* of the file, cut into lines */
	int argc;
	char *argv[ARGS_MAX];
	int expected_count;
	const char *expected[ARGS_MAX];
};

static char *read_text(const char *path)
{
	FILE *in = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	cr_assert_not_null(in, "%s", path);
	if (getdelim(&text, &size, '\0', in) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(in);
	return text;
}

static void load_example(struct example *x, const char *dir, const char *file)
{
	static char program[] = "minivm", config[] = "--config";
	bool ini = strstr(file, ".ini") != NULL;
	char *save;

	*x = (struct example){.argc = 1, .argv = {program}};
	snprintf(x->path, sizeof(x->path), "%s/%s", dir, file);
	x->text = read_text(x->path);
	if (ini) {
		x->argv[x->argc++] = config;
		x->argv[x->argc++] = x->path;
	}
	for (char *line = strtok_r(x->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		cr_assert_lt(x->expected_count, ARGS_MAX);
		cr_assert_lt(x->argc, ARGS_MAX);
		if (strncmp(line, "#= ", 3) == 0)
			x->expected[x->expected_count++] = line + 3;
		else if (line[0] != '#' && !ini)
			x->argv[x->argc++] = line;
	}
	cr_expect_gt(x->expected_count, 0, "%s expects nothing", x->path);
}

static void check_accept(struct example *x)
{
	struct cli_result r;
	struct err err;
	char *text;

	if (cli_parse(x->argc, x->argv, &r, &err) < 0) {
		cr_expect_fail("%s: rejected: %s", x->path, err.text);
		return;
	}
	text = dump(&r);
	for (int i = 0; i < x->expected_count; i++) {
		char line[1024];

		snprintf(line, sizeof(line), "\n%s\n", x->expected[i]);
		cr_expect_not_null(strstr(text, line), "%s: expected %s; got %s", x->path,
				   x->expected[i], text);
	}
	free(text);
	cli_result_free(&r);
}

static void check_reject(struct example *x)
{
	struct cli_result r;
	struct err err;

	if (cli_parse(x->argc, x->argv, &r, &err) == 0) {
		cr_expect_fail("%s: accepted", x->path);
		cli_result_free(&r);
		return;
	}
	for (int i = 0; i < x->expected_count; i++)
		cr_expect_not_null(strstr(err.text, x->expected[i]), "%s: expected %s; got %s",
				   x->path, x->expected[i], err.text);
}

/* Returns how many files there were. */
static unsigned check_directory(const char *dir, void (*check)(struct example *))
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	cr_assert_not_null(d, "%s: run the tests from the top of the tree", dir);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		struct example x;

		if (e->d_name[0] == '.')
			continue;
		load_example(&x, dir, e->d_name);
		check(&x);
		free(x.text);
		n++;
	}
	closedir(d);
	return n;
}

Test(cli, accepts_the_grammar)
{
	cr_expect_geq(check_directory(GRAMMAR "accept", check_accept), 40);
}

Test(cli, rejects_what_is_outside_the_grammar)
{
	cr_expect_geq(check_directory(GRAMMAR "reject", check_reject), 100);
}

/* --- what files cannot say --- */

Test(cli, no_arguments_at_all)
{
	char *const none[] = {NULL};
	char program[] = "minivm";
	char *const one[] = {program, NULL};
	struct cli_result r;
	struct err err;

	cr_expect_eq(cli_parse(0, none, &r, &err), -EINVAL);
	cr_expect_eq(cli_parse(1, one, &r, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "--help"), "%s", err.text);
}

Test(cli, separate_empty_value)
{
	char program[] = "minivm", option[] = "--kernel", value[] = "";
	char *const argv[] = {program, option, value, NULL};
	struct cli_result r;
	struct err err;

	cr_expect_eq(cli_parse(3, argv, &r, &err), -EINVAL);
	cr_expect_str_eq(err.text, "--kernel has an empty value; it takes FILE");
}

Test(cli, the_result_owns_its_strings)
{
	char program[] = "minivm", kernel[] = "--kernel=abc", disk[] = "--disk=d,id=x";
	char *const argv[] = {program, kernel, disk, NULL};
	struct cli_result r;
	struct err err;

	cr_assert_eq(cli_parse(3, argv, &r, &err), 0);
	memset(kernel, 'z', sizeof(kernel) - 1);
	memset(disk, 'z', sizeof(disk) - 1);
	cr_expect_str_eq(r.config.kernel, "abc");
	cr_expect_str_eq(r.config.disk[0].path, "d");
	cr_expect_str_eq(r.config.disk[0].id, "x");
	cli_result_free(&r);
}

Test(cli, control_characters_do_not_reach_the_terminal)
{
	char program[] = "minivm", bad[] = "--\x1b[31m\n";
	char *const argv[] = {program, bad, NULL};
	struct cli_result r;
	struct err err;

	cr_expect_eq(cli_parse(2, argv, &r, &err), -EINVAL);
	cr_expect_null(strpbrk(err.text, "\x1b\n"));
}

Test(cli, a_huge_word_leaves_room_for_the_message)
{
	static char bad[100000] = "--cpus=";
	char program[] = "minivm";
	char *const argv[] = {program, bad, NULL};
	struct cli_result r;
	struct err err;

	memset(bad + 7, '1', sizeof(bad) - 8);
	cr_expect_eq(cli_parse(2, argv, &r, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "is not a number from 1 to 32"), "%s", err.text);
}

/* --- options leave each other alone --- */

static char *const set[] = {
    "--kernel=k",
    "--entry=pvh",
    "--initrd=i",
    "--kernel-cache=/cache",
    "--cmdline=words",
    "--cpus=2",
    "--memory=64M",
    "--hugepages=thp",
    "--disk=d,id=x",
    "--net=tap=t",
    "--console=file=f",
    "--port=p=file:q",
    "--rng=rate=1K",
    "--vsock=cid=3,uds=v",
    "--balloon=1M,stats=2",
    "--agent=on",
    "--assist=on",
    "--describe=acpi",
    "--grace=1",
    "--stats=s",
    "--timeline=t",
    "--log-level=info",
    "--name=n",
};
/* What clears something. */
static char *const unset[] = {
    "--entry=auto",  "--kernel-cache=off", "--hugepages=off", "--console=none",	 "--rng=off",
    "--balloon=off", "--agent=off",	   "--assist=off",    "--describe=auto",
};
#define SET   (sizeof(set) / sizeof(set[0]))
#define UNSET (sizeof(unset) / sizeof(unset[0]))

static bool same_option(const char *a, const char *b)
{
	size_t len = strcspn(a, "=");

	return strncmp(a, b, len + 1) == 0;
}

/* What comes of `one` in front of all the others, or behind them. */
static char *dump_with(char *one, bool in_front)
{
	static char program[] = "minivm";
	char *argv[SET + 3] = {program, one};
	int argc = in_front ? 2 : 1;
	struct cli_result r;
	struct err err;
	char *text;

	for (size_t i = 0; i < SET; i++) {
		if (!same_option(one, set[i]))
			argv[argc++] = set[i];
	}
	if (!in_front)
		argv[argc++] = one;
	argv[argc] = NULL;
	cr_assert_eq(cli_parse(argc, argv, &r, &err), 0, "%s: %s", one, err.text);
	text = dump(&r);
	cli_result_free(&r);
	return text;
}

static void check_order(char *one)
{
	char *first = dump_with(one, true), *last = dump_with(one, false);

	cr_expect_str_eq(first, last, "%s", one);
	free(first);
	free(last);
}

static bool is_set(const char *name)
{
	char option[64];
	size_t i = 0;

	snprintf(option, sizeof(option), "--%s=", name);
	while (i < SET && !same_option(option, set[i]))
		i++;
	return i < SET;
}

Test(cli, the_order_of_options_is_of_no_account)
{
	size_t count;
	const struct cli_option *o = cli_options(&count);

	for (size_t i = 0; i < SET; i++)
		check_order(set[i]);
	for (size_t i = 0; i < UNSET; i++)
		check_order(unset[i]);
	/* A new option belongs up there; these exclude one that is. */
	for (size_t i = 0; i < count; i++)
		cr_expect(o[i].set == NULL || (o[i].commands & CLI_CMD_RUN) == 0 ||
			      is_set(o[i].name) || strcmp(o[i].name, "cmdline-only") == 0 ||
			      strcmp(o[i].name, "api-sock") == 0,
			  "--%s", o[i].name);
}

/* --- documents --- */

typedef void writer(FILE *out);

static char *written(writer *w)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(out);
	w(out);
	fclose(out);
	return text;
}

Test(cli, help_names_every_option_and_fits_a_terminal)
{
	char *text = written(cli_print_help), *save;
	size_t count;
	const struct cli_option *o = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		char name[64];

		snprintf(name, sizeof(name), "  --%s", o[i].name);
		cr_expect_not_null(strstr(text, name), "%s", name);
		cr_expect_not_null(strstr(text, o[i].help), "%s", name);
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		cr_expect_leq(strlen(line), 80, "%s", line);
	free(text);
}

Test(cli, version)
{
	char *text = written(cli_print_version);

	cr_expect_eq(strncmp(text, "minivm ", 7), 0, "%s", text);
	free(text);
}

static void write_man(FILE *out)
{
	char *template = read_text("docs/minivm.1.in");

	cli_write_man(template, out);
	free(template);
}

static void expect_same(const char *path, writer *w)
{
	char *committed = read_text(path), *fresh = written(w);

	cr_expect(strcmp(committed, fresh) == 0, "%s is stale: run `make docs`", path);
	free(committed);
	free(fresh);
}

Test(cli, committed_documents_are_fresh)
{
	expect_same("docs/minivm.1", write_man);
	expect_same("docs/minivm.bash-completion", cli_write_bash_completion);
}

/* roff's "\\-" back to "-". */
static void unescape(char *text)
{
	char *to = text;

	for (char *from = text; *from != '\0'; from++) {
		if (from[0] == '\\' && from[1] == '-')
			from++;
		*to++ = *from;
	}
	*to = '\0';
}

Test(cli, man_page_has_every_option_key_and_word)
{
	char *text = written(write_man);
	size_t count;
	const struct cli_option *o = cli_options(&count);

	unescape(text);
	cr_expect_null(strchr(text, '@'), "a mark of the template was not replaced");
	/* The first letter of a help line is a capital there. */
	for (size_t i = 0; i < count; i++) {
		cr_expect_not_null(strstr(text, o[i].help + 1), "--%s", o[i].name);
		cr_expect(o[i].key == NULL || strstr(text, o[i].key) != NULL, "%s", o[i].name);
	}
	for (size_t k = 0; k < CONFIG_DEVICE_KINDS; k++) {
		const struct device_word *w = config_device_kinds[k]->words;

		cr_expect_leq(config_device_kinds[k]->word_count, CONFIG_DEVICE_WORDS_MAX);
		for (size_t i = 0; i < config_device_kinds[k]->word_count; i++)
			cr_expect_not_null(strstr(text, w[i].help + 1), "%s", w[i].help);
	}
	free(text);
}

Test(cli, completion_is_a_script_that_bash_takes)
{
	cr_expect_eq(system("bash -n docs/minivm.bash-completion"), 0);
}
