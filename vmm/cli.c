/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line.
 *
 * One table says everything about an option: parsing, --help, the man page, the bash completion and
 * the keys of the INI file are made from it. The command line is read twice: the first pass checks
 * its form, finds --config and counts; then the file is loaded; the second pass puts the values on
 * top of the file's. So the command line wins without either side knowing of the other.
 */
#include "minivm/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option option_table[] = {
    {
	.name = "kernel",
	.arg = "FILE",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "kernel",
	.set = config_set_kernel,
	.file = true,
	.help = "Linux kernel: a bzImage, or an ELF vmlinux",
	.more =
	    "A compressed bzImage (boot protocol 2.12 or later) is unpacked on the host and the "
	    "vmlinux inside is entered directly; where the compression is not known, the kernel "
	    "unpacks itself in the guest.",
    },
    {
	.name = "entry",
	.arg = "auto|linux|pvh",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "entry",
	.set = config_set_entry,
	.words = "auto linux pvh",
	.help = "how the kernel is entered (default auto)",
	.more =
	    "linux: by Linux's 64-bit boot protocol. pvh: by the PVH entry of an ELF, or of the "
	    "vmlinux inside a bzImage. auto: linux, but pvh for an ELF that has nothing else. See "
	    "KERNEL ENTRY.",
    },
    {
	.name = "initrd",
	.arg = "FILE",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "initrd",
	.set = config_set_initrd,
	.file = true,
	.help = "initial RAM disk",
    },
    {
	.name = "kernel-cache",
	.arg = "off|DIR",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "kernel-cache",
	.set = config_set_kernel_cache,
	.words = "off",
	.file = true,
	.help = "the kernel cache (default ~/.cache/minivm)",
	.more = "A directory of yours alone (mode 0700), made if it is not there; the default one "
		"is in $XDG_CACHE_HOME, if that is set. off: the kernel is read and copied at "
		"every start. See KERNEL CACHE.",
    },
    {
	.name = "cmdline",
	.arg = "STRING",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "cmdline",
	.set = config_set_cmdline,
	.clear = config_clear_cmdline,
	.help = "words to add to the default kernel command line",
	.more = "See KERNEL COMMAND LINE. Not together with --cmdline-only.",
    },
    {
	.name = "cmdline-only",
	.arg = "STRING",
	.commands = CLI_CMD_RUN,
	.section = "boot",
	.key = "cmdline-only",
	.set = config_set_cmdline_only,
	.clear = config_clear_cmdline,
	.help = "the kernel command line, in place of the default one",
	.more = "What minivm adds to describe its devices is added all the same.",
    },
    {
	.name = "cpus",
	.arg = "N",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "cpus",
	.set = config_set_cpus,
	.help = "virtual CPUs, 1 to 32 (default 1)",
    },
    {
	.name = "memory",
	.arg = "SIZE",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "memory",
	.set = config_set_memory,
	.help = "guest memory, 16M to 1T (default 256M)",
	.more = "A multiple of 4K; see SIZES. The host gives memory as the guest touches it.",
    },
    {
	.name = "hugepages",
	.arg = "off|thp|2M",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "hugepages",
	.set = config_set_hugepages,
	.words = "off thp 2M",
	.help = "pages behind guest memory (default off)",
	.more = "off: 4K pages, the least memory. thp: the host may use huge pages as it finds "
		"them, which makes a guest that works with much memory faster and larger. 2M: from "
		"the host's reserve (vm.nr_hugepages), all of the guest's memory at once.",
    },
    {
	.name = "disk",
	.arg = "PATH[,ro][,id=NAME][,format=raw][,overlay[=FILE]]",
	.commands = CLI_CMD_RUN,
	.repeat = true,
	.set = config_set_disk,
	.clear = config_clear_disks,
	.file = true,
	.help = "a disk from an image file or block device; up to 8",
	.more = "The first disk is /dev/vda in the guest, the next /dev/vdb, and so on. See DISKS.",
    },
    {
	.name = "net",
	.arg = "user|tap=NAME|fd=N|passt=SOCKET[,WORD=VALUE]...",
	.commands = CLI_CMD_RUN,
	.repeat = true,
	.set = config_set_net,
	.clear = config_clear_nets,
	.words = "user tap= fd= passt=",
	.help = "a network device; up to 4",
	.more = "The first one is eth0 in the guest. See NETWORK.",
    },
    {
	.name = "console",
	.arg = "auto|serial|virtio|none|file=PATH",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "console",
	.key = "mode",
	.set = config_set_console,
	.words = "auto serial virtio none file=",
	.help = "the guest's console (default auto)",
	.more =
	    "serial: the serial port, on standard input and output. virtio: hvc0 beside it, for "
	    "all but early messages. auto: virtio where the kernel has the driver built in. "
	    "none: nowhere. file=PATH: as auto, but output to a file, no input. See CONSOLE.",
    },
    {
	.name = "port",
	.arg = "NAME=file:PATH|NAME=unix:PATH|NAME=pipe:PATH",
	.commands = CLI_CMD_RUN,
	.section = "console",
	.key = "port",
	.repeat = true,
	.set = config_set_port,
	.clear = config_clear_ports,
	.help = "a named channel between guest and host; up to 8",
	.more = "/dev/virtio-ports/NAME in the guest. file: what the guest writes goes to a file. "
		"unix: a socket that minivm listens on, for one client at a time. pipe: the FIFOs "
		"PATH.in and PATH.out. See PORTS.",
    },
    {
	.name = "rng",
	.arg = "off|on|rate=SIZE",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "rng",
	.set = config_set_rng,
	.words = "off on rate=",
	.help = "random bytes from the host (default off)",
	.more = "on: a virtio entropy device, /dev/hwrng in Linux, fed from getrandom(2). "
		"rate=SIZE: no more than that many bytes a second, 1 to 1G. Linux guests seed "
		"themselves without it from the processor (RDRAND) and from timing.",
    },
    {
	.name = "vsock",
	.arg = "cid=N,uds=PATH",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "machine",
	.key = "vsock",
	.set = config_set_vsock,
	.words = "cid=",
	.help = "sockets between guest and host (AF_VSOCK)",
	.more = "The guest's context ID is N, 3 to 4294967294. PATH is a socket that minivm makes. "
		"See VSOCK.",
    },
    {
	.name = "balloon",
	.arg = "off|on|SIZE[,stats=SECONDS]",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "balloon",
	.set = config_set_balloon,
	.words = "off on",
	.help = "memory goes back to the host (default off)",
	.more = "on: what the guest frees goes back by itself (free page reporting). SIZE: the "
		"guest gives up so much of its memory from the start, too. stats: how often it "
		"is asked for its statistics; else it tells them once. See MEMORY BALLOON.",
    },
    {
	.name = "agent",
	.arg = "off|on",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "agent",
	.set = config_set_agent,
	.words = "off on",
	.help = "a port for the guest's agent (default off)",
	.more = "on: a virtio port minivm.agent, on which a program in the guest is told after a "
		"restore: fresh random bytes, host name, time and addresses. The embedded guest "
		"has that program. See SNAPSHOTS.",
    },
    {
	.name = "assist",
	.arg = "auto|on|off",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "assist",
	.set = config_set_assist,
	.words = "auto on off",
	.help = "help for hosts whose KVM emulates (default auto)",
	.more = "auto: when the host looks like one. See EMULATING HOSTS.",
    },
    {
	.name = "describe",
	.arg = "auto|acpi|mptable|fdt",
	.commands = CLI_CMD_RUN,
	.section = "machine",
	.key = "describe",
	.set = config_set_describe,
	.words = "auto acpi mptable fdt",
	.help = "how the machine is described (default auto)",
	.more =
	    "auto: acpi, but mptable where KVM emulates, because ACPI takes time there. "
	    "mptable: an MP table and virtio_mmio.device= words. fdt: a device tree. See MACHINE "
	    "DESCRIPTION.",
    },
    {
	.name = "grace",
	.arg = "SECONDS",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "machine",
	.key = "grace",
	.set = config_set_grace,
	.help = "time to shut down after SIGTERM (default 10)",
	.more = "0 to 3600. A guest that still runs after that time is stopped. See SIGNALS.",
    },
    {
	.name = "stats",
	.arg = "FILE|-",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "log",
	.key = "stats",
	.set = config_set_stats,
	.file = true,
	.help = "write JSON counters at the end (-: standard output)",
    },
    {
	.name = "timeline",
	.arg = "FILE|-",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "log",
	.key = "timeline",
	.set = config_set_timeline,
	.file = true,
	.help = "write when each step was reached, as JSON",
	.more = "Nanoseconds after the start of minivm. See TIME LINE.",
    },
    {
	.name = "log-level",
	.arg = "error|warn|info|debug",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "log",
	.key = "level",
	.set = config_set_log_level,
	.words = "error warn info debug",
	.help = "how much to say on standard error (default warn)",
    },
    {
	.name = "name",
	.arg = "NAME",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "control",
	.key = "name",
	.set = config_set_name,
	.help = "a name for `minivm ps`, pause, stop and so on",
	.more = "Makes a control socket, see CONTROL SOCKET.",
    },
    {
	.name = "api-sock",
	.arg = "PATH",
	.commands = CLI_CMD_RUN | CLI_CMD_RESTORE,
	.section = "control",
	.key = "api-sock",
	.set = config_set_api_sock,
	.file = true,
	.help = "a control socket at a path of your own",
	.more = "HTTP over a Unix socket, see CONTROL SOCKET.",
    },
    {
	.name = "config",
	.arg = "FILE.ini",
	.kind = CLI_OPT_CONFIG,
	.commands = CLI_CMD_RUN,
	.file = true,
	.help = "read options from a file; the command line wins",
	.more = "See CONFIGURATION FILE.",
    },
    {
	.name = "disk",
	.arg = "ID=PATH[,WORD]...",
	.commands = CLI_CMD_RESTORE,
	.set = config_replace_disk,
	.repeat = true,
	.help = "restore: another file behind a disk",
	.more = "Without words the disk is read-only or has an overlay as it was. See SNAPSHOTS.",
    },
    {
	.name = "net",
	.arg = "ID=WORD[,WORD]...",
	.commands = CLI_CMD_RESTORE,
	.set = config_replace_net,
	.repeat = true,
	.help = "restore: another end of a network device",
	.more = "The words are those of a first start; address and MTU stay. See SNAPSHOTS.",
    },
    {
	.name = "hostname",
	.arg = "NAME",
	.commands = CLI_CMD_RESTORE,
	.set = config_set_hostname,
	.help = "restore: the guest's new host name",
	.more = "For a machine with --agent on. Without it the guest takes the name of --name, if "
		"there is one.",
    },
    {
	.name = "json",
	.kind = CLI_OPT_JSON,
	.commands = CLI_CMD_DOCTOR,
	.help = "the doctor's findings as JSON",
    },
    {
	.name = "help",
	.kind = CLI_OPT_HELP,
	.commands = CLI_CMD_RUN | CLI_CMD_DOCTOR | CLI_CMD_RESTORE | CLI_CMD_CLIENT,
	.help = "print this help",
    },
    {
	.name = "version",
	.kind = CLI_OPT_VERSION,
	.commands = CLI_CMD_RUN | CLI_CMD_DOCTOR | CLI_CMD_RESTORE | CLI_CMD_CLIENT,
	.help = "print the version",
    },
};

