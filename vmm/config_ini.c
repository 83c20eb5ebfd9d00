/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The INI file. inih splits lines into section, key and value; what a key means comes from the
 * option table (cli.h) and the tables of device words, so that file and command line never drift
 * apart.
 *
 * inih is lenient where we are not: it cuts long lines in two, ignores what follows a "]" and does
 * not tell of sections without keys. Hence lines reach it through a reader of ours, which counts
 * them, refuses the long ones and looks at section lines itself. The first error ends it.
 */
#include "minivm/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minivm/cli.h"

#define WHITESPACE " \t\r\n\v\f"

struct ini {
	const char *name; /* of the file */
	char *dir;	  /* its directory, or NULL: the current one */
	const char *next; /* what has not been read yet */
	unsigned line;	  /* number of the line that was read last */
	struct vm_config *config;
	uint32_t seen; /* bit per option */
	/* by kind of device: those before this file's; and a bit per word of each */
	unsigned first_device[CONFIG_DEVICE_KINDS];
	uint32_t seen_device[CONFIG_DEVICE_KINDS][CONFIG_DEVICES_MAX];
	int rc;
	struct err *err;
};

/* --- names, for messages --- */

/* Sections of the option table, each as often as it has keys, and the devices'. */
static const char *section_name(const void *ctx, size_t i)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	(void)ctx;
	if (i < CONFIG_DEVICE_KINDS)
		return config_device_kinds[i]->name;
	i -= CONFIG_DEVICE_KINDS;
	for (size_t k = 0; k < count; k++) {
		if (options[k].section != NULL && i-- == 0)
			return options[k].section;
	}
	return NULL;
}

/* Keys of the section `ctx`. */
static const char *key_name(const void *ctx, size_t i)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t k = 0; k < count; k++) {
		if (options[k].section != NULL && strcmp(options[k].section, ctx) == 0 && i-- == 0)
			return options[k].key;
	}
	return NULL;
}

/* Keys of the config_kind `ctx`. */
static const char *device_key_name(const void *ctx, size_t i)
{
	const struct config_kind *kind = ctx;

	for (size_t k = 0; k < kind->word_count; k++) {
		if (kind->words[k].key != NULL && i-- == 0)
			return kind->words[k].key;
	}
	return NULL;
}

/* --- errors: the first one counts --- */

/* Puts file and line in front of what is in err. */
static int at_line(struct ini *ini)
{
	ini->rc = err_context(ini->err, "%s:%u", ini->name, ini->line);
	return ini->rc;
}

static int unknown(struct ini *ini, const char *what, const char *text, config_name_fn *names,
		   const void *ctx)
{
	char quoted[CONFIG_QUOTE_MAX], known[256];
	const char *guess = config_suggest(text, names, ctx);

	err_set(ini->err, EINVAL, "unknown %s %s", what, config_quote(quoted, text));
	if (guess != NULL)
		err_hint(ini->err, "did you mean \"%s\"?", guess);
	else
		err_hint(ini->err, "known are %s",
			 config_list_names(known, sizeof(known), names, ctx));
	return at_line(ini);
}

/* --- sections --- */

/* A section "disk NAME". */
struct device_section {
	unsigned kind; /* index of config_device_kinds */
	const char *name;
};

static bool device_of_section(const char *section, struct device_section *out)
{
	for (unsigned i = 0; i < CONFIG_DEVICE_KINDS; i++) {
		size_t len = strlen(config_device_kinds[i]->name);
		size_t blanks;

		if (strncmp(section, config_device_kinds[i]->name, len) != 0)
			continue;
		blanks = strspn(section + len, " \t");
		if (blanks == 0 && section[len] != '\0')
			continue;
		*out = (struct device_section){.kind = i, .name = section + len + blanks};
		return true;
	}
	return false;
}

/* The index of the device of that name among this file's, or -1. */
static int find_device(const struct ini *ini, const struct device_section *s)
{
	const struct config_kind *kind = config_device_kinds[s->kind];

	for (unsigned i = ini->first_device[s->kind]; i < kind->count(ini->config); i++) {
		const char *id = kind->id(ini->config, i);

		if (id != NULL && strcmp(id, s->name) == 0)
			return (int)i;
	}
	return -1;
}

static int open_device_section(struct ini *ini, const struct device_section *s)
{
	const struct config_kind *kind = config_device_kinds[s->kind];
	void *device;

	if (*s->name == '\0') {
		err_set(ini->err, EINVAL, "a %s section has a name: [%s NAME]", kind->name,
			kind->name);
		return at_line(ini);
	}
	if (find_device(ini, s) >= 0)
		return 0; /* it goes on */
	device = kind->add(ini->config, ini->err);
	if (device == NULL || kind->set_id(device, s->name, NULL, ini->err) < 0)
		return at_line(ini);
	return 0;
}

