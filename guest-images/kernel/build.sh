#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT: build OUT/bzImage from Debian's kernel source and minivm_defconfig, the same bytes
# every time, and compare it with the bzImage that is kept beside this script.
set -eu

package=linux-source-6.1
pinned=6.1.192-2
tarball=/usr/src/$package.tar.xz
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$1" && pwd)
jobs=${JOBS:-$(nproc)}

installed=$(dpkg-query -W -f '${Version}' $package 2>/dev/null || true)
if [ -z "$installed" ] || [ ! -r $tarball ]; then
	echo "kernel: $package is not installed (apt-get install $package)" >&2
	exit 1
fi
if [ "$installed" != "$pinned" ]; then
	echo "kernel: $package is $installed here, but the kept kernel was built from $pinned:" \
		"expect another image" >&2
fi

src=$out/linux-$installed
if [ ! -e "$src/.unpacked" ]; then
	rm -rf "$src"
	mkdir -p "$src"
	tar -C "$src" --strip-components=1 -xf $tarball
	touch "$src/.unpacked"
fi

# All that would make two builds differ. The paths do not get in: there is no debug information.
export KBUILD_BUILD_TIMESTAMP="2024-01-01 00:00:00 UTC"
export KBUILD_BUILD_USER=minivm KBUILD_BUILD_HOST=minivm KBUILD_BUILD_VERSION=1
export LC_ALL=C TZ=UTC
unset LOCALVERSION KCFLAGS KCPPFLAGS KAFLAGS MAKEFLAGS MFLAGS MAKELEVEL || true

obj=$out/linux-build
mkdir -p "$obj"
# Start from the defconfig each time, but leave an unchanged .config alone for make's sake.
cp "$here/minivm_defconfig" "$obj/.config.new"
make -s -C "$src" O="$obj" KCONFIG_CONFIG=.config.new olddefconfig
if cmp -s "$obj/.config.new" "$obj/.config"; then
	rm "$obj/.config.new"
else
	mv "$obj/.config.new" "$obj/.config"
fi
rm -f "$obj/.config.new.old"
if [ -e "$here/config" ] && ! cmp -s "$obj/.config" "$here/config"; then
	echo "kernel: the configuration differs from the kept one:" >&2
	diff "$here/config" "$obj/.config" | sed 's/^/    /' >&2 || true
fi
nice make -s -C "$src" O="$obj" -j"$jobs" bzImage
cp "$obj/arch/x86/boot/bzImage" "$out/bzImage"
cp "$obj/vmlinux" "$obj/System.map" "$out/"
cp "$obj/.config" "$out/config"

if [ -e "$here/bzImage" ] && cmp -s "$out/bzImage" "$here/bzImage"; then
	echo "kernel: $out/bzImage is the same as guest-images/kernel/bzImage"
else
	echo "kernel: $out/bzImage differs from guest-images/kernel/bzImage" \
		"(kernel-install would put it there)"
fi
