#!/bin/sh
# One of Debian's stock kernels as its package ships it, and an initrd with busybox and the modules
# that a virtual machine needs. The package is downloaded and unpacked, not installed.
# Usage: fetch.sh DIR cloud|generic: makes DIR/vmlinuz and DIR/initrd
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
case $2 in
cloud) meta=linux-image-cloud-amd64 ;;
generic) meta=linux-image-amd64 ;;
*)
	echo "fetch.sh: no flavour $2" >&2
	exit 2
	;;
esac
# With what they need, in an order in which they load. ext4 asks for crc32c by its name only.
modules="virtio_mmio virtio_blk crc32c_generic ext4 evdev button pvpanic-mmio"

newer() { # FILE THAN
	[ -n "$(find "$1" -newer "$2" 2>/dev/null)" ]
}
[ -e "$dir/vmlinuz" ] && newer "$dir/initrd" "$here/init" && newer "$dir/initrd" "$0" && exit 0

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
"$here/../../lib/debian-kernel.sh" $meta "$tmp"

root=$tmp/root
mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/root"
version=$(ls "$tmp/lib/modules")
# depmod writes modules.dep, which the package's own scripts would.
PATH=$PATH:/sbin:/usr/sbin
depmod -b "$tmp" "$version" 2>/dev/null
# shellcheck disable=SC2086 # a list of words
modprobe -d "$tmp" -S "$version" -a --show-depends $modules >"$tmp/order" || {
	echo "fetch.sh: $meta lacks a module of: $modules" >&2
	exit 1
}
n=10
seen=
while read -r word path _; do
	case "$word $seen " in
	builtin* | *" $path "*) continue ;;
	esac
	# One more for crc32c, which loads only where the processor has the instruction.
	[ "${path##*/}" != crc32c-intel.ko ] || continue
	seen="$seen $path"
	cp "$path" "$root/modules/$n-${path##*/}"
	n=$((n + 1))
done <"$tmp/order"

cp /bin/busybox "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp "$here/init" "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | sort | cpio -o -H newc --quiet) >"$dir/initrd"
mv "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
touch "$dir/initrd"
