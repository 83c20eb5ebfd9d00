#!/bin/sh
# Boots the embedded guest from a disk image: "demo" runs a few commands in it, "shell" gives a
# shell. The disk is used through a throw-away overlay, so nothing is left behind.
# Where /dev/kvm is missing or forbidden it says so and does the same inside the outer Linux of
# tests/outer, under QEMU's emulation.
# Usage: demo.sh demo|shell (from the top folder, after `make` and `make -C guest-images rootfs`)
set -u
mode=$1
# No double quote in these: they stand between two on the kernel's command line.
commands='echo; echo Hello from $(uname -sr), $(nproc) CPU, up for $(cut -d. -f1 /proc/uptime) s.'
commands="$commands; echo; mount | grep ' on / '; df -h /; echo; cat /proc/cmdline"
commands="$commands; echo; grep -E 'ttyS0|virtio' /proc/interrupts; echo; echo And off."
# 3: without what Linux says of a machine that has no PCI.
cmdline="quiet loglevel=3"
[ "$mode" = shell ] || cmdline="$cmdline minivm.sh=\"$commands\""

usable() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && build/minivm doctor >/dev/null 2>&1
}

if usable; then
	echo "minivm boots the embedded guest on /dev/kvm:"
	exec build/minivm --kernel guest-images/kernel/bzImage --memory 128M \
		--disk build/guest/root.img,overlay --cmdline "$cmdline"
fi

if [ -e /dev/kvm ]; then
	echo "/dev/kvm cannot be used here ('build/minivm doctor' says why)."
else
	echo "/dev/kvm is missing here ('build/minivm doctor' says more)."
fi
echo "So minivm boots the embedded guest inside an outer Linux with KVM, under QEMU's emulation:"
tests/deps.sh outer || exit 125
job=$(mktemp -d) || exit 125
trap 'rm -rf "$job"' EXIT
cp build/minivm guest-images/kernel/bzImage build/guest/root.img "$job/"
printf '%s\n' "$cmdline" >"$job/cmdline"
cat >"$job/run" <<'EOF'
exec ./minivm --kernel bzImage --memory 128M --disk root.img,overlay --cmdline "$(cat cmdline)"
EOF
if [ "$mode" = shell ]; then
	tests/outer/run.sh -i -t 86400 "$job"
else
	tests/outer/run.sh -t 120 "$job"
fi
