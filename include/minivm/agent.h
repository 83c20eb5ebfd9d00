/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of the guest's agent (docs/agent.md): a named virtio-console port on which a
 * restored machine is told that it is one, with fresh entropy, host name, time and addresses.
 *
 * The guest may have no agent, or one that says anything: what it sends is one line of a known
 * form, or nothing.
 */
#ifndef MINIVM_AGENT_H
#define MINIVM_AGENT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "minivm/config.h"
#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/netdev.h"
#include "minivm/virtio_console.h"

#define AGENT_PORT	  CONFIG_AGENT_PORT
#define AGENT_ID_LEN	  16 /* hexadecimal digits */
#define AGENT_ENTROPY_LEN 64
#define AGENT_MESSAGE_MAX 1024 /* bytes */
#define AGENT_ANSWER_MS	  30000

struct agent_mac {
	uint8_t old[NETDEV_MAC_LEN];
	uint8_t fresh[NETDEV_MAC_LEN];
};

/* What is known before the message goes out. */
struct agent_news {
	const char *hostname; /* NULL: it keeps its name; outlives the agent */
	unsigned macs;
	struct agent_mac mac[CONFIG_NETS_MAX];
};

enum agent_state {
	AGENT_IDLE,    /* there is nothing to tell */
	AGENT_WAITING, /* until somebody in the guest has the port open */
	AGENT_SENT,    /* there is no answer yet */
	AGENT_DONE,
	AGENT_FAILED, /* so says the guest, or we could not ask it */
};
const char *agent_state_name(enum agent_state state);

struct agent;

/* `loop` is the device's; `log` outlives it. */
int agent_new(struct loop *loop, const struct log *log, struct agent **out, struct err *err);
void agent_free(struct agent *agent); /* the device is gone; NULL is fine */

/* For the device, as port_host and port_attach(). */
extern const struct virtio_console_host agent_host;
void agent_attach(struct agent *agent, struct virtio_console *virtio, unsigned id);

/* Once, while no thread runs the loop: the machine was restored. Entropy and time follow. */
void agent_tell(struct agent *agent, const struct agent_news *news);
/*
 * Then, from any thread: the guest runs. Not before, or the message's time would be old. NULL is
 * fine.
 */
void agent_guest_runs(struct agent *agent);

/* Any thread. */
enum agent_state agent_state(const struct agent *agent);

/*
 * The message. id: AGENT_ID_LEN digits. Returns its length, without the NUL that is behind it.
 * Pure.
 */
size_t agent_message(char out[AGENT_MESSAGE_MAX], const struct agent_news *news, const char *id,
		     const uint8_t entropy[AGENT_ENTROPY_LEN], const struct timespec *now);

#endif
