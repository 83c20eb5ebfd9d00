#!/bin/sh
# Debian's stock cloud kernel as its package ships it, and an initrd with busybox and the modules that
# a virtual machine needs. The package is downloaded and unpacked, not installed.
# Usage: fetch.sh DIR: makes DIR/vmlinuz and DIR/initrd
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
[ -e "$dir/vmlinuz" ] && [ -n "$(find "$dir/initrd" -newer "$here/init" 2>/dev/null)" ] && exit 0
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

fail() {
	echo "debian: $*" >&2
	exit 1
}
pkg=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
	sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$pkg" ] || fail "apt knows no linux-image-cloud-amd64; run 'apt-get update' first"
# apt drops privileges for downloads and complains where its user cannot write: run it inside $tmp.
(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$pkg") ||
	fail "cannot download $pkg from Debian's archive"
root=$tmp/root
mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev"
# In the order in which init loads them.
modules="virtio_ring virtio virtio_mmio virtio_blk evdev button pvpanic pvpanic-mmio"
dpkg-deb --fsys-tarfile "$tmp"/*.deb | tar -x -C "$tmp" --wildcards './boot/vmlinuz-*' '*.ko'
n=0
for m in $modules; do
	n=$((n + 1))
	find "$tmp/lib" -name "$m.ko" -exec cp {} "$root/modules/$n-$m.ko" \;
	[ -e "$root/modules/$n-$m.ko" ] || fail "$pkg has no $m.ko"
done
cp /bin/busybox "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp "$here/init" "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$dir/initrd"
mv "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
