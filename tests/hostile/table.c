/* SPDX-License-Identifier: Apache-2.0 */
/* What a command line, and the file it names, can say wrong. Names are those of fixtures.c. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>

/*
 * A kernel of a few bytes, so that a test of something else does not wait for Linux to be unpacked.
 * Should minivm fail to refuse, it halts at once and for ever.
 */
#define K "--kernel", "@elf"

static const struct refusal table[] = {
    /* words */
    {"no arguments", {NULL}, .want = "--kernel"},
    {"no kernel", {"--cpus", "1"}, .want = "--kernel"},
    {"unknown option", {K, "--frobnicate"}, .want = "--frobnicate"},
    {"unknown option with a value", {K, "--frobnicate=1"}, .want = "--frobnicate"},
    {"unknown short option", {K, "-x"}, .want = "-x"},
    {"stray word", {K, "frobnicate"}, .want = "frobnicate"},
    {"unknown command", {"frobnicate"}, .want = "frobnicate"},
    {"misspelt option", {K, "--memroy", "1G"}, .want = "--memory"},
    {"option without its value", {"--kernel"}, .want = "--kernel"},
    {"option with an empty value", {"--kernel", ""}, .want = "--kernel"},
    {"option with an empty value behind =", {"--kernel="}, .want = "--kernel"},
    {"value for an option that takes none", {"--help=yes"}, .want = "--help"},
    {"option twice", {K, "--cpus", "1", "--cpus", "2"}, .want = "--cpus"},
    {"kernel twice", {K, K}, .want = "--kernel"},
    {"doctor with an option of run", {"doctor", "--kernel", "@kernel"}, .want = "--kernel"},
    {"json without doctor", {K, "--json"}, .want = "--json"},

    /* numbers */
    {"no CPUs", {K, "--cpus", "0"}, .want = "\"0\""},
    {"33 CPUs", {K, "--cpus", "33"}, .want = "\"33\""},
    {"1000 CPUs", {K, "--cpus", "1000"}, .want = "\"1000\""},
    {"CPUs below zero", {K, "--cpus", "-1"}, .want = "\"-1\""},
    {"CPUs in letters", {K, "--cpus", "two"}, .want = "\"two\""},
    {"CPUs with a rest", {K, "--cpus", "2x"}, .want = "\"2x\""},
    {"CPUs with a space", {K, "--cpus", " 2"}, .want = "\" 2\""},
    {"CPUs beyond all bounds",
     {K, "--cpus", "18446744073709551617"},
     .want = "18446744073709551617"},
    {"empty number of CPUs", {K, "--cpus", ""}, .want = "--cpus"},
    {"no memory", {K, "--memory", "0"}, .want = "\"0\""},
    {"1M of memory", {K, "--memory", "1M"}, .want = "\"1M\""},
    {"15M of memory", {K, "--memory", "15M"}, .want = "\"15M\""},
    {"memory below zero", {K, "--memory", "-512M"}, .want = "\"-512M\""},
    {"memory beyond all bounds", {K, "--memory", "99999999999999T"}, .want = "99999999999999T"},
    {"2T of memory", {K, "--memory", "2T"}, .want = "\"2T\""},
    {"memory not in pages", {K, "--memory", "16777217"}, .want = "16777217"},
    {"memory with a fraction", {K, "--memory", "1.5G"}, .want = "\"1.5G\""},
    {"memory in an unknown unit", {K, "--memory", "1X"}, .want = "\"1X\""},
    {"memory in words", {K, "--memory", "512 MB"}, .want = "\"512 MB\""},
    {"grace time below zero", {K, "--grace", "-1"}, .want = "\"-1\""},
    {"grace time of a year", {K, "--grace", "31536000"}, .want = "31536000"},

    /* choices */
    {"unknown console", {K, "--console", "vga"}, .want = "\"vga\""},
    {"console file without a name", {K, "--console", "file="}, .want = "file="},
    {"unknown assist", {K, "--assist", "maybe"}, .want = "\"maybe\""},
    {"unknown log level", {K, "--log-level", "loud"}, .want = "\"loud\""},
    {"two command lines", {K, "--cmdline", "a", "--cmdline-only", "b"}, .want = "cmdline-only"},
    {"newline in the command line", {K, "--cmdline", "a\nb"}, .want = "command line", .kvm = true},

    /* kernels and initrds */
    {"missing kernel", {"--kernel", "@no-such"}, .want = "@no-such"},
    {"kernel below a missing directory", {"--kernel", "@no/such"}, .want = "@no/such"},
    {"kernel below a file", {"--kernel", "@text/such"}, .want = "@text/such"},
    {"dangling link as kernel", {"--kernel", "@dangling"}, .want = "@dangling"},
    {"link loop as kernel", {"--kernel", "@loop"}, .want = "@loop"},
    {"directory as kernel", {"--kernel", "@dir"}, .want = "@dir"},
    {"empty kernel", {"--kernel", "@empty"}, .want = "@empty"},
    {"text as kernel", {"--kernel", "@text"}, .want = "@text", .kvm = true},
    {"random kernel", {"--kernel", "@random"}, .want = "@random", .kvm = true},
    {"FIFO as kernel", {"--kernel", "@fifo"}, .want = "@fifo"},
    {"socket as kernel", {"--kernel", "@socket"}, .want = "@socket"},
    {"device as kernel", {"--kernel", "/dev/zero"}, .want = "/dev/zero"},
    {"huge kernel", {"--kernel", "@huge"}, .want = "@huge"},
    {"zeroes as kernel", {"--kernel", "@disk"}, .want = "@disk", .kvm = true},
    {"missing initrd", {K, "--initrd", "@no-such"}, .want = "@no-such"},
    {"directory as initrd", {K, "--initrd", "@dir"}, .want = "@dir"},
    {"empty initrd", {K, "--initrd", "@empty"}, .want = "@empty"},
    {"initrd that is larger than memory", {K, "--initrd", "@huge"}, .want = "@huge"},
    {"16M for Linux", {"--kernel", "@kernel", "--memory", "16M"}, .want = "memory", .kvm = true},
    {"kernel of another user",
     {"--kernel", "@noread"},
     .want = "readable",
     .root = true,
     .prepare = become_nobody},
    {"initrd of another user",
     {K, "--initrd", "@noread"},
     .want = "readable",
     .root = true,
     .prepare = become_nobody},

    /* disks */
    {"missing disk", {K, "--disk", "@no-such"}, .want = "@no-such", .kvm = true},
    {"directory as disk", {K, "--disk", "@dir"}, .want = "@dir", .kvm = true},
    {"directory as read-only disk", {K, "--disk", "@dir,ro"}, .want = "@dir", .kvm = true},
    {"empty disk", {K, "--disk", "@empty"}, .want = "@empty", .kvm = true},
    {"disk of an odd size", {K, "--disk", "@odd"}, .want = "512", .kvm = true},
    {"disk smaller than a sector", {K, "--disk", "@small"}, .want = "512", .kvm = true},
    {"overlay of an odd size", {K, "--disk", "@odd,overlay"}, .want = "512", .kvm = true},
    {"FIFO as disk", {K, "--disk", "@fifo"}, .want = "@fifo", .kvm = true},
    {"FIFO as read-only disk", {K, "--disk", "@fifo,ro"}, .want = "@fifo", .kvm = true},
    {"socket as disk", {K, "--disk", "@socket"}, .want = "@socket", .kvm = true},
    {"device without blocks as disk", {K, "--disk", "/dev/zero"}, .want = "/dev/zero", .kvm = true},
    {"dangling link as disk", {K, "--disk", "@dangling"}, .want = "@dangling", .kvm = true},
    {"disk twice", {K, "--disk", "@disk", "--disk", "@disk"}, .want = "@disk", .kvm = true},
    {"disk twice, read-only once",
     {K, "--disk", "@disk,ro", "--disk", "@disk"},
     .want = "@disk",
     .kvm = true},
    {"disk of another user",
     {K, "--disk", "@noread"},
     .want = "@noread",
     .kvm = true,
     .root = true,
     .prepare = become_nobody_with_kvm},
    {"write-protected disk",
     {K, "--disk", "@nowrite"},
     .want = "@nowrite",
     .kvm = true,
     .root = true,
     .prepare = become_nobody_with_kvm},
    {"disk without a path", {K, "--disk", ",ro"}, .want = "path"},
    {"empty disk option", {K, "--disk", ""}, .want = "--disk"},
    {"unknown word of a disk", {K, "--disk", "@disk,frobnicate"}, .want = "frobnicate"},
    {"word of a disk twice", {K, "--disk", "@disk,ro,ro"}, .want = "ro"},
    {"word of a disk without its value", {K, "--disk", "@disk,id="}, .want = "id"},
    {"unknown format", {K, "--disk", "@disk,format=qcow2"}, .want = "qcow2"},
    {"read-only overlay", {K, "--disk", "@disk,ro,overlay"}, .want = "overlay"},
    {"id that is too long",
     {K, "--disk", "@disk,id=abcdefghijklmnopqrstu"},
     .want = "abcdefghijklmnopqrstu"},
    {"id with a space", {K, "--disk", "@disk,id=a b"}, .want = "a b"},
    {"two disks of one id", {K, "--disk", "@disk,id=a", "--disk", "@disk2,id=a"}, .want = "\"a\""},
    {"nine disks",
     {K, "--disk", "a", "--disk", "b", "--disk", "c", "--disk", "d", "--disk", "e", "--disk", "f",
      "--disk", "g", "--disk", "h", "--disk", "i"},
     .want = "8"},

    /* layers */
    {"layer in a missing directory",
     {K, "--disk", "@disk,overlay=@no/such"},
     .want = "@no/such",
     .kvm = true},
    {"directory as layer", {K, "--disk", "@disk,overlay=@dir"}, .want = "@dir", .kvm = true},
    {"empty file as layer", {K, "--disk", "@disk,overlay=@empty"}, .want = "@empty", .kvm = true},
    {"text as layer", {K, "--disk", "@disk,overlay=@text"}, .want = "@text", .kvm = true},
    {"random layer", {K, "--disk", "@disk,overlay=@random"}, .want = "@random", .kvm = true},
    {"FIFO as layer", {K, "--disk", "@disk,overlay=@fifo"}, .want = "@fifo", .kvm = true},
    {"device as layer", {K, "--disk", "@disk,overlay=/dev/zero"}, .want = "/dev/zero", .kvm = true},
    {"layer over itself", {K, "--disk", "@disk,overlay=@disk"}, .want = "@disk", .kvm = true},
    {"missing base of a new layer",
     {K, "--disk", "@no-such,overlay=@new-layer"},
     .want = "@no-such",
     .kvm = true},

    /* console and statistics */
    {"console file in a missing directory",
     {K, "--console", "file=@no/such"},
     .want = "@no/such",
     .kvm = true},
    {"directory as console file", {K, "--console", "file=@dir"}, .want = "@dir", .kvm = true},
    {"FIFO without reader as console file",
     {K, "--console", "file=@fifo"},
     .want = "@fifo",
     .kvm = true},
    {"socket as console file", {K, "--console", "file=@socket"}, .want = "@socket", .kvm = true},
    {"console file of another user",
     {K, "--console", "file=@text"},
     .want = "@text",
     .kvm = true,
     .root = true,
     .prepare = become_nobody_with_kvm},
    {"statistics in a missing directory",
     {K, "--stats", "@no/such"},
     .want = "@no/such",
     .kvm = true},
    {"directory for statistics", {K, "--stats", "@dir"}, .want = "@dir", .kvm = true},

    /* vsock */
    {"text in the place of the vsock socket",
     {K, "--vsock", "cid=3,uds=@text"},
     .want = "@text",
     .kvm = true},
    {"directory in the place of the vsock socket",
     {K, "--vsock", "cid=3,uds=@dir"},
     .want = "@dir",
     .kvm = true},
    {"vsock socket in a missing directory",
     {K, "--vsock", "cid=3,uds=@no/such"},
     .want = "@no/such",
     .kvm = true},
    {"vsock socket with a long name",
     {K, "--vsock",
      "cid=3,uds=@0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567"},
     .want = "96",
     .kvm = true},
    {"vsock socket where the user may not write",
     {K, "--vsock", "cid=3,uds=@closed/new"},
     .want = "@closed/new",
     .kvm = true,
     .root = true,
     .prepare = become_nobody_with_kvm},
    {"CID of the host", {K, "--vsock", "cid=2,uds=@new-socket"}, .want = "\"2\""},

    /* nothing is written when another thing is wrong */
    {"missing kernel, all outputs new",
     {"--kernel", "@no-such", "--console", "file=@new-console", "--stats", "@new-stats", "--disk",
      "@disk,overlay=@new-layer"},
     .want = "@no-such"},
    {"random kernel, all outputs new",
     {"--kernel", "@random", "--console", "file=@new-console", "--stats", "@new-stats", "--disk",
      "@disk,overlay=@new-layer"},
     .want = "@random",
     .kvm = true},
    {"too little memory, all outputs new",
     {"--kernel", "@kernel", "--memory", "16M", "--console", "file=@new-console", "--stats",
      "@new-stats", "--disk", "@disk,overlay=@new-layer"},
     .want = "memory",
     .kvm = true},
    {"bad second disk, all outputs new",
     {K, "--console", "file=@new-console", "--stats", "@new-stats", "--disk",
      "@disk,overlay=@new-layer", "--disk", "@odd"},
     .want = "@odd",
     .kvm = true},
    {"bad second disk, all outputs there",
     {K, "--console", "file=@old-console", "--stats", "@old-stats", "--disk", "@disk", "--disk",
      "@odd"},
     .want = "@odd",
     .kvm = true},
    {"bad console file, new layer",
     {K, "--console", "file=@no/such", "--disk", "@disk,overlay=@new-layer"},
     .want = "@no/such",
     .kvm = true},
    {"bad statistics file, all there",
     {K, "--console", "file=@old-console", "--stats", "@no/such", "--disk",
      "@disk,overlay=@new-layer"},
     .want = "@no/such",
     .kvm = true},

    {"vsock socket that is text, new console",
     {K, "--console", "file=@new-console", "--vsock", "cid=3,uds=@text"},
     .want = "@text",
     .kvm = true},
    {"missing tap, new layer",
     {K, "--disk", "@disk,overlay=@new-layer", "--net", "tap=minivm-no-tap"},
     .want = "minivm-no-tap",
     .kvm = true},
    {"control socket that is text, all there",
     {K, "--api-sock", "@text", "--console", "file=@old-console", "--disk",
      "@disk,overlay=@new-layer", "--port", "a=file:@old-stats", "--port", "b=pipe:@new-pipe"},
     .want = "@text"},
    {"layer twice",
     {K, "--disk", "@disk,overlay=@new-layer", "--disk", "@disk2,overlay=@new-layer"},
     .want = "@new-layer"},

    /* ports */
    {"text in the place of a port's socket",
     {K, "--port", "a=unix:@text"},
     .want = "@text",
     .kvm = true},
    {"FIFO in a missing directory",
     {K, "--port", "a=pipe:@no/such"},
     .want = "@no/such",
     .kvm = true},
    {"directory as a port's file", {K, "--port", "a=file:@dir"}, .want = "@dir", .kvm = true},
    {"port of an unknown kind", {K, "--port", "a=tcp:1"}, .want = "tcp"},
    {"port twice", {K, "--port", "a=file:x", "--port", "a=file:y"}, .want = "\"a\""},

    /* networks */
    {"missing tap", {K, "--net", "tap=minivm-no-tap"}, .want = "minivm-no-tap", .kvm = true},
    {"descriptor that is not there", {K, "--net", "fd=77"}, .want = "77", .kvm = true},
    {"descriptor that is minivm's own",
     {K, "--net", "fd=4"},
     .want = "descriptor 4 is not open",
     .kvm = true},
    {"text as passt's socket", {K, "--net", "passt=@text"}, .want = "@text", .kvm = true},
    {"unknown network", {K, "--net", "bridge=br0"}, .want = "bridge"},

    /* commands */
    {"restore without a directory", {"restore"}, .want = "restore"},
    {"restore from a missing directory", {"restore", "@no-such"}, .want = "@no-such"},
    {"restore from a directory without a snapshot", {"restore", "@dir"}, .want = "@dir"},
    {"restore from a file", {"restore", "@text"}, .want = "@text"},
    {"verify what is no snapshot", {"snapshot", "verify", "@dir"}, .want = "@dir"},
    {"stop without a name", {"stop"}, .want = "stop"},
    {"stop a machine that is not there", {"stop", "nobody"}, .want = "nobody"},
    {"pause a machine that is not there", {"pause", "nobody"}, .want = "nobody"},
    {"machine's name with a slash", {K, "--name", "../x"}, .want = "../x"},
    {"ps with a word", {"ps", "frobnicate"}, .want = "frobnicate"},

    /* configuration files */
    {"missing configuration", {"--config", "@no-such"}, .want = "@no-such"},
    {"directory as configuration", {"--config", "@dir"}, .want = "@dir"},
    {"FIFO as configuration", {"--config", "@fifo"}, .want = "@fifo"},
    {"configuration without end", {"--config", "/dev/zero"}, .want = "/dev/zero"},
    {"random configuration", {"--config", "@random.ini"}, .want = "@random.ini"},
    {"line without end in the configuration", {"--config", "@large.ini"}, .want = "@large.ini:"},
    {"empty configuration", {"--config", "@empty"}, .want = "kernel"},
    {"configuration without a kernel", {"--config", "@nokernel.ini"}, .want = "kernel"},
    {"unknown key", {"--config", "@key.ini"}, .want = "@key.ini:3"},
    {"unknown section", {"--config", "@section.ini"}, .want = "@section.ini:1"},
    {"key before any section", {"--config", "@early.ini"}, .want = "@early.ini:1"},
    {"bad value of a key", {"--config", "@value.ini"}, .want = "lots"},
    {"key without a value", {"--config", "@void.ini"}, .want = "@void.ini:2"},
    {"key twice", {"--config", "@twice.ini"}, .want = "@twice.ini:3"},
    {"line that is no key", {"--config", "@shape.ini"}, .want = "@shape.ini:2"},
    {"section that is not closed", {"--config", "@bracket.ini"}, .want = "@bracket.ini:1"},
    {"missing disk of a configuration", {"--config", "@disk.ini"}, .want = "@no-such", .kvm = true},
    {"configuration of another user",
     {"--config", "@noread"},
     .want = "@noread",
     .root = true,
     .prepare = become_nobody},
};

/* Longer than the kernel takes, and longer than minivm has room for. */
static void long_command_lines(struct suite *s)
{
	const size_t longest = 100000;
	char *words = malloc(longest + 1);
	struct refusal r = {.args = {"--kernel", "@kernel", "--cmdline", words},
			    .want = "ommand line",
			    .kvm = true};

	if (!words)
		return;
	memset(words, 'a', longest);
	words[3000] = '\0';
	r.name = "command line that is too long for Linux";
	refuse(s, &r);
	words[3000] = 'a';
	words[longest] = '\0';
	r.name = "command line without end";
	refuse(s, &r);
	free(words);
}

void run_table(struct suite *s)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		refuse(s, &table[i]);
	long_command_lines(s);
}
