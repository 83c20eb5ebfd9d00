#!/bin/sh
# Installs the Debian packages that are missing. Usage: deps.sh build|demo|bench|test|lint|guest...
# Silent and quick when all are there. Needs root only if something must be installed.
set -eu
build="gcc make libc6-dev linux-libc-dev libinih-dev libjansson-dev libfdt-dev libmd-dev libzstd-dev liblzma-dev liblz4-dev zlib1g-dev"
demo="$build musl-tools busybox-static e2fsprogs cpio"
# For hosts without a usable /dev/kvm: the outer Linux under QEMU's emulation.
outer="qemu-system-x86 cpio busybox-static"
bench="$demo $outer"
# A Debian guest; every packing of a kernel.
guests="mmdebstrap fakeroot kmod xz-utils lz4 zstd bzip2 lzop"
test="$demo $outer $guests passt libcriterion-dev clang libclang-rt-14-dev acpica-tools device-tree-compiler"
lint="$build libcriterion-dev clang clang-format clang-tidy cppcheck"
guest="$build linux-source-6.1 flex bison bc libelf-dev libssl-dev xz-utils lz4 kmod cpio rsync"

want=
for set in "$@"; do
	case $set in
	build) want="$want $build" ;;
	demo) want="$want $demo" ;;
	outer) want="$want $outer" ;;
	bench) want="$want $bench" ;;
	test) want="$want $test" ;;
	lint) want="$want $lint" ;;
	guest) want="$want $guest" ;;
	*)
		echo "deps.sh: unknown set $set" >&2
		exit 2
		;;
	esac
done
missing=
for p in $want; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "minivm: these Debian packages are missing, and only root can install them:$missing" >&2
		exit 1
	}
	sudo=sudo
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
install() {
	# shellcheck disable=SC2086 # the list is meant to be split
	$sudo apt-get install -qq -y --no-install-recommends $missing >/tmp/minivm-apt.$$ 2>&1
}
if ! install; then
	# The package lists may be old or absent.
	if ! { $sudo apt-get update -qq >/dev/null 2>&1 && install; }; then
		tail -n 5 /tmp/minivm-apt.$$ >&2
		echo "minivm: apt-get could not install:$missing" >&2
		exit 1
	fi
fi
rm -f /tmp/minivm-apt.$$
