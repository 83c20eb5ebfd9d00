/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queues of virtio-console (VIRTIO 1.2 §5.3.6.2).
 *
 * To the guest. There is no queue of messages here that a guest could make grow: what a port's
 * flags say it was told, held against what is, gives the next message, and each message sets a
 * flag. A host side that comes and goes while the guest gives no buffers is one message, the last.
 * The order is that of a port's life: DEVICE_ADD, once the driver is ready for any; PORT_NAME and
 * PORT_OPEN, once it is ready for that port.
 *
 * §5.3.6.2.1: a port is added once until the next reset, whatever the driver asks; none is ever
 * removed.
 *
 * From the guest: one of the three messages that drivers send, of a port that is there, or it is
 * counted and forgotten.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <linux/virtio_console.h>

#include "console_priv.h"
#include "minivm/iov.h"

#define CONTROL_TURN 64u

struct message {
	struct virtio_console_control head;
	char name[VIRTIO_CONSOLE_NAME_MAX];
};

/* --- to the guest --- */

/*
 * The port's next message; 0: there is none. The flag that it sets is set: the message goes out, or
 * the driver's buffer was too small for it.
 */
static size_t next_message(struct virtio_console *vc, unsigned port, struct message *msg)
{
	struct console_port *p = &vc->port[port];
	uint16_t event, value = 1;
	size_t name_len = 0;

	if (!p->added) {
		event = VIRTIO_CONSOLE_PORT_ADD;
		p->added = true;
	} else if (p->ready && !p->named) {
		event = VIRTIO_CONSOLE_PORT_NAME;
		p->named = true;
		name_len = strlen(p->name);
		memcpy(msg->name, p->name, name_len);
	} else if (p->ready && p->told_open != p->host_open) {
		event = VIRTIO_CONSOLE_PORT_OPEN;
		p->told_open = p->host_open;
		value = p->host_open;
	} else {
		return 0;
	}
	msg->head = (struct virtio_console_control){
	    .id = htole32(port), .event = htole16(event), .value = htole16(value)};
	return sizeof(msg->head) + name_len;
}

static size_t any_message(struct virtio_console *vc, struct message *msg)
{
	size_t len = 0;

	for (unsigned i = 1; len == 0 && i < vc->ports; i++)
		len = next_message(vc, i, msg);
	return len;
}

/* Is there one? Without saying it. */
static bool message_due(const struct virtio_console *vc)
{
	for (unsigned i = 1; i < vc->ports; i++) {
		const struct console_port *p = &vc->port[i];

		if (!p->added || (p->ready && (!p->named || p->told_open != p->host_open)))
			return true;
	}
	return false;
}

static void put_message(struct virtio_console *vc, struct virtqueue *vq, const struct vq_chain *c)
{
	struct message msg;
	size_t len = any_message(vc, &msg);

	if (len > c->writable_len) {
		count_add(&vc->control_wrong, 1);
		len = 0;
	} else {
		iov_scatter(vq_writable(c), &msg, len);
		count_add(&vc->control_out, 1);
	}
	vq_push(vq, c, (uint32_t)len);
}

static bool may_tell(const struct virtio_console *vc)
{
	return vc->virtio && !vc->paused && vc->device_ready &&
	       (vc->features & 1ull << VIRTIO_CONSOLE_F_MULTIPORT) != 0;
}

/* There are at most three messages a port at a time; the bound is for chains that make no sense. */
void console_control_tell(struct virtio_console *vc)
{
	struct vq_chain chain;
	struct virtqueue *vq;
	unsigned spent;
	int ret = 1;

	if (!may_tell(vc) || !message_due(vc))
		return;
	vq = virtio_queue(vc->virtio, CONSOLE_CONTROL_RX);
	vq_disable_notify(vq);
	for (spent = 0; message_due(vc) && spent < CONTROL_TURN; spent++) {
		ret = vq_pop(vq, &chain);
		if (ret == 1)
			put_message(vc, vq, &chain);
		else if (ret < 0 || !vq_enable_notify(vq))
			break;
	}
	virtio_signal_queue(vc->virtio, CONSOLE_CONTROL_RX);
	if (ret < 0)
		virtio_needs_reset(vc->virtio);
	else if (spent == CONTROL_TURN)
		virtio_notify_again(vc->virtio, CONSOLE_CONTROL_RX);
}

