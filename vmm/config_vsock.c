/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device of the configuration: `cid=N,uds=PATH`, in either order, each once. */
#include "minivm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "minivm/virtio_vsock.h"

#define FORM "cid=N,uds=PATH"

/* What was said so far. */
struct parts {
	uint32_t cid;
	char *path;
};

static int set_cid(struct parts *parts, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t cid = 0;

	(void)dir;
	/* No more digits than a CID has: no overflow. */
	if (strspn(text, "0123456789") == strlen(text) && strlen(text) <= 10)
		cid = strtoull(text, NULL, 10);
	if (cid < VSOCK_CID_MIN || cid > VSOCK_CID_MAX)
		return err_set(err, EINVAL, "cid: %s is not a guest's CID; these are %u to %u",
			       config_quote(quoted, text), VSOCK_CID_MIN, VSOCK_CID_MAX);
	if (parts->cid != 0)
		return err_set(err, EINVAL, "cid is there twice");
	parts->cid = (uint32_t)cid;
	return 0;
}

static int set_path(struct parts *parts, const char *text, const char *dir, struct err *err)
{
	if (parts->path != NULL)
		return err_set(err, EINVAL, "uds is there twice");
	if (*text == '\0')
		return err_set(err, EINVAL, "uds= has an empty value");
	return config_copy_path(&parts->path, text, dir, err);
}

static const struct {
	const char *word;
	int (*set)(struct parts *parts, const char *text, const char *dir, struct err *err);
} words[] = {{"cid=", set_cid}, {"uds=", set_path}};

static int set_part(struct parts *parts, const char *text, const char *dir, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t len = strlen(words[i].word);

		if (strncmp(text, words[i].word, len) == 0)
			return words[i].set(parts, text + len, dir, err);
	}
	err_set(err, EINVAL, "%s is not one of cid=N, uds=PATH", config_quote(quoted, text));
	return err_hint(err, "a comma in a path is written twice");
}

static int parse(struct parts *parts, char *text, const char *dir, struct err *err)
{
	char *part;
	int rc = 0;

	while (rc == 0 && (part = config_next_part(&text)) != NULL)
		rc = set_part(parts, part, dir, err);
	if (rc == 0 && (parts->cid == 0 || parts->path == NULL))
		rc = err_set(err, EINVAL, "%s is missing; the value is " FORM,
			     parts->cid == 0 ? "cid=N" : "uds=PATH");
	return rc;
}

int config_set_vsock(struct vm_config *config, const char *text, const char *dir, struct err *err)
{
	struct parts parts = {0};
	char *copy = strdup(text);
	int rc;

	if (copy == NULL)
		return err_sys(err, ENOMEM, "vsock");
	rc = parse(&parts, copy, dir, err);
	free(copy);
	if (rc < 0) {
		free(parts.path);
		return rc;
	}
	free(config->vsock_path);
	config->vsock_cid = parts.cid;
	config->vsock_path = parts.path;
	return 0;
}
