// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	MARK_PORT = 0xf5,
	PORTS_WAIT_MS = 2000,
	PORTS_POLL_MS = 10,
};

struct mount_point {
	const char *type;
	const char *path;
	unsigned long flags;
	const char *options;
};

static const struct mount_point early[] = {
    {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"devtmpfs", "/dev", MS_NOSUID, "mode=755"},
};

static const struct mount_point late[] = {
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"},
    {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
};

static const struct mount_point tmp = {
    "tmpfs",
    "/tmp",
    MS_NOSUID | MS_NODEV,
    "mode=1777",
};

/* EBUSY: the kernel, or whoever made the initrd, mounted it already. */
static void mount_one(const struct mount_point *m)
{
	int ret = mount(m->type, m->path, m->type, m->flags, m->options);

	/* The mount point is there as a rule, so make it only when it turns out to be missing. */
	if (ret && errno == ENOENT && (mkdir(m->path, 0755) == 0 || errno == EEXIST))
		ret = mount(m->type, m->path, m->type, m->flags, m->options);
	/* ENODEV: a kernel without this file system. */
	if (ret && errno != EBUSY && errno != ENODEV)
		complain("%s: mount: %s", m->path, strerror(errno));
}

void setup_mark_start(void)
{
	if (ioperm(MARK_PORT, 1, 1) == 0)
		outb(1, MARK_PORT);
	ioperm(MARK_PORT, 1, 0); /* or commands would inherit it */
}

void setup_early_mounts(void)
{
	for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++)
		mount_one(&early[i]);
}

static void link_one(const char *target, const char *path)
{
	if (symlink(target, path) && errno != EEXIST)
		complain("%s: symlink: %s", path, strerror(errno));
}

void setup_late_mounts(void)
{
	struct statvfs root;

	for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++)
		mount_one(&late[i]);
	/* On a writable root /tmp stays on the disk, where there is room. */
	if (statvfs("/", &root) == 0 && (root.f_flag & ST_RDONLY))
		mount_one(&tmp);
	link_one("/proc/self/fd", "/dev/fd");
	link_one("/proc/self/fd/0", "/dev/stdin");
	link_one("/proc/self/fd/1", "/dev/stdout");
	link_one("/proc/self/fd/2", "/dev/stderr");
}

bool setup_read_line(const char *path, char *line, size_t size)
{
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, line, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return line[0];
}

#define PORTS_CLASS "/sys/class/virtio-ports"

/* The next port that has its name by now; NULL when there are no more. */
static const struct dirent *next_port(DIR *dir, char *name, size_t size)
{
	const struct dirent *entry;
	char path[320];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), PORTS_CLASS "/%s/name", entry->d_name);
		if (entry->d_name[0] != '.' && setup_read_line(path, name, size))
			return entry;
	}
	return NULL;
}

bool setup_find_port(const char *name, char *path, size_t size)
{
	DIR *dir = opendir(PORTS_CLASS);
	const struct dirent *entry;
	char has[65];

	while ((entry = next_port(dir, has, sizeof(has))) && strcmp(has, name) != 0)
		;
	if (entry)
		snprintf(path, size, "/dev/%s", entry->d_name);
	if (dir)
		closedir(dir);
	return entry;
}

/* Links those that have their names by now; returns how many. */
static unsigned int link_ports(void)
{
	DIR *dir = opendir(PORTS_CLASS);
	const struct dirent *entry;
	unsigned int named = 0;
	char name[65];

	while ((entry = next_port(dir, name, sizeof(name)))) {
		char path[320], target[280];

		named++;
		snprintf(target, sizeof(target), "../%s", entry->d_name);
		snprintf(path, sizeof(path), "/dev/virtio-ports/%s", name);
		link_one(target, path);
	}
	if (dir)
		closedir(dir);
	return named;
}

void setup_ports(unsigned int count)
{
	unsigned int waited = 0;

	if (count == 0)
		return;
	mkdir("/dev/virtio-ports", 0755);
	while (link_ports() < count && waited < PORTS_WAIT_MS) {
		usleep(PORTS_POLL_MS * 1000);
		waited += PORTS_POLL_MS;
	}
	if (waited >= PORTS_WAIT_MS)
		complain("virtio ports: not all of %u are there", count);
}

#define REPORT_ORDER "4"

void setup_balloon(bool there)
{
	static const char path[] = "/sys/module/page_reporting/parameters/page_reporting_order";
	int fd;

	if (!there)
		return;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* a kernel that reports no pages */
	if (write(fd, REPORT_ORDER, strlen(REPORT_ORDER)) < 0)
		complain("%s: %s", path, strerror(errno));
	close(fd);
}

void setup_hostname(const char *name)
{
	char line[65];

	if (!name && setup_read_line("/etc/hostname", line, sizeof(line)))
		name = line;
	if (name && sethostname(name, strlen(name)))
		complain("hostname %s: %s", name, strerror(errno));
}

void setup_loopback(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return; /* a kernel without networking */
	ifr.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr))
		complain("lo: %s", strerror(errno));
	close(fd);
}

/* The last word of the list is the console that /dev/console stands for. */
static const char *active_console(char *line, size_t size)
{
	char *last;

	if (!setup_read_line("/sys/class/tty/console/active", line, size))
		return "console";
	last = strrchr(line, ' ');
	return last ? last + 1 : line;
}

void setup_console(const char *name)
{
	char line[128], path[160];
	int fd;

	if (!name)
		name = active_console(line, sizeof(line));
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}
