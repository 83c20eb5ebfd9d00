#!/bin/sh
# The bzImage with its vmlinux packed in each way that a kernel's build knows, by the commands of
# scripts/Makefile.lib: through a pipe, and with the size behind, which only gzip has in itself.
# Usage: pack.sh BZIMAGE VMLINUX REPACK DIR: makes DIR/bzImage.gzip and so on
set -eu
kernel=$1
vmlinux=$2
repack=$3
dir=$4
mkdir -p "$dir"
tmp=$(mktemp "$dir/packed.XXXXXX")
trap 'rm -f "$tmp"' EXIT

size_word() { # little-endian
	n=$(stat -c %s "$vmlinux")
	for _ in 1 2 3 4; do
		# shellcheck disable=SC2059 # an escape is made
		printf "\\$(printf %03o $((n & 255)))"
		n=$((n >> 8))
	done
}

pack() { # FORMAT COMMAND...
	format=$1
	shift
	"$@" <"$vmlinux" >"$tmp"
	[ "$format" = gzip ] || size_word >>"$tmp"
	"$repack" "$kernel" "$tmp" "$dir/bzImage.$format"
}

pack gzip gzip -n -9
pack xz xz --check=crc32 --x86 --lzma2=preset=6,dict=32MiB
pack lzma lzma -9
pack lz4 lz4 -l -9 - -
pack zstd zstd -q -22 --ultra
# These two minivm leaves to the guest.
pack bzip2 bzip2 -9
pack lzo lzop -9
