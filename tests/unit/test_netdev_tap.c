/* SPDX-License-Identifier: Apache-2.0 */
/* Tap interfaces, in a network namespace of the test's own: by name, and as a file that is ours. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <linux/filter.h>
#include <linux/if_tun.h>

#include "minivm/netdev.h"

#define NAME "tap-of-test"

Test(netdev_tap, errors)
{
	struct netdev *none = NULL;
	int fd = open("/dev/null", O_RDWR);
	struct err err;

	cr_expect_eq(netdev_tap_open("no-such-tap", &none, &err), -ENODEV);
	cr_expect_not_null(strstr(err.text, "ip tuntap add dev no-such-tap"), "%s", err.text);
	cr_expect_eq(netdev_tap_open("a-name-of-16-byt", &none, &err), -EINVAL);
	cr_expect_eq(netdev_tap_adopt(fd, &none, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "is no tap"), "%s", err.text);
	/* As our own files are: nobody gave us that number. */
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	cr_expect_eq(netdev_tap_adopt(fd, &none, &err), -EBADF);
	cr_expect_not_null(strstr(err.text, "is not open"), "%s", err.text);
	close(fd);
	cr_expect_eq(netdev_tap_adopt(fd, &none, &err), -EBADF);
	cr_expect_null(none);
}

static void setup(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		cr_skip_test("no network namespace");
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		cr_skip_test("no tap interfaces");
}

#define TapTest(name) Test(netdev_tap, name, .init = setup)

/* An interface and its file, as somebody leaves it to minivm. */
static int attach(short flags)
{
	struct ifreq ifr = {.ifr_name = NAME, .ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0, "%s", strerror(errno));
	return fd;
}

static void adopt_and_close(int fd)
{
	struct netdev *nd = NULL;
	struct err err = {0};

	cr_assert_eq(netdev_tap_adopt(fd, &nd, &err), 0, "%s", err.text);
	cr_expect_lt(fcntl(fd, F_GETFD), 0, "taken over");
	cr_expect(nd->vnet_hdr);
	cr_expect(fcntl(nd->fd, F_GETFL) & O_NONBLOCK);
	cr_expect(fcntl(nd->fd, F_GETFD) & FD_CLOEXEC);
	netdev_close(nd);
}

TapTest(adopted)
{
	adopt_and_close(attach(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR));
	adopt_and_close(attach(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE));
}

/* A filter that its owner has set stays. */
TapTest(adopted_with_a_filter)
{
	struct sock_filter nothing = {.code = BPF_RET | BPF_K, .k = 0};
	struct sock_fprog filter = {.len = 1, .filter = &nothing};
	int fd = attach(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), other;

	cr_assert_eq(ioctl(fd, TUNATTACHFILTER, &filter), 0);
	other = dup(fd);
	adopt_and_close(fd);
	filter.len = 0;
	cr_assert_eq(ioctl(other, TUNGETFILTER, &filter), 0);
	cr_expect_eq(filter.len, 1);
	close(other);
}

/* Every frame of these would be misread. */
TapTest(attached_in_another_way)
{
	static const short bad[] = {
	    IFF_TAP | IFF_VNET_HDR,
	    IFF_TAP | IFF_NO_PI,
	    IFF_TAP,
	    IFF_TUN | IFF_NO_PI | IFF_VNET_HDR,
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct netdev *none = NULL;
		struct err err = {0};
		int fd = attach(bad[i]);

		cr_expect_eq(netdev_tap_adopt(fd, &none, &err), -EINVAL, "flags %#x", bad[i]);
		cr_expect(strstr(err.text, "IFF_NO_PI"), "%s", err.text);
		cr_expect_eq(close(fd), 0, "it stays its owner's");
	}
}

TapTest(not_attached)
{
	struct netdev *none = NULL;
	struct err err = {0};
	int fd = open("/dev/net/tun", O_RDWR);

	cr_expect_eq(netdev_tap_adopt(fd, &none, &err), -EINVAL);
	cr_expect(strstr(err.text, "is no tap"), "%s", err.text);
	close(fd);
}

TapTest(by_name)
{
	int fd = attach(IFF_TAP | IFF_NO_PI);
	struct netdev *nd = NULL;
	struct err err = {0};

	cr_expect_eq(netdev_tap_open(NAME, &nd, &err), -EBUSY);
	cr_expect(strstr(err.text, "has it open"), "%s", err.text);
	cr_assert_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	cr_assert_eq(netdev_tap_open(NAME, &nd, &err), 0, "%s", err.text);
	cr_expect(nd->vnet_hdr);
	netdev_close(nd);
	/* What is there is no tap. */
	cr_expect_eq(netdev_tap_open("lo", &nd, &err), -EINVAL);
	cr_expect(strstr(err.text, "is it a tap?"), "%s", err.text);
}
