/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices of the configuration: `--net WORD[=VALUE][,WORD[=VALUE]]...` and the keys of
 * [net NAME] sections. One of tap, fd, user and passt says where the frames go.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/config.h"
#include "minivm/netdev.h"

#define NET_FD_MIN 3
#define NET_FD_MAX 65535

/* Who listens where nobody said: programs of this host only. */
#define FORWARD_ADDRESS "127.0.0.1"

/* --- where the frames go --- */

static int set_kind(struct net_config *net, enum net_kind kind, struct err *err)
{
	if (net->kind != NET_NONE && net->kind != kind)
		return err_set(err, EINVAL, "tap, fd, user and passt exclude each other");
	net->kind = kind;
	return 0;
}

static int set_tap(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;
	int rc = set_kind(net, NET_TAP, err);

	(void)dir;
	return rc < 0 ? rc : config_copy_path(&net->target, text, NULL, err);
}

static int set_fd(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;
	unsigned fd = 0;
	int rc = config_parse_number(text, NET_FD_MIN, NET_FD_MAX, &fd, err);

	(void)dir;
	net->fd = (int)fd;
	return rc < 0 ? rc : set_kind(net, NET_FD, err);
}

static int set_user(void *device, const char *text, const char *dir, struct err *err)
{
	bool yes = false;
	int rc = config_parse_yes_no(text, &yes, err);

	(void)dir;
	return rc < 0 || !yes ? rc : set_kind(device, NET_USER, err);
}

static int set_passt(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;
	int rc = set_kind(net, NET_PASST, err);

	return rc < 0 ? rc : config_copy_path(&net->target, text, dir, err);
}

/* --- forwarded ports --- */

static int bad_forward(const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	return err_set(err, EINVAL,
		       "%s is not PROTO:[ADDRESS:]HOSTPORT:GUESTPORT, as tcp:8080:80 or "
		       "udp:0.0.0.0:53:53",
		       config_quote(quoted, text));
}

/* Cuts off what is behind the last ":" of `text`: a port. 0: there is none. */
static uint16_t cut_port(char *text)
{
	char *colon = strrchr(text, ':');
	unsigned port = 0;
	struct err err;

	if (colon == NULL || config_parse_number(colon + 1, 1, 65535, &port, &err) < 0)
		return 0;
	*colon = '\0';
	return (uint16_t)port;
}

/* "1.2.3.4" or "[::1]", which loses its brackets. */
static bool parse_address(const char *text, char out[NET_ADDRESS_MAX])
{
	size_t len = strlen(text);
	uint8_t binary[16];
	bool six = len > 2 && text[0] == '[' && text[len - 1] == ']';

	if (six) {
		text++;
		len -= 2;
	}
	if (len >= NET_ADDRESS_MAX)
		return false;
	memcpy(out, text, len);
	out[len] = '\0';
	return inet_pton(six ? AF_INET6 : AF_INET, out, binary) == 1;
}

/* `copy` is cut to pieces. */
static bool parse_forward(char *copy, struct net_forward *f)
{
	char *address;

	f->guest_port = cut_port(copy);
	f->host_port = cut_port(copy);
	address = strchr(copy, ':');
	if (address != NULL)
		*address++ = '\0';
	f->udp = strcmp(copy, "udp") == 0;
	return f->guest_port != 0 && f->host_port != 0 && (f->udp || strcmp(copy, "tcp") == 0) &&
	       parse_address(address != NULL ? address : FORWARD_ADDRESS, f->address);
}

static int add_forward(struct net_config *net, const char *text, size_t len, struct err *err)
{
	char copy[96];

	if (net->forward_count == CONFIG_FORWARDS_MAX)
		return err_set(err, EINVAL, "at most %d ports are forwarded", CONFIG_FORWARDS_MAX);
	if (len >= sizeof(copy))
		return bad_forward(text, err);
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (!parse_forward(copy, &net->forward[net->forward_count]))
		return bad_forward(text, err);
	net->forward_count++;
	return 0;
}

/* Several with blanks between them: a key of the INI file is there once. */
static int set_forward(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;
	int rc = 0;

	(void)dir;
	while (rc == 0 && *text != '\0') {
		size_t len = strcspn(text, " \t");

		if (len > 0)
			rc = add_forward(net, text, len, err);
		text += len;
		text += strspn(text, " \t");
	}
	return rc;
}

/* --- what the guest sees --- */

static bool parse_mac(const char *text, uint8_t mac[6])
{
	for (unsigned i = 0; i < 6; i++) {
		char digits[3] = {text[0], text[0] != '\0' ? text[1] : '\0', '\0'};

		if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]))
			return false;
		mac[i] = (uint8_t)strtoul(digits, NULL, 16);
		text += 2;
		if (i < 5 && *text++ != ':')
			return false;
	}
	return *text == '\0';
}

static int set_mac(void *device, const char *text, const char *dir, struct err *err)
{
	static const uint8_t zero[6];
	struct net_config *net = device;
	char quoted[CONFIG_QUOTE_MAX];

	(void)dir;
	if (!parse_mac(text, net->mac) || (net->mac[0] & 1) || memcmp(net->mac, zero, 6) == 0)
		return err_set(err, EINVAL,
			       "%s is not the address of one device, as 02:00:00:12:34:56",
			       config_quote(quoted, text));
	net->has_mac = true;
	return 0;
}