void console_control_forget(struct virtio_console *vc)
{
	vc->device_ready = false;
	for (unsigned i = 0; i < vc->ports; i++) {
		struct console_port *p = &vc->port[i];

		p->added = p->ready = p->named = p->told_open = false;
	}
}

/* --- from the guest --- */

static bool device_ready(struct virtio_console *vc, struct console_port *p, bool value)
{
	(void)p;
	vc->device_ready = value;
	if (!value)
		log_guest(vc->log, &vc->log_limit, LOG_LEVEL_WARN,
			  "virtio-console: the guest's driver cannot use the ports");
	return true;
}

static bool port_ready(struct virtio_console *vc, struct console_port *p, bool value)
{
	if (!p || !p->added)
		return false;
	p->ready = value;
	if (!value)
		log_guest(vc->log, &vc->log_limit, LOG_LEVEL_WARN,
			  "virtio-console: the guest's driver cannot use port %s", p->name);
	return true;
}

static bool port_open(struct virtio_console *vc, struct console_port *p, bool value)
{
	(void)vc;
	if (!p || !p->added)
		return false;
	console_port_opened(p, value);
	return true;
}

static const struct control_event {
	uint16_t event;
	/* `p`: the port that is meant; NULL: there is none with that number. False: wrong. */
	bool (*run)(struct virtio_console *vc, struct console_port *p, bool value);
} events[] = {
    {VIRTIO_CONSOLE_DEVICE_READY, device_ready},
    {VIRTIO_CONSOLE_PORT_READY, port_ready},
    {VIRTIO_CONSOLE_PORT_OPEN, port_open},
};

/* Port 0 is nobody's when there are control queues. */
static struct console_port *port_by_id(struct virtio_console *vc, uint32_t id)
{
	return id > 0 && id < vc->ports ? &vc->port[id] : NULL;
}

static bool follow(struct virtio_console *vc, const struct vq_chain *c)
{
	struct virtio_console_control msg;

	if (c->readable_len < sizeof(msg))
		return false;
	iov_gather(&msg, vq_readable(c), sizeof(msg));
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (events[i].event == le16toh(msg.event))
			return events[i].run(vc, port_by_id(vc, le32toh(msg.id)),
					     le16toh(msg.value) != 0);
	}
	return false;
}

void console_control_take(struct virtio_console *vc)
{
	struct vq_chain chain;
	struct virtqueue *vq;
	unsigned spent;
	int ret = 0;

	if ((vc->features & 1ull << VIRTIO_CONSOLE_F_MULTIPORT) == 0)
		return;
	vq = virtio_queue(vc->virtio, CONSOLE_CONTROL_TX);
	vq_disable_notify(vq);
	for (spent = 0; spent < CONTROL_TURN; spent++) {
		ret = vq_pop(vq, &chain);
		if (ret == 1) {
			bool good = follow(vc, &chain);

			count_add(good ? &vc->control_in : &vc->control_wrong, 1);
			vq_push(vq, &chain, 0);
		} else if (ret < 0 || !vq_enable_notify(vq)) {
			break;
		} else {
			vq_disable_notify(vq);
		}
	}
	virtio_signal_queue(vc->virtio, CONSOLE_CONTROL_TX);
	if (ret < 0)
		virtio_needs_reset(vc->virtio);
	else if (spent == CONTROL_TURN)
		virtio_notify_again(vc->virtio, CONSOLE_CONTROL_TX);
	console_control_tell(vc);
}
