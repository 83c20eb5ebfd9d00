#!/bin/bash
# Everything that `make test` runs, one closing line at the end: N passed, N failed, N skipped.
# Usage: run-all.sh [--long]
#
# What needs KVM runs on this machine's /dev/kvm where it is usable, and in any case inside an outer
# Linux with ordinary KVM (tests/outer). A stage that cannot run is counted as skipped, and says so.
set -u
cd "$(dirname "$0")/.." || exit 1
long=0
[ "${1:-}" = --long ] && long=1
passed=0 failed=0 skipped=0
logs=build/logs
mkdir -p $logs
started=$SECONDS

# Nothing of the tests' in the home directory of who runs them.
export XDG_CACHE_HOME=$PWD/build/cache
mkdir -p "$XDG_CACHE_HOME"

stage() { # NAME: a heading with the time so far
	printf '\n== %s (%d s)\n' "$1" $((SECONDS - started))
}

count() { # PASSED FAILED SKIPPED
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# Adds the closing line of a suite's log, with what failed and the last that is known of it; a suite
# without a closing line, or that failed without counting a failure, is itself a failure.
take_suite() { # NAME LOG STATUS
	local line
	grep -aE '^skip' "$2"
	grep -aE -B 12 '^not ok' "$2" | grep -avE '^ok ' | tail -n 60
	line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped' "$2" | tail -n 1 | tr -d '\r')
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped ]]; then
		count "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
		echo "$1: $line"
		[ "$3" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || {
			echo "not ok - $1 ended with status $3"
			count 0 1 0
		}
	else
		tail -n 30 "$2"
		echo "not ok - $1 came to no end (status $3)"
		count 0 1 0
	fi
}

unit() { # NAME BINARY
	local line rc
	timeout 600 tests/run-unit.sh "$2" >"$logs/$1.log" 2>&1
	rc=$?
	line=$(grep -a 'Synthesis: Tested' "$logs/$1.log" | tail -n 1 | sed 's/\x1b\[[0-9;]*m//g')
	if [[ $line =~ Passing:\ ([0-9]+)\ \|\ Failing:\ ([0-9]+)\ \|\ Crashing:\ ([0-9]+) ]]; then
		local bad=$((BASH_REMATCH[2] + BASH_REMATCH[3]))
		[ $rc = 0 ] || [ $bad != 0 ] || bad=1
		[ $bad = 0 ] || grep -aE '^\[(FAIL|----)\]|Sanitizer|runtime error' "$logs/$1.log"
		count "${BASH_REMATCH[1]}" $bad 0
		echo "$1: ${BASH_REMATCH[1]} passed, $bad failed"
	else
		tail -n 30 "$logs/$1.log"
		echo "not ok - $1 came to no end (status $rc)"
		count 0 1 0
	fi
}

suite() { # NAME SECONDS COMMAND...
	local name=$1 limit=$2 rc
	shift 2
	timeout -k 5 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null
	rc=$?
	take_suite "$name" "$logs/$name.log" $rc
}

