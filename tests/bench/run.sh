#!/bin/bash
# Runs the benchmarks: on this machine's /dev/kvm where it can be used, else inside the outer Linux
# (tests/outer), where KVM is emulated and only ratios and counts mean something.
# Usage: run.sh [-w here|outer] [ROUNDS [OPTION...]] (from the top folder, after
# `make bench-build rootfs`)
#	-w: on which of the two, whatever this machine has
#	OPTION...: of build/bench, such as --only memory
set -u
cd "$(dirname "$0")/../.." || exit 1
where=
while getopts w: opt; do
	case $opt in
	w) where=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
rounds=${1:-}
[ $# = 0 ] || shift
files="build/minivm build/bench build/floor build/floor-restore build/bench-first.elf build/guest/round_trip.elf build/guest/net_rate.elf
	guest-images/kernel/bzImage build/guest/vmlinux build/guest/root.img"

direct() {
	local work
	work=$(mktemp -d "${TMPDIR:-/var/tmp}/minivm-bench.XXXXXX") || exit 1
	# shellcheck disable=SC2064 # now
	trap "rm -rf '$work'" EXIT
	set -- "$@" --minivm build/minivm --floor build/floor --floor-restore build/floor-restore \
		--first build/bench-first.elf \
		--exits build/guest/round_trip.elf --net-rate build/guest/net_rate.elf --bzimage guest-images/kernel/bzImage \
		--vmlinux build/guest/vmlinux --root build/guest/root.img --work "$work" \
		--rounds "${rounds:-20}" --json build/bench.json
	command -v qemu-system-x86_64 >/dev/null && set -- "$@" --qemu "$(command -v qemu-system-x86_64)"
	command -v lkvm >/dev/null && set -- "$@" --kvmtool "$(command -v lkvm)"
	command -v firecracker >/dev/null && set -- "$@" --firecracker "$(command -v firecracker)"
	build/bench "$@" --host "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), "
}
# A program with its libraries, each at its own path below DIR, so that the loader finds them there
# with as many system calls as on this machine.
copy_program() { # DIR PROGRAM
	local file
	for file in "$2" $(ldd "$2" | grep -o '/[^ ]*'); do
		mkdir -p "$1$(dirname "$file")"
		cp -L "$file" "$1$file"
	done
}

# The disk that the outer machine gets: all files, and the rivals in rivals/.
make_disk() { # IMAGE
	local dir=$1.dir rival
	rm -rf "$dir"
	mkdir -p "$dir/work" "$dir/rivals/etc"
	# shellcheck disable=SC2086 # a list of words
	cp $files "$dir/"
	cp /etc/ld.so.cache "$dir/rivals/etc/"
	for rival in qemu-system-x86_64 lkvm firecracker; do
		command -v $rival >/dev/null && copy_program "$dir/rivals" "$(command -v $rival)"
	done
	mkdir -p "$dir/rivals/usr/share/qemu"
	cp /usr/share/qemu/qboot.rom /usr/share/qemu/*microvm* /usr/share/qemu/pvh.bin /usr/share/qemu/linuxboot*.bin \
		/usr/share/qemu/kvmvapic.bin "$dir/rivals/usr/share/qemu/" 2>/dev/null
	rm -f "$1"
	truncate -s 1G "$1"
	mke2fs -q -F -t ext4 -d "$dir" "$1" && rm -rf "$dir"
}

outer() {
	local job=build/bench-job disk=build/bench-disk.img
	mkdir -p $job
	make_disk $disk || exit 1
	cat >$job/run <<EOF
cp -r /disk/rivals/etc/ld.so.cache /etc/
for d in usr lib lib64; do
	[ -d /disk/rivals/\$d ] && (cd /disk/rivals && find \$d -type d) | (cd / && xargs mkdir -p)
	[ -d /disk/rivals/\$d ] && (cd /disk/rivals && find \$d -type f) | while read -r f; do
		ln -sf /disk/rivals/\$f /\$f
	done
done
set -- $* --minivm ./minivm --floor ./floor --floor-restore ./floor-restore --first bench-first.elf --exits round_trip.elf \\
	--net-rate net_rate.elf \\
	--bzimage bzImage --vmlinux vmlinux --root root.img --work work --rounds ${rounds:-7}
for r in qemu:qemu-system-x86_64 kvmtool:lkvm firecracker:firecracker; do
	p=\$(command -v \${r#*:}) && set -- "\$@" --\${r%:*} \$p
done
cd /disk
./bench "\$@" --json /tmp/json --emulated --host "outer Linux under QEMU's emulation, "
rc=\$?
echo @@json
cat /tmp/json
exit \$rc
EOF
	tests/outer/run.sh -t 1200 -m 1536 -d $disk $job >build/bench.log 2>&1
	local rc=$?
	rm -f $disk
	sed '/^@@json/,$d' build/bench.log
	sed '1,/^@@json/d' build/bench.log >build/bench.json
	return $rc
}

if [ -z "$where" ]; then
	where=outer
	build/minivm doctor >/dev/null 2>&1 && where=here
fi
if [ "$where" = here ]; then
	direct "$@"
else
	echo "measuring inside an outer Linux under QEMU's emulation"
	outer "$@"
fi
rc=$?
[ $rc = 0 ] && echo "the same as JSON: build/bench.json"
exit $rc
