/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of the guest's agent, see minivm/agent.h.
 *
 * Theory of operation. All of it on the device's loop. The message is made when the guest has a
 * buffer for it and runs, so that the time in it is right; what does not fit into that buffer
 * follows with the next. It is sent once. The answer names the message's id: one that was under way
 * when the machine was saved belongs to an older message. Whatever else the guest writes is taken
 * and forgotten, so its ring never fills up.
 *
 * System calls: getrandom, clock_gettime, and those of loop.c.
 */
#include "minivm/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "minivm/iov.h"

/* "failed ID" and the steps' names. */
#define LINE_MAX_BYTES 96
/* Of the guest's bytes, read in one go. */
#define PIECE_BYTES 512

struct agent {
	struct loop *loop;
	const struct log *log;
	struct virtio_console *virtio;
	unsigned id; /* of the port */
	struct loop_work work;
	struct loop_timer timer;
	struct agent_news news;
	_Atomic int state;
	_Atomic bool guest_runs;
	bool guest_open;

	char message_id[AGENT_ID_LEN + 1];
	size_t sent;
	size_t len;
	char message[AGENT_MESSAGE_MAX];

	size_t line_len; /* of what the guest has written; more than there is room for: too long */
	char line[LINE_MAX_BYTES];
};

const char *agent_state_name(enum agent_state state)
{
	static const char *const names[] = {
	    [AGENT_IDLE] = "idle", [AGENT_WAITING] = "waiting", [AGENT_SENT] = "sent",
	    [AGENT_DONE] = "done", [AGENT_FAILED] = "failed",
	};

	return names[state];
}

enum agent_state agent_state(const struct agent *agent)
{
	return (enum agent_state)atomic_load(&agent->state);
}

/* --- the message --- */

static char *put_hex(char *to, const uint8_t *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 0xf];
	}
	*to = '\0';
	return to;
}

static char *put_mac(char *to, const uint8_t mac[NETDEV_MAC_LEN])
{
	return to + sprintf(to, " %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
			    mac[4], mac[5]);
}

/* restored, entropy, time, end and what varies: */
_Static_assert(2 * (10 + AGENT_ID_LEN) + 10 + 2 * AGENT_ENTROPY_LEN + 32 + 10 +
		       CONFIG_HOSTNAME_MAX + CONFIG_NETS_MAX * 48 <
		   AGENT_MESSAGE_MAX,
	       "the longest message");

size_t agent_message(char out[AGENT_MESSAGE_MAX], const struct agent_news *news, const char *id,
		     const uint8_t entropy[AGENT_ENTROPY_LEN], const struct timespec *now)
{
	char *to = out;

	to += sprintf(to, "restored %.*s\nentropy ", AGENT_ID_LEN, id);
	to = put_hex(to, entropy, AGENT_ENTROPY_LEN);
	*to++ = '\n';
	if (news->hostname)
		to += sprintf(to, "hostname %.*s\n", CONFIG_HOSTNAME_MAX, news->hostname);
	to += sprintf(to, "time %" PRId64 ".%09ld\n", (int64_t)now->tv_sec, now->tv_nsec);
	for (unsigned i = 0; i < news->macs && i < CONFIG_NETS_MAX; i++) {
		to += sprintf(to, "mac");
		to = put_mac(to, news->mac[i].old);
		to = put_mac(to, news->mac[i].fresh);
		*to++ = '\n';
	}
	to += sprintf(to, "end %.*s\n", AGENT_ID_LEN, id);
	return (size_t)(to - out);
}

static int make_message(struct agent *a)
{
	struct {
		uint8_t id[AGENT_ID_LEN / 2];
		uint8_t entropy[AGENT_ENTROPY_LEN];
	} random;
	struct timespec now;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -errno;
	put_hex(a->message_id, random.id, sizeof(random.id));
	clock_gettime(CLOCK_REALTIME, &now);
	a->len = agent_message(a->message, &a->news, a->message_id, random.entropy, &now);
	explicit_bzero(&random, sizeof(random));
	return 0;
}

static void begin(struct agent *a)
{
	int ret = make_message(a);

	if (ret) {
		log_msg(a->log, LOG_LEVEL_WARN, "agent: no message to the guest: %s",
			strerror(-ret));
		atomic_store(&a->state, AGENT_FAILED);
		return;
	}
	atomic_store(&a->state, AGENT_SENT);
	loop_timer_arm(&a->timer, AGENT_ANSWER_MS * 1000000ull);
}

/* As much as the guest has room for; input_room brings us back. */
static void pump(void *opaque)
{
	struct agent *a = opaque;

	if (!a->guest_open || !atomic_load(&a->guest_runs) ||
	    !virtio_console_rx_ready(a->virtio, a->id))
		return;
	if (agent_state(a) == AGENT_WAITING)
		begin(a);
	if (agent_state(a) != AGENT_SENT || a->sent == a->len)
		return;
	a->sent += virtio_console_rx_push(a->virtio, a->id, a->message + a->sent, a->len - a->sent);
	if (a->sent == a->len)
		explicit_bzero(a->message, sizeof(a->message));
}

