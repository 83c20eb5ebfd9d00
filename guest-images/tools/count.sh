#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# count.sh [-n CPUS] [-m MIB] [-d DISK] [-M MACHINE-OPTIONS] VMLINUX SYSTEM_MAP WORDS...
# Boot VMLINUX under QEMU's TCG with one virtio-mmio disk whose /sbin/init is tinyinit, and count
# the kernel's instructions from its entry to init. ROWS= functions are listed,
# and MARKS= steps of the initialisation; SHOW=1 prints the console; UNTIL=exit counts to the end of
# the machine; STATUS= is the status that ends it in good order.
set -eu

cpus=1 mib=128 disk= machine=acpi=off
while getopts n:m:d:M: option; do
	case $option in
	n) cpus=$OPTARG ;;
	m) mib=$OPTARG ;;
	d) disk=$OPTARG ;;
	M) machine=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
vmlinux=$1 map=$2
shift 2

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:/sbin:/usr/sbin
gcc -std=gnu17 -O2 -fPIC -shared -o "$work/insncount.so" "$here/insncount.c"
if [ -z "$disk" ]; then
	mkdir -p "$work/tree/sbin" "$work/tree/dev" "$work/tree/proc"
	gcc -O2 -static -nostdlib -fno-stack-protector -fno-pie -no-pie -Wl,-z,noseparate-code \
		-o "$work/tree/sbin/init" "$here/tinyinit.c"
	disk=$work/disk
	mke2fs -q -F -t ext4 -b 4096 -O ^metadata_csum,^64bit -J size=4 \
		-E assume_storage_prezeroed=1 -d "$work/tree" "$disk" 48M >"$work/mke2fs.log"
fi

marks=
if [ -n "${MARKS:-}" ]; then # all of the kernel's initialisation functions
	awk '$3 == "_sinittext" { on = 1 } $3 == "_einittext" { exit } on && $2 ~ /[tT]/ { print $1 }' \
		"$map" >"$work/marks"
	marks=,marks=$work/marks
fi
code=0
timeout "${LIMIT:-120}" qemu-system-x86_64 -M "microvm,$machine" -accel tcg -cpu max \
	-smp "$cpus" -m "$mib" -nodefaults -no-user-config -no-reboot -display none \
	-serial "file:$work/console" -kernel "$vmlinux" \
	-append "console=ttyS0 root=/dev/vda $*" \
	-drive "id=disk,file=$disk,format=raw,if=none,snapshot=on" \
	-device virtio-blk-device,drive=disk -device isa-debug-exit,iobase=0xf4,iosize=1 \
	-plugin "$work/insncount.so,out=$work/counts$marks${UNTIL:+,until=$UNTIL}" || code=$?
[ -z "${SHOW:-}" ] || cat "$work/console"
if [ "$code" != $((${STATUS:-0} * 2 + 1)) ]; then # what isa-debug-exit makes of it
	tail -n 20 "$work/console"
	echo "count.sh: the guest did not reach init (QEMU: $code)" >&2
	exit 1
fi
python3 "$here/insnreport.py" "$work/counts" "$map" "${ROWS:-0}"
[ -z "${MARKS:-}" ] || python3 "$here/insnmarks.py" "$work/counts.marks" "$map" "$MARKS"
