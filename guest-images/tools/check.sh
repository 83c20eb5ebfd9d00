#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh OUT: boot the kept kernel with OUT's root image and initrd under QEMU's TCG and look at
# what init answers. QEMU's isa-debug-exit stands for minivm's exit port: its status is 2 n + 1.
set -u

out=$1
here=$(cd "$(dirname "$0")" && pwd)
kernel=${KERNEL:-$here/../kernel/bzImage}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

command -v qemu-system-x86_64 >/dev/null || {
	echo "check: qemu-system-x86_64 is missing" >&2
	exit 1
}

# boot MACHINE ROOT WORDS...: prints to $work/console, returns QEMU's status.
boot() {
	machine=$1 root=$2
	shift 2
	case $root in
	initrd) set -- -initrd "$out/initrd.cpio" -append "console=ttyS0 quiet reboot=t panic=-1 $*" ;;
	*) set -- -append "console=ttyS0 quiet root=/dev/vda $root reboot=t panic=-1 $*" \
		-drive "id=disk,file=$out/root.img,format=raw,if=none,snapshot=on" \
		-device virtio-blk-device,drive=disk ;;
	esac
	timeout 60 qemu-system-x86_64 -M "microvm,$machine" -accel tcg -cpu max -smp "${CPUS:-1}" \
		-m 128 -nodefaults -no-user-config -no-reboot -display none \
		-serial "file:$work/console" -kernel "$kernel" \
		-device isa-debug-exit,iobase=0xf4,iosize=1 "$@" </dev/null
}

# expect NAME QEMU-STATUS TEXT MACHINE ROOT WORDS...: TEXT must be on the console.
expect() {
	name=$1 want=$2 text=$3
	shift 3
	: >"$work/console"
	boot "$@"
	got=$?
	if [ "$got" = "$want" ] && grep -q -e "$text" "$work/console"; then
		passed=$((passed + 1))
		return
	fi
	failed=$((failed + 1))
	echo "check: $name: QEMU ended with $got, expected $want, and \"$text\" on the console:" >&2
	tail -n 15 "$work/console" | sed 's/^/    /' >&2
}

status() {
	echo $(((2 * $1 + 1) % 256))
}

expect "status of a command" "$(status 7)" "^hello" acpi=off ro 'minivm.sh="echo hello; exit 7"'
expect "status by signal" "$(status 137)" "" acpi=off ro 'minivm.sh="kill -9 $$"'
expect "not found" "$(status 127)" "nowhere" acpi=off ro minivm.exec=/nowhere
expect "not executable" "$(status 126)" "passwd" acpi=off ro minivm.exec=/etc/passwd
echo "$passed passed, $failed failed"
[ $failed = 0 ]
