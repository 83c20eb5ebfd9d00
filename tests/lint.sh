#!/bin/sh
# clang-format, clang-tidy and cppcheck over the C files that git knows. Exit 1 on any finding.
set -u
cd "$(dirname "$0")/.." || exit 1
rc=0
files=$(git ls-files '*.c' '*.h')
echo "clang-format"
# shellcheck disable=SC2086
clang-format --dry-run -Werror $files || rc=1
echo "cppcheck"
# shellcheck disable=SC2046
cppcheck --quiet --std=c11 --language=c --enable=warning,portability --inline-suppr \
	--suppress=missingIncludeSystem --error-exitcode=1 -j2 -Iinclude -D_GNU_SOURCE \
	$(git ls-files 'vmm/*.c' 'boot/*.c' 'devices/*.c') || rc=1
echo "clang-tidy"
git ls-files 'vmm/*.c' 'boot/*.c' 'devices/*.c' |
	xargs -P2 -I{} clang-tidy --quiet {} -- -std=gnu17 -Iinclude -D_GNU_SOURCE \
		'-DMINIVM_VERSION="lint"' >build/clang-tidy.log 2>&1 || rc=1
grep -E 'warning:|error:' build/clang-tidy.log && rc=1
exit $rc