static int set_mtu(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;

	(void)dir;
	return config_parse_number(text, NETDEV_MTU_MIN, NETDEV_MTU_MAX, &net->mtu, err);
}

static int set_id(void *device, const char *text, const char *dir, struct err *err)
{
	struct net_config *net = device;

	(void)dir;
	return config_set_device_id(&net->id, "a network device", text, err);
}

static const struct device_word net_words[] = {
    {
	.word = "user",
	.help = "through a passt of this machine's own, which needs no privilege: the guest is "
		"given the host's addresses by DHCP, and its connections are the host's",
	.set = set_user,
    },
    {
	.key = "user",
	.values = "yes|no",
	.help = "through a passt of this machine's own",
	.set = set_user,
    },
    {
	.word = "tap",
	.key = "tap",
	.arg = "NAME",
	.values = "NAME",
	.help = "to the tap interface of that name, which exists and belongs to you",
	.set = set_tap,
    },
    {
	.word = "fd",
	.key = "fd",
	.arg = "N",
	.values = "N",
	.help = "to a tap that is open as descriptor N, 3 or more, with IFF_TAP, IFF_NO_PI and "
		"IFF_VNET_HDR",
	.set = set_fd,
    },
    {
	.word = "passt",
	.key = "passt",
	.arg = "SOCKET",
	.values = "SOCKET",
	.help = "to a passt that listens at that socket",
	.set = set_passt,
    },
    {
	.word = "forward",
	.key = "forward",
	.arg = "PROTO:[ADDRESS:]HOSTPORT:GUESTPORT",
	.values = "PROTO:[ADDRESS:]HOSTPORT:GUESTPORT ...",
	.help = "with user: what comes to HOSTPORT of the host goes to GUESTPORT of the guest; "
		"PROTO is tcp or udp. Without ADDRESS the host listens at 127.0.0.1, for itself "
		"alone; 0.0.0.0 and [::] are for everybody. Up to 16",
	.repeat = true,
	.set = set_forward,
    },
    {
	.word = "mac",
	.key = "mac",
	.arg = "ADDRESS",
	.values = "ADDRESS",
	.help = "the device's Ethernet address; without it a random one that begins with 02, a "
		"new one at each start",
	.set = set_mac,
    },
    {
	.word = "mtu",
	.key = "mtu",
	.arg = "BYTES",
	.values = "BYTES",
	.help = "the largest packet, 68 to 65520; a tap is to have the same. Without it the guest "
		"takes 1500, or what passt tells it by DHCP (65520)",
	.set = set_mtu,
    },
    {
	.word = "id",
	.arg = "NAME",
	.help = "the device's name in messages and statistics; without it net0, net1, ...",
	.set = set_id,
    },
};

static int check_net(const void *device, struct err *err)
{
	const struct net_config *net = device;

	if (net->kind == NET_NONE)
		return err_set(err, EINVAL,
			       "where the frames go is not said: user, tap=NAME, fd=N or "
			       "passt=SOCKET");
	if (net->forward_count > 0 && net->kind != NET_USER)
		return err_set(err, EINVAL, "forward goes with user only");
	return 0;
}

static unsigned net_count(const struct vm_config *config)
{
	return config->net_count;
}

static void *net_at(struct vm_config *config, unsigned i)
{
	return &config->net[i];
}

static const char *net_id(const struct vm_config *config, unsigned i)
{
	return config->net[i].id;
}

static void *add_net(struct vm_config *config, struct err *err)
{
	struct net_config *net;

	if (config->net_count == CONFIG_NETS_MAX) {
		err_set(err, EINVAL, "a machine has at most %d network devices", CONFIG_NETS_MAX);
		return NULL;
	}
	net = &config->net[config->net_count++];
	*net = (struct net_config){.kind = NET_NONE};
	return net;
}

/* It keeps what the guest was told: its address and MTU, and its id. */
static int replace_net(void *device, void *with, struct err *err)
{
	struct net_config *net = device, *fresh = with;

	if (fresh->has_mac || fresh->mtu != 0)
		return err_set(err, EINVAL, "a restored network device keeps its address and MTU");
	memcpy(fresh->mac, net->mac, sizeof(fresh->mac));
	fresh->has_mac = net->has_mac;
	fresh->mtu = net->mtu;
	fresh->id = net->id;
	free(net->target);
	*net = *fresh;
	*fresh = (struct net_config){.kind = NET_NONE};
	return 0;
}

const struct config_kind config_net_kind = {
    .name = "net",
    .words = net_words,
    .word_count = sizeof(net_words) / sizeof(net_words[0]),
    .count = net_count,
    .at = net_at,
    .id = net_id,
    .set_id = set_id,
    .add = add_net,
    .check = check_net,
    .replacement = "WORD",
    .replace = replace_net,
    .clear = config_clear_nets,
};

int config_set_net(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	return config_add_device(config, &config_net_kind, text, dir, err);
}

int config_replace_net(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	return config_replace_device(config, &config_net_kind, text, dir, err);
}

void config_clear_nets(struct vm_config *config)
{
	for (unsigned i = 0; i < config->net_count; i++) {
		free(config->net[i].id);
		free(config->net[i].target);
		config->net[i] = (struct net_config){.kind = NET_NONE};
	}
	config->net_count = 0;
}
