#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh OUT: boot the kept kernel (or KERNEL=) with OUT's root image and initrd under QEMU's TCG
# and look at what init does. QEMU's isa-debug-exit stands for minivm's exit port: written n, QEMU
# ends with 2 n + 1 (one byte); a reset ends it with 0.
set -u

out=$1
here=$(cd "$(dirname "$0")" && pwd)
kernel=${KERNEL:-$here/../kernel/bzImage}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

for tool in qemu-system-x86_64 musl-gcc; do
	command -v $tool >/dev/null || {
		echo "check: $tool is missing" >&2
		exit 1
	}
done

# boot SERIAL ROOT WORDS...: ROOT is ro or rw for the disk, or initrd.
boot() {
	serial=$1 root=$2
	shift 2
	words="console=ttyS0 quiet reboot=t panic=-1"
	case $root in
	initrd) set -- -initrd "$work/initrd" -append "$words $*" ;;
	*) set -- -append "$words root=/dev/vda $root $*" \
		-drive "id=disk,file=$out/root.img,format=raw,if=none,snapshot=on" \
		-device virtio-blk-device,drive=disk ;;
	esac
	timeout 60 qemu-system-x86_64 -M microvm,acpi=off -accel tcg -cpu max -smp "${CPUS:-1}" \
		-m 128 -nodefaults -no-user-config -no-reboot -display none -serial "$serial" \
		-kernel "$kernel" -device isa-debug-exit,iobase=0xf4,iosize=1 "$@"
}

# judge NAME GOT WANT TEXT: TEXT, a regular expression, must be on the console.
judge() {
	if [ "$2" = "$3" ] && grep -q -e "$4" "$work/console"; then
		passed=$((passed + 1))
		return
	fi
	failed=$((failed + 1))
	echo "check: $1: QEMU ended with $2, expected $3, and \"$4\" on the console:" >&2
	tail -n 15 "$work/console" | sed 's/^/    /' >&2
}

# expect NAME QEMU-STATUS TEXT ROOT WORDS...
expect() {
	name=$1 want=$2 text=$3
	shift 3
	: >"$work/console"
	boot "file:$work/console" "$@" </dev/null
	judge "$name" $? "$want" "$text"
}

exits() {
	echo $(((2 * $1 + 1) % 256))
}
reset=0

mkdir -p "$work/tree"
musl-gcc -Os -static -o "$work/tree/dsrlow" "$here/dsrlow.c" || exit 1
"$out/mkcpio" "$work/tree" >"$work/extra.cpio" || exit 1
cat "$out/initrd.cpio" "$work/extra.cpio" >"$work/initrd"

expect "status" "$(exits 7)" "^hello" ro 'minivm.sh="echo hello; exit 7"'
expect "signal" "$(exits 137)" "" ro 'minivm.sh="kill -9 $$"'
expect "not found" "$(exits 127)" "^init: /nowhere: No such file" ro minivm.exec=/nowhere
expect "not executable" "$(exits 126)" "^init: /etc/passwd: Permission denied" ro minivm.exec=/etc/passwd
expect "arguments" "$(exits 0)" "^a b c" initrd -- echo '"a b"' c
expect "quoted arguments" "$(exits 3)" "^x y" initrd -- sh -c '"echo x y; exit 3"'
expect "exec and arguments" "$(exits 0)" "^one two" initrd minivm.exec=/bin/echo -- one two
expect "environment" "$(exits 0)" "^blue /root root:0" ro COLOUR=blue \
	'minivm.sh="echo $COLOUR $HOME $(id -un):$(id -u)"'
expect "bad word" "$(exits 0)" "^init: minivm.grace:" ro minivm.grace=never minivm.exec=/bin/true
expect "terminal" "$(exits 0)" "^/dev/ttyS0" ro 'minivm.sh="tty; echo >/dev/tty"'
expect "mounts" "$(exits 0)" "^all there" ro \
	'minivm.sh="for d in /proc /sys /dev /dev/pts /dev/shm /run /tmp /sys/fs/cgroup; do grep -q [[:space:]]$d[[:space:]] /proc/mounts || exit 1; done; echo all there"'
expect "host name, loopback" "$(exits 0)" "^box" ro minivm.hostname=box \
	'minivm.sh="hostname; ping -c1 127.0.0.1"'
expect "writable root" "$(exits 0)" "^text" rw 'minivm.sh="echo text >/root/f; sync; cat /root/f; ! grep [[:space:]]/tmp[[:space:]] /proc/mounts"'
expect "orphans" "$(exits 0)" "^zombies 0" ro \
	'minivm.sh="for i in 1 2 3; do (sleep 0.1 &); done; sleep 1; echo zombies $(ps -o stat | grep -c ^Z)"'
expect "poweroff" "$(exits 0)" "" ro 'minivm.sh="poweroff; sleep 30"'
expect "halt" "$(exits 0)" "" rw 'minivm.sh="halt; sleep 30"'
expect "reboot" $reset "" rw 'minivm.sh="reboot; sleep 30"'
expect "panic" $reset "" ro 'minivm.sh="echo c >/proc/sysrq-trigger"'
expect "stubborn process" "$(exits 0)" "" ro minivm.grace=1 'minivm.sh="trap : TERM HUP; poweroff; while :; do sleep 1; done"'
expect "initrd" "$(exits 4)" "^rootfs" initrd 'minivm.sh="grep -o ^rootfs /proc/mounts; exit 4"'
CPUS=2 expect "two CPUs" "$(exits 2)" "" ro 'minivm.sh="exit $(grep -c ^processor /proc/cpuinfo)"'
expect "DSR goes low" "$(exits 9)" "" initrd minivm.exec=/dsrlow

# A person at the console: type when the prompt is there.
: >"$work/console"
mkfifo "$work/in"
(
	exec >"$work/in"
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		sleep 1
		grep -q '[#$] $' "$work/console" && break
	done
	printf 'echo typed $((6 * 7))\nexit 5\n'
) &
boot stdio ro <"$work/in" >"$work/console" 2>&1
judge "shell" $? "$(exits 5)" "^typed 42"
wait

echo "$passed passed, $failed failed"
[ $failed = 0 ]
