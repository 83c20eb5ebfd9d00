#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh OUT: keep the kernel that build.sh made in OUT: bzImage, config, VERSION, SHA256SUMS.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$1
limit=$((6 * 1024 * 1024))

size=$(stat -c %s "$out/bzImage")
if [ "$size" -gt $limit ]; then
	echo "kernel: bzImage has $size bytes, more than the limit of $limit" >&2
	exit 1
fi
cp "$out/bzImage" "$out/config" "$here/"
{
	echo "source package: linux-source-6.1 $(dpkg-query -W -f '${Version}' linux-source-6.1) (Debian 12), unpatched"
	echo "source archive: linux-source-6.1.tar.xz sha256 $(sha256sum /usr/src/linux-source-6.1.tar.xz | cut -d' ' -f1)"
	echo "configuration:  minivm_defconfig, resolved in config"
	echo "compiler:       $(gcc --version | head -n 1)"
	echo "binutils:       $(ld --version | head -n 1)"
	echo "how built:      make guest, that is guest-images/kernel/build.sh"
} >"$here/VERSION"
cd "$here"
sha256sum bzImage config minivm_defconfig >SHA256SUMS