#define OPTIONS (sizeof(option_table) / sizeof(option_table[0]))

_Static_assert(OPTIONS <= 64, "sets of options are uint64_t");

const struct cli_option *cli_options(size_t *count)
{
	*count = OPTIONS;
	return option_table;
}

/* --- one argument --- */

static const struct cli_command command_table[] = {
    {"doctor", CLI_CMD_DOCTOR, CLI_DOCTOR, NULL, 0, 0, "tell whether this host can run machines"},
    {"restore", CLI_CMD_RESTORE, CLI_RESTORE, "DIR", 0, 1, "go on with a saved machine"},
    {"ps", CLI_CMD_CLIENT, CLI_PS, NULL, 0, 0, "list the running machines that have a name"},
    {"pause", CLI_CMD_CLIENT, CLI_PAUSE, "NAME", 1, 1, "stop a machine where it is"},
    {"resume", CLI_CMD_CLIENT, CLI_RESUME, "NAME", 1, 1, "let a paused machine go on"},
    {"stop", CLI_CMD_CLIENT, CLI_STOP, "NAME", 1, 1, "ask a machine to shut down"},
    {"snapshot", CLI_CMD_CLIENT, CLI_SNAPSHOT, "NAME|verify DIR", 2, 2,
     "save a running machine; check a saved one"},
    {"balloon", CLI_CMD_CLIENT, CLI_BALLOON, "NAME [SIZE]", 1, 2,
     "tell of a guest's memory; have it give up SIZE"},
};
#define COMMANDS (sizeof(command_table) / sizeof(command_table[0]))

