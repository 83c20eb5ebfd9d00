/* SPDX-License-Identifier: Apache-2.0 */
/* Named ports: files, sockets and FIFOs on one side, a driver with one port open on the other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "minivm/port.h"
#include "port_driver.h"

static char dir[64];
static char path[100];
static struct port *port;
static struct log log_to;
static int log_pipe[2];

static char *in_dir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(dir, sizeof(dir), "/tmp/minivm-port-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(pipe(log_pipe), 0);
	cr_assert_eq(fcntl(log_pipe[0], F_SETFL, O_NONBLOCK), 0);
	log_to = (struct log){.fd = log_pipe[1], .level = LOG_LEVEL_WARN};
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
	close(log_pipe[0]);
	close(log_pipe[1]);
}

#define PortTest(name, ...)                                                                        \
	Test(port, name, .init = setup, .fini = teardown, .timeout = 30, ##__VA_ARGS__)

/* The value of the next PORT_OPEN, waited for; -1: none comes. */
static int heard_open(void)
{
	for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
		struct control msg;
		uint32_t id, len;

		if (!ring_take(&queues.ring[CONTROL_RX], &id, &len)) {
			usleep(1000);
			continue;
		}
		memcpy(&msg, vqueue_buffer_at(&queues, CONTROL_RX, id), sizeof(msg));
		vqueue_offer(&queues, CONTROL_RX, id, 64, true);
		kick(CONTROL_RX);
		if (msg.event == PORT_OPEN)
			return msg.value;
	}
	return -1;
}

static void start(enum port_kind kind, const char *where)
{
	static char name[] = "test", text[128];
	static struct port_config config = {.name = name};
	struct virtio_console_port_options opt_port = {.name = name, .host = &port_host};
	const struct virtio_console_options opt = {.named = 1, .port = &opt_port, .log = &log_to};
	struct virtio_console *virtio;
	struct loop *loop;
	struct err err = {0};

	snprintf(text, sizeof(text), "%s", where);
	config.kind = kind;
	config.path = text;
	cr_assert_eq(loop_new(&loop, &err), 0);
	cr_assert_eq(port_check(&config, &err), 0, "%s", err.text);
	cr_assert_eq(port_open(&config, loop, &log_to, &port, &err), 0, "%s", err.text);
	opt_port.opaque = port;
	cr_assert_eq(virtio_console_new(&opt, &virtio, &err), 0);
	port_attach(port, virtio, 1);
	port_driver_start(virtio, loop);
}

static void stop(void)
{
	port_driver_stop();
	port_close(port);
	port_driver_free();
}

/* Gives a buffer and waits until it comes back. */
static void want_guest_reads(const char *text)
{
	uint32_t len;
	const char *got = guest_reads(100, &len);

	cr_assert_eq(len, strlen(text), "%u bytes", len);
	cr_assert_arr_eq(got, text, len);
}

static void want_text(int fd, const char *text)
{
	char got[256];
	size_t n = 0;

	while (n < strlen(text)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t part;

		cr_assert_eq(poll(&p, 1, PATIENCE_MS), 1, "nothing came");
		part = read(fd, got + n, strlen(text) - n);
		cr_assert_gt(part, 0);
		n += (size_t)part;
	}
	cr_assert_arr_eq(got, text, n);
}

static unsigned log_lines(void)
{
	char text[4096];
	ssize_t n = read(log_pipe[0], text, sizeof(text));
	unsigned lines = 0;

	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	return lines;
}

/* --- files --- */

PortTest(file)
{
	int fd;

	start(PORT_FILE, in_dir("log"));
	cr_assert_eq(heard_open(), 1);
	guest_writes("line 1\n");
	guest_writes("line 2\n");
	cr_assert_eq(vqueue_used(&queues, TX), 2);
	stop();
	fd = open(in_dir("log"), O_RDONLY);
	want_text(fd, "line 1\nline 2\n");
	close(fd);
}

