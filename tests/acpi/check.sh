#!/bin/sh
# The ACPI tables through Intel's compiler: iasl must take each apart and put it together again
# without an error, a warning or a remark, and must come to the same bytes.
# Usage: check.sh ACPI-DUMP
set -u
dump=$1
passed=0 failed=0
command -v iasl >/dev/null || {
	echo "skip - ACPI tables: iasl is missing (apt-get install acpica-tools)"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

bad() { # TABLE WHAT LOG
	echo "not ok - $1: $2"
	sed 's/^/# /' "$3"
	failed=$((failed + 1))
}

# Bytes 28-35 of a table name the compiler, byte 9 is the checksum.
body() {
	tail -c +37 "$1"
	head -c 28 "$1" | tail -c +11
}

check() { # NAME TABLE
	cd "$tmp" || exit 1
	if ! iasl -d "$2.dat" >log 2>&1 || grep -qiE 'error|warning|invalid|incorrect|unknown' log; then
		bad "$1" "iasl -d complains" log
	elif ! iasl "$2.dsl" >log 2>&1 || ! grep -q '0 Errors, 0 Warnings, 0 Remarks' log; then
		bad "$1" "what iasl -d made of it does not compile" log
	elif body "$2.dat" >was && body "$2.aml" >is && ! cmp was is >log; then
		bad "$1" "compiled anew it has other bytes" log
	else
		echo "ok - $1"
		passed=$((passed + 1))
	fi
	cd - >/dev/null || exit 1
}

for machine in "1 0" "2 1" "4 8" "32 24"; do
	rm -f "$tmp"/*
	# shellcheck disable=SC2086 # two words
	"$dump" "$tmp" $machine || exit 1
	for table in xsdt facp apic dsdt; do
		check "$table of a machine with $(echo "$machine" | sed 's/ / processors and /') devices" $table
	done
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
