/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: which devices the machine has, at which addresses and on which interrupts. Devices are
 * built here from the configuration, explicitly, and are given just what they need: memory, an
 * interrupt line, an event loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "machine_priv.h"
#include "minivm/acpi.h"
#include "minivm/fdt.h"
#include "minivm/file.h"
#include "minivm/platform.h"
#include "minivm/virtio_vsock.h"

/* --- plan: addresses and interrupts, before any file is opened --- */

/* On emulating hosts reading the ACPI tables takes a guest half a second to several. */
static enum describe_mode choose_description(const struct machine *m)
{
	if (m->config->describe != DESCRIBE_AUTO)
		return m->config->describe;
	return m->emulating ? DESCRIBE_MPTABLE : DESCRIBE_ACPI;
}

/* Events take two pins. A device has the FPU's instead: with ACPI nobody knows of that one. */
static void plan_events(struct machine *m)
{
	if (m->describe != DESCRIBE_ACPI)
		return;
	m->button.gsi = BOARD_BUTTON_GSI;
	m->irqs.used |= 1u << BOARD_BUTTON_GSI;
	if (!m->generation)
		return;
	m->irqs.used |= 1u << BOARD_GENERATION_GSI;
	m->irqs.used &= ~(1u << IRQ_FPU);
}

int board_plan(struct machine *m, struct err *err)
{
	int ret;

	if (!m->restore) {
		m->describe = choose_description(m);
		m->generation = m->describe == DESCRIBE_ACPI;
	}
	plan_events(m);
	ret = board_plan_disks(m, err);
	if (!ret)
		ret = board_plan_devices(m, err);
	if (!ret)
		ret = board_plan_nets(m, err);
	return ret;
}

int board_describe(const struct machine *m, struct cmdline *c, struct err *err)
{
	unsigned i;
	int ret = 0;

	if (m->describe != DESCRIBE_MPTABLE)
		return 0;
	for (i = 0; !ret && i < m->slot_count; i++)
		ret = cmdline_add(c, err, "virtio_mmio.device=4K@0x%llx:%u",
				  (unsigned long long)m->slot[i].base, m->slot[i].gsi);
	return ret;
}

static void list_virtio(const struct machine *m, struct boot_virtio list[BOOT_VIRTIO_MAX])
{
	for (unsigned i = 0; i < m->slot_count; i++)
		list[i] = (struct boot_virtio){(uint32_t)m->slot[i].base, m->slot[i].gsi};
}

static int write_new_generation(const struct machine *m, struct err *err)
{
	uint8_t id[ACPI_GENERATION_LEN];

	if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return err_sys(err, errno, "ACPI: a new generation id");
	return acpi_write_generation(&m->mem, id, err);
}

static int write_acpi(const struct machine *m, gpa_t *rsdp, struct err *err)
{
	struct acpi_request req = {
	    .cpus = m->config->cpus,
	    .button_gsi = m->button.gsi,
	    .generation_gsi = BOARD_GENERATION_GSI,
	    .virtio_count = m->slot_count,
	};
	int ret;

	list_virtio(m, req.virtio);
	ret = acpi_write(&m->mem, &req, rsdp, err);
	return ret ? ret : write_new_generation(m, err);
}

/* Nothing else raises that interrupt, so it has no eventfd. */
int board_new_generation(const struct machine *m, struct err *err)
{
	int ret;

	if (!m->generation)
		return 0;
	ret = write_new_generation(m, err);
	return ret ? ret : kvm_vm_pulse(m->vm_fd, BOARD_GENERATION_GSI, err);
}

static int write_fdt(const struct machine *m, gpa_t *setup_data, struct err *err)
{
	struct fdt_request req = {.cpus = m->config->cpus, .virtio_count = m->slot_count};

	list_virtio(m, req.virtio);
	return fdt_write(&m->mem, &req, setup_data, err);
}

int board_write_tables(const struct machine *m, struct boot_request *boot, struct err *err)
{
	if (m->describe == DESCRIBE_ACPI)
		return write_acpi(m, &boot->rsdp, err);
	if (m->describe == DESCRIBE_FDT)
		return write_fdt(m, &boot->setup_data, err);
	return mptable_write(&m->mem, m->config->cpus, err);
}

/* --- platform devices --- */

