/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon over the control socket (docs/api.md) and by command, with a driver behind it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../lib/http_ask.h"
#include "api_rig.h"
#include "balloon_driver.h"
#include "minivm/clock.h"
#include "minivm/ctl.h"

#define MIB  (1u << 20)
#define NAME "web"

static char dir[] = "/tmp/minivm-api-XXXXXX";
static char path[96];
static char sub[64]; /* where ctl_socket_path() puts it */

static void open_socket(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/minivm", dir);
	snprintf(path, sizeof(path), "%s/" NAME ".sock", sub);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	cli.config.name = NAME;
	cli.config.memory = RING_RAM;
	machine.config = &cli.config;
	serve();
}

static void close_socket(void)
{
	serve_no_more();
	cr_expect_eq(rmdir(sub), 0, "the socket is removed");
	rmdir(dir);
}

static void make_machine(uint64_t stats_ns)
{
	make(MIB, stats_ns);
	start(F_VERSION_1 | F_STATS);
	machine.slot[0].virtio = drv.virtio;
	machine.device[0] = (struct board_device){.dev = balloon, .slot = &machine.slot[0]};
	machine.device_count = 1;
	open_socket();
}

static void setup(void)
{
	make_machine(0);
}

static void setup_asking(void)
{
	make_machine(5 * SECOND_NS);
}

static void teardown(void)
{
	close_socket();
	vdriver_fini(&drv);
}

#define BalloonTest(name)	Test(api_balloon, name, .init = setup, .fini = teardown)
#define AskingBalloonTest(name) Test(api_balloon, name, .init = setup_asking, .fini = teardown)

/* The answer has this status and, from the first brace on, this body. */
static void want(const char *method, const char *target, const char *body, int status,
		 const char *answer_body)
{
	char answer[1024], first[32];
	const char *brace;

	cr_assert(http_ask(path, method, target, body, 5, answer, sizeof(answer)));
	snprintf(first, sizeof(first), "HTTP/1.1 %d ", status);
	cr_expect(strncmp(answer, first, strlen(first)) == 0, "%s %s: %s", body, first, answer);
	brace = strchr(answer, '{');
	cr_expect_str_eq(brace ? brace : "", answer_body);
}

/* Refused, with these words in the fault message. */
static void want_fault(const char *method, const char *target, const char *body, const char *words)
{
	char answer[1024];

	cr_assert(http_ask(path, method, target, body, 5, answer, sizeof(answer)));
	cr_expect(strncmp(answer, "HTTP/1.1 400 ", 13) == 0, "%s: %s", body, answer);
	cr_expect(strstr(answer, "{\"fault_message\":\""), "%s", answer);
	cr_expect(strstr(answer, words), "\"%s\" is not in: %s", words, answer);
}

Test(api_balloon, a_machine_without, .init = open_socket, .fini = close_socket)
{
	want_fault("GET", "/balloon", "", "start it with --balloon");
	want_fault("PATCH", "/balloon", "{\"amount_mib\":1}", "start it with --balloon");
	want_fault("GET", "/balloon/statistics", "", "start it with --balloon");
	want_fault("PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}",
		   "start it with --balloon");
}

AskingBalloonTest(what_it_is)
{
	want("GET", "/balloon", "", 200,
	     "{\"amount_mib\":1,\"deflate_on_oom\":true,\"stats_polling_interval_s\":5,"
	     "\"free_page_reporting\":true}");
	want_fault("PUT", "/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}",
		   "there is no PUT /balloon");
}

BalloonTest(another_size)
{
	want("PATCH", "/balloon", "{\"amount_mib\":3}", 204, "");
	cr_expect_eq(rd(&drv, R_CONFIG), 3 * MIB / VIRTIO_BALLOON_PAGE);
	cr_expect_eq(rd(&drv, R_ISR), VIRTIO_ISR_CONFIG);
	want("GET", "/balloon", "", 200,
	     "{\"amount_mib\":3,\"deflate_on_oom\":true,\"stats_polling_interval_s\":0,"
	     "\"free_page_reporting\":true}");
	want("PATCH", "/balloon", "{\"amount_mib\":0}", 204, "");
	cr_expect_eq(rd(&drv, R_CONFIG), 0);
}

