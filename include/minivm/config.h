/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of one machine, immutable once config_finish() has accepted it. It comes from
 * the command line and an INI file (docs/minivm.1); the command line wins. One option table in
 * vmm/cli.c (minivm/cli.h) drives parsing, --help, the man page and the bash completion.
 *
 * Nothing here looks at the host: sizes, counts, duplicates and words are checked, files are not
 * opened (but for the INI file itself).
 */
#ifndef MINIVM_CONFIG_H
#define MINIVM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/memory.h"

#define CONFIG_CPUS_MAX	      32
#define CONFIG_DISKS_MAX      8
#define CONFIG_DISK_ID_MAX    20 /* VIRTIO 1.2 §5.2.6: the GET_ID string; other devices' too */
#define CONFIG_NETS_MAX	      4
#define CONFIG_FORWARDS_MAX   16
#define NET_ADDRESS_MAX	      46 /* INET6_ADDRSTRLEN */
#define CONFIG_PORTS_MAX      8
#define CONFIG_PORT_NAME_MAX  32
#define CONFIG_MEMORY_MIN     (16ull << 20)
#define CONFIG_MEMORY_MAX     (1ull << 40)
#define CONFIG_MEMORY_DEFAULT (256ull << 20)
#define CONFIG_MEMORY_UNIT    4096ull
#define CONFIG_GRACE_DEFAULT  10
#define CONFIG_GRACE_MAX      3600
#define CONFIG_RNG_RATE_MAX   (1ull << 30)
#define CONFIG_NAME_MAX	      64
#define CONFIG_HOSTNAME_MAX   64	     /* Linux has no longer ones */
#define CONFIG_AGENT_PORT     "minivm.agent" /* with `agent`: no other port has this name */
#define CONFIG_NAME_VERIFY    "verify"	     /* no machine's name: `minivm snapshot verify` */
#define CONFIG_NAME_ALPHABET  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

#define CONFIG_BALLOON_STATS_MAX 3600 /* seconds */

enum console_kind {
	CONSOLE_AUTO,	/* VIRTIO where the kernel has the driver, else SERIAL */
	CONSOLE_SERIAL, /* COM1 on stdin and stdout */
	CONSOLE_VIRTIO, /* a virtio console beside it, for all but early messages */
	CONSOLE_NONE,	/* COM1 is there, its output goes nowhere */
	CONSOLE_FILE,	/* as AUTO, but output goes to a file, and there is no input */
};

enum assist_mode {
	ASSIST_AUTO, /* on where the probe finds an emulating back end */
	ASSIST_ON,
	ASSIST_OFF,
};

/* How the guest's kernel learns what the machine has. */
enum describe_mode {
	DESCRIBE_AUTO, /* ACPI; on hosts that emulate, where it costs time, the MP table */
	DESCRIBE_ACPI,
	DESCRIBE_MPTABLE, /* and virtio_mmio.device= words on the command line */
	DESCRIBE_FDT,	  /* a flattened device tree */
};

/* How the kernel is entered. */
enum entry_mode {
	ENTRY_AUTO, /* LINUX; PVH where that is all an ELF has */
	ENTRY_LINUX,
	ENTRY_PVH,
};

struct disk_config {
	char *path;
	char *id; /* GET_ID string; config_finish() fills in "disk0", ... by the index where none is
		     given */
	bool readonly;
	bool overlay;
	char *overlay_file; /* NULL with overlay: throw-away */
};

/* Where a network device's frames go. */
enum net_kind {
	NET_NONE,  /* not said yet */
	NET_TAP,   /* a tap interface, by name */
	NET_FD,	   /* the file of one, as a descriptor that minivm was started with */
	NET_USER,  /* a passt of our own: no privilege is needed */
	NET_PASST, /* the socket of a passt that somebody started */
};

/* A port of the host that leads to one of the guest; with NET_USER. */
struct net_forward {
	bool udp;
	char address[NET_ADDRESS_MAX]; /* of the host, to listen on; a number */
	uint16_t host_port;
	uint16_t guest_port;
};

struct net_config {
	char *id; /* config_finish() fills in "net0", ... where none is given */
	enum net_kind kind;
	char *target; /* NET_TAP: interface; NET_PASST: path */
	int fd;	      /* NET_FD */
	bool has_mac;
	uint8_t mac[6];
	unsigned mtu; /* 0: not said */
	unsigned forward_count;
	struct net_forward forward[CONFIG_FORWARDS_MAX];
};

enum port_kind {
	PORT_FILE, /* what the guest writes goes there */
	PORT_UNIX, /* a listening socket; one client at a time */
	PORT_PIPE, /* FIFOs PATH.in and PATH.out */
};

/* A named port of a virtio console device. */
struct port_config {
	char *name;
	enum port_kind kind;
	char *path;
};

