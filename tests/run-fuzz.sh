#!/bin/sh
# Runs each fuzzer for a bounded time. Usage: run-fuzz.sh SECONDS BINARY...
# A seed corpus in tests/fuzz/corpus/NAME is used when there is one. A finding is kept in build/fuzz/.
set -u
seconds=$1
shift
failed=0
for bin in "$@"; do
	name=$(basename "$bin")
	work=build/fuzz/corpus/$name
	mkdir -p "$work"
	seeds=tests/fuzz/corpus/$name
	[ -d "$seeds" ] || seeds=
	if "$bin" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix=build/fuzz/"$name"- "$work" $seeds >build/fuzz/"$name".log 2>&1; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/"$name".log)
		echo "ok - $name: $runs inputs in $seconds s"
	else
		echo "not ok - $name: see build/fuzz/$name.log"
		tail -n 30 build/fuzz/"$name".log
		failed=1
	fi
done
exit $failed