PortTest(full_disk)
{
	start(PORT_FILE, "/dev/full");
	for (unsigned i = 0; i < 100; i++)
		guest_writes("0123456789");
	cr_assert_eq(vqueue_used(&queues, TX), 100);
	cr_assert_eq(port_dropped(port), 1000);
	cr_assert_eq(log_lines(), 1);
	stop();
}

/* --- sockets --- */

static void client_connects(int fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", dir);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

static int client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	client_connects(fd);
	return fd;
}

PortTest(socket_both_ways)
{
	int fd;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	/* Nobody is there: it waits. */
	guest_writes("early");
	cr_assert_eq(vqueue_used(&queues, TX), 0);
	fd = client();
	cr_assert_eq(heard_open(), 1);
	want_text(fd, "early");
	cr_assert_eq(write(fd, "hello", 5), 5);
	want_guest_reads("hello");
	guest_writes("bye");
	want_text(fd, "bye");
	close(fd);
	stop();
	cr_assert_eq(access(in_dir("sock"), F_OK), -1);
}

/* A guest may use them up for a while, with connections: the port is there again afterwards. */
PortTest(socket_without_descriptors)
{
	struct pollfd complaint = {.fd = log_pipe[0], .events = POLLIN};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct rlimit limit, none;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd + 1;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	client_connects(fd);
	cr_assert_eq(poll(&complaint, 1, PATIENCE_MS), 1, "it does not complain");
	cr_expect_geq(log_lines(), 1);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(heard_open(), 1);
	guest_writes("there");
	want_text(fd, "there");
	close(fd);
	stop();
}

/* One client at a time; the next waits until the first is gone. */
PortTest(socket_clients_in_turn)
{
	int first, second;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	first = client();
	cr_assert_eq(heard_open(), 1);
	second = client();
	cr_assert_eq(write(second, "second", 6), 6);
	cr_assert_eq(write(first, "first", 5), 5);
	want_guest_reads("first");
	close(first);
	cr_assert_eq(heard_open(), 0);
	cr_assert_eq(heard_open(), 1);
	want_guest_reads("second");
	guest_writes("well");
	want_text(second, "well");
	close(second);
	cr_assert_eq(heard_open(), 0);
	cr_assert_eq(log_lines(), 0);
	stop();
}

/* What a client has sent before it left is still read. */
PortTest(socket_last_words)
{
	int fd;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	fd = client();
	cr_assert_eq(heard_open(), 1);
	cr_assert_eq(write(fd, "last words", 10), 10);
	close(fd);
	usleep(20000);
	guest_writes("are you there?"); /* no longer */
	cr_assert_eq(vqueue_used(&queues, TX), 1);
	want_guest_reads("last words");
	cr_assert_eq(heard_open(), 0);
	guest_writes("anybody?");
	cr_assert_eq(vqueue_used(&queues, TX), 0);
	fd = client();
	want_text(fd, "anybody?");
	close(fd);
	stop();
}

/* A client that has nothing to say any more still listens. */
PortTest(socket_half_closed)
{
	int fd;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	fd = client();
	cr_assert_eq(heard_open(), 1);
	cr_assert_eq(write(fd, "question", 8), 8);
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	want_guest_reads("question");
	guest_writes("answer");
	want_text(fd, "answer");
	close(fd);
	cr_assert_eq(heard_open(), 0);
	stop();
}

/* A client that does not read: the guest's buffers stay with the guest; nothing grows. */
PortTest(socket_stalled_client)
{
	char piece[VQUEUE_BUFFER_LEN + 1];
	unsigned done, total = 0;
	int fd;

	start(PORT_UNIX, in_dir("sock"));
	say(PORT_OPEN);
	fd = client();
	cr_assert_eq(heard_open(), 1);
	memset(piece, 'p', sizeof(piece) - 1);
	piece[sizeof(piece) - 1] = '\0';
	for (total = 0; total < 2000; total++) {
		guest_writes(piece);
		done = vqueue_used(&queues, TX);
		if (done == 0)
			break;
	}
	cr_assert_lt(total, 2000);
	/* Room for more than one buffer, so that the reader's progress can be seen. */
	for (unsigned i = 0; i < total + 1; i++)
		want_text(fd, "pppppppppppppppppppppppppppppppp");
	cr_assert_eq(port_dropped(port), 0);
	close(fd);
	stop();
}

