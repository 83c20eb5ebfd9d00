/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of the configuration: a setter for each, and the checks of the whole.
 *
 * The setters do not know where a text comes from; the command line (cli.c) and the INI file
 * (config_ini.c) put that in front of the message: `--cpus: "0" is ...`, `vm.ini:3: cpus: "0" is
 * ...`. Every message quotes the text and says what is allowed. Formats are explicit, nothing is
 * guessed from a file's contents.
 */
#include "minivm/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_init(struct vm_config *config)
{
	*config = (struct vm_config){
	    .cpus = 1,
	    .memory = CONFIG_MEMORY_DEFAULT,
	    .pages = GUEST_PAGES_SMALL,
	    .kernel_cached = true,
	    .console = CONSOLE_AUTO,
	    .assist = ASSIST_AUTO,
	    .describe = DESCRIBE_AUTO,
	    .entry = ENTRY_AUTO,
	    .log_level = LOG_LEVEL_WARN,
	    .grace_seconds = CONFIG_GRACE_DEFAULT,
	};
}

static void clear_string(char **field)
{
	free(*field);
	*field = NULL;
}

void config_clear_cmdline(struct vm_config *config)
{
	clear_string(&config->cmdline);
	clear_string(&config->cmdline_only);
}

void config_clear_process(struct vm_config *config)
{
	clear_string(&config->stats);
	clear_string(&config->timeline);
	clear_string(&config->name);
	clear_string(&config->api_sock);
	clear_string(&config->hostname);
	config->log_level = LOG_LEVEL_WARN;
}

void config_free(struct vm_config *config)
{
	clear_string(&config->kernel);
	clear_string(&config->initrd);
	clear_string(&config->console_file);
	clear_string(&config->kernel_cache);
	clear_string(&config->vsock_path);
	config_clear_process(config);
	config_clear_cmdline(config);
	config_clear_disks(config);
	config_clear_nets(config);
	config_clear_ports(config);
}

/* --- numbers --- */

/* Digits only: no sign, no space, no other base. Returns what follows them, or NULL. */
static const char *parse_digits(const char *text, uint64_t *value)
{
	const char *p = text;
	uint64_t v = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return NULL;
	}
	*value = v;
	return p == text ? NULL : p;
}

int config_parse_number(const char *text, unsigned min, unsigned max, unsigned *out,
			struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t v;
	const char *end = parse_digits(text, &v);

	if (end == NULL || *end != '\0' || v < min || v > max)
		return err_set(err, EINVAL, "%s is not a number from %u to %u",
			       config_quote(quoted, text), min, max);
	*out = (unsigned)v;
	return 0;
}

static int shift_of_unit(char unit)
{
	switch (unit) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return -1;
	}
}

int config_parse_size(const char *text, uint64_t *bytes, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t v;
	const char *end = parse_digits(text, &v);
	int shift = 0;

	if (end != NULL && *end != '\0') {
		shift = shift_of_unit(*end);
		if (shift >= 0)
			end++;
	}
	if (end == NULL || shift < 0 || *end != '\0' || v > UINT64_MAX >> shift)
		return err_set(
		    err, EINVAL,
		    "%s is not a size; a size is a whole number of bytes, or one with K, M, G "
		    "or T behind it: 512M, 2G",
		    config_quote(quoted, text));
	*bytes = v << shift;
	return 0;
}

/* --- words --- */

struct word {
	const char *name;
	int value;
};

/* The word's value, or -EINVAL. `allowed` says them all, for the message. */
static int parse_word(const char *text, const struct word *words, size_t count, const char *allowed,
		      struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i].name) == 0)
			return words[i].value;
	}
	return err_set(err, EINVAL, "%s is not one of %s", config_quote(quoted, text), allowed);
}

static int copy_string(char **field, const char *text, struct err *err)
{
	char *copy = strdup(text);

	if (copy == NULL)
		return err_sys(err, ENOMEM, "a value");
	free(*field);
	*field = copy;
	return 0;
}