BalloonTest(sizes_that_are_refused)
{
	static const struct {
		const char *body, *why;
	} bad[] = {
	    {"", "is due"},
	    {"{}", "is due"},
	    {"{\"amount_mib\":null}", "is due"},
	    {"{\"amount_mib\":\"1\"}", "is due"},
	    {"{\"amount_mib\":1.5}", "is due"},
	    {"{\"amount_mib\":-1}", "is due"},
	    {"{\"amount_mib\":2,\"deflate_on_oom\":true}", "is due"},
	    {"[2]", "is due"},
	    {"{\"amount_mib\":4}", "less than the machine's memory of 4096K"},
	    {"{\"amount_mib\":17592186044417}", "less than the machine's memory"},
	    {"{\"amount_mib\":9223372036854775807}", "less than the machine's memory"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		want_fault("PATCH", "/balloon", bad[i].body, bad[i].why);
	cr_expect_eq(rd(&drv, R_CONFIG), MIB / VIRTIO_BALLOON_PAGE);
	cr_expect_eq(rd(&drv, R_ISR), 0);
}

/* The driver's statistics: one lies, one is unknown. */
static void tell(void)
{
	put_stat(0, 5, UINT64_MAX);
	put_stat(1, 0, 0);
	put_stat(2, 6, 4096);
	put_stat(3, 10, 1);
	tell_stats(4);
}

/* Those that the guest has told, and no others. */
BalloonTest(statistics)
{
	want("GET", "/balloon/statistics", "", 200,
	     "{\"target_pages\":256,\"actual_pages\":0,\"target_mib\":1,\"actual_mib\":0}");
	wr(&drv, R_CONFIG + 4, 511);
	tell();
	want("GET", "/balloon/statistics", "", 200,
	     "{\"target_pages\":256,\"actual_pages\":511,\"target_mib\":1,\"actual_mib\":1,"
	     "\"swap_in\":0,\"total_memory\":9223372036854775807,\"available_memory\":4096}");
}

#define INTERVAL(n) "{\"stats_polling_interval_s\":" n "}"

AskingBalloonTest(another_interval)
{
	static const char *const bad[] = {"",
					  "{}",
					  INTERVAL("\"1\""),
					  INTERVAL("-1"),
					  INTERVAL("3601"),
					  "{\"stats_polling_interval_s\":1,\"x\":1}"};
	struct virtio_balloon_stats stats;

	want("PATCH", "/balloon/statistics", INTERVAL("3600"), 204, "");
	virtio_balloon_stats(balloon, &stats);
	cr_expect_eq(stats.interval_ns, 3600 * SECOND_NS);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		want_fault("PATCH", "/balloon/statistics", bad[i], "is due");
	want_fault("PATCH", "/balloon/statistics", INTERVAL("0"), "cannot be switched off");
	virtio_balloon_stats(balloon, &stats);
	cr_expect_eq(stats.interval_ns, 3600 * SECOND_NS);
}

BalloonTest(no_interval)
{
	want("PATCH", "/balloon/statistics", INTERVAL("0"), 204, "");
	want_fault("PATCH", "/balloon/statistics", INTERVAL("1"), "cannot be switched on");
}

/* --- minivm balloon NAME [SIZE] --- */

/* The command's result; what it prints is `text`. */
static int command(const char *size, const char *text, struct err *err)
{
	const struct cli_result balloon_cli = {
	    .action = CLI_BALLOON, .operands = size ? 2 : 1, .operand = {NAME, size}};
	char *printed = NULL;
	size_t len;
	FILE *out = open_memstream(&printed, &len);
	int ret = ctl_run(&balloon_cli, out, err);

	fclose(out);
	cr_expect_str_eq(printed, text);
	free(printed);
	return ret;
}

BalloonTest(command_that_tells)
{
	struct err err = {0};

	wr(&drv, R_CONFIG + 4, 511);
	cr_expect_eq(command(NULL, "target 1048576\nactual 2093056\n", &err), 0, "%s", err.text);
	tell();
	cr_expect_eq(command(NULL,
			     "target 1048576\nactual 2093056\nswap_in 0\n"
			     "total_memory 9223372036854775807\navailable_memory 4096\n",
			     &err),
		     0, "%s", err.text);
}

BalloonTest(command_that_resizes)
{
	static const struct {
		const char *size;
		unsigned pages;
	} good[] = {{"3M", 768}, {"0", 0}, {"2048K", 512}};
	static const struct {
		const char *size, *why;
	} bad[] = {
	    {"2M5", "not a size"},
	    {"-1M", "not a size"},
	    {"4K", "\"4K\" is no multiple of 1M"},
	    {"4M", "less than the machine's memory"},
	    {"16777215T", "less than the machine's memory"},
	};
	struct err err = {0};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_expect_eq(command(good[i].size, "", &err), 0, "%s", err.text);
		cr_expect_eq(rd(&drv, R_CONFIG), good[i].pages);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(command(bad[i].size, "", &err), -EINVAL);
		cr_expect(strstr(err.text, bad[i].why), "%s", err.text);
		cr_expect_eq(rd(&drv, R_CONFIG), 512);
	}
}

Test(api_balloon, command_without_a_balloon, .init = open_socket, .fini = close_socket)
{
	struct err err = {0};

	cr_expect_eq(command(NULL, "", &err), -EINVAL);
	cr_expect(strstr(err.text, "start it with --balloon"), "%s", err.text);
}

Test(api_balloon, command_without_a_machine)
{
	struct err err = {0};

	cr_assert(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	cr_expect_eq(command(NULL, "", &err), -ENOENT);
	cr_expect_eq(command("1M", "", &err), -ENOENT);
	rmdir(dir);
}
