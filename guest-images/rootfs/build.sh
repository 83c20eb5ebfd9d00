#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT INIT MKCPIO: make OUT/root.img (ext4) and OUT/initrd.cpio, both without root.
# The same input gives the same bytes: fixed times, UUID and directory hash seed.
set -eu

out=$1 init=$2 mkcpio=$3
here=$(dirname "$0")
tree=$out/tree
image=$out/root.img
size=${ROOT_SIZE:-48M}
epoch=1704067200 # 2024-01-01
PATH=$PATH:/sbin:/usr/sbin
umask 022

busybox=${BUSYBOX:-/bin/busybox}
if ! "$busybox" --list-full >/dev/null 2>&1 ||
	[ "$(dpkg-query -W -f '${Status}' busybox-static 2>/dev/null)" != "install ok installed" ]; then
	echo "rootfs: install busybox-static (or name a static busybox in BUSYBOX=)" >&2
	exit 1
fi

rm -rf "$tree"
for d in bin dev etc home mnt opt proc root run sbin srv sys tmp usr/bin usr/lib usr/local/bin \
	usr/sbin usr/share var/log var/tmp; do
	mkdir -p "$tree/$d"
done
chmod 1777 "$tree/tmp" "$tree/var/tmp"
chmod 700 "$tree/root"
ln -s ../run "$tree/var/run"

cp "$here"/etc/* "$tree/etc/"
chmod 644 "$tree"/etc/*
ln -s /proc/self/mounts "$tree/etc/mtab"
mkdir "$tree/etc/udhcpc"
install -m 755 "$here/udhcpc.script" "$tree/etc/udhcpc/default.script"
# The kernel's ip= leaves its name servers there; udhcpc writes a file instead.
ln -s /proc/net/pnp "$tree/etc/resolv.conf"

install -m 755 "$busybox" "$tree/bin/busybox"
"$busybox" --list-full | while read -r applet; do
	case $applet in
	*/init | init | linuxrc | bin/busybox) continue ;;
	esac
	ln -s /bin/busybox "$tree/$applet"
done
install -m 755 "$init" "$tree/sbin/init"
ln -s sbin/init "$tree/init"

SOURCE_DATE_EPOCH=$epoch "$mkcpio" "$tree" >"$out/initrd.cpio.tmp"
mv "$out/initrd.cpio.tmp" "$out/initrd.cpio"

# No metadata checksums and no lazy initialisation: the guest would pay for both at its first mount.
rm -f "$image.tmp"
E2FSPROGS_FAKE_TIME=$epoch mke2fs -q -F -t ext4 -b 4096 -m 0 -L minivm-root \
	-O ^metadata_csum,^64bit,^orphan_file -J size=4 \
	-U 6d696e69-766d-4000-8000-726f6f740001 \
	-E hash_seed=6d696e69-766d-4000-8000-726f6f740002,root_owner=0:0,assume_storage_prezeroed=1 \
	-d "$tree" "$image.tmp" "$size" >"$out/mke2fs.log"

# mke2fs copies owners and change times from the tree: put them right in the image.
(cd "$tree" && find . -mindepth 1 | LC_ALL=C sort) | sed 's|^\.||' | while read -r path; do
	for field in "uid 0" "gid 0" "atime @$epoch" "ctime @$epoch" "mtime @$epoch" \
		"crtime @$epoch"; do
		echo "set_inode_field \"$path\" $field"
	done
done >"$out/debugfs.cmd"
for inode in "<2>" "<11>"; do
	for field in atime ctime mtime crtime; do
		echo "set_inode_field $inode $field @$epoch"
	done
done >>"$out/debugfs.cmd"
E2FSPROGS_FAKE_TIME=$epoch debugfs -w -f "$out/debugfs.cmd" "$image.tmp" >"$out/debugfs.log" 2>&1
if grep -v '^debugfs: *set_inode_field' "$out/debugfs.log" | grep -v '^debugfs 1' | grep .; then
	echo "rootfs: debugfs could not set owners and times" >&2
	exit 1
fi
e2fsck -fn "$image.tmp" >"$out/e2fsck.log" 2>&1 || {
	cat "$out/e2fsck.log" >&2
	exit 1
}
mv "$image.tmp" "$image"