# --- what the suites need, in one folder that goes into the outer machine ---
job=build/job
make_job() {
	rm -rf $job
	mkdir -p $job/payloads
	cp build/minivm build/guest-suite build/linux-suite build/linux-checks build/hostile-suite $job/
	cp build/bench build/floor build/floor-restore $job/
	cp build/guest/*.elf $job/payloads/
	cp guest-images/kernel/bzImage build/guest/vmlinux build/guest/root.img build/guest/initrd.cpio $job/
	tests/outer/add-program.sh passt $job/root
}

# What is large: other packings of our kernel, Debian's kernels and a Debian. A disk of the outer
# machine, on /disk. Debian's are fetched once; the cases that miss one are skipped and say so.
disk=build/disk.img
make_disk() {
	timeout 300 tests/linux/debian/fetch.sh build/debian/cloud cloud
	timeout 300 tests/linux/debian/root.sh build/debian/root.img
	[ $long = 0 ] || timeout 300 tests/linux/debian/fetch.sh build/debian/generic generic
	rm -rf build/disk $disk
	mkdir -p build/disk build/debian
	cp -al build/packed build/debian build/disk/
	PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -O ^has_journal -d build/disk $disk 1G >/dev/null
}

linux_args="--minivm ./minivm --kernel bzImage --vmlinux vmlinux --root root.img --initrd initrd.cpio --checks linux-checks"
[ $long = 0 ] || linux_args="$linux_args --long"
outer_args="$linux_args --debian /disk/debian --packed /disk/packed"

# Counts that must not grow (docs/benchmarks.md); any kernel does for them.
figures_args="--counts --minivm ./minivm --floor ./floor --floor-restore ./floor-restore --first vmlinux \
	--bzimage bzImage \
	--vmlinux vmlinux --root root.img --exits payloads/round_trip.elf"

# Runs $job/run in an outer machine. QEMU's multi-threaded emulation hangs or breaks now and then
# (see tests/outer/hold.c for a case that is understood): a machine that came to no end, or said
# nothing for longer than any case may take, is started once more, and that is said.
outer_run() { # LOG SECONDS [PROCESSORS [WORDS for its kernel]]
	local try pid size last quiet
	for try in 1 2; do
		timeout -k 5 $(($2 + 100)) tests/outer/run.sh -t "$2" -m 2048 -c "${3:-2}" -k "${4:-}" -d $disk $job >"$1" 2>&1 &
		pid=$! last=-1 quiet=0
		while kill -0 $pid 2>/dev/null; do
			sleep 1
			size=$(stat -c %s "$1")
			quiet=$((size == last ? quiet + 1 : 0)) last=$size
			[ $quiet -lt 200 ] || kill $pid
		done
		wait $pid && return 0
		tail -n 5 "$1"
		echo "note - the outer Linux came to no end (run $try)"
		cp "$1" "$1.$try"
	done
	return 1
}

# What a suite runs with inside the outer machine.
outer_command() { # SUITE
	case $1 in
	payloads) echo "./guest-suite --minivm ./minivm --payloads payloads" ;;
	hostile) echo "./hostile-suite --minivm ./minivm --kernel bzImage --root root.img" ;;
	*) echo "./linux-suite $outer_args" ;;
	esac
}

# The cases of a suite that failed, each once more in a fresh outer machine: there a guest runs under
# KVM under emulation, and a case that fails on one run of the emulator only says nothing about minivm.
# What passes then is named; both logs are kept.
outer_again() { # SUITE [PROCESSORS [WORDS for its kernel]]
	local name names before after suite=$1 log=$logs/outer-$1.log
	names=$(grep -aE '^not ok - ' "$log" | sed 's/^not ok - \([^:]*\).*/\1/' | tr -d '\r' | sort -u)
	[ -n "$names" ] && [ "$(echo "$names" | wc -l)" -le 6 ] || return
	while IFS= read -r name; do
		echo "echo '@@ $name'; $(outer_command "$suite") --filter '$name'"
	done <<<"$names" >$job/run
	outer_run "$logs/outer-again-$suite.log" 600 "${@:2}" || return
	while IFS= read -r name; do
		before=$(grep -aE '^not ok - ' "$log" | tr -d '\r' |
			awk -v n="not ok - $name" '$0 == n || index($0, n ":") == 1' | wc -l)
		after=$(tr -d '\r' <"$logs/outer-again-$suite.log" |
			awk -v n="@@ $name" '/^@@ / {on = $0 == n} on && /^[1-9][0-9]* passed, 0 failed/')
		[ -n "$after" ] || continue
		echo "note - $name failed in the first outer machine and passed in the second"
		count "$before" -"$before" 0
	done <<<"$names"
}

# Each suite's log stands between markers.
outer_take() { # LOG SUITE...
	local log=$1 name rc
	shift
	for name in "$@"; do
		awk -v n="$name" '/^@@ status/ {on = 0} on {print} $0 ~ "^@@ " n {on = 1}' \
			"$log" >$logs/outer-$name.log
		rc=$(awk -v n="$name" '$0 ~ "^@@ " n {on = 1} on && /^@@ status/ {print $3; exit}' "$log" | tr -d '\r')
		take_suite "outer $name" $logs/outer-$name.log "${rc:-none}"
	done
}

outer_machine() { # LOG SECONDS SUITE...
	local log=$1 limit=$2
	shift 2
	outer_run "$log" "$limit" || {
		echo "not ok - the outer Linux came to no end"
		count 0 1 0
	}
	outer_take "$log" "$@"
}

outer_job() { # Machines of their own: what one of them loses by its emulator's faults is less then.
	cat >$job/run <<EOF
echo "@@ payloads"; $(outer_command payloads); echo "@@ status \$?"
echo "@@ hostile"; $(outer_command hostile); echo "@@ status \$?"
echo "@@ figures"; mkdir -p /tmp/figures; ./bench $figures_args --work /tmp/figures; echo "@@ status \$?"
exit 0
EOF
	outer_machine $logs/outer.log 600 payloads hostile figures
	outer_again payloads
	outer_again hostile
	cat >$job/run <<EOF
echo "@@ linux"; $(outer_command linux); echo "@@ status \$?"
exit 0
EOF
	local outer_limit=600
	[ $long = 0 ] || outer_limit=3600
	outer_machine $logs/outer2.log $outer_limit linux
	outer_again linux
	outer_snapshots
}