/* `text` is a line from its "[" on. */
static int check_section_line(struct ini *ini, const char *text)
{
	struct device_section device;
	char section[64], quoted[CONFIG_QUOTE_MAX];
	size_t len = strcspn(++text, "]");
	const char *rest = text + len + (text[len] == ']');

	rest += strspn(rest, WHITESPACE);
	if (text[len] != ']' || (*rest != '\0' && *rest != ';' && *rest != '#')) {
		err_set(ini->err, EINVAL, "%s: a section line is [NAME] and nothing else",
			config_quote(quoted, text - 1));
		return at_line(ini);
	}
	if (len >= sizeof(section))
		return unknown(ini, "section", text, section_name, NULL);
	memcpy(section, text, len);
	section[len] = '\0';
	if (device_of_section(section, &device))
		return open_device_section(ini, &device);
	for (size_t i = 0; section_name(NULL, i) != NULL; i++) {
		if (strcmp(section, section_name(NULL, i)) == 0)
			return 0;
	}
	return unknown(ini, "section", section, section_name, NULL);
}

/* --- keys --- */

static int mark_seen(struct ini *ini, uint32_t *seen, unsigned bit, const char *key)
{
	if (*seen & 1u << bit) {
		err_set(ini->err, EINVAL, "%s is there a second time", key);
		return at_line(ini);
	}
	*seen |= 1u << bit;
	return 0;
}

/* A setter has failed: key, file and line in front. */
static int bad_value(struct ini *ini, const char *key)
{
	err_context(ini->err, "%s", key);
	return at_line(ini);
}

static int set_device_key(struct ini *ini, const struct device_section *s, const char *key,
			  const char *value)
{
	const struct config_kind *kind = config_device_kinds[s->kind];
	int device = find_device(ini, s);

	for (unsigned i = 0; device >= 0 && i < kind->word_count; i++) {
		if (kind->words[i].key == NULL || strcmp(kind->words[i].key, key) != 0)
			continue;
		if (mark_seen(ini, &ini->seen_device[s->kind][device], i, key) < 0)
			return ini->rc;
		if (kind->words[i].set(kind->at(ini->config, (unsigned)device), value, ini->dir,
				       ini->err) < 0)
			return bad_value(ini, key);
		return 0;
	}
	return unknown(ini, "key", key, device_key_name, kind);
}

static int unknown_key(struct ini *ini, const char *section, const char *key)
{
	char quoted[CONFIG_QUOTE_MAX];
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (size_t i = 0; i < count; i++) {
		if (options[i].key == NULL || strcmp(options[i].key, key) != 0)
			continue;
		err_set(ini->err, EINVAL, "unknown key %s", config_quote(quoted, key));
		err_hint(ini->err, "it belongs to section [%s]", options[i].section);
		return at_line(ini);
	}
	return unknown(ini, "key", key, key_name, section);
}

static int set_key(struct ini *ini, const char *section, const char *key, const char *value)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	for (unsigned i = 0; i < count; i++) {
		const struct cli_option *o = &options[i];

		if (o->section == NULL || strcmp(o->section, section) != 0 ||
		    strcmp(o->key, key) != 0)
			continue;
		if (!o->repeat && mark_seen(ini, &ini->seen, i, key) < 0)
			return ini->rc;
		if (o->set(ini->config, value, ini->dir, ini->err) < 0)
			return bad_value(ini, key);
		return 0;
	}
	return unknown_key(ini, section, key);
}

/* inih's handler: non-zero goes on. */
static int on_key(void *opaque, const char *section, const char *key, const char *value)
{
	struct ini *ini = opaque;
	struct device_section device;

	if (ini->rc < 0)
		return 0;
	if (*section == '\0') {
		err_set(ini->err, EINVAL, "a key in front of the first [section]");
		at_line(ini);
	} else if (*value == '\0') {
		err_set(ini->err, EINVAL, "%s has an empty value", key);
		at_line(ini);
	} else if (device_of_section(section, &device)) {
		set_device_key(ini, &device, key, value);
	} else {
		set_key(ini, section, key, value);
	}
	return ini->rc == 0;
}

/* inih's reader, like fgets(3): the next line into `line` of `size` bytes, or NULL at the end. */
static char *read_line(char *line, int size, void *opaque)
{
	struct ini *ini = opaque;
	size_t len = strcspn(ini->next, "\n");
	const char *text;

	if (ini->rc < 0 || *ini->next == '\0')
		return NULL;
	ini->line++;
	if (len > CONFIG_INI_LINE_MAX || len + 2 > (size_t)size) {
		err_set(ini->err, EINVAL, "the line is too long; at most %d bytes",
			CONFIG_INI_LINE_MAX);
		at_line(ini);
		return NULL;
	}
	memcpy(line, ini->next, len);
	ini->next += len + (ini->next[len] == '\n');
	while (len > 0 && strchr(WHITESPACE, line[len - 1]) != NULL)
		len--;
	line[len] = '\0';
	text = line + strspn(line, WHITESPACE);
	if (*text == '[' && check_section_line(ini, text) < 0)
		return NULL;
	return line;
}

