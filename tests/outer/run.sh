#!/bin/sh
# Runs a job inside an outer Linux that has ordinary KVM (AMD SVM), under QEMU's software emulation:
# the way to run minivm on a machine without /dev/kvm, and the ordinary host that tests run on.
#
# Usage: run.sh [-t SECONDS] [-m MIB] [-c CPUS] [-k WORDS] [-i] [-d IMAGE] DIR
#	DIR is copied into the machine as /job and `sh /job/run` is run there. Its output is ours, so
#	is its exit status (255: the machine did not come up or ran out of time).
#	-i: interactive, the terminal is passed through.
#	-k: WORDS for its kernel's command line.
#	-d: IMAGE, an ext4 file system for what is large, is mounted on /disk; what is written there is
#	thrown away.
# OUTER=DIR (default build/outer): where the Debian kernel is kept.
set -u
here=$(dirname "$0")
limit=600
mem=1536
cpus=2
words=
interactive=0
disk=
while getopts t:m:c:k:id: opt; do
	case $opt in
	t) limit=$OPTARG ;;
	m) mem=$OPTARG ;;
	c) cpus=$OPTARG ;;
	k) words=$OPTARG ;;
	i) interactive=1 ;;
	d) disk=$OPTARG ;;
	*) exit 255 ;;
	esac
done
shift $((OPTIND - 1))
job=$1
outer=${OUTER:-build/outer}

for tool in qemu-system-x86_64 cpio; do
	command -v $tool >/dev/null || {
		echo "outer: $tool is missing; 'make deps' installs it" >&2
		exit 255
	}
done
"$here/fetch.sh" "$outer" || exit 255

tmp=$(mktemp -d) || exit 255
trap 'rm -rf "$tmp"' EXIT
trap 'exit 255' INT TERM HUP
mkdir -p "$tmp/root/bin" "$tmp/root/sbin" "$tmp/root/usr/bin" "$tmp/root/usr/sbin" "$tmp/root/proc" \
	"$tmp/root/sys" "$tmp/root/dev" "$tmp/root/modules" "$tmp/root/etc"
cp /bin/busybox "$tmp/root/bin/busybox"
ln -s busybox "$tmp/root/bin/sh"
cp "$outer"/modules/*.ko "$tmp/root/modules/"
cp "$here/init" "$tmp/root/init"
cc -O1 -static -o "$tmp/root/sbin/kvm-hold" "$here/hold.c" || exit 255
chmod +x "$tmp/root/init"
echo 'root:x:0:0:root:/root:/bin/sh' >"$tmp/root/etc/passwd"
echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >>"$tmp/root/etc/passwd"
ln -s "$(cd "$job" && pwd)" "$tmp/root/job"
(cd "$tmp/root" && find . -follow | cpio -o -H newc -L --quiet) >"$tmp/initrd" || exit 255
: >"$tmp/status"

set --
[ -z "$disk" ] || set -- -drive "file=$disk,format=raw,if=virtio,snapshot=on"

# Not interactive: no input, and lines end as the job wrote them.
[ $interactive = 1 ] || exec </dev/null
# -cpu: svm makes /dev/kvm inside work. Without xsave: QEMU 7.2 does not intercept XSETBV, so that
# KVM inside misses its guest's XCR0 and every guest kernel warns; so without what needs it, which
# stock kernels' modules (aesni_intel) take for granted once they see it. A Zen 2 family and model: as the
# default model of 2003 the guest would apply that processor's errata.
# tsc=, hpet=: reading the HPET takes QEMU's big lock, and on a busy host its timer interrupts alone
# can keep the machine from getting anywhere.
# It ends when the job has (isa-debug-exit), when the kernel panics (-no-reboot), or at the limit.
no_xsave=-xsave,-avx,-avx2,-f16c,-fma,-vaes,-vpclmulqdq,-pku,-mpx
timeout --foreground -k 5 "$limit" qemu-system-x86_64 -nodefaults -no-user-config -display none \
	-accel tcg,thread=multi -cpu max,+svm,$no_xsave,family=23,model=49,stepping=0 -smp $cpus -m "$mem" -no-reboot \
	-chardev stdio,id=con,signal=off -serial chardev:con -serial "file:$tmp/status" \
	-device isa-debug-exit,iobase=0x501,iosize=1 "$@" \
	-kernel "$outer/vmlinuz" -initrd "$tmp/initrd" \
	-append "console=ttyS0 quiet loglevel=1 tsc=reliable hpet=disable panic=-1 rdinit=/init mitigations=off nokaslr $words TERM=${TERM:-linux} outer.interactive=$interactive outer.disk=${disk:+1}" \
	2>"$tmp/qemu.log"
rc=$?
status=$(sed -n 's/^status \([0-9]*\).*/\1/p' "$tmp/status" | tail -n 1)
[ -n "$status" ] && exit "$status"
if [ $rc = 124 ]; then
	echo "outer: stopped after the time limit of $limit s" >&2
else
	echo "outer: QEMU ended with $rc before the job did" >&2
	cat "$tmp/qemu.log" >&2
fi
exit 255
