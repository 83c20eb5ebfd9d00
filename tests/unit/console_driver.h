/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console as a driver sees it, between a driver with several queues and host sides that take
 * as much as they are told to.
 */
#ifndef TESTS_CONSOLE_DRIVER_H
#define TESTS_CONSOLE_DRIVER_H

#include <stdatomic.h>

#include "minivm/virtio_console.h"
#include "vqueues.h"

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)
#define ALL	    (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX)

#define QUEUES	   8u
#define QUEUE_SIZE 32u

/* PORT_* are guest's and host's, DEVICE_READY the guest's, DEVICE_ADD the host's. */
enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, NAME };

struct control {
	uint32_t id;
	uint16_t event, value;
	char name[40];
};

/* --- a host side; touched on the loop's thread, or when it has settled --- */

struct host {
	unsigned port;
	size_t room;
	char got[1 << 17];
	size_t got_len;
	_Atomic unsigned rooms; /* calls of input_room */
	_Atomic unsigned opens, closes;
};

struct console_test {
	struct host hosts[3];
	struct vdriver drv;
	struct virtio_console *vc;
	struct vqueues queues;
};

extern struct console_test ct;

/* Takes `room` bytes and counts the rest; its opaque is a struct host. */
extern const struct virtio_console_host vc_host_ops;

/* --- calls of the host side, on the loop --- */

/* vc_resume: the host side has that much room, and says so. */
size_t vc_push(unsigned port, const char *text);
bool vc_ready(unsigned port);
void vc_resume(unsigned port, unsigned room);
void vc_set_open(unsigned port, bool open);
void vc_resize(unsigned cols, unsigned rows);

/* --- the driver --- */

void *vc_buffer_at(unsigned q, unsigned i);
void vc_kick(unsigned q);
void vc_start(uint64_t features, unsigned count);
/* The console (named 0), or ports 1 to `named`. */
void vc_make(unsigned named, unsigned cols, unsigned rows);
void vc_make_console(void);
void vc_make_ports(void);
void vc_teardown(void);

#define ConsoleTest(name, ...)                                                                     \
	Test(virtio_console, name, .init = vc_make_console, .fini = vc_teardown, ##__VA_ARGS__)
#define PortsTest(name, ...)                                                                       \
	Test(virtio_console, name, .init = vc_make_ports, .fini = vc_teardown, ##__VA_ARGS__)

/* Buffer i of queue q: offered without a kick; filled and sent. */
void vc_offer(unsigned q, unsigned i, uint32_t len, bool writable);
void vc_print(unsigned q, unsigned i, const char *text);
/* Chains that have come back since the last call. */
unsigned vc_used(unsigned q);
void vc_want_got(const struct host *h, const char *text);
struct virtio_console_counters vc_counters(void);

/* --- named ports: queues 2 and 3 are for control, 4 to 7 those of ports 1 and 2 --- */

/* From the guest: one message, taken when this returns. */
void vc_say(uint32_t id, unsigned event, unsigned value);
void vc_give_control_buffers(unsigned n, uint32_t len);
/* To the guest: the next message; id UINT32_MAX: there is none. */
struct control vc_hear(void);
void vc_want_control(uint32_t id, unsigned event, unsigned value);
void vc_want_silence(void);
void vc_start_ports(void);
void vc_start_port_1(void);

#endif