struct vm_config {
	char *kernel;	    /* never NULL after config_finish() */
	char *initrd;	    /* or NULL */
	bool kernel_cached; /* through the kernel cache */
	char *kernel_cache; /* its directory, or NULL: the default one */
	char *cmdline;	    /* words added to the default line, or NULL */
	char *cmdline_only; /* replaces the default line, or NULL; not both */
	unsigned cpus;
	uint64_t memory; /* bytes, a multiple of the page size */
	enum guest_pages pages;
	unsigned disk_count;
	struct disk_config disk[CONFIG_DISKS_MAX];
	unsigned net_count;
	struct net_config net[CONFIG_NETS_MAX];
	uint32_t vsock_cid; /* the guest's; 0: no vsock device */
	enum console_kind console;
	char *console_file; /* with CONSOLE_FILE */
	bool rng;	    /* an entropy device */
	bool balloon;
	bool agent;		/* a port for the guest's agent, beside `port` */
	uint64_t rng_rate;	/* bytes a second; 0: no limit */
	uint64_t balloon_size;	/* bytes that the guest is to give up from the start */
	char *vsock_path;	/* of the host's socket; NULL without */
	unsigned balloon_stats; /* seconds between its statistics; 0: told once, at the start */
	unsigned port_count;
	struct port_config port[CONFIG_PORTS_MAX];
	char *hostname; /* that a restored guest is told; or NULL */
	enum assist_mode assist;
	enum describe_mode describe;
	enum entry_mode entry;
	char *stats;	/* path, "-" for standard output, or NULL */
	char *timeline; /* the same */
	enum log_level log_level;
	unsigned grace_seconds; /* after SIGTERM, before the machine is stopped */
	char *name;		/* its control socket is found by it; or NULL */
	char *api_sock;		/* where the control socket is; or NULL. Not both. */
};

/* Default values. Then set, then finish; free in any state after init. */
void config_init(struct vm_config *config);
void config_free(struct vm_config *config); /* frees the strings, not the struct */

/* What only the whole can tell: a kernel is named, words do not exclude each other, ids differ. */
int config_finish(struct vm_config *config, struct err *err);

/* --- the INI file: vmm/config_ini.c --- */

#define CONFIG_INI_FILE_MAX (1u << 20) /* bytes */
#define CONFIG_INI_LINE_MAX 4096       /* bytes in a line, line end not counted */

/*
 * `data` is a NUL-terminated text; `name` is the file's name, for messages ("vm.ini:3: ...") and
 * for relative paths, which are relative to its directory. Adds to what is set. -EINVAL; fuzzed.
 * Not to be called in two threads at once (inih's options are global variables).
 */
int config_parse_ini(const char *name, const char *data, struct vm_config *config, struct err *err);

/* Reads a file for it, a regular one of at most CONFIG_INI_FILE_MAX bytes; *text is malloc'ed. */
int config_read_ini(const char *path, char **text, struct err *err);

/* --- single values: vmm/config.c, vmm/config_disk.c --- */

/* "512M", "2G", "64K", "1T", "1048576" -> bytes. -EINVAL. */
int config_parse_size(const char *text, uint64_t *bytes, struct err *err);

/*
 * A setter: takes the user's text (not empty), checks it and stores it; a value that was there is
 * replaced (disks are added). Relative paths are taken relative to `dir`; NULL: as they are.
 * -EINVAL with the text quoted and what is allowed, -ENOMEM. The caller adds where the text is
 * from.
 */
typedef int config_set_fn(struct vm_config *config, const char *text, const char *dir,
			  struct err *err);

config_set_fn config_set_kernel;
config_set_fn config_set_initrd;
config_set_fn config_set_kernel_cache;
config_set_fn config_set_cmdline;
config_set_fn config_set_cmdline_only;
config_set_fn config_set_cpus;
config_set_fn config_set_memory;
config_set_fn config_set_hugepages;
config_set_fn config_set_disk; /* PATH[,word]... */
config_set_fn config_set_net;  /* word[,word]... */
config_set_fn config_set_console;
config_set_fn config_set_rng;
config_set_fn config_set_balloon;
config_set_fn config_set_vsock; /* cid=N,uds=PATH: vmm/config_vsock.c */
config_set_fn config_set_port;	/* NAME=KIND:PATH; adds one */
config_set_fn config_set_agent;
config_set_fn config_set_hostname;
config_set_fn config_set_assist;
config_set_fn config_set_describe;
config_set_fn config_set_entry;
config_set_fn config_set_stats;
config_set_fn config_set_timeline;
config_set_fn config_set_log_level;
config_set_fn config_set_grace;
config_set_fn config_set_name;
config_set_fn config_set_api_sock;
config_set_fn config_replace_disk; /* ID=PATH[,word]..., of a disk that is there */
config_set_fn config_replace_net;  /* ID=word[,word]..., of a network device that is there */

