#!/bin/sh
# Fetches what the outer Linux is made of into a directory: Debian's stock kernel with the modules
# it needs. The package is downloaded and unpacked, not installed: nothing outside DIR changes.
# Usage: fetch.sh DIR
set -eu
here=$(dirname "$0")
dir=$1
# KVM; a virtio disk with ext4 (run.sh -d); taps
modules="irqbypass ccp kvm kvm-amd virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev
	virtio_pci virtio_blk crc32c_generic crc16 mbcache jbd2 ext4 tun"
complete() {
	[ -e "$dir/vmlinuz" ] || return 1
	for m in $modules; do
		[ -e "$dir/modules/$m.ko" ] || return 1
	done
}
complete && exit 0
mkdir -p "$dir/modules"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
"$here/../lib/debian-kernel.sh" linux-image-amd64 "$tmp"
for m in $modules; do
	find "$tmp/lib" -name "$m.ko" -exec cp {} "$dir/modules/" \;
done
cp "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
complete
