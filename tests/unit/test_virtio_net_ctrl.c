/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net as a driver sees it: the control queue. */
#include "net_driver.h"

NetTest(filters)
{
	static const struct {
		uint8_t number;
		uint8_t on;
		bool own, other, multi, broad;
	} steps[] = {
	    {0, 1, true, true, true, true},	{0, 0, true, false, false, true},
	    {1, 1, true, false, true, true},	{3, 1, true, false, false, true},
	    {1, 0, true, false, false, true},	{3, 0, true, false, false, true},
	    {2, 1, true, true, false, true},	{4, 1, false, false, false, true},
	    {5, 1, false, false, false, false}, {0, 1, true, true, true, true},
	};

	net_start(F_ALL, 64);
	cr_expect(net_passes(net_own_mac));
	cr_expect(net_passes(net_broadcast));
	cr_expect(!net_passes(net_other), "not promiscuous from the start");
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		cr_expect_eq(net_command(0, steps[i].number, &steps[i].on, 1), 0, "step %u", i);
		cr_expect_eq(net_passes(net_own_mac), steps[i].own, "step %u", i);
		cr_expect_eq(net_passes(net_other), steps[i].other, "step %u", i);
		cr_expect_eq(net_passes(net_multicast), steps[i].multi, "step %u", i);
		cr_expect_eq(net_passes(net_broadcast), steps[i].broad, "step %u", i);
	}
}

NetTest(mac_tables)
{
	uint8_t data[8 + 200 * 6] = {0};

	net_start(F_ALL, 64);
	data[0] = 1;
	memcpy(data + 4, net_other, 6);
	data[10] = 1;
	memcpy(data + 14, net_multicast, 6);
	cr_expect_eq(net_command(1, 0, data, 20), 0);
	cr_expect(net_passes(net_other));
	cr_expect(net_passes(net_multicast));
	/* Refused: cut short, surplus bytes, counts beyond the data. The table stays. */
	cr_expect_eq(net_command(1, 0, data, 19), 1);
	cr_expect_eq(net_command(1, 0, data, 21), 1);
	data[3] = 0xff;
	cr_expect_eq(net_command(1, 0, data, 20), 1);
	cr_expect(net_passes(net_other));
	/* Empty again. */
	memset(data, 0, sizeof(data));
	cr_expect_eq(net_command(1, 0, data, 8), 0);
	cr_expect(!net_passes(net_other));
	/* More than there is room for: all pass. */
	data[0] = 200;
	cr_expect_eq(net_command(1, 0, data, sizeof(data)), 0);
	cr_expect(net_passes(net_other));
	cr_expect(net_passes(net_multicast));
	net_start(F_ALL, 64);
	cr_expect(!net_passes(net_other), "a reset empties it");
	cr_expect(!net_passes(net_multicast));
}

NetTest(mac_address)
{
	uint8_t longer[7] = {0x02};

	net_start(F_ALL, 64);
	cr_expect_eq(net_command(1, 1, net_other, 6), 0);
	cr_expect_eq(virtio_mmio_io_ops.read(nt.drv.mmio, R_CONFIG + 5, 1), 5);
	cr_expect(net_passes(net_other));
	cr_expect(!net_passes(net_own_mac));
	cr_expect_eq(net_command(1, 1, net_other, 5), 1);
	cr_expect_eq(net_command(1, 1, longer, 7), 1);
	net_start(F_ALL, 64);
	cr_expect(net_passes(net_own_mac), "a reset brings the first one back");
}

NetTest(unknown_commands)
{
	uint8_t one = 1;

	net_start(F_ALL, 64);
	for (unsigned class = 0; class < 256; class += class < 8 ? 1 : 31) {
		for (unsigned number = 0; number < 10; number++) {
			if ((class == 0 && number < 6) || (class == 1 && number < 2))
				continue;
			cr_expect_eq(net_command((uint8_t) class, (uint8_t)number, &one, 1), 1);
		}
	}
	cr_expect_eq(net_command(0, 0, NULL, 0), 1, "without its byte");
	net_start((F_ALL & ~F_CTRL_EXTRA) & ~F_CTRL_MAC, 64);
	cr_expect_eq(net_command(0, 2, &one, 1), 1, "not negotiated");
	cr_expect_eq(net_command(1, 1, net_own_mac, 6), 1);
}

/* No room for the answer, no room for a class: completed all the same. */
NetTest(commands_without_form)
{
	net_start(F_ALL, 64);
	ring_set(&nt.ring[CTRL], 0, DATA, 3, 0, 0);
	ring_offer(&nt.ring[CTRL], 0);
	net_kick(CTRL);
	EXPECT_USED(CTRL, 0, 0);
	*(uint8_t *)ring_at(&nt.drv.ring, DATA + 100) = ACK_NONE;
	ring_set(&nt.ring[CTRL], 0, DATA, 1, D_NEXT, 1);
	ring_set(&nt.ring[CTRL], 1, DATA + 100, 1, D_WRITE, 0);
	ring_offer(&nt.ring[CTRL], 0);
	net_kick(CTRL);
	EXPECT_USED(CTRL, 0, 1);
	cr_expect_eq(*(uint8_t *)ring_at(&nt.drv.ring, DATA + 100), 1);
}