/* --- setters --- */

int config_set_kernel(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	return config_copy_path(&config->kernel, text, dir, err);
}

int config_set_initrd(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	return config_copy_path(&config->initrd, text, dir, err);
}

int config_set_kernel_cache(struct vm_config *config, const char *text, const char *dir,
			    struct err *err)
{
	config->kernel_cached = strcmp(text, "off") != 0;
	if (config->kernel_cached)
		return config_copy_path(&config->kernel_cache, text, dir, err);
	clear_string(&config->kernel_cache);
	return 0;
}

int config_set_cmdline(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	(void)dir;
	return copy_string(&config->cmdline, text, err);
}

int config_set_cmdline_only(struct vm_config *config, const char *text, const char *dir,
			    struct err *err)
{
	(void)dir;
	return copy_string(&config->cmdline_only, text, err);
}

int config_set_cpus(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	(void)dir;
	return config_parse_number(text, 1, CONFIG_CPUS_MAX, &config->cpus, err);
}

int config_set_grace(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	(void)dir;
	return config_parse_number(text, 0, CONFIG_GRACE_MAX, &config->grace_seconds, err);
}

/* The messages tell the bounds of config.h, CONFIG_MEMORY_*. */
int config_set_memory(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t bytes = 0;
	int rc;

	(void)dir;
	rc = config_parse_size(text, &bytes, err);
	if (rc < 0)
		return rc;
	if (bytes < CONFIG_MEMORY_MIN || bytes > CONFIG_MEMORY_MAX)
		return err_set(err, EINVAL, "%s is too %s; a machine has 16M to 1T of memory",
			       config_quote(quoted, text),
			       bytes < CONFIG_MEMORY_MIN ? "small" : "large");
	if (bytes % CONFIG_MEMORY_UNIT != 0)
		return err_set(err, EINVAL, "%s is not a multiple of 4K",
			       config_quote(quoted, text));
	config->memory = bytes;
	return 0;
}

int config_set_hugepages(struct vm_config *config, const char *text, const char *dir,
			 struct err *err)
{
	static const struct word kinds[] = {
	    {"off", GUEST_PAGES_SMALL}, {"thp", GUEST_PAGES_TRANSPARENT}, {"2M", GUEST_PAGES_2M}};
	int kind = parse_word(text, kinds, 3, "off, thp, 2M", err);

	(void)dir;
	if (kind < 0)
		return kind;
	config->pages = (enum guest_pages)kind;
	return 0;
}

int config_set_console(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	static const struct word kinds[] = {{"auto", CONSOLE_AUTO},
					    {"serial", CONSOLE_SERIAL},
					    {"virtio", CONSOLE_VIRTIO},
					    {"none", CONSOLE_NONE}};
	static const char file[] = "file=";
	const char *path = text + sizeof(file) - 1;
	int kind;

	if (strncmp(text, file, sizeof(file) - 1) == 0 && *path != '\0') {
		config->console = CONSOLE_FILE;
		return config_copy_path(&config->console_file, path, dir, err);
	}
	kind = parse_word(text, kinds, 4, "auto, serial, virtio, none, file=PATH", err);
	if (kind < 0)
		return kind;
	clear_string(&config->console_file);
	config->console = (enum console_kind)kind;
	return 0;
}

/* Bytes a second. */
static int parse_rate(const char *text, uint64_t *rate, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	int rc = config_parse_size(text, rate, err);

	if (rc == 0 && (*rate == 0 || *rate > CONFIG_RNG_RATE_MAX))
		return err_set(err, EINVAL, "%s is not a rate; it is 1 to 1G, bytes a second",
			       config_quote(quoted, text));
	return rc;
}

