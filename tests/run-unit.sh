#!/bin/sh
# Runs a criterion binary and fails on leaks too: LeakSanitizer's report does not fail a criterion
# run by itself (its tests run in child processes).
# Usage: run-unit.sh BINARY [ARGS...]
set -u
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
case $* in
*setarch*) "$@" >"$out" 2>&1 ;; # the stand-in for criterion has no options
*) "$@" -j2 --timeout 60 >"$out" 2>&1 ;;
esac
rc=$?
cat "$out"
if grep -qE 'ERROR: (Leak|Address|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$out"; then
	echo "$1: a sanitizer reported something (see above)"
	exit 1
fi
exit $rc