const struct cli_command *cli_commands(size_t *count)
{
	*count = COMMANDS;
	return command_table;
}

static const struct cli_command run_command = {NULL, CLI_CMD_RUN, CLI_RUN, NULL, 0, 0, NULL};

struct args {
	int argc;
	char *const *argv;
	int next; /* index of the next argument */
	const struct cli_command *command;
	unsigned operands;
	const char *operand[CLI_OPERANDS_MAX];
	bool early; /* values: only of options that need no machine to be there */
};

struct arg {
	unsigned index; /* of the option in the table */
	const char *value;
};

static const char *option_name(const void *ctx, size_t i)
{
	(void)ctx;
	return i < OPTIONS ? option_table[i].name : NULL;
}

static const char *command_name(const void *ctx, size_t i)
{
	(void)ctx;
	return i < COMMANDS ? command_table[i].name : NULL;
}

/* The index in the table, or -1; a command's own first. `len` bytes of `name` count. */
static int find_option(const char *name, size_t len, unsigned command)
{
	int found = -1;

	for (unsigned i = 0; i < OPTIONS; i++) {
		const struct cli_option *o = &option_table[i];

		if (strncmp(o->name, name, len) != 0 || o->name[len] != '\0')
			continue;
		if ((o->commands & command) != 0)
			return (int)i;
		found = (int)i;
	}
	return found;
}

