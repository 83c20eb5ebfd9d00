/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel learned of its devices: each once, by the description that was asked for. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checks.h"

/* How many names in the directory begin with `prefix`. */
static unsigned count_names(const char *dir, const char *prefix)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	if (!d)
		return 0;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.' && !strncmp(e->d_name, prefix, strlen(prefix));
	closedir(d);
	return n;
}

static void want(struct checks *c, const char *what, const char *dir, const char *prefix,
		 unsigned n)
{
	unsigned have = count_names(dir, prefix);

	check(c, have == n, what, "%u names %s* in %s, want %u", have, prefix, dir, n);
}

void group_describe(struct checks *c, char *arg)
{
	bool acpi = !strcmp(next_field(&arg), "acpi");
	unsigned disks = (unsigned)next_number(&arg);

	want(c, "ACPI tables", "/sys/firmware/acpi/tables", "DSDT", acpi);
	want(c, "virtio devices, each once", "/sys/bus/virtio/devices", "virtio", disks);
	want(c, "virtio devices by ACPI", "/sys/bus/platform/drivers/virtio-mmio",
	     "LNRO0005:", acpi ? disks : 0);
	want(c, "virtio devices by the command line", "/sys/bus/platform/drivers/virtio-mmio",
	     "virtio-mmio.", acpi ? 0 : disks);
	want(c, "pvpanic is bound", "/sys/bus/platform/drivers/pvpanic-mmio", "QEMU0001:", acpi);
	want(c, "power button", "/sys/bus/acpi/drivers/button", "PNP0C0C:", acpi);
}

void group_unbind(struct checks *c, char *arg)
{
	const char *driver = next_field(&arg), *device = next_field(&arg);
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/platform/drivers/%s/unbind", driver);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	check(c, fd >= 0 && write(fd, device, strlen(device)) == (ssize_t)strlen(device),
	      "device without its driver", "%s, %s: %s", path, device, strerror(errno));
	close(fd);
}

static void power_off(struct checks *c)
{
	drain();
	reboot(RB_POWER_OFF);
	check(c, false, "power-off", "the system call returned");
}

void group_poweroff(struct checks *c, char *arg)
{
	(void)arg;
	power_off(c);
}

/* As PID 1 with nothing mounted: a power button and nothing else can end this. */
void group_button(struct checks *c, char *arg)
{
	struct input_event event = {0};
	int fd;

	(void)arg;
	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) && errno != EBUSY)
		say("devtmpfs: %s", strerror(errno));
	fd = open("/dev/input/event0", O_RDONLY | O_CLOEXEC);
	say("waiting");
	while (fd >= 0 && read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event)) {
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
			power_off(c);
	}
	check(c, false, "power button", "no input device");
}
