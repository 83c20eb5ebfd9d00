/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's kernel: its command line, its image and the tables beside it.
 */
#include "machine_priv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "minivm/file.h"
#include "minivm/image.h"

/*
 * The default command line; docs/minivm.1 lists it too.
 *   console=ttyS0      messages and shell on COM1; or, with a virtio console,
 *   earlycon=...       messages on COM1 until there is hvc0, which then takes over, and
 *   console=hvc0       messages and shell there
 *   panic=-1           reset at once after a panic
 *   minivm.dsr         our guest init heeds COM1's DSR line, see lifeline.c
 *   minivm.ports=N     with named ports: our guest init waits for them and names them
 *   minivm.agent       with an agent's port: our guest init has an agent
 *   minivm.balloon     with a balloon: our guest init has smaller blocks of free pages reported
 * then, by description:
 *   reboot=a           reset through the ACPI reset register
 *   pci=conf1,noearly  no PCI device but a configuration space (devices/pci_config.c): with off, a
 *                      kernel with PCI, and ACPI has no other, prints an error on every boot
 *   reboot=k           reset through the i8042, where there is no ACPI
 *   panic_warm         tells a panic from a reboot, see reset_was_panic(): all there is without a
 *                      pvpanic driver, which Linux 6.1 has with ACPI or a device tree only
 *   pci=off            there is none: spares kernels that know PCI the search
 *   acpi=off           there are no tables: spares the kernel the search, and its complaint
 */
#define BOARD_CMDLINE	      "panic=-1 minivm.dsr"
#define BOARD_CMDLINE_SERIAL  "console=ttyS0"
#define BOARD_CMDLINE_HVC     "earlycon=uart8250,io,0x3f8 console=hvc0"
#define BOARD_CMDLINE_ACPI    "pci=conf1,noearly reboot=a,panic_warm"
#define BOARD_CMDLINE_NO_ACPI "pci=off reboot=k,panic_warm acpi=off"

/*
 * What stands behind `word` where it last begins a word of `text`: outside of quotes, and before a
 * "--", whose followers are init's. NULL: nowhere.
 */
static const char *last_word(const char *text, const char *word)
{
	const char *found = NULL;
	bool quoted = false, begin = true;

	for (const char *p = text; p && *p; p++) {
		if (begin && !quoted) {
			if (!strncmp(p, "-- ", 3))
				break;
			if (!strncmp(p, word, strlen(word)))
				found = p + strlen(word);
		}
		quoted ^= *p == '"';
		begin = *p == ' ';
	}
	return found;
}

/* The user's command line does not ask for a console that is not hvc0. */
static bool names_no_other_console(const struct vm_config *config)
{
	const char *word =
	    last_word(config->cmdline_only ? config->cmdline_only : config->cmdline, "console=");

	return word ? strncmp(word, "hvc", 3) == 0 : !config->cmdline_only;
}

bool machine_wants_hvc(const struct machine *m, const struct boot_result *kernel)
{
	const struct vm_config *config = m->config;

	if (config->console == CONSOLE_VIRTIO)
		return true;
	if (config->console != CONSOLE_AUTO && config->console != CONSOLE_FILE)
		return false;
	return kernel->virtio_console && names_no_other_console(config);
}

/* Where the root file system is, when nobody said: the first disk, unless there is an initrd. */
static int add_root(const struct machine *m, struct cmdline *c, struct err *err)
{
	const struct vm_config *config = m->config;

	if (config->disk_count == 0 || config->initrd)
		return 0;
	return cmdline_add(c, err, "root=/dev/vda %s", config->disk[0].readonly ? "ro" : "rw");
}

/* What the guest must be told on a host that emulates its kernel mode. */
static int add_assist_words(struct cmdline *c, struct err *err)
{
	unsigned i;
	int ret = 0;

	for (i = 0; !ret && assist_cmdline[i]; i++)
		ret = cmdline_add(c, err, "%s", assist_cmdline[i]);
	return ret;
}

/*
 * Linux takes early words in their order: what the user says of messages stands in front of our
 * earlycon= as well, or that would print what came before it.
 */
static int add_message_words(const struct vm_config *config, struct cmdline *c, struct err *err)
{
	static const char *const bare[] = {"quiet", "debug", "ignore_loglevel"};
	const char *level = last_word(config->cmdline, "loglevel=");
	int ret = 0;

	for (unsigned i = 0; !ret && i < sizeof(bare) / sizeof(bare[0]); i++) {
		const char *end = last_word(config->cmdline, bare[i]);

		if (end && (*end == ' ' || !*end))
			ret = cmdline_add(c, err, "%s", bare[i]);
	}
	if (!ret && level)
		ret = cmdline_add(c, err, "loglevel=%.*s", (int)strcspn(level, " "), level);
	return ret;
}

