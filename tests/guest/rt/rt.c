/* SPDX-License-Identifier: Apache-2.0 */
/* From entry.S to payload_main(): boot facts, command line, DMA memory, the end. */
#include "rt.h"

#include "apic.h"
#include "cpu.h"
#include "pvh.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

#define EXIT_PORT 0xf4

/* Offsets in the zero page, Linux Documentation/x86/boot.rst and zero-page.rst */
#define ZP_E820_ENTRIES 0x1e8
#define ZP_CMDLINE	0x228
#define ZP_E820_TABLE	0x2d0

#define CMDLINE_SIZE 4096
#define DMA_END	     (14ull << 20) /* payloads get by with 16 MiB of RAM */

struct e820_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
} __attribute__((packed));

struct boot_info boot_info;
static char cmdline[CMDLINE_SIZE];
extern char _end[]; /* link.ld */
static uint64_t dma_next;

void rt_start(const uint8_t *zero_page, const struct pvh_info *pvh); /* for entry.S */

_Noreturn void rt_exit(uint8_t status)
{
	out8(EXIT_PORT, status);
	for (;;)
		cpu_pause();
}

static void note_range(uint64_t addr, uint64_t size, uint32_t type)
{
	uint64_t end = addr + size;

	if (boot_info.ranges < BOOT_RANGES_MAX)
		boot_info.range[boot_info.ranges++] = (struct boot_range){addr, end, type};
	if (type == E820_RAM && addr < 1ull << 32 && end > boot_info.ram_end)
		boot_info.ram_end = end;
}

static void set_cmdline(uint64_t from)
{
	const char *text = (const char *)from;
	size_t n = from ? strlen(text) : 0;

	if (n >= CMDLINE_SIZE)
		n = CMDLINE_SIZE - 1;
	memcpy(cmdline, text, n);
	boot_info.cmdline = cmdline;
}

static void read_zero_page(const uint8_t *zp)
{
	const struct e820_entry *e = (const void *)(zp + ZP_E820_TABLE);

	for (unsigned i = 0; i < zp[ZP_E820_ENTRIES]; i++)
		note_range(e[i].addr, e[i].size, e[i].type);
	set_cmdline(*(const uint32_t *)(const void *)(zp + ZP_CMDLINE));
}

static void read_pvh(const struct pvh_info *pvh)
{
	const struct pvh_memmap *m = (const void *)pvh->memmap;

	for (unsigned i = 0; pvh->version >= 1 && i < pvh->memmap_entries; i++)
		note_range(m[i].addr, m[i].size, m[i].type);
	set_cmdline(pvh->cmdline);
	/* PVH is QEMU's way in, and ours with --entry pvh; this word is ours alone. */
	boot_info.foreign = !cmdline_has("minivm.dsr");
}

void rt_start(const uint8_t *zero_page, const struct pvh_info *pvh)
{
	cpu_prepare(0);
	trap_init();
	cpu_load_tables(0);
	if (pvh)
		read_pvh(pvh);
	else
		read_zero_page(zero_page);
	dma_reset();
	apic_init();
	time_init();
	rt_exit((uint8_t)payload_main());
}

uint64_t parse_number(const char *s, const char **end)
{
	unsigned base = 10;
	uint64_t v = 0;

	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned d;

		if (*s >= '0' && *s <= '9')
			d = (unsigned)(*s - '0');
		else if (base == 16 && (*s | 32) >= 'a' && (*s | 32) <= 'f')
			d = (unsigned)((*s | 32) - 'a' + 10);
		else
			break;
		v = v * base + d;
	}
	if (end)
		*end = s;
	return v;
}

const char *cmdline_word(const char *name, unsigned n)
{
	size_t len = strlen(name);
	const char *p = boot_info.cmdline;

	while (*p) {
		while (*p == ' ')
			p++;
		if (strlen(p) >= len && !memcmp(p, name, len)) {
			const char *v = p + len;

			if ((!*v || *v == ' ' || *v == '=') && n-- == 0)
				return *v == '=' ? v + 1 : "";
		}
		while (*p && *p != ' ')
			p++;
	}
	return NULL;
}

bool cmdline_has(const char *name)
{
	return cmdline_word(name, 0) != NULL;
}

uint64_t cmdline_number(const char *name, uint64_t absent)
{
	const char *v = cmdline_word(name, 0);

	return v ? parse_number(v, NULL) : absent;
}

void dma_reset(void)
{
	dma_next = (uint64_t)_end;
}

void *dma_alloc(size_t size, size_t align)
{
	uint64_t p = (dma_next + align - 1) & -(uint64_t)align;

	if (p + size > DMA_END || p + size < p) {
		print("not ok - out of DMA memory\n");
		rt_exit(98);
	}
	dma_next = p + size;
	return memset((void *)p, 0, size);
}