static int unknown_option(const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX], name[64];
	const char *start = text + strspn(text, "-");
	const char *guess = NULL;
	size_t len = strcspn(start, "=");

	if (len < sizeof(name)) {
		memcpy(name, start, len);
		name[len] = '\0';
		/* "-h": one letter stands for the first option that begins with it */
		guess = strcmp(name, "h") == 0 ? "help" : config_suggest(name, option_name, NULL);
	}
	err_set(err, EINVAL, "unknown option %s", config_quote(quoted, text));
	if (guess != NULL)
		return err_hint(err, "did you mean --%s?", guess);
	return err_hint(err, "`minivm --help` lists the options");
}

static int stray_word(const char *text, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	const char *guess = config_suggest(text, command_name, NULL);

	err_set(err, EINVAL, "%s is neither an option nor a command", config_quote(quoted, text));
	if (guess != NULL)
		return err_hint(err, "did you mean `minivm %s`?", guess);
	return err_hint(err, "a kernel is given as --kernel FILE, a disk as --disk FILE");
}

static int wrong_command(const struct cli_option *o, const struct cli_command *command,
			 struct err *err)
{
	if (command->name != NULL)
		return err_set(err, EINVAL, "--%s is not an option of `minivm %s`", o->name,
			       command->name);
	for (unsigned i = 0; i < COMMANDS; i++) {
		if ((command_table[i].bit & o->commands) != 0)
			return err_set(err, EINVAL, "--%s belongs to `minivm %s`", o->name,
				       command_table[i].name);
	}
	return err_set(err, EINVAL, "--%s is not an option here", o->name);
}

/* The value of an option that takes one: behind "=", or the next argument. NULL: err is set. */
static const char *take_value(struct args *args, const struct cli_option *o, const char *equals,
			      struct err *err)
{
	const char *value = NULL;

