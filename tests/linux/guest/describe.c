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

/* By which names each description's devices are bound to their drivers. */
struct description {
	const char *how;
	const char *virtio;
	const char *pvpanic; /* NULL: it has none */
};

static const struct description descriptions[] = {
    {"acpi", "LNRO0005:", "QEMU0001:"},
    {"mptable", "virtio-mmio.", NULL},
    {"fdt", "c000", "505.pvpanic"}, /* by their addresses */
};

void group_describe(struct checks *c, char *arg)
{
	const char *how = next_field(&arg);
	unsigned disks = (unsigned)next_number(&arg);
	bool acpi = !strcmp(how, "acpi");

	want(c, "ACPI tables", "/sys/firmware/acpi/tables", "DSDT", acpi);
	want(c, "device tree", "/sys/firmware/devicetree/base", "cpus", !strcmp(how, "fdt"));
	want(c, "power button", "/sys/bus/acpi/drivers/button", "PNP0C0C:", acpi);
	want(c, "virtio devices, each once", "/sys/bus/virtio/devices", "virtio", disks);
	for (unsigned i = 0; i < sizeof(descriptions) / sizeof(descriptions[0]); i++) {
		const struct description *d = &descriptions[i];
		bool ours = !strcmp(how, d->how);

		want(c, "virtio devices by this description alone",
		     "/sys/bus/platform/drivers/virtio-mmio", d->virtio, ours ? disks : 0);
		if (d->pvpanic)
			want(c, "pvpanic by this description alone",
			     "/sys/bus/platform/drivers/pvpanic-mmio", d->pvpanic, ours);
	}
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