/* Forget what a file said, where the command line replaces it. */
void config_clear_cmdline(struct vm_config *config);
void config_clear_disks(struct vm_config *config);
void config_clear_nets(struct vm_config *config);
void config_clear_ports(struct vm_config *config);
/*
 * What is this process's affair and not the machine's: reports, log level, control socket, and the
 * host name that it gives the guest.
 */
void config_clear_process(struct vm_config *config);

/*
 * --- devices: vmm/config_device.c, vmm/config_disk.c, vmm/config_net.c ---
 *
 * Devices that there can be several of are given as `--disk TEXT`, words behind commas, or as a
 * section [disk NAME] with keys. One table of words serves both, and the man page.
 */

/* What a device can be told. */
struct device_word {
	const char *word;   /* in the option's value; NULL: not there */
	const char *key;    /* in the INI file; NULL: not there */
	const char *arg;    /* of the word: "NAME", "[FILE]" (may be left out), NULL (none) */
	const char *values; /* of the key, for the man page */
	const char *help;
	bool repeat; /* the word may be there several times */
	/* text NULL: the word without a value. */
	int (*set)(void *device, const char *text, const char *dir, struct err *err);
};

#define CONFIG_DEVICE_WORDS_MAX 32 /* sets of words are uint32_t */

struct config_kind {
	const char *name; /* of the section: "disk" */
	const struct device_word *words;
	size_t word_count;
	/* The first part of the option's value, if that is no word. Or NULL. */
	int (*first)(void *device, const char *text, const char *dir, struct err *err);
	const char *hint; /* for an unknown word, or NULL */
	unsigned (*count)(const struct vm_config *config);
	void *(*at)(struct vm_config *config, unsigned i);
	const char *(*id)(const struct vm_config *config, unsigned i); /* may be NULL */
	int (*set_id)(void *device, const char *text, const char *dir, struct err *err);
	/* A fresh one at the end. NULL, with err set: there are too many. */
	void *(*add)(struct vm_config *config, struct err *err);
	/* What only a whole one can tell: something is missing, words exclude each other. */
	int (*check)(const void *device, struct err *err);
	/* What stands behind "ID=" where a restored machine gets another: "PATH". */
	const char *replacement;
	/* `fresh`, checked, in place of `device`, which keeps what its guest knows; what `fresh`
	   owns is taken over. */
	int (*replace)(void *device, void *fresh, struct err *err);
	void (*clear)(struct vm_config *config); /* there are none then */
};

extern const struct config_kind config_disk_kind;
extern const struct config_kind config_net_kind;
#define CONFIG_DEVICE_KINDS 2
extern const struct config_kind *const config_device_kinds[CONFIG_DEVICE_KINDS];
#define CONFIG_DEVICES_MAX CONFIG_DISKS_MAX /* the most of any kind */

/* `--disk TEXT`: a device more. */
int config_add_device(struct vm_config *config, const struct config_kind *kind, const char *text,
		      const char *dir, struct err *err);
/* "ID=VALUE": another in place of the one that has this id. */
int config_replace_device(struct vm_config *config, const struct config_kind *kind,
			  const char *text, const char *dir, struct err *err);

/* "yes" or "no"; NULL is yes. */
int config_parse_yes_no(const char *text, bool *out, struct err *err);
/* Decimal digits only. */
int config_parse_number(const char *text, unsigned min, unsigned max, unsigned *out,
			struct err *err);

/*
 * A device's id, which becomes a file name in the guest (/dev/disk/by-id/virtio-NAME), hence the
 * narrow alphabet. `what` ("a disk") is for the message.
 */
int config_set_device_id(char **id, const char *what, const char *text, struct err *err);

/* Gives names ("disk0") to those that have none, and refuses equal ones. */
int config_name_devices(struct vm_config *config, const struct config_kind *kind, struct err *err);

/* No two have their layer in the same file. */
int config_check_disks(const struct vm_config *config, struct err *err);
/* No two have the same name, or the agent's. */
int config_check_ports(const struct vm_config *config, struct err *err);

/* --- for messages: vmm/config_words.c --- */

/* The user's text in double quotes, shortened where it is long. Returns buf. */
#define CONFIG_QUOTE_MAX 80
const char *config_quote(char buf[CONFIG_QUOTE_MAX], const char *text);

/* Lists names: the i-th, or NULL behind the last. Doubles do no harm. */
typedef const char *config_name_fn(const void *ctx, size_t i);

/* The name that `text` may be a slip of, or NULL. */
const char *config_suggest(const char *text, config_name_fn *name, const void *ctx);

/* "a, b, c": the names, each once, in `buf`, cut to size. Returns buf. */
const char *config_list_names(char *buf, size_t size, config_name_fn *name, const void *ctx);

/* `text` as a path: a copy, put behind `dir` if it is relative and dir is not NULL. */
int config_copy_path(char **field, const char *text, const char *dir, struct err *err);

/*
 * Values of several parts: cuts the next one off *rest, in place. A comma ends a part, one that
 * belongs to it is written twice. NULL when there is none left.
 */
char *config_next_part(char **rest);

#endif