struct platform_entry {
	int (*make)(const struct vm_end_sink *end, void **out, struct err *err);
	const struct io_ops *ops;
	uint16_t port;
	uint16_t len;
	bool acpi; /* belongs to the ACPI description */
};

static int make_rtc(const struct vm_end_sink *end, void **out, struct err *err)
{
	(void)end;
	return rtc_new(out, err);
}

static int make_pci_config(const struct vm_end_sink *end, void **out, struct err *err)
{
	(void)end;
	(void)err;
	*out = NULL; /* it keeps nothing */
	return 0;
}

static const struct platform_entry platform[BOARD_PLATFORM_DEVICES] = {
    {i8042_new, &i8042_io_ops, I8042_PORT, I8042_LEN, false},
    {make_rtc, &rtc_io_ops, RTC_PORT, RTC_LEN, false},
    {pvpanic_new, &pvpanic_io_ops, PVPANIC_PORT, PVPANIC_LEN, false},
    {exit_port_new, &exit_port_io_ops, EXIT_PORT, EXIT_PORT_LEN, false},
    {acpi_power_new, &acpi_power_io_ops, ACPI_POWER_PORT, ACPI_POWER_LEN, true},
    {make_pci_config, &pci_config_io_ops, PCI_CONFIG_PORT, PCI_CONFIG_LEN, true},
};

static int add_platform(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = mark_port_new(machine_report_init, m, &m->mark_port, err);

	if (!ret)
		ret = bus_add(&m->pio, MARK_PORT, MARK_PORT_LEN, &mark_port_io_ops, m->mark_port,
			      err);
	for (i = 0; !ret && i < BOARD_PLATFORM_DEVICES; i++) {
		const struct platform_entry *p = &platform[i];

		if (p->acpi && m->describe != DESCRIBE_ACPI)
			continue;
		ret = p->make(&m->env.end, &m->platform[i], err);
		if (!ret)
			ret = bus_add(&m->pio, p->port, p->len, p->ops, m->platform[i], err);
	}
	return ret;
}

/* The power button's interrupt means that it was pressed; there is nothing to read. */
static int add_button(struct machine *m, struct err *err)
{
	int ret;

	if (m->describe != DESCRIBE_ACPI)
		return 0;
	ret = irq_line_open(&m->button, m->button.gsi, err);
	if (!ret)
		ret = kvm_vm_irqfd(m->vm_fd, m->button.fd, m->button.gsi, err);
	return ret;
}

/* --- all of it --- */

static int check_files(const struct machine *m, struct err *err)
{
	int ret = board_check_console(m, err);

	if (!ret && m->config->vsock_path && virtio_vsock_check(m->config->vsock_path, err))
		ret = err_context(err, "vsock");
	return ret;
}

/*
 * What makes or empties a file of the user's comes behind all that can be wrong elsewhere: layers
 * behind images and networks, the console's file behind layers.
 */
int board_populate(struct machine *m, struct err *err)
{
	int ret = check_files(m, err);

	if (!ret)
		ret = board_open_images(m, err);
	if (!ret)
		ret = add_platform(m, err);
	if (!ret)
		ret = add_button(m, err);
	if (!ret)
		ret = board_add_nets(m, err);
	if (!ret)
		ret = board_add_disks(m, err);
	if (!ret)
		ret = board_add_console(m, err);
	if (!ret)
		ret = board_add_devices(m, err);
	return ret;
}

int board_start(struct machine *m, struct err *err)
{
	bool is_tty;
	int ret = 0;

	if (m->stdin_is_tty) {
		ret = term_raw(STDIN_FILENO, &is_tty, err);
		m->log->crlf = !ret && is_tty;
	}
	return ret;
}

void board_stop(struct machine *m)
{
	board_stop_devices(m);
	board_stop_disks(m);
	board_stop_nets(m);
}

void board_depopulate(struct machine *m)
{
	unsigned i;

	irq_line_close(&m->button);
	/* The console lives on the devices' loop, and is the host side of one of them. */
	board_remove_devices(m);
	board_remove_console(m);
	board_close_device_loop(m);
	board_remove_disks(m);
	board_remove_nets(m);
	free(m->mark_port);
	for (i = 0; i < BOARD_PLATFORM_DEVICES; i++) {
		if (m->platform[i] && platform[i].ops->destroy)
			platform[i].ops->destroy(m->platform[i]);
	}
}
