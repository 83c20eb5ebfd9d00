#!/bin/sh
# Fetches what the outer Linux is made of into a directory: Debian's stock kernel with the modules
# it needs. The package is downloaded and unpacked, not installed: nothing outside DIR changes.
# Usage: fetch.sh DIR
set -eu
dir=$1
# KVM; a virtio disk with ext4 (run.sh -d)
modules="irqbypass ccp kvm kvm-amd virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev
	virtio_pci virtio_blk crc32c_generic crc16 mbcache jbd2 ext4"
complete() {
	[ -e "$dir/vmlinuz" ] || return 1
	for m in $modules; do
		[ -e "$dir/modules/$m.ko" ] || return 1
	done
}
complete && exit 0
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
pkg=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ -z "$pkg" ]; then
	echo "outer: apt knows no linux-image-amd64; run 'apt-get update' first" >&2
	exit 1
fi
# apt drops privileges for downloads and complains where its user cannot write: run it inside $tmp.
(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$pkg") || {
	echo "outer: cannot download $pkg from Debian's archive" >&2
	exit 1
}
names=
for m in $modules; do
	names="$names */$m.ko"
done
deb=$(echo "$tmp"/*.deb)
set -f # the patterns are tar's
# shellcheck disable=SC2086 # a list of words
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp" --wildcards './boot/vmlinuz-*' $names
set +f
mkdir -p "$dir/modules"
find "$tmp" -name '*.ko' -exec cp {} "$dir/modules/" \;
cp "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
complete
