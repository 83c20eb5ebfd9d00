/* SPDX-License-Identifier: Apache-2.0 */
/* Processors, memory, UART and clocks, as the kernel found them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"

#define MIB	   (1ull << 20)
#define TEXT_MAX   32768
#define CPUS_MAX   64
#define HIGH_START 0x100000000ull

/* --- processors --- */

/* Moves this process to one processor; false if it does not get there. */
static bool run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 && sched_getcpu() == (int)cpu;
}

static void run_anywhere(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
}

void group_cpus(struct checks *c, char *arg)
{
	unsigned n = (unsigned)next_number(&arg), cpu;
	char want[16], online[64];

	snprintf(want, sizeof(want), n > 1 ? "0-%u\n" : "%u\n", n - 1);
	read_text("/sys/devices/system/cpu/online", online, sizeof(online));
	check(c, !strcmp(online, want), "processors online", "want %s have %s", want, online);
	for (cpu = 0; cpu < n && run_on(cpu); cpu++)
		;
	check(c, cpu == n, "each processor runs code", "not processor %u: %s", cpu,
	      strerror(errno));
	run_anywhere();
}

/* How many lines "NAME<tab>: VALUE" of /proc/cpuinfo have this value (NULL: any). */
static unsigned count_field(const char *text, const char *name, const char *value)
{
	size_t len = strlen(name);
	unsigned n = 0;

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p += p != NULL) {
		const char *v = strchr(p, ':');

		if (strncmp(p, name, len) != 0 || !strchr("\t :", p[len]) || !v)
			continue;
		v += strspn(v, ": ");
		if (!value || (!strncmp(v, value, strlen(value)) && v[strlen(value)] == '\n'))
			n++;
	}
	return n;
}

static bool has_flag(const char *flags, const char *flag)
{
	size_t len = strlen(flag);

	for (const char *hit = strstr(flags, flag); hit; hit = strstr(hit + 1, flag)) {
		if (hit[-1] == ' ' && strchr(" \n", hit[len]))
			return true;
	}
	return false;
}

void group_cpuinfo(struct checks *c, char *arg)
{
	static const char *const needed[] = {"fpu",  "tsc",	"msr", "pae",	    "cx8",  "apic",
					     "cmov", "pat",	"mmx", "sse",	    "fxsr", "sse2",
					     "nx",   "syscall", "lm",  "hypervisor"};
	unsigned n = (unsigned)next_number(&arg);
	char *text = malloc(TEXT_MAX);
	const char *flags, *missing = NULL;
	char number[16];

	if (!text)
		return;
	read_text("/proc/cpuinfo", text, TEXT_MAX);
	flags = strstr(text, "\nflags");
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && !missing; i++)
		missing = flags && has_flag(flags, needed[i]) ? NULL : needed[i];
	check(c, !missing, "flags of the processor", "%s is missing", missing);
	check(c, count_field(text, "processor", NULL) == n, "processors in cpuinfo", "%u, want %u",
	      count_field(text, "processor", NULL), n);
	/* One package of n cores with one thread each. A uniprocessor kernel says nothing of it. */
	snprintf(number, sizeof(number), "%u", n);
	if (count_field(text, "siblings", NULL)) {
		check(c,
		      count_field(text, "siblings", number) == n &&
			  count_field(text, "cpu cores", number) == n &&
			  count_field(text, "physical id", "0") == n,
		      "topology: one package, a core per processor",
		      "%u processors say siblings %s, %u say cores %s, %u are in package 0",
		      count_field(text, "siblings", number), number,
		      count_field(text, "cpu cores", number), number,
		      count_field(text, "physical id", "0"));
	}
	for (unsigned i = 0; i < n; i++) {
		snprintf(number, sizeof(number), "%u", i);
		if (count_field(text, "apicid", NULL) && count_field(text, "apicid", number) != 1) {
			check(c, false, "APIC identifiers", "%s is there %u times", number,
			      count_field(text, "apicid", number));
			break;
		}
	}
	free(text);
}

/* --- memory --- */

