/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's consoles: COM1 with its host side, a virtio console beside it (hvc0), and a second
 * virtio device for named ports. They are two devices, because Linux makes a console of a device
 * without named ports while it probes it; with them it does so later, on a work queue, when the
 * kernel may have opened /dev/console in vain.
 */
#include <unistd.h>

#include "machine_priv.h"
#include "minivm/file.h"

bool board_console_is_stdio(const struct machine *m)
{
	enum console_kind kind = m->config->console;

	return kind == CONSOLE_AUTO || kind == CONSOLE_SERIAL || kind == CONSOLE_VIRTIO;
}

int board_check_console(const struct machine *m, struct err *err)
{
	const struct vm_config *config = m->config;
	int ret = 0;

	if (config->console == CONSOLE_FILE)
		ret = file_check("console", config->console_file, err);
	for (unsigned i = 0; !ret && i < config->port_count; i++)
		ret = port_check(&config->port[i], err);
	return ret;
}

static int open_console(struct machine *m, struct console_options *opt, struct err *err)
{
	*opt = (struct console_options){.in_fd = -1,
					.out_fd = -1,
					.log = m->log,
					.timeline = m->env.timeline,
					.quit = lifeline_quit,
					.opaque = m};
	if (board_console_is_stdio(m)) {
		opt->in_fd = STDIN_FILENO;
		opt->out_fd = STDOUT_FILENO;
		m->stdin_is_tty = isatty(STDIN_FILENO);
		opt->escape = m->stdin_is_tty;
	}
	if (m->config->console == CONSOLE_FILE) {
		m->console_fd = file_create("console", m->config->console_file, err);
		if (m->console_fd < 0)
			return m->console_fd;
		opt->out_fd = m->console_fd;
	}
	return 0;
}

int board_add_console(struct machine *m, struct err *err)
{
	struct console_options opt;
	int ret = irq_line_open(&m->com1, COM1_GSI, err);

	if (!ret)
		ret = kvm_vm_irqfd(m->vm_fd, m->com1.fd, COM1_GSI, err);
	if (!ret)
		ret = open_console(m, &opt, err);
	if (!ret && m->hvc)
		ret = board_open_device_loop(m, err);
	if (!ret)
		ret = console_new(m->hvc ? m->device_io.loop : m->loop, &m->com1, &opt, &m->console,
				  err);
	if (!ret)
		ret = bus_add(&m->pio, COM1_PORT, COM1_LEN, &serial_io_ops,
			      console_serial(m->console), err);
	return ret;
}

void board_remove_console(struct machine *m)
{
	for (unsigned i = 0; i < m->config->port_count; i++)
		port_close(m->port[i]);
	agent_free(m->agent);
	console_destroy(m->console);
	if (m->console_fd >= 0)
		close(m->console_fd);
	irq_line_close(&m->com1);
}

/* --- devices --- */

bool board_hvc_wanted(const struct machine *m)
{
	return m->hvc;
}

int board_hvc_make(struct machine *m, void **dev, struct err *err)
{
	const struct virtio_console_port_options port = {NULL, &console_virtio_host, m->console};
	struct virtio_console_options opt = {.port = &port, .log = m->log};
	struct virtio_console *virtio;
	int ret;

	console_size(m->console, &opt.cols, &opt.rows);
	ret = virtio_console_new(&opt, &virtio, err);
	if (ret)
		return ret;
	ret = console_attach(m->console, virtio, err);
	if (ret)
		virtio_console_ops.destroy(virtio);
	else
		*dev = virtio;
	return ret;
}

bool board_ports_wanted(const struct machine *m)
{
	return m->config->port_count > 0 || m->config->agent;
}

/* The user's ports, then the agent's: NAMED_MAX at most. */
#define NAMED_MAX (CONFIG_PORTS_MAX + 1)
_Static_assert(NAMED_MAX == VIRTIO_CONSOLE_PORTS_MAX, "as many as the device can have");

static int open_ports(struct machine *m, struct virtio_console_port_options *port, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < m->config->port_count; i++) {
		ret = port_open(&m->config->port[i], m->device_io.loop, m->log, &m->port[i], err);
		port[i] = (struct virtio_console_port_options){m->config->port[i].name, &port_host,
							       m->port[i]};
	}
	if (!ret && m->config->agent) {
		ret = agent_new(m->device_io.loop, m->log, &m->agent, err);
		port[m->config->port_count] =
		    (struct virtio_console_port_options){AGENT_PORT, &agent_host, m->agent};
	}
	return ret;
}

int board_ports_make(struct machine *m, void **dev, struct err *err)
{
	struct virtio_console_port_options port[NAMED_MAX];
	const struct virtio_console_options opt = {
	    .named = m->config->port_count + m->config->agent, .port = port, .log = m->log};
	struct virtio_console *virtio;
	int ret = open_ports(m, port, err);

	if (!ret)
		ret = virtio_console_new(&opt, &virtio, err);
	if (ret)
		return ret;
	for (unsigned i = 0; i < m->config->port_count; i++)
		port_attach(m->port[i], virtio, i + 1);
	if (m->agent)
		agent_attach(m->agent, virtio, opt.named);
	*dev = virtio;
	return 0;
}

/* Addresses that the user has chosen stay. */
static void list_macs(const struct machine *m, struct agent_news *news)
{
	for (unsigned i = 0; i < m->net_count; i++) {
		struct agent_mac *mac = &news->mac[news->macs];

		if (m->config->net[i].has_mac)
			continue;
		virtio_net_macs(m->net[i].net, mac->old, mac->fresh);
		news->macs++;
	}
}

void board_tell_agent(const struct machine *m)
{
	const struct vm_config *config = m->config;
	struct agent_news news = {.hostname = config->hostname ? config->hostname : config->name};

	if (!m->agent && !m->generation)
		log_msg(m->log, LOG_LEVEL_INFO,
			"nothing tells the guest that it was restored: its random state is that of "
			"the machine that was saved");
	if (!m->agent)
		return;
	list_macs(m, &news);
	agent_tell(m->agent, &news);
}

unsigned board_console_counters(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX])
{
	struct virtio_console_counters c;

	virtio_console_counters(dev, &c);
	out[0] = (struct device_counter){"tx_bytes", c.tx_bytes};
	out[1] = (struct device_counter){"rx_bytes", c.rx_bytes};
	out[2] = (struct device_counter){"control_in", c.control_in};
	out[3] = (struct device_counter){"control_out", c.control_out};
	out[4] = (struct device_counter){"control_wrong", c.control_wrong};
	return 5;
}

void board_console_drain(void *dev)
{
	virtio_console_drain(dev);
}
