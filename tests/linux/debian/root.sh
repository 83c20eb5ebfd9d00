#!/bin/sh
# A Debian root image as a user makes it (docs/debian-guest.md): the packages that a machine with a
# login prompt needs, in an ext4 image. root logs in without a password.
# Usage: root.sh IMAGE
set -eu
image=$1
here=$(cd "$(dirname "$0")" && pwd)
[ -n "$(find "$image" -newer "$here/root.sh" 2>/dev/null)" ] && exit 0
mkdir -p "$(dirname "$image")"
tmp=$(mktemp -d "$(dirname "$image")/root.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
# shellcheck disable=SC2016 # for mmdebstrap's own shell
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,dbus,libpam-systemd,login \
	--customize-hook='chroot "$1" passwd -d root' \
	--customize-hook='echo debian >"$1/etc/hostname"' \
	--customize-hook='rm -rf "$1"/usr/share/doc "$1"/usr/share/locale' \
	bookworm "$tmp/root.tar" >&2
mkdir "$tmp/root"
# Without root's rights the files get their owners by fakeroot.
# shellcheck disable=SC2016
fakeroot sh -c 'tar -xf "$1/root.tar" -C "$1/root" && PATH=$PATH:/sbin mke2fs -q -t ext4 -d "$1/root" "$1/image" 512M' \
	sh "$tmp" >/dev/null
mv "$tmp/image" "$image"