static void no_answer(void *opaque)
{
	struct agent *a = opaque;

	if (agent_state(a) == AGENT_SENT)
		log_msg(a->log, LOG_LEVEL_WARN,
			"the guest's agent has not answered for %u s: the machine may have the "
			"random state, name and addresses of the one that was saved",
			AGENT_ANSWER_MS / 1000);
}

/* --- the answer --- */

/* Is the line `word`, a blank and our id? *rest: what follows them. */
static bool line_is(const struct agent *a, const char *word, const char **rest)
{
	size_t len = strlen(word);

	*rest = a->line + len + 1 + AGENT_ID_LEN;
	return strncmp(a->line, word, len) == 0 && a->line[len] == ' ' &&
	       strncmp(a->line + len + 1, a->message_id, AGENT_ID_LEN) == 0;
}

/* What the guest says is quoted as far as it is plain. */
static size_t plain(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyz ");
}

static void take_line(struct agent *a)
{
	const char *rest;

	if (agent_state(a) != AGENT_SENT || a->sent < a->len)
		return;
	if (line_is(a, "done", &rest) && *rest == '\0') {
		log_msg(a->log, LOG_LEVEL_INFO, "the guest knows that it was restored");
		atomic_store(&a->state, AGENT_DONE);
	} else if (line_is(a, "failed", &rest) && *rest == ' ') {
		log_msg(a->log, LOG_LEVEL_WARN, "the guest's agent could not take all: %.*s",
			(int)plain(rest + 1), rest + 1);
		atomic_store(&a->state, AGENT_FAILED);
	} else {
		return;
	}
	loop_timer_arm(&a->timer, 0);
}

static void take_byte(struct agent *a, char c)
{
	if (c != '\n') {
		if (a->line_len < sizeof(a->line))
			a->line[a->line_len++] = c;
		return;
	}
	if (a->line_len < sizeof(a->line)) {
		a->line[a->line_len] = '\0';
		take_line(a);
	}
	a->line_len = 0;
}

/* A piece at a time: a buffer of the guest's may have 4 GiB, and the console counts what we take.
 */
static size_t agent_output(void *opaque, const struct iovec *iov, unsigned n, size_t len)
{
	struct agent *a = opaque;
	char piece[PIECE_BYTES];

	(void)n;
	if (agent_state(a) != AGENT_SENT)
		return len;
	if (len > sizeof(piece))
		len = sizeof(piece);
	iov_gather(piece, iov, len);
	for (size_t i = 0; i < len; i++)
		take_byte(a, piece[i]);
	return len;
}

static void agent_input_room(void *opaque)
{
	pump(opaque);
}

/* One that was closed gets the whole message when it is opened again, with another id. */
static void agent_opened(void *opaque, bool open)
{
	struct agent *a = opaque;

	a->guest_open = open;
	a->line_len = 0;
	if (!open && agent_state(a) == AGENT_SENT) {
		a->sent = a->len = 0;
		loop_timer_arm(&a->timer, 0);
		atomic_store(&a->state, AGENT_WAITING);
	}
	/* Later: this may be the end of the device. */
	loop_post(a->loop, &a->work);
}

const struct virtio_console_host agent_host = {
    .output = agent_output,
    .input_room = agent_input_room,
    .opened = agent_opened,
};

/* --- life --- */

int agent_new(struct loop *loop, const struct log *log, struct agent **out, struct err *err)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return err_sys(err, ENOMEM, "agent");
	a->loop = loop;
	a->log = log;
	a->work = (struct loop_work){.fn = pump, .opaque = a};
	loop_timer_init(loop, &a->timer, no_answer, a);
	*out = a;
	return 0;
}

void agent_attach(struct agent *agent, struct virtio_console *virtio, unsigned id)
{
	agent->virtio = virtio;
	agent->id = id;
	virtio_console_set_open(virtio, id, true);
}

void agent_tell(struct agent *agent, const struct agent_news *news)
{
	agent->news = *news;
	atomic_store(&agent->state, AGENT_WAITING);
	if (!agent->guest_open)
		log_msg(agent->log, LOG_LEVEL_INFO,
			"nobody in the guest has port " AGENT_PORT " open: it is told that it was "
			"restored when somebody has");
}

void agent_guest_runs(struct agent *agent)
{
	if (!agent || agent_state(agent) != AGENT_WAITING || atomic_load(&agent->guest_runs))
		return;
	atomic_store(&agent->guest_runs, true);
	loop_post(agent->loop, &agent->work);
}

void agent_free(struct agent *agent)
{
	if (!agent)
		return;
	loop_unpost(agent->loop, &agent->work);
	loop_timer_destroy(&agent->timer);
	free(agent);
}
