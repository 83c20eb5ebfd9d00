/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console with named ports as a driver sees it. */
#include <errno.h>

#include "console_driver.h"

PortsTest(ports_shape)
{
	cr_assert_eq(vdriver_offered(&ct.drv), ALL | F_MULTIPORT);
	wr(&ct.drv, R_QUEUE_SEL, 7);
	cr_assert_eq(rd(&ct.drv, R_QUEUE_NUM_MAX), QUEUE_SIZE);
	wr(&ct.drv, R_QUEUE_SEL, 8);
	cr_assert_eq(rd(&ct.drv, R_QUEUE_NUM_MAX), 0);
	cr_assert_eq(rd(&ct.drv, R_CONFIG + 4), 3);
}

PortsTest(ports_come_to_be)
{
	struct control msg;

	vc_set_open(2, true);
	vc_start_ports();
	vc_say(2, PORT_READY, 1);
	msg = vc_hear();
	cr_assert_eq(msg.event, NAME);
	cr_assert_eq(msg.id, 2);
	cr_assert_str_eq(msg.name, "two");
	vc_want_control(2, PORT_OPEN, 1);
	vc_say(1, PORT_READY, 1);
	vc_want_control(1, NAME, 1);
	vc_want_silence();
	vc_set_open(1, true);
	vc_want_control(1, PORT_OPEN, 1);
	vc_want_silence();
}

PortsTest(port_bytes)
{
	vc_start_port_1();
	cr_assert_eq(ct.hosts[1].opens, 1);
	vc_print(5, 0, "to one");
	vc_print(7, 0, "to two");
	vc_want_got(&ct.hosts[1], "to one");
	vc_want_got(&ct.hosts[2], "to two");
	vc_offer(4, 0, 100, true);
	vc_kick(4);
	cr_assert_eq(ct.hosts[1].rooms, 1);
	cr_assert_eq(vc_push(1, "hello"), 5);
	cr_assert_eq(memcmp(vc_buffer_at(4, 0), "hello", 5), 0);
	/* Nobody has opened it: nothing is given. */
	vc_offer(6, 0, 100, true);
	vc_kick(6);
	cr_assert_not(vc_ready(2));
	cr_assert_eq(vc_push(2, "hello"), 0);
	vc_say(1, PORT_OPEN, 0);
	cr_assert_eq(ct.hosts[1].closes, 1);
	cr_assert_not(vc_ready(1));
}

/* Port 0 has no host side; its bytes are gone, but its buffers come back. */
PortsTest(port_0_is_nobody)
{
	vc_start_ports();
	vc_print(1, 0, "hello?");
	cr_assert_eq(vc_used(1), 1);
	vc_offer(0, 0, 100, true);
	vc_kick(0);
	cr_assert_eq(vc_used(0), 0);
	vc_say(0, PORT_READY, 1);
	vc_say(0, PORT_OPEN, 1);
	cr_assert_eq(vc_counters().control_wrong, 2);
	vc_want_silence();
}

/* However often the host side comes and goes while the guest does not listen, it is one message. */
PortsTest(comings_and_goings)
{
	vc_start(ALL | F_MULTIPORT, QUEUES);
	vc_say(0, DEVICE_READY, 1);
	vc_give_control_buffers(2, 64);
	vc_want_control(1, DEVICE_ADD, 1);
	vc_want_control(2, DEVICE_ADD, 1);
	vc_say(1, PORT_READY, 1);
	for (unsigned i = 0; i < 1001; i++)
		vc_set_open(1, i % 2 == 0);
	vc_give_control_buffers(16, 64);
	vc_want_control(1, NAME, 1);
	vc_want_control(1, PORT_OPEN, 1);
	vc_want_silence();
	vc_set_open(1, false);
	vc_want_control(1, PORT_OPEN, 0);
	vc_want_silence();
}

/* §5.3.6.2.1: no port is added that exists. */
PortsTest(hostile_control)
{
	vc_start_ports();
	for (unsigned i = 0; i < 100; i++)
		vc_say(i, DEVICE_READY, 1);
	vc_want_silence();
	vc_say(1, PORT_READY, 1);
	vc_say(1, PORT_READY, 1);
	vc_say(1, PORT_READY, 0);
	vc_say(1, PORT_READY, 1);
	vc_want_control(1, NAME, 1);
	vc_want_silence();
	cr_assert_eq(vc_counters().control_wrong, 0);
	for (unsigned event = 0; event < 300; event++) {
		if (event != DEVICE_READY)
			vc_say(77, event, 1);
	}
	vc_say(UINT32_MAX, PORT_OPEN, 1);
	vc_say(3, PORT_OPEN, 1);
	vc_say(1, NAME, 1);
	vc_say(1, DEVICE_REMOVE, 1);
	vc_say(1, RESIZE, 1);
	cr_assert_eq(vc_counters().control_wrong, 304);
	vc_offer(3, 0, 7, false); /* too short */
	vc_offer(3, 1, 0, false);
	vc_offer(3, 2, 8, true); /* nothing to be read in it */
	vc_kick(3);
	cr_assert_eq(vc_used(3), 3);
	cr_assert_eq(vc_counters().control_wrong, 307);
	cr_assert_eq(ct.hosts[1].opens + ct.hosts[2].opens, 0);
	vc_want_silence();
}

PortsTest(control_buffers_too_small)
{
	vc_start(ALL | F_MULTIPORT, QUEUES);
	vc_give_control_buffers(1, 7);
	vc_give_control_buffers(1, 64);
	vc_say(0, DEVICE_READY, 1);
	cr_assert_eq(vc_hear().id, UINT32_MAX); /* empty */
	vc_want_control(2, DEVICE_ADD, 1);
	cr_assert_eq(vc_counters().control_wrong, 1);
}

PortsTest(ports_reset)
{
	vc_start_port_1();
	wr(&ct.drv, R_STATUS, 0);
	cr_assert_eq(ct.hosts[1].closes, 1);
	vc_start_port_1();
	cr_assert_eq(ct.hosts[1].opens, 2);
}

/* Without MULTIPORT there is just port 0, which is nobody. */
PortsTest(driver_without_multiport)
{
	const struct control msg = {.event = DEVICE_READY, .value = 1};

	vc_start(ALL, QUEUES);
	memcpy(vc_buffer_at(3, 0), &msg, 8);
	vc_offer(3, 0, 8, false);
	vc_kick(3);
	cr_assert_eq(vc_used(3), 0);
	vc_give_control_buffers(4, 64);
	vc_want_silence();
	vc_print(5, 0, "x");
	cr_assert_eq(ct.hosts[1].got_len, 0);
}

Test(virtio_console, names)
{
	char name[VIRTIO_CONSOLE_NAME_MAX + 2];
	struct virtio_console_port_options port = {"", &vc_host_ops, NULL};
	struct virtio_console_options opt = {.named = 1, .port = &port};
	struct err err = {0};

	cr_assert_eq(virtio_console_new(&opt, &ct.vc, &err), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	port.name = name;
	cr_assert_eq(virtio_console_new(&opt, &ct.vc, &err), -EINVAL);
	name[sizeof(name) - 2] = '\0';
	cr_assert_eq(virtio_console_new(&opt, &ct.vc, &err), 0);
	virtio_console_ops.destroy(ct.vc);
}