# QEMU's emulation of VMRUN leaves the vector of an interrupt that it injects behind as a pending
# exception (helper_vmrun(), SVM_EVTINJ_TYPE_INTR): another thread that interrupts this processor at that
# moment makes it deliver the vector twice, at the first instruction of its handler, where a kernel that came
# from user mode still has the user's GS base. A guest whose pages are not mapped yet, as after a
# restore, has many such moments: with two processors half of the runs lost a guest or the outer kernel
# itself to a panic. With one there is nobody to interrupt it but timers. Never seen on a /dev/kvm of its own.
# With one it stood still once in some ten runs, nothing to do and no timer to come: ticks that come by
# themselves do not stop.
# A machine that panics twice all the same is no verdict on minivm, but is said.
outer_snapshots() {
	local ticks="nohz=off highres=off"
	cat >$job/run <<EOF
echo "@@ snapshots"; $(outer_command snapshots) --filter snapshot; echo "@@ status \$?"
echo "@@ hostile-snapshots"; ./hostile-suite --minivm ./minivm --kernel bzImage --root root.img \
	--filter snapshots --mutations 100; echo "@@ status \$?"
exit 0
EOF
	if outer_run $logs/outer3.log 420 1 "$ticks"; then
		outer_take $logs/outer3.log snapshots hostile-snapshots
		outer_again snapshots 1 "$ticks"
	elif grep -aq 'Kernel panic' $logs/outer3.log; then
		grep -aE '^not ok' $logs/outer3.log && count 0 1 0
		echo "skip - the outer Linux panicked twice: its snapshot cases came to no end"
		count 0 0 1
	else
		echo "not ok - the outer Linux came to no end"
		count 0 1 0
	fi
}

direct_jobs() {
	if ! build/minivm doctor >$logs/doctor.log 2>&1; then
		cat $logs/doctor.log
		echo "skip - /dev/kvm is not usable here: payloads and Linux on this machine's KVM were NOT run"
		count 0 0 2
		return
	fi
	mkdir -p build/figures
	# shellcheck disable=SC2086 # a list of words
	(cd $job && exec timeout -k 5 100 ./bench $figures_args --only syscalls --work ../figures) \
		>$logs/direct-figures.log 2>&1 </dev/null
	take_suite direct-figures $logs/direct-figures.log $?
	local linux_limit=900
	suite direct-payloads 300 $job/guest-suite --minivm build/minivm --payloads $job/payloads
	# Hostile snapshots, with the sanitizers; 10,000 take a quarter of an hour.
	local mutations=300
	[ $long = 0 ] || mutations=10000
	suite direct-snapshots 1800 build/hostile-suite --minivm build/asan/minivm \
		--kernel $job/bzImage --root $job/root.img --slow 6 --filter snapshots \
		--mutations $mutations
	# Where KVM emulates kernel mode a boot takes 12 s: all cases only with --long.
	if [ $long = 1 ]; then
		linux_limit=5400
		suite direct-hostile 900 $job/hostile-suite --minivm build/minivm \
			--kernel $job/bzImage --root $job/root.img --slow 6
	fi
	(
		cd $job || exit 1
		# shellcheck disable=SC2086 # a list of words
		exec timeout -k 5 $linux_limit ./linux-suite $linux_args --direct --slow 8
	) >$logs/direct-linux.log 2>&1 </dev/null
	take_suite direct-linux $logs/direct-linux.log $?
}

stage "guest init's command line"
suite init-words 60 build/guest/test_words
stage "unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
unit unit-asan build/asan/unit
stage "unit tests, as released"
unit unit build/unit

stage "VIRTIO conformance table"
suite conformance 60 tests/conformance.sh
stage "ACPI tables"
suite acpi-tables 120 tests/acpi/check.sh build/acpi-dump
stage "device tree"
suite device-tree 120 tests/fdt/check.sh build/fdt-dump

stage "what goes into the outer Linux"
make_job
make_disk
stage "payloads and Linux on this machine's /dev/kvm"
direct_jobs
stage "payloads, hostile input and Linux inside an outer Linux with ordinary KVM"
outer_job

stage "fuzzing"
fuzz_time=${FUZZ_TIME:-12}
while read -r line; do
	echo "$line"
	case $line in
	"ok - "*) count 1 0 0 ;;
	"not ok - "*) count 0 1 0 ;;
	esac
done < <(tests/run-fuzz.sh "$fuzz_time" build/fuzz/fuzz_*[a-z])

printf '\n%d s\n' $((SECONDS - started))
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed != 0 ]
