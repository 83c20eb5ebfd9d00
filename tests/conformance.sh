#!/bin/bash
# Holds docs/virtio-conformance.md against the tree: each row's functions are in the files that it
# names, its tests exist and are run, ids are unique, and there are as many rows as the page says. Then
# the check itself is put to the test: it must find what is wrong in spoilt copies of the page.
# Usage: conformance.sh
set -u
cd "$(dirname "$0")/.." || exit 1
page=docs/virtio-conformance.md
passed=0 failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# --- what there is: one name a line ---

# FILE:FUNCTION for each function that is defined at the start of a line.
for f in devices/*/*.c vmm/*.c; do
	sed -nE "s/^[a-z][a-zA-Z0-9_ ]*[ *]([a-z_0-9]+)\\([^;]*\$/\\1/p" "$f" | sed "s|^|$f:|"
done >"$tmp/functions"

# unit:SUITE/NAME, with the suite of the Test macros of the file or of a header.
awk '
/^#define [A-Za-z]*Test\(/ {
	macro = $2; sub(/\(.*/, "", macro)
	text = $0
	if (text !~ /[ \t]Test\(/) { getline; text = $0 }
	sub(/.*[ \t]Test\(/, "", text); sub(/,.*/, "", text)
	suite[FILENAME ~ /\.h$/ ? macro : FILENAME macro] = text
}
/^[A-Za-z]*Test\(/ {
	macro = $0; sub(/\(.*/, "", macro)
	args = $0; sub(/^[A-Za-z]*Test\(/, "", args); sub(/\).*/, "", args)
	n = split(args, arg, /, */)
	if (macro == "Test" && n > 1) print "unit:" arg[1] "/" arg[2]
	else if (FILENAME macro in suite) print "unit:" suite[FILENAME macro] "/" arg[1]
	else if (macro in suite) print "unit:" suite[macro] "/" arg[1]
}' tests/unit/*.h tests/unit/test_*.c >"$tmp/tests"

# payload:NAME/CASE, of payloads that the suite's table runs.
for f in tests/guest/payloads/*.c; do
	name=$(basename "$f" .c)
	grep -qE "\.(name|payload) = \"$name\"" tests/guest/suite_table.c || continue
	grep -oE '\{"[a-z_0-9]+", [a-z_0-9]+, [03]\}' "$f" | sed -E "s|^.\"([a-z_0-9]+)\".*|payload:$name/\1|"
done >>"$tmp/tests"
sed -nE 's/^    \{"([A-Za-z0-9-]+)", case_.*/linux:\1/p' tests/linux/suite.c >>"$tmp/tests"
for f in tests/fuzz/fuzz_*.c; do
	echo "fuzz:$(basename "$f" .c)"
done >>"$tmp/tests"

# --- the check: a line "ID: what is wrong" for each finding; none: all is well ---
check() { # PAGE
	awk -F' *\\| *' -v functions="$tmp/functions" -v tests="$tmp/tests" '
	BEGIN {
		while ((getline line <functions) > 0) have[line] = 1
		while ((getline line <tests) > 0) have[line] = 1
	}
	/^Rows: / { said = $0; sub(/^Rows: /, "", said) }
	/^\| [A-Z]+-[0-9]+/ {
		rows++
		if (NF != 7) { print $2 ": " NF - 2 " fields, not 5"; next }
		if ($2 in seen) print $2 ": there twice"
		seen[$2] = 1
		if ($3 !~ /^[0-9]+(\.[0-9]+)*$/) print $2 ": no section"
		if ($4 == "") print $2 ": no requirement"
		if ($5 == "") print $2 ": no code"
		if ($6 == "") print $2 ": no test"
		if ($5 !~ /^not offered: [A-Za-z]/) {
			n = split($5, code, /, */)
			for (i = 1; i <= n; i++) if (!(code[i] in have)) print $2 ": no function " code[i]
		}
		n = split($6, test, /, */)
		for (i = 1; i <= n; i++) if (!(test[i] in have)) print $2 ": no test " test[i]
	}
	/^\|/ && !/^\| [A-Z]+-[0-9]+ \|/ && !/^\| (id|---) \|/ { print "line " NR ": neither row nor head" }
	END {
		if (rows != said) print "page: " rows + 0 " rows, it says " said
		if (rows == 0) print "page: no rows"
	}' "$1"
}

verdict() { # NAME LOG: the last command's status decides
	if [ $? = 0 ]; then
		echo "ok - $1"
		passed=$((passed + 1))
	else
		echo "not ok - $1"
		sed 's/^/# /' "$2"
		failed=$((failed + 1))
	fi
}

spoilt() { # NAME SED-SCRIPT EXPECTED: the check finds it in a copy that the script has changed
	sed -E "$2" $page >"$tmp/page"
	check "$tmp/page" >"$tmp/log"
	! cmp -s $page "$tmp/page" && grep -qF "$3" "$tmp/log"
	verdict "conformance check finds $1" "$tmp/log"
}

check $page >"$tmp/findings"
for id in $(sed -nE 's/^\| ([A-Z]+-[0-9]+) .*/\1/p' $page | sort -u); do
	grep "^$id: " "$tmp/findings" >"$tmp/log"
	[ ! -s "$tmp/log" ]
	verdict "conformance $id" "$tmp/log"
done
grep -E '^(page|line)' "$tmp/findings" >"$tmp/log"
[ ! -s "$tmp/log" ]
verdict "conformance page" "$tmp/log"

spoilt "a function that is not there" '/^\| BF-1 /s/reset_locked/reset_unlocked/' "BF-1: no function devices/virtio/virtio.c:reset_unlocked"
spoilt "a function in another file" '/^\| BF-1 /s/virtio\.c/mmio.c/' "BF-1: no function devices/virtio/mmio.c:reset_locked"
spoilt "a unit test that is not there" '/^\| MM-1 /s/unit:virtio_mmio.identity/unit:virtio_blk\/identity/' "MM-1: no test unit:virtio_blk/identity"
spoilt "a payload case that is not there" '/^\| BF-1 /s/reset_clears$|reset_clears \|/reset_cleans |/' "BF-1: no test payload:virtio_mmio/reset_cleans"
spoilt "a Linux case that is not there" '/^\| EN-1 /s/linux:rng/linux:ring/' "EN-1: no test linux:ring"
spoilt "a row without a test" '/^\| SV-3 /s/unit:[^|]*//' "SV-3: no test"
spoilt "a row without code" '/^\| SV-3 /s/devices[^|]*//' "SV-3: no code"
spoilt "a row too many" '/^\| SV-3 /{p;s/SV-3/SV-99/}' "rows, it says"
spoilt "an id that is there twice" 's/^\| SV-3 /| SV-4 /' "SV-4: there twice"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
