/* SPDX-License-Identifier: Apache-2.0 */
/* What a restored guest's agent is told, and what is believed of its answers. */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "minivm/agent.h"
#include "port_driver.h"

static const struct agent_news news = {
    .hostname = "clone-7",
    .macs = 1,
    .mac = {{{2, 0, 0, 0, 0, 1}, {2, 0xab, 0xcd, 0xef, 0, 2}}},
};

static struct agent *agent;
static struct log log_to;

static void start(void)
{
	struct virtio_console_port_options opt_port = {.name = AGENT_PORT, .host = &agent_host};
	const struct virtio_console_options opt = {.named = 1, .port = &opt_port, .log = &log_to};
	struct virtio_console *virtio;
	struct loop *loop;
	struct err err = {0};

	log_to = (struct log){.fd = -1, .level = LOG_LEVEL_ERROR};
	cr_assert_eq(loop_new(&loop, &err), 0);
	cr_assert_eq(agent_new(loop, &log_to, &agent, &err), 0);
	opt_port.opaque = agent;
	cr_assert_eq(virtio_console_new(&opt, &virtio, &err), 0);
	agent_attach(agent, virtio, 1);
	port_driver_start(virtio, loop);
}

/* The loop runs here, but nothing comes to it yet. */
static void start_paused(void)
{
	start();
	agent_tell(agent, &news);
	cr_assert_eq(agent_state(agent), AGENT_WAITING);
}

static void start_told(void)
{
	start_paused();
	agent_guest_runs(agent);
}

static void stop(void)
{
	port_driver_stop();
	agent_free(agent);
	port_driver_free();
}

#define AgentTest(name, init_fn) Test(agent, name, .init = init_fn, .fini = stop, .timeout = 30)

/* The whole message through buffers of that size; its id. */
static const char *hear(uint32_t room)
{
	static char text[AGENT_MESSAGE_MAX + 1], id[AGENT_ID_LEN + 1];
	size_t have = 0;

	do {
		uint32_t len;
		const char *part = guest_reads(room, &len);

		cr_assert_gt(len, 0);
		cr_assert_leq(have + len, AGENT_MESSAGE_MAX);
		memcpy(text + have, part, len);
		have += len;
		text[have] = '\0';
	} while (!strstr(text, "\nend ") || text[have - 1] != '\n');
	cr_assert_eq(sscanf(text, "restored %16[0-9a-f]\n", id), 1, "%s", text);
	cr_assert_not_null(strstr(text, "\nhostname clone-7\n"), "%s", text);
	cr_assert_not_null(strstr(text, "\nmac 02:00:00:00:00:01 02:ab:cd:ef:00:02\n"));
	return id;
}

static void answer(const char *word, const char *id, const char *rest)
{
	char line[256];

	snprintf(line, sizeof(line), "%s %s%s\n", word, id, rest);
	guest_writes(line);
}

Test(agent, message_is_lines)
{
	const struct timespec now = {1700000000, 5};
	uint8_t entropy[AGENT_ENTROPY_LEN];
	char out[AGENT_MESSAGE_MAX], want[AGENT_MESSAGE_MAX], hex[2 * AGENT_ENTROPY_LEN + 1];
	size_t len;

	for (unsigned i = 0; i < AGENT_ENTROPY_LEN; i++) {
		entropy[i] = (uint8_t)(3 * i + 1);
		sprintf(hex + 2 * i, "%02x", entropy[i]);
	}
	len = agent_message(out, &news, "0123456789abcdef", entropy, &now);
	snprintf(want, sizeof(want),
		 "restored 0123456789abcdef\nentropy %s\nhostname clone-7\n"
		 "time 1700000000.000000005\nmac 02:00:00:00:00:01 02:ab:cd:ef:00:02\n"
		 "end 0123456789abcdef\n",
		 hex);
	cr_assert_str_eq(out, want);
	cr_assert_eq(len, strlen(want));
}

Test(agent, longest_message_fits)
{
	static const uint8_t entropy[AGENT_ENTROPY_LEN];
	struct agent_news most = {.macs = CONFIG_NETS_MAX};
	char name[CONFIG_HOSTNAME_MAX + 1], out[AGENT_MESSAGE_MAX];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	most.hostname = name;
	cr_assert_lt(agent_message(out, &most, "0123456789abcdef", entropy,
				   &(struct timespec){INT64_MAX, 999999999}),
		     AGENT_MESSAGE_MAX);
	/* The guest's reader takes lines of 256 bytes. */
	for (const char *line = out; *line; line = strchr(line, '\n') + 1)
		cr_assert_lt(strcspn(line, "\n"), 256);
}

AgentTest(nothing_is_said_to_a_guest_that_was_not_restored, start)
{
	say(PORT_OPEN);
	vqueue_offer(&queues, RX, 0, 4096, true);
	kick(RX);
	guest_writes("done 0123456789abcdef\n");
	cr_assert_eq(vqueue_used(&queues, TX), 1, "what it writes is taken");
	cr_assert_eq(vqueue_used(&queues, RX), 0);
	cr_assert_eq(agent_state(agent), AGENT_IDLE);
}