PortTest(socket_that_is_in_use)
{
	char where[128];
	struct port_config config = {.name = path, .kind = PORT_UNIX, .path = where};
	struct err err = {0};

	snprintf(where, sizeof(where), "%s", in_dir("sock"));
	start(PORT_UNIX, where);
	config.name = dir + strlen(dir) - 6;
	cr_assert_eq(port_check(&config, &err), -EADDRINUSE);
	cr_assert_not_null(strstr(err.text, "somebody listens there already"));
	stop();
}

PortTest(socket_left_behind)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), peer;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", dir);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	start(PORT_UNIX, in_dir("sock"));
	peer = client();
	cr_assert_eq(heard_open(), 1);
	close(peer);
	stop();
}

/* --- FIFOs --- */

PortTest(fifos)
{
	int in, out;

	start(PORT_PIPE, in_dir("fifo"));
	say(PORT_OPEN);
	cr_assert_eq(heard_open(), 1);
	in = open(in_dir("fifo.in"), O_WRONLY | O_NONBLOCK);
	out = open(in_dir("fifo.out"), O_RDONLY | O_NONBLOCK);
	cr_assert(in >= 0 && out >= 0);
	cr_assert_eq(write(in, "to the guest", 12), 12);
	want_guest_reads("to the guest");
	guest_writes("from the guest");
	want_text(out, "from the guest");
	/* Others come and go. */
	close(in);
	close(out);
	guest_writes("kept");
	cr_assert_eq(vqueue_used(&queues, TX), 2);
	out = open(in_dir("fifo.out"), O_RDONLY | O_NONBLOCK);
	want_text(out, "kept");
	close(out);
	stop();
}

/* The guest has not opened the port: its input waits in the FIFO. */
PortTest(fifo_of_a_closed_port)
{
	int in;

	start(PORT_PIPE, in_dir("fifo"));
	in = open(in_dir("fifo.in"), O_WRONLY | O_NONBLOCK);
	cr_assert_eq(write(in, "patience", 8), 8);
	vqueue_offer(&queues, RX, 0, 100, true);
	kick(RX);
	usleep(20000);
	cr_assert_eq(vqueue_used(&queues, RX), 0);
	say(PORT_OPEN);
	want_guest_reads("patience");
	close(in);
	stop();
}

/* --- errors, before anything is changed --- */

static void want_refused(enum port_kind kind, const char *where, const char *text)
{
	char name[] = "p", copy[160];
	struct port_config config = {.name = name, .kind = kind, .path = copy};
	struct err err = {0};

	snprintf(copy, sizeof(copy), "%s", where);
	cr_assert_lt(port_check(&config, &err), 0, "%s", where);
	cr_assert_not_null(strstr(err.text, text), "%s", err.text);
	cr_assert_null(strchr(err.text, '\n'));
}

PortTest(refused)
{
	char far[160];
	int fd = open(in_dir("plain"), O_CREAT | O_WRONLY, 0600);

	close(fd);
	want_refused(PORT_FILE, dir, "is a directory");
	want_refused(PORT_FILE, "/no/such/place", "port p file /no/such/place");
	want_refused(PORT_UNIX, "/no/such/place", "No such file");
	want_refused(PORT_UNIX, in_dir("plain"), "is no socket");
	memset(far, 'f', sizeof(far) - 1);
	far[sizeof(far) - 1] = '\0';
	want_refused(PORT_UNIX, far, "at most 107 bytes");
	fd = open(in_dir("fifo.out"), O_CREAT | O_WRONLY, 0600);
	close(fd);
	want_refused(PORT_PIPE, in_dir("fifo"), "is no FIFO");
}
