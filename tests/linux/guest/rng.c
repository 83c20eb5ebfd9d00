/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device, as the kernel found it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "checks.h"

#define HWRNG	"/dev/hwrng"
#define CURRENT "/sys/class/misc/hw_random/rng_current"

/* `len` bytes of the device, by as many reads as it takes. */
static bool read_hwrng(uint8_t *buf, size_t len)
{
	int fd = open(HWRNG, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	for (; fd >= 0 && len > 0 && n > 0; len -= (size_t)n, buf += n) {
		n = read(fd, buf, len);
		if (n <= 0)
			break;
	}
	if (fd >= 0)
		close(fd);
	return len == 0;
}

void group_hwrng(struct checks *c, char *arg)
{
	static uint8_t a[4096], b[4096];
	unsigned same = 0, zero = 0;
	char name[64];

	(void)arg;
	read_text(CURRENT, name, sizeof(name));
	check(c, !strncmp(name, "virtio_rng", 10), "hwrng is virtio_rng", "it is \"%s\"", name);
	if (!check(c, read_hwrng(a, sizeof(a)) && read_hwrng(b, sizeof(b)), "hwrng gives bytes",
		   "reading " HWRNG " fails"))
		return;
	for (size_t i = 0; i < sizeof(a); i++) {
		same += a[i] == b[i];
		zero += a[i] == 0;
	}
	/* 16 of each are expected. */
	check(c, same < 100 && zero < 100, "hwrng bytes are random", "%u the same, %u zeroes", same,
	      zero);
}