/*
 * The final command line: ours first, the user's last, so that the user's words win where the
 * kernel takes the last one, and so that a " -- " of the user's comes after all of ours. The device
 * words stand even before --cmdline-only: they describe the machine, they are no preference.
 */
static int build_cmdline(struct machine *m, struct err *err)
{
	const struct vm_config *config = m->config;
	struct cmdline *c = &m->cmdline;
	bool hvc = m->hvc && names_no_other_console(config);
	int ret = 0;

	ret = board_describe(m, c, err);
	if (!ret && config->cmdline_only)
		return cmdline_add(c, err, "%s", config->cmdline_only);
	if (!ret && hvc)
		ret = add_message_words(config, c, err);
	if (!ret)
		ret = cmdline_add(c, err, "%s " BOARD_CMDLINE " %s",
				  hvc ? BOARD_CMDLINE_HVC : BOARD_CMDLINE_SERIAL,
				  m->describe == DESCRIBE_ACPI ? BOARD_CMDLINE_ACPI
							       : BOARD_CMDLINE_NO_ACPI);
	if (!ret && config->port_count > 0)
		ret = cmdline_add(c, err, "minivm.ports=%u", config->port_count + config->agent);
	if (!ret && config->agent)
		ret = cmdline_add(c, err, "minivm.agent");
	if (!ret && config->balloon)
		ret = cmdline_add(c, err, "minivm.balloon");
	if (!ret && m->emulating)
		ret = add_assist_words(c, err);
	if (!ret)
		ret = add_root(m, c, err);
	if (!ret && config->cmdline)
		ret = cmdline_add(c, err, "%s", config->cmdline);
	return ret;
}

int machine_open_images(const struct machine *m, struct machine_images *images, struct err *err)
{
	const struct vm_config *config = m->config;
	const struct kernel_file_options options = {
	    .cached = config->kernel_cached,
	    .cache = config->kernel_cache,
	    .low_end =
		config->memory < GUEST_MMIO_HOLE_START ? config->memory : GUEST_MMIO_HOLE_START,
	    .log = m->log,
	};
	int ret;

	images->initrd_fd = -1;
	ret = kernel_file_open(config->kernel, &options, &images->kernel, err);
	if (!ret && config->initrd) {
		images->initrd_fd =
		    file_open("initrd", config->initrd, config->memory, &images->initrd_stat, err);
		ret = images->initrd_fd < 0 ? images->initrd_fd : 0;
	}
	return ret;
}

void machine_close_images(struct machine_images *images)
{
	if (images->initrd_fd >= 0)
		close(images->initrd_fd);
	kernel_file_close(&images->kernel);
}

/* Straight to where the guest finds it: it may be large. */
static int read_initrd(const struct machine *m, const struct machine_images *images,
		       struct err *err)
{
	size_t len = (size_t)images->initrd_stat.st_size;
	void *to;
	int ret;

	if (images->initrd_fd < 0)
		return 0;
	to = guest_mem_slice(&m->mem, m->boot.initrd, len);
	ret = to ? file_read_at(images->initrd_fd, to, len, 0) : -ENOMEM;
	return ret ? err_sys(err, -ret, "initrd %s: read", m->config->initrd) : 0;
}

int machine_load_kernel(struct machine *m, const struct machine_images *images, struct err *err)
{
	struct boot_request req = {
	    .mem = &m->mem,
	    .kernel = kernel_file_image(&images->kernel),
	    .kernel_in_place = true,
	    .initrd.len = images->initrd_fd < 0 ? 0 : (size_t)images->initrd_stat.st_size,
	    .entry = m->config->entry,
	};
	int ret = build_cmdline(m, err);

	if (ret)
		return ret;
	req.cmdline = m->cmdline.text;
	ret = board_write_tables(m, &req, err);
	if (ret)
		return ret;
	/* It checks that all fits; only then the kernel is worth loading. */
	ret = boot_linux(&req, &m->boot, err);
	if (!ret)
		ret = kernel_file_load(&images->kernel, &m->mem, err);
	if (ret)
		return err_context(err, "kernel %s", m->config->kernel);
	ret = read_initrd(m, images, err);
	if (ret)
		return ret;
	log_msg(m->log, LOG_LEVEL_DEBUG, "command line: %s", m->cmdline.text);
	return 0;
}