int config_set_rng(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	static const struct word modes[] = {{"off", false}, {"on", true}};
	static const char word[] = "rate=";
	uint64_t rate = 0;
	int mode;

	(void)dir;
	if (strncmp(text, word, sizeof(word) - 1) == 0)
		mode = parse_rate(text + sizeof(word) - 1, &rate, err) < 0 ? err->code : true;
	else
		mode = parse_word(text, modes, 2, "off, on, rate=SIZE", err);
	if (mode < 0)
		return mode;
	config->rng = mode;
	config->rng_rate = rate;
	return 0;
}

/* "off", "on" or a size. That it is less than the machine has is for config_finish(). */
static int parse_balloon(struct vm_config *config, const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t size = 0;

	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0 &&
	    (config_parse_size(text, &size, err) < 0 || size == 0 ||
	     size % CONFIG_MEMORY_UNIT != 0))
		return err_set(err, EINVAL,
			       "%s is not one of off, on, or a size that is a multiple of 4K",
			       config_quote(quoted, text));
	config->balloon = strcmp(text, "off") != 0;
	config->balloon_size = size;
	return 0;
}

#define BALLOON_STATS ",stats="

int config_set_balloon(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	const char *stats = strstr(text, BALLOON_STATS);
	char first[32];
	int rc;

	(void)dir;
	config->balloon_stats = 0;
	if (stats == NULL || stats - text >= (ptrdiff_t)sizeof(first))
		return parse_balloon(config, text, err);
	memcpy(first, text, (size_t)(stats - text));
	first[stats - text] = '\0';
	rc = parse_balloon(config, first, err);
	if (rc == 0 && !config->balloon)
		rc = err_set(err, EINVAL, "there are no statistics of a balloon that is off");
	return rc < 0 ? rc
		      : config_parse_number(stats + strlen(BALLOON_STATS), 1,
					    CONFIG_BALLOON_STATS_MAX, &config->balloon_stats, err);
}

int config_set_agent(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	static const struct word modes[] = {{"off", false}, {"on", true}};
	int mode = parse_word(text, modes, 2, "off, on", err);

	(void)dir;
	if (mode < 0)
		return mode;
	config->agent = mode;
	return 0;
}

int config_set_hostname(struct vm_config *config, const char *text, const char *dir,
			struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	size_t len = strlen(text);

	(void)dir;
	if (len > CONFIG_HOSTNAME_MAX || strspn(text, CONFIG_NAME_ALPHABET) != len ||
	    text[0] == '.' || text[0] == '-')
		return err_set(
		    err, EINVAL,
		    "%s is not a host name; it has 1 to %d letters, digits, \".\", \"_\", "
		    "\"-\" and begins with no \".\" or \"-\"",
		    config_quote(quoted, text), CONFIG_HOSTNAME_MAX);
	return config_copy_path(&config->hostname, text, NULL, err);
}

int config_set_assist(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	static const struct word modes[] = {
	    {"auto", ASSIST_AUTO}, {"on", ASSIST_ON}, {"off", ASSIST_OFF}};
	int mode = parse_word(text, modes, 3, "auto, on, off", err);

	(void)dir;
	if (mode < 0)
		return mode;
	config->assist = (enum assist_mode)mode;
	return 0;
}

int config_set_describe(struct vm_config *config, const char *text, const char *dir,
			struct err *err)
{
	static const struct word modes[] = {{"auto", DESCRIBE_AUTO},
					    {"acpi", DESCRIBE_ACPI},
					    {"mptable", DESCRIBE_MPTABLE},
					    {"fdt", DESCRIBE_FDT}};
	int mode = parse_word(text, modes, 4, "auto, acpi, mptable, fdt", err);

	(void)dir;
	if (mode < 0)
		return mode;
	config->describe = (enum describe_mode)mode;
	return 0;
}

int config_set_entry(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	static const struct word modes[] = {
	    {"auto", ENTRY_AUTO}, {"linux", ENTRY_LINUX}, {"pvh", ENTRY_PVH}};
	int mode = parse_word(text, modes, 3, "auto, linux, pvh", err);

	(void)dir;
	if (mode < 0)
		return mode;
	config->entry = (enum entry_mode)mode;
	return 0;
}

