/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket when the process has no descriptors left. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../lib/http_ask.h"
#include "api_rig.h"

static char dir[] = "/tmp/minivm-api-XXXXXX";
static char path[64];

static void setup(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	cli.config.api_sock = path;
	serve();
}

static void teardown(void)
{
	serve_no_more();
	cr_expect_eq(rmdir(dir), 0, "the socket is removed");
}

static int new_client(void)
{
	const struct timeval tv = {5, 0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static void connect_and_send(int fd, const char *request, size_t len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	strcpy(addr.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(send(fd, request, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void ask_version(int fd)
{
	static const char request[] = "GET /version HTTP/1.1\r\n\r\n";

	connect_and_send(fd, request, sizeof(request) - 1);
}

static bool answered(int fd)
{
	char text[256] = "";

	return recv(fd, text, sizeof(text) - 1, 0) > 0 && strstr(text, "200 OK") != NULL;
}

static double loop_seconds(void)
{
	struct timespec ts;
	clockid_t clock;

	cr_assert_eq(pthread_getcpuclockid(thread, &clock), 0);
	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

Test(api, version, .init = setup, .fini = teardown)
{
	int fd = new_client();

	ask_version(fd);
	cr_expect(answered(fd));
	close(fd);
}

/* A peer that cannot be let in does not keep the loop busy, and is let in when there is room. */
Test(api, no_descriptors_left, .init = setup, .fini = teardown)
{
	const struct timespec nap = {0, 300000000};
	int fd = new_client(), last = dup(fd);
	struct rlimit limit, none;
	double before;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)last + 1;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	before = loop_seconds();
	ask_version(fd);
	nanosleep(&nap, NULL);
	cr_expect_lt(loop_seconds() - before, 0.1);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect(answered(fd));
	close(fd);
	close(last);
}

Test(api, nul_in_the_body, .init = setup, .fini = teardown)
{
	static const char request[] = "PATCH /vm HTTP/1.1\r\nContent-Length: 20\r\n\r\n"
				      "{\"state\":\"Resumed\"}\0";
	char text[256] = "";
	int fd = new_client();

	connect_and_send(fd, request, sizeof(request) - 1);
	cr_assert_gt(recv(fd, text, sizeof(text) - 1, 0), 0);
	cr_expect_not_null(strstr(text, "no HTTP/1.1 request"), "%s", text);
	close(fd);
}

/* --- without a machine --- */

struct waiter {
	struct api *api;
	unsigned asked;
	char state[64], memory[64];
	int end;
};

/* As main.c, but no machine is ever made; ends when "/end" is to be loaded. */
static void *wait_for_loads(void *opaque)
{
	const struct err why = {.text = "no such luck"};
	struct waiter *w = opaque;
	const char *state, *memory;
	struct err err = {0};

	while ((w->end = api_wait(w->api, &state, &memory, &err)) == 1) {
		w->asked++;
		snprintf(w->state, sizeof(w->state), "%s", state);
		snprintf(w->memory, sizeof(w->memory), "%s", memory);
		api_failed(w->api, &why);
		if (strcmp(w->state, "/end") == 0)
			break;
	}
	return NULL;
}

static struct waiter waiter;

static void setup_waiting(void)
{
	struct err err = {0};

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	cli.config.api_sock = path;
	cr_assert_eq(api_open_waiting(&cli, &waiter.api, &err), 0, "%s", err.text);
	cr_assert_eq(pthread_create(&thread, NULL, wait_for_loads, &waiter), 0);
}

static const char *ask(const char *method, const char *target, const char *body)
{
	static char answer[1024];

	cr_assert(http_ask(path, method, target, body, 5, answer, sizeof(answer)));
	return answer;
}

static void teardown_waiting(void)
{
	ask("PUT", "/snapshot/load", "{\"snapshot_path\":\"/end\",\"mem_file_path\":\"/m\"}");
	pthread_join(thread, NULL);
	cr_expect_eq(waiter.end, 1);
	api_close(waiter.api);
	cr_expect_eq(rmdir(dir), 0, "the socket is removed");
}

#define WaitTest(name) Test(api_load, name, .init = setup_waiting, .fini = teardown_waiting)

static void want(const char *answer, int status, const char *part)
{
	char first[32];

	snprintf(first, sizeof(first), "HTTP/1.1 %d ", status);
	cr_expect(strncmp(answer, first, strlen(first)) == 0, "%s", answer);
	cr_expect(strstr(answer, part) != NULL, "\"%s\" is not in: %s", part, answer);
}

WaitTest(what_needs_a_machine_is_refused)
{
	want(ask("GET", "/", ""), 200, "\"state\":\"Not started\"");
	want(ask("GET", "/version", ""), 200, "firecracker_version");
	want(ask("PATCH", "/vm", "{\"state\":\"Paused\"}"), 400, "no machine yet");
	want(ask("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}"), 400, "no machine yet");
	want(ask("PUT", "/snapshot/create", "{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\"}"),
	     400, "no machine yet");
	want(ask("PUT", "/boot-source", "{}"), 400, "there is no PUT /boot-source");
	cr_expect_eq(waiter.asked, 0);
}

WaitTest(bodies_that_are_refused)
{
	static const struct {
		const char *body, *why;
	} bad[] = {
	    {"", "is due"},
	    {"{}", "is due"},
	    {"{\"snapshot_path\":\"/s\"}", "one of mem_file_path and mem_backend"},
	    {"{\"mem_file_path\":\"/m\"}", "is due"},
	    {"{\"snapshot_path\":3,\"mem_file_path\":\"/m\"}", "is due"},
	    {"{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"x\":1}", "is due"},
	    {"{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"resume_vm\":1}", "is due"},
	    {"{\"snapshot_path\":\"/s\",\"mem_backend\":{\"backend_type\":\"File\"}}", "is due"},
	    {"{\"snapshot_path\":\"/s\",\"mem_backend\":{\"backend_type\":\"Uffd\","
	     "\"backend_path\":\"/u\"}}",
	     "backend_type is File"},
	    {"{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"mem_backend\":"
	     "{\"backend_type\":\"File\",\"backend_path\":\"/u\"}}",
	     "one of mem_file_path and mem_backend"},
	    {"{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"enable_diff_snapshots\":true}",
	     "no diff snapshots"},
	    {"{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"track_dirty_pages\":true}",
	     "no diff snapshots"},
	    {"[", "no JSON"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		want(ask("PUT", "/snapshot/load", bad[i].body), 400, bad[i].why);
	cr_expect_eq(waiter.asked, 0);
}

WaitTest(one_that_fails_may_be_followed_by_another)
{
	for (unsigned i = 1; i <= 3; i++) {
		want(ask("PUT", "/snapshot/load",
			 "{\"snapshot_path\":\"/s\",\"mem_backend\":{\"backend_type\":\"File\","
			 "\"backend_path\":\"/m\"},\"resume_vm\":true,"
			 "\"enable_diff_snapshots\":false}"),
		     400, "{\"fault_message\":\"no such luck\"}");
		cr_expect_eq(waiter.asked, i);
		cr_expect_str_eq(waiter.state, "/s");
		cr_expect_str_eq(waiter.memory, "/m");
		want(ask("GET", "/", ""), 200, "Not started");
	}
}

WaitTest(null_is_not_there)
{
	want(ask("PUT", "/snapshot/load", "{\"snapshot_path\":null,\"mem_file_path\":\"/m\"}"), 400,
	     "is due");
	cr_expect_eq(waiter.asked, 0);
	want(ask("PUT", "/snapshot/load",
		 "{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\",\"mem_backend\":null,"
		 "\"resume_vm\":null}"),
	     400, "no such luck");
	cr_expect_eq(waiter.asked, 1);
}

/* A connection that goes on is heard after a failure, too. */
WaitTest(connections_outlive_a_failure)
{
	int fd = new_client();

	ask_version(fd);
	cr_expect(answered(fd));
	ask("PUT", "/snapshot/load", "{\"snapshot_path\":\"/s\",\"mem_file_path\":\"/m\"}");
	cr_assert_eq(send(fd, "GET /version HTTP/1.1\r\n\r\n", 25, MSG_NOSIGNAL), 25);
	cr_expect(answered(fd));
	close(fd);
}
