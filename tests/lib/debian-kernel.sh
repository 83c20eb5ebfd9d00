#!/bin/sh
# Downloads a kernel package of Debian's and unpacks its kernel and modules; nothing is installed.
# Usage: debian-kernel.sh METAPACKAGE DIR: makes DIR/boot/vmlinuz-VERSION and DIR/lib/modules/VERSION;
# DIR is there and empty
set -eu
meta=$1
dir=$2
fail() {
	echo "$meta: $*" >&2
	exit 1
}
pkg=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' |
	head -n 1)
[ -n "$pkg" ] || fail "apt does not know it; run 'apt-get update' first"
# apt drops privileges for downloads and complains where its user cannot write: run it inside DIR.
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$pkg") ||
	fail "cannot download $pkg from Debian's archive"
dpkg-deb --fsys-tarfile "$dir"/*.deb |
	tar -x -C "$dir" --wildcards './boot/vmlinuz-*' './lib/modules/*' ||
	fail "cannot unpack $pkg"
rm -f "$dir"/*.deb
