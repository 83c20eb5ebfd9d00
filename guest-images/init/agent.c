// SPDX-License-Identifier: Apache-2.0
/*
 * The agent: a process that waits for the VMM to say that this machine was restored, and makes it
 * one of its own. The way of the messages is a named virtio port, their form docs/agent.md.
 */
#include "init.h"
#include "news.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT "minivm.agent"

enum {
	PORT_WAIT_MS = 10000, /* its driver works on its own time */
	PORT_POLL_MS = 20,
	/* What a clock may be off by: less is the time that the message took. */
	CLOCK_SLACK_MS = 100,
};

/* --- what is told, one function for each --- */

static bool add_entropy(const struct news *news)
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[NEWS_ENTROPY_MAX];
	} pool = {.info = {.entropy_count = (int)(8 * news->entropy_len),
			   .buf_size = (int)news->entropy_len}};
	bool good;
	int fd;

	if (news->entropy_len == 0)
		return true;
	fd = open("/dev/random", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	memcpy(pool.bytes, news->entropy, news->entropy_len);
	/* What is in the pool counts from the next reseeding on: at once, on kernels that can. */
	good = ioctl(fd, RNDADDENTROPY, &pool) == 0;
	if (good)
		ioctl(fd, RNDRESEEDCRNG);
	close(fd);
	return good;
}

static bool set_hostname(const struct news *news)
{
	return !news->hostname[0] || sethostname(news->hostname, strlen(news->hostname)) == 0;
}

static bool set_time(const struct news *news)
{
	const struct timespec told = {.tv_sec = news->seconds, .tv_nsec = news->nanoseconds};
	struct timespec now;
	int64_t off;

	if (!news->has_time)
		return true;
	clock_gettime(CLOCK_REALTIME, &now);
	off = (int64_t)(told.tv_sec - now.tv_sec) * 1000 + (told.tv_nsec - now.tv_nsec) / 1000000;
	return (off > -CLOCK_SLACK_MS && off < CLOCK_SLACK_MS) ||
	       clock_settime(CLOCK_REALTIME, &told) == 0;
}

/* The interface that has the address, into @ifr. */
static bool find_interface(const uint8_t mac[NEWS_MAC_LEN], struct ifreq *ifr)
{
	DIR *dir = opendir("/sys/class/net");
	const struct dirent *entry;
	bool found = false;

	while (!found && dir && (entry = readdir(dir))) {
		char path[320], line[64];
		uint8_t has[NEWS_MAC_LEN];

		snprintf(path, sizeof(path), "/sys/class/net/%s/address", entry->d_name);
		found = entry->d_name[0] != '.' && strlen(entry->d_name) < IFNAMSIZ &&
			setup_read_line(path, line, sizeof(line)) &&
			news_parse_mac(line, strlen(line), has) && !memcmp(has, mac, sizeof(has));
		if (found)
			strcpy(ifr->ifr_name, entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A driver that cannot change the address of an interface in use says EBUSY. */
static bool change_address(int fd, const struct ifreq *address)
{
	struct ifreq down = *address, up = *address;

	if (ioctl(fd, SIOCSIFHWADDR, address) == 0)
		return true;
	if (errno != EBUSY || ioctl(fd, SIOCGIFFLAGS, &up))
		return false;
	down.ifr_flags = (short)(up.ifr_flags & ~IFF_UP);
	if (ioctl(fd, SIOCSIFFLAGS, &down))
		return false;
	return (ioctl(fd, SIOCSIFHWADDR, address) == 0) & (ioctl(fd, SIOCSIFFLAGS, &up) == 0);
}

static bool set_macs(const struct news *news)
{
	int fd = news->macs > 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	bool good = news->macs == 0 || fd >= 0;

	for (unsigned int i = 0; fd >= 0 && i < news->macs; i++) {
		struct ifreq ifr = {.ifr_name = ""};

		if (!find_interface(news->mac[i].old, &ifr)) {
			good = false;
			continue;
		}
		ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(ifr.ifr_hwaddr.sa_data, news->mac[i].fresh, NEWS_MAC_LEN);
		good &= change_address(fd, &ifr);
	}
	if (fd >= 0)
		close(fd);
	return good;
}

static const struct step {
	const char *name;
	bool (*take)(const struct news *news);
} steps[] = {
    {"entropy", add_entropy},
    {"hostname", set_hostname},
    {"time", set_time},
    {"mac", set_macs},
};

/* Does what it can, and answers "done ID" or "failed ID STEP...". */
static void take_news(int port, const struct news *news)
{
	char failed[64] = "";

	for (size_t i = 0; !news->bad && i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i].take(news))
			continue;
		strcat(failed, " ");
		strcat(failed, steps[i].name);
	}
	if (news->bad)
		strcpy(failed, " message");
	dprintf(port, "%s %s%s\n", failed[0] ? "failed" : "done", news->id, failed);
}

/* --- the port --- */

static int open_port(void)
{
	char path[320];
	int fd = -1;

	for (int waited = 0; waited < PORT_WAIT_MS; waited += PORT_POLL_MS) {
		if (setup_find_port(PORT, path, sizeof(path)))
			fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		usleep(PORT_POLL_MS * 1000);
	}
	return -1;
}

/* Returns when the port has no other side any more. */
static void listen_to(int port)
{
	static struct news news;
	char line[NEWS_LINE_MAX + 1], buf[512];
	size_t len = 0;
	ssize_t n;

	while ((n = read(port, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != '\n') {
				/* One that is too long is none that we know. */
				if (len < NEWS_LINE_MAX)
					line[len++] = buf[i];
				continue;
			}
			line[len] = '\0';
			len = 0;
			if (news_line(&news, line)) {
				take_news(port, &news);
				memset(&news, 0, sizeof(news));
			}
		}
	}
}

pid_t agent_start(void)
{
	pid_t pid = fork();
	sigset_t none;
	int port;

	if (pid != 0)
		return pid;
	prctl(PR_SET_NAME, "init-agent");
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	port = open_port();
	if (port >= 0)
		listen_to(port);
	_exit(1);
}
