#!/bin/sh
# Runs a criterion binary and fails on leaks too: LeakSanitizer's report does not fail a criterion
# run by itself (its tests run in child processes).
# Usage: run-unit.sh BINARY [ARGS...]
set -u
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
# Leaks are judged below, by who made them, not by the exit status.
export LSAN_OPTIONS=exitcode=0
case $* in
*setarch*) "$@" >"$out" 2>&1 ;; # the stand-in for criterion has no options
*) "$@" -j2 --timeout 60 >"$out" 2>&1 ;;
esac
rc=$?
cat "$out"
# criterion itself leaks a little now and then. A leak whose memory was asked for by libcriterion's
# own code (the frame above the allocator) is not ours; every other one counts.
leaks=$(awk '/(Direct|Indirect) leak of/ {head = $0} /^ *#1 / && head {
	if ($0 !~ /libcriterion/) print head
	head = ""
}' "$out")
if [ -n "$leaks" ] ||
	grep -qE 'ERROR: (Address|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$out"; then
	echo "$1: a sanitizer reported something (see above)"
	exit 1
fi
exit $rc