/* Sums "START-END : System RAM"; *high: where the range at or above 4 GiB starts, 0 = none. */
static uint64_t ram_of_iomem(uint64_t *high)
{
	char *text = malloc(TEXT_MAX);
	uint64_t sum = 0;

	*high = 0;
	if (!text)
		return 0;
	read_text("/proc/iomem", text, TEXT_MAX);
	for (const char *p = text; *p;) {
		unsigned long long start, end;
		int n = 0;

		if (sscanf(p, "%llx-%llx : System RAM%n", &start, &end, &n) == 2 && n > 0) {
			sum += end - start + 1;
			if (start >= HIGH_START && !*high)
				*high = start;
		}
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	free(text);
	return sum;
}

static uint64_t meminfo_kib(const char *name)
{
	char text[4096];
	const char *line;

	read_text("/proc/meminfo", text, sizeof(text));
	line = strstr(text, name);
	return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

/* Writes its own number into each page, then looks whether all are still there. */
static void use_pages(struct checks *c, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bad = 0;
	unsigned char *p =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		check(c, false, "memory is usable", "mmap: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < bytes; i += page)
		*(volatile uint64_t *)(p + i) = i ^ 0x5a5a5a5a5a5a5a5aull;
	for (size_t i = 0; i < bytes; i += page)
		bad += *(volatile uint64_t *)(p + i) != (i ^ 0x5a5a5a5a5a5a5a5aull);
	check(c, bad == 0, "memory is usable", "%zu pages have lost their content", bad);
	munmap(p, bytes);
}

void group_memory(struct checks *c, char *arg)
{
	uint64_t mib = next_number(&arg), high;
	uint64_t ram = ram_of_iomem(&high);
	uint64_t total = meminfo_kib("MemTotal:") / 1024, avail = meminfo_kib("MemAvailable:");

	/* Less the pieces below 1 MiB that the firmware has for itself. */
	check(c, ram <= mib * MIB && ram + MIB >= mib * MIB, "memory in the map",
	      "%llu bytes, want %llu MiB", (unsigned long long)ram, (unsigned long long)mib);
	/* The kernel keeps itself, 1/64 for page descriptors, and the initrd for a while. */
	check(c, total <= mib && total + 40 + mib / 16 >= mib, "memory total", "%llu of %llu MiB",
	      (unsigned long long)total, (unsigned long long)mib);
	if (mib > 3072)
		check(c, high == HIGH_START, "memory goes on at 4 GiB", "it starts at %#llx",
		      (unsigned long long)high);
	use_pages(c, (avail / 4 < 65536 / c->slow ? avail / 4 : 65536 / c->slow) * 1024);
}

/* --- UART --- */

/* The sum over all processors of the lines of /proc/interrupts that contain `name`. */
static uint64_t interrupts_of(const char *name)
{
	char *text = malloc(TEXT_MAX);
	uint64_t sum = 0;

	if (!text)
		return 0;
	read_text("/proc/interrupts", text, TEXT_MAX);
	for (char *p = text, *end; *p; p = end) {
		char *hit, *number = strchr(p, ':');

		end = p + strcspn(p, "\n");
		end += *end == '\n';
		hit = strstr(p, name);
		if (!hit || hit >= end || !number || number >= end)
			continue;
		for (number++; (number += strspn(number, " ")), *number >= '0' && *number <= '9';)
			sum += strtoull(number, &number, 10);
	}
	free(text);
	return sum;
}

void group_uart(struct checks *c, char *arg)
{
	char text[512];
	uint64_t before = interrupts_of("ttyS0");
	const char *line;
	unsigned irq = 0;

	(void)arg;
	read_text("/proc/tty/driver/serial", text, sizeof(text));
	line = strstr(text, "0: uart:");
	if (line)
		text[strcspn(line, "\n") + (size_t)(line - text)] = '\0';
	/* With ACPI GSI 4 is some Linux IRQ, with an MP table it is IRQ 4; 0 would mean polling. */
	check(c, line && sscanf(line, "0: uart:16550A port:000003F8 irq:%u ", &irq) == 1 && irq,
	      "ttyS0 is a 16550A", "%s", line ? line : "not in /proc/tty/driver/serial");
	/* A handler that runs already may take the first of these lines along. */
	for (int i = 0; i < 50 && interrupts_of("ttyS0") == before; i++) {
		tcdrain(STDOUT_FILENO);
		say("this line is here to move the interrupt count of ttyS0");
	}
	check(c, interrupts_of("ttyS0") > before, "ttyS0 is interrupt-driven",
	      "its count stays at %llu", (unsigned long long)before);
}

/* --- clocks --- */

/* Judged on the host, which knows the time. */
void group_time(struct checks *c, char *arg)
{
	char text[64];

	(void)c;
	(void)arg;
	read_text("/proc/uptime", text, sizeof(text));
	say("time: %lld up %lld", (long long)time(NULL), atoll(text));
}

static void check_monotonic(struct checks *c)
{
	unsigned cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t last = 0, back = 0;
	unsigned rounds = 20000 / c->slow;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t now;

		if (cpus > 1 && i % (rounds / 20 + 1) == 0)
			run_on(i / (rounds / 20 + 1) % cpus);
		now = now_ns();
		if (now < last && last - now > back)
			back = last - now;
		last = now;
	}
	run_anywhere();
	check(c, back == 0, "the monotonic clock never goes back", "it did, by %llu ns",
	      (unsigned long long)back);
}

static void check_sleep(struct checks *c)
{
	const struct timespec t = {.tv_nsec = 100000000};
	uint64_t before = now_ns(), took;

	nanosleep(&t, NULL);
	took = (now_ns() - before) / 1000000;
	check(c, took >= 100 && took < 100 + 4000ull * c->slow, "sleep", "100 ms took %llu ms",
	      (unsigned long long)took);
}

static uint64_t timer_interrupts(void)
{
	return interrupts_of("LOC:") + interrupts_of("timer");
}

static void spin(unsigned ms)
{
	uint64_t until = now_ns() + ms * 1000000ull;

	while (now_ns() < until)
		;
}

/* As many as 300 ms have at the least, where the host runs us all of that time. */
static void check_ticks(struct checks *c)
{
	uint64_t before = timer_interrupts(), ticks = 0;
	unsigned spells = 0;

	while (ticks < 10 && spells++ < 10) {
		spin(300 * c->slow);
		ticks = timer_interrupts() - before;
	}
	check(c, ticks >= 10, "timer ticks", "%llu interrupts in %u ms", (unsigned long long)ticks,
	      3000 * c->slow);
}

void group_clock(struct checks *c, char *arg)
{
	char text[128];

	(void)arg;
	read_text("/sys/devices/system/clocksource/clocksource0/available_clocksource", text,
		  sizeof(text));
	check(c, strstr(text, "kvm-clock") || strstr(text, "tsc"), "clock source", "only these: %s",
	      text);
	check_monotonic(c);
	check_sleep(c);
	check_ticks(c);
}
