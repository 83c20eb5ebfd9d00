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

#include <criterion/criterion.h>

#include "../../vmm/machine_priv.h"
#include "minivm/api.h"

static char dir[] = "/tmp/minivm-api-XXXXXX";
static char path[64];
static struct machine machine;
static struct cli_result cli;
static struct api *api;
static pthread_t thread;

static void *run(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static void setup(void)
{
	struct err err = {0};

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	cli.config.api_sock = path;
	cr_assert_eq(loop_new(&machine.loop, &err), 0);
	cr_assert_eq(api_open(&machine, &cli, &api, &err), 0, "%s", err.text);
	cr_assert_eq(pthread_create(&thread, NULL, run, machine.loop), 0);
}

static void teardown(void)
{
	loop_quit(machine.loop);
	pthread_join(thread, NULL);
	api_close(api);
	loop_free(machine.loop);
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

static void ask_version(int fd)
{
	static const char request[] = "GET /version HTTP/1.1\r\n\r\n";
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	strcpy(addr.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
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