static int check_devices(struct ini *ini)
{
	for (unsigned k = 0; k < CONFIG_DEVICE_KINDS; k++) {
		const struct config_kind *kind = config_device_kinds[k];

		for (unsigned i = ini->first_device[k]; i < kind->count(ini->config); i++) {
			if (kind->check(kind->at(ini->config, i), ini->err) < 0)
				return err_context(ini->err, "%s: [%s %s]", ini->name, kind->name,
						   kind->id(ini->config, i));
		}
	}
	return 0;
}

/*
 * Debian's inih has its options in global variables. Values are taken as they stand: no comment
 * inside a line (a kernel command line may hold ";"), no continuation lines (they would look like
 * the same key twice).
 */
static void set_inih_options(void)
{
	ini_allow_inline_comments = false;
	ini_allow_multiline = false;
	ini_stop_on_first_error = true;
	ini_use_stack = false; /* a line buffer of ini_max_line bytes on the heap */
	ini_allow_realloc = false;
	ini_max_line = CONFIG_INI_LINE_MAX + 3;
	ini_initial_alloc = CONFIG_INI_LINE_MAX + 3;
}

int config_parse_ini(const char *name, const char *data, struct vm_config *config, struct err *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	const char *slash = strrchr(name, '/');
	struct ini ini = {
	    .name = name,
	    .next = data,
	    .config = config,
	    .err = err,
	};
	int rc;

	for (unsigned k = 0; k < CONFIG_DEVICE_KINDS; k++)
		ini.first_device[k] = config_device_kinds[k]->count(config);
	if (strncmp(data, bom, sizeof(bom) - 1) == 0)
		ini.next += sizeof(bom) - 1;
	if (slash != NULL) {
		/* "/a.ini" lies in "/", so keep that slash: paths become "//x", which is "/x". */
		ini.dir = strndup(name, slash == name ? 1 : (size_t)(slash - name));
		if (ini.dir == NULL)
			return err_sys(err, ENOMEM, "%s", name);
	}
	set_inih_options();
	rc = ini_parse_stream(read_line, &ini, on_key, &ini);
	if (ini.rc < 0)
		rc = ini.rc;
	else if (rc > 0)
		rc = err_set(err, EINVAL,
			     "%s:%u: the line is neither [section] nor key = value nor a comment",
			     name, ini.line);
	else if (rc < 0)
		rc = err_sys(err, ENOMEM, "%s", name);
	else
		rc = check_devices(&ini);
	free(ini.dir);
	return rc;
}

/* --- the file --- */

static int check_regular(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "configuration file %s", path);
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s is a directory; a configuration file is needed",
			       path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is not a regular file", path);
	if (st.st_size > CONFIG_INI_FILE_MAX)
		return err_set(err, EFBIG,
			       "%s is too large for a configuration file; at most 1 MiB", path);
	return 0;
}

/* Fills buf, of CONFIG_INI_FILE_MAX + 1 bytes, and terminates it. */
static int read_all(int fd, const char *path, char *buf, struct err *err)
{
	size_t len = 0;
	ssize_t n;

	do {
		n = read(fd, buf + len, CONFIG_INI_FILE_MAX - len);
		if (n < 0)
			return err_sys(err, errno, "configuration file %s", path);
		len += (size_t)n;
	} while (n > 0);
	buf[len] = '\0';
	if (strlen(buf) != len)
		return err_set(err, EINVAL,
			       "%s has a NUL byte at offset %zu: it is not a text file", path,
			       strlen(buf));
	return 0;
}

int config_read_ini(const char *path, char **text, struct err *err)
{
	/* Non-blocking: opening a FIFO must not hang before it is refused. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *buf = NULL;
	int rc;

	if (fd < 0)
		return err_sys(err, errno, "configuration file %s", path);
	rc = check_regular(fd, path, err);
	if (rc < 0)
		goto out;
	buf = malloc(CONFIG_INI_FILE_MAX + 1);
	if (buf == NULL) {
		rc = err_sys(err, ENOMEM, "configuration file %s", path);
		goto out;
	}
	rc = read_all(fd, path, buf, err);
out:
	close(fd);
	if (rc < 0)
		free(buf);
	else
		*text = buf;
	return rc;
}