int config_set_stats(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	/* "-" is standard output wherever it is said. */
	return config_copy_path(&config->stats, text, strcmp(text, "-") == 0 ? NULL : dir, err);
}

int config_set_timeline(struct vm_config *config, const char *text, const char *dir,
			struct err *err)
{
	return config_copy_path(&config->timeline, text, strcmp(text, "-") == 0 ? NULL : dir, err);
}

int config_set_log_level(struct vm_config *config, const char *text, const char *dir,
			 struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	int level = log_level_parse(text);

	(void)dir;
	if (level < 0)
		return err_set(err, EINVAL, "%s is not one of error, warn, info, debug",
			       config_quote(quoted, text));
	config->log_level = (enum log_level)level;
	return 0;
}

int config_set_name(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	size_t len = strlen(text);

	(void)dir;
	if (len > CONFIG_NAME_MAX || strspn(text, CONFIG_NAME_ALPHABET) != len || text[0] == '.' ||
	    strcmp(text, CONFIG_NAME_VERIFY) == 0)
		return err_set(err, EINVAL,
			       "%s is not a machine's name; it has 1 to %d letters, digits, \".\", "
			       "\"_\", \"-\", begins with no \".\" and is not \"%s\"",
			       config_quote(quoted, text), CONFIG_NAME_MAX, CONFIG_NAME_VERIFY);
	return config_copy_path(&config->name, text, NULL, err);
}

int config_set_api_sock(struct vm_config *config, const char *text, const char *dir,
			struct err *err)
{
	return config_copy_path(&config->api_sock, text, dir, err);
}

/* --- the whole --- */

static int check_memory(const struct vm_config *config, struct err *err)
{
	if (config->balloon_size >= config->memory)
		return err_set(err, EINVAL,
			       "the balloon is to have %lluK of a machine of %lluK of memory",
			       (unsigned long long)(config->balloon_size >> 10),
			       (unsigned long long)(config->memory >> 10));
	if (config->pages == GUEST_PAGES_2M && config->balloon)
		return err_set(err, EINVAL,
			       "pages of hugepages 2M are taken from the host for good: there is "
			       "nothing that a balloon could give back");
	if (config->pages == GUEST_PAGES_2M && config->memory % GUEST_HUGE_PAGE_SIZE != 0)
		return err_set(err, EINVAL,
			       "with hugepages 2M, memory is a multiple of 2M; it is %lluK",
			       (unsigned long long)(config->memory >> 10));
	return 0;
}

static int check_names(const struct vm_config *config, struct err *err)
{
	if (config->name != NULL && config->api_sock != NULL)
		return err_set(err, EINVAL,
			       "name and api-sock exclude each other: a machine has one control "
			       "socket");
	if (config->hostname != NULL && !config->agent)
		return err_set(err, EINVAL,
			       "the machine has no agent that could be told a host name: it was "
			       "started without --agent on");
	return 0;
}

int config_finish(struct vm_config *config, struct err *err)
{
	int rc;

	if (config->kernel == NULL) {
		err_set(err, EINVAL,
			"no kernel is named: give --kernel FILE, or kernel = FILE in the "
			"[boot] section of the file of --config");
		return err_hint(err, "`minivm --help` lists the options");
	}
	if (config->cmdline != NULL && config->cmdline_only != NULL)
		return err_set(
		    err, EINVAL,
		    "cmdline and cmdline-only exclude each other: cmdline adds words to the "
		    "default kernel command line, cmdline-only replaces it");
	rc = check_memory(config, err);
	if (!rc)
		rc = check_names(config, err);
	for (unsigned i = 0; !rc && i < CONFIG_DEVICE_KINDS; i++)
		rc = config_name_devices(config, config_device_kinds[i], err);
	if (!rc)
		rc = config_check_disks(config, err);
	return rc ? rc : config_check_ports(config, err);
}