	if (equals != NULL)
		value = equals + 1;
	else if (args->next < args->argc)
		value = args->argv[args->next++];
	if (value == NULL) {
		err_set(err, EINVAL, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
		return NULL;
	}
	if (*value == '\0') {
		err_set(err, EINVAL, "--%s has an empty value; it takes %s", o->name, o->arg);
		return NULL;
	}
	if (equals == NULL && strncmp(value, "--", 2) == 0) {
		char quoted[CONFIG_QUOTE_MAX];

		err_set(err, EINVAL, "--%s needs a value, but %s follows", o->name,
			config_quote(quoted, value));
		err_hint(err, "a value that begins with -- is written --%s=VALUE", o->name);
		return NULL;
	}
	return value;
}

/* The next argument that is no operand; those are put aside. NULL: there is none. */
static const char *next_text(struct args *args)
{
	while (args->next < args->argc) {
		const char *text = args->argv[args->next++];

		if (text[0] == '-' || args->operands == args->command->most)
			return text;
		args->operand[args->operands++] = text;
	}
	return NULL;
}

/* 1: `arg` is filled; 0: no more; or -EINVAL. */
static int next_arg(struct args *args, struct arg *arg, struct err *err)
{
	const struct cli_option *o;
	const char *text = next_text(args);
	const char *equals;
	int index;

	if (text == NULL)
		return 0;
	if (text[0] != '-')
		return stray_word(text, err);
	equals = strchr(text, '=');
	index = strncmp(text, "--", 2) != 0
		    ? -1
		    : find_option(text + 2, strcspn(text + 2, "="), args->command->bit);
	if (index < 0)
		return unknown_option(text, err);
	o = &option_table[index];
	if ((o->commands & args->command->bit) == 0)
		return wrong_command(o, args->command, err);
	*arg = (struct arg){.index = (unsigned)index};
	if (o->arg != NULL) {
		arg->value = take_value(args, o, equals, err);
		return arg->value != NULL ? 1 : err->code;
	}
	if (equals != NULL)
		return err_set(err, EINVAL, "--%s takes no value", o->name);
	return 1;
}

/* --- the whole --- */

static int no_operand(const struct args *args, struct err *err)
{
	return err_set(err, EINVAL, "`minivm %s` needs %s", args->command->name,
		       args->command->operands);
}

/* The first pass: form, what is there, what is asked for. Stops at --help and --version. */
static int check_args(struct args *args, struct cli_result *out, uint64_t *seen, const char **file,
		      struct err *err)
{
	struct arg arg = {0};
	int rc;

	while ((rc = next_arg(args, &arg, err)) > 0) {
		const struct cli_option *o = &option_table[arg.index];

		if ((*seen & 1ull << arg.index) && !o->repeat)
			return err_set(err, EINVAL, "--%s is given twice", o->name);
		*seen |= 1ull << arg.index;
		if (o->kind == CLI_OPT_HELP || o->kind == CLI_OPT_VERSION) {
			out->action = o->kind == CLI_OPT_HELP ? CLI_HELP : CLI_VERSION;
			return 0;
		}
		if (o->kind == CLI_OPT_JSON)
			out->json = true;
		if (o->kind == CLI_OPT_CONFIG)
			*file = arg.value;
	}
	return rc == 0 && args->operands < args->command->least ? no_operand(args, err) : rc;
}

/* The second pass: values, on top of what the file said. */
static int apply_args(struct args args, const char *dir, uint64_t seen, struct vm_config *config,
		      struct err *err)
{
	struct arg arg = {0};
	int rc;

	for (unsigned i = 0; i < OPTIONS; i++) {
		if ((seen & 1ull << i) && option_table[i].clear != NULL)
			option_table[i].clear(config);
	}
	while ((rc = next_arg(&args, &arg, err)) > 0) {
		const struct cli_option *o = &option_table[arg.index];

		if (o->set == NULL || (args.early && o->commands == CLI_CMD_RESTORE))
			continue;
		rc = o->set(config, arg.value, dir, err);
		if (rc < 0)
			return err_context(err, "--%s", o->name);
	}
	return rc;
}

static const struct cli_command *find_command(const char *name)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (strcmp(command_table[i].name, name) == 0)
			return &command_table[i];
	}
	return NULL;
}

/* The command of a layer: what may stand in front of its operands is not in it. */
static const struct cli_command *layer_command(const struct cli_layer *layer)
{
	return layer->command == CLI_CMD_RESTORE ? find_command("restore") : &run_command;
}

static int apply_layer(const struct cli_layer *layer, bool early, struct vm_config *config,
		       struct err *err)
{
	struct args args = {.argc = layer->argc,
			    .argv = layer->argv,
			    .command = layer_command(layer),
			    .early = early};
	struct args first = args;
	struct cli_result ignored = {0};
	const char *file;
	uint64_t seen = 0;
	int rc;

