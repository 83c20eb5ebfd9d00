/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The INI file. inih splits lines into section, key and value; what a key means comes from the
 * option table (cli.h) and the table of disk words, so that file and command line never drift
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

#define WHITESPACE  " \t\r\n\v\f"
#define DISK_PREFIX "disk"

struct ini {
	const char *name; /* of the file */
	char *dir;	  /* its directory, or NULL: the current one */
	const char *next; /* what has not been read yet */
	unsigned line;	  /* number of the line that was read last */
	struct vm_config *config;
	unsigned first_disk;		      /* disks before this file's */
	uint32_t seen;			      /* bit per option */
	uint32_t seen_disk[CONFIG_DISKS_MAX]; /* bit per disk word */
	int rc;
	struct err *err;
};

/* --- names, for messages --- */

/* Sections of the option table, each as often as it has keys, and the disks'. */
static const char *section_name(const void *ctx, size_t i)
{
	size_t count;
	const struct cli_option *options = cli_options(&count);

	(void)ctx;
	if (i-- == 0)
		return DISK_PREFIX;
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

static const char *disk_key_name(const void *ctx, size_t i)
{
	size_t count;
	const struct disk_word *words = config_disk_words(&count);

	(void)ctx;
	for (size_t k = 0; k < count; k++) {
		if (words[k].key != NULL && i-- == 0)
			return words[k].key;
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

/* The NAME of "disk NAME", "" of "disk", NULL of others. */
static const char *disk_of_section(const char *section)
{
	const size_t len = sizeof(DISK_PREFIX) - 1;
	size_t blanks;

	if (strncmp(section, DISK_PREFIX, len) != 0)
		return NULL;
	blanks = strspn(section + len, " \t");
	if (blanks == 0 && section[len] != '\0')
		return NULL;
	return section + len + blanks;
}

/* The index of the disk of that name among this file's, or -1. */
static int find_disk(const struct ini *ini, const char *name)
{
	for (unsigned i = ini->first_disk; i < ini->config->disk_count; i++) {
		if (strcmp(ini->config->disk[i].id, name) == 0)
			return (int)i;
	}
	return -1;
}

static int open_disk_section(struct ini *ini, const char *name)
{
	struct disk_config *disk;

	if (*name == '\0') {
		err_set(ini->err, EINVAL, "a disk section has a name: [disk NAME]");
		return at_line(ini);
	}
	if (find_disk(ini, name) >= 0)
		return 0; /* it goes on */
	disk = config_add_disk(ini->config, ini->err);
	if (disk == NULL)
		return at_line(ini);
	if (config_set_disk_id(disk, name, NULL, ini->err) < 0) {
		ini->config->disk_count--;
		return at_line(ini);
	}
	return 0;
}

/* `text` is a line from its "[" on. */
static int check_section_line(struct ini *ini, const char *text)
{
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
	if (disk_of_section(section) != NULL)
		return open_disk_section(ini, disk_of_section(section));
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

static int set_disk_key(struct ini *ini, const char *disk_name, const char *key, const char *value)
{
	size_t count;
	const struct disk_word *words = config_disk_words(&count);
	int disk = find_disk(ini, disk_name);

	for (unsigned i = 0; disk >= 0 && i < count; i++) {
		if (words[i].key == NULL || strcmp(words[i].key, key) != 0)
			continue;
		if (mark_seen(ini, &ini->seen_disk[disk], i, key) < 0)
			return ini->rc;
		if (words[i].set(&ini->config->disk[disk], value, ini->dir, ini->err) < 0)
			return bad_value(ini, key);
		return 0;
	}
	return unknown(ini, "key", key, disk_key_name, NULL);
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
		if (mark_seen(ini, &ini->seen, i, key) < 0)
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
	const char *disk = disk_of_section(section);

	if (ini->rc < 0)
		return 0;
	if (*section == '\0') {
		err_set(ini->err, EINVAL, "a key in front of the first [section]");
		at_line(ini);
	} else if (*value == '\0') {
		err_set(ini->err, EINVAL, "%s has an empty value", key);
		at_line(ini);
	} else if (disk != NULL) {
		set_disk_key(ini, disk, key, value);
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

static int check_disks(struct ini *ini)
{
	for (unsigned i = ini->first_disk; i < ini->config->disk_count; i++) {
		const struct disk_config *disk = &ini->config->disk[i];

		if (config_check_disk(disk, ini->err) < 0)
			return err_context(ini->err, "%s: [disk %s]", ini->name, disk->id);
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
	    .first_disk = config->disk_count,
	    .err = err,
	};
	int rc;

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
		rc = check_disks(&ini);
	free(ini.dir);
	return rc;
}

/* --- the file --- */

static int check_regular(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
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
			return err_sys(err, errno, "%s", path);
		len += (size_t)n;
	} while (n > 0);
	buf[len] = '\0';
	if (strlen(buf) != len)
		return err_set(err, EINVAL,
			       "%s has a NUL byte at offset %zu: it is not a text file", path,
			       strlen(buf));
	return 0;
}

int config_load_ini(const char *path, struct vm_config *config, struct err *err)
{
	/* Non-blocking: opening a FIFO must not hang before it is refused. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *buf = NULL;
	int rc;

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	rc = check_regular(fd, path, err);
	if (rc < 0)
		goto out;
	buf = malloc(CONFIG_INI_FILE_MAX + 1);
	if (buf == NULL) {
		rc = err_sys(err, ENOMEM, "%s", path);
		goto out;
	}
	rc = read_all(fd, path, buf, err);
	if (rc == 0)
		rc = config_parse_ini(path, buf, config, err);
out:
	free(buf);
	close(fd);
	return rc;
}
