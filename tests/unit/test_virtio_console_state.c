/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console paused, saved and restored. */
#include "console_driver.h"
#include "state_rig.h"

static struct vdriver saved_drv;
static struct state_writer saved;

/* Saves the device; `drv` is another one then, just made, with the state in it. */
static int save_and_restore(unsigned named, struct err *err)
{
	int ret;

	vdriver_save(&ct.drv, &saved);
	saved_drv = ct.drv;
	ct.queues.drv = &ct.drv;
	vc_make(named, 100, 50);
	ret = vdriver_restore(&saved_drv, &saved, &ct.drv, err);
	for (unsigned q = 0; q < QUEUES; q++)
		ct.queues.ring[q].mem.region[0].host =
		    ring_at(&ct.drv.ring, (uint64_t)q * VQUEUE_AREA);
	return ret;
}

static void forget_saved(void)
{
	state_writer_free(&saved);
	virtio_resume(saved_drv.virtio);
	vdriver_fini(&saved_drv);
}

/* In the middle of a chain: the rest comes, once; and the terminal is another. */
ConsoleTest(console_restored)
{
	struct err err = {0};

	vc_start(ALL | F_SIZE, 2);
	wr(&ct.drv, R_ISR_ACK, 3);
	ct.hosts[0].room = 4;
	vc_print(1, 0, "0123456789");
	vc_offer(0, 0, 100, true);
	vc_kick(0);
	cr_assert_eq(save_and_restore(0, &err), 0, "%s", err.text);
	cr_assert_eq(ct.hosts[0].opens, 1);
	vc_resume(0, 100);
	vc_want_got(&ct.hosts[0], "456789");
	cr_assert_eq(vc_used(1), 1);
	cr_assert_eq(vc_push(0, "input"), 5);
	cr_assert_eq(memcmp(vc_buffer_at(0, 0), "input", 5), 0);
	cr_assert_eq(rd(&ct.drv, R_ISR) & 2, 2);
	cr_assert_eq(rd(&ct.drv, R_CONFIG), 100 | 50 << 16);
	forget_saved();
}

PortsTest(ports_restored)
{
	struct err err = {0};

	vc_set_open(1, true);
	vc_start_ports();
	vc_say(1, PORT_READY, 1);
	vc_want_control(1, NAME, 1);
	vc_want_control(1, PORT_OPEN, 1);
	vc_say(1, PORT_OPEN, 1);
	vc_say(2, PORT_READY, 1);
	vc_want_control(2, NAME, 1);
	cr_assert_eq(save_and_restore(2, &err), 0, "%s", err.text);
	cr_assert_eq(ct.hosts[1].opens, 1);
	cr_assert_eq(ct.hosts[2].opens, 0);
	/* Its host side is not there any more, and that of the other is. */
	vc_set_open(2, true);
	for (unsigned ms = 0; ct.queues.ring[2].used_seen == ring_used_idx(&ct.queues.ring[2]);
	     ms++) {
		cr_assert_lt(ms, 5000);
		usleep(1000);
	}
	vc_want_control(1, PORT_OPEN, 0);
	vc_want_control(2, PORT_OPEN, 1);
	vc_want_silence();
	vc_print(5, 0, "to one");
	vc_want_got(&ct.hosts[1], "to one");
	forget_saved();
}

/* While it is paused, host sides reach nothing; what they wanted happens afterwards. */
PortsTest(paused)
{
	vc_start_port_1();
	ct.hosts[1].room = 0;
	vc_print(5, 0, "waits");
	vc_offer(4, 0, 100, true);
	vc_kick(4);
	virtio_pause(ct.drv.virtio);
	vc_resume(1, 100);
	vc_set_open(1, true);
	cr_assert_eq(vc_push(1, "x"), 0);
	cr_assert_not(vc_ready(1));
	cr_assert_eq(ct.hosts[1].got_len, 0);
	vc_want_silence();
	virtio_resume(ct.drv.virtio);
	vc_want_got(&ct.hosts[1], "waits");
	vc_want_control(1, PORT_OPEN, 1);
	cr_assert_eq(vc_push(1, "x"), 1);
}

PortsTest(restored_into_other_ports)
{
	struct err err = {0};

	vc_start_ports();
	cr_assert_lt(save_and_restore(1, &err), 0);
	cr_assert_not_null(strstr(err.text, "queues"), "%s", err.text);
	forget_saved();
}

PortsTest(restored_from_parts)
{
	vc_start_port_1();
	vdriver_save(&ct.drv, &saved);
	saved_drv = ct.drv;
	vc_make(2, 0, 0);
	expect_truncations_refused(&virtio_mmio_io_ops, ct.drv.mmio, &saved);
	forget_saved();
}