	/* DIR is no part of the layer: as many operands as there may be have been seen. */
	first.operands = args.operands = args.command->most;
	rc = check_args(&first, &ignored, &seen, &file, err);
	if (rc < 0)
		return rc;
	if (layer->ini_text != NULL) {
		rc = config_parse_ini(layer->ini_name, layer->ini_text, config, err);
		if (rc < 0)
			return rc;
	}
	return apply_args(args, layer->dir, seen, config, err);
}

int cli_apply_layer(const struct cli_layer *layer, struct vm_config *config, struct err *err)
{
	int rc = apply_layer(layer, false, config, err);

	return rc < 0 ? rc : config_finish(config, err);
}

int cli_apply_early(const struct cli_layer *layer, struct vm_config *config, struct err *err)
{
	return apply_layer(layer, true, config, err);
}

/* The options of this command line as a layer; operands are left out. */
static int make_layer(const struct args *all, const char *file, struct cli_layer *layer,
		      struct err *err)
{
	struct args args = *all;
	struct arg arg;
	int from = args.next;

	layer->command = args.command->bit;
	layer->argv = calloc((size_t)args.argc + 1, sizeof(*layer->argv));
	if (layer->argv == NULL)
		return err_sys(err, ENOMEM, "command line");
	while (next_arg(&args, &arg, err) > 0)
		;
	for (int i = from; i < args.argc; i++) {
		bool operand = false;

		for (unsigned k = 0; k < args.operands; k++)
			operand |= args.argv[i] == args.operand[k];
		if (!operand)
			layer->argv[layer->argc++] = args.argv[i];
	}
	if (file == NULL)
		return 0;
	layer->ini_name = strdup(file);
	if (layer->ini_name == NULL)
		return err_sys(err, ENOMEM, "%s", file);
	return config_read_ini(file, &layer->ini_text, err);
}

static bool has_option(const struct args *args, uint64_t seen, const char *name)
{
	return seen & 1ull << find_option(name, strlen(name), args->command->bit);
}

/*
 * Neither kernel nor DIR, but a control socket, and besides that nothing that could not be said of
 * a restored machine: which one that will be comes by the socket.
 */
static bool is_wait(const struct args *args, uint64_t seen)
{
	if (args->operands > 0)
		return false;
	for (unsigned i = 0; i < OPTIONS; i++) {
		if ((seen & 1ull << i) && !(option_table[i].commands & CLI_CMD_RESTORE))
			return false;
	}
	return has_option(args, seen, "api-sock") && !has_option(args, seen, "name");
}

static int parse(struct args args, struct cli_result *out, struct err *err)
{
	struct args first = args;
	const char *file = NULL;
	uint64_t seen = 0;
	int rc;

	rc = check_args(&first, out, &seen, &file, err);
	out->operands = first.operands;
	memcpy(out->operand, first.operand, sizeof(out->operand));
	if (rc < 0 || (out->action != CLI_RUN && out->action != CLI_RESTORE))
		return rc;
	out->layers = 1;
	rc = make_layer(&args, file, &out->layer[0], err);
	if (rc < 0)
		return rc;
	if (is_wait(&first, seen)) {
		out->action = CLI_WAIT;
		out->layer[0].command = CLI_CMD_RESTORE;
		return cli_apply_early(&out->layer[0], &out->config, err);
	}
	if (out->action == CLI_RESTORE)
		return first.operands > 0 ? 0 : no_operand(&first, err);
	return cli_apply_layer(&out->layer[0], &out->config, err);
}

int cli_parse(int argc, char *const argv[], struct cli_result *out, struct err *err)
{
	struct args args = {.argc = argc, .argv = argv, .next = 1, .command = &run_command};
	const struct cli_command *command = argc > 1 ? find_command(argv[1]) : NULL;
	int rc;

	if (command != NULL) {
		args.command = command;
		args.next = 2;
	}
	*out = (struct cli_result){.action = args.command->action};
	config_init(&out->config);
	rc = parse(args, out, err);
	if (rc < 0)
		cli_result_free(out);
	return rc;
}

void cli_result_free(struct cli_result *r)
{
	for (unsigned i = 0; i < r->layers; i++)
		cli_layer_free(&r->layer[i]);
	r->layers = 0;
	config_free(&r->config);
}

const char *cli_version(void)
{
	return MINIVM_VERSION;
}

void cli_print_version(FILE *out)
{
	fputs("minivm " MINIVM_VERSION "\n", out);
}
