/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that has port 1 of a virtio-console device with one named port open. */
#ifndef TESTS_PORT_DRIVER_H
#define TESTS_PORT_DRIVER_H

#include "minivm/virtio_console.h"
#include "vqueues.h"

#define F_MULTIPORT (1ull << 1)
#define FEATURES    (F_VERSION_1 | F_INDIRECT | F_MULTIPORT)
#define SLOTS	    32u

enum { CONTROL_RX = 2, CONTROL_TX, RX, TX, QUEUES };
enum { DEVICE_READY = 0, PORT_READY = 3, PORT_OPEN = 6, PORT_NAME = 7 };

struct control {
	uint32_t id;
	uint16_t event, value;
};

static struct vdriver drv;
static struct vqueues queues;
static unsigned next_tx;

static inline void kick(unsigned q)
{
	vqueue_kick(&queues, q);
}

static inline void say_value(unsigned event, unsigned value)
{
	const struct control msg = {.id = 1, .event = (uint16_t)event, .value = (uint16_t)value};
	unsigned i = queues.ring[CONTROL_TX].avail_idx % SLOTS;

	memcpy(vqueue_buffer_at(&queues, CONTROL_TX, i), &msg, sizeof(msg));
	vqueue_offer(&queues, CONTROL_TX, i, sizeof(msg), false);
	kick(CONTROL_TX);
}

static inline void say(unsigned event)
{
	say_value(event, 1);
}

/* The device on its loop, and its driver as far as the port is ready; not open yet. */
static inline void port_driver_start(struct virtio_console *virtio, struct loop *loop)
{
	vdriver_init_on(&drv, &virtio_console_ops, virtio, SLOTS, loop);
	vqueues_start(&queues, &drv, FEATURES, QUEUES);
	next_tx = 0;
	for (unsigned i = 0; i < 8; i++)
		vqueue_offer(&queues, CONTROL_RX, i, 64, true);
	kick(CONTROL_RX);
	say(DEVICE_READY);
	say(PORT_READY);
}

/* Around port_close() and its like. */
static inline void port_driver_stop(void)
{
	loop_quit(drv.loop);
	pthread_join(drv.thread, NULL);
	virtio_mmio_io_ops.destroy(drv.mmio);
}

static inline void port_driver_free(void)
{
	loop_free(drv.loop);
	irq_line_close(&drv.irq);
	close(drv.log.fd);
	ring_fini(&drv.ring);
}

static inline void guest_writes(const char *text)
{
	memcpy(vqueue_buffer_at(&queues, TX, next_tx), text, strlen(text));
	vqueue_offer(&queues, TX, next_tx, (uint32_t)strlen(text), false);
	next_tx = (next_tx + 1) % SLOTS;
	kick(TX);
}

/* Gives a buffer of `room` bytes and waits until it comes back: its bytes, *len of them. */
static inline const char *guest_reads(uint32_t room, uint32_t *len)
{
	unsigned i = queues.ring[RX].avail_idx % SLOTS;
	uint32_t id;

	vqueue_offer(&queues, RX, i, room, true);
	kick(RX);
	for (unsigned ms = 0; !ring_take(&queues.ring[RX], &id, len); ms++) {
		cr_assert_lt(ms, PATIENCE_MS, "nothing came");
		usleep(1000);
	}
	return vqueue_buffer_at(&queues, RX, id);
}

#endif
