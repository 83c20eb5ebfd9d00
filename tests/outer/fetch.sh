#!/bin/sh
# Fetches what the outer Linux is made of into a directory: Debian's stock kernel with the modules
# it needs. The package is downloaded and unpacked, not installed: nothing outside DIR changes.
# Usage: fetch.sh DIR
set -eu
dir=$1
[ -e "$dir/vmlinuz" ] && [ -e "$dir/modules/kvm-amd.ko" ] && exit 0
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
dpkg-deb --fsys-tarfile "$tmp"/*.deb | tar -x -C "$tmp" --wildcards './boot/vmlinuz-*' \
	'*/irqbypass.ko' '*/ccp.ko' '*/kvm.ko' '*/kvm-amd.ko'
mkdir -p "$dir/modules"
find "$tmp" -name '*.ko' -exec cp {} "$dir/modules/" \;
cp "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