AgentTest(a_guest_is_told_when_it_has_the_port_open, start_told)
{
	vqueue_offer(&queues, RX, 0, 4096, true);
	kick(RX);
	cr_assert_eq(vqueue_used(&queues, RX), 0, "nobody has it open");
	say(PORT_OPEN);
	loop_call(drv.loop, vdriver_nothing, NULL);
	cr_assert_eq(vqueue_used(&queues, RX), 1);
	cr_assert_eq(agent_state(agent), AGENT_SENT);
}

AgentTest(a_guest_that_does_not_run_is_told_later, start_paused)
{
	vqueue_offer(&queues, RX, 0, 4096, true);
	kick(RX);
	say(PORT_OPEN);
	loop_call(drv.loop, vdriver_nothing, NULL);
	cr_assert_eq(vqueue_used(&queues, RX), 0);
	cr_assert_eq(agent_state(agent), AGENT_WAITING);
	agent_guest_runs(agent);
	loop_call(drv.loop, vdriver_nothing, NULL);
	cr_assert_eq(vqueue_used(&queues, RX), 1);
	cr_assert_eq(agent_state(agent), AGENT_SENT);
}

AgentTest(done, start_told)
{
	say(PORT_OPEN);
	answer("done", hear(4096), "");
	cr_assert_eq(agent_state(agent), AGENT_DONE);
	/* Once is enough. */
	vqueue_offer(&queues, RX, 1, 4096, true);
	kick(RX);
	say_value(PORT_OPEN, 0);
	say(PORT_OPEN);
	loop_call(drv.loop, vdriver_nothing, NULL);
	cr_assert_eq(vqueue_used(&queues, RX), 0);
	cr_assert_eq(agent_state(agent), AGENT_DONE);
}

/* A buffer of the guest's may be as large as its memory, and the loop is not the agent's alone. */
AgentTest(a_large_buffer_is_read_in_pieces, start_told)
{
	static char large[1 << 20];
	const struct iovec iov = {large, sizeof(large)};

	say(PORT_OPEN);
	answer("later", hear(4096), "");
	cr_assert_eq(agent_state(agent), AGENT_SENT);
	cr_assert_leq(agent_host.output(agent, &iov, 1, sizeof(large)), 4096u);
	cr_assert_eq(agent_state(agent), AGENT_SENT);
}

AgentTest(failed, start_told)
{
	say(PORT_OPEN);
	answer("failed", hear(4096), " hostname \x1b[31m");
	cr_assert_eq(agent_state(agent), AGENT_FAILED);
}

AgentTest(message_in_pieces, start_told)
{
	say(PORT_OPEN);
	answer("done", hear(7), "");
	cr_assert_eq(agent_state(agent), AGENT_DONE);
}

AgentTest(answer_before_the_whole_message_is_none, start_told)
{
	char id[AGENT_ID_LEN + 1];
	uint32_t len;
	const char *part;

	say(PORT_OPEN);
	part = guest_reads(30, &len);
	cr_assert_eq(sscanf(part, "restored %16[0-9a-f]", id), 1);
	answer("done", id, "");
	cr_assert_eq(agent_state(agent), AGENT_SENT);
}

AgentTest(rubbish_changes_nothing, start_told)
{
	char id[AGENT_ID_LEN + 1], other[AGENT_ID_LEN + 1], much[4096];

	say(PORT_OPEN);
	snprintf(id, sizeof(id), "%s", hear(4096));
	memcpy(other, id, sizeof(other));
	other[0] = (char)(other[0] == '0' ? '1' : '0');
	answer("done", other, "");
	answer("done", id, " ");
	answer("done", id, "0");
	answer("failed", id, "");
	answer("Done", id, "");
	answer(" done", id, "");
	answer("", id, "");
	guest_writes("done\n");
	guest_writes("done \n\n\n");
	guest_writes("\n");
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	for (unsigned i = 0; i < 8; i++)
		guest_writes(much);
	answer("done", id, ""); /* the end of a line that is too long */
	cr_assert_eq(agent_state(agent), AGENT_SENT);
	guest_writes("do");
	answer("ne", id, "");
	cr_assert_eq(agent_state(agent), AGENT_DONE, "a line in two pieces");
}

AgentTest(one_that_comes_again_is_told_again, start_told)
{
	char id[AGENT_ID_LEN + 1];

	say(PORT_OPEN);
	snprintf(id, sizeof(id), "%s", hear(4096));
	guest_writes("done");
	say_value(PORT_OPEN, 0);
	cr_assert_eq(agent_state(agent), AGENT_WAITING);
	say(PORT_OPEN);
	cr_assert_str_neq(hear(4096), id);
	answer("done", id, "");
	cr_assert_eq(agent_state(agent), AGENT_SENT, "that was the first message's");
}
