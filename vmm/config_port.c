/* SPDX-License-Identifier: Apache-2.0 */
/* Named ports of the configuration: `--port NAME=KIND:PATH`, which may be given up to 8 times. */
#include "minivm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {
    [PORT_FILE] = "file:",
    [PORT_UNIX] = "unix:",
    [PORT_PIPE] = "pipe:",
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int bad_form(const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	return err_set(err, EINVAL,
		       "%s is not of the form NAME=file:PATH, NAME=unix:PATH or NAME=pipe:PATH",
		       config_quote(quoted, text));
}

/* The name is a file's in the guest, /dev/virtio-ports/NAME, hence the alphabet. */
static int set_name(struct port_config *port, const char *text, size_t len, struct err *err)
{
	static const char alphabet[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	char quoted[CONFIG_QUOTE_MAX];
	char *name = strndup(text, len);

	if (name == NULL)
		return err_sys(err, ENOMEM, "a port's name");
	if (len == 0 || len > CONFIG_PORT_NAME_MAX || strspn(name, alphabet) != len) {
		err_set(err, EINVAL,
			"%s is not a port's name; it has 1 to %d letters, digits, \".\", \"_\", "
			"\"-\"",
			config_quote(quoted, name), CONFIG_PORT_NAME_MAX);
		free(name);
		return err->code;
	}
	port->name = name;
	return 0;
}

int config_set_port(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	const char *equals = strchr(text, '=');
	struct port_config *port = &config->port[config->port_count];
	unsigned kind = 0;
	int rc;

	if (equals == NULL)
		return bad_form(text, err);
	while (kind < KINDS && strncmp(equals + 1, kinds[kind], strlen(kinds[kind])) != 0)
		kind++;
	if (kind == KINDS || equals[1 + strlen(kinds[kind])] == '\0')
		return bad_form(text, err);
	if (config->port_count == CONFIG_PORTS_MAX)
		return err_set(err, EINVAL, "a machine has at most %d ports", CONFIG_PORTS_MAX);
	*port = (struct port_config){.kind = (enum port_kind)kind};
	config->port_count++; /* what is in it is freed from now on */
	rc = set_name(port, text, (size_t)(equals - text), err);
	if (rc < 0)
		return rc;
	return config_copy_path(&port->path, equals + 1 + strlen(kinds[kind]), dir, err);
}

void config_clear_ports(struct vm_config *config)
{
	for (unsigned i = 0; i < config->port_count; i++) {
		free(config->port[i].name);
		free(config->port[i].path);
	}
	config->port_count = 0;
}

int config_check_ports(const struct vm_config *config, struct err *err)
{
	for (unsigned i = 0; i < config->port_count; i++) {
		if (config->agent && strcmp(config->port[i].name, CONFIG_AGENT_PORT) == 0)
			return err_set(err, EINVAL, "the port \"%s\" is the agent's, with agent on",
				       CONFIG_AGENT_PORT);
		for (unsigned j = 0; j < i; j++) {
			if (strcmp(config->port[i].name, config->port[j].name) == 0)
				return err_set(err, EINVAL, "two ports have the name \"%s\"",
					       config->port[i].name);
		}
	}
	return 0;
}
