#!/bin/sh
# The device tree through the device tree compiler: it must take the blob apart and find nothing to
# complain of, and put it together again to the same tree. fdtdump, which has a reader of its own, must
# find all processors and devices.
# Usage: check.sh FDT-DUMP
set -u
dump=$1
passed=0 failed=0
for tool in dtc fdtdump; do
	command -v $tool >/dev/null || {
		echo "skip - device tree: $tool is missing (apt-get install device-tree-compiler)"
		echo "0 passed, 0 failed, 1 skipped"
		exit 0
	}
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

verdict() { # NAME LOG: the last command's status decides
	if [ $? = 0 ]; then
		echo "ok - $1"
		passed=$((passed + 1))
	else
		echo "not ok - $1"
		sed 's/^/# /' "$2" | head -n 40
		failed=$((failed + 1))
	fi
}

silent() { # LOG COMMAND...: succeeds and says nothing on standard error
	log=$1
	shift
	"$@" 2>"$log" && [ ! -s "$log" ]
}

count() { # PATTERN: lines of the dump that begin with it
	grep -c "^ *$1" "$tmp/dump"
}

for machine in "1 0" "2 1" "2 8" "32 0" "32 18" "32 24"; do
	cpus=${machine% *} devices=${machine#* }
	name="device tree of a machine with $cpus processors and $devices devices"
	# shellcheck disable=SC2086 # two words
	"$dump" "$tmp/tree" $machine || exit 1
	silent "$tmp/log" dtc -I dtb -O dts -o "$tmp/dts" "$tmp/tree"
	verdict "$name: dtc has no complaint" "$tmp/log"
	dtc -q -I dts -O dtb -o "$tmp/again" "$tmp/dts" 2>"$tmp/log" &&
		dtc -q -s -I dtb -O dts "$tmp/tree" >"$tmp/was" &&
		dtc -q -s -I dtb -O dts "$tmp/again" >"$tmp/is" && cmp "$tmp/was" "$tmp/is" >"$tmp/log"
	verdict "$name: compiled anew it is the same" "$tmp/log"
	fdtdump "$tmp/tree" >"$tmp/dump" 2>"$tmp/log" && [ "$(count 'cpu@')" = "$cpus" ] &&
		[ "$(count 'virtio@')" = "$devices" ] && [ "$(count 'serial@')" = 1 ]
	verdict "$name: fdtdump finds all of it" "$tmp/dump"
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
